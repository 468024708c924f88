//! Sending: what an engine keeps, or a file.

use std::collections::BTreeSet;
use std::ffi::c_char;
use std::path::Path;
use std::sync::Arc;

use futures::channel::mpsc;
use futures::future::{BoxFuture, Either, select};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use pacs_core::{Error, ErrorKind, InstanceRecord, Pacs, Result as CoreResult, Scope, Source};
use pacs_net::dimse::Category;
use pacs_net::scu::{FileToSend, Files, Kept, Remote, Sending, Sent};

use crate::context::{Context, pacs_context};
use crate::engine::{Engine, pacs_engine};
use crate::error::pacs_status;
use crate::ffi;
use crate::guard::call;
use crate::instance::scope;
use crate::operation::{COUNTS_WAITING, Ends, counting, ended, pacs_counts, pacs_operation};
use crate::remote::{answered, pacs_remote};

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
        let (remote, (ends, operation)) = (crate::remote::remote(remote)?, Ends::read(operation)?);
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
/// file that says what it holds, `PACS_UNSUPPORTED` for a DICOMDIR, and when the peer doesn't take its SOP class or
/// transfer syntax.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_remote_store_file(
    context: *mut pacs_context,
    remote: *const pacs_remote,
    operation: *const pacs_operation,
    path: *const c_char,
    dimse_status: *mut u16,
) -> pacs_status {
    call(context, |context: &Context| {
        let (remote, (ends, _)) = (crate::remote::remote(remote)?, Ends::read(operation)?);
        let file = FileToSend::open(Path::new(ffi::text(path)?))?;
        let kinds = BTreeSet::from([(file.sop_class, file.transfer_syntax)]);
        let cancelled = ends.cancelled();
        let send = async move {
            let item = stream::iter([file]);
            let mut results = Sending::to(remote).send(&kinds, Arc::new(Files), item);
            let sent = match select(results.next(), cancelled).await {
                Either::Left((Some((_, sent)), _)) => sent?,
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
