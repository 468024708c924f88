//! The only place where raw pointers are followed.
//!
//! Each function here turns something that C gave into something Rust can hold, after the checks that can be made.
//! What can't be checked is what the header asks of every caller: a pointer that is not null points to what its type
//! says, for the whole of the call, and no other thread writes there meanwhile.

use std::ffi::{CStr, c_char, c_void};
use std::ptr;

use crate::archive::{PACS_ARCHIVE_REASON_LENGTH, pacs_archive, pacs_archive_entry};
use crate::error::{Failure, pacs_status};

/// A string argument.
pub(crate) fn text<'a>(pointer: *const c_char) -> Result<&'a str, Failure> {
    optional_text(pointer)?.ok_or_else(|| Failure::argument("a string is null"))
}

/// A string argument that may be null.
pub(crate) fn optional_text<'a>(pointer: *const c_char) -> Result<Option<&'a str>, Failure> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: not null, so it is a string that ends with NUL, by the rules of the header.
    let text = unsafe { CStr::from_ptr(pointer) };
    match text.to_str() {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(Failure::argument("a string is not UTF-8")),
    }
}

/// Bytes that an argument points to.
pub(crate) fn bytes<'a>(pointer: *const c_void, length: usize) -> Result<&'a [u8], Failure> {
    if length == 0 {
        return Ok(&[]);
    }
    check(pointer, length)?;
    // SAFETY: not null and of a possible length, so there are that many bytes, by the rules of the header.
    Ok(unsafe { std::slice::from_raw_parts(pointer.cast(), length) })
}

fn check<T>(pointer: *const T, length: usize) -> Result<(), Failure> {
    if pointer.is_null() {
        return Err(Failure::argument("a buffer is null"));
    }
    if isize::try_from(length).is_err() {
        return Err(Failure::argument("a length is larger than any buffer"));
    }
    Ok(())
}

/// Where a result goes; written on success alone.
pub(crate) struct Out<T>(*mut T);

/// A place for a result.
pub(crate) fn out<T>(pointer: *mut T) -> Result<Out<T>, Failure> {
    if pointer.is_null() {
        return Err(Failure::argument("the place for a result is null"));
    }
    Ok(Out(pointer))
}

impl<T> Out<T> {
    /// Writes the result. What was there is not looked at: it may never have been set.
    pub(crate) fn set(self, value: T) {
        // SAFETY: not null, so there is room for a T, by the rules of the header. It may stand where no T may.
        unsafe { self.0.write_unaligned(value) }
    }
}

/// A place for a result whose caller says how much of the structure it knows.
pub(crate) struct OutSized<T> {
    pointer: *mut T,
    size: usize,
}

/// A structure of the header that begins with `size_t struct_size` and is plain data: every pattern of bits that C
/// may give is one.
///
/// # Safety
/// `#[repr(C)]`, the first field is `struct_size: usize`, and what is all zero is a valid value.
pub(crate) unsafe trait Sized_: Copy {
    /// How large the structure was in the first version that had it: a number that stays when it grows.
    const FIRST_SIZE: usize;
}

fn given_size<T>(pointer: *const T) -> Result<usize, Failure> {
    if pointer.is_null() {
        return Err(Failure::argument("a structure is null"));
    }
    // SAFETY: not null, so a structure is there, which begins with its size, by the rules of the header.
    Ok(unsafe { pointer.cast::<usize>().read_unaligned() })
}

fn struct_size<T>(pointer: *const T, first: usize) -> Result<usize, Failure> {
    let size = given_size(pointer)?;
    if size < first || size > size_of::<T>() {
        return Err(Failure::argument(format!(
            "struct_size is {size}, and {first} to {} are known here",
            size_of::<T>()
        )));
    }
    Ok(size)
}

/// A place for a structure.
pub(crate) fn out_sized<T: Copy>(pointer: *mut T) -> Result<OutSized<T>, Failure> {
    let size = struct_size(pointer, size_of::<usize>())?;
    Ok(OutSized { pointer, size })
}

/// The same, where nobody may want it.
pub(crate) fn optional_out_sized<T: Copy>(pointer: *mut T) -> Result<Option<OutSized<T>>, Failure> {
    match pointer.is_null() {
        true => Ok(None),
        false => out_sized(pointer).map(Some),
    }
}

impl<T: Copy> OutSized<T> {
    /// Writes as much of the structure as the caller knows. Its `struct_size` stays.
    pub(crate) fn set(self, value: T) {
        let head = size_of::<usize>();
        // SAFETY: the caller has room for `size` bytes, which is no more than `value` has, by `struct_size`.
        unsafe {
            let from = ptr::from_ref(&value).cast::<u8>().add(head);
            self.pointer
                .cast::<u8>()
                .add(head)
                .copy_from_nonoverlapping(from, self.size - head);
        }
    }
}

/// A structure that a caller gives; what its version doesn't have is zero.
pub(crate) fn sized<T: Sized_>(pointer: *const T) -> Result<T, Failure> {
    let size = struct_size(pointer, T::FIRST_SIZE)?;
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: `size` bytes are there, by `struct_size`, and no more than a T has; what is all zero, and whatever C
    // may put there, is a T, by the contract of `Sized_`.
    unsafe {
        value
            .as_mut_ptr()
            .cast::<u8>()
            .copy_from_nonoverlapping(pointer.cast(), size);
        Ok(value.assume_init())
    }
}

/// The same, where the structure may be missing.
pub(crate) fn optional_sized<T: Sized_>(pointer: *const T) -> Result<Option<T>, Failure> {
    if pointer.is_null() {
        return Ok(None);
    }
    sized(pointer).map(Some)
}

/// Room that a caller gives for bytes.
pub(crate) struct Room {
    pointer: *mut u8,
    capacity: usize,
}

/// Room for `capacity` bytes.
pub(crate) fn room(pointer: *mut c_void, capacity: usize) -> Result<Room, Failure> {
    if capacity > 0 {
        check(pointer, capacity)?;
    }
    Ok(Room {
        pointer: pointer.cast(),
        capacity,
    })
}

impl Room {
    /// How many bytes fit.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Puts `bytes` at `offset`, as many of them as fit; answers how many.
    pub(crate) fn put(&mut self, offset: usize, bytes: &[u8]) -> usize {
        let fitting = self.capacity.saturating_sub(offset).min(bytes.len());
        if fitting > 0 {
            // SAFETY: the room reaches from `offset` for `fitting` bytes, and no slice of ours lies in it.
            unsafe { ptr::copy(bytes.as_ptr(), self.pointer.add(offset), fitting) };
        }
        fitting
    }
}

/// Gives all of `value`, and its length, to who has room for it; NUL behind it where it is text.
pub(crate) fn give(
    value: &[u8],
    is_text: bool,
    buffer: *mut c_void,
    capacity: usize,
    length: *mut usize,
) -> Result<(), Failure> {
    let mut room = room(buffer, capacity)?;
    let needed = value.len() + usize::from(is_text);
    if !length.is_null() {
        out(length)?.set(value.len());
    }
    if room.capacity() < needed {
        return Err(Failure::new(
            pacs_status::PACS_BUFFER_TOO_SMALL,
            format!("{needed} bytes are needed"),
        ));
    }
    let end = room.put(0, value);
    if is_text {
        room.put(end, &[0]);
    }
    Ok(())
}

/// Text in an array of a structure, cut where it doesn't fit, with NUL behind it.
pub(crate) fn fill<const N: usize>(text: &str) -> [c_char; N] {
    let mut end = text.len().min(N - 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut filled = [0; N];
    for (to, from) in filled.iter_mut().zip(&text.as_bytes()[..end]) {
        // NUL would end it for C.
        *to = if *from == 0 { b' ' } else { *from } as c_char;
    }
    filled
}

/// What a caller gave for its callbacks, with what frees it.
#[derive(Debug)]
pub(crate) struct User {
    pointer: *mut c_void,
    destroy: Option<unsafe extern "C" fn(*mut c_void)>,
}

// SAFETY: the header asks that what callbacks are given may be used from any thread.
unsafe impl Send for User {}
// SAFETY: as above, also by several at once.
unsafe impl Sync for User {}

impl User {
    pub(crate) fn new(pointer: *mut c_void, destroy: Option<unsafe extern "C" fn(*mut c_void)>) -> Self {
        Self { pointer, destroy }
    }

    pub(crate) fn pointer(&self) -> *mut c_void {
        self.pointer
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if let Some(destroy) = self.destroy {
            // SAFETY: it is called once, with what it was given for, by the rules of the header.
            unsafe { destroy(self.pointer) }
        }
    }
}

/// A structure of callbacks that is taken over with what they are given.
///
/// # Safety
/// Its first fields are those of [`Owned`], in every version.
pub(crate) unsafe trait Callbacks: Sized_ {}

#[repr(C)]
struct Owned {
    struct_size: usize,
    user: *mut c_void,
    destroy: Option<unsafe extern "C" fn(*mut c_void)>,
}

/// What a structure of callbacks is taken over with, whatever else may be wrong with it.
pub(crate) fn user_of<T: Callbacks>(pointer: *const T) -> Result<User, Failure> {
    let size = given_size(pointer)?;
    if size < size_of::<Owned>() {
        let text = format!("struct_size is {size}, which no version of the structure has");
        return Err(Failure::argument(text));
    }
    // SAFETY: that many bytes are there, by `struct_size`, and begin like that, by the contract of `Callbacks`.
    let Owned { user, destroy, .. } = unsafe { pointer.cast::<Owned>().read_unaligned() };
    Ok(User::new(user, destroy))
}

/// What a callback gave, to be given back to it.
pub(crate) struct Given(pub(crate) *mut c_void);

// SAFETY: the header asks that it may be used from any thread, by one at a time.
unsafe impl Send for Given {}

/// The functions of an archive of the caller's own, and what they are given.
pub(crate) struct ArchiveCalls {
    pub(crate) table: pacs_archive,
    pub(crate) user: User,
}

// SAFETY: the header asks that they may be called from any thread, with what they are given.
unsafe impl Send for ArchiveCalls {}
// SAFETY: as above, also by several at once.
unsafe impl Sync for ArchiveCalls {}

/// Room for the words of a callback that fails.
pub(crate) type Reason = [c_char; PACS_ARCHIVE_REASON_LENGTH];

/// Calls a function of an archive; one that is missing, which no opening lets pass, fails.
macro_rules! archive_call {
    ($calls:ident.$function:ident($($argument:expr),* $(,)?)) => {
        match $calls.table.$function {
            // SAFETY: it is called with what the header promises it.
            Some(function) => unsafe { function($calls.user.pointer(), $($argument),*) },
            None => pacs_status::PACS_BAD_ARGUMENT as i32,
        }
    };
}

/// Each answers what the function does.
impl ArchiveCalls {
    pub(crate) fn begin(&self, writer: &mut Given, reason: &mut Reason) -> i32 {
        archive_call!(self.begin(&mut writer.0, reason.as_mut_ptr()))
    }

    pub(crate) fn write(&self, writer: &Given, bytes: &[u8], reason: &mut Reason) -> i32 {
        archive_call!(self.write(writer.0, bytes.as_ptr().cast(), bytes.len(), reason.as_mut_ptr()))
    }

    pub(crate) fn commit(&self, writer: Given, entry: &mut pacs_archive_entry, reason: &mut Reason) -> i32 {
        archive_call!(self.commit(writer.0, entry, reason.as_mut_ptr()))
    }

    pub(crate) fn abort(&self, writer: Given) {
        if let Some(abort) = self.table.abort {
            // SAFETY: it is called with what the header promises it.
            unsafe { abort(self.user.pointer(), writer.0) }
        }
    }

    pub(crate) fn read(
        &self,
        locator: &[u8],
        offset: u64,
        into: &mut [u8],
        length: &mut usize,
        reason: &mut Reason,
    ) -> i32 {
        let (at, of) = (locator.as_ptr().cast(), locator.len());
        let (buffer, capacity) = (into.as_mut_ptr().cast(), into.len());
        archive_call!(self.read(at, of, offset, buffer, capacity, length, reason.as_mut_ptr()))
    }

    pub(crate) fn remove(
        &self,
        instance: &CStr,
        locator: &[u8],
        sequence: &mut u64,
        reason: &mut Reason,
    ) -> i32 {
        let (at, of) = (locator.as_ptr().cast(), locator.len());
        archive_call!(self.remove(instance.as_ptr(), at, of, sequence, reason.as_mut_ptr()))
    }

    pub(crate) fn scan(&self, after: u64, cursor: &mut Given, reason: &mut Reason) -> i32 {
        archive_call!(self.scan(after, &mut cursor.0, reason.as_mut_ptr()))
    }

    pub(crate) fn scan_next(
        &self,
        cursor: &Given,
        entry: &mut pacs_archive_entry,
        reason: &mut Reason,
    ) -> i32 {
        archive_call!(self.scan_next(cursor.0, entry, reason.as_mut_ptr()))
    }

    pub(crate) fn scan_end(&self, cursor: &Given) {
        if let Some(scan_end) = self.table.scan_end {
            // SAFETY: it is called with what the header promises it.
            unsafe { scan_end(self.user.pointer(), cursor.0) }
        }
    }

    pub(crate) fn verify(&self, locator: &[u8], reason: &mut Reason) -> i32 {
        archive_call!(self.verify(locator.as_ptr().cast(), locator.len(), reason.as_mut_ptr()))
    }

    pub(crate) fn indexed(&self, sequence: u64, reason: &mut Reason) -> i32 {
        archive_call!(self.indexed(sequence, reason.as_mut_ptr()))
    }
}

/// Calls back with a line of the log.
pub(crate) fn hand_over_line(
    call: unsafe extern "C" fn(*mut c_void, u32, *const c_char, *const c_char),
    user: *mut c_void,
    level: u32,
    target: &CStr,
    text: &CStr,
) {
    // SAFETY: the callback is called with what the header promises it.
    unsafe { call(user, level, target.as_ptr(), text.as_ptr()) }
}

/// Calls back with how much is done; answers what the callback does.
pub(crate) fn tell_progress(
    call: unsafe extern "C" fn(*mut c_void, u64) -> i32,
    user: *mut c_void,
    done: u64,
) -> i32 {
    // SAFETY: the callback is called with what the header promises it.
    unsafe { call(user, done) }
}

/// Calls back with what is damaged.
pub(crate) fn tell_damaged(
    call: unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char),
    user: *mut c_void,
    instance: &str,
    why: &str,
) {
    let (instance, why) = (c_string(instance), c_string(why));
    // SAFETY: the callback is called with what the header promises it.
    unsafe { call(user, instance.as_ptr(), why.as_ptr()) }
}

/// Text that ends with NUL, and has none before.
pub(crate) fn c_string(text: &str) -> std::ffi::CString {
    std::ffi::CString::new(text.replace('\0', " ")).unwrap_or_default()
}

/// Calls back with bytes; answers what the callback does.
pub(crate) fn sink(
    call: unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> i32,
    user: *mut c_void,
    bytes: &[u8],
) -> i32 {
    // SAFETY: the callback is called with what the header promises it.
    unsafe { call(user, bytes.as_ptr().cast(), bytes.len()) }
}

/// Text that was written into an array, up to its NUL or its end; what is no UTF-8 is replaced.
pub(crate) fn text_of(array: &[c_char]) -> String {
    let bytes: Vec<u8> = array
        .iter()
        .map(|&unit| unit as u8)
        .take_while(|&byte| byte != 0)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Asks a hook that may give a reason; answers what it does.
pub(crate) fn ask<T>(
    call: unsafe extern "C" fn(*mut c_void, *const T, *mut c_char) -> i32,
    user: *mut c_void,
    about: &T,
    reason: *mut c_char,
) -> i32 {
    // SAFETY: the hook is called with what the header promises it; `reason` has PACS_REASON_LENGTH bytes.
    unsafe { call(user, about, reason) }
}

/// Asks whether an association is accepted.
pub(crate) fn ask_association<T>(
    call: unsafe extern "C" fn(*mut c_void, *const T) -> i32,
    user: *mut c_void,
    about: &T,
) -> i32 {
    // SAFETY: the hook is called with what the header promises it.
    unsafe { call(user, about) }
}

/// Asks where something goes; answers how many rows were written.
pub(crate) fn ask_routes<T, const LENGTH: usize>(
    call: unsafe extern "C" fn(*mut c_void, *const T, *mut [c_char; LENGTH]) -> u32,
    user: *mut c_void,
    about: &T,
    destinations: &mut [[c_char; LENGTH]],
) -> u32 {
    // SAFETY: the hook is called with what the header promises it, which is room for that many rows.
    unsafe { call(user, about, destinations.as_mut_ptr()) }
}

/// Tells a hook what happened.
pub(crate) fn tell_event<T>(call: unsafe extern "C" fn(*mut c_void, *const T), user: *mut c_void, event: &T) {
    // SAFETY: the hook is called with what the header promises it.
    unsafe { call(user, event) }
}

/// Tells how far a transfer has come; answers what the callback does.
pub(crate) fn tell_counts<T>(
    call: unsafe extern "C" fn(*mut c_void, *const T) -> i32,
    user: *mut c_void,
    counts: &T,
) -> i32 {
    // SAFETY: the callback is called with what the header promises it.
    unsafe { call(user, counts) }
}

/// Hands a match over; answers what the callback does.
pub(crate) fn tell_match<T>(
    call: unsafe extern "C" fn(*mut c_void, *const T) -> i32,
    user: *mut c_void,
    found: *const T,
) -> i32 {
    // SAFETY: the callback is called with what the header promises it: a handle, which nobody follows.
    unsafe { call(user, found) }
}
