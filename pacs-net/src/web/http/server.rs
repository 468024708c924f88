//! [`HttpServer`]: listens for HTTP/1.1 and HTTP/2 (with prior knowledge, RFC 9113 3.3, or by ALPN) and serves a router.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use pacs_core::{Error, Result};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use super::connection;
use super::exchange::{self, Shared};
use super::metrics::Metrics;
use crate::serving::{Accepted, AddressShare, Addresses, Port};
use crate::tls::Acceptor;

pub use super::exchange::{RequestId, Secured};

/// What a client must send of a request's body, in bytes a second over [`HttpLimits::body_stall`], while it is waited
/// for. The slowest lines that carry images have several times as much; below it, who sends a byte now and then would
/// hold the place of a request for ever, and for nothing.
pub const BODY_RATE_MIN_BYTES_PER_SECOND: u64 = 1024;

/// What a client may take of the server. Sizes are in bytes.
///
/// An instance has no limit but the disk: bodies are streamed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Connections at once. A further one waits until one ends. Browsers open six for each page.
    pub connections_max: usize,
    /// What of them one address may have; a further one is closed. Behind a proxy all come from one.
    pub address_share: AddressShare,
    /// Requests at once, over all connections; a further one is answered 503. Each holds a task, and what its handler
    /// holds.
    pub requests_max: usize,
    /// Requests at once on one HTTP/2 connection, so that one client doesn't take all of them.
    pub requests_per_connection_max: u32,
    /// The request line and the header of a request; beyond, it is answered 431. Viewers' tokens have some KiB.
    pub header_length_max_bytes: usize,
    /// Header fields of a request; beyond, it is answered 431. Browsers send 20.
    pub header_fields_max: usize,
    /// Target of a request; beyond, it is answered 414. A query for some hundred UIDs stays below.
    pub target_length_max_bytes: usize,
    /// From the beginning of a connection, or the end of a response, until the header of the next request is whole.
    /// Then the connection is closed: those who hold connections by sending slowly keep nobody else out.
    pub header_read: Duration,
    /// That a client sends less than [`BODY_RATE_MIN_BYTES_PER_SECOND`] of a request's body, while the handler waits for
    /// it. Then the body is given up, at the latest after twice the time, and its request fails with 408.
    pub body_stall: Duration,
    /// That a client takes nothing of what waits for it. Then its connection is dropped, or, where it takes other streams
    /// of its HTTP/2 connection, the stream is reset; at the latest after twice the time. Who takes little, but
    /// something, is not dropped.
    pub write_stall: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connections_max: 2000,
            address_share: AddressShare::default(),
            requests_max: 1000,
            requests_per_connection_max: 100,
            header_length_max_bytes: 64 * 1024,
            header_fields_max: 100,
            target_length_max_bytes: 32 * 1024,
            header_read: Duration::from_secs(30),
            body_stall: Duration::from_secs(60),
            write_stall: Duration::from_secs(60),
        }
    }
}

/// Serves a router on a TCP port.
///
/// - Each response has X-Request-Id: the client's, where it is short and of token characters, or one of ours. The log
///   names it in the span `request`, and holds no query strings and no paths but their templates.
/// - A panic of a handler is answered 500; one in a body breaks its response off. Neither reaches another request.
/// - The extension `ConnectInfo<SocketAddr>` has the client's address, [`RequestId`] the ID.
#[derive(Debug)]
pub struct HttpServer {
    port: Port,
    shared: Arc<Shared>,
}

impl HttpServer {
    /// Listens on `address`.
    ///
    /// # Errors
    /// `Io` when the address can't be had.
    pub async fn bind(address: SocketAddr, router: Router, limits: HttpLimits) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| Error::io("http.bind", format!("can't listen on {address}"), error))?;
        Ok(Self {
            port: Port {
                listener,
                connections: Arc::new(Semaphore::new(limits.connections_max)),
                addresses: Addresses::new(limits.address_share, limits.connections_max, 0),
            },
            shared: Arc::new(Shared {
                router: exchange::keeping_path(router),
                requests: Arc::new(Semaphore::new(limits.requests_max)),
                limits,
                metrics: Metrics::new(),
                tls: None,
            }),
        })
    }

    /// Records requests in these metrics.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Metrics) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.metrics = metrics;
        }
        self
    }

    /// Takes connections over TLS. A request that came so has the extension [`Secured`].
    ///
    /// # Errors
    /// `Invalid` when the credentials have changed meanwhile and can't be used.
    pub fn with_tls(mut self, acceptor: Acceptor) -> Result<Self> {
        let acceptor = acceptor.with_protocols(&[b"h2", b"http/1.1"])?;
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.tls = Some(acceptor);
        }
        Ok(self)
    }

    /// Where it listens.
    ///
    /// # Errors
    /// `Io` when the system can't tell.
    pub fn address(&self) -> Result<SocketAddr> {
        self.port
            .listener
            .local_addr()
            .map_err(|error| Error::io("http.address", "no local address", error))
    }

    /// Serves until `stop` is ready. Then no new connection is accepted, and those without a request are closed;
    /// requests that run may end within `grace`, and are broken off after that.
    pub async fn run(self, stop: impl Future<Output = ()>, grace: Duration) {
        self.run_until(async move {
            stop.await;
            grace
        })
        .await;
    }

    /// The same, for who knows only then how long what runs may go on: `stop` answers the grace.
    pub async fn run_until(self, stop: impl Future<Output = Duration>) {
        let (stopped, watch) = watch::channel(false);
        let Self { port, shared } = self;
        let serve = |accepted: Accepted| {
            let Accepted { stream, address, .. } = accepted;
            let (shared, watch) = (Arc::clone(&shared), watch.clone());
            connection::serve(stream, address, shared, watch)
        };
        // Nobody listens any more where no connection is left.
        let stopping = || {
            let _ = stopped.send(true);
        };
        port.serve_until(stop, stopping, serve).await;
    }
}
