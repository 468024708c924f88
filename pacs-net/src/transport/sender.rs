//! [`Sender`]: the writing half of an association.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{Stream, StreamExt};
use pacs_core::{Error, ErrorKind, Result};

use super::Timeouts;
use super::negotiated::Negotiated;
use super::shared::{Shared, closed};
use crate::ul::cutter::{Cutter, SENT_LENGTH_MAX_BYTES};
use crate::ul::pdu::{Abort, Pdu};
use crate::ul::state::{Action, Event};

/// What is gathered before it is written: a few PDUs in one system call.
const BATCH_LENGTH_BYTES: usize = 256 * 1024;

/// The writing half of an association; a clone is the same half.
#[derive(Clone)]
pub struct Sender {
    pub(super) shared: Arc<Shared>,
    pub(super) negotiated: Arc<Negotiated>,
}

impl Sender {
    /// What both sides agreed on.
    pub fn negotiated(&self) -> &Arc<Negotiated> {
        &self.negotiated
    }

    /// Sends a message: a command set, then the data set where there is one, cut to the peer's maximum
    /// length. The pieces of the data set are sent as they are, without a copy.
    ///
    /// - Messages of several callers follow each other whole, in the order of their calls.
    /// - A future that was polled once may hold the writing side: poll it on to its end, and don't wait for
    ///   another message, or its response, before.
    /// - When the data set yields an error, or the future is dropped before its end, a message is left
    ///   half sent: the association is aborted.
    ///
    /// # Errors
    /// `Closed` when the association has ended or is being released, `TimedOut` when the peer reads too
    /// slowly, `Io`; or the data set's own error.
    pub async fn send<S>(&self, context_id: u8, command: Bytes, data_set: Option<S>) -> Result<()>
    where
        S: Stream<Item = Result<Bytes>> + Send + Unpin,
    {
        let sent = {
            let mut writer = tokio::select! {
                biased;
                writer = self.shared.writer.lock() => writer,
                () = self.shared.ended.wait() => return Err(closed()),
            };
            if self.shared.ended.is_set() {
                return Err(closed());
            }
            self.shared.request(Event::DataRequest)?;
            let mut guard = HalfSent(Some(&self.shared));
            let peer_maximum = match self.negotiated.peer.maximum_length {
                0 => SENT_LENGTH_MAX_BYTES,
                maximum => maximum,
            };
            let patience = self.shared.timeouts.send;
            let message = async {
                let mut cutter = Cutter::new(context_id, peer_maximum);
                cutter.command(command);
                if let Some(mut data_set) = data_set {
                    while let Some(piece) = data_set.next().await {
                        cutter.data(piece?);
                        if cutter.ready_length() >= BATCH_LENGTH_BYTES {
                            writer.write_all(cutter.take_ready(), patience).await?;
                        }
                    }
                    cutter.end_data();
                }
                writer.write_all(cutter.take_ready(), patience).await
            };
            let sent = tokio::select! {
                biased;
                sent = message => sent,
                () = self.shared.ended.wait() => Err(closed()),
            };
            guard.0 = None;
            sent
        };
        if sent.is_err() && !self.shared.ended.is_set() {
            self.abort(Abort::USER).await;
        }
        sent
    }

    /// Requests the release of the association (A-RELEASE-RQ). The receiver yields
    /// [`Event::Released`](super::Event::Released) when the peer has confirmed.
    ///
    /// # Errors
    /// `Closed` when the association has ended or is being released already.
    pub async fn release(&self) -> Result<()> {
        self.shared.request(Event::ReleaseRequest)?;
        self.shared.send_pdu(&Pdu::ReleaseRq).await
    }

    /// Confirms the peer's request to release (A-RELEASE-RP).
    ///
    /// # Errors
    /// `Closed` when the peer has not requested it.
    pub async fn confirm_release(&self) -> Result<()> {
        self.shared.request(Event::ReleaseResponse)?;
        self.shared.send_pdu(&Pdu::ReleaseRp).await
    }

    /// Aborts the association: A-ABORT is sent where the stream takes it soon; both halves end.
    pub async fn abort(&self, abort: Abort) {
        if self.shared.on(Event::AbortRequest) == Some(Action::Aa1) {
            self.shared.send_abort(abort).await;
        } else {
            self.shared.close().await;
        }
    }

    /// The waits of the association.
    pub fn timeouts(&self) -> &Timeouts {
        &self.shared.timeouts
    }

    /// Whether the association has ended.
    pub fn has_ended(&self) -> bool {
        self.shared.ended.is_set()
    }

    /// Waits until the association has ended.
    pub async fn ended(&self) {
        self.shared.ended.wait().await;
    }

    /// An error for a context that was not negotiated.
    pub(crate) fn no_context() -> Error {
        Error::new(
            ErrorKind::Unsupported,
            "association.send",
            "no accepted presentation context for this SOP class and role",
        )
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

/// Ends the association when a message is dropped before it was sent whole.
struct HalfSent<'a>(Option<&'a Shared>);

impl Drop for HalfSent<'_> {
    fn drop(&mut self) {
        if let Some(shared) = self.0 {
            shared.ended.set();
        }
    }
}
