//! A whole association as acceptor: any bytes after a right request, or from the first byte on. It ends
//! when the peer closes, without a panic.
//!
//! Run with `cargo fuzz run -s none association`.

#![no_main]

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use futures::future::BoxFuture;
use libfuzzer_sys::fuzz_target;
use pacs_core::{AeTitle, Result, Uid};
use pacs_net::dimse::{Operation, Reply, Services, serve};
use pacs_net::transport::{Acceptor, Connection, Proposal, accept};
use pacs_net::ul::codec::write_pdu;
use pacs_net::ul::negotiate::{AcceptPolicy, ContextRule};
use pacs_net::ul::pdu::Pdu;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SOP_CLASS: Uid = Uid::constant("1.2.3");
const SYNTAX: Uid = Uid::constant("1.2.840.10008.1.2");

/// Reads some data sets, drops others unread, echoes identifiers.
struct Anything;

impl Services for Anything {
    fn c_store(&self, mut operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            if operation.command().message_id() % 2 == 0
                && let Some(mut data_set) = operation.take_data_set()
            {
                while data_set.next_piece().await?.is_some() {}
            }
            Ok(Reply::success())
        })
    }

    fn c_find(&self, mut operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            let identifier = operation.gather_data_set().await?;
            operation.respond(Reply::pending(identifier)).await?;
            Ok(Reply::success())
        })
    }

    fn c_move(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            operation.cancelled().await;
            Ok(Reply::success())
        })
    }
}

static ACCEPTOR: LazyLock<Acceptor> = LazyLock::new(|| {
    let mut policy = AcceptPolicy::new().with_context(SOP_CLASS, ContextRule::as_proposed());
    policy.operations_max = 3;
    Acceptor::new(policy)
});

static REQUEST: LazyLock<Bytes> = LazyLock::new(|| {
    let title = AeTitle::parse("FUZZ").expect("a title");
    let proposal = Proposal::new(title, title)
        .with_context(SOP_CLASS, [&SYNTAX])
        .with_asynchronous(0, 0);
    let rq = Pdu::AssociateRq(Box::new(proposal.request().clone()));
    write_pdu(&rq).expect("a proposal can be written")
});

fuzz_target!(|input: (bool, &[u8])| {
    let (associate, bytes) = input;
    // With the clock paused a wait for a timer takes no time.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime needs nothing but memory");
    runtime.block_on(async {
        let (peer, ours) = tokio::io::duplex(1 << 16);
        let (mut answers, mut requests) = tokio::io::split(peer);
        let served = async {
            if let Ok(association) = accept(Connection::new(ours, None), &ACCEPTOR).await {
                let _ = serve(association, Arc::new(Anything)).await;
            }
        };
        let speak = async {
            if associate {
                let _ = requests.write_all(&REQUEST).await;
            }
            let _ = requests.write_all(bytes).await;
            let _ = requests.shutdown().await;
        };
        let listen = async {
            let mut buffer = [0; 4096];
            while matches!(answers.read(&mut buffer).await, Ok(1..)) {}
        };
        futures::join!(served, speak, listen);
    });
});
