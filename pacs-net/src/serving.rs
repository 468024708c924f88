//! What every server does with its port: accepts connections, so many at a time and so many of one address, until it is
//! to stop.

mod addresses;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

pub use addresses::AddressShare;
pub(crate) use addresses::{Addresses, Place};

/// A port, and how many connections are served at once; a further one waits.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) listener: TcpListener,
    pub(crate) connections: Arc<Semaphore>,
    /// A further connection of an address that has its share is closed at once.
    pub(crate) addresses: Addresses,
}

/// A connection that was accepted.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) address: SocketAddr,
    /// Its address has its share already: nothing is served but the word that says so.
    pub(crate) is_beyond_share: bool,
}

impl Port {
    /// Serves each connection by a task of its own until `stop` is ready. Then nobody listens any more, `stopping` is
    /// called, and what runs may end within the grace that `stop` answered; it is broken off after that.
    pub(crate) async fn serve_until<F>(
        self,
        stop: impl Future<Output = Duration>,
        stopping: impl FnOnce(),
        serve: impl Fn(Accepted) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut running = JoinSet::new();
        tokio::pin!(stop);
        let grace = loop {
            let accepted = tokio::select! {
                grace = &mut stop => break grace,
                Some(ended) = running.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        tracing::error!("a connection panicked");
                    }
                    continue;
                }
                accepted = self.accept() => accepted,
            };
            match accepted {
                Ok((accepted, held)) => {
                    let serving = serve(accepted);
                    running.spawn(async move {
                        serving.await;
                        drop(held);
                    });
                }
                Err(error) => {
                    // Out of descriptors, or the peer has gone already: neither ends the service.
                    tracing::error!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        };
        drop(self.listener);
        stopping();
        let drained = async { while running.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, drained).await.is_err() {
            tracing::warn!(broken_off = running.len(), "connections did not end in time");
            running.shutdown().await;
        }
    }

    async fn accept(&self) -> io::Result<(Accepted, (OwnedSemaphorePermit, Place))> {
        let permit = Arc::clone(&self.connections)
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        loop {
            let (stream, address) = self.listener.accept().await?;
            // Without a place the connection is closed here.
            if let Some(place) = self.addresses.take(address.ip()) {
                let accepted = Accepted {
                    stream,
                    address,
                    is_beyond_share: place.is_beyond_share(),
                };
                return Ok((accepted, (permit, place)));
            }
        }
    }
}
