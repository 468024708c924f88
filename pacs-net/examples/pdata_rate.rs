//! Prints the rate of the P-DATA path over loopback beside that of a plain socket copy in the same run.
//!
//! Run with:
//! ```text
//! cargo run --release -p pacs-net --example pdata_rate -- [MEGABYTES] [PDU_BYTES]
//! ```
//! The plain copy writes the same bytes in pieces of 256 KiB and reads them into one buffer of 256 KiB,
//! so it is the loopback's own limit. The P-DATA path is a C-STORE of one long data set whose pieces
//! are counted and dropped. Each side has a thread of its own; absolute figures move with the machine,
//! the ratio is what tells.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::future::BoxFuture;
use pacs_core::{AeTitle, Result, Uid};
use pacs_net::dimse::{Client, NoServices, Operation, Reply, Services, StoreRequest, serve};
use pacs_net::transport::{Acceptor, Connection, Proposal, accept, connect_tcp};
use pacs_net::ul::negotiate::{AcceptPolicy, ContextRule};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const CT: Uid = Uid::constant("1.2.840.10008.5.1.4.1.1.2");
const EXPLICIT: Uid = Uid::constant("1.2.840.10008.1.2.1");
const PIECE_BYTES: usize = 256 * 1024;

struct Counter;

impl Services for Counter {
    fn c_store(&self, mut operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            let mut length = 0u64;
            let mut pieces = 0u64;
            if let Some(mut data_set) = operation.take_data_set() {
                while let Some(piece) = data_set.next_piece().await? {
                    length += piece.len() as u64;
                    pieces += 1;
                }
            }
            Ok(Reply::success().with_error_comment(format!("{length} bytes in {pieces} pieces")))
        })
    }
}

/// Runs a future on a thread of its own.
fn on_a_thread<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> std::thread::JoinHandle<T> {
    std::thread::spawn(move || runtime().block_on(future))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs nothing but memory and descriptors")
}

async fn plain(total: usize) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("a bound socket has an address");
    let reader = on_a_thread(async move {
        let mut stream = TcpStream::connect(address).await.expect("loopback");
        let mut buffer = vec![0; PIECE_BYTES];
        let mut length = 0;
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            length += read;
        }
        assert_eq!(length, total);
    });
    let (mut stream, _) = listener.accept().await.expect("loopback");
    let piece = vec![1; PIECE_BYTES];
    let start = Instant::now();
    for _ in 0..total / PIECE_BYTES {
        stream.write_all(&piece).await.expect("loopback");
    }
    drop(stream);
    reader.join().expect("the reader has the right length");
    start.elapsed().as_secs_f64()
}

async fn p_data(total: usize, pdu_bytes: u32) -> (f64, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("a bound socket has an address");
    let client = std::thread::spawn(move || {
        runtime().block_on(async move {
            let title = AeTitle::parse("RATE")?;
            let proposal = Proposal::new(title, title).with_context(CT, [&EXPLICIT]);
            let client = Client::start(connect_tcp(address, &proposal).await?, Arc::new(NoServices));
            let piece = Bytes::from(vec![1; PIECE_BYTES]);
            let pieces = (0..total / PIECE_BYTES).map(move |_| Ok(piece.clone()));
            let request = StoreRequest::new(client.context_for(&CT)?.id, CT, Uid::parse("1.2.3")?);
            let start = Instant::now();
            let response = client.store(request, futures::stream::iter(pieces)).await?;
            let seconds = start.elapsed().as_secs_f64();
            client.release().await?;
            let comment = response.command.error_comment().unwrap_or_default().to_owned();
            Ok::<_, pacs_core::Error>((seconds, comment))
        })
    });
    let (stream, _) = listener.accept().await.expect("loopback");
    let mut policy = AcceptPolicy::new().with_context(CT, ContextRule::as_proposed());
    policy.maximum_length_bytes = pdu_bytes;
    let association = accept(Connection::tcp(stream), &Acceptor::new(policy)).await;
    let association = association.expect("the proposal fits the policy");
    serve(association, Arc::new(Counter))
        .await
        .expect("a released association");
    let outcome = client.join().expect("the client does not panic");
    outcome.expect("the association works")
}

#[allow(clippy::print_stdout)]
fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: usize| {
        arguments
            .next()
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    let total = number(4096) * 1024 * 1024;
    let pdu_bytes = number(128 * 1024) as u32;
    let rate = |seconds: f64| total as f64 / seconds / 1e6;
    for _ in 0..3 {
        let plain = runtime().block_on(plain(total));
        let (p_data, comment) = runtime().block_on(p_data(total, pdu_bytes));
        println!(
            "plain copy {:.0} MB/s, P-DATA {:.0} MB/s in PDUs of {pdu_bytes} bytes: {:.2} of it ({comment})",
            rate(plain),
            rate(p_data),
            plain / p_data
        );
    }
}
