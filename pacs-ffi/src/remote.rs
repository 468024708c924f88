//! Calls to peers: C-ECHO, C-FIND, C-MOVE, C-GET.

use std::collections::BTreeSet;
use std::ffi::{c_char, c_void};
use std::sync::Arc;

use futures::channel::mpsc;
use futures::future::{Either, select};
use futures::stream::BoxStream;
use futures::{SinkExt as _, TryStreamExt as _};
use pacs_core::query::Model;
use pacs_core::{AeTitle, DataSet, Error, ErrorKind, Level, Result as CoreResult, Uid, VR, tags};
use pacs_net::dimse::{Category, Client, CommandField, Status};
use pacs_net::scp::{PacsServices, ScpOptions};
use pacs_net::scu::{self, Progress, Remote, query_proposal, receiving};

use crate::context::{Context, pacs_context};
use crate::data_set::{Set, handle_for, pacs_data_set};
use crate::engine::{Engine, pacs_engine};
use crate::error::{Failure, pacs_status};
use crate::ffi::{self, Sized_};
use crate::find::level;
use crate::guard::{call, call_shared, may_change};
use crate::handle;
use crate::operation::{COUNTS_WAITING, Ends, counting, ended, pacs_counts, pacs_operation};

/// A peer application entity.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pacs_remote {
    /// `sizeof(pacs_remote)`.
    pub struct_size: usize,
    /// Its host name or address.
    pub host: *const c_char,
    /// Its AE title.
    pub called_ae: *const c_char,
    /// What we are called.
    pub calling_ae: *const c_char,
    /// Its TCP port.
    pub port: u16,
    /// Zero.
    pub reserved: [u16; 3],
}

// SAFETY: it begins with its size, and all zero is valid to be read.
unsafe impl Sized_ for pacs_remote {
    const FIRST_SIZE: usize = 40;
}

pub(crate) fn remote(given: *const pacs_remote) -> Result<Remote, Failure> {
    let given = ffi::sized(given)?;
    if given.reserved != [0; 3] {
        return Err(Failure::argument("reserved is zero"));
    }
    let title = |text| -> Result<AeTitle, Failure> { Ok(AeTitle::parse(ffi::text(text)?)?) };
    let (called, calling) = (title(given.called_ae)?, title(given.calling_ae)?);
    Ok(Remote::new(ffi::text(given.host)?, given.port, called, calling))
}

/// Verification (PS3.4 annex A). `dimse_status`, which may be null, becomes what the peer answered; 0 is success.
/// `operation` may be null.
///
/// Blocks. Errors: `PACS_IO` when the peer can't be reached, `PACS_REFUSED` when it rejects the association or answers
/// a failure, `PACS_TIMED_OUT`, `PACS_CANCELLED`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_remote_echo(
    context: *mut pacs_context,
    remote: *const pacs_remote,
    operation: *const pacs_operation,
    dimse_status: *mut u16,
) -> pacs_status {
    call(context, |context: &Context| {
        let (remote, (ends, _)) = (self::remote(remote)?, Ends::read(operation)?);
        let cancelled = ends.cancelled();
        let echo = async move {
            match select(Box::pin(remote.echo()), cancelled).await {
                Either::Left((status, _)) => status,
                Either::Right(_) => Err(ended(ErrorKind::Cancelled, "it was cancelled")),
            }
        };
        let status = context.run(ends.around(echo))??;
        if !dimse_status.is_null() {
            ffi::out(dimse_status)?.set(status.0);
        }
        answered(status, None)
    })
}

/// That the peer answered success, or a warning.
pub(crate) fn answered(status: Status, comment: Option<&str>) -> Result<(), Failure> {
    match status.category() {
        Category::Success | Category::Warning => Ok(()),
        _ if status == Status::CANCEL => Err(ended(ErrorKind::Cancelled, "it was cancelled").into()),
        _ => {
            let comment = comment.unwrap_or("no comment");
            let text = format!("the peer answered {status}: {comment}");
            Err(Error::new(ErrorKind::Refused, "remote.call", text).into())
        }
    }
}

/// The information model of a query (PS3.4 C.6): a number that calls take as `int32_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pacs_model {
    /// Study Root.
    PACS_MODEL_STUDY_ROOT = 0,
    /// Patient Root.
    PACS_MODEL_PATIENT_ROOT = 1,
}

fn model(number: i32) -> Result<Model, Failure> {
    match number {
        0 => Ok(Model::StudyRoot),
        1 => Ok(Model::PatientRoot),
        _ => Err(Failure::argument("a model is one of pacs_model")),
    }
}

/// Takes a match, which is valid during the call. Another answer than 0 cancels the query. On the thread of the call.
pub type pacs_matched = Option<unsafe extern "C" fn(user: *mut c_void, found: *const pacs_data_set) -> i32>;

/// What is asked, as the calls take it.
fn asked(level: i32, keys: *const pacs_data_set) -> Result<(Level, DataSet), Failure> {
    let level = self::level(level)?;
    Ok((level, scu::identifier(level, &handle::get::<Set>(keys)?.copy())))
}

/// Asks a peer (C-FIND, PS3.4 C.4.1). `model` is a `pacs_model`, `level` a `pacs_level`; `keys` has matching keys, with a
/// value, and return keys, without one. `matched` is called with each match, and given `user`. `operation` may be null.
///
/// Blocks. Errors: as `pacs_remote_echo`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_remote_find(
    context: *mut pacs_context,
    remote: *const pacs_remote,
    operation: *const pacs_operation,
    model: i32,
    level: i32,
    keys: *const pacs_data_set,
    matched: pacs_matched,
    user: *mut c_void,
) -> pacs_status {
    call_shared(context, |context: &Arc<Context>| {
        let (remote, (ends, _)) = (self::remote(remote)?, Ends::read(operation)?);
        let matched = matched.ok_or_else(|| Failure::argument("the callback is null"))?;
        let (model, (_, identifier)) = (self::model(model)?, asked(level, keys)?);
        // One at a time: the peer is slowed down to the caller's pace.
        let (mut found, matches) = mpsc::channel(0);
        let cancelled = ends.cancelled();
        let ask = async move {
            let proposal = query_proposal(&remote, model, CommandField::C_FIND);
            let client = remote.client(&proposal).await?;
            let mut answers = scu::find_until(&client, model, &identifier, cancelled).await?;
            while let Some(answer) = answers.try_next().await? {
                if found.send(answer).await.is_err() {
                    return Err(ended(ErrorKind::Cancelled, "nobody waits for the matches"));
                }
            }
            drop(answers);
            release(&client).await;
            Ok(())
        };
        let mut failed = None;
        let stop = ends.stop.clone();
        context.run_with(ends.around(ask), matches, |set: DataSet| {
            // After the callback has said no, what is still on its way is passed over.
            if *stop.borrow() {
                return;
            }
            let lent = match handle_for(context, set) {
                Ok(lent) => lent,
                Err(failure) => {
                    failed = Some(failure);
                    stop.send_replace(true);
                    return;
                }
            };
            if ffi::tell_match(matched, user, lent) != 0 {
                stop.send_replace(true);
            }
            // A callback that freed it was wrong, and has done no harm.
            let _ = handle::take::<Set>(lent);
        })??;
        match failed {
            Some(failure) => Err(failure),
            None if *stop.borrow() => Err(ended(ErrorKind::Cancelled, "the callback cancelled it").into()),
            None => Ok(()),
        }
    })
}

/// Ends an association in good order; what was asked has been answered, so that its failure counts for nothing.
async fn release(client: &Client) {
    if let Err(error) = client.release().await {
        tracing::debug!(%error, "a release was not answered");
    }
}

/// Passes on how far a retrieval comes; answers its end.
async fn watch(
    mut progress: BoxStream<'static, CoreResult<Progress>>,
    mut counts: mpsc::Sender<pacs_counts>,
) -> CoreResult<Progress> {
    let mut last = None;
    while let Some(now) = progress.try_next().await? {
        // Where the caller is slow, it is told of a later one.
        let _ = counts.try_send(pacs_counts::of(&now));
        last = Some(now);
    }
    last.ok_or_else(|| {
        ended(
            ErrorKind::Closed,
            "the association ended before the final response",
        )
    })
}

/// Gives the counts at the end, also where not all went well.
fn finish(last: &Progress, result: Option<ffi::OutSized<pacs_counts>>) -> Result<(), Failure> {
    if let Some(result) = result {
        result.set(pacs_counts::of(last));
    }
    answered(last.status, last.comment.as_deref())
}

/// Has a peer send what matches to a destination (C-MOVE, PS3.4 C.4.2). `model`, `level` and `keys` as for
/// `pacs_remote_find`; the keys name what is to be sent by its UIDs. `destination` is an AE title that the peer knows.
/// `result`, which may be null, becomes what came of it, also when the call fails with `PACS_REFUSED` or
/// `PACS_CANCELLED` by the peer's answer. `operation` may be null.
///
/// Blocks. Errors: as `pacs_remote_echo`. Some instances that could not be sent are no error but stand in `result`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_remote_move(
    context: *mut pacs_context,
    remote: *const pacs_remote,
    operation: *const pacs_operation,
    model: i32,
    level: i32,
    keys: *const pacs_data_set,
    destination: *const c_char,
    result: *mut pacs_counts,
) -> pacs_status {
    call(context, |context: &Context| {
        let result = ffi::optional_out_sized(result)?;
        let (remote, (ends, operation)) = (self::remote(remote)?, Ends::read(operation)?);
        let (model, (_, identifier)) = (self::model(model)?, asked(level, keys)?);
        let destination = AeTitle::parse(ffi::text(destination)?)?;
        let (counts, told) = mpsc::channel(COUNTS_WAITING);
        let cancelled = ends.cancelled();
        let ask = async move {
            let client = remote
                .client(&query_proposal(&remote, model, CommandField::C_MOVE))
                .await?;
            let progress = scu::move_until(&client, model, &identifier, &destination, cancelled).await?;
            let last = watch(progress, counts).await?;
            release(&client).await;
            Ok(last)
        };
        let last = context.run_with(ends.around(ask), told, counting(&ends, operation))??;
        finish(&last, result)
    })
}

/// Fetches what matches into an engine (C-GET, PS3.4 C.4.3); each instance that the peer is told to be stored is kept
/// as by `pacs_store`. `model`, `level` and `keys` as for `pacs_remote_move`, `result` as well. `operation` may be null.
///
/// Blocks. Errors: as `pacs_remote_move`; `PACS_REFUSED` in a callback that the engine waits for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_remote_get(
    engine: *mut pacs_engine,
    remote: *const pacs_remote,
    operation: *const pacs_operation,
    model: i32,
    level: i32,
    keys: *const pacs_data_set,
    result: *mut pacs_counts,
) -> pacs_status {
    call(engine, |engine: &Engine| {
        may_change()?;
        let result = ffi::optional_out_sized(result)?;
        let (remote, (ends, operation)) = (self::remote(remote)?, Ends::read(operation)?);
        let (model, (_, identifier)) = (self::model(model)?, asked(level, keys)?);
        let (counts, told) = mpsc::channel(COUNTS_WAITING);
        let (cancelled, pacs) = (ends.cancelled(), engine.pacs.clone());
        let fetch = async move {
            // Only a help: without it the usual classes are proposed.
            let classes = sop_classes(&remote, model, &identifier).await.unwrap_or_default();
            let proposal = query_proposal(&remote, model, CommandField::C_GET).with_asynchronous(1, 0);
            let association = remote.connect(&receiving(proposal, &classes)).await?;
            let mut options = ScpOptions::new(remote.calling);
            options.any_sop_class = true;
            let client = Client::start(association, Arc::new(PacsServices::new(pacs, options)));
            let progress = scu::retrieve_until(&client, model, &identifier, cancelled).await?;
            let last = watch(progress, counts).await?;
            release(&client).await;
            Ok(last)
        };
        let last = engine
            .context
            .run_with(ends.around(fetch), told, counting(&ends, operation))??;
        finish(&last, result)
    })
}

/// The SOP classes of what matches, where the peer can tell.
async fn sop_classes(remote: &Remote, model: Model, identifier: &DataSet) -> CoreResult<BTreeSet<Uid>> {
    let asked = [tags::SOP_CLASSES_IN_STUDY, tags::SOP_CLASS_UID];
    let mut identifier = identifier.clone();
    for tag in asked {
        identifier.put_text(tag, VR::UI, "");
    }
    let client = remote
        .client(&query_proposal(remote, model, CommandField::C_FIND))
        .await?;
    let found: Vec<DataSet> = scu::find(&client, model, &identifier)
        .await?
        .try_collect()
        .await?;
    release(&client).await;
    let mut classes = BTreeSet::new();
    for set in &found {
        let values = asked.iter().flat_map(|tag| set.strings(*tag));
        let of_match: Vec<Uid> = values.filter_map(|value| Uid::parse(value).ok()).collect();
        if of_match.is_empty() {
            // Of some it is not known: then of all.
            return Ok(BTreeSet::new());
        }
        classes.extend(of_match);
    }
    Ok(classes)
}
