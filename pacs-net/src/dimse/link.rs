//! [`Link`]: what the driver, the operations and the requests of one association share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::Stream;
use pacs_core::{Error, ErrorKind, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::client::Response;
use super::command::CommandSet;
use super::{OPERATIONS_MAX, RESPONSES_WAITING_MAX};
use crate::transport::Sender;

pub(super) struct Link {
    pub(super) sender: Sender,
    pub(super) peer: Option<std::net::SocketAddr>,
    /// One permit for each operation that we may have outstanding.
    window: Arc<Semaphore>,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    last_id: u16,
    requests: HashMap<u16, Request>,
}

/// A request of ours that has not had its final response.
struct Request {
    responses: mpsc::Sender<Result<Response>>,
    _permit: OwnedSemaphorePermit,
}

impl Link {
    pub(super) fn new(sender: Sender, peer: Option<std::net::SocketAddr>) -> Self {
        let window = permits(sender.negotiated().outgoing_operations);
        Self {
            sender,
            peer,
            window: Arc::new(Semaphore::new(window)),
            pending: Mutex::default(),
        }
    }

    /// Sends a request as soon as the window allows; answers its message ID and where its responses
    /// arrive.
    pub(super) async fn request<S>(
        &self,
        context_id: u8,
        mut command: CommandSet,
        data_set: Option<S>,
    ) -> Result<(u16, mpsc::Receiver<Result<Response>>)>
    where
        S: Stream<Item = Result<Bytes>> + Send + Unpin,
    {
        let permit = self.window.clone().acquire_owned().await.map_err(|_| ended())?;
        let (responses, receiver) = mpsc::channel(RESPONSES_WAITING_MAX);
        let id = {
            let mut pending = self.pending();
            let mut id = pending.last_id;
            // At most as many are taken as the window has permits, far fewer than there are IDs.
            loop {
                id = id.wrapping_add(1);
                if id != 0 && !pending.requests.contains_key(&id) {
                    break;
                }
            }
            pending.last_id = id;
            let request = Request {
                responses,
                _permit: permit,
            };
            pending.requests.insert(id, request);
            id
        };
        command.set_message_id(id);
        command.set_has_data_set(data_set.is_some());
        let sent = self.sender.send(context_id, command.encode(), data_set).await;
        if let Err(error) = sent {
            self.pending().requests.remove(&id);
            return Err(error);
        }
        Ok((id, receiver))
    }

    /// Where a response to `id` goes; with a final one the request is over and its permit free.
    pub(super) fn responses(&self, id: u16, is_final: bool) -> Option<mpsc::Sender<Result<Response>>> {
        let mut pending = self.pending();
        if is_final {
            pending.requests.remove(&id).map(|request| request.responses)
        } else {
            pending.requests.get(&id).map(|request| request.responses.clone())
        }
    }

    /// Whether requests of ours wait for responses.
    pub(super) fn is_waiting(&self) -> bool {
        !self.pending().requests.is_empty()
    }

    /// The association has ended: every request ends, none is made any more.
    pub(super) fn end(&self) {
        self.window.close();
        self.pending().requests.clear();
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Permits for a negotiated window, where 0 is without limit.
pub(super) fn permits(window: u16) -> usize {
    match window {
        0 => OPERATIONS_MAX,
        limit => usize::from(limit).min(OPERATIONS_MAX),
    }
}

pub(super) fn ended() -> Error {
    Error::new(ErrorKind::Closed, "dimse.request", "the association has ended")
}
