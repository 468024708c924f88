//! What the end-to-end tests share.
#![allow(dead_code, unreachable_pub)]

use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use pacs_core::{AeTitle, Result, Uid};
use pacs_net::dimse::{Client, Ended, NoServices, Operation, Reply, Services, serve};
use pacs_net::transport::{Acceptor, Association, Connection, Proposal, accept, connect};
use pacs_net::ul::negotiate::{AcceptPolicy, ContextRule};
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;

pub const VERIFICATION: Uid = Uid::constant("1.2.840.10008.1.1");
pub const CT: Uid = Uid::constant("1.2.840.10008.5.1.4.1.1.2");
pub const FIND: Uid = Uid::constant("1.2.840.10008.5.1.4.1.2.2.1");
pub const GET: Uid = Uid::constant("1.2.840.10008.5.1.4.1.2.2.3");
pub const IMPLICIT: Uid = Uid::constant("1.2.840.10008.1.2");
pub const EXPLICIT: Uid = Uid::constant("1.2.840.10008.1.2.1");
pub const JPEG: Uid = Uid::constant("1.2.840.10008.1.2.4.50");

pub fn uid(text: &str) -> Uid {
    Uid::parse(text).unwrap()
}

pub fn title(text: &str) -> AeTitle {
    AeTitle::parse(text).unwrap()
}

/// Accepts verification, CT (both roles) and the query classes.
pub fn policy() -> AcceptPolicy {
    let plain = || ContextRule::preferred([EXPLICIT, IMPLICIT]);
    AcceptPolicy::new()
        .with_context(VERIFICATION, plain())
        .with_context(CT, ContextRule::as_proposed().with_requestor_scp())
        .with_context(FIND, plain())
        .with_context(GET, plain())
}

pub fn proposal() -> Proposal {
    Proposal::new(title("SCU"), title("SCP"))
        .with_context(VERIFICATION, [&IMPLICIT])
        .with_context(CT, [&JPEG, &EXPLICIT])
        .with_context(FIND, [&IMPLICIT, &EXPLICIT])
        .with_context(GET, [&IMPLICIT, &EXPLICIT])
}

pub fn pipe() -> (Connection, Connection) {
    let (a, b): (DuplexStream, DuplexStream) = tokio::io::duplex(64 * 1024);
    (Connection::new(a, None), Connection::new(b, None))
}

/// Both ends of an association over a pipe: requestor, acceptor.
pub async fn associate(policy: AcceptPolicy, proposal: Proposal) -> (Association, Association) {
    let (near, far) = pipe();
    let acceptor = Acceptor::new(policy);
    let (near, far) = tokio::join!(connect(near, &proposal), accept(far, &acceptor));
    (near.unwrap(), far.unwrap())
}

/// A client and a served association.
pub async fn pair(
    policy: AcceptPolicy,
    proposal: Proposal,
    services: Arc<dyn Services>,
) -> (Client, JoinHandle<Result<Ended>>) {
    let (near, far) = associate(policy, proposal).await;
    let server = tokio::spawn(serve(far, services));
    (Client::start(near, Arc::new(NoServices)), server)
}

/// Keeps the data sets it is sent.
#[derive(Default)]
pub struct Keeper(Mutex<Vec<Vec<u8>>>);

impl Keeper {
    pub fn taken(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().clone()
    }
}

impl Services for Keeper {
    fn c_store(&self, mut operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            let mut data_set = operation.take_data_set().unwrap();
            let mut whole = Vec::new();
            while let Some(piece) = data_set.next_piece().await? {
                whole.extend_from_slice(&piece);
            }
            self.0.lock().unwrap().push(whole);
            Ok(Reply::success())
        })
    }
}
