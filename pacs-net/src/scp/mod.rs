//! Service class providers: a peer's requests answered from an engine.
//!
//! [`PacsServices`] answers Verification, Storage and Query/Retrieve; [`Server`] listens for
//! associations and serves them.

mod policy;
mod query;
mod retrieve;
mod server;
mod storage;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use pacs_core::{AeTitle, Pacs, Result, Source};

pub use policy::{accept_policy, is_storage_class, storage_classes};
pub(crate) use policy::{is_stored, storage_rule};
pub use server::{Limits, Server};

use tokio::sync::Semaphore;

use crate::dimse::{CommandField, Operation, Reply, Services, Status};
use crate::transport::{Admission, Timeouts};
use crate::ul::state::Role;

/// Where a C-MOVE destination is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Its AE title: what a Move Destination names.
    pub ae_title: AeTitle,
    /// Its host name or address.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// Associations opened to it for one C-MOVE.
    pub associations: usize,
}

/// How requests are answered.
#[derive(Clone, Debug)]
pub struct ScpOptions {
    /// What we are called.
    pub ae_title: AeTitle,
    /// Take instances of SOP classes that the dictionary of the Standard doesn't know.
    pub any_sop_class: bool,
    /// Whom a C-MOVE may name as its destination.
    pub destinations: Vec<Destination>,
    /// How long an instance may wait for its turn before the sender is answered A700.
    pub patience: Duration,
    /// Operations a peer may have outstanding at once, where it negotiates a window.
    pub operations_max: u16,
    /// How long is waited for a peer.
    pub timeouts: Timeouts,
    /// Is told what happens, for metrics.
    pub monitor: Option<Arc<dyn Monitor>>,
    /// Who else decides who may associate, besides the AE title that must be called.
    pub admission: Option<AdmissionHook>,
}

/// Who decides who may associate.
#[derive(Clone)]
pub struct AdmissionHook(pub Arc<dyn Admission>);

impl fmt::Debug for AdmissionHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdmissionHook")
    }
}

/// Is told what a server does, for whoever measures it. Nothing here may block.
pub trait Monitor: fmt::Debug + Send + Sync + 'static {
    /// An association was accepted.
    fn association_accepted(&self);
    /// An association was rejected.
    fn association_rejected(&self);
    /// An association that was accepted has ended, however it did.
    fn association_ended(&self);
    /// An operation has ended; see [`Services::operation_ended`].
    fn operation_ended(&self, command: CommandField, status: Status, took: Duration);
}

impl ScpOptions {
    /// For this AE title, without destinations.
    pub fn new(ae_title: AeTitle) -> Self {
        Self {
            ae_title,
            any_sop_class: false,
            destinations: Vec::new(),
            patience: Duration::from_secs(30),
            operations_max: 16,
            timeouts: Timeouts::default(),
            monitor: None,
            admission: None,
        }
    }
}

/// Verification, Storage and Query/Retrieve from an engine.
#[derive(Clone, Debug)]
pub struct PacsServices {
    pacs: Pacs,
    options: Arc<ScpOptions>,
    /// One permit for each instance that is read ahead, whoever retrieves it.
    read_ahead: Arc<Semaphore>,
}

impl PacsServices {
    /// Answers from `pacs`.
    pub fn new(pacs: Pacs, options: ScpOptions) -> Self {
        Self {
            pacs,
            options: Arc::new(options),
            read_ahead: Arc::new(Semaphore::new(retrieve::READ_AHEAD_MAX)),
        }
    }
}

impl Services for PacsServices {
    fn c_store(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(storage::store(self, operation))
    }

    fn c_find(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(query::find(self, operation))
    }

    fn c_move(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(retrieve::c_move(self, operation))
    }

    fn c_get(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(retrieve::c_get(self, operation))
    }

    fn operation_ended(&self, command: CommandField, status: Status, took: Duration) {
        if let Some(monitor) = &self.options.monitor {
            monitor.operation_ended(command, status, took);
        }
    }
}

/// Who asks.
fn source(operation: &Operation) -> Source {
    let negotiated = operation.negotiated();
    let (calling, called) = (&negotiated.calling_ae_title, &negotiated.called_ae_title);
    // Where we asked for the association, as for a C-GET, it is whom we called that makes the request.
    let (asking, asked) = match negotiated.role {
        Role::Acceptor => (calling, called),
        Role::Requestor => (called, calling),
    };
    Source {
        calling_ae: AeTitle::parse(asking).ok(),
        called_ae: AeTitle::parse(asked).ok(),
        address: operation.peer(),
    }
}
