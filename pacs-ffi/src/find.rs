//! Finding: matches, one after the other.

use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use futures::stream::BoxStream;
use pacs_core::engine::block_on;
use pacs_core::query::{Model, QueryOptions};
use pacs_core::{DataSet, Level, Query, Result as CoreResult, VR, tags};

use crate::context::Context;
use crate::data_set::{Set, handle_for, pacs_data_set};
use crate::engine::{Engine, pacs_engine};
use crate::error::{Failure, pacs_status};
use crate::ffi;
use crate::guard::{alone, call, close};
use crate::handle::{self, Object};
use crate::store::{pacs_source, source};

/// The matches of a query, one after the other. From one thread at a time.
pub struct pacs_matches {
    _opaque: [u8; 0],
}

/// The object behind it.
pub(crate) struct Matches {
    context: Arc<Context>,
    stream: Mutex<BoxStream<'static, CoreResult<DataSet>>>,
}

impl Matches {
    pub(crate) fn new(context: &Arc<Context>, stream: BoxStream<'static, CoreResult<DataSet>>) -> Self {
        Self {
            context: Arc::clone(context),
            stream: Mutex::new(stream.fuse().boxed()),
        }
    }
}

impl Object for Matches {
    type Raw = pacs_matches;
    const KIND: u8 = 5;
    const NAME: &'static str = "match iterator";

    fn context(this: &Arc<Self>) -> Arc<Context> {
        Arc::clone(&this.context)
    }
}

/// Person names also match when they sound or are written alike (PS3.4 C.2.2.2.1.1).
pub const PACS_FIND_FUZZY: u32 = 1;
/// Of several values in one key each must match, not any (PS3.4 C.2.2.2.8).
pub const PACS_FIND_MULTIPLE_VALUES: u32 = 2;
/// A date range and a time range of one pair of attributes are not one range of date-times (PS3.4 C.2.2.2.5.4).
pub const PACS_FIND_SEPARATE_DATE_TIME: u32 = 4;

/// Reads a level that entities can be asked for at.
pub(crate) fn level(number: i32) -> Result<Level, Failure> {
    match number {
        1 => Ok(Level::Patient),
        2 => Ok(Level::Study),
        3 => Ok(Level::Series),
        4 => Ok(Level::Instance),
        _ => Err(Failure::argument(
            "a level is 1 to 4: patient, study, series, instance",
        )),
    }
}

/// Finds the patients, studies, series or instances that match (PS3.4 C.2.2.2, Patient Root, relational). `keys` has
/// matching keys, with a value, and return keys, without one; a match has the keys that were asked for. `flags` are
/// `PACS_FIND_...`, added up. `source`, which may be null, is who asks. To be freed with `pacs_matches_free`.
///
/// Does not block. Errors: `PACS_INVALID` for a key that can't mean anything, what a hook says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_find(
    engine: *const pacs_engine,
    source: *const pacs_source,
    level: i32,
    keys: *const pacs_data_set,
    flags: u32,
    matches: *mut *mut pacs_matches,
) -> pacs_status {
    call(engine, |engine: &Engine| {
        let (out, source) = (ffi::out(matches)?, self::source(source)?);
        if flags & !(PACS_FIND_FUZZY | PACS_FIND_MULTIPLE_VALUES | PACS_FIND_SEPARATE_DATE_TIME) != 0 {
            return Err(Failure::argument("a flag is not known here"));
        }
        let options = QueryOptions {
            relational: true,
            combined_date_time: flags & PACS_FIND_SEPARATE_DATE_TIME == 0,
            fuzzy_person_names: flags & PACS_FIND_FUZZY != 0,
            multiple_values: flags & PACS_FIND_MULTIPLE_VALUES != 0,
        };
        let level = self::level(level)?;
        let mut identifier = handle::get::<Set>(keys)?.copy();
        identifier.put_text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, level.as_str());
        let attributes = engine.pacs.attributes();
        let query = Query::from_identifier(attributes, Model::PatientRoot, &identifier, options)?;
        let found = engine.pacs.find(&source, query)?;
        out.set(handle::insert(Matches::new(&engine.context, found))?);
        Ok(())
    })
}

/// The next match, to be freed with `pacs_data_set_free`.
///
/// Blocks until there is one. Errors: `PACS_END` behind the last one; what the index says, after which there is no
/// more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_matches_next(
    matches: *mut pacs_matches,
    found: *mut *mut pacs_data_set,
) -> pacs_status {
    call(matches, |matches: &Matches| {
        let out = ffi::out(found)?;
        let mut stream = alone(&matches.stream)?;
        let next = block_on(stream.next()).ok_or_else(Failure::end)?;
        out.set(handle_for(&matches.context, next?)?);
        Ok(())
    })
}

/// Frees an iterator, at its end or before; null is nothing to do.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_matches_free(matches: *mut pacs_matches) -> pacs_status {
    close::<Matches>(matches)
}
