//! [`Association`]: an established association, before it is split.

use std::net::SocketAddr;
use std::sync::Arc;

use pacs_core::{Error, ErrorKind, Result};

use super::negotiated::Negotiated;
use super::receiver::{Event, Receiver};
use super::sender::Sender;
use crate::ul::pdu::Abort;

/// An established association. Dropped without release, it is aborted.
#[derive(Debug)]
pub struct Association {
    pub(super) receiver: Receiver,
    pub(super) sender: Sender,
    pub(super) peer: Option<SocketAddr>,
}

impl Association {
    /// What both sides agreed on.
    pub fn negotiated(&self) -> &Arc<Negotiated> {
        self.sender.negotiated()
    }

    /// Address of the peer, where the stream has one.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The two halves. The association lives as long as either.
    pub fn split(self) -> (Receiver, Sender) {
        (self.receiver, self.sender)
    }

    /// Releases the association and discards what the peer still sends.
    ///
    /// # Errors
    /// `TimedOut` when the peer doesn't answer, after aborting; `Closed` when it closes or aborts.
    pub async fn release(mut self) -> Result<()> {
        let patience = self.sender.shared.timeouts.release;
        self.sender.release().await?;
        let answer = async {
            loop {
                match self.receiver.next(None).await? {
                    Event::Released => return Ok(()),
                    Event::Aborted(abort) => {
                        return Err(Error::new(
                            ErrorKind::Closed,
                            "association.release",
                            abort.to_string(),
                        ));
                    }
                    Event::Data(_) | Event::ReleaseRequested => {}
                }
            }
        };
        match tokio::time::timeout(patience, answer).await {
            Ok(done) => done,
            Err(_) => {
                self.sender.abort(Abort::USER).await;
                Err(Error::new(
                    ErrorKind::TimedOut,
                    "association.release",
                    "the peer did not answer the release request",
                ))
            }
        }
    }

    /// Aborts the association.
    pub async fn abort(self, abort: Abort) {
        self.sender.abort(abort).await;
    }
}
