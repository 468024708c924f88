//! Two of these libraries in one process: the crate, which this test holds, and the shared library, loaded beside it.
//! Each has a Rust runtime of its own, and handles of the one mean nothing to the other.

#![allow(unsafe_code, reason = "what is tested is called from C")]

use std::ffi::{CString, c_char, c_void};
use std::path::PathBuf;
use std::ptr;

use libloading::{Library, Symbol};
use pacs::context::{pacs_context, pacs_context_free, pacs_context_new, pacs_context_options};
use pacs::engine::{pacs_engine, pacs_engine_close, pacs_engine_open, pacs_parts, pacs_totals};
use pacs::error::pacs_status;

/// The shared library that cargo builds with the crate.
fn shared() -> PathBuf {
    let this = std::env::current_exe().expect("a test is a file");
    this.with_file_name("libpacs.so")
}

type New = unsafe extern "C" fn(*const pacs_context_options, *mut *mut pacs_context) -> pacs_status;
type Open = unsafe extern "C" fn(
    *mut pacs_context,
    *const c_char,
    *const pacs_parts,
    *mut *mut pacs_engine,
) -> pacs_status;
type Totals = unsafe extern "C" fn(*const pacs_engine, *mut pacs_totals) -> pacs_status;
type Close = unsafe extern "C" fn(*mut pacs_engine) -> pacs_status;
type Free = unsafe extern "C" fn(*mut pacs_context) -> pacs_status;
type Start = unsafe extern "C" fn(*mut pacs_engine, *const c_char, *mut *mut c_void) -> pacs_status;
type Stop = unsafe extern "C" fn(*mut c_void, u32) -> pacs_status;

#[test]
fn two_libraries_serve_in_one_process_and_neither_takes_the_others_handles() {
    // SAFETY: it is our own library, whose functions have the signatures above.
    let library = unsafe { Library::new(shared()) }.expect("cargo builds the shared library with the crate");
    fn function<'a, T>(library: &'a Library, name: &str) -> Symbol<'a, T> {
        // SAFETY: as above.
        unsafe { library.get(name.as_bytes()) }.expect("the function is exported")
    }
    let new: Symbol<'_, New> = function(&library, "pacs_context_new");
    let open: Symbol<'_, Open> = function(&library, "pacs_engine_open");
    let totals: Symbol<'_, Totals> = function(&library, "pacs_engine_totals");
    let close: Symbol<'_, Close> = function(&library, "pacs_engine_close");
    let free: Symbol<'_, Free> = function(&library, "pacs_context_free");
    let start: Symbol<'_, Start> = function(&library, "pacs_dicom_start");
    let stop: Symbol<'_, Stop> = function(&library, "pacs_server_stop");
    let memory = CString::new("archive = 'memory'").expect("no NUL");
    let any_port = CString::new("port = 0").expect("no NUL");
    let ok = |status| assert_eq!(status, pacs_status::PACS_OK);
    let (mut theirs, mut their_engine, mut server) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    let (mut ours, mut our_engine, mut our_server) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    // SAFETY: all zero is valid, and the arguments are as the header asks.
    unsafe {
        let mut counted: pacs_totals = std::mem::zeroed();
        counted.struct_size = size_of::<pacs_totals>();
        ok(new(ptr::null(), &mut theirs));
        ok(open(theirs, memory.as_ptr(), ptr::null(), &mut their_engine));
        ok(start(their_engine, any_port.as_ptr(), &mut server));
        ok(pacs_context_new(ptr::null(), &mut ours));
        ok(pacs_engine_open(
            ours,
            memory.as_ptr(),
            ptr::null(),
            &mut our_engine,
        ));
        ok(pacs::server::pacs_dicom_start(
            our_engine,
            any_port.as_ptr(),
            &mut our_server,
        ));
        ok(totals(their_engine, &mut counted));
        assert_eq!(totals(our_engine, &mut counted), pacs_status::PACS_BAD_HANDLE);
        assert_eq!(
            pacs::engine::pacs_engine_totals(their_engine, &mut counted),
            pacs_status::PACS_BAD_HANDLE
        );
        ok(stop(server, 1000));
        ok(pacs::server::pacs_server_stop(our_server, 1000));
        ok(close(their_engine));
        ok(pacs_engine_close(our_engine));
        ok(free(theirs));
        ok(pacs_context_free(ours));
    }
}
