"""A PACS inside a Python program, with the standard library alone: a recipe to copy and to go on from.

    python3 examples/python/pacs.py FILE DIRECTORY

It loads libpacs.so.0 as any program does, or what PACS_LIBRARY names. Other threads of Python run during a call. What
is made here is closed by `with`, or by close(): the context last."""

import ctypes
import json
import os
import sys
from ctypes import POINTER, byref, c_char, c_char_p, c_int32, c_size_t, c_uint16, c_uint32, c_void_p

ABI_VERSION = 1
OK, END, BUFFER_TOO_SMALL = 0, 1, 17
PATIENT, STUDY, SERIES, INSTANCE = 1, 2, 3, 4

library = ctypes.CDLL(os.environ.get("PACS_LIBRARY", "libpacs.so.0"))


class Sized(ctypes.Structure):
    def __init__(self):
        super().__init__(ctypes.sizeof(self))


class LastError(Sized):
    _fields_ = [("struct_size", c_size_t), ("status", c_int32), ("retry", c_int32), ("dimse_status", c_uint16),
                ("operation", c_char * 48), ("text", c_char * 512)]


class Stored(Sized):
    _fields_ = [("struct_size", c_size_t), ("outcome", c_int32), ("warning", c_uint16),
                ("study", c_char * 65), ("series", c_char * 65), ("instance", c_char * 65)]


# A handle is a c_void_p: without these types ctypes would take 32 bits of it.
OUT, LENGTH = POINTER(c_void_p), POINTER(c_size_t)
for name, *types in [
    ("pacs_status_text", c_int32), ("pacs_check_abi", c_uint32), ("pacs_tag", c_char_p, POINTER(c_uint32)),
    ("pacs_last_error", c_void_p, POINTER(LastError)), ("pacs_context_new", c_void_p, OUT),
    ("pacs_context_free", c_void_p), ("pacs_engine_close", c_void_p),
    ("pacs_engine_open", c_void_p, c_char_p, c_void_p, OUT),
    ("pacs_store", c_void_p, c_void_p, c_char_p, c_size_t, POINTER(Stored)), ("pacs_lookup", c_void_p, c_char_p, OUT),
    ("pacs_store_file", c_void_p, c_void_p, c_char_p, POINTER(Stored)), ("pacs_data_set_new", c_void_p, OUT),
    ("pacs_data_set_put", c_void_p, c_uint32, c_char_p, c_char_p), ("pacs_data_set_free", c_void_p),
    ("pacs_data_set_json", c_void_p, c_char_p, c_size_t, LENGTH), ("pacs_matches_free", c_void_p),
    ("pacs_find", c_void_p, c_void_p, c_int32, c_void_p, c_uint32, OUT), ("pacs_matches_next", c_void_p, OUT),
    ("pacs_instance_open", c_void_p, c_void_p, c_int32, OUT), ("pacs_instance_free", c_void_p),
    ("pacs_reader_read", c_void_p, c_void_p, c_size_t, LENGTH), ("pacs_reader_free", c_void_p),
]:
    getattr(library, name).argtypes = types
library.pacs_status_text.restype = c_char_p


class Error(Exception):
    """Why a call failed; it holds no patient data."""

    def __init__(self, status, context=None):
        last = LastError()
        known = library.pacs_last_error(context, byref(last)) == OK and last.status == status
        super().__init__((last.text if known else library.pacs_status_text(status)).decode(errors="replace"))
        self.status, self.retry = status, known and bool(last.retry)


class Handle:
    """A handle of C, made by a function whose last argument is the place for it, and what frees it."""

    def __init__(self, context, free, make, *arguments):
        self.handle, self.context, self.free = c_void_p(), context, free
        self.check(make(*arguments, byref(self.handle)))
        self.context = context or self.handle  # that of a context is its own

    def check(self, status, *others):
        if status != OK and status not in others:
            raise Error(status, self.context)
        return status

    def close(self):
        self.check(self.free(self.handle))
        self.handle = c_void_p()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Context(Handle):
    def __init__(self):
        if library.pacs_check_abi(ABI_VERSION) != OK:
            raise ImportError("libpacs is older than this module")
        super().__init__(None, library.pacs_context_free, library.pacs_context_new, None)


class Engine(Handle):
    """An open store. `settings` are those of pacs_engine_open, with _ for -."""

    def __init__(self, context, **settings):
        # What JSON calls a string or a number is one in TOML, too.
        toml = "".join(f"{name.replace('_', '-')} = {json.dumps(value, ensure_ascii=False)}\n"
                       for name, value in settings.items())
        super().__init__(context.handle, library.pacs_engine_close, library.pacs_engine_open, context.handle,
                         toml.encode(), None)

    def store(self, file):
        """Keeps an instance, from the path of its file or from bytes: it is durable when this returns."""
        stored = Stored()
        self.check(library.pacs_store(self.handle, None, file, len(file), byref(stored)) if isinstance(file, bytes)
                   else library.pacs_store_file(self.handle, None, os.fsencode(file), byref(stored)))
        return {name: getattr(stored, name).decode() for name in ("study", "series", "instance")}

    def find(self, level, **keys):
        """Yields matches in the DICOM JSON Model. Keys go by keyword; one with an empty value is a return key."""
        found, tag, length = c_void_p(), c_uint32(), c_size_t()
        with Handle(self.context, library.pacs_data_set_free, library.pacs_data_set_new, self.context) as query:
            for keyword, value in keys.items():
                query.check(library.pacs_tag(keyword.encode(), byref(tag)))
                query.check(library.pacs_data_set_put(query.handle, tag, None, value.encode()))
            matches = Handle(self.context, library.pacs_matches_free, library.pacs_find, self.handle, None, level,
                             query.handle, 0)
        with matches:
            while matches.check(library.pacs_matches_next(matches.handle, byref(found)), END) == OK:
                self.check(library.pacs_data_set_json(found, None, 0, byref(length)), BUFFER_TOO_SMALL)
                text = ctypes.create_string_buffer(length.value + 1)
                self.check(library.pacs_data_set_json(found, text, len(text), None))
                library.pacs_data_set_free(found)
                yield json.loads(text.value)

    def read(self, sop_instance_uid):
        """Yields the file of an instance, piece by piece."""
        piece, length = ctypes.create_string_buffer(65536), c_size_t()
        found = Handle(self.context, library.pacs_instance_free, library.pacs_lookup, self.handle,
                       sop_instance_uid.encode())
        with found, Handle(self.context, library.pacs_reader_free, library.pacs_instance_open, found.handle, None,
                           0) as reader:
            while reader.check(library.pacs_reader_read(reader.handle, piece, len(piece), byref(length)), END) == OK:
                yield piece.raw[:length.value]


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("which file, and where to keep it?")
    with Context() as context, Engine(context, data=sys.argv[2]) as engine:
        stored = engine.store(sys.argv[1])
        for match in engine.find(STUDY, PatientName="*", StudyInstanceUID=stored["study"]):
            for name in match["00100010"].get("Value", []):
                print("a study of", name["Alphabetic"])
        print(sum(map(len, engine.read(stored["instance"]))), "bytes read back")
