//! [`Server`]: listens for associations and serves them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pacs_core::{Error, ErrorKind, Pacs, Result};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::policy::{StorageAdmission, accept_policy};
use super::{Monitor, PacsServices, ScpOptions, ups};
use crate::dimse::{Services, serve};
use crate::serving::{Accepted, AddressShare, Addresses, Port};
use crate::tls;
use crate::transport::{Acceptor, Connection, accept};

/// How much is served at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Associations at once; a further one is rejected for now ("local limit exceeded", PS3.8 9.3.4).
    pub associations_max: usize,
    /// What of them one address may have. A further one is rejected in the same words; many further connections at once
    /// are closed.
    pub address_share: AddressShare,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            associations_max: 1000,
            address_share: AddressShare::default(),
        }
    }
}

/// Accepts associations on a TCP port and serves each from an engine.
#[derive(Debug)]
pub struct Server {
    port: Port,
    acceptor: Arc<Acceptor>,
    services: Arc<PacsServices>,
    monitor: Option<Arc<dyn Monitor>>,
}

/// Connections beyond the associations, so that a peer who comes too late is told so.
const CONNECTIONS_SPARE: usize = 64;

/// Of those, what one address may have beyond its share.
const CONNECTIONS_SPARE_PER_ADDRESS: usize = 8;

impl Server {
    /// Listens on `address`.
    ///
    /// # Errors
    /// `Io` when the address can't be had.
    pub async fn bind(
        address: SocketAddr,
        pacs: Pacs,
        mut options: ScpOptions,
        limits: Limits,
    ) -> Result<Self> {
        options.tls = options.tls.map(|tls| tls.with_audit(pacs.audit().clone()));
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| Error::io("server.bind", format!("can't listen on {address}"), error))?;
        let has_ledger = pacs.ledger().is_ok();
        let policy = Arc::new(accept_policy(&options, has_ledger));
        let acceptor = Acceptor {
            policy: Arc::clone(&policy),
            admission: Arc::new(StorageAdmission {
                any_sop_class: options.any_sop_class,
                policy,
                further: options.admission.clone().map(|hook| hook.0),
                pacs: pacs.clone(),
                identities: options.identities.clone().map(|identities| identities.0),
            }),
            timeouts: options.timeouts,
            slots: Some(Arc::new(Semaphore::new(limits.associations_max))),
        };
        let connections = Semaphore::new(limits.associations_max + CONNECTIONS_SPARE);
        Ok(Self {
            port: Port {
                listener,
                connections: Arc::new(connections),
                addresses: Addresses::new(
                    limits.address_share,
                    limits.associations_max,
                    CONNECTIONS_SPARE_PER_ADDRESS,
                ),
            },
            acceptor: Arc::new(acceptor),
            monitor: options.monitor.clone(),
            services: Arc::new(PacsServices::new(pacs, options)),
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
            .map_err(|error| Error::io("server.address", "no local address", error))
    }

    /// Serves until `stop` is ready. Then no new association is accepted; those that run may end within
    /// `grace`, and are aborted after that.
    pub async fn run(self, stop: impl Future<Output = ()>, grace: Duration) {
        self.run_until(async move {
            stop.await;
            grace
        })
        .await;
    }

    /// The same, for who knows only then how long what runs may go on: `stop` answers the grace.
    pub async fn run_until(self, stop: impl Future<Output = Duration>) {
        // Ends when this does.
        let mut beside = JoinSet::new();
        let services = Arc::clone(&self.services);
        beside.spawn(async move { services.work().await });
        if let Ok(steps) = self.services.pacs.ups() {
            beside.spawn(ups::report(steps.clone(), Arc::clone(&self.services.options)));
            beside.spawn(ups::expire(steps.clone(), self.services.options.steps_kept));
        }
        let Self {
            port,
            acceptor,
            services,
            monitor,
        } = self;
        let tls = services.options.tls.clone();
        let serve = |accepted| {
            let (acceptor, monitor) = (Arc::clone(&acceptor), monitor.clone());
            let services = Arc::new(services.for_association());
            let tls = tls.clone();
            async move { serve_connection(accepted, tls, &acceptor, services, monitor).await }
        };
        port.serve_until(stop, || (), serve).await;
        // Nothing holds the engine any more when this has ended.
        beside.shutdown().await;
    }
}

async fn serve_connection(
    accepted: Accepted,
    tls: Option<tls::Acceptor>,
    acceptor: &Acceptor,
    services: Arc<PacsServices>,
    monitor: Option<Arc<dyn Monitor>>,
) {
    let Accepted {
        stream,
        address,
        is_beyond_share,
    } = accepted;
    let connection = async {
        let Some(tls) = tls else {
            return Ok(Connection::tcp(stream));
        };
        Connection::tune(&stream);
        let stream = tls.accept(stream, acceptor.timeouts.artim).await?;
        Ok::<_, Error>(Connection::secured(stream, Some(address)))
    };
    let connection = match connection.await {
        Ok(connection) => connection,
        Err(error) => return tracing::warn!(%address, %error, "no secure connection came about"),
    };
    let connection = match is_beyond_share {
        true => connection.beyond_limit(),
        false => connection,
    };
    let association = match accept(connection, acceptor).await {
        Ok(association) => association,
        Err(error) if error.kind() == ErrorKind::Refused => {
            if let Some(monitor) = monitor {
                monitor.association_rejected();
            }
            return;
        }
        Err(error) => return tracing::info!(%address, %error, "no association came about"),
    };
    let _open = monitor.map(Open::new);
    let negotiated = Arc::clone(association.negotiated());
    let calling = negotiated.calling_ae_title.as_str();
    tracing::info!(%address, calling, contexts = negotiated.contexts.len(), "association accepted");
    let peer = association.peer();
    let served = serve(association, Arc::clone(&services) as Arc<dyn Services>).await;
    services.ended(&negotiated, peer).await;
    match served {
        Ok(ended) => tracing::info!(%address, calling, how = %ended, "association ended"),
        Err(error) => tracing::warn!(%address, calling, %error, "association broken off"),
    }
}

/// An association that a monitor was told of. It is told of the end too where the task is aborted or panics.
struct Open(Arc<dyn Monitor>);

impl Open {
    fn new(monitor: Arc<dyn Monitor>) -> Self {
        monitor.association_accepted();
        Self(monitor)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.association_ended();
    }
}
