//! Correcting attributes of what is kept.

use std::ffi::{c_char, c_void};

use futures::future::BoxFuture;
use pacs_core::engine::block_on;
use pacs_core::{Amended, Pacs, Source};

use crate::data_set::{Set, pacs_data_set};
use crate::engine::{Engine, pacs_damaged, pacs_engine};
use crate::error::{Failure, pacs_status};
use crate::ffi;
use crate::guard::{call, may_change};
use crate::handle;
use crate::instance::scope;
use crate::store::{pacs_source, source};

/// What an amendment came to.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pacs_amended {
    /// `sizeof(pacs_amended)`, set by the caller.
    pub struct_size: usize,
    /// Instances that leave with other values than before.
    pub amended: u64,
    /// Instances that had these values already.
    pub unchanged: u64,
    /// Instances that stay as they were because they could not be amended.
    pub failed: u64,
}

/// Corrects attributes of everything that is kept of a patient, a study or a series, or of one instance: what is in
/// `wanted`, with or without a value, takes the place of what they have. Queries find the new values and not the old
/// ones; the instances leave with them, and with what they had before in Original Attributes Sequence (0400,0561;
/// reason CORRECT). The stored bytes never change: each amended instance is kept once more, and its earlier version
/// stays. The UIDs that say which instance it is, Specific Character Set, what describes the pixels, and private
/// attributes can't be amended; what is searched of patient and study is amended for a whole study at least, and what is
/// searched of a series for all of it.
///
/// It returns `PACS_OK` also when some of the instances, or all, could not be amended: look at `amended->failed`. So it is
/// with an instance in a deflated transfer syntax, and with a value that the instance's character set can't say; one in
/// plain ASCII leaves in UTF-8 then. A patient whose studies are amended one by one is known by what was amended last.
/// What was amended goes nowhere by itself: send it again when `PACS_EVENT_AMENDED` tells.
///
/// `source`, which may be null, is who amends: its called AE title stands as Modifying System (0400,0563); `level` is a `pacs_level` other than `PACS_LEVEL_ALL`. `failed`, which
/// may be null, is called with `user` at the end for the first thousand instances that could not be amended, and why:
/// one that can't costs no other.
///
/// Blocks: every instance is amended durably, each for itself. Where it is broken off, some are and some are not, and
/// the same call again does the rest. Errors: `PACS_INVALID` when nothing is wanted, something that can't be amended, a
/// value that the attribute can't have (PS3.5 6.2), or no Patient ID; `PACS_NOT_FOUND` when nothing of it is kept; what the archive or the index says; `PACS_REFUSED` in a hook.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_engine_amend(
    engine: *mut pacs_engine,
    source: *const pacs_source,
    level: i32,
    id: *const c_char,
    wanted: *const pacs_data_set,
    failed: pacs_damaged,
    user: *mut c_void,
    amended: *mut pacs_amended,
) -> pacs_status {
    amend(engine, source, failed, user, amended, |pacs, source| {
        let scope = scope(level, ffi::optional_text(id)?)?;
        let wanted = handle::get::<Set>(wanted)?.copy();
        Ok(Box::pin(async move { pacs.amend(source, scope, wanted).await }))
    })
}

/// Makes one patient of two, as when it turns out that both are one person: everything that is kept under the Patient
/// ID `prior` is amended to all that is searched of the patient `surviving` (Patient ID, name, birth date, sex, other
/// IDs and the like), as `pacs_engine_amend` does it. What of that is known of the prior one only, it loses. A call that
/// was broken off is finished by the same call again, also when no patient `prior` is left; one that was finished
/// changes nothing.
///
/// Blocks. Errors: `PACS_NOT_FOUND` when nothing of one of the two is kept, and never was amended from the one to the
/// other; `PACS_INVALID` when they are the same;
/// otherwise as `pacs_engine_amend`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_engine_merge_patients(
    engine: *mut pacs_engine,
    source: *const pacs_source,
    prior: *const c_char,
    surviving: *const c_char,
    failed: pacs_damaged,
    user: *mut c_void,
    amended: *mut pacs_amended,
) -> pacs_status {
    amend(engine, source, failed, user, amended, |pacs, source| {
        let (prior, surviving) = (ffi::text(prior)?.into(), ffi::text(surviving)?.into());
        Ok(Box::pin(async move {
            pacs.merge_patients(source, &prior, &surviving).await
        }))
    })
}

fn amend(
    engine: *mut pacs_engine,
    by: *const pacs_source,
    failed: pacs_damaged,
    user: *mut c_void,
    amended: *mut pacs_amended,
    make: impl for<'a> FnOnce(&'a Pacs, &'a Source) -> Result<BoxFuture<'a, pacs_core::Result<Amended>>, Failure>,
) -> pacs_status {
    call(engine, |engine: &Engine| {
        may_change()?;
        let (out, source) = (ffi::out_sized(amended)?, self::source(by)?);
        let done = block_on(make(&engine.pacs, &source)?)?;
        if let Some(tell) = failed {
            for (key, why) in &done.first_failed {
                ffi::tell_damaged(tell, user, key.instance.as_str(), &why.to_string());
            }
        }
        out.set(pacs_amended {
            struct_size: size_of::<pacs_amended>(),
            amended: done.amended,
            unchanged: done.unchanged,
            failed: done.failed,
        });
        Ok(())
    })
}
