//! N-EVENT-REPORT to those who are subscribed (PS3.4 CC.2.4): what waits in the queue of a destination is sent on an
//! association of its own, and waits on while the destination is away.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dicom_dictionary_std::uids;
use futures::future::join_all;
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::encode;
use pacs_core::workflow::ups::{Event, EventQueue, UPS_PUSH, Ups};
use pacs_core::{AeTitle, Result, Uid};
use tokio::sync::Notify;

use super::super::{Destination, ScpOptions};
use crate::dimse::{Client, CommandField, CommandSet, Response, whole};
use crate::scu::NATIVE;
use crate::transport::{PresentationContext, Sender};

const EVENT: Uid = Uid::constant(uids::UNIFIED_PROCEDURE_STEP_EVENT);

/// How long is waited before a destination that was away is tried again: the first time, and at most.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(60);

/// Events that are read from the queue at once.
const AT_ONCE: usize = 64;

/// How often old steps and events are deleted.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(3600);

/// Deletes steps that have been final for so long, and events that have waited for so long; never ends by itself.
pub(in crate::scp) async fn expire(ups: Ups, kept: Duration) {
    let mut turns = tokio::time::interval(EXPIRE_INTERVAL);
    loop {
        turns.tick().await;
        let Some(before) = SystemTime::now().checked_sub(kept) else {
            continue;
        };
        match ups.expire(before).await {
            Ok(0) => {}
            Ok(steps) => tracing::info!(steps, "old procedure steps were deleted"),
            Err(error) => tracing::warn!(%error, "old procedure steps could not be deleted"),
        }
    }
}

/// Tells subscribers that the server is there again, then reports what happens; never ends by itself.
pub(in crate::scp) async fn report(ups: Ups, options: Arc<ScpOptions>) {
    let destinations = options.destinations.iter();
    let wakes: HashMap<AeTitle, Arc<Notify>> = destinations
        .clone()
        .map(|destination| (destination.ae_title, Arc::new(Notify::new())))
        .collect();
    let queued = wakes.clone();
    let _watching = ups.watch_events(move |ae| {
        if let Some(wake) = queued.get(ae) {
            wake.notify_one();
        }
    });
    if let Err(error) = ups.report_status(false).await {
        tracing::warn!(%error, "subscribers of procedure steps could not be told of the start");
    }
    let each = destinations.filter_map(|destination| {
        let wake = Arc::clone(wakes.get(&destination.ae_title)?);
        Some(report_to(&ups, &options, destination, wake))
    });
    join_all(each).await;
    // Without destinations there is nobody to report to.
    std::future::pending().await
}

async fn report_to(ups: &Ups, options: &ScpOptions, destination: &Destination, wake: Arc<Notify>) {
    let mut patience = RETRY_FIRST;
    loop {
        match deliver(ups, options, destination).await {
            Ok(()) => {
                patience = RETRY_FIRST;
                wake.notified().await;
            }
            Err(error) => {
                let ae = destination.ae_title;
                tracing::warn!(%error, destination = %ae, "events of procedure steps wait for their receiver");
                tokio::time::sleep(patience).await;
                patience = (patience * 2).min(RETRY_MOST);
            }
        }
    }
}

/// Sends all that waits.
async fn deliver(ups: &Ups, options: &ScpOptions, destination: &Destination) -> Result<()> {
    let queue = ups.queue_of(&destination.ae_title).await;
    if queue.next(1).await?.is_empty() {
        return Ok(());
    }
    let mut remote = destination.remote(options.ae_title);
    remote.timeouts.idle = options.timeouts.idle;
    // We are SCP on an association of our own asking (PS3.7 D.3.3.4).
    let proposal = remote
        .proposal()
        .with_context(EVENT, NATIVE.iter())
        .with_role(EVENT, false, true);
    let client = remote.client(&proposal).await?;
    let sent = send(&queue, &client).await;
    // What was answered was delivered, whatever becomes of the association.
    if let Err(error) = client.release().await {
        tracing::debug!(%error, "a release was not answered");
    }
    sent
}

async fn send(queue: &EventQueue, client: &Client) -> Result<()> {
    // Some acceptors leave the role selection out, and take the reports all the same.
    let mut contexts = client.negotiated().contexts.iter();
    let context = contexts.find(|context| context.abstract_syntax == EVENT);
    let context = context.ok_or_else(Sender::no_context)?.clone();
    loop {
        let waiting = queue.next(AT_ONCE).await?;
        if waiting.is_empty() {
            return Ok(());
        }
        for queued in &waiting {
            let response = event_report(client, &context, &queued.event).await?;
            let status = response.status();
            if !status.is_done() {
                // It was understood and not wanted: there is no obligation to try again (CC.2.4.3).
                let ae = queue.ae_title();
                tracing::info!(%status, receiver = %ae, "an event of a procedure step was refused");
            }
            queue.acknowledge(std::slice::from_ref(queued)).await?;
        }
    }
}

async fn event_report(client: &Client, context: &PresentationContext, event: &Event) -> Result<Response> {
    let command = CommandSet::request(CommandField::N_EVENT_REPORT)
        .with_affected_sop_class(&UPS_PUSH)
        .with_affected_sop_instance(&event.sop_instance)
        .with_event_type_id(event.event_type.id());
    let bytes = encode::encode(&event.attributes, &context.transfer_syntax, &CharacterSet::utf8())?;
    let responses = client.request(context.id, command, whole(bytes.into())).await?;
    responses.single().await
}
