# Where libpacs is, for the Makefiles of the examples in C and C++: pacs-ffi/install PREFIX makes one.
#
#   make                    with the one that pkg-config finds, see PKG_CONFIG_PATH
#   make PACS=PREFIX        with the one below PREFIX; pkg-config isn't needed
#   make STATIC=1           with the library in the programs
ifdef PACS
PACS_CFLAGS = -I$(PACS)/include
PACS_LIBDIR = $(PACS)/lib
PACS_STATIC = $(PACS)/lib/libpacs.a -lgcc_s -lutil -lrt -lpthread -lm -ldl -lc
else
PACS_CFLAGS = $(shell pkg-config --cflags pacs)
PACS_LIBDIR = $(or $(shell pkg-config --variable=libdir pacs),$(error say where libpacs is, with PACS=PREFIX))
PACS_STATIC = $(shell pkg-config --variable=static_libs pacs)
endif
# The programs find the library where it is now; a system's own directories need no such thing.
PACS_SHARED = -L$(PACS_LIBDIR) -Wl,-rpath,$(abspath $(PACS_LIBDIR)) -lpacs
PACS_LIBS = $(if $(STATIC),$(PACS_STATIC),$(PACS_SHARED))
