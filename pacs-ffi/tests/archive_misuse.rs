//! Whatever an archive of the caller's own answers, the process goes on: what shows is told by a status, and the archive
//! is destroyed once.
#![allow(unsafe_code, reason = "what is tested is called as C calls it")]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "one for all: the functions of the header are called with what they ask for, or with what they are to refuse"
)]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use pacs::archive::*;
use pacs::context::{pacs_context, pacs_context_free, pacs_context_new};
use pacs::engine::*;
use pacs::error::pacs_status::{self, *};
use pacs::error::{PACS_ERROR_TEXT_LENGTH, PACS_OPERATION_LENGTH};
use pacs::error::{pacs_error, pacs_last_error, pacs_live_handles};
use pacs::hooks::{pacs_hooks, pacs_retrieving};
use pacs::instance::*;
use pacs::store::*;
use pacs_core::testkit::archive::{key, part10};

/// How an archive goes wrong.
#[derive(Clone, Copy)]
enum Wrong {
    Nothing,
    /// A function does nothing and answers with a number.
    Answers(&'static str, i32),
    /// What a commit or a scan tells is changed.
    Tells(fn(&mut pacs_archive_entry)),
    /// A reading says that it read this much where there was room for so much.
    Reads(fn(usize) -> usize),
    /// A removal says that this is its sequence.
    Removes(u64),
    /// A scan tells the first entry again and again.
    GoesRound,
    /// A reason has no end and is no text.
    Babbles,
    /// A commit ends when another one is there too.
    WaitsForAnother,
    /// A commit stores an instance in the engine at this address, and keeps what that answers.
    CallsBack(usize),
}

enum Happened {
    Stored([CString; 3], Vec<u8>),
    Removed(CString, u64),
}

/// An archive in memory that can go wrong. A locator is the sequence of a commit.
struct Double {
    wrong: Mutex<Wrong>,
    happened: Mutex<BTreeMap<u64, Happened>>,
    last: AtomicUsize,
    /// Begun and not ended.
    writers: AtomicUsize,
    cursors: AtomicUsize,
    destroyed: AtomicUsize,
    called_back: AtomicI32,
    /// Commits that wait for another one, and who tells them.
    waiting: Mutex<u32>,
    came: Condvar,
}

impl Double {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            wrong: Mutex::new(Wrong::Nothing),
            happened: Mutex::default(),
            last: AtomicUsize::new(0),
            writers: AtomicUsize::new(0),
            cursors: AtomicUsize::new(0),
            destroyed: AtomicUsize::new(0),
            called_back: AtomicI32::new(-1),
            waiting: Mutex::new(0),
            came: Condvar::new(),
        })
    }

    /// These instances, as if they had been stored before.
    fn keeps<const N: usize>(&self, instances: [u64; N]) {
        for n in instances {
            let key = key(n);
            let uids = [key.study, key.series, key.instance];
            let uids = uids.map(|uid| CString::new(uid.as_str()).unwrap());
            let stored = Happened::Stored(uids, part10(&key, 100, n).into());
            self.happened().insert(self.next(), stored);
        }
    }

    fn goes(&self, wrong: Wrong) {
        *self.wrong.lock().unwrap() = wrong;
    }

    fn wrong(&self) -> Wrong {
        *self.wrong.lock().unwrap()
    }

    fn happened(&self) -> MutexGuard<'_, BTreeMap<u64, Happened>> {
        self.happened.lock().unwrap()
    }

    fn destroyed(&self) -> usize {
        self.destroyed.load(Ordering::SeqCst)
    }

    fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::SeqCst) as u64 + 1
    }

    /// Its functions, with one more owner of it.
    fn functions(self: &Arc<Self>) -> pacs_archive {
        pacs_archive {
            struct_size: size_of::<pacs_archive>(),
            user: Arc::into_raw(Arc::clone(self)).cast_mut().cast(),
            destroy: Some(destroy),
            version: PACS_ARCHIVE_VERSION,
            capability: PACS_ARCHIVE_ORDERED_SCAN,
            begin: Some(begin),
            write: Some(write),
            commit: Some(commit),
            abort: Some(abort),
            read: Some(read),
            remove: Some(remove),
            scan: Some(scan),
            scan_next: Some(scan_next),
            scan_end: Some(scan_end),
            verify: Some(verify),
            indexed: Some(indexed),
        }
    }
}

// The archive's functions, as C would have them.

fn double<'a>(user: *mut c_void) -> &'a Double {
    // SAFETY: it lives until it is destroyed.
    unsafe { &*user.cast::<Double>() }
}

/// What a function that goes wrong answers.
fn answer(user: *mut c_void, function: &str, reason: *mut c_char) -> Option<i32> {
    match double(user).wrong() {
        Wrong::Answers(wrong, number) if wrong == function => {
            // SAFETY: there is room for this.
            unsafe { reason.copy_from_nonoverlapping(c"as the test asks".as_ptr(), 17) };
            Some(number)
        }
        Wrong::Babbles => {
            // SAFETY: there is room for this.
            unsafe { reason.cast::<u8>().write_bytes(0xFF, PACS_ARCHIVE_REASON_LENGTH) };
            Some(PACS_IO as i32)
        }
        _ => None,
    }
}

/// The sequence that a locator is.
fn place(locator: *const c_void, length: usize) -> Option<u64> {
    // SAFETY: that many bytes are there.
    let bytes = unsafe { std::slice::from_raw_parts(locator.cast::<u8>(), length) };
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

fn put_text(to: &mut [c_char], text: &CStr) {
    for (to, from) in to.iter_mut().zip(text.to_bytes_with_nul()) {
        *to = *from as c_char;
    }
}

fn put_locator(entry: &mut pacs_archive_entry, sequence: u64) {
    entry.locator_length = 8;
    entry.locator[..8].copy_from_slice(&sequence.to_be_bytes());
}

unsafe extern "C" fn destroy(user: *mut c_void) {
    // SAFETY: this owner was made for it.
    let double = unsafe { Arc::from_raw(user.cast::<Double>()) };
    double.destroyed.fetch_add(1, Ordering::SeqCst);
}

unsafe extern "C" fn begin(user: *mut c_void, writer: *mut *mut c_void, reason: *mut c_char) -> i32 {
    if let Some(number) = answer(user, "begin", reason) {
        return number;
    }
    double(user).writers.fetch_add(1, Ordering::SeqCst);
    // SAFETY: a place for a writer.
    unsafe { *writer = Box::into_raw(Box::<Vec<u8>>::default()).cast() };
    0
}

unsafe extern "C" fn write(
    user: *mut c_void,
    writer: *mut c_void,
    bytes: *const c_void,
    length: usize,
    reason: *mut c_char,
) -> i32 {
    if let Some(number) = answer(user, "write", reason) {
        return number;
    }
    // SAFETY: a writer of ours, and that many bytes.
    unsafe {
        let bytes = std::slice::from_raw_parts(bytes.cast::<u8>(), length);
        (*writer.cast::<Vec<u8>>()).extend_from_slice(bytes);
    }
    0
}

fn end(user: *mut c_void, writer: *mut c_void) -> Vec<u8> {
    double(user).writers.fetch_sub(1, Ordering::SeqCst);
    // SAFETY: a writer of ours, which nobody has any more.
    *unsafe { Box::from_raw(writer.cast::<Vec<u8>>()) }
}

unsafe extern "C" fn abort(user: *mut c_void, writer: *mut c_void) {
    end(user, writer);
}

unsafe extern "C" fn commit(
    user: *mut c_void,
    writer: *mut c_void,
    entry: *mut pacs_archive_entry,
    reason: *mut c_char,
) -> i32 {
    let bytes = end(user, writer);
    if let Some(number) = answer(user, "commit", reason) {
        return number;
    }
    let double = double(user);
    // SAFETY: an entry of the library's.
    let entry = unsafe { &mut *entry };
    if let Wrong::WaitsForAnother = double.wrong() {
        let mut waiting = double.waiting.lock().unwrap();
        *waiting += 1;
        double.came.notify_all();
        let minute = Duration::from_secs(60);
        let is_alone = |waiting: &mut u32| *waiting < 2;
        let waited = double.came.wait_timeout_while(waiting, minute, is_alone);
        if waited.unwrap().1.timed_out() {
            return PACS_TIMED_OUT as i32;
        }
    }
    if let Wrong::CallsBack(engine) = double.wrong() {
        let stored = store(engine as *mut pacs_engine, 9);
        double.called_back.store(stored as i32, Ordering::SeqCst);
    }
    // SAFETY: the library ends them with NUL.
    let key = [&entry.study, &entry.series, &entry.instance]
        .map(|text| unsafe { CStr::from_ptr(text.as_ptr()) }.to_owned());
    assert_eq!(entry.length, bytes.len() as u64);
    assert_eq!(entry.struct_size, size_of::<pacs_archive_entry>());
    entry.sequence = double.next();
    put_locator(entry, entry.sequence);
    let stored = Happened::Stored(key, bytes);
    double.happened().insert(entry.sequence, stored);
    if let Wrong::Tells(change) = double.wrong() {
        change(entry);
    }
    0
}

unsafe extern "C" fn read(
    user: *mut c_void,
    locator: *const c_void,
    locator_length: usize,
    offset: u64,
    buffer: *mut c_void,
    capacity: usize,
    length: *mut usize,
    reason: *mut c_char,
) -> i32 {
    if let Some(number) = answer(user, "read", reason) {
        return number;
    }
    let happened = double(user).happened();
    let Some(Happened::Stored(_, bytes)) =
        place(locator, locator_length).and_then(|place| happened.get(&place))
    else {
        return PACS_NOT_FOUND as i32;
    };
    let rest = bytes.get(offset as usize..).unwrap_or_default();
    if rest.is_empty() {
        return PACS_END as i32;
    }
    let mut told = rest.len().min(capacity);
    if let Wrong::Reads(change) = double(user).wrong() {
        told = change(capacity);
    }
    // SAFETY: there is room for `capacity` bytes; what is told may be wrong, what is written never is.
    unsafe {
        buffer
            .cast::<u8>()
            .copy_from_nonoverlapping(rest.as_ptr(), told.min(capacity).min(rest.len()));
        *length = told;
    }
    0
}

unsafe extern "C" fn remove(
    user: *mut c_void,
    instance: *const c_char,
    locator: *const c_void,
    locator_length: usize,
    sequence: *mut u64,
    reason: *mut c_char,
) -> i32 {
    if let Some(number) = answer(user, "remove", reason) {
        return number;
    }
    let double = double(user);
    let mut next = double.next();
    if let Some(at) = place(locator, locator_length) {
        // SAFETY: the library ends it with NUL.
        let instance = unsafe { CStr::from_ptr(instance) }.to_owned();
        let mut happened = double.happened();
        happened.remove(&at);
        happened.insert(next, Happened::Removed(instance, at));
    }
    if let Wrong::Removes(wrong) = double.wrong() {
        next = wrong;
    }
    // SAFETY: a place for a sequence.
    unsafe { *sequence = next };
    0
}

/// A cursor is the sequence that was told last.
unsafe extern "C" fn scan(
    user: *mut c_void,
    after: u64,
    cursor: *mut *mut c_void,
    reason: *mut c_char,
) -> i32 {
    if let Some(number) = answer(user, "scan", reason) {
        return number;
    }
    double(user).cursors.fetch_add(1, Ordering::SeqCst);
    // SAFETY: a place for a cursor.
    unsafe { *cursor = Box::into_raw(Box::new(after)).cast() };
    0
}

unsafe extern "C" fn scan_next(
    user: *mut c_void,
    cursor: *mut c_void,
    entry: *mut pacs_archive_entry,
    reason: *mut c_char,
) -> i32 {
    if let Some(number) = answer(user, "scan_next", reason) {
        return number;
    }
    let double = double(user);
    // SAFETY: a cursor of ours, and an entry of the library's.
    let (cursor, entry) = unsafe { (&mut *cursor.cast::<u64>(), &mut *entry) };
    let from = match double.wrong() {
        Wrong::GoesRound => 0,
        _ => *cursor + 1,
    };
    let happened = double.happened();
    let Some((sequence, found)) = happened.range(from..).next() else {
        return PACS_END as i32;
    };
    (*cursor, entry.sequence) = (*sequence, *sequence);
    match found {
        Happened::Stored([study, series, instance], bytes) => {
            put_text(&mut entry.study, study);
            put_text(&mut entry.series, series);
            put_text(&mut entry.instance, instance);
            put_locator(entry, *sequence);
            entry.length = bytes.len() as u64;
        }
        Happened::Removed(instance, at) => {
            put_text(&mut entry.instance, instance);
            put_locator(entry, *at);
            entry.removed = 1;
        }
    }
    if let Wrong::Tells(change) = double.wrong() {
        change(entry);
    }
    0
}

unsafe extern "C" fn scan_end(user: *mut c_void, cursor: *mut c_void) {
    double(user).cursors.fetch_sub(1, Ordering::SeqCst);
    // SAFETY: a cursor of ours, which nobody has any more.
    drop(unsafe { Box::from_raw(cursor.cast::<u64>()) });
}

unsafe extern "C" fn verify(
    user: *mut c_void,
    locator: *const c_void,
    locator_length: usize,
    reason: *mut c_char,
) -> i32 {
    if let Some(number) = answer(user, "verify", reason) {
        return number;
    }
    let happened = double(user).happened();
    match place(locator, locator_length).and_then(|place| happened.get(&place)) {
        Some(Happened::Stored(..)) => 0,
        _ => PACS_NOT_FOUND as i32,
    }
}

unsafe extern "C" fn indexed(user: *mut c_void, _: u64, reason: *mut c_char) -> i32 {
    answer(user, "indexed", reason).unwrap_or(0)
}

// The program that uses it.

/// An engine on a double; freed at the end, when nothing may be left.
struct Program {
    context: *mut pacs_context,
    engine: *mut pacs_engine,
    double: Arc<Double>,
}

const IN_MEMORY: &CStr = c"archive = 'memory'";

fn store(engine: *mut pacs_engine, n: u64) -> pacs_status {
    let bytes = part10(&key(n), 5_000, n);
    let at = bytes.as_ptr().cast();
    unsafe { pacs_store(engine, ptr::null(), at, bytes.len(), ptr::null_mut()) }
}

impl Program {
    fn new() -> Self {
        let mut context = ptr::null_mut();
        // SAFETY: what is given is what the header asks for, here and below.
        assert_eq!(unsafe { pacs_context_new(ptr::null(), &mut context) }, PACS_OK);
        Self {
            context,
            engine: ptr::null_mut(),
            double: Double::new(),
        }
    }

    fn open(&mut self) -> pacs_status {
        self.open_on(&self.double.functions())
    }

    fn open_on(&mut self, functions: &pacs_archive) -> pacs_status {
        self.open_with(functions, ptr::null())
    }

    fn open_with(&mut self, functions: &pacs_archive, parts: *const pacs_parts) -> pacs_status {
        let (at, engine) = (IN_MEMORY.as_ptr(), &mut self.engine);
        unsafe { pacs_engine_open_on(self.context, at, functions, parts, engine) }
    }

    /// One that is open and keeps instance 1.
    fn opened() -> Self {
        let mut program = Self::new();
        assert_eq!(program.open(), PACS_OK);
        assert_eq!(program.store(1), PACS_OK);
        program
    }

    fn store(&self, n: u64) -> pacs_status {
        store(self.engine, n)
    }

    fn lookup(&self, n: u64) -> *mut pacs_instance {
        let uid = CString::new(key(n).instance.as_str()).unwrap();
        let mut instance = ptr::null_mut();
        let found = unsafe { pacs_lookup(self.engine, uid.as_ptr(), &mut instance) };
        assert_eq!(found, PACS_OK);
        instance
    }

    /// Reads instance 1, and compares it where that succeeds.
    fn read(&self) -> pacs_status {
        let (bytes, instance) = (part10(&key(1), 5_000, 1), self.lookup(1));
        let (mut room, mut length) = (vec![0_u8; bytes.len() + 10], 0);
        let read = unsafe {
            let at = room.as_mut_ptr().cast();
            let read = pacs_instance_read_range(instance, ptr::null(), 0, at, room.len(), &mut length);
            assert_eq!(pacs_instance_free(instance), PACS_OK);
            read
        };
        if read == PACS_OK {
            assert_eq!(room[..length], *bytes);
        }
        read
    }

    fn remove(&self) -> pacs_status {
        let uid = CString::new(key(1).instance.as_str()).unwrap();
        let level = pacs_level::PACS_LEVEL_INSTANCE as i32;
        unsafe { pacs_engine_remove(self.engine, level, uid.as_ptr(), ptr::null_mut()) }
    }

    fn damaged(&self) -> u64 {
        let (mut whole, mut damaged) = (0, 0);
        let verified = unsafe { pacs_engine_verify(self.engine, ptr::null(), &mut whole, &mut damaged) };
        assert_eq!((verified, whole + damaged), (PACS_OK, 1));
        damaged
    }

    /// Why the last call failed.
    fn why(&self) -> String {
        let mut error = pacs_error {
            struct_size: size_of::<pacs_error>(),
            status: PACS_OK,
            retry: 0,
            dimse_status: 0,
            operation: [0; PACS_OPERATION_LENGTH],
            text: [0; PACS_ERROR_TEXT_LENGTH],
        };
        assert_eq!(unsafe { pacs_last_error(self.context, &mut error) }, PACS_OK);
        let text = unsafe { CStr::from_ptr(error.text.as_ptr()) };
        text.to_str().unwrap().to_owned()
    }

    /// Closes what is open; nothing of the archive is left then.
    fn ends(self) {
        self.double.goes(Wrong::Nothing);
        assert_eq!(unsafe { pacs_engine_close(self.engine) }, PACS_OK);
        let mut handles = 1;
        assert_eq!(unsafe { pacs_live_handles(self.context, &mut handles) }, PACS_OK);
        assert_eq!(handles, 0);
        assert_eq!(unsafe { pacs_context_free(self.context) }, PACS_OK);
        assert_eq!(self.double.destroyed(), 1);
        assert_eq!(self.double.writers.load(Ordering::SeqCst), 0);
        assert_eq!(self.double.cursors.load(Ordering::SeqCst), 0);
        assert_eq!(Arc::strong_count(&self.double), 1);
    }
}

/// What goes wrong, and a part of what is said of it.
type Case<T> = (&'static str, T);

/// What a caller is told where a function answers with this number.
fn told(number: i32) -> pacs_status {
    [
        PACS_NOT_FOUND,
        PACS_ALREADY_EXISTS,
        PACS_INVALID,
        PACS_MISMATCH,
        PACS_UNSUPPORTED,
        PACS_REFUSED,
        PACS_OUT_OF_RESOURCES,
        PACS_CORRUPT,
        PACS_CANCELLED,
        PACS_TIMED_OUT,
        PACS_CLOSED,
        PACS_IO,
    ]
    .into_iter()
    .find(|status| *status as i32 == number)
    .unwrap_or(PACS_INTERNAL)
}

/// Every status that says of a failure, and numbers that are none.
fn numbers() -> impl Iterator<Item = i32> {
    (1..=PACS_BUFFER_TOO_SMALL as i32).chain([
        -1,
        PACS_BUFFER_TOO_SMALL as i32 + 1,
        1 << 20,
        i32::MIN,
        i32::MAX,
    ])
}

#[test]
fn a_function_that_fails_when_something_is_asked_of_an_open_engine_is_told_by_its_status() {
    type Ask = fn(&Program) -> pacs_status;
    let asked: [(&str, Ask); 6] = [
        ("begin", |program| program.store(2)),
        ("write", |program| program.store(2)),
        ("commit", |program| program.store(2)),
        ("read", |program| program.read()),
        ("remove", |program| program.remove()),
        ("indexed", |program| unsafe {
            pacs_engine_checkpoint(program.engine)
        }),
    ];
    for (function, ask) in asked {
        for number in numbers() {
            let program = Program::opened();
            program.double.goes(Wrong::Answers(function, number));
            let expected = match (function, number) {
                // The instance ends where it was longer when it was stored.
                ("read", 1) => PACS_CORRUPT,
                _ => told(number),
            };
            assert_eq!(ask(&program), expected, "{function} answers {number}");
            if (function, number) != ("read", 1) {
                assert_eq!(program.why(), "as the test asks", "{function} answers {number}");
            }
            // All that is right goes on.
            program.double.goes(Wrong::Nothing);
            assert_eq!(program.read(), PACS_OK);
            assert_eq!(program.store(3), PACS_OK);
            program.ends();
        }
    }
}

#[test]
fn a_scan_that_fails_is_told_by_who_opens_the_engine() {
    for function in ["scan", "scan_next"] {
        for number in numbers().filter(|number| (function, *number) != ("scan_next", 1)) {
            let mut program = Program::new();
            program.double.goes(Wrong::Answers(function, number));
            assert_eq!(program.open(), told(number), "{function} answers {number}");
            program.ends();
        }
    }
}

#[test]
fn a_verification_that_fails_is_a_finding() {
    let program = Program::opened();
    assert_eq!(program.damaged(), 0);
    for number in numbers() {
        program.double.goes(Wrong::Answers("verify", number));
        assert_eq!(program.damaged(), 1, "verify answers {number}");
    }
    program.ends();
}

#[test]
fn a_commit_that_tells_what_can_not_be_fails_and_the_engine_goes_on() {
    let wrong: [Case<fn(&mut pacs_archive_entry)>; 9] = [
        ("longer than", |entry| entry.locator_length = 256),
        ("longer than", |entry| entry.locator_length = u32::MAX),
        ("locator is empty", |entry| entry.locator_length = 0),
        ("sequence is 0", |entry| entry.sequence = 0),
        ("the greatest", |entry| entry.sequence = u64::MAX),
        ("isn't greater", |entry| entry.sequence = 1),
        ("another length", |entry| entry.length += 1),
        ("another length", |entry| entry.length = u64::MAX),
        ("another length", |entry| entry.length = 0),
    ];
    for (why, wrong) in wrong {
        let program = Program::opened();
        program.double.goes(Wrong::Tells(wrong));
        assert_eq!(program.store(2), PACS_INTERNAL, "{why}");
        assert!(program.why().contains(why), "{why}: {}", program.why());
        program.double.goes(Wrong::Nothing);
        assert_eq!(program.store(3), PACS_OK);
        assert_eq!(program.read(), PACS_OK);
        program.ends();
    }
}

#[test]
fn a_scan_that_tells_what_can_not_be_fails() {
    let wrong: [Case<fn(&mut pacs_archive_entry)>; 11] = [
        ("longer than", |entry| entry.locator_length = 256),
        ("locator is empty", |entry| entry.locator_length = 0),
        ("sequence is 0", |entry| entry.sequence = 0),
        ("the greatest", |entry| entry.sequence = u64::MAX),
        ("ascending", |entry| entry.sequence = 7),
        ("ascending", |entry| entry.sequence = 100 - entry.sequence),
        ("longer than any file", |entry| entry.length = u64::MAX),
        ("UID", |entry| entry.study.fill(b'1' as c_char)),
        ("UID", |entry| entry.series[0] = 0),
        ("UID", |entry| entry.instance[0] = b'x' as c_char),
        ("UID", |entry| entry.instance.fill(0xC0_u8 as c_char)),
    ];
    for (why, wrong) in wrong {
        let mut program = Program::new();
        program.double.keeps([1, 2]);
        program.double.goes(Wrong::Tells(wrong));
        assert_eq!(program.open(), PACS_INTERNAL, "{why}");
        assert!(program.why().contains(why), "{why}: {}", program.why());
        program.ends();
    }
}

#[test]
fn a_scan_that_goes_round_ends() {
    for (capability, why) in [(PACS_ARCHIVE_ORDERED_SCAN, "ascending"), (0, "the same again")] {
        let mut program = Program::new();
        program.double.keeps([1, 2, 3]);
        program.double.goes(Wrong::GoesRound);
        let functions = pacs_archive {
            capability,
            ..program.double.functions()
        };
        assert_eq!(program.open_on(&functions), PACS_INTERNAL);
        assert!(program.why().contains(why), "{}", program.why());
        program.ends();
    }
}

#[test]
fn a_scan_without_order_tells_of_no_removal() {
    let mut program = Program::new();
    let removed = Happened::Removed(c"1.2.3".to_owned(), 1);
    program.double.happened().insert(2, removed);
    let functions = pacs_archive {
        capability: 0,
        ..program.double.functions()
    };
    assert_eq!(program.open_on(&functions), PACS_INTERNAL);
    assert!(program.why().contains("removal"), "{}", program.why());
    program.ends();
}

#[test]
fn a_reading_gives_no_more_than_is_asked_for_and_always_something() {
    let program = Program::opened();
    type Changes = fn(usize) -> usize;
    let wrong: [Case<Changes>; 3] = [
        ("more than was asked for", |capacity| capacity + 1),
        ("more than was asked for", |_| usize::MAX),
        ("nothing", |_| 0),
    ];
    for (why, wrong) in wrong {
        program.double.goes(Wrong::Reads(wrong));
        assert_eq!(program.read(), PACS_INTERNAL);
        assert!(program.why().contains(why), "{}", program.why());
    }
    // Fewer are allowed.
    program.double.goes(Wrong::Reads(|capacity| capacity.min(7)));
    assert_eq!(program.read(), PACS_OK);
    program.ends();
}

#[test]
fn a_removal_has_a_sequence_that_is_not_smaller_than_those_before() {
    for wrong in [0, u64::MAX] {
        let program = Program::opened();
        program.double.goes(Wrong::Removes(wrong));
        assert_eq!(program.remove(), PACS_INTERNAL);
        assert!(program.why().contains("sequence"), "{}", program.why());
        program.ends();
    }
}

#[test]
fn a_reason_without_an_end_is_no_harm() {
    let program = Program::opened();
    program.double.goes(Wrong::Babbles);
    assert_eq!(program.store(2), PACS_IO);
    assert!(program.why().starts_with('\u{FFFD}'));
    program.ends();
}

#[test]
fn an_archive_may_not_change_the_engine_that_waits_for_it() {
    let program = Program::opened();
    program.double.goes(Wrong::CallsBack(program.engine as usize));
    assert_eq!(program.store(2), PACS_OK);
    let answered = program.double.called_back.load(Ordering::SeqCst);
    assert_eq!(answered, PACS_REFUSED as i32);
    program.ends();
}

#[test]
fn commits_at_the_same_time_come_at_the_same_time() {
    let program = Program::opened();
    program.double.goes(Wrong::WaitsForAnother);
    let engine = program.engine as usize;
    std::thread::scope(|threads| {
        for n in [2, 3] {
            threads.spawn(move || assert_eq!(store(engine as *mut _, n), PACS_OK));
        }
    });
    program.ends();
}

#[test]
fn an_instance_that_is_given_up_is_aborted() {
    let program = Program::opened();
    let bytes = part10(&key(2), 1_000_000, 2);
    let mut receipt = ptr::null_mut();
    unsafe {
        let received = pacs_receive(program.engine, ptr::null(), &mut receipt);
        assert_eq!(received, PACS_OK);
        let written = pacs_receipt_write(receipt, bytes.as_ptr().cast(), bytes.len());
        assert_eq!(written, PACS_OK);
        assert_eq!(program.double.writers.load(Ordering::SeqCst), 1);
        assert_eq!(pacs_receipt_abort(receipt), PACS_OK);
    }
    assert_eq!(program.double.writers.load(Ordering::SeqCst), 0);
    assert_eq!(program.double.happened().len(), 1);
    program.ends();
}

#[test]
fn what_was_got_from_an_engine_keeps_its_archive_until_it_is_freed() {
    let program = Program::opened();
    let (instance, mut reader) = (program.lookup(1), ptr::null_mut());
    let form = pacs_form::PACS_FORM_STORED as i32;
    let (mut room, mut length) = ([0_u8; 100], 0);
    unsafe {
        let opened = pacs_instance_open(instance, ptr::null(), form, &mut reader);
        assert_eq!(opened, PACS_OK);
        assert_eq!(pacs_engine_close(program.engine), PACS_OK);
        assert_eq!(program.double.destroyed(), 0);
        let read = pacs_reader_read(reader, room.as_mut_ptr().cast(), room.len(), &mut length);
        assert_eq!((read, length), (PACS_OK, room.len()));
        assert_eq!(pacs_instance_free(instance), PACS_OK);
        assert_eq!(program.double.destroyed(), 0);
        assert_eq!(pacs_reader_free(reader), PACS_OK);
    }
    assert_eq!(program.double.destroyed(), 1);
    Program {
        engine: ptr::null_mut(),
        ..program
    }
    .ends();
}

#[test]
fn an_archive_that_is_not_whole_is_refused_and_destroyed() {
    let wrong: [Case<fn(&mut pacs_archive)>; 17] = [
        ("struct_size", |archive| {
            archive.struct_size = size_of::<usize>() * 3
        }),
        ("struct_size", |archive| archive.struct_size -= 8),
        ("struct_size", |archive| archive.struct_size += 8),
        ("version", |archive| archive.version = 0),
        ("version", |archive| archive.version += 1),
        ("capability", |archive| archive.capability = 1 << 31),
        ("begin", |archive| archive.begin = None),
        ("write", |archive| archive.write = None),
        ("commit", |archive| archive.commit = None),
        ("abort", |archive| archive.abort = None),
        ("read", |archive| archive.read = None),
        ("remove", |archive| archive.remove = None),
        ("scan", |archive| archive.scan = None),
        ("scan_next", |archive| archive.scan_next = None),
        ("scan_end", |archive| archive.scan_end = None),
        ("verify", |archive| archive.verify = None),
        ("indexed", |archive| archive.indexed = None),
    ];
    for (what, wrong) in wrong {
        let mut program = Program::new();
        let mut functions = program.double.functions();
        wrong(&mut functions);
        assert_eq!(program.open_on(&functions), PACS_BAD_ARGUMENT, "{what}");
        assert!(program.why().contains(what), "{what}: {}", program.why());
        program.ends();

        // To make an index anew is refused alike.
        let program = Program::new();
        let mut functions = program.double.functions();
        wrong(&mut functions);
        let rebuilt = unsafe {
            pacs_rebuild_index_on(program.context, IN_MEMORY.as_ptr(), &functions, ptr::null_mut())
        };
        assert_eq!(rebuilt, PACS_BAD_ARGUMENT, "{what}");
        program.ends();
    }
}

#[test]
fn an_archive_is_destroyed_when_the_engine_is_not_opened_for_another_reason() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let under_a_file = CString::new(format!("data = '{}/data'", file.path().display())).unwrap();
    let good = Program::new();
    let mut engine = ptr::null_mut();
    let cases: [(
        pacs_status,
        *mut pacs_context,
        *const c_char,
        *mut *mut pacs_engine,
    ); 6] = [
        (PACS_BAD_HANDLE, ptr::null_mut(), IN_MEMORY.as_ptr(), &mut engine),
        (
            PACS_BAD_HANDLE,
            0xB_usize as *mut _,
            IN_MEMORY.as_ptr(),
            &mut engine,
        ),
        (
            PACS_BAD_ARGUMENT,
            good.context,
            IN_MEMORY.as_ptr(),
            ptr::null_mut(),
        ),
        (PACS_BAD_ARGUMENT, good.context, c"\xFF".as_ptr(), &mut engine),
        (
            PACS_INVALID,
            good.context,
            c"archive = 'tape'".as_ptr(),
            &mut engine,
        ),
        (PACS_IO, good.context, under_a_file.as_ptr(), &mut engine),
    ];
    for (expected, context, configuration, engine) in cases {
        let double = Double::new();
        let (functions, parts) = (double.functions(), ptr::null());
        let opened = unsafe { pacs_engine_open_on(context, configuration, &functions, parts, engine) };
        assert_eq!(opened, expected);
        assert_eq!((double.destroyed(), Arc::strong_count(&double)), (1, 1));
    }
    assert!(engine.is_null());
    assert_eq!(unsafe { pacs_context_free(good.context) }, PACS_OK);
}

#[test]
fn hooks_and_an_archive_of_the_callers_own_go_together() {
    unsafe extern "C" fn refuses(_: *mut c_void, _: *const pacs_retrieving, _: *mut c_char) -> i32 {
        PACS_REFUSED as i32
    }
    unsafe extern "C" fn ended(user: *mut c_void) {
        // SAFETY: it is counted here.
        unsafe { &*user.cast::<AtomicUsize>() }.fetch_add(1, Ordering::SeqCst);
    }
    let destroyed = AtomicUsize::new(0);
    let hooks = pacs_hooks {
        struct_size: size_of::<pacs_hooks>(),
        user: ptr::from_ref(&destroyed).cast_mut().cast(),
        destroy: Some(ended),
        associate: None,
        before_store: None,
        before_find: None,
        before_retrieve: Some(refuses),
        happened: None,
        route: None,
    };
    let mut parts = pacs_parts {
        struct_size: size_of::<pacs_parts>(),
        hooks: &hooks,
    };
    let mut program = Program::new();
    let functions = program.double.functions();
    assert_eq!(program.open_with(&functions, &parts), PACS_OK);
    assert_eq!(program.store(1), PACS_OK);
    assert_eq!(program.read(), PACS_REFUSED);
    program.ends();
    assert_eq!(destroyed.load(Ordering::SeqCst), 1);

    let mut program = Program::new();
    let functions = program.double.functions();
    parts.struct_size += 8;
    assert_eq!(program.open_with(&functions, &parts), PACS_BAD_ARGUMENT);
    program.ends();
}

#[test]
fn what_is_no_archive_at_all_is_not_taken_over() {
    let (mut program, mut engine) = (Program::new(), ptr::null_mut());
    let opened = unsafe {
        pacs_engine_open_on(
            program.context,
            ptr::null(),
            ptr::null(),
            ptr::null(),
            &mut engine,
        )
    };
    assert_eq!(opened, PACS_BAD_ARGUMENT);
    for size in [0, 8, 23] {
        let functions = pacs_archive {
            struct_size: size,
            ..program.double.functions()
        };
        assert_eq!(program.open_on(&functions), PACS_BAD_ARGUMENT);
        assert!(program.why().contains("struct_size"), "{}", program.why());
        assert_eq!(program.double.destroyed(), 0);
        // It is the caller's still.
        unsafe { destroy(functions.user) };
        program.double.destroyed.store(0, Ordering::SeqCst);
    }
    assert_eq!(unsafe { pacs_context_free(program.context) }, PACS_OK);
}

#[test]
fn an_archive_without_a_destroy_is_left_alone() {
    let mut program = Program::new();
    let functions = pacs_archive {
        destroy: None,
        ..program.double.functions()
    };
    assert_eq!(program.open_on(&functions), PACS_OK);
    assert_eq!(program.store(1), PACS_OK);
    assert_eq!(unsafe { pacs_engine_close(program.engine) }, PACS_OK);
    assert_eq!(unsafe { pacs_context_free(program.context) }, PACS_OK);
    assert_eq!(program.double.destroyed(), 0);
    unsafe { destroy(functions.user) };
}
