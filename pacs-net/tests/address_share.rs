//! One address that opens connection after connection: it has its share of each port, is told so or closed beyond it, and
//! keeps no other address out.
//!
//! Only Linux has all of 127.0.0.0/8 for the loopback interface.
#![cfg(all(target_os = "linux", feature = "web"))]

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use futures::future::BoxFuture;
use pacs_core::{Error, ErrorKind, Options, Pacs};
use pacs_net::AddressShare;
use pacs_net::dimse::{Client, NoServices};
use pacs_net::hl7::{self, Fault, Handler, Incoming};
use pacs_net::scp::{Limits, ScpOptions, Server};
use pacs_net::transport::{Connection, Proposal, connect};
use pacs_net::ul::pdu::Rejection;
use pacs_net::web::http::server::{HttpLimits, HttpServer};
use pacs_store::{MemoryArchive, MemoryIndex};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const ONE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

async fn connect_from(source: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

/// Waits until the server closes the connection; whether it said nothing before.
async fn is_closed_unsaid(mut stream: TcpStream) -> bool {
    // Reset where something of ours was not read.
    matches!(stream.read(&mut [0; 64]).await, Ok(0) | Err(_))
}

async fn associate_from(source: Ipv4Addr, to: SocketAddr) -> Result<Client, Error> {
    let proposal = Proposal::new(title("SCU"), title("PACS")).with_context(VERIFICATION, [&IMPLICIT]);
    let connection = Connection::tcp(connect_from(source, to).await);
    let association = connect(connection, &proposal).await?;
    Ok(Client::start(association, Arc::new(NoServices)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_dicom_it_is_rejected_for_now_and_many_connections_beyond_are_closed() {
    let (archive, index) = (MemoryArchive::default(), MemoryIndex::default());
    let pacs = Pacs::open(Arc::new(archive), Arc::new(index), Options::default())
        .await
        .unwrap();
    let limits = Limits {
        associations_max: 6,
        address_share: AddressShare::percent(50),
    };
    let server = Server::bind(LOOPBACK, pacs, ScpOptions::new(title("PACS")), limits)
        .await
        .unwrap();
    let address = server.address().unwrap();
    let serving = tokio::spawn(server.run(std::future::pending(), Duration::ZERO));

    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(associate_from(ONE, address).await.unwrap());
    }
    let error = associate_from(ONE, address).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.downcast_ref(), Some(&Rejection::LOCAL_LIMIT_EXCEEDED));
    assert_eq!(error.kind(), ErrorKind::Refused);
    // Some that say nothing may wait to be told so; the others are closed.
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(connect_from(ONE, address).await);
    }
    let mut closed = futures::stream::FuturesUnordered::new();
    silent
        .into_iter()
        .for_each(|stream| closed.push(is_closed_unsaid(stream)));
    for _ in 0..10 {
        assert_eq!(futures::StreamExt::next(&mut closed).await, Some(true));
    }
    let other = associate_from(OTHER, address).await.unwrap();
    other.echo().await.unwrap();
    // Who is within its share is served as ever, and a place that is given back is there for the next.
    for client in clients {
        client.echo().await.unwrap();
        client.release().await.unwrap();
    }
    drop(closed);
    while associate_from(ONE, address).await.is_err() {}
    serving.abort();
}

struct Everything;

impl Handler for Everything {
    fn handle(&self, incoming: Incoming) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move { incoming.message.map(drop) })
    }
}

/// Whether a message is answered.
async fn is_acknowledged(mut stream: TcpStream) -> bool {
    let message = b"\x0BMSH|^~\\&|RIS||||||ADT^A08|9|P|2.5\r\x1C\r";
    let written = stream.write_all(message).await;
    let mut answer = [0; 512];
    written.is_ok() && matches!(stream.read(&mut answer).await, Ok(1..))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_mllp_it_is_closed() {
    let options = hl7::ServerOptions {
        connections_max: 4,
        address_share: AddressShare::percent(50),
        ..hl7::ServerOptions::default()
    };
    let server = hl7::Server::bind(LOOPBACK, Arc::new(Everything), options)
        .await
        .unwrap();
    let address = server.address().unwrap();
    let serving = tokio::spawn(server.run(std::future::pending(), Duration::ZERO));
    let held = [connect_from(ONE, address).await, connect_from(ONE, address).await];
    assert!(is_closed_unsaid(connect_from(ONE, address).await).await);
    assert!(is_acknowledged(connect_from(OTHER, address).await).await);
    for stream in held {
        assert!(is_acknowledged(stream).await);
    }
    serving.abort();
}

/// Whether a request is answered.
async fn is_answered(mut stream: TcpStream) -> bool {
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let written = stream.write_all(request).await;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer).await;
    written.is_ok() && read.is_ok() && answer.starts_with(b"HTTP/1.1 200")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_it_is_closed() {
    let limits = HttpLimits {
        connections_max: 4,
        address_share: AddressShare::percent(50),
        ..HttpLimits::default()
    };
    let router = Router::new().route("/", get(async || "here"));
    let server = HttpServer::bind(LOOPBACK, router, limits).await.unwrap();
    let address = server.address().unwrap();
    let serving = tokio::spawn(server.run(std::future::pending(), Duration::ZERO));
    let held = [connect_from(ONE, address).await, connect_from(ONE, address).await];
    assert!(is_closed_unsaid(connect_from(ONE, address).await).await);
    assert!(is_answered(connect_from(OTHER, address).await).await);
    for stream in held {
        assert!(is_answered(stream).await);
    }
    serving.abort();
}
