//! A receiver of what the server delivers, in this process.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use pacs_core::{Result, Uid};
use pacs_net::dimse::{self, Operation, Reply, Services, Status};
use pacs_net::transport::{self, Acceptor, Connection};
use pacs_net::ul::negotiate::{AcceptPolicy, ContextRule};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::{large, made};

/// How it behaves.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Steady,
    /// Answers after a while.
    Slow(Duration),
    /// With this status, whatever comes.
    Answers(Status),
}

/// Counts what it takes.
pub(super) struct Receiver {
    kind: Kind,
    taken: AtomicU64,
    more: Notify,
}

impl Receiver {
    /// Listens for as long as this process lives; answers the port, too.
    pub(super) async fn listen(kind: Kind) -> std::io::Result<(Arc<Self>, u16)> {
        let receiver = Arc::new(Self {
            kind,
            taken: AtomicU64::new(0),
            more: Notify::new(),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let classes: Vec<Uid> = made::sop_classes().chain([large::SOP_CLASS]).collect();
        let policy = classes.into_iter().fold(AcceptPolicy::new(), |policy, class| {
            policy.with_context(class, ContextRule::as_proposed())
        });
        let acceptor = Arc::new(Acceptor::new(policy));
        let services = Arc::clone(&receiver);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, services) = (Arc::clone(&acceptor), Arc::clone(&services));
                tokio::spawn(async move {
                    let _ = stream.set_nodelay(true);
                    if let Ok(association) = transport::accept(Connection::tcp(stream), &acceptor).await {
                        // However it ends: the server comes again.
                        let _ = dimse::serve(association, services).await;
                    }
                });
            }
        });
        Ok((receiver, port))
    }

    /// How many it has taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Acquire)
    }

    /// Until it has taken so many.
    pub(super) async fn until(&self, taken: u64) {
        loop {
            let mut more = std::pin::pin!(self.more.notified());
            more.as_mut().enable();
            if self.taken() >= taken {
                return;
            }
            more.await;
        }
    }
}

impl Services for Receiver {
    fn c_store(&self, mut operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        async move {
            if let Some(mut data_set) = operation.take_data_set() {
                while data_set.next_piece().await?.is_some() {}
            }
            match self.kind {
                Kind::Answers(status) => return Ok(Reply::new(status)),
                Kind::Slow(pause) => tokio::time::sleep(pause).await,
                Kind::Steady => {}
            }
            self.taken.fetch_add(1, Ordering::AcqRel);
            self.more.notify_waiters();
            Ok(Reply::success())
        }
        .boxed()
    }
}
