//! Which version this is.

use std::ffi::c_char;

use crate::error::pacs_status;

/// The version of the binary interface. It grows when something is added; a program that was made with a header of a
/// greater one needs what this library may lack.
pub const PACS_ABI_VERSION: u32 = 1;

/// The version of the binary interface that the library has.
#[unsafe(no_mangle)]
pub extern "C" fn pacs_abi_version() -> u32 {
    PACS_ABI_VERSION
}

/// Whether the library has all that the header has: to be called with `PACS_ABI_VERSION`, before anything else.
///
/// Errors: `PACS_UNSUPPORTED` when the library is older than the header.
#[unsafe(no_mangle)]
pub extern "C" fn pacs_check_abi(version_of_header: u32) -> pacs_status {
    match version_of_header {
        1..=PACS_ABI_VERSION => pacs_status::PACS_OK,
        _ => pacs_status::PACS_UNSUPPORTED,
    }
}

/// The version of the library as text, for ever valid.
#[unsafe(no_mangle)]
pub extern "C" fn pacs_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}
