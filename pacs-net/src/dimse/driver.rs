//! [`serve`]: drives an association. Reads messages, runs operations, hands on responses.

use std::collections::HashMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use pacs_core::{Error, ErrorKind, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::client::Response;
use super::command::CommandSet;
use super::data_set::{DataSetStream, gather};
use super::field::CommandField;
use super::link::{Link, permits};
use super::reader::{Incoming, MessageReader};
use super::reply::Reply;
use super::services::{Operation, Services, dispatch, respond};
use super::status::Status;
use super::{GATHERED_DATA_SET_LENGTH_MAX_BYTES, IDENTIFIER_LENGTH_MAX_BYTES};
use crate::pace::REFUSED_REST;
use crate::transport::{Association, PresentationContext, Receiver};
use crate::ul::pdu::Abort;
use crate::ul::state::Role;
use crate::util::Signal;

/// How an association came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By release, from either side.
    Released,
    /// The peer aborted it.
    Aborted(Abort),
    /// Nothing happened for the idle time; it was aborted.
    Idle,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Released => f.write_str("released"),
            Self::Aborted(abort) => abort.fmt(f),
            Self::Idle => f.write_str("silent for too long"),
        }
    }
}

/// Serves an association until it ends: reads the peer's requests and answers them by `services`, as
/// many at a time as the negotiated window allows.
///
/// When the future is dropped, or the association ends otherwise than by release, the operations that
/// are still running are dropped where they stand.
///
/// # Errors
/// When the association ended otherwise than [`Ended`] says: the connection was closed or failed, the
/// peer broke the protocol or was too slow.
pub async fn serve(association: Association, services: Arc<dyn Services>) -> Result<Ended> {
    let peer = association.peer();
    let (receiver, sender) = association.split();
    let link = Arc::new(Link::new(sender, peer));
    serve_link(receiver, link, services).await
}

pub(super) async fn serve_link(
    receiver: Receiver,
    link: Arc<Link>,
    services: Arc<dyn Services>,
) -> Result<Ended> {
    // Whatever way this future ends, requests that wait for responses must learn of it.
    let _end = EndOnDrop(link.clone());
    let (started, mut new_operations) = mpsc::unbounded_channel();
    let window = permits(link.sender.negotiated().incoming_operations);
    let reading = Reading {
        link,
        services,
        started,
        window: Arc::new(Semaphore::new(window)),
        permits: window,
        running: Arc::default(),
    };
    let mut reading = pin!(reading.run(MessageReader::new(receiver)));
    let mut operations = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(operation) = new_operations.recv() => operations.push(operation),
            // Before the operations: one that sends without pause must not keep a C-CANCEL waiting.
            ended = &mut reading => return ended,
            Some(()) = operations.next(), if !operations.is_empty() => {}
        }
    }
}

struct EndOnDrop(Arc<Link>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Whoever waits for a final response must learn when there will be none.
struct SetOnDrop(Arc<Signal>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// Operations that run, by message ID: what C-CANCEL reaches.
type Running = Arc<Mutex<HashMap<u16, Arc<Signal>>>>;

fn lock(running: &Running) -> MutexGuard<'_, HashMap<u16, Arc<Signal>>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Reading {
    link: Arc<Link>,
    services: Arc<dyn Services>,
    started: mpsc::UnboundedSender<BoxFuture<'static, ()>>,
    /// One permit for each operation that the peer may have outstanding.
    window: Arc<Semaphore>,
    permits: usize,
    running: Running,
}

impl Reading {
    async fn run(self, mut reader: MessageReader) -> Result<Ended> {
        let idle = reader.receiver().timeouts().idle;
        let mut patience = idle;
        loop {
            let incoming = reader.next(patience).await;
            patience = idle;
            match incoming {
                Ok(Incoming::Message { context_id, command }) => {
                    reader = self.message(reader, context_id, command).await?;
                }
                Ok(Incoming::ReleaseRequested) => {
                    self.finish_operations().await;
                    self.link.sender.confirm_release().await?;
                    reader.receiver().linger().await;
                    return Ok(Ended::Released);
                }
                Ok(Incoming::Released) => return Ok(Ended::Released),
                Ok(Incoming::Aborted(abort)) => return Ok(Ended::Aborted(abort)),
                Err(error) if error.kind() == ErrorKind::TimedOut && !self.link.sender.has_ended() => {
                    // A long message of ours is answered when it is sent whole: what counts is silence
                    // in both directions.
                    let left = idle.saturating_sub(reader.receiver().silence());
                    if !left.is_zero() {
                        patience = left;
                    } else if self.is_idle() {
                        // Requests end now, not when the peer has closed.
                        self.link.end();
                        reader.receiver().abort(Abort::NOT_SPECIFIED).await;
                        return Ok(Ended::Idle);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether silence of the peer means that it is gone. As acceptor we wait for requests; as
    /// requestor for responses, and the peer for requests of ours.
    fn is_idle(&self) -> bool {
        let waiting = self.link.is_waiting();
        match self.link.sender.negotiated().role {
            Role::Acceptor => waiting || self.window.available_permits() == self.permits,
            Role::Requestor => waiting,
        }
    }

    /// Before a release is confirmed, what runs may come to its end, in bounded time.
    async fn finish_operations(&self) {
        let patience = self.link.sender.timeouts().release;
        let all = self.window.acquire_many(self.permits as u32);
        if tokio::time::timeout(patience, all).await.is_err() {
            for cancel in lock(&self.running).values() {
                cancel.set();
            }
            let all = self.window.acquire_many(self.permits as u32);
            let _ = tokio::time::timeout(patience, all).await;
        }
    }

    /// Takes a message; answers the reader when its data set is read.
    async fn message(
        &self,
        mut reader: MessageReader,
        context_id: u8,
        command: CommandSet,
    ) -> Result<MessageReader> {
        let Some(context) = self.link.sender.negotiated().context(context_id).cloned() else {
            reader.receiver().abort(Abort::INVALID_PARAMETER).await;
            return Err(Error::new(
                ErrorKind::Invalid,
                "association.receive",
                "a message on a presentation context that was not accepted",
            ));
        };
        if command.command_field() == CommandField::C_CANCEL {
            let id = command.message_id_responded_to().unwrap_or_default();
            if let Some(cancel) = lock(&self.running).get(&id) {
                cancel.set();
            }
            // One that comes too late is no error (PS3.7 9.3.2.3).
            return Ok(reader);
        }
        if command.command_field().is_response() {
            self.response(&mut reader, command).await?;
            return Ok(reader);
        }
        self.request(reader, context, command).await
    }

    /// Hands a response to whoever made the request.
    async fn response(&self, reader: &mut MessageReader, command: CommandSet) -> Result<()> {
        let id = command.message_id_responded_to().unwrap_or_default();
        let is_final = !command.status().is_pending();
        let data_set = if reader.is_between_messages() {
            None
        } else {
            match gather(reader, GATHERED_DATA_SET_LENGTH_MAX_BYTES, None).await {
                Ok(data_set) => Some(data_set),
                Err(error) => {
                    reader.receiver().abort(Abort::USER).await;
                    return Err(error);
                }
            }
        };
        match self.link.responses(id, is_final) {
            // Whoever asked may have lost interest; the request still runs to its end.
            Some(responses) => drop(responses.send(Ok(Response { command, data_set })).await),
            None => tracing::debug!(message_id = id, "a response to no request of ours"),
        }
        Ok(())
    }

    /// Starts the operation for a request.
    async fn request(
        &self,
        mut reader: MessageReader,
        context: PresentationContext,
        command: CommandSet,
    ) -> Result<MessageReader> {
        let id = command.message_id();
        // A request beyond the window waits here, and with it all that follows: also the responses that
        // an operation under way may wait for. So it does not wait for ever.
        let patience = reader.receiver().timeouts().receive;
        let Ok(permit) = tokio::time::timeout(patience, self.window.clone().acquire_owned()).await else {
            reader.receiver().abort(Abort::NOT_SPECIFIED).await;
            return Err(Error::new(
                ErrorKind::TimedOut,
                "association.receive",
                "a request beyond the negotiated window, while those within it did not end",
            ));
        };
        let permit = permit.map_err(|_| closed())?;
        let mut operation = Operation {
            link: self.link.clone(),
            context,
            command: Arc::new(command),
            data_set: Mutex::default(),
            // Nobody waits for it, so that a share of nothing is always there.
            room: self.services.gathering().and_then(|room| room.try_take(0)),
            cancel: Arc::default(),
            answered: Arc::default(),
        };
        let field = operation.command.command_field();
        // N-EVENT-REPORT is the SCP's request, and many an SCP makes it without role selection.
        let by_scu = field != CommandField::N_EVENT_REPORT;
        if by_scu && !self.link.sender.negotiated().peer_may_be_scu(&operation.context) {
            let reply = Reply::new(Status::SOP_CLASS_NOT_SUPPORTED)
                .with_error_comment("the requester is not SCU on this presentation context");
            self.refuse(operation, permit, reply);
            return Ok(reader);
        }
        if lock(&self.running).contains_key(&id) {
            self.refuse(operation, permit, Reply::new(Status::DUPLICATE_INVOCATION));
            return Ok(reader);
        }
        lock(&self.running).insert(id, operation.cancel.clone());
        if reader.is_between_messages() {
            self.start(self.perform(operation, permit));
            return Ok(reader);
        }
        // These run long, and while they do a C-CANCEL or the responses to sub-operations must be seen.
        if [CommandField::C_FIND, CommandField::C_MOVE, CommandField::C_GET].contains(&field) {
            match gather(&mut reader, IDENTIFIER_LENGTH_MAX_BYTES, operation.room.as_mut()).await {
                Ok(identifier) => {
                    operation.data_set = Mutex::new(Some(DataSetStream::gathered(identifier)));
                    self.start(self.perform(operation, permit));
                }
                Err(error) if error.kind() == ErrorKind::OutOfResources => {
                    lock(&self.running).remove(&id);
                    self.refuse(operation, permit, Reply::from_error(field, &error));
                }
                Err(error) => return Err(error),
            }
            return Ok(reader);
        }
        let (data_set, back) = DataSetStream::new(reader);
        operation.data_set = Mutex::new(Some(data_set));
        self.start(self.perform(operation, permit));
        reader = back.await.map_err(|_| closed())?;
        Ok(reader)
    }

    /// Answers a request without running it.
    fn refuse(&self, operation: Operation, permit: OwnedSemaphorePermit, reply: Reply) {
        self.start(Box::pin(async move {
            finish(&operation.link, operation.context.id, &operation.command, reply).await;
            drop(permit);
        }));
    }

    fn start(&self, operation: BoxFuture<'static, ()>) {
        // The receiving end lives as long as this future is polled.
        let _ = self.started.send(operation);
    }

    /// The whole of an operation: the service, whatever becomes of it, and the final response.
    fn perform(&self, operation: Operation, permit: OwnedSemaphorePermit) -> BoxFuture<'static, ()> {
        let services = self.services.clone();
        let link = self.link.clone();
        let running = self.running.clone();
        let context_id = operation.context.id;
        let command = operation.command.clone();
        let begun = Instant::now();
        let answered = SetOnDrop(operation.answered.clone());
        Box::pin(async move {
            let field = command.command_field();
            let service = async { dispatch(&*services, operation).await };
            let reply = match AssertUnwindSafe(service).catch_unwind().await {
                Ok(Ok(reply)) => reply,
                Ok(Err(error)) => {
                    // Who stores has rested before the rest of the data set is read.
                    if error.kind() == ErrorKind::Invalid && field != CommandField::C_STORE {
                        tokio::time::sleep(REFUSED_REST).await;
                    }
                    Reply::from_error(field, &error)
                }
                Err(_) => {
                    tracing::error!(command = %field, "an operation panicked");
                    let error = Error::new(ErrorKind::Internal, "operation.perform", "internal failure");
                    Reply::from_error(field, &error)
                }
            };
            // The ID is free once the final response is on its way (PS3.7 9.1.1.1.1).
            lock(&running).remove(&command.message_id());
            let status = reply.status;
            finish(&link, context_id, &command, reply).await;
            drop(answered);
            services.operation_ended(field, status, begun.elapsed());
            drop(permit);
        })
    }
}

/// Sends the final response. Where that fails the association is at its end, which the reading side
/// reports.
async fn finish(link: &Link, context_id: u8, command: &CommandSet, reply: Reply) {
    if let Err(error) = respond(link, context_id, command, reply).await {
        tracing::debug!(%error, "a response could not be sent");
    }
}

fn closed() -> Error {
    Error::new(
        ErrorKind::Closed,
        "association.serve",
        "the association has ended",
    )
}
