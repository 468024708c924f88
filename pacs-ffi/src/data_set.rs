//! Data sets: queries, matches, headers.

use std::ffi::{c_char, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use dicom_core::{Tag, VR};
use pacs_core::DataSet;
use pacs_core::dataset::{Element, Value, json, standard_vr};
use pacs_core::limits::SEQUENCE_DEPTH_MAX;
use pacs_core::query::{AttributePath, AttributeStep, Number};

use crate::context::{Context, pacs_context};
use crate::error::{Failure, pacs_status};
use crate::ffi::{self, give};
use crate::guard::{call, call_shared, close, contained};
use crate::handle::{self, Object};

/// A data set in memory: what a query asks, a match, the header of an instance. Text in it is UTF-8, whatever it was
/// before.
pub struct pacs_data_set {
    _opaque: [u8; 0],
}

/// The object behind it.
pub(crate) struct Set {
    context: Arc<Context>,
    set: Mutex<DataSet>,
}

impl Object for Set {
    type Raw = pacs_data_set;
    const KIND: u8 = 2;
    const NAME: &'static str = "data set";

    fn context(this: &Arc<Self>) -> Arc<Context> {
        Arc::clone(&this.context)
    }
}

impl Set {
    pub(crate) fn new(context: &Arc<Context>, set: DataSet) -> Self {
        Self {
            context: Arc::clone(context),
            set: Mutex::new(set),
        }
    }

    fn lock(&self) -> MutexGuard<'_, DataSet> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is in it now.
    pub(crate) fn copy(&self) -> DataSet {
        self.lock().clone()
    }
}

/// A handle for `set`.
pub(crate) fn handle_for(context: &Arc<Context>, set: DataSet) -> Result<*mut pacs_data_set, Failure> {
    handle::insert(Set::new(context, set))
}

fn tag(tag: u32) -> Tag {
    Tag((tag >> 16) as u16, tag as u16)
}

fn element(set: &DataSet, number: u32) -> Result<&Element, Failure> {
    set.get(tag(number))
        .ok_or_else(|| Failure::new(pacs_status::PACS_NOT_FOUND, "the data set has no such attribute"))
}

fn value(count: usize) -> Failure {
    Failure::new(
        pacs_status::PACS_NOT_FOUND,
        format!("the attribute has {count} values"),
    )
}

/// How deep sequences are nested; what is in a set is never deeper than the limit.
fn depth(set: &DataSet) -> usize {
    let items = set.iter().filter_map(|element| match &element.value {
        Value::Items(items) => Some(items),
        Value::Bytes(_) => None,
    });
    let below = items.map(|items| 1 + items.iter().map(depth).max().unwrap_or(0));
    below.max().unwrap_or(0)
}

/// The VR of these two letters.
fn vr_of(text: &str) -> Result<VR, Failure> {
    text.parse()
        .map_err(|_| Failure::argument("a VR is two letters of PS3.5 6.2"))
}

/// The tag of an attribute, as `0xggggeeee`, by its keyword (`PatientName`) or as text (`00100010`, `(0010,0010)`).
///
/// Does not block. Errors: `PACS_NOT_FOUND` when the dictionary has no such keyword.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_tag(name: *const c_char, tag: *mut u32) -> pacs_status {
    let found = contained(|| {
        let out = ffi::out(tag)?;
        let missing = || Failure::new(pacs_status::PACS_NOT_FOUND, "no attribute has this name");
        let path: AttributePath = ffi::text(name)?.parse().map_err(|_| missing())?;
        match path.steps() {
            [AttributeStep::Standard(Tag(group, element))] => {
                out.set(u32::from(*group) << 16 | u32::from(*element));
                Ok(())
            }
            _ => Err(missing()),
        }
    });
    found.map_or_else(|failure| failure.status, |()| pacs_status::PACS_OK)
}

/// Makes an empty data set. To be freed with `pacs_data_set_free`.
///
/// Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_data_set_new(
    context: *mut pacs_context,
    set: *mut *mut pacs_data_set,
) -> pacs_status {
    call_shared(context, |context: &Arc<Context>| {
        let out = ffi::out(set)?;
        out.set(handle_for(context, DataSet::new())?);
        Ok(())
    })
}

/// Makes a data set from one object of the DICOM JSON Model (PS3.18 annex F). To be freed with
/// `pacs_data_set_free`.
///
/// Does not block. Errors: `PACS_INVALID`; `PACS_UNSUPPORTED` when it names bulk data.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_data_set_from_json(
    context: *mut pacs_context,
    json: *const c_char,
    set: *mut *mut pacs_data_set,
) -> pacs_status {
    call_shared(context, |context: &Arc<Context>| {
        let out = ffi::out(set)?;
        let mut read = json::read(ffi::text(json)?.as_bytes())?;
        let described = read.pop().filter(|_| read.is_empty());
        let described = described
            .ok_or_else(|| Failure::new(pacs_status::PACS_INVALID, "the JSON is not one data set"))?;
        if !described.bulk.is_empty() {
            return Err(Failure::new(
                pacs_status::PACS_UNSUPPORTED,
                "the data set names bulk data",
            ));
        }
        out.set(handle_for(context, described.header)?);
        Ok(())
    })
}

/// Frees a data set; null is nothing to do.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_data_set_free(set: *mut pacs_data_set) -> pacs_status {
    close::<Set>(set)
}

/// Puts an attribute, in place of one that is there. `text` has several values with `\` between them, numbers in
/// decimal; empty or null for an attribute without a value, as a return key of a query is. `vr` is two letters, or
/// null for what the Standard gives the attribute (UN where it doesn't know it).
///
/// Does not block. Errors: `PACS_INVALID` when the text is nothing that the VR can hold.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_data_set_put(
    set: *mut pacs_data_set,
    tag: u32,
    vr: *const c_char,
    text: *const c_char,
) -> pacs_status {
    call(set, |set: &Set| {
        let at = self::tag(tag);
        let vr = match ffi::optional_text(vr)? {
            Some(vr) => vr_of(vr)?,
            None => standard_vr(at).unwrap_or(VR::UN),
        };
        let text = ffi::optional_text(text)?.unwrap_or_default();
        if vr == VR::SQ && text.is_empty() {
            set.lock().put_items(at, Vec::new());
        } else {
            set.lock().put(Element::from_text(at, vr, text)?);
        }
        Ok(())
    })
}

/// Puts an attribute with these bytes as its value, little endian.
///
/// Does not block. Errors: `PACS_INVALID` for a sequence.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_data_set_put_bytes(
    set: *mut pacs_data_set,
    tag: u32,
    vr: *const c_char,
    bytes: *const c_void,
    length: usize,
) -> pacs_status {
    call(set, |set: &Set| {
        let vr = vr_of(ffi::text(vr)?)?;
        if vr == VR::SQ {
            return Err(Failure::new(pacs_status::PACS_INVALID, "a sequence has items"));
        }
        let value = Value::Bytes(Bytes::copy_from_slice(ffi::bytes(bytes, length)?));
        set.lock().put(Element {
            tag: self::tag(tag),
            vr,
            value,
        });
        Ok(())
    })
}

/// Adds an item to a sequence, which is made where it isn't there: a copy of `item`.
///
/// Does not block. Errors: `PACS_INVALID` when the attribute is there and no sequence, or sequences are nested too deep.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_data_set_add_item(
    set: *mut pacs_data_set,
    tag: u32,
    item: *const pacs_data_set,
) -> pacs_status {
    call(set, |set: &Set| {
        // Not while the other one is locked: it may be the same.
        let item = handle::get::<Set>(item)?.copy();
        if depth(&item) >= SEQUENCE_DEPTH_MAX {
            return Err(Failure::new(
                pacs_status::PACS_INVALID,
                "sequences are nested too deep",
            ));
        }
        let at = self::tag(tag);
        let mut set = set.lock();
        let items = match set.get(at).map(|element| &element.value) {
            None => vec![item],
            Some(Value::Items(items)) => items.iter().cloned().chain([item]).collect(),
            Some(Value::Bytes(_)) => {
                return Err(Failure::new(
                    pacs_status::PACS_INVALID,
                    "the attribute is no sequence",
                ));
            }
        };
        set.put_items(at, items);
        Ok(())
    })
}

/// Takes an attribute away; it may be missing.
///
/// Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_data_set_remove(set: *mut pacs_data_set, tag: u32) -> pacs_status {
    call(set, |set: &Set| {
        set.lock().remove(self::tag(tag));
        Ok(())
    })
}

/// How many attributes a data set has at its top level.
///
/// Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_data_set_size(set: *const pacs_data_set, size: *mut usize) -> pacs_status {
    call(set, |set: &Set| {
        let out = ffi::out(size)?;
        out.set(set.lock().len());
        Ok(())
    })
}

/// The tag and the VR of the attribute at `position`, from 0, in ascending order of tags. `vr` is room for 3 bytes, or
/// null.
///
/// Does not block. Errors: `PACS_END` behind the last one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_data_set_at(
    set: *const pacs_data_set,
    position: usize,
    tag: *mut u32,
    vr: *mut c_char,
) -> pacs_status {
    call(set, |set: &Set| {
        let out = ffi::out(tag)?;
        let set = set.lock();
        let element = set.iter().nth(position).ok_or_else(Failure::end)?;
        out.set(u32::from(element.tag.0) << 16 | u32::from(element.tag.1));
        if !vr.is_null() {
            ffi::out(vr.cast::<[c_char; 3]>())?.set(ffi::fill(element.vr.to_string()));
        }
        Ok(())
    })
}

/// How many values an attribute has, or items where it is a sequence. An attribute without a value has 0.
///
/// Does not block. Errors: `PACS_NOT_FOUND` when the attribute is missing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_data_set_count(
    set: *const pacs_data_set,
    tag: u32,
    count: *mut usize,
) -> pacs_status {
    call(set, |set: &Set| {
        let out = ffi::out(count)?;
        let set = set.lock();
        let element = element(&set, tag)?;
        out.set(match &element.value {
            Value::Items(items) => items.len(),
            Value::Bytes(_) => element.texts().len(),
        });
        Ok(())
    })
}

/// A value of an attribute as text in UTF-8, with NUL behind it. `index` counts from 0. `length` becomes its length
/// without the NUL, also when it doesn't fit; it may be null, and so may `buffer` where `capacity` is 0.
///
/// Does not block. Errors: `PACS_NOT_FOUND` when there is no such value, `PACS_BUFFER_TOO_SMALL`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_data_set_text(
    set: *const pacs_data_set,
    tag: u32,
    index: usize,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
) -> pacs_status {
    call(set, |set: &Set| {
        let texts = element(&set.lock(), tag)?.texts();
        let text = texts.get(index).ok_or_else(|| value(texts.len()))?;
        give(text.as_bytes(), true, buffer.cast(), capacity, length)
    })
}

fn number(set: &Set, tag: u32, index: usize) -> Result<Number, Failure> {
    let set = set.lock();
    let element = element(&set, tag)?;
    let numbers = element.numbers();
    match numbers.get(index) {
        Some(number) => Ok(*number),
        None if index < element.texts().len() => {
            Err(Failure::new(pacs_status::PACS_INVALID, "the value is no number"))
        }
        None => Err(value(numbers.len())),
    }
}

/// A value of an attribute as a whole number: of IS, US, SS, UL, SL, UV, SV, AT, and of DS where it is one.
///
/// Does not block. Errors: `PACS_NOT_FOUND` when there is no such value, `PACS_INVALID` when it is no number, not whole
/// or too large.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_data_set_integer(
    set: *const pacs_data_set,
    tag: u32,
    index: usize,
    number: *mut i64,
) -> pacs_status {
    call(set, |set: &Set| {
        let out = ffi::out(number)?;
        let not_whole = || {
            Failure::new(
                pacs_status::PACS_INVALID,
                "the value is no whole number of 64 bits",
            )
        };
        match self::number(set, tag, index)? {
            Number::Integer(whole) => out.set(i64::try_from(whole).map_err(|_| not_whole())?),
            // Every double of this size that has no fraction is a whole number of 64 bits.
            Number::Float(float) if float.fract() == 0.0 && float.abs() < 9.0e18 => out.set(float as i64),
            Number::Float(_) => return Err(not_whole()),
        }
        Ok(())
    })
}

/// A value of an attribute as a number: of DS, FL, FD and of what `pacs_data_set_integer` takes.
///
/// Does not block. Errors: `PACS_NOT_FOUND` when there is no such value, `PACS_INVALID` when it is no number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_data_set_double(
    set: *const pacs_data_set,
    tag: u32,
    index: usize,
    number: *mut f64,
) -> pacs_status {
    call(set, |set: &Set| {
        let out = ffi::out(number)?;
        match self::number(set, tag, index)? {
            Number::Integer(whole) => out.set(whole as f64),
            Number::Float(float) => out.set(float),
        }
        Ok(())
    })
}

/// The bytes of an attribute's value, all values together, little endian; text as UTF-8. `length` becomes how many
/// they are, also when they don't fit; it may be null, and so may `buffer` where `capacity` is 0.
///
/// Does not block. Errors: `PACS_NOT_FOUND`, `PACS_BUFFER_TOO_SMALL`, `PACS_INVALID` for a sequence.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_data_set_bytes(
    set: *const pacs_data_set,
    tag: u32,
    buffer: *mut c_void,
    capacity: usize,
    length: *mut usize,
) -> pacs_status {
    call(set, |set: &Set| {
        let set = set.lock();
        let element = element(&set, tag)?;
        if let Value::Items(_) = element.value {
            return Err(Failure::new(pacs_status::PACS_INVALID, "a sequence has items"));
        }
        give(element.bytes(), false, buffer, capacity, length)
    })
}

/// An item of a sequence, as a data set of its own. `index` counts from 0. To be freed with `pacs_data_set_free`.
///
/// Does not block. Errors: `PACS_NOT_FOUND` when there is no such item.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_data_set_item(
    set: *const pacs_data_set,
    tag: u32,
    index: usize,
    item: *mut *mut pacs_data_set,
) -> pacs_status {
    call(set, |set: &Set| {
        let out = ffi::out(item)?;
        let found = set.lock().items(self::tag(tag)).get(index).cloned();
        let found =
            found.ok_or_else(|| Failure::new(pacs_status::PACS_NOT_FOUND, "there is no such item"))?;
        out.set(handle_for(&set.context, found)?);
        Ok(())
    })
}

/// The data set in the DICOM JSON Model (PS3.18 annex F), UTF-8 with NUL behind it. `length` as for
/// `pacs_data_set_text`.
///
/// Does not block. Errors: `PACS_BUFFER_TOO_SMALL`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_data_set_json(
    set: *const pacs_data_set,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
) -> pacs_status {
    call(set, |set: &Set| {
        let mut text = Vec::new();
        json::write(&set.lock(), &[], &|_| String::new(), &mut text);
        give(&text, true, buffer.cast(), capacity, length)
    })
}
