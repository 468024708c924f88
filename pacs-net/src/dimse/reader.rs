//! [`MessageReader`]: fragments become messages.

use bytes::{Bytes, BytesMut};
use pacs_core::{Error, ErrorKind, Result};
use std::time::Duration;
use tokio::time::Instant;

use super::COMMAND_SET_LENGTH_MAX_BYTES;
use super::command::{CommandSet, too_long};
use crate::transport::{Event, Receiver};
use crate::ul::decoder::Fragment;
use crate::ul::pdu::Abort;

/// What comes next on an association.
pub(super) enum Incoming {
    /// A command set; its data set, where it has one, is still to be read.
    Message { context_id: u8, command: CommandSet },
    /// The peer wants to release.
    ReleaseRequested,
    /// Released, as we asked.
    Released,
    /// Aborted by the peer.
    Aborted(Abort),
}

/// Reads messages: a command set whole, then its data set piece by piece.
pub(super) struct MessageReader {
    receiver: Receiver,
    /// Pieces of a command set that is not whole yet.
    command: BytesMut,
    command_context: Option<u8>,
    /// When a command set that has begun must be whole.
    command_deadline: Option<Instant>,
    /// The context of a data set that is not read to its end.
    data_context: Option<u8>,
    /// How the association ended within a data set: whoever read that was told, and so is `next`.
    ended: Option<Result<Abort>>,
}

impl MessageReader {
    pub(super) fn new(receiver: Receiver) -> Self {
        Self {
            receiver,
            command: BytesMut::new(),
            command_context: None,
            command_deadline: None,
            data_context: None,
            ended: None,
        }
    }

    pub(super) fn receiver(&mut self) -> &mut Receiver {
        &mut self.receiver
    }

    /// The next event; what is left of the last data set is discarded. `TimedOut` when nothing came
    /// `within` this time between messages; within a message the receive timeout holds, for a command set as a whole, and
    /// its end aborts the association. Dropping the future loses nothing.
    pub(super) async fn next(&mut self, within: Duration) -> Result<Incoming> {
        while self.data_context.is_some() && self.ended.is_none() {
            // An error is kept in `ended`.
            let _ = self.data().await;
        }
        if let Some(ended) = self.ended.take() {
            return ended.map(Incoming::Aborted);
        }
        loop {
            let event = if let Some(deadline) = self.command_deadline {
                match tokio::time::timeout_at(deadline, self.event_within_message()).await {
                    Ok(event) => event?,
                    // A command set is small: who sends it byte by byte keeps the association's place for nothing.
                    Err(_) => return Err(self.too_slow().await),
                }
            } else {
                self.receiver.next(Some(within)).await?
            };
            let fragment = match event {
                Event::Data(fragment) => fragment,
                Event::ReleaseRequested => return Ok(Incoming::ReleaseRequested),
                Event::Released => return Ok(Incoming::Released),
                Event::Aborted(abort) => return Ok(Incoming::Aborted(abort)),
            };
            if !fragment.command || self.command_context.is_some_and(|id| id != fragment.context_id) {
                return Err(self.violation("a data set without a command set before it").await);
            }
            if let Some(message) = self.add_command(fragment).await? {
                return Ok(message);
            }
        }
    }

    async fn add_command(&mut self, fragment: Fragment) -> Result<Option<Incoming>> {
        let context_id = fragment.context_id;
        if self.command.len() + fragment.data.len() > COMMAND_SET_LENGTH_MAX_BYTES {
            self.receiver.abort(Abort::INVALID_PARAMETER).await;
            return Err(too_long("association.receive"));
        }
        if !fragment.last {
            self.command_context = Some(context_id);
            let patience = self.receiver.timeouts().receive;
            self.command_deadline
                .get_or_insert_with(|| Instant::now() + patience);
            self.command.extend_from_slice(&fragment.data);
            return Ok(None);
        }
        let bytes = if self.command.is_empty() {
            fragment.data
        } else {
            self.command.extend_from_slice(&fragment.data);
            self.command.split().freeze()
        };
        self.command = BytesMut::new();
        self.command_context = None;
        self.command_deadline = None;
        match CommandSet::decode(&bytes) {
            Ok(command) => {
                self.data_context = command.has_data_set().then_some(context_id);
                Ok(Some(Incoming::Message { context_id, command }))
            }
            Err(error) => {
                self.receiver.abort(Abort::INVALID_PARAMETER).await;
                Err(error)
            }
        }
    }

    /// The next piece of the data set; `None` at its end.
    pub(super) async fn data(&mut self) -> Result<Option<Bytes>> {
        let Some(context_id) = self.data_context else {
            return Ok(None);
        };
        if self.ended.is_some() {
            return Err(Error::new(
                ErrorKind::Closed,
                "association.receive",
                "the association has ended",
            ));
        }
        let piece = self.data_of(context_id).await;
        if let Err(error) = &piece
            && self.ended.is_none()
        {
            let copy = Error::new(error.kind(), error.operation(), error.context().to_owned());
            self.ended = Some(Err(copy));
        }
        piece
    }

    async fn data_of(&mut self, context_id: u8) -> Result<Option<Bytes>> {
        loop {
            let fragment = match self.event_within_message().await? {
                Event::Data(fragment) => fragment,
                Event::Aborted(abort) => {
                    self.ended = Some(Ok(abort));
                    return Err(Error::new(
                        ErrorKind::Closed,
                        "association.receive",
                        abort.to_string(),
                    ));
                }
                Event::ReleaseRequested | Event::Released => {
                    return Err(self.violation("a release within a message").await);
                }
            };
            if fragment.command || fragment.context_id != context_id {
                return Err(self.violation("a data set is broken off by something else").await);
            }
            if fragment.last {
                self.data_context = None;
            }
            if !fragment.data.is_empty() {
                return Ok(Some(fragment.data));
            }
            if fragment.last {
                return Ok(None);
            }
        }
    }

    /// Whether the data set has been read to its end.
    pub(super) fn is_between_messages(&self) -> bool {
        self.data_context.is_none()
    }

    async fn event_within_message(&mut self) -> Result<Event> {
        let patience = self.receiver.timeouts().receive;
        match self.receiver.next(Some(patience)).await {
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                self.receiver.abort(Abort::NOT_SPECIFIED).await;
                Err(error)
            }
            other => other,
        }
    }

    async fn too_slow(&mut self) -> Error {
        self.receiver.abort(Abort::NOT_SPECIFIED).await;
        let why = "a command set did not come whole in time";
        Error::new(ErrorKind::TimedOut, "association.receive", why)
    }

    async fn violation(&mut self, reason: &'static str) -> Error {
        self.receiver.abort(Abort::UNEXPECTED_PARAMETER).await;
        Error::new(ErrorKind::Invalid, "association.receive", reason)
    }
}
