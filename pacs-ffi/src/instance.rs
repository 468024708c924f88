//! Instances: what is known of one, walking over many, reading.

use std::ffi::{c_char, c_void};
use std::sync::{Arc, Mutex};

use bytes::{Buf as _, Bytes};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use pacs_core::engine::block_on;
use pacs_core::{Error, InstanceRecord, Pacs, Result as CoreResult, Scope, Uid};

use crate::context::Context;
use crate::data_set::{handle_for, pacs_data_set};
use crate::engine::{Engine, pacs_engine};
use crate::error::{Failure, pacs_status};
use crate::ffi::{self, fill};
use crate::guard::{alone, call, call_out, close};
use crate::handle::{self, Object};
use crate::store::{PACS_UID_LENGTH, pacs_source, source};

/// An instance that is kept, as it was when it was looked up. May be used from any thread, and from many at once.
pub struct pacs_instance {
    _opaque: [u8; 0],
}

/// The object behind it.
pub(crate) struct Instance {
    pub(crate) context: Arc<Context>,
    pub(crate) pacs: Pacs,
    pub(crate) record: InstanceRecord,
}

impl Object for Instance {
    type Raw = pacs_instance;
    const KIND: u8 = 6;
    const NAME: &'static str = "instance";

    fn context(this: &Arc<Self>) -> Arc<Context> {
        Arc::clone(&this.context)
    }
}

/// Reads a level and what names an entity of it.
pub(crate) fn scope(level: i32, id: Option<&str>) -> Result<Scope, Failure> {
    let id = |what| id.ok_or_else(|| Failure::argument(format!("{what} is missing")));
    Ok(match level {
        0 => Scope::All,
        1 => Scope::Patient(id("a Patient ID")?.to_owned()),
        2 => Scope::Study(Uid::parse(id("a Study Instance UID")?)?),
        3 => Scope::Series(Uid::parse(id("a Series Instance UID")?)?),
        4 => Scope::Instance(Uid::parse(id("a SOP Instance UID")?)?),
        _ => return Err(Failure::argument("a level is one of pacs_level")),
    })
}

/// Looks up an instance. To be freed with `pacs_instance_free`.
///
/// Blocks shortly. Errors: `PACS_NOT_FOUND`; what the index says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_lookup(
    engine: *const pacs_engine,
    sop_instance_uid: *const c_char,
    instance: *mut *mut pacs_instance,
) -> pacs_status {
    call(engine, |engine: &Engine| {
        let out = ffi::out(instance)?;
        let uid = Uid::parse(ffi::text(sop_instance_uid)?)?;
        let record = block_on(engine.pacs.lookup(&uid))?;
        let record = record.ok_or_else(|| Failure::new(pacs_status::PACS_NOT_FOUND, "no such instance"))?;
        out.set(handle::insert(Instance {
            context: Arc::clone(&engine.context),
            pacs: engine.pacs.clone(),
            record,
        })?);
        Ok(())
    })
}

/// Frees an instance's handle; null is nothing to do. The instance stays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_instance_free(instance: *mut pacs_instance) -> pacs_status {
    close::<Instance>(instance)
}

/// What is known of an instance.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pacs_instance_info {
    /// `sizeof(pacs_instance_info)`, set by the caller.
    pub struct_size: usize,
    /// Study Instance UID.
    pub study: [c_char; PACS_UID_LENGTH],
    /// Series Instance UID.
    pub series: [c_char; PACS_UID_LENGTH],
    /// SOP Instance UID.
    pub instance: [c_char; PACS_UID_LENGTH],
    /// SOP Class UID.
    pub sop_class: [c_char; PACS_UID_LENGTH],
    /// Transfer Syntax UID, as it is stored.
    pub transfer_syntax: [c_char; PACS_UID_LENGTH],
    /// Bytes of the stored file.
    pub length: u64,
    /// Where in it the data set begins.
    pub data_set_offset: u64,
    /// When it was stored, in milliseconds since 1970-01-01 UTC.
    pub received: u64,
    /// Earlier versions that are kept.
    pub earlier_versions: u64,
}

/// What is known of an instance.
///
/// Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_instance_get_info(
    instance: *const pacs_instance,
    info: *mut pacs_instance_info,
) -> pacs_status {
    call(instance, |instance: &Instance| {
        let record = &instance.record;
        ffi::out_sized(info)?.set(pacs_instance_info {
            struct_size: size_of::<pacs_instance_info>(),
            study: fill(record.key.study.as_str()),
            series: fill(record.key.series.as_str()),
            instance: fill(record.key.instance.as_str()),
            sop_class: fill(record.sop_class.as_str()),
            transfer_syntax: fill(record.transfer_syntax.as_str()),
            length: record.length,
            data_set_offset: record.data_set_offset,
            received: record.received.0,
            earlier_versions: record.superseded.len() as u64,
        });
        Ok(())
    })
}

/// All attributes of an instance but its bulk data, as it leaves: what was coerced is in place of what came. `source`,
/// which may be null, is who asks. To be freed with `pacs_data_set_free`.
///
/// Blocks. Errors: what a hook or the archive says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_instance_header(
    instance: *const pacs_instance,
    source: *const pacs_source,
    header: *mut *mut pacs_data_set,
) -> pacs_status {
    call(instance, |instance: &Instance| {
        let out = ffi::out(header)?;
        admit(instance, source)?;
        let metadata = block_on(instance.pacs.metadata(&instance.record))?;
        out.set(handle_for(&instance.context, metadata.header.clone())?);
        Ok(())
    })
}

/// Instances, one after the other. From one thread at a time.
pub struct pacs_instances {
    _opaque: [u8; 0],
}

/// The object behind it.
struct Instances {
    context: Arc<Context>,
    pacs: Pacs,
    stream: Mutex<BoxStream<'static, CoreResult<InstanceRecord>>>,
}

impl Object for Instances {
    type Raw = pacs_instances;
    const KIND: u8 = 7;
    const NAME: &'static str = "instance iterator";

    fn context(this: &Arc<Self>) -> Arc<Context> {
        Arc::clone(&this.context)
    }
}

/// Walks over everything that is kept, or over what is of one patient, study or series; the instances of one series
/// come together. `level` is a `pacs_level`, `id` what names the entity, null for `PACS_LEVEL_ALL`. To be freed with
/// `pacs_instances_free`. What is stored meanwhile may or may not be seen.
///
/// Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_walk(
    engine: *const pacs_engine,
    level: i32,
    id: *const c_char,
    instances: *mut *mut pacs_instances,
) -> pacs_status {
    call(engine, |engine: &Engine| {
        let out = ffi::out(instances)?;
        let scope = scope(level, ffi::optional_text(id)?)?;
        out.set(handle::insert(Instances {
            context: Arc::clone(&engine.context),
            pacs: engine.pacs.clone(),
            stream: Mutex::new(engine.pacs.instances(scope).fuse().boxed()),
        })?);
        Ok(())
    })
}

/// The next instance, to be freed with `pacs_instance_free`.
///
/// Blocks shortly. Errors: `PACS_END` behind the last one; what the index says, after which there is no more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_instances_next(
    instances: *mut pacs_instances,
    instance: *mut *mut pacs_instance,
) -> pacs_status {
    call(instances, |instances: &Instances| {
        let out = ffi::out(instance)?;
        let mut stream = alone(&instances.stream)?;
        let record = block_on(stream.next()).ok_or_else(Failure::end)??;
        out.set(handle::insert(Instance {
            context: Arc::clone(&instances.context),
            pacs: instances.pacs.clone(),
            record,
        })?);
        Ok(())
    })
}

/// Frees an iterator, at its end or before; null is nothing to do.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_instances_free(instances: *mut pacs_instances) -> pacs_status {
    close::<Instances>(instances)
}

/// In which form an instance is read: a number that calls take as `int32_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pacs_form {
    /// The file as it leaves: with what was coerced in place of what came, and where nothing was, the stored bytes.
    PACS_FORM_FILE = 0,
    /// The data set alone, as it leaves.
    PACS_FORM_DATA_SET = 1,
    /// The file as it is stored, whatever was coerced.
    PACS_FORM_STORED = 2,
}

/// Bytes that are read piece by piece. From one thread at a time.
pub struct pacs_reader {
    _opaque: [u8; 0],
}

/// The object behind it.
pub(crate) struct Reader {
    context: Arc<Context>,
    state: Mutex<Reading>,
}

struct Reading {
    pieces: BoxStream<'static, CoreResult<Bytes>>,
    /// What is left of the last piece.
    rest: Bytes,
    /// What came instead of a piece, when others were to be handed over first.
    failed: Option<Error>,
}

impl Reader {
    pub(crate) fn new(context: &Arc<Context>, pieces: BoxStream<'static, CoreResult<Bytes>>) -> Self {
        Self {
            context: Arc::clone(context),
            state: Mutex::new(Reading {
                pieces: pieces.fuse().boxed(),
                rest: Bytes::new(),
                failed: None,
            }),
        }
    }
}

impl Object for Reader {
    type Raw = pacs_reader;
    const KIND: u8 = 8;
    const NAME: &'static str = "reader";

    fn context(this: &Arc<Self>) -> Arc<Context> {
        Arc::clone(&this.context)
    }
}

/// Whether who asks may have the instance: access control and the hook decide.
pub(crate) fn admit(instance: &Instance, asking: *const pacs_source) -> Result<(), Failure> {
    let Instance { pacs, record, .. } = instance;
    Ok(block_on(pacs.admit_retrieve(&source(asking)?, record))?)
}

/// Who asks is asked about.
fn pieces(
    instance: &Instance,
    asking: *const pacs_source,
    form: i32,
) -> Result<BoxStream<'static, CoreResult<Bytes>>, Failure> {
    admit(instance, asking)?;
    let Instance { pacs, record, .. } = instance;
    Ok(match form {
        0 => pacs.outgoing_file(record),
        1 => pacs.outgoing_data_set(record),
        2 => pacs.read(record),
        _ => return Err(Failure::argument("a form is one of pacs_form")),
    })
}

/// Opens an instance for reading, from its first byte on. `form` is a `pacs_form`. `source`, which may be null, is who
/// asks. To be freed with `pacs_reader_free`.
///
/// Does not block. Errors: what a hook says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_instance_open(
    instance: *const pacs_instance,
    source: *const pacs_source,
    form: i32,
    reader: *mut *mut pacs_reader,
) -> pacs_status {
    call(instance, |instance: &Instance| {
        let out = ffi::out(reader)?;
        let pieces = pieces(instance, source, form)?;
        out.set(handle::insert(Reader::new(&instance.context, pieces))?);
        Ok(())
    })
}

/// Reads the next bytes: as many as fit, fewer at the end alone. `length` becomes how many they are.
///
/// Blocks. Errors: `PACS_END` when nothing is left; `PACS_CORRUPT` when stored bytes are damaged; what the archive
/// says. After an error there is no more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_reader_read(
    reader: *mut pacs_reader,
    buffer: *mut c_void,
    capacity: usize,
    length: *mut usize,
) -> pacs_status {
    call(reader, |reader: &Reader| {
        let (out, mut room) = (ffi::out(length)?, ffi::room(buffer, capacity)?);
        let mut state = alone(&reader.state)?;
        if let Some(error) = state.failed.take() {
            return Err(error.into());
        }
        let mut filled = 0;
        while filled < room.capacity() {
            if state.rest.is_empty() {
                match block_on(state.pieces.next()) {
                    Some(Ok(piece)) => state.rest = piece,
                    // Not before what came before it.
                    Some(Err(error)) if filled > 0 => {
                        state.failed = Some(error);
                        break;
                    }
                    Some(Err(error)) => return Err(error.into()),
                    None => break,
                }
            }
            let put = room.put(filled, &state.rest);
            state.rest.advance(put);
            filled += put;
        }
        if filled == 0 && room.capacity() > 0 {
            return Err(Failure::end());
        }
        out.set(filled);
        Ok(())
    })
}

/// Frees a reader, at its end or before; null is nothing to do.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_reader_free(reader: *mut pacs_reader) -> pacs_status {
    close::<Reader>(reader)
}

/// Takes the next bytes of what is read; they are valid during the call. Another answer than 0 ends the reading with
/// `PACS_CANCELLED`. On the thread of the call; it may call the library.
pub type pacs_sink =
    Option<unsafe extern "C" fn(user: *mut c_void, bytes: *const c_void, length: usize) -> i32>;

/// Reads a whole instance into a callback. `form` and `source` as for `pacs_instance_open`.
///
/// Blocks. Errors: as `pacs_instance_open` and `pacs_reader_read`, `PACS_CANCELLED`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_instance_read(
    instance: *const pacs_instance,
    source: *const pacs_source,
    form: i32,
    sink: pacs_sink,
    user: *mut c_void,
) -> pacs_status {
    call(instance, |instance: &Instance| {
        let sink = sink.ok_or_else(|| Failure::argument("the callback is null"))?;
        let mut pieces = pieces(instance, source, form)?;
        while let Some(piece) = block_on(pieces.next()) {
            let piece = piece?;
            if call_out(|| ffi::sink(sink, user, &piece)) != 0 {
                return Err(Failure::new(
                    pacs_status::PACS_CANCELLED,
                    "the callback cancelled it",
                ));
            }
        }
        Ok(())
    })
}

/// Reads a range of the stored file: from `offset`, as many bytes as fit or there are. `length` becomes how many they
/// are. An archive holds no checksum against a part of an instance, as a rule.
///
/// Blocks. Errors: `PACS_END` when `offset` is at the end or behind it; what a hook or the archive says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_instance_read_range(
    instance: *const pacs_instance,
    source: *const pacs_source,
    offset: u64,
    buffer: *mut c_void,
    capacity: usize,
    length: *mut usize,
) -> pacs_status {
    call(instance, |instance: &Instance| {
        let (out, mut room) = (ffi::out(length)?, ffi::room(buffer, capacity)?);
        let Instance { pacs, record, .. } = instance;
        admit(instance, source)?;
        if offset >= record.length {
            return Err(Failure::end());
        }
        let end = offset.saturating_add(capacity as u64).min(record.length);
        let mut pieces = pacs.read_range(record, offset..end);
        let mut filled = 0;
        while let Some(piece) = block_on(pieces.next()) {
            filled += room.put(filled, &piece?);
        }
        out.set(filled);
        Ok(())
    })
}
