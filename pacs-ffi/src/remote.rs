//! Calls to peers: C-ECHO, C-FIND, C-STORE, C-MOVE, C-GET.

use std::collections::BTreeSet;
use std::ffi::{c_char, c_void};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc;
use futures::future::{BoxFuture, Either, FutureExt as _, select};
use futures::stream::BoxStream;
use futures::{SinkExt as _, StreamExt as _, TryStreamExt as _, stream};
use pacs_core::dataset::part10::read_meta;
use pacs_core::limits::{FILE_META_LENGTH_MAX_BYTES, READ_CHUNK_BYTES};
use pacs_core::query::Model;
use pacs_core::{
    AeTitle, DataSet, Error, ErrorKind, InstanceRecord, Level, Pacs, Result as CoreResult, Scope, Source,
    Uid, VR, tags,
};
use pacs_net::dimse::{Category, Client, CommandField, Status};
use pacs_net::scp::{PacsServices, ScpOptions};
use pacs_net::scu::{
    self, Kept, Outgoing, Pieces, Progress, Remote, Sending, Sent, Supply, query_proposal, receiving,
};
use tokio::sync::watch;

use crate::context::{Context, pacs_context};
use crate::data_set::{Set, handle_for, pacs_data_set};
use crate::engine::{Engine, pacs_engine};
use crate::error::{Failure, pacs_status};
use crate::ffi::{self, Sized_};
use crate::find::level;
use crate::guard::{call, call_shared, close, may_change};
use crate::handle::{self, Object};
use crate::instance::scope;

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

/// How far a transfer has come, and at its end what came of it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct pacs_counts {
    /// `sizeof(pacs_counts)`, set by the caller where it gets one as a result.
    pub struct_size: usize,
    /// Instances that were transferred.
    pub completed: u64,
    /// Instances that were not.
    pub failed: u64,
    /// Instances that were, with a warning.
    pub warnings: u64,
    /// Instances that are still to come, as far as it is known.
    pub remaining: u64,
    /// The last status of the peer (PS3.7 annex C); 0 is success.
    pub dimse_status: u16,
    /// Zero.
    pub reserved: [u16; 3],
}

/// Told how far a transfer has come. Another answer than 0 cancels it. On the thread of the call.
pub type pacs_counting = Option<unsafe extern "C" fn(user: *mut c_void, counts: *const pacs_counts) -> i32>;

/// Ends calls from another thread.
pub struct pacs_cancel {
    _opaque: [u8; 0],
}

/// The object behind it.
struct Cancel {
    context: Arc<Context>,
    cancelled: watch::Sender<bool>,
}

impl Object for Cancel {
    type Raw = pacs_cancel;
    const KIND: u8 = 11;
    const NAME: &'static str = "cancel token";

    fn context(this: &Arc<Self>) -> Arc<Context> {
        Arc::clone(&this.context)
    }
}

/// Makes a token with which calls can be ended from another thread. To be freed with `pacs_cancel_free`.
///
/// Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_cancel_new(
    context: *mut pacs_context,
    cancel: *mut *mut pacs_cancel,
) -> pacs_status {
    call_shared(context, |context: &Arc<Context>| {
        let out = ffi::out(cancel)?;
        out.set(handle::insert(Cancel {
            context: Arc::clone(context),
            cancelled: watch::channel(false).0,
        })?);
        Ok(())
    })
}

/// Ends the calls that were given the token, now and later.
///
/// Does not block: the calls end when their peers have answered, at the latest after ten seconds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_cancel_now(cancel: *mut pacs_cancel) -> pacs_status {
    call(cancel, |cancel: &Cancel| {
        cancel.cancelled.send_replace(true);
        Ok(())
    })
}

/// Frees a token; null is nothing to do. Calls that were given it go on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_cancel_free(cancel: *mut pacs_cancel) -> pacs_status {
    close::<Cancel>(cancel)
}

/// How a call to a peer goes on. Zero is the default of every field but the first.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pacs_operation {
    /// `sizeof(pacs_operation)`.
    pub struct_size: usize,
    /// The whole call ends after so many milliseconds with `PACS_TIMED_OUT`; 0 for no such limit. Whatever this is, a
    /// connection that doesn't come about ends it after 10 s, and a silent peer after some minutes.
    pub timeout_milliseconds: u32,
    /// May be null.
    pub cancel: *const pacs_cancel,
    /// Told how far it has come; may be null.
    pub counting: pacs_counting,
    /// Given to `counting`.
    pub user: *mut c_void,
}

// SAFETY: it begins with its size, and all zero is the default.
unsafe impl Sized_ for pacs_operation {
    const FIRST_SIZE: usize = 40;
}

/// What ends a call before its time.
struct Ends {
    timeout: Option<Duration>,
    /// Set by a callback.
    stop: watch::Sender<bool>,
    token: Option<Arc<Cancel>>,
}

/// How long a peer may take to answer that something was cancelled.
const CANCEL_GRACE: Duration = Duration::from_secs(10);

async fn is_set(mut flag: watch::Receiver<bool>) {
    if flag.wait_for(|set| *set).await.is_err() {
        // Nobody can set it any more.
        std::future::pending().await
    }
}

impl Ends {
    fn read(operation: *const pacs_operation) -> Result<(Self, Option<pacs_operation>), Failure> {
        let operation = ffi::optional_sized(operation)?;
        let token = match operation {
            Some(operation) if !operation.cancel.is_null() => Some(handle::get::<Cancel>(operation.cancel)?),
            _ => None,
        };
        let milliseconds = operation.map_or(0, |operation| operation.timeout_milliseconds);
        let ends = Self {
            timeout: (milliseconds > 0).then(|| Duration::from_millis(milliseconds.into())),
            stop: watch::channel(false).0,
            token,
        };
        Ok((ends, operation))
    }

    /// Ready when it is cancelled.
    fn cancelled(&self) -> BoxFuture<'static, ()> {
        let stop = is_set(self.stop.subscribe());
        match &self.token {
            Some(token) => {
                let token = is_set(token.cancelled.subscribe());
                select(Box::pin(stop), Box::pin(token)).map(|_| ()).boxed()
            }
            None => stop.boxed(),
        }
    }

    /// `work`, until it is cancelled or its time is over.
    fn around<T: Send + 'static>(
        &self,
        work: impl Future<Output = CoreResult<T>> + Send + 'static,
    ) -> BoxFuture<'static, CoreResult<T>> {
        let (cancelled, timeout) = (self.cancelled(), self.timeout);
        let work = Box::pin(work);
        async move {
            let over = async {
                match timeout {
                    Some(timeout) => tokio::time::sleep(timeout).await,
                    None => std::future::pending().await,
                }
            };
            let given_up = async {
                cancelled.await;
                tokio::time::sleep(CANCEL_GRACE).await;
            };
            tokio::select! {
                biased;
                done = work => done,
                () = over => Err(ended(ErrorKind::TimedOut, "its time was over")),
                () = given_up => Err(ended(ErrorKind::Cancelled, "it was cancelled")),
            }
        }
        .boxed()
    }
}

fn ended(kind: ErrorKind, why: &'static str) -> Error {
    Error::new(kind, "remote.call", why)
}

fn remote(given: *const pacs_remote) -> Result<Remote, Failure> {
    let given = ffi::sized(given)?;
    if given.reserved != [0; 3] {
        return Err(Failure::argument("reserved is zero"));
    }
    let title = |text| -> Result<AeTitle, Failure> { Ok(AeTitle::parse(ffi::text(text)?)?) };
    let (called, calling) = (title(given.called_ae)?, title(given.calling_ae)?);
    Ok(Remote::new(ffi::text(given.host)?, given.port, called, calling))
}

/// Hands counts to the caller, and takes its answer.
fn counting(ends: &Ends, operation: Option<pacs_operation>) -> impl FnMut(pacs_counts) {
    let stop = ends.stop.clone();
    move |counts| {
        if let Some(operation) = operation
            && let Some(tell) = operation.counting
            && ffi::tell_counts(tell, operation.user, &counts) != 0
        {
            stop.send_replace(true);
        }
    }
}

/// Room for counts that wait for the caller: what comes later counts what came before.
const COUNTS_WAITING: usize = 16;

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
fn answered(status: Status, comment: Option<&str>) -> Result<(), Failure> {
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

impl pacs_counts {
    fn new() -> Self {
        Self {
            struct_size: size_of::<Self>(),
            completed: 0,
            failed: 0,
            warnings: 0,
            remaining: 0,
            dimse_status: 0,
            reserved: [0; 3],
        }
    }

    fn of(progress: &Progress) -> Self {
        let counts = progress.counts;
        Self {
            completed: counts.completed.into(),
            failed: counts.failed.into(),
            warnings: counts.warning.into(),
            remaining: counts.remaining.unwrap_or_default().into(),
            dimse_status: progress.status.0,
            ..Self::new()
        }
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

/// Sends what an engine keeps to a peer (C-STORE, PS3.4 annex B): everything of a patient, a study or a series, or an
/// instance. `level` is a `pacs_level`, `id` what names the entity. Where the peer doesn't take a transfer syntax, the
/// instance is converted if it can be. `result`, which may be null, becomes what came of it. `operation` may be null.
///
/// Blocks. Errors: `PACS_NOT_FOUND` when there is nothing to send; `PACS_IO` or `PACS_REFUSED` when nothing could be
/// sent, `PACS_TIMED_OUT`, `PACS_CANCELLED`. Some instances that could not be sent are no error but stand in `result`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_remote_send(
    engine: *const pacs_engine,
    remote: *const pacs_remote,
    operation: *const pacs_operation,
    level: i32,
    id: *const c_char,
    result: *mut pacs_counts,
) -> pacs_status {
    call(engine, |engine: &Engine| {
        let result = ffi::optional_out_sized(result)?;
        let (remote, (ends, operation)) = (self::remote(remote)?, Ends::read(operation)?);
        let scope = scope(level, ffi::optional_text(id)?)?;
        let (counts, told) = mpsc::channel(COUNTS_WAITING);
        let (cancelled, pacs) = (ends.cancelled(), engine.pacs.clone());
        let send = send(pacs, remote, scope, cancelled, counts);
        let (done, why) = engine
            .context
            .run_with(ends.around(send), told, counting(&ends, operation))??;
        if let Some(result) = result {
            result.set(done);
        }
        match why {
            Some(error) if done.completed + done.warnings == 0 => Err(error.into()),
            _ => Ok(()),
        }
    })
}

/// Counts what becomes of each instance; answers with why the first one failed.
async fn send(
    pacs: Pacs,
    remote: Remote,
    scope: Scope,
    cancelled: BoxFuture<'static, ()>,
    mut told: mpsc::Sender<pacs_counts>,
) -> CoreResult<(pacs_counts, Option<Error>)> {
    let mut counts = pacs_counts::new();
    let mut kinds = BTreeSet::new();
    let mut records = pacs.instances(scope.clone());
    while let Some(record) = records.try_next().await? {
        counts.remaining += 1;
        kinds.insert((record.sop_class, record.transfer_syntax));
    }
    if kinds.is_empty() {
        return Err(Error::new(
            ErrorKind::NotFound,
            "remote.send",
            "there is nothing to send",
        ));
    }
    let source = Source {
        calling_ae: Some(remote.called),
        ..Source::default()
    };
    let kept = Arc::new(Kept {
        pacs: pacs.clone(),
        source,
        patience: remote.timeouts.idle,
    });
    let records = pacs.instances(scope).filter_map(|record| async move {
        record
            .inspect_err(|error| tracing::error!(%error, "the index failed within a sending"))
            .ok()
    });
    let mut sending = Sending::to(remote);
    sending.window = 8;
    let mut results = sending.send(&kinds, kept, records);
    let (mut cancelled, mut why) = (cancelled, None);
    loop {
        let (_, sent): (InstanceRecord, Sent) = tokio::select! {
            biased;
            () = &mut cancelled => return Err(ended(ErrorKind::Cancelled, "it was cancelled")),
            sent = results.next() => match sent {
                Some(sent) => sent,
                None => break,
            },
        };
        counts.remaining = counts.remaining.saturating_sub(1);
        count(&mut counts, &mut why, sent);
        let _ = told.try_send(counts);
    }
    let missing = std::mem::take(&mut counts.remaining);
    if missing > 0 {
        counts.failed += missing;
        why.get_or_insert_with(|| {
            let text = "instances were removed, or the index failed, meanwhile";
            Error::new(ErrorKind::NotFound, "remote.send", text)
        });
    }
    Ok((counts, why))
}

fn count(counts: &mut pacs_counts, why: &mut Option<Error>, sent: Sent) {
    match sent {
        Ok((status, comment)) => {
            counts.dimse_status = status.0;
            match status.category() {
                Category::Success => counts.completed += 1,
                Category::Warning => counts.warnings += 1,
                _ => {
                    counts.failed += 1;
                    why.get_or_insert_with(|| {
                        let comment = comment.unwrap_or_else(|| "no comment".to_owned());
                        let text = format!("the peer answered {status}: {comment}");
                        Error::new(ErrorKind::Refused, "remote.send", text)
                    });
                }
            }
        }
        Err(error) => {
            counts.failed += 1;
            why.get_or_insert(error);
        }
    }
}

/// Sends a DICOM file to a peer (C-STORE), in the transfer syntax that it has. `path` is UTF-8. `dimse_status`, which
/// may be null, becomes what the peer answered, also when it is a failure. `operation` may be null.
///
/// Blocks. Errors: as `pacs_remote_echo`; `PACS_NOT_FOUND` when there is no such file, `PACS_INVALID` when it is no DICOM
/// file that says what it holds, `PACS_UNSUPPORTED` when the peer doesn't take its SOP class or transfer syntax.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_remote_store_file(
    context: *mut pacs_context,
    remote: *const pacs_remote,
    operation: *const pacs_operation,
    path: *const c_char,
    dimse_status: *mut u16,
) -> pacs_status {
    call(context, |context: &Context| {
        let (remote, (ends, _)) = (self::remote(remote)?, Ends::read(operation)?);
        let file = PlainFile::open(ffi::text(path)?)?;
        let kinds = BTreeSet::from([(file.outgoing.sop_class, file.outgoing.transfer_syntax)]);
        let cancelled = ends.cancelled();
        let send = async move {
            let item = stream::once(async {}).boxed();
            let mut results = Sending::to(remote).send(&kinds, Arc::new(file), item);
            let sent = match select(results.next(), cancelled).await {
                Either::Left((Some(((), sent)), _)) => sent?,
                Either::Left((None, _)) => return Err(ended(ErrorKind::Closed, "nothing was sent")),
                Either::Right(_) => return Err(ended(ErrorKind::Cancelled, "it was cancelled")),
            };
            // Its association is released with the end of the stream.
            while results.next().await.is_some() {}
            Ok(sent)
        };
        let (status, comment) = context.run(ends.around(send))??;
        if !dimse_status.is_null() {
            ffi::out(dimse_status)?.set(status.0);
        }
        answered(status, comment.as_deref())
    })
}

/// A file that is sent.
struct PlainFile {
    path: PathBuf,
    data_set_offset: u64,
    outgoing: Outgoing,
}

fn unreadable(error: std::io::Error) -> Error {
    Error::io("remote.file", "the file can't be read", error)
}

impl PlainFile {
    fn open(path: &str) -> Result<Self, Failure> {
        let path = PathBuf::from(path);
        let mut prefix = Vec::new();
        let length = FILE_META_LENGTH_MAX_BYTES as u64 + 1024;
        let file = File::open(&path).map_err(unreadable)?;
        file.take(length).read_to_end(&mut prefix).map_err(unreadable)?;
        let meta = read_meta(&prefix, (prefix.len() as u64) < length)?;
        let missing = || {
            Error::new(
                ErrorKind::Invalid,
                "remote.file",
                "the file doesn't say what it holds",
            )
        };
        let meta = meta.ok_or_else(missing)?;
        let outgoing = Outgoing {
            sop_class: meta.sop_class.ok_or_else(missing)?,
            sop_instance: meta.sop_instance.ok_or_else(missing)?,
            transfer_syntax: meta.transfer_syntax,
        };
        Ok(Self {
            path,
            data_set_offset: meta.data_set_offset,
            outgoing,
        })
    }
}

impl Supply<()> for PlainFile {
    fn outgoing(&self, (): &()) -> Outgoing {
        self.outgoing
    }

    fn open<'a>(&'a self, (): &'a ()) -> BoxFuture<'a, CoreResult<Pieces>> {
        Box::pin(async move {
            let mut file = File::open(&self.path).map_err(unreadable)?;
            file.seek(SeekFrom::Start(self.data_set_offset))
                .map_err(unreadable)?;
            let pieces = stream::try_unfold(file, |mut file| async move {
                let mut piece = Vec::with_capacity(READ_CHUNK_BYTES);
                let read = (&mut file).take(READ_CHUNK_BYTES as u64).read_to_end(&mut piece);
                match read.map_err(unreadable)? {
                    0 => Ok(None),
                    _ => Ok(Some((Bytes::from(piece), file))),
                }
            });
            Ok(pieces.boxed())
        })
    }
}
