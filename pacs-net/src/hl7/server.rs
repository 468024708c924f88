//! [`Server`]: listens for HL7 messages over MLLP, and answers each.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use pacs_core::budget::Budget;
use pacs_core::{Error, ErrorKind, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::ack::{Condition, Fault, answers};
use super::charset::Charset;
use super::message::{MESSAGE_LENGTH_MAX_BYTES, Message};
use super::mllp::{self, Frame, Reader};
use crate::serving::{Accepted, AddressShare, Addresses, Port};
use crate::tls::{Acceptor, Certificate, Stream};
use crate::util::Signal;

/// A message on its way in.
#[derive(Clone)]
pub struct Incoming {
    /// As it came.
    pub bytes: Bytes,
    /// What it says, or why it can't be read.
    pub message: Result<Message, Fault>,
    /// Who sent it, where it came over a network.
    pub peer: Option<SocketAddr>,
    /// Whom the sender has shown itself to be, by a certificate.
    pub certificate: Option<Arc<Certificate>>,
}

impl Incoming {
    /// Reads what came; `undeclared` is the character set of who names none.
    pub fn new(bytes: Bytes, undeclared: &Charset, peer: Option<SocketAddr>) -> Self {
        let message = Message::parse_with(&bytes, undeclared).map_err(Fault::from);
        Self {
            bytes,
            message,
            peer,
            certificate: None,
        }
    }
}

/// It may hold patient data: only its length is told.
impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (length, peer) = (self.bytes.len(), self.peer);
        f.debug_struct("Incoming")
            .field("length", &length)
            .field("peer", &peer)
            .finish_non_exhaustive()
    }
}

/// What is done with messages.
pub trait Handler: Send + Sync + 'static {
    /// Deals with one message, also with one that can't be read. `Ok` is answered with AA: whatever it means is durable
    /// then. The messages of one connection come one after the other, those of several at once.
    fn handle(&self, incoming: Incoming) -> BoxFuture<'_, Result<(), Fault>>;
}

/// How a [`Server`] behaves.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Connections at once; a further one waits until one ends.
    pub connections_max: usize,
    /// What of them one address may have; a further one is closed.
    pub address_share: AddressShare,
    /// How long a connection may say nothing between messages before it is closed.
    pub idle: Duration,
    /// How long one message may take to come whole, and its answer to go.
    pub transfer: Duration,
    /// The longest message, in bytes; at most [`MESSAGE_LENGTH_MAX_BYTES`].
    pub message_length_max: usize,
    /// The character set of messages that name none.
    pub undeclared: Charset,
    /// By which connections come over TLS.
    pub tls: Option<Acceptor>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            connections_max: 64,
            address_share: AddressShare::default(),
            // Interfaces keep a connection for good; one that died unseen is let go.
            idle: Duration::from_secs(3600),
            transfer: Duration::from_secs(60),
            message_length_max: MESSAGE_LENGTH_MAX_BYTES,
            undeclared: Charset::default(),
            tls: None,
        }
    }
}

/// Accepts connections on a TCP port and answers the messages that come over them.
///
/// A panic of the handler is answered with AR, and costs no other message.
pub struct Server {
    port: Port,
    handler: Arc<dyn Handler>,
    options: Arc<ServerOptions>,
    large: Budget,
}

/// What large messages take in memory while they come and are dealt with: of four of the longest.
const LARGE_LENGTH_MAX_BYTES: usize = 256 * 1024 * 1024;

impl Server {
    /// Listens on `address`.
    ///
    /// # Errors
    /// `Io` when the address can't be had.
    pub async fn bind(
        address: SocketAddr,
        handler: Arc<dyn Handler>,
        mut options: ServerOptions,
    ) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| Error::io("hl7.bind", format!("can't listen on {address}"), error))?;
        options.message_length_max = options.message_length_max.min(MESSAGE_LENGTH_MAX_BYTES);
        let connections = options.connections_max.max(1);
        Ok(Self {
            handler,
            port: Port {
                listener,
                connections: Arc::new(Semaphore::new(connections)),
                addresses: Addresses::new(options.address_share, connections, 0),
            },
            large: Budget::new(LARGE_LENGTH_MAX_BYTES),
            options: Arc::new(options),
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// `Io` when the system can't tell.
    pub fn address(&self) -> Result<SocketAddr> {
        self.port
            .listener
            .local_addr()
            .map_err(|error| Error::io("hl7.address", "no local address", error))
    }

    /// Serves until `stop` is ready. Then no connection is accepted and no further message is read; those that are being
    /// dealt with may end within `grace`.
    pub async fn run(self, stop: impl Future<Output = ()>, grace: Duration) {
        self.run_until(async move {
            stop.await;
            grace
        })
        .await;
    }

    /// The same, for who knows only then how long what runs may go on: `stop` answers the grace.
    pub async fn run_until(self, stop: impl Future<Output = Duration>) {
        let Self {
            port,
            handler,
            options,
            large,
        } = self;
        let stopping = Arc::new(Signal::default());
        let serve = |accepted: Accepted| {
            let Accepted { stream, address, .. } = accepted;
            let (handler, options) = (Arc::clone(&handler), Arc::clone(&options));
            let (stopping, large) = (Arc::clone(&stopping), large.clone());
            async move {
                tracing::info!(%address, "an HL7 connection was accepted");
                let served = async {
                    // An answer is small, and waited for.
                    stream
                        .set_nodelay(true)
                        .map_err(|error| Error::io("hl7.accept", "no connection", error))?;
                    let stream = match &options.tls {
                        Some(tls) => tokio::select! {
                            stream = tls.accept(stream, options.transfer) => stream?,
                            () = stopping.wait() => return Ok(()),
                        },
                        None => Stream::plain(stream),
                    };
                    let peer = (Some(address), stream.certificate());
                    let reader = Reader::within(large, stream, options.message_length_max);
                    serve(reader, peer, &*handler, &options, &stopping).await
                };
                match served.await {
                    Ok(()) => tracing::info!(%address, "an HL7 connection ended"),
                    Err(error) => tracing::warn!(%address, %error, "an HL7 connection was broken off"),
                }
            }
        };
        port.serve_until(stop, || stopping.set(), serve).await;
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Answers what comes over one connection until it ends.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut reader: Reader<S>,
    (peer, certificate): (Option<SocketAddr>, Option<Arc<Certificate>>),
    handler: &dyn Handler,
    options: &ServerOptions,
    stopping: &Signal,
) -> Result<()> {
    let slow = |_| {
        Error::new(
            ErrorKind::TimedOut,
            "mllp.read",
            "a message or its answer took too long",
        )
    };
    loop {
        let begins = tokio::select! {
            begins = timeout(options.idle, reader.begins()) => begins,
            () = stopping.wait() => return Ok(()),
        };
        // The peer closed, or nothing came for long.
        if !begins.unwrap_or(Ok(false))? {
            return Ok(());
        }
        let frame = timeout(options.transfer, reader.next()).await.map_err(slow)??;
        let (bytes, outcome) = match frame {
            Frame::Message(bytes) => {
                let incoming = Incoming {
                    certificate: certificate.clone(),
                    ..Incoming::new(bytes.clone(), &options.undeclared, peer)
                };
                (bytes, Some(handle(handler, incoming).await))
            }
            Frame::TooLong(head) => (head, None),
            Frame::End => return Ok(()),
        };
        let goes_on = outcome.is_some();
        let outcome = outcome.unwrap_or_else(|| {
            let why = format!("the message is longer than {} bytes", options.message_length_max);
            Err(Fault::reject(Condition::Internal, why))
        });
        if let Err(fault) = &outcome {
            tracing::warn!(?peer, %fault, "an HL7 message was not accepted");
        }
        // Who can't be told by its MSH what became of it is told nothing, and sees the connection end.
        let Some(header) = Message::header(&bytes) else {
            let why = "what the peer sent is no HL7 message";
            return Err(Error::new(ErrorKind::Invalid, "hl7.answer", why));
        };
        for answer in answers(&header, &outcome) {
            // Everything in it is ASCII or what the sender wrote; where its set is not known, UTF-8 says it.
            let bytes = answer.to_bytes().unwrap_or_else(|_| answer.text().into_bytes());
            timeout(options.transfer, mllp::write(reader.stream(), &bytes))
                .await
                .map_err(slow)??;
        }
        if !goes_on || stopping.is_set() {
            return Ok(());
        }
    }
}

async fn handle(handler: &dyn Handler, incoming: Incoming) -> Result<(), Fault> {
    let handled = AssertUnwindSafe(async { handler.handle(incoming).await })
        .catch_unwind()
        .await;
    handled.unwrap_or_else(|_| {
        tracing::error!("an HL7 message made its handler panic");
        Err(Fault::reject(Condition::Internal, "internal failure"))
    })
}
