//! The functions of the header, called as C calls them.

#![allow(unsafe_code, reason = "what is tested is called from C")]

mod access;
mod deid;
mod hooks;
mod misuse;
mod network;
mod sentences;
mod storing;
mod threads;

use std::ffi::{CString, c_char, c_void};
use std::ptr;

use pacs::context::{pacs_context, pacs_context_free, pacs_context_new};
use pacs::data_set::{
    pacs_data_set, pacs_data_set_free, pacs_data_set_new, pacs_data_set_put, pacs_data_set_text,
};
use pacs::engine::{pacs_engine, pacs_engine_close, pacs_engine_open, pacs_level, pacs_parts};
use pacs::error::{pacs_error, pacs_last_error, pacs_live_handles, pacs_status};
use pacs::find::{pacs_find, pacs_matches_free, pacs_matches_next};
use pacs::hooks::pacs_hooks;
use pacs::instance::{
    pacs_instance, pacs_instance_free, pacs_instance_open, pacs_lookup, pacs_reader_free, pacs_reader_read,
};
use pacs::store::{pacs_store, pacs_stored};
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::encode::encode;
use pacs_core::dataset::part10::{Meta, write_meta};
use pacs_core::{DataSet, Uid, VR, tags, uids};

use pacs_status::*;

const STUDY: i32 = pacs_level::PACS_LEVEL_STUDY as i32;
const INSTANCE: i32 = pacs_level::PACS_LEVEL_INSTANCE as i32;
const PATIENT_NAME: u32 = 0x0010_0010;
const PATIENT_ID: u32 = 0x0010_0020;
const STUDY_UID: u32 = 0x0020_000D;
const INSTANCE_UID: u32 = 0x0008_0018;

/// A value that says how large it is, and is zero otherwise.
macro_rules! sized {
    ($kind:ty) => {{
        // SAFETY: all zero is valid for the structures of the header.
        let mut value: $kind = unsafe { std::mem::zeroed() };
        value.struct_size = size_of::<$kind>();
        value
    }};
}
pub(crate) use sized;

/// Calls, and demands success.
macro_rules! ok {
    ($context:expr, $call:expr) => {{
        // SAFETY: the arguments are as the header asks.
        let status = unsafe { $call };
        assert_eq!(
            status,
            pacs::error::pacs_status::PACS_OK,
            "{}: {}",
            stringify!($call),
            crate::last_error($context)
        );
    }};
}
pub(crate) use ok;

/// Calls, and answers the status.
macro_rules! status {
    ($call:expr) => {{
        // SAFETY: whatever the arguments are, the header promises a status.
        unsafe { $call }
    }};
}
pub(crate) use status;

fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

fn text(array: &[c_char]) -> String {
    let bytes = array.iter().map(|&unit| unit as u8).take_while(|&byte| byte != 0);
    String::from_utf8(bytes.collect()).unwrap()
}

fn last_error(context: *const pacs_context) -> String {
    let mut error = sized!(pacs_error);
    match status!(pacs_last_error(context, &mut error)) {
        PACS_OK => format!(
            "{:?} {}: {}",
            error.status,
            text(&error.operation),
            text(&error.text)
        ),
        other => format!("no error is remembered ({other:?})"),
    }
}

/// A context with nothing open at its end.
struct Context(*mut pacs_context);

impl Context {
    fn new() -> Self {
        let mut context = ptr::null_mut();
        ok!(ptr::null(), pacs_context_new(ptr::null(), &mut context));
        Self(context)
    }

    fn live(&self) -> u64 {
        let mut live = u64::MAX;
        ok!(self.0, pacs_live_handles(self.0, &mut live));
        live
    }

    fn engine(&self) -> *mut pacs_engine {
        self.engine_with("archive = 'memory'", ptr::null())
    }

    fn engine_with(&self, configuration: &str, hooks: *const pacs_hooks) -> *mut pacs_engine {
        let mut engine = ptr::null_mut();
        let mut parts = sized!(pacs_parts);
        parts.hooks = hooks;
        ok!(
            self.0,
            pacs_engine_open(self.0, c(configuration).as_ptr(), &parts, &mut engine)
        );
        engine
    }

    fn keys(&self, keys: &[(u32, &str)]) -> *mut pacs_data_set {
        let mut set = ptr::null_mut();
        ok!(self.0, pacs_data_set_new(self.0, &mut set));
        for (tag, value) in keys {
            ok!(
                self.0,
                pacs_data_set_put(set, *tag, ptr::null(), c(value).as_ptr())
            );
        }
        set
    }

    /// The values of `tag` in what is found at `level`, sorted.
    fn found(&self, engine: *const pacs_engine, level: i32, keys: &[(u32, &str)], tag: u32) -> Vec<String> {
        let mut matches = ptr::null_mut();
        let keys = self.keys(keys);
        ok!(
            self.0,
            pacs_find(engine, ptr::null(), level, keys, 0, &mut matches)
        );
        ok!(self.0, pacs_data_set_free(keys));
        let mut values = Vec::new();
        loop {
            let mut found = ptr::null_mut();
            match status!(pacs_matches_next(matches, &mut found)) {
                PACS_END => break,
                status => assert_eq!(status, PACS_OK, "{}", last_error(self.0)),
            }
            values.push(self.text(found, tag));
            ok!(self.0, pacs_data_set_free(found));
        }
        ok!(self.0, pacs_matches_free(matches));
        values.sort();
        values
    }

    fn text(&self, set: *const pacs_data_set, tag: u32) -> String {
        let mut buffer = [0 as c_char; 256];
        ok!(
            self.0,
            pacs_data_set_text(set, tag, 0, buffer.as_mut_ptr(), buffer.len(), ptr::null_mut())
        );
        text(&buffer)
    }

    fn store(&self, engine: *mut pacs_engine, file: &[u8]) -> pacs_stored {
        let mut stored = sized!(pacs_stored);
        ok!(
            self.0,
            pacs_store(engine, ptr::null(), file.as_ptr().cast(), file.len(), &mut stored)
        );
        stored
    }

    fn lookup(&self, engine: *const pacs_engine, uid: &str) -> *mut pacs_instance {
        let mut instance = ptr::null_mut();
        ok!(self.0, pacs_lookup(engine, c(uid).as_ptr(), &mut instance));
        instance
    }

    /// An instance, read in small pieces.
    fn read(&self, engine: *const pacs_engine, uid: &str, form: i32) -> Vec<u8> {
        let (instance, mut reader) = (self.lookup(engine, uid), ptr::null_mut());
        ok!(
            self.0,
            pacs_instance_open(instance, ptr::null(), form, &mut reader)
        );
        let (mut all, mut piece, mut length) = (Vec::new(), [0u8; 100], 0);
        loop {
            match status!(pacs_reader_read(
                reader,
                piece.as_mut_ptr().cast(),
                piece.len(),
                &mut length
            )) {
                PACS_END => break,
                status => assert_eq!(status, PACS_OK, "{}", last_error(self.0)),
            }
            all.extend_from_slice(&piece[..length]);
        }
        ok!(self.0, pacs_reader_free(reader));
        ok!(self.0, pacs_instance_free(instance));
        all
    }

    fn close(&self, engine: *mut pacs_engine) {
        ok!(self.0, pacs_engine_close(engine));
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.live(), 0, "handles leak");
            ok!(self.0, pacs_context_free(self.0));
        }
    }
}

/// A CT slice as a file: of study 1.2.`study`.
fn file(study: u32, instance: u32) -> Vec<u8> {
    let uid = format!("1.2.{study}.1.{instance}");
    let mut set = DataSet::new();
    set.put_text(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 100");
    set.put_text(tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE);
    set.put_text(tags::SOP_INSTANCE_UID, VR::UI, uid.clone());
    set.put_text(tags::MODALITY, VR::CS, "CT");
    set.put_text(tags::PATIENT_NAME, VR::PN, format!("Müller^Patient{study}"));
    set.put_text(tags::PATIENT_ID, VR::LO, format!("P{study}"));
    set.put_text(tags::STUDY_INSTANCE_UID, VR::UI, format!("1.2.{study}"));
    set.put_text(tags::SERIES_INSTANCE_UID, VR::UI, format!("1.2.{study}.1"));
    set.put_text(tags::INSTANCE_NUMBER, VR::IS, instance.to_string());
    set.put_text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2");
    for (tag, value) in [
        (tags::SAMPLES_PER_PIXEL, 1),
        (tags::ROWS, 4),
        (tags::COLUMNS, 6),
        (tags::BITS_ALLOCATED, 16),
        (tags::BITS_STORED, 16),
        (tags::HIGH_BIT, 15),
        (tags::PIXEL_REPRESENTATION, 0),
    ] {
        set.put_u16(tag, value);
    }
    let samples: Vec<u8> = (0..24u16)
        .flat_map(|at| (at + instance as u16).to_le_bytes())
        .collect();
    set.put(pacs_core::dataset::Element {
        tag: tags::PIXEL_DATA,
        vr: VR::OW,
        value: pacs_core::dataset::Value::Bytes(samples.into()),
    });
    let charset = CharacterSet::parse("ISO_IR 100");
    let syntax = Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let meta = Meta::new(
        Uid::constant(uids::CT_IMAGE_STORAGE),
        Uid::parse(&uid).unwrap(),
        syntax,
    );
    let mut file = write_meta(&meta).to_vec();
    file.extend(encode(&set, &syntax, &charset).unwrap());
    file
}

/// What a callback is given, as what it was.
fn user<T>(user: *mut c_void) -> &'static T {
    // SAFETY: the tests give it what lives longer than the engine.
    unsafe { &*user.cast() }
}
