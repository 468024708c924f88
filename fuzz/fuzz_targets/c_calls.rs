//! Sequences of calls of the C ABI, with handles that are right, closed, of another kind or invented, and arguments
//! that break its rules: each call answers a status, nothing is harmed, and what was stored stays.
//!
//! Run with `cargo fuzz run -s none c_calls`.

#![no_main]

use std::ffi::{CString, c_char, c_void};
use std::ptr;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use pacs::amend::*;
use pacs::context::{pacs_context, pacs_context_free, pacs_context_new};
use pacs::data_set::*;
use pacs::engine::*;
use pacs::error::{pacs_error, pacs_last_error, pacs_live_handles, pacs_status};
use pacs::find::{pacs_find, pacs_matches_free, pacs_matches_next};
use pacs::frame::*;
use pacs::instance::*;
use pacs::store::*;

/// One call. Numbers choose among the handles that were made before, of whatever kind.
#[derive(Arbitrary, Debug)]
enum Call {
    DataSetNew,
    DataSetPut(Handle, Tag, Vr, Text),
    DataSetPutBytes(Handle, Tag, Vr, Vec<u8>),
    DataSetAddItem(Handle, Tag, Handle),
    DataSetItem(Handle, Tag, u8),
    DataSetText(Handle, Tag, u8, u8),
    DataSetNumber(Handle, Tag, u8),
    DataSetJson(Handle),
    DataSetFromJson(Text),
    Store(Handle, Bytes),
    Receive(Handle),
    Write(Handle, Bytes),
    Commit(Handle),
    Find(Handle, i8, Handle, u8),
    Next(Handle),
    Lookup(Handle, Text),
    Walk(Handle, i8, Text),
    WalkNext(Handle),
    Info(Handle, u8),
    Header(Handle),
    Open(Handle, i8),
    Read(Handle, u16),
    ReadRange(Handle, u64, u16),
    Frames(Handle),
    Decode(Handle, u8),
    Render(Handle, u8, Text),
    Remove(Handle, i8, Text),
    Amend(Handle, i8, Text, Handle),
    Merge(Handle, Text, Text),
    Verify(Handle),
    Totals(Handle, u16),
    EngineOpen(Text),
    Free(Handle),
    LastError,
}

/// Which handle: one of those that were made, or a pointer that was never one.
#[derive(Arbitrary, Debug)]
enum Handle {
    Made(u8),
    Null,
    Any(u64),
}

#[derive(Arbitrary, Debug)]
enum Tag {
    Known(u8),
    Any(u32),
}

#[derive(Arbitrary, Debug)]
enum Vr {
    Null,
    Known(u8),
    Any([u8; 2]),
}

#[derive(Arbitrary, Debug)]
enum Text {
    Null,
    Known(u8),
    Any(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
enum Bytes {
    File(u8),
    Part(u8, u16),
    Any(Vec<u8>),
}

const TAGS: [u32; 8] = [
    0x0010_0010,
    0x0010_0020,
    0x0020_000D,
    0x0020_000E,
    0x0008_0018,
    0x0040_0275,
    0x0028_0010,
    0x0008_0061,
];
const VRS: [&str; 6] = ["PN", "UI", "US", "SQ", "OB", "FD"];
const TEXTS: [&str; 8] = [
    "1.2.1",
    "1.2.1.1",
    "1.2.1.1.1",
    "P1",
    "*",
    "archive = 'memory'",
    "40,400,linear",
    "{\"00100020\":{\"vr\":\"LO\",\"Value\":[\"P1\"]}}",
];

impl Tag {
    fn get(&self) -> u32 {
        match self {
            Self::Known(at) => TAGS[usize::from(*at) % TAGS.len()],
            Self::Any(tag) => *tag,
        }
    }
}

/// A string that lives as long as the call.
struct Held(Option<CString>);

impl Held {
    fn pointer(&self) -> *const c_char {
        self.0.as_ref().map_or(ptr::null(), |text| text.as_ptr())
    }
}

impl Text {
    fn held(&self) -> Held {
        Held(match self {
            Self::Null => None,
            Self::Known(at) => CString::new(TEXTS[usize::from(*at) % TEXTS.len()]).ok(),
            Self::Any(bytes) => CString::new(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).ok(),
        })
    }
}

impl Vr {
    fn held(&self) -> Held {
        Held(match self {
            Self::Null => None,
            Self::Known(at) => CString::new(VRS[usize::from(*at) % VRS.len()]).ok(),
            Self::Any(letters) => CString::new(letters.map(|letter| letter.max(1))).ok(),
        })
    }
}

/// An instance of study 1.2.1, in implicit VR with its meta.
fn file(number: u8) -> Vec<u8> {
    let uid = format!("1.2.1.1.{}", number % 4 + 1);
    let element = |group: u16, element: u16, value: &str, pad: u8| {
        let mut bytes = [group.to_le_bytes(), element.to_le_bytes()].concat();
        let mut value = value.as_bytes().to_vec();
        if value.len() % 2 == 1 {
            value.push(pad);
        }
        bytes.extend((value.len() as u32).to_le_bytes());
        bytes.extend(value);
        bytes
    };
    let number = |tag: u16, value: u16| {
        let mut bytes = [0x0028u16.to_le_bytes(), tag.to_le_bytes()].concat();
        bytes.extend(2u32.to_le_bytes());
        bytes.extend(value.to_le_bytes());
        bytes
    };
    let mut pixels = [0x7FE0u16.to_le_bytes(), 0x0010u16.to_le_bytes()].concat();
    pixels.extend(12u32.to_le_bytes());
    pixels.extend([7; 12]);
    [
        element(0x0008, 0x0016, "1.2.840.10008.5.1.4.1.1.2", 0),
        element(0x0008, 0x0018, &uid, 0),
        element(0x0010, 0x0010, "A^B", b' '),
        element(0x0010, 0x0020, "P1", b' '),
        element(0x0020, 0x000D, "1.2.1", 0),
        element(0x0020, 0x000E, "1.2.1.1", 0),
        number(0x0002, 1),
        element(0x0028, 0x0004, "MONOCHROME2", b' '),
        number(0x0010, 2),
        number(0x0011, 3),
        number(0x0100, 16),
        number(0x0101, 16),
        number(0x0102, 15),
        number(0x0103, 0),
        pixels,
    ]
    .concat()
}

impl Bytes {
    fn get(&self) -> Vec<u8> {
        match self {
            Self::File(number) => file(*number),
            Self::Part(number, length) => {
                let mut file = file(*number);
                file.truncate((*length).into());
                file
            }
            Self::Any(bytes) => bytes.clone(),
        }
    }
}

/// What is open.
struct Player {
    context: *mut pacs_context,
    engine: *mut pacs_engine,
    /// Every handle that was made, also those that are closed by now.
    made: Vec<u64>,
}

/// A structure of the header.
fn zeroed<T>() -> T {
    // SAFETY: all zero is valid for each of them.
    unsafe { std::mem::zeroed() }
}

macro_rules! sized {
    ($kind:ty, $size:expr) => {{
        let mut value: $kind = zeroed();
        value.struct_size = $size;
        value
    }};
    ($kind:ty) => {
        sized!($kind, size_of::<$kind>())
    };
}

impl Player {
    fn handle<T>(&self, handle: &Handle) -> *mut T {
        let raw = match handle {
            Handle::Made(at) if !self.made.is_empty() => self.made[usize::from(*at) % self.made.len()],
            Handle::Made(_) | Handle::Null => 0,
            Handle::Any(raw) => *raw,
        };
        raw as usize as *mut T
    }

    /// Notes what a call made.
    fn note<T>(&mut self, status: pacs_status, made: *mut T) {
        assert_eq!(status == pacs_status::PACS_OK, !made.is_null(), "{status:?}");
        if !made.is_null() && self.made.len() < 200 {
            self.made.push(made as usize as u64);
        } else if !made.is_null() {
            self.free(made.cast());
        }
    }

    /// Frees a handle of whatever kind.
    fn free(&self, handle: *mut c_void) {
        if handle == self.engine.cast() || handle == self.context.cast() {
            return;
        }
        unsafe {
            pacs_data_set_free(handle.cast());
            pacs_receipt_abort(handle.cast());
            pacs_matches_free(handle.cast());
            pacs_instance_free(handle.cast());
            pacs_instances_free(handle.cast());
            pacs_reader_free(handle.cast());
            pacs_frames_free(handle.cast());
            pacs_engine_close(handle.cast());
        }
    }

    fn play(&mut self, call: &Call) {
        let mut buffer = [0u8; 4096];
        let mut length = 0usize;
        unsafe {
            match call {
                Call::DataSetNew => {
                    let mut made = ptr::null_mut();
                    let status = pacs_data_set_new(self.context, &mut made);
                    self.note(status, made);
                }
                Call::DataSetPut(set, tag, vr, text) => {
                    let (vr, text) = (vr.held(), text.held());
                    pacs_data_set_put(self.handle(set), tag.get(), vr.pointer(), text.pointer());
                }
                Call::DataSetPutBytes(set, tag, vr, bytes) => {
                    let vr = vr.held();
                    let bytes = (bytes.as_ptr().cast(), bytes.len());
                    pacs_data_set_put_bytes(self.handle(set), tag.get(), vr.pointer(), bytes.0, bytes.1);
                }
                Call::DataSetAddItem(set, tag, item) => {
                    // A set within itself grows by doubling.
                    let mut size = 0;
                    if pacs_data_set_json(self.handle(item), ptr::null_mut(), 0, &mut size)
                        != pacs_status::PACS_BAD_HANDLE
                        && size < 1 << 16
                    {
                        pacs_data_set_add_item(self.handle(set), tag.get(), self.handle(item));
                    }
                }
                Call::DataSetItem(set, tag, at) => {
                    let mut made = ptr::null_mut();
                    let status = pacs_data_set_item(self.handle(set), tag.get(), (*at).into(), &mut made);
                    self.note(status, made);
                }
                Call::DataSetText(set, tag, at, capacity) => {
                    let buffer = buffer.as_mut_ptr().cast();
                    let (tag, at, capacity) = (tag.get(), (*at).into(), (*capacity).into());
                    pacs_data_set_text(self.handle(set), tag, at, buffer, capacity, &mut length);
                    pacs_data_set_bytes(self.handle(set), tag, buffer.cast(), capacity, &mut length);
                    pacs_data_set_count(self.handle(set), tag, &mut length);
                    pacs_data_set_size(self.handle(set), &mut length);
                    let mut found = 0;
                    pacs_data_set_at(self.handle(set), at, &mut found, buffer);
                }
                Call::DataSetNumber(set, tag, at) => {
                    let (mut whole, mut float) = (0, 0.0);
                    pacs_data_set_integer(self.handle(set), tag.get(), (*at).into(), &mut whole);
                    pacs_data_set_double(self.handle(set), tag.get(), (*at).into(), &mut float);
                }
                Call::DataSetJson(set) => {
                    pacs_data_set_json(self.handle(set), buffer.as_mut_ptr().cast(), 4096, &mut length);
                }
                Call::DataSetFromJson(text) => {
                    let (text, mut made) = (text.held(), ptr::null_mut());
                    let status = pacs_data_set_from_json(self.context, text.pointer(), &mut made);
                    self.note(status, made);
                }
                Call::Store(engine, bytes) => {
                    let bytes = bytes.get();
                    let mut stored = sized!(pacs_stored);
                    let engine = self.engine(engine);
                    pacs_store(
                        engine,
                        ptr::null(),
                        bytes.as_ptr().cast(),
                        bytes.len(),
                        &mut stored,
                    );
                }
                Call::Receive(engine) => {
                    let mut made = ptr::null_mut();
                    let status = pacs_receive(self.engine(engine), ptr::null(), &mut made);
                    self.note(status, made);
                }
                Call::Write(receipt, bytes) => {
                    let bytes = bytes.get();
                    pacs_receipt_write(self.handle(receipt), bytes.as_ptr().cast(), bytes.len());
                }
                Call::Commit(receipt) => {
                    pacs_receipt_commit(self.handle(receipt), ptr::null_mut());
                }
                Call::Find(engine, level, keys, flags) => {
                    let (mut made, engine) = (ptr::null_mut(), self.engine(engine));
                    let (keys, level) = (self.handle::<pacs_data_set>(keys), (*level).into());
                    let status = pacs_find(engine, ptr::null(), level, keys, (*flags).into(), &mut made);
                    self.note(status, made);
                }
                Call::Next(matches) => {
                    let mut made = ptr::null_mut();
                    let status = pacs_matches_next(self.handle(matches), &mut made);
                    self.note(status, made);
                }
                Call::Lookup(engine, uid) => {
                    let (uid, mut made) = (uid.held(), ptr::null_mut());
                    let status = pacs_lookup(self.engine(engine), uid.pointer(), &mut made);
                    self.note(status, made);
                }
                Call::Walk(engine, level, id) => {
                    let (id, mut made) = (id.held(), ptr::null_mut());
                    let status = pacs_walk(self.engine(engine), (*level).into(), id.pointer(), &mut made);
                    self.note(status, made);
                }
                Call::WalkNext(instances) => {
                    let mut made = ptr::null_mut();
                    let status = pacs_instances_next(self.handle(instances), &mut made);
                    self.note(status, made);
                }
                Call::Info(instance, size) => {
                    let mut info = sized!(pacs_instance_info, (*size).into());
                    pacs_instance_get_info(self.handle(instance), &mut info);
                }
                Call::Header(instance) => {
                    let mut made = ptr::null_mut();
                    let status = pacs_instance_header(self.handle(instance), ptr::null(), &mut made);
                    self.note(status, made);
                }
                Call::Open(instance, form) => {
                    let mut made = ptr::null_mut();
                    let form = (*form).into();
                    let status = pacs_instance_open(self.handle(instance), ptr::null(), form, &mut made);
                    self.note(status, made);
                }
                Call::Read(reader, capacity) => {
                    let capacity = usize::from(*capacity) % 4097;
                    let buffer = buffer.as_mut_ptr().cast();
                    let status = pacs_reader_read(self.handle(reader), buffer, capacity, &mut length);
                    assert!(status != pacs_status::PACS_OK || length <= capacity);
                }
                Call::ReadRange(instance, offset, capacity) => {
                    let capacity = usize::from(*capacity) % 4097;
                    let (instance, buffer) = (self.handle(instance), buffer.as_mut_ptr().cast());
                    pacs_instance_read_range(instance, ptr::null(), *offset, buffer, capacity, &mut length);
                }
                Call::Frames(instance) => {
                    let (mut made, mut count) = (ptr::null_mut(), 0);
                    let status = pacs_frames_open(self.handle(instance), ptr::null(), &mut made, &mut count);
                    self.note(status, made);
                }
                Call::Decode(frames, number) => {
                    let mut made = ptr::null_mut();
                    let mut pixels = sized!(pacs_pixels);
                    let frames = self.handle::<pacs_frames>(frames);
                    let status = pacs_frames_decode(frames, (*number).into(), &mut pixels, &mut made);
                    self.note(status, made);
                    let mut made = ptr::null_mut();
                    let status = pacs_frames_read(frames, (*number).into(), &mut made);
                    self.note(status, made);
                }
                Call::Render(instance, size, window) => {
                    let (window, mut made) = (window.held(), ptr::null_mut());
                    let mut picture = sized!(pacs_picture);
                    picture.window = window.pointer();
                    picture.width = (*size).into();
                    picture.height = (*size).into();
                    picture.format = i32::from(*size) % 3;
                    let instance = self.handle(instance);
                    let status = pacs_instance_render(instance, ptr::null(), &picture, &mut made);
                    self.note(status, made);
                }
                Call::Remove(engine, level, id) => {
                    let id = id.held();
                    let engine = self.engine(engine);
                    pacs_engine_remove(engine, (*level).into(), id.pointer(), ptr::null_mut());
                }
                Call::Amend(engine, level, id, wanted) => {
                    let (id, mut amended) = (id.held(), sized!(pacs_amended));
                    let (engine, wanted) = (self.engine(engine), self.handle(wanted));
                    let (nobody, none) = (ptr::null(), ptr::null_mut());
                    let (level, id) = ((*level).into(), id.pointer());
                    pacs_engine_amend(engine, nobody, level, id, wanted, None, none, &mut amended);
                }
                Call::Merge(engine, prior, surviving) => {
                    let (prior, surviving) = (prior.held(), surviving.held());
                    let (mut amended, engine) = (sized!(pacs_amended), self.engine(engine));
                    let (nobody, none) = (ptr::null(), ptr::null_mut());
                    let (prior, surviving) = (prior.pointer(), surviving.pointer());
                    pacs_engine_merge_patients(engine, nobody, prior, surviving, None, none, &mut amended);
                }
                Call::Verify(engine) => {
                    let (mut whole, mut damaged) = (0, 0);
                    let engine = self.engine(engine);
                    let status = pacs_engine_verify(engine, ptr::null(), &mut whole, &mut damaged);
                    assert!(status != pacs_status::PACS_OK || damaged == 0);
                }
                Call::Totals(engine, size) => {
                    let mut totals = sized!(pacs_totals, (*size).into());
                    pacs_engine_totals(self.engine(engine), &mut totals);
                }
                Call::EngineOpen(configuration) => {
                    // In memory alone: a data directory would be made wherever the text says.
                    if matches!(configuration, Text::Known(_)) {
                        let configuration = CString::new("archive = 'memory'").expect("it has no NUL");
                        let mut made = ptr::null_mut();
                        let text = configuration.as_ptr();
                        let status = pacs_engine_open(self.context, text, ptr::null(), &mut made);
                        self.note(status, made);
                    }
                }
                Call::Free(handle) => self.free(self.handle(handle)),
                Call::LastError => {
                    let mut error = sized!(pacs_error);
                    pacs_last_error(self.context, &mut error);
                }
            }
        }
    }

    /// The engine, more often than what the input says.
    fn engine(&self, handle: &Handle) -> *mut pacs_engine {
        match handle {
            Handle::Made(at) if at % 4 != 0 => self.engine,
            handle => self.handle(handle),
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(calls) = Vec::<Call>::arbitrary_take_rest(Unstructured::new(bytes)) else {
        return;
    };
    let mut player = Player {
        context: ptr::null_mut(),
        engine: ptr::null_mut(),
        made: Vec::new(),
    };
    let memory = CString::new("archive = 'memory'").expect("it has no NUL");
    unsafe {
        assert_eq!(
            pacs_context_new(ptr::null(), &mut player.context),
            pacs_status::PACS_OK
        );
        let opened = pacs_engine_open(player.context, memory.as_ptr(), ptr::null(), &mut player.engine);
        assert_eq!(opened, pacs_status::PACS_OK);
    }
    for call in calls.iter().take(64) {
        player.play(call);
    }
    for handle in std::mem::take(&mut player.made) {
        player.free(handle as usize as *mut c_void);
    }
    let mut live = 0;
    unsafe {
        assert_eq!(pacs_engine_close(player.engine), pacs_status::PACS_OK);
        assert_eq!(pacs_live_handles(player.context, &mut live), pacs_status::PACS_OK);
        assert_eq!(live, 0, "handles leak");
        assert_eq!(pacs_context_free(player.context), pacs_status::PACS_OK);
    }
});
