//! What the two halves of an association share: the state machine, the writing side, the end.

use std::future::poll_fn;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use pacs_core::{Error, ErrorKind, Result};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::Timeouts;
use crate::ul::codec::{abort_bytes, write_pdu};
use crate::ul::pdu::{Abort, Pdu};
use crate::ul::state::{Action, Event, Machine, Role};
use crate::util::Signal;

/// Slices in one vectored write; IOV_MAX is 1024 on Linux, beyond some dozens nothing is won.
const SLICES_MAX: usize = 64;

/// For the writing side to come free when the association is aborted.
const ABORT_PATIENCE: Duration = Duration::from_millis(500);

pub(super) struct Shared {
    machine: Mutex<Machine>,
    pub(super) writer: tokio::sync::Mutex<Writer>,
    written: Arc<Written>,
    pub(super) ended: Signal,
    pub(super) timeouts: Timeouts,
    _slot: Option<OwnedSemaphorePermit>,
}

impl Shared {
    pub(super) fn new(
        role: Role,
        write: Box<dyn AsyncWrite + Send + Unpin>,
        timeouts: Timeouts,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let written = Arc::new(Written(Mutex::new(Some(Instant::now()))));
        Self {
            machine: Mutex::new(Machine::new(role)),
            writer: tokio::sync::Mutex::new(Writer {
                write,
                mid_pdu: false,
                written: written.clone(),
            }),
            written,
            ended: Signal::default(),
            timeouts,
            _slot: slot,
        }
    }

    pub(super) fn on(&self, event: Event) -> Option<Action> {
        self.machine
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .on(event)
    }

    /// When our last write ended; `None` while one is under way.
    pub(super) fn last_written(&self) -> Option<Instant> {
        self.written.get()
    }

    /// Takes a local event that is to lead to a PDU.
    pub(super) fn request(&self, event: Event) -> Result<Action> {
        self.on(event).ok_or_else(closed)
    }

    /// Sends one control PDU.
    pub(super) async fn send_pdu(&self, pdu: &Pdu) -> Result<()> {
        let bytes = write_pdu(pdu)
            .map_err(|violation| Error::new(ErrorKind::Invalid, "association.send", violation.reason))?;
        let mut writer = self.writer.lock().await;
        writer.write_all(vec![bytes], self.timeouts.send).await
    }

    /// Sends A-ABORT if the stream is at a PDU's end and takes it soon, and ends the association.
    pub(super) async fn send_abort(&self, abort: Abort) {
        // Ends a message that another half is sending, so that the writer comes free.
        self.ended.set();
        let bytes = Bytes::copy_from_slice(&abort_bytes(abort));
        let send = async {
            let mut writer = self.writer.lock().await;
            if !writer.mid_pdu {
                let _ = writer.write_all(vec![bytes], ABORT_PATIENCE).await;
            }
            let _ = writer.write.shutdown().await;
        };
        let _ = tokio::time::timeout(ABORT_PATIENCE, send).await;
    }

    /// Closes our direction of the stream.
    pub(super) async fn close(&self) {
        self.ended.set();
        let close = async { self.writer.lock().await.write.shutdown().await };
        let _ = tokio::time::timeout(ABORT_PATIENCE, close).await;
    }
}

impl Drop for Shared {
    /// Both halves are gone: an association that is still established is aborted, as well as one can
    /// without waiting.
    fn drop(&mut self) {
        let machine = self.machine.get_mut().unwrap_or_else(PoisonError::into_inner);
        let writer = self.writer.get_mut();
        if machine.on(Event::AbortRequest) == Some(Action::Aa1) && !writer.mid_pdu {
            let mut context = Context::from_waker(Waker::noop());
            let write = Pin::new(&mut writer.write);
            if let Poll::Ready(Ok(_)) = write.poll_write(&mut context, &abort_bytes(Abort::USER)) {
                let _ = Pin::new(&mut writer.write).poll_flush(&mut context);
            }
        }
    }
}

pub(super) struct Writer {
    write: Box<dyn AsyncWrite + Send + Unpin>,
    /// A write was given up within a PDU: nothing that follows would be understood.
    mid_pdu: bool,
    written: Arc<Written>,
}

/// When the last write ended; `None` while one is under way.
struct Written(Mutex<Option<Instant>>);

impl Written {
    fn get(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, ended: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = ended;
    }

    /// A write begins; it ends when what is returned is dropped, also where the write is given up.
    fn begin(self: Arc<Self>) -> Writing {
        self.set(None);
        Writing(self)
    }
}

struct Writing(Arc<Written>);

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.set(Some(Instant::now()));
    }
}

impl Writer {
    /// Writes all of `pieces`, which end at a PDU's end, and flushes. Each write must make progress
    /// within `patience`.
    pub(super) async fn write_all(&mut self, pieces: Vec<Bytes>, patience: Duration) -> Result<()> {
        if self.mid_pdu {
            return Err(closed());
        }
        let _writing = self.written.clone().begin();
        self.mid_pdu = true;
        let mut pieces = pieces;
        let mut first = 0;
        while first < pieces.len() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let mut count = 0;
            for (slice, piece) in slices.iter_mut().zip(&pieces[first..]) {
                *slice = IoSlice::new(piece);
                count += 1;
            }
            let write =
                poll_fn(|context| Pin::new(&mut self.write).poll_write_vectored(context, &slices[..count]));
            let mut written = within(patience, write).await?;
            if written == 0 {
                return Err(Error::new(
                    ErrorKind::Closed,
                    "association.send",
                    "the peer takes no more bytes",
                ));
            }
            while written > 0 && first < pieces.len() {
                let length = pieces[first].len();
                if written >= length {
                    written -= length;
                    // The payload is given back as soon as it is sent.
                    pieces[first] = Bytes::new();
                    first += 1;
                } else {
                    pieces[first].advance(written);
                    written = 0;
                }
            }
            while pieces.get(first).is_some_and(Bytes::is_empty) {
                first += 1;
            }
        }
        within(patience, self.write.flush()).await?;
        self.mid_pdu = false;
        Ok(())
    }
}

async fn within<T>(patience: Duration, write: impl Future<Output = std::io::Result<T>>) -> Result<T> {
    match tokio::time::timeout(patience, write).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Error::io("association.send", "the connection failed", error)),
        Err(_) => Err(Error::new(
            ErrorKind::TimedOut,
            "association.send",
            "the peer reads too slowly",
        )),
    }
}

pub(super) fn closed() -> Error {
    Error::new(
        ErrorKind::Closed,
        "association.send",
        "the association has ended or is being released",
    )
}
