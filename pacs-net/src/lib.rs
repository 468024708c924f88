//! How peers reach a PACS: the DICOM upper layer, DIMSE messages, servers and clients.
//!
//! Fourteen rooms, each on top of those before:
//!
//! | room | what it does | begin at |
//! | --- | --- | --- |
//! | [`ul`] | turns bytes into PDUs, states and events into actions, proposals into answers; no sockets, no clock (PS3.8) | [`ul::negotiate::AcceptPolicy`] |
//! | [`tls`] | makes connections secure, whatever is spoken on them (PS3.15 annex B) | [`tls::Credentials`] |
//! | [`transport`] | makes associations on TCP, TLS or in-memory streams | [`transport::accept`], [`transport::connect`] |
//! | [`dimse`] | messages: answers a peer's requests, makes requests (PS3.7) | [`dimse::serve`], [`dimse::Client`] |
//! | [`scu`] | what we ask of peers: store, find, move, get | [`scu::Remote`], [`scu::Sending`] |
//! | [`scp`] | what peers ask of an engine: a whole DICOM server | [`scp::Server`], [`scp::PacsServices`] |
//! | [`deliver`] | makes the deliveries that an engine's outbox has | [`deliver::Deliveries`] |
//! | [`hl7`] | HL7 v2 over MLLP: patients, orders and reports from and to information systems | [`hl7::Server`], [`hl7::Sender`] |
//! | [`conformance`] | what all this comes to for a peer: a DICOM Conformance Statement (PS3.2) | [`conformance::Statement`] |
//! | [`fetch`] | studies of another PACS, by whatever it offers | [`fetch::Source`] |
//! | [`migrate`] | all studies of another PACS, brought into an engine | [`migrate::Migration`] |
//! | [`audit`] | sends the audit trail to a repository (PS3.15 A.6, A.7) | [`audit::Sender`] |
//! | [`settings`] | peers as a configuration file has them | [`settings::Peer`] |
//! | `web` | the same over HTTP: DICOMweb (PS3.18); feature `web` | `web::http::server` |
//!
//! # A server and a client
//!
//! A server says what it accepts ([`AcceptPolicy`](ul::negotiate::AcceptPolicy)), who may come
//! ([`Admission`](transport::Admission)), and what it does with requests
//! ([`Services`](dimse::Services)).
//!
//! ```
//! use std::sync::Arc;
//!
//! use futures::future::BoxFuture;
//! use pacs_core::{AeTitle, Result, Uid};
//! use pacs_net::dimse::{self, Client, NoServices, Operation, Reply, Services, StoreRequest};
//! use pacs_net::transport::{self, Acceptor, Connection, Proposal};
//! use pacs_net::ul::negotiate::{AcceptPolicy, ContextRule};
//!
//! const VERIFICATION: Uid = Uid::constant("1.2.840.10008.1.1");
//! const CT_IMAGE_STORAGE: Uid = Uid::constant("1.2.840.10008.5.1.4.1.1.2");
//! const IMPLICIT: Uid = Uid::constant("1.2.840.10008.1.2");
//! const EXPLICIT: Uid = Uid::constant("1.2.840.10008.1.2.1");
//!
//! /// Counts the bytes of what it is sent. C-ECHO is answered by default; everything else is answered
//! /// with "unrecognized operation".
//! struct Counter;
//!
//! impl Services for Counter {
//!     fn c_store(&self, mut operation: Operation) -> BoxFuture<'_, Result<Reply>> {
//!         Box::pin(async move {
//!             let mut length = 0;
//!             if let Some(mut data_set) = operation.take_data_set() {
//!                 // Pulled straight off the wire: a slow reader slows the peer.
//!                 while let Some(piece) = data_set.next_piece().await? {
//!                     length += piece.len();
//!                 }
//!             }
//!             assert_eq!(length, 1000);
//!             Ok(Reply::success())
//!         })
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<()> {
//! // Accept verification in our own order of preference, CT images as they come, and 8 at a time.
//! let mut policy = AcceptPolicy::new()
//!     .with_context(VERIFICATION, ContextRule::preferred([EXPLICIT, IMPLICIT]))
//!     .with_context(CT_IMAGE_STORAGE, ContextRule::as_proposed());
//! policy.operations_max = 8;
//! let acceptor = Acceptor::new(policy);
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
//! let address = listener.local_addr().unwrap();
//! let server = tokio::spawn(async move {
//!     let (stream, _) = listener.accept().await.unwrap();
//!     let association = transport::accept(Connection::tcp(stream), &acceptor).await?;
//!     dimse::serve(association, Arc::new(Counter)).await
//! });
//!
//! let proposal = Proposal::new(AeTitle::parse("MODALITY")?, AeTitle::parse("PACS")?)
//!     .with_context(VERIFICATION, [&IMPLICIT])
//!     .with_context(CT_IMAGE_STORAGE, [&EXPLICIT])
//!     .with_asynchronous(8, 1);
//! let association = transport::connect_tcp(address, &proposal).await?;
//! let client = Client::start(association, Arc::new(NoServices));
//! client.echo().await?;
//! let context = client.context_for(&CT_IMAGE_STORAGE)?.id;
//! let request = StoreRequest::new(context, CT_IMAGE_STORAGE, Uid::parse("1.2.3")?);
//! let data_set = futures::stream::iter([Ok(vec![0; 600].into()), Ok(vec![0; 400].into())]);
//! let response = client.store(request, data_set).await?;
//! assert!(response.status().is_done());
//! client.release().await?;
//! # server.await.unwrap()?;
//! # Ok(())
//! # }
//! ```
//!
//! # How an association runs
//!
//! [`dimse::serve`] runs an association on the task that calls it. It reads a command set, starts the
//! operation as a future beside the others, and lends it the association's reader for as long as the
//! data set lasts ([`DataSetStream`](dimse::DataSetStream)): no queue, no copy, no hop to another
//! thread, and the backpressure of whoever consumes reaches the peer's socket. Then it reads on, so a
//! C-CANCEL is seen while a C-FIND runs. A panic ends one operation, with a failure as its answer.
//!
//! C-GET needs both directions: an [`Operation`](dimse::Operation) makes its C-STORE sub-operations
//! with [`Operation::client`](dimse::Operation::client), and a [`Client`](dimse::Client) is started
//! with the [`Services`](dimse::Services) that take them.
//!
//! # Bounds
//!
//! Whatever a peer sends, an association holds in memory at most its read buffer (256 KiB under load,
//! 4 KiB at rest), one command set ([`dimse::COMMAND_SET_LENGTH_MAX_BYTES`]), and what a service
//! chooses to gather, which [`dimse::Services::gathering`] bounds for all associations together. Every wait has a limit in
//! [`transport::Timeouts`]. One address has at most its [`AddressShare`] of the connections that a port takes.

#![forbid(unsafe_code)]

pub mod audit;
mod audited;
pub mod conformance;
pub mod deliver;
pub mod dimse;
pub mod fetch;
pub mod hl7;
pub mod identity;
pub mod migrate;
mod pace;
pub mod scp;
pub mod scu;
mod serving;
pub mod settings;
pub mod tls;
pub mod transport;
pub mod ul;
mod util;
#[cfg(feature = "web")]
pub mod web;

pub use serving::AddressShare;

/// Our implementation class UID and version name (PS3.7 D.3.3.2), the same as in stored headers.
pub use pacs_core::dataset::part10::{
    IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME as IMPLEMENTATION_VERSION,
};
