//! Service class providers: a peer's requests answered from an engine.
//!
//! [`PacsServices`] answers Verification, Storage, Query/Retrieve and Instance Availability Notification, and where
//! the engine has a ledger Modality Worklist, Modality Performed Procedure Step, Unified Procedure Step and Storage
//! Commitment; [`Server`] listens for associations and serves them.

mod availability;
mod commitment;
mod performed;
mod policy;
mod query;
mod retrieve;
mod server;
mod storage;
mod ups;
mod worklist;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dicom_dictionary_std::uids;
use futures::future::BoxFuture;
use pacs_core::access::{Door, Permission};
use pacs_core::audit::Action;
use pacs_core::budget::Budget;
use pacs_core::workflow::{PerformedChange, PerformedSteps};
use pacs_core::{AeTitle, Pacs, Result, Source};

pub use availability::{AvailabilityObserver, Available};
pub use performed::{PerformedHook, create_performed, get_performed, set_performed};
pub use policy::{accept_policy, is_storage_class, storage_classes};
pub(crate) use policy::{is_stored, storage_rule};
pub use server::{Limits, Server};
pub use worklist::find_worklist;

use tokio::sync::Semaphore;

use crate::audited::{self, Brought};
use crate::dimse::{
    CommandField, GATHERED_DATA_SET_LENGTH_MAX_BYTES, Operation, Reply, Services, Status, unrecognized,
};
use crate::identity::Identities;
use crate::scu::{Commitments, Remote};
use crate::tls::{self, Connector};
use crate::transport::{Admission, Negotiated, Timeouts};
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
    /// By which it is called over TLS.
    pub tls: Option<Connector>,
}

impl Destination {
    /// It, to be called by `calling`.
    pub fn remote(&self, calling: AeTitle) -> Remote {
        Remote::new(self.host.as_str(), self.port, self.ae_title, calling).with_tls(self.tls.clone())
    }
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
    /// By which associations come over TLS.
    pub tls: Option<tls::Acceptor>,
    /// Is told what happens, for metrics.
    pub monitor: Option<Arc<dyn Monitor>>,
    /// Who else decides who may associate, besides the AE title that must be called.
    pub admission: Option<AdmissionHook>,
    /// Who believes users.
    pub identities: Option<Identities>,
    /// Is told what modalities say they do.
    pub performed: Option<PerformedHook>,
    /// Where reports on storage commitment arrive that we asked for as SCU.
    pub commitments: Option<Arc<Commitments>>,
    /// Is told which instances are available elsewhere.
    pub availability: Option<Arc<dyn AvailabilityObserver>>,
    /// How long a unified procedure step is kept after it came to its final state, where no deletion lock is on it, and an
    /// event of one for who doesn't take it: see [`Ups::expire`](pacs_core::workflow::ups::Ups::expire).
    pub steps_kept: Duration,
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
            tls: None,
            monitor: None,
            admission: None,
            identities: None,
            performed: None,
            commitments: None,
            availability: None,
            steps_kept: Duration::from_secs(90 * 24 * 3600),
        }
    }
}

/// All that is answered from an engine.
#[derive(Clone, Debug)]
pub struct PacsServices {
    pacs: Pacs,
    options: Arc<ScpOptions>,
    /// One permit for each instance that is read ahead, whoever retrieves it.
    read_ahead: Arc<Semaphore>,
    /// Memory for identifiers and attribute lists, in bytes.
    gathering: Budget,
    /// Where there is a ledger.
    commitment: Option<Arc<commitment::Reporter>>,
    /// What an association brings.
    brought: Arc<Brought>,
}

/// All identifiers and attribute lists that are held at once and are no small ones: two of the longest.
const GATHERED_LENGTH_MAX_BYTES: usize = 2 * GATHERED_DATA_SET_LENGTH_MAX_BYTES;

impl PacsServices {
    /// Answers from `pacs`.
    pub fn new(pacs: Pacs, options: ScpOptions) -> Self {
        let options = Arc::new(options);
        Self {
            commitment: commitment::Reporter::new(&pacs, &options).map(Arc::new),
            pacs,
            options,
            read_ahead: Arc::new(Semaphore::new(retrieve::READ_AHEAD_MAX)),
            gathering: Budget::new(GATHERED_LENGTH_MAX_BYTES),
            brought: Arc::default(),
        }
    }

    /// The same for one association: what it brings is recorded together, at the latest when it ends
    /// ([`ended`](Self::ended)).
    #[must_use]
    pub fn for_association(&self) -> Self {
        Self {
            brought: Arc::default(),
            ..self.clone()
        }
    }

    /// The association has ended: records what it brought (PS3.15 A.5.3.7).
    pub async fn ended(&self, negotiated: &Negotiated, peer: Option<SocketAddr>) {
        let source = source_of(negotiated, peer);
        if let Err(error) = self.brought.tell(&self.pacs, &source).await {
            tracing::error!(%error, "what an association brought can't be recorded for audit");
        }
    }

    /// What is to be done beside answering: reports on storage commitment. Never ends. A [`Server`] does it; who
    /// serves associations without one polls it beside them, once.
    pub async fn work(&self) {
        match &self.commitment {
            Some(reporter) => reporter.run().await,
            None => std::future::pending().await,
        }
    }
}

impl PacsServices {
    /// Goes on where who asks may do this with all that it may be about.
    fn allowed<'a>(
        &'a self,
        permission: Permission,
        operation: Operation,
        go_on: impl FnOnce(Operation) -> BoxFuture<'a, Result<Reply>>,
    ) -> BoxFuture<'a, Result<Reply>> {
        match self.pacs.permit_all(&source(&operation), permission) {
            Ok(()) => go_on(operation),
            Err(error) => {
                drop(operation);
                Box::pin(std::future::ready(Err(error)))
            }
        }
    }

    /// Has done what a modality says it does, records it, and tells whom the options name.
    async fn performing(&self, action: Action, operation: Operation) -> Result<Reply> {
        let source = source(&operation);
        let step = Arc::new(Mutex::new(None));
        let further = self.options.performed.clone();
        let hook = PerformedHook(Arc::new({
            let step = Arc::clone(&step);
            move |change: &PerformedChange| {
                *step.lock().unwrap_or_else(PoisonError::into_inner) = Some(change.attributes.clone());
                if let Some(PerformedHook(further)) = &further {
                    further(change);
                }
            }
        }));
        let steps = self.performed()?;
        let reply = match action {
            Action::Create => performed::create_performed(&steps, Some(&hook), operation).await,
            _ => performed::set_performed(&steps, Some(&hook), operation).await,
        }?;
        let step = step.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(step) = step {
            audited::procedure(&self.pacs, &source, action, &step).await?;
        }
        Ok(reply)
    }

    /// What was performed, for who asks.
    async fn get_performed(&self, operation: Operation) -> Result<Reply> {
        let steps = self.performed()?;
        if let Ok(uid) = operation.command().sop_instance()
            && let Some(step) = steps.get(&uid).await?
        {
            audited::procedure(&self.pacs, &source(&operation), Action::Read, &step.attributes).await?;
        }
        performed::get_performed(&steps, operation).await
    }

    fn performed(&self) -> Result<PerformedSteps> {
        Ok(PerformedSteps::new(Arc::clone(self.pacs.ledger()?)))
    }
}

impl Services for PacsServices {
    fn c_store(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(storage::store(self, operation))
    }

    fn c_find(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        match operation.context().abstract_syntax.as_str() {
            uids::MODALITY_WORKLIST_INFORMATION_MODEL_FIND => {
                self.allowed(Permission::Find, operation, |operation| {
                    Box::pin(worklist::find(self, operation))
                })
            }
            _ if is_ups(&operation) => self.allowed(Permission::Find, operation, |operation| {
                Box::pin(ups::find(self, operation))
            }),
            _ => Box::pin(query::find(self, operation)),
        }
    }

    fn c_move(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(retrieve::c_move(self, operation))
    }

    fn c_get(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(retrieve::c_get(self, operation))
    }

    fn n_create(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        self.allowed(Permission::Work, operation, |operation| {
            match operation.context().abstract_syntax.as_str() {
                uids::MODALITY_PERFORMED_PROCEDURE_STEP => {
                    Box::pin(self.performing(Action::Create, operation))
                }
                uids::INSTANCE_AVAILABILITY_NOTIFICATION => Box::pin(availability::create(self, operation)),
                _ if is_ups(&operation) => Box::pin(ups::create(self, operation)),
                _ => unrecognized(operation),
            }
        })
    }

    fn n_set(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        self.allowed(Permission::Work, operation, |operation| {
            match operation.context().abstract_syntax.as_str() {
                uids::MODALITY_PERFORMED_PROCEDURE_STEP => {
                    Box::pin(self.performing(Action::Update, operation))
                }
                _ if is_ups(&operation) => Box::pin(ups::set(self, operation)),
                _ => unrecognized(operation),
            }
        })
    }

    fn n_get(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        self.allowed(Permission::Find, operation, |operation| {
            match operation.context().abstract_syntax.as_str() {
                uids::MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE => Box::pin(self.get_performed(operation)),
                _ if is_ups(&operation) => Box::pin(ups::get(self, operation)),
                _ => unrecognized(operation),
            }
        })
    }

    fn n_action(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        match operation.context().abstract_syntax.as_str() {
            // Who has instances kept may ask whether they are.
            uids::STORAGE_COMMITMENT_PUSH_MODEL => self.allowed(Permission::Store, operation, |operation| {
                Box::pin(commitment::action(self, operation))
            }),
            _ if is_ups(&operation) => self.allowed(Permission::Work, operation, |operation| {
                Box::pin(ups::action(self, operation))
            }),
            _ => unrecognized(operation),
        }
    }

    fn n_event_report(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        match (
            operation.context().abstract_syntax.as_str(),
            &self.options.commitments,
        ) {
            (uids::STORAGE_COMMITMENT_PUSH_MODEL, Some(commitments)) => commitments.n_event_report(operation),
            _ => unrecognized(operation),
        }
    }

    fn gathering(&self) -> Option<&Budget> {
        Some(&self.gathering)
    }

    fn operation_ended(&self, command: CommandField, status: Status, took: Duration) {
        if let Some(monitor) = &self.options.monitor {
            monitor.operation_ended(command, status, took);
        }
    }
}

fn is_ups(operation: &Operation) -> bool {
    ups::is_class(&operation.context().abstract_syntax)
}

/// Who asks.
fn source(operation: &Operation) -> Source {
    Source {
        move_originator: operation.command().move_originator().map(|(title, _)| title),
        ..source_of(operation.negotiated(), operation.peer())
    }
}

/// Who is at the other side of an association.
fn source_of(negotiated: &Negotiated, peer: Option<SocketAddr>) -> Source {
    let (calling, called) = (&negotiated.calling_ae_title, &negotiated.called_ae_title);
    // Where we asked for the association, as for a C-GET, it is whom we called that makes the request.
    let (asking, asked) = match negotiated.role {
        Role::Acceptor => (calling, called),
        Role::Requestor => (called, calling),
    };
    Source {
        // What comes on an association of our own was asked for.
        door: (negotiated.role == Role::Acceptor).then_some(Door::Dicom),
        certificate: negotiated.certificate.clone(),
        identity: negotiated.identity.clone(),
        calling_ae: AeTitle::parse(asking).ok(),
        called_ae: AeTitle::parse(asked).ok(),
        address: peer,
        move_originator: None,
    }
}
