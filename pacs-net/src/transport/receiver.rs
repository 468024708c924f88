//! [`Receiver`]: the reading half of an association.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bytes::BufMut as _;
use pacs_core::{Error, ErrorKind, Result};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::Instant;

use super::Timeouts;
use super::shared::Shared;
use crate::ul::decoder::{Decoder, Fragment, Item};
use crate::ul::pdu::{Abort, Pdu};
use crate::ul::state::{Action, Event as MachineEvent};

/// After so long without a byte the read buffer is given back.
const SHRINK_AFTER: Duration = Duration::from_secs(1);

/// What comes in crumbs is read so much at a time, with a rest before each: some hundred thousand PDUs a second of one
/// association would take the time of all others.
const CRUMBS_READ_BYTES: usize = 4 * 1024;
const CRUMBS_REST: Duration = Duration::from_millis(5);

/// What happens on an association.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A piece of a message.
    Data(Fragment),
    /// The peer wants to release: finish what is under way, then call
    /// [`Sender::confirm_release`](super::Sender::confirm_release).
    ReleaseRequested,
    /// The association was released.
    Released,
    /// The peer aborted the association.
    Aborted(Abort),
}

/// The reading half of an association.
pub struct Receiver {
    read: Box<dyn AsyncRead + Send + Unpin>,
    decoder: Decoder,
    last_read: Instant,
    pub(super) shared: Arc<Shared>,
}

impl Receiver {
    pub(super) fn new(
        read: Box<dyn AsyncRead + Send + Unpin>,
        maximum_length: u32,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            read,
            decoder: Decoder::new(maximum_length),
            last_read: Instant::now(),
            shared,
        }
    }

    /// The waits of the association.
    pub fn timeouts(&self) -> &Timeouts {
        &self.shared.timeouts
    }

    /// For how long no byte has come and none has been written; nothing while a write is under way,
    /// which has the send timeout.
    pub(crate) fn silence(&self) -> Duration {
        let written = self.shared.last_written();
        written.map_or(Duration::ZERO, |written| written.max(self.last_read).elapsed())
    }

    /// Aborts the association for what the peer sent, and waits for it to close.
    pub async fn abort(&mut self, abort: Abort) {
        self.shared.on(MachineEvent::AbortRequest);
        self.fail(abort).await;
    }

    /// Sets the limit on P-DATA-TF PDUs, once it is agreed.
    pub(super) fn set_maximum_length(&mut self, maximum_length: u32) {
        self.decoder.set_maximum_length(maximum_length);
    }

    /// The next event. Dropping the future loses nothing.
    ///
    /// After [`Event::Released`], [`Event::Aborted`] or an error other than `TimedOut` there is nothing
    /// more to come.
    ///
    /// # Errors
    /// `TimedOut` when no byte came `within` this time; the association is as it was. `Closed` when it
    /// was ended by us or the connection was closed, `Io` when that failed, `Invalid` when the peer
    /// broke the protocol: then it has been aborted.
    pub async fn next(&mut self, within: Option<Duration>) -> Result<Event> {
        loop {
            let item = self.item(within).await?;
            let event = match &item {
                Item::Fragment(_) => MachineEvent::DataPdu,
                Item::Pdu(pdu) => pdu.into(),
            };
            match (self.shared.on(event), item) {
                (Some(Action::Dt2 | Action::Ar6), Item::Fragment(fragment)) => {
                    return Ok(Event::Data(fragment));
                }
                (Some(Action::Ar2), _) => return Ok(Event::ReleaseRequested),
                (Some(Action::Ar8), _) => {
                    // A collision. The requestor answers first (PS3.8 7.2.2.7), the acceptor when it
                    // has the requestor's answer, at Ar10.
                    if self.shared.on(MachineEvent::ReleaseResponse) == Some(Action::Ar9) {
                        self.shared.send_pdu(&Pdu::ReleaseRp).await?;
                    }
                }
                (Some(Action::Ar10), _) => {
                    self.shared.request(MachineEvent::ReleaseResponse)?;
                    self.shared.send_pdu(&Pdu::ReleaseRp).await?;
                    self.linger().await;
                    return Ok(Event::Released);
                }
                (Some(Action::Ar3), _) => {
                    self.shared.close().await;
                    return Ok(Event::Released);
                }
                (Some(Action::Aa2 | Action::Aa3), Item::Pdu(Pdu::Abort(abort))) => {
                    self.shared.close().await;
                    return Ok(Event::Aborted(abort));
                }
                (Some(Action::Aa6), _) => {}
                _ => {
                    self.fail(Abort::UNEXPECTED_PDU).await;
                    return Err(Error::new(
                        ErrorKind::Invalid,
                        "association.receive",
                        "a PDU that is not expected now",
                    ));
                }
            }
        }
    }

    /// Waits for the peer to close the connection, for as long as the ARTIM timer runs, and discards
    /// what it still sends: closing with unread bytes would reset the connection, and the peer might
    /// not get our last PDU.
    pub async fn linger(&mut self) {
        self.shared.close().await;
        let discard = async {
            // Not an array: the future of every idle association would hold it.
            let mut scratch = vec![0; 4096];
            while matches!(self.read.read(&mut scratch).await, Ok(1..)) {}
        };
        let event = match tokio::time::timeout(self.shared.timeouts.artim, discard).await {
            Ok(()) => MachineEvent::TransportClosed,
            Err(_) => MachineEvent::ArtimExpired,
        };
        self.shared.on(event);
    }

    /// The next item off the wire, not yet seen by the state machine.
    pub(super) async fn item(&mut self, within: Option<Duration>) -> Result<Item> {
        // One read may bring thousands of PDUs: others have their turn in between.
        tokio::task::coop::consume_budget().await;
        loop {
            match self.decoder.next_item() {
                Ok(Some(item)) => return Ok(item),
                Ok(None) => {}
                Err(violation) => {
                    // Before the association it is the service-user that aborts (PS3.8 9.2.3, AA-1).
                    let abort = match self.shared.on(MachineEvent::InvalidPdu) {
                        Some(Action::Aa1) => Abort::USER,
                        _ => violation.abort,
                    };
                    self.fail(abort).await;
                    return Err(Error::new(
                        ErrorKind::Invalid,
                        "association.receive",
                        violation.reason,
                    ));
                }
            }
            if self.shared.ended.is_set() {
                return Err(ended());
            }
            let length = match self.fill(within).await {
                Ok(length) => length,
                Err(error) => {
                    if error.kind() != ErrorKind::TimedOut && !self.shared.ended.is_set() {
                        self.shared.on(MachineEvent::TransportClosed);
                        self.shared.ended.set();
                    }
                    return Err(error);
                }
            };
            self.decoder.note_read(length);
            self.last_read = Instant::now();
        }
    }

    /// Reads once. At rest the buffer is given back after a while, and a small one waits on.
    async fn fill(&mut self, within: Option<Duration>) -> Result<usize> {
        let mut left = within;
        if self.decoder.is_at_rest() && within.is_none_or(|within| within > SHRINK_AFTER) {
            if let Some(read) = self.read_once(Some(SHRINK_AFTER)).await {
                return read;
            }
            self.decoder.shrink();
            left = within.map(|within| within - SHRINK_AFTER);
        }
        self.read_once(left).await.unwrap_or_else(|| {
            Err(Error::new(
                ErrorKind::TimedOut,
                "association.receive",
                "nothing came from the peer",
            ))
        })
    }

    /// One read; `None` when nothing came in time.
    async fn read_once(&mut self, within: Option<Duration>) -> Option<Result<usize>> {
        let at_most = match self.decoder.comes_in_crumbs() {
            true => {
                tokio::time::sleep(CRUMBS_REST).await;
                CRUMBS_READ_BYTES
            }
            false => usize::MAX,
        };
        let mut buffer = self.decoder.buffer().limit(at_most);
        let read = self.read.read_buf(&mut buffer);
        let expired = async {
            match within {
                Some(within) => tokio::time::sleep(within).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            read = read => Some(match read {
                Ok(0) => Err(Error::new(
                    ErrorKind::Closed,
                    "association.receive",
                    "the peer closed the connection",
                )),
                Ok(length) => Ok(length),
                Err(error) => Err(Error::io("association.receive", "the connection failed", error)),
            }),
            () = self.shared.ended.wait() => Some(Err(ended())),
            () = expired => None,
        }
    }

    /// Aborts for what the peer did; the state machine has been told.
    pub(super) async fn fail(&mut self, abort: Abort) {
        self.shared.send_abort(abort).await;
        self.linger().await;
    }
}

fn ended() -> Error {
    Error::new(
        ErrorKind::Closed,
        "association.receive",
        "the association has ended",
    )
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}
