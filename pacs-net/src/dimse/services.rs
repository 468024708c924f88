//! [`Services`]: who answers a peer's requests; [`Operation`]: one of them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use pacs_core::budget::{Budget, Share};
use pacs_core::{Error, ErrorKind, Result};

use super::GATHERED_DATA_SET_LENGTH_MAX_BYTES;
use super::client::{Client, NO_DATA_SET, whole};
use super::command::CommandSet;
use super::data_set::{DataSetStream, gather};
use super::field::CommandField;
use super::link::Link;
use super::reply::Reply;
use super::status::Status;
use crate::transport::{Negotiated, PresentationContext};
use crate::ul::pdu::Abort;
use crate::util::Signal;

/// Answers a peer's requests.
///
/// Each method runs one operation and answers its final response; an error is answered with the status
/// it comes to for this service ([`Reply::from_error`]), a panic with a failure. The operations of one
/// association run at the same time on one task, as many as the window allows, so a method must not
/// block the thread.
///
/// What is not implemented is answered with "unrecognized operation" (0211H).
pub trait Services: Send + Sync + 'static {
    /// C-ECHO: verification.
    fn c_echo(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        drop(operation);
        Box::pin(async { Ok(Reply::success()) })
    }
    /// C-STORE.
    fn c_store(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        unrecognized(operation)
    }
    /// C-FIND: send pending responses with [`Operation::respond`].
    fn c_find(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        unrecognized(operation)
    }
    /// C-MOVE.
    fn c_move(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        unrecognized(operation)
    }
    /// C-GET: make the sub-operations with [`Operation::client`].
    fn c_get(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        unrecognized(operation)
    }
    /// N-EVENT-REPORT.
    fn n_event_report(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        unrecognized(operation)
    }
    /// N-GET.
    fn n_get(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        unrecognized(operation)
    }
    /// N-SET.
    fn n_set(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        unrecognized(operation)
    }
    /// N-ACTION.
    fn n_action(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        unrecognized(operation)
    }
    /// N-CREATE.
    fn n_create(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        unrecognized(operation)
    }
    /// N-DELETE.
    fn n_delete(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        unrecognized(operation)
    }

    /// What gathered data sets of all associations may take in memory together, in bytes: a small one is always taken, a
    /// larger one is refused for now where there is no room. By default each association has its own bound alone.
    fn gathering(&self) -> Option<&Budget> {
        None
    }

    /// An operation has ended: its final response of this status is sent, `took` after its request was read. For
    /// whoever measures; it must not block.
    fn operation_ended(&self, command: CommandField, status: Status, took: Duration) {
        let _ = (command, status, took);
    }
}

/// What an operation that nobody handles is answered.
pub(crate) fn unrecognized<'a>(operation: Operation) -> BoxFuture<'a, Result<Reply>> {
    drop(operation);
    Box::pin(async { Ok(Reply::new(Status::UNRECOGNIZED_OPERATION)) })
}

/// Hands the operation to the method for its command field.
pub(super) fn dispatch(services: &dyn Services, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
    match operation.command().command_field() {
        CommandField::C_ECHO => services.c_echo(operation),
        CommandField::C_STORE => services.c_store(operation),
        CommandField::C_FIND => services.c_find(operation),
        CommandField::C_MOVE => services.c_move(operation),
        CommandField::C_GET => services.c_get(operation),
        CommandField::N_EVENT_REPORT => services.n_event_report(operation),
        CommandField::N_GET => services.n_get(operation),
        CommandField::N_SET => services.n_set(operation),
        CommandField::N_ACTION => services.n_action(operation),
        CommandField::N_CREATE => services.n_create(operation),
        CommandField::N_DELETE => services.n_delete(operation),
        _ => unrecognized(operation),
    }
}

/// Answers C-ECHO and nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoServices;

impl Services for NoServices {}

/// One request of the peer, under way.
pub struct Operation {
    pub(super) link: Arc<Link>,
    pub(super) context: PresentationContext,
    pub(super) command: Arc<CommandSet>,
    /// Behind a lock that is never taken, so that a shared operation may cross threads.
    pub(super) data_set: Mutex<Option<DataSetStream>>,
    /// What a gathered data set has of [`Services::gathering`].
    pub(super) room: Option<Share>,
    pub(super) cancel: Arc<Signal>,
    pub(super) answered: Arc<Signal>,
}

impl Operation {
    /// The request's command set.
    pub fn command(&self) -> &CommandSet {
        &self.command
    }

    /// The presentation context it came on.
    pub fn context(&self) -> &PresentationContext {
        &self.context
    }

    /// What both sides agreed on, and the peer's AE title.
    pub fn negotiated(&self) -> &Arc<Negotiated> {
        self.link.sender.negotiated()
    }

    /// Address of the peer, where the stream has one.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.link.peer
    }

    /// Takes the request's data set, where it has one and it was not taken before.
    ///
    /// As long as it is neither read to its end nor dropped, nothing else of the association is read:
    /// no other request, no response. The identifiers of C-FIND, C-MOVE and C-GET are read before, so
    /// there a C-CANCEL is always seen.
    pub fn take_data_set(&mut self) -> Option<DataSetStream> {
        self.data_set
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// The request's data set, whole: for identifiers and attribute lists.
    ///
    /// # Errors
    /// `Invalid` when there is none, `OutOfResources` above
    /// [`GATHERED_DATA_SET_LENGTH_MAX_BYTES`] or where [`Services::gathering`] has no room left, or when the association ends before.
    pub async fn gather_data_set(&mut self) -> Result<Bytes> {
        let mut data_set = self.take_data_set().ok_or_else(|| {
            Error::new(
                ErrorKind::Invalid,
                "operation.data_set",
                "the request has no data set",
            )
        })?;
        // What was read before has its room.
        let room = self.room.as_mut().filter(|_| !data_set.is_gathered());
        gather(&mut data_set, GATHERED_DATA_SET_LENGTH_MAX_BYTES, room).await
    }

    /// Sends a response that is not the final one. As with
    /// [`Sender::send`](crate::transport::Sender::send), the future is to be polled on to its end: one
    /// that rests half way keeps every other message of the association waiting.
    ///
    /// # Errors
    /// As [`Sender::send`](crate::transport::Sender::send).
    pub async fn respond(&self, reply: Reply) -> Result<()> {
        respond(&self.link, self.context.id, &self.command, reply).await
    }

    /// Answers with `reply`, and aborts the association behind it.
    pub async fn answer_and_abort(&self, reply: Reply) {
        if let Err(error) = self.respond(reply).await {
            tracing::debug!(%error, "a response could not be sent");
        }
        self.link.sender.abort(Abort::NOT_SPECIFIED).await;
    }

    /// Whether the peer has sent C-CANCEL for this operation, or the association is ending.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_set() || self.link.sender.has_ended()
    }

    /// Waits for C-CANCEL.
    pub async fn cancelled(&self) {
        self.cancel.wait().await;
    }

    /// Waits until the final response is sent, or can't be any more: for requests that may only follow it, such as
    /// the N-EVENT-REPORT of an N-ACTION. To be awaited elsewhere than in the operation, which ends before.
    pub fn answered(&self) -> impl Future<Output = ()> + Send + use<> {
        let answered = Arc::clone(&self.answered);
        async move { answered.wait().await }
    }

    /// Makes requests to the peer on the same association: the C-STORE sub-operations of a C-GET.
    pub fn client(&self) -> Client {
        Client::of_link(self.link.clone())
    }
}

pub(super) async fn respond(
    link: &Link,
    context_id: u8,
    request: &CommandSet,
    mut reply: Reply,
) -> Result<()> {
    let command = reply.command(request).encode();
    match reply.data_set.take() {
        Some(data_set) => link.sender.send(context_id, command, whole(data_set)).await,
        None => link.sender.send(context_id, command, NO_DATA_SET).await,
    }
}

impl std::fmt::Debug for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operation")
            .field("command", &self.command)
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}
