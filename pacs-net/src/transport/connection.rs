//! [`Connection`]: any stream of bytes in both directions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::tls::{Certificate, Stream};

/// Between the keep-alive probes of a silent connection.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// An open transport connection, before an association is made on it.
pub struct Connection {
    pub(crate) read: Box<dyn AsyncRead + Send + Unpin>,
    pub(crate) write: Box<dyn AsyncWrite + Send + Unpin>,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) certificate: Option<Arc<Certificate>>,
    pub(crate) is_beyond_limit: bool,
}

impl Connection {
    /// Any stream: an in-memory pipe, another's TLS. `peer` is told to whoever admits.
    pub fn new<S>(stream: S, peer: Option<SocketAddr>) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (read, write) = tokio::io::split(stream);
        Self {
            read: Box::new(read),
            write: Box::new(write),
            peer,
            certificate: None,
            is_beyond_limit: false,
        }
    }

    /// A TCP connection, with TCP_NODELAY (a small PDU must not wait for the acknowledgement of the one
    /// before) and keep-alive (a peer that vanished is noticed).
    pub fn tcp(stream: TcpStream) -> Self {
        Self::tune(&stream);
        let peer = stream.peer_addr().ok();
        let (read, write) = stream.into_split();
        Self {
            read: Box::new(read),
            write: Box::new(super::WriteHalf(write)),
            peer,
            certificate: None,
            is_beyond_limit: false,
        }
    }

    /// A connection that was made secure, or may be plain.
    pub(crate) fn secured(stream: Stream, peer: Option<SocketAddr>) -> Self {
        let certificate = stream.certificate();
        Self {
            certificate,
            ..Self::new(stream, peer)
        }
    }

    /// There are too many already: whatever association is requested on it is rejected for now ("local limit exceeded",
    /// PS3.8 9.3.4).
    #[must_use]
    pub(crate) fn beyond_limit(mut self) -> Self {
        self.is_beyond_limit = true;
        self
    }

    /// Sets the socket options of [`Self::tcp`] on a stream that something else will wrap, such as TLS.
    pub fn tune(stream: &TcpStream) {
        // Both only matter for speed and tidiness: a socket that refuses them still works.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        let keep_alive = socket2::TcpKeepalive::new()
            .with_time(KEEP_ALIVE)
            .with_interval(KEEP_ALIVE / 4);
        if let Err(error) = socket2::SockRef::from(stream).set_tcp_keepalive(&keep_alive) {
            tracing::debug!(%error, "keep-alive could not be set");
        }
    }

    /// Address of the peer, where the stream has one.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }
}

impl From<TcpStream> for Connection {
    fn from(stream: TcpStream) -> Self {
        Self::tcp(stream)
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}
