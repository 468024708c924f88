//! [`Client`]: requests on an association, and their responses.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use pacs_core::{AeTitle, Error, ErrorKind, Result, Uid};
use tokio::sync::mpsc;

use super::command::CommandSet;
use super::driver::{Ended, serve_link};
use super::field::{CommandField, Priority};
use super::link::{Link, ended};
use super::services::Services;
use super::status::Status;
use crate::transport::{Association, Negotiated, PresentationContext, Sender};
use crate::ul::pdu::Abort;

/// Makes requests on an association. Clones make them on the same one; as many run at a time as the
/// negotiated window allows, further ones wait.
///
/// When the last clone is dropped without [`Client::release`], the association is aborted.
#[derive(Clone)]
pub struct Client {
    pub(super) link: Arc<Link>,
    /// Absent in an operation's own handle: there [`serve`](super::serve) reads.
    task: Option<Arc<Task>>,
}

/// The task that reads the association; it ends with the last client.
struct Task(tokio::task::JoinHandle<Result<Ended>>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A response to a request of ours.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its command set.
    pub command: CommandSet,
    /// Its data set, in the transfer syntax of the context.
    pub data_set: Option<Bytes>,
}

impl Response {
    /// Its status.
    pub fn status(&self) -> Status {
        self.command.status()
    }
}

/// On whose behalf a C-STORE is made during a C-MOVE (PS3.7 9.1.1.1.6, 9.1.1.1.7).
#[derive(Clone, Copy, Debug)]
pub struct MoveOriginator {
    /// AE title of the C-MOVE's SCU.
    pub ae_title: AeTitle,
    /// Message ID of the C-MOVE request.
    pub message_id: u16,
}

/// What a C-STORE request says beside its data set.
#[derive(Clone, Copy, Debug)]
pub struct StoreRequest {
    /// On which context, of the instance's SOP class and transfer syntax.
    pub context_id: u8,
    /// SOP class UID.
    pub sop_class: Uid,
    /// SOP instance UID.
    pub sop_instance: Uid,
    /// Priority.
    pub priority: Priority,
    /// Where it belongs to a C-MOVE.
    pub move_originator: Option<MoveOriginator>,
}

impl StoreRequest {
    /// Of medium priority, and no part of a C-MOVE.
    pub fn new(context_id: u8, sop_class: Uid, sop_instance: Uid) -> Self {
        Self {
            context_id,
            sop_class,
            sop_instance,
            priority: Priority::Medium,
            move_originator: None,
        }
    }
}

impl Client {
    /// Takes the association: a task of its own reads it from now on. `services` answers what the peer
    /// requests, such as the C-STORE sub-operations of a C-GET;
    /// [`NoServices`](super::NoServices) refuses everything but C-ECHO.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(association: Association, services: Arc<dyn Services>) -> Self {
        let peer = association.peer();
        let (receiver, sender) = association.split();
        let link = Arc::new(Link::new(sender, peer));
        let task = tokio::spawn(serve_link(receiver, link.clone(), services));
        Self {
            link,
            task: Some(Arc::new(Task(task))),
        }
    }

    pub(super) fn of_link(link: Arc<Link>) -> Self {
        Self { link, task: None }
    }

    /// What both sides agreed on.
    pub fn negotiated(&self) -> &Arc<Negotiated> {
        self.link.sender.negotiated()
    }

    /// The first accepted context of this SOP class on which we may be SCU.
    ///
    /// # Errors
    /// `Unsupported` when there is none.
    pub fn context_for(&self, sop_class: &Uid) -> Result<&PresentationContext> {
        self.negotiated()
            .context_for(sop_class)
            .ok_or_else(Sender::no_context)
    }

    /// Sends a request and answers the stream of its responses. The message ID and whether there is a
    /// data set are put into `command` here.
    ///
    /// Waits for the window, then until the request is sent whole. When the future is dropped while it
    /// sends, the association is aborted.
    ///
    /// # Errors
    /// `Closed` when the association has ended; else as [`Sender::send`](crate::transport::Sender::send).
    pub async fn request<S>(
        &self,
        context_id: u8,
        command: CommandSet,
        data_set: Option<S>,
    ) -> Result<Responses>
    where
        S: Stream<Item = Result<Bytes>> + Send + Unpin,
    {
        let (message_id, responses) = self.link.request(context_id, command, data_set).await?;
        Ok(Responses {
            client: self.clone(),
            context_id,
            message_id,
            responses,
            over: false,
        })
    }

    /// C-ECHO (PS3.4 annex A).
    ///
    /// # Errors
    /// As [`Self::request`]; `Unsupported` without a context of the Verification SOP class.
    pub async fn echo(&self) -> Result<Status> {
        let verification = Uid::constant(dicom_dictionary_std::uids::VERIFICATION);
        let context_id = self.context_for(&verification)?.id;
        let command = CommandSet::request(CommandField::C_ECHO).with_affected_sop_class(&verification);
        let responses = self.request(context_id, command, NO_DATA_SET).await?;
        Ok(responses.single().await?.status())
    }

    /// C-STORE (PS3.7 9.1.1): sends the data set as it is, piece by piece.
    ///
    /// # Errors
    /// As [`Self::request`]. A failure status is no error: it is in the response.
    pub async fn store<S>(&self, request: StoreRequest, data_set: S) -> Result<Response>
    where
        S: Stream<Item = Result<Bytes>> + Send + Unpin,
    {
        let mut command = CommandSet::request(CommandField::C_STORE)
            .with_affected_sop_class(&request.sop_class)
            .with_affected_sop_instance(&request.sop_instance)
            .with_priority(request.priority);
        if let Some(originator) = request.move_originator {
            command = command.with_move_originator(&originator.ae_title, originator.message_id);
        }
        let responses = self.request(request.context_id, command, Some(data_set)).await?;
        responses.single().await
    }

    /// C-FIND (PS3.7 9.1.2) with an identifier in the context's transfer syntax.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn find(&self, context: &PresentationContext, identifier: Bytes) -> Result<Responses> {
        let command = CommandSet::request(CommandField::C_FIND)
            .with_affected_sop_class(&context.abstract_syntax)
            .with_priority(Priority::Medium);
        self.request(context.id, command, whole(identifier)).await
    }

    /// C-MOVE (PS3.7 9.1.4) to `destination`.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn r#move(
        &self,
        context: &PresentationContext,
        destination: &AeTitle,
        identifier: Bytes,
    ) -> Result<Responses> {
        let command = CommandSet::request(CommandField::C_MOVE)
            .with_affected_sop_class(&context.abstract_syntax)
            .with_priority(Priority::Medium)
            .with_move_destination(destination);
        self.request(context.id, command, whole(identifier)).await
    }

    /// C-GET (PS3.7 9.1.3). The instances come as C-STORE requests to the services given to
    /// [`Client::start`].
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn get(&self, context: &PresentationContext, identifier: Bytes) -> Result<Responses> {
        let command = CommandSet::request(CommandField::C_GET)
            .with_affected_sop_class(&context.abstract_syntax)
            .with_priority(Priority::Medium);
        self.request(context.id, command, whole(identifier)).await
    }

    /// Releases the association.
    ///
    /// # Errors
    /// `Closed` when it has ended already; `TimedOut` when the peer doesn't answer, after aborting.
    pub async fn release(&self) -> Result<()> {
        let sender = &self.link.sender;
        sender.release().await?;
        let patience: Duration = sender.timeouts().release;
        match tokio::time::timeout(patience, sender.ended()).await {
            Ok(()) => Ok(()),
            Err(_) => {
                self.abort().await;
                Err(Error::new(
                    ErrorKind::TimedOut,
                    "association.release",
                    "the peer did not answer the release request",
                ))
            }
        }
    }

    /// Aborts the association.
    pub async fn abort(&self) {
        self.link.sender.abort(Abort::USER).await;
    }

    /// Whether the association has ended.
    pub fn has_ended(&self) -> bool {
        self.link.sender.has_ended()
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("own_task", &self.task.is_some())
            .finish_non_exhaustive()
    }
}

/// The type of a data set that is in memory, or absent.
pub(crate) type InMemory = futures::stream::Iter<std::option::IntoIter<Result<Bytes>>>;

pub(crate) const NO_DATA_SET: Option<InMemory> = None;

pub(crate) fn whole(data_set: Bytes) -> Option<InMemory> {
    Some(futures::stream::iter(Some(Ok(data_set))))
}

/// The responses to one request, up to and with the final one.
pub struct Responses {
    client: Client,
    context_id: u8,
    message_id: u16,
    responses: mpsc::Receiver<Result<Response>>,
    over: bool,
}

impl Responses {
    /// Message ID of the request.
    pub fn message_id(&self) -> u16 {
        self.message_id
    }

    /// Asks the peer to end the operation (C-CANCEL). Responses still come, the final one with status
    /// "cancel" where the peer was not done already.
    ///
    /// # Errors
    /// `Closed` when the association has ended.
    pub async fn cancel(&self) -> Result<()> {
        let command = CommandSet::cancel(self.message_id);
        let sender = &self.client.link.sender;
        sender.send(self.context_id, command.encode(), NO_DATA_SET).await
    }

    /// The same responses; when `cancelled` is ready before the final one, the peer is asked to end the operation as
    /// by [`cancel`](Self::cancel).
    pub fn cancelled_by(
        self,
        cancelled: impl Future<Output = ()> + Send + 'static,
    ) -> BoxStream<'static, Result<Response>> {
        let cancelled = Some(Box::pin(cancelled));
        let state = (self, cancelled);
        futures::stream::try_unfold(state, |(mut responses, mut cancelled)| async move {
            loop {
                let Some(until) = &mut cancelled else {
                    let next = responses.try_next().await?;
                    return Ok(next.map(|response| (response, (responses, cancelled))));
                };
                tokio::select! {
                    biased;
                    () = until => {
                        cancelled = None;
                        if !responses.over {
                            responses.cancel().await?;
                        }
                    }
                    next = responses.try_next() => {
                        return Ok(next?.map(|response| (response, (responses, cancelled))));
                    }
                }
            }
        })
        .boxed()
    }

    /// The final response; those before it are passed over.
    ///
    /// # Errors
    /// `Closed` when the association ended before.
    pub async fn single(mut self) -> Result<Response> {
        while let Some(response) = self.next().await {
            let response = response?;
            if !response.status().is_pending() {
                return Ok(response);
            }
        }
        Err(ended())
    }
}

impl Stream for Responses {
    type Item = Result<Response>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        // Every request ends with a final response or with the association.
        let response = ready!(this.responses.poll_recv(context)).unwrap_or_else(|| Err(ended()));
        this.over = !matches!(&response, Ok(response) if response.status().is_pending());
        Poll::Ready(Some(response))
    }
}

impl std::fmt::Debug for Responses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Responses")
            .field("message_id", &self.message_id)
            .finish_non_exhaustive()
    }
}
