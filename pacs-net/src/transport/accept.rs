//! [`accept`]: the acceptor's side of making an association.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use pacs_core::access::Identity;
use pacs_core::{Error, ErrorKind, Result, Retry};
use tokio::sync::Semaphore;

use super::Timeouts;
use super::association::Association;
use super::connection::Connection;
use super::negotiated::Negotiated;
use super::receiver::Receiver;
use super::sender::Sender;
use super::shared::Shared;
use crate::pace::REFUSED_REST;
use crate::tls::Certificate;
use crate::ul::decoder::Item;
use crate::ul::negotiate::AcceptPolicy;
use crate::ul::pdu::{Abort, AssociateRq, Pdu, Rejection};
use crate::ul::state::{Action, Event, Role};

/// Transfer syntaxes in one request, all contexts together, that somebody may mean: 30 in each of 128. Who proposes more is
/// answered after a rest.
const PROPOSED_USUAL_MAX: usize = 128 * 30;

/// What is known of a peer beside its request.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Peer {
    /// Its address, where the stream has one.
    pub address: Option<SocketAddr>,
    /// Whom it has shown itself to be, where it did.
    pub certificate: Option<Arc<Certificate>>,
}

/// How a peer was admitted.
#[derive(Clone, Debug, Default)]
pub struct Admitted {
    /// The server response to its user identity, which was believed (PS3.7 D.3.3.7.2). Sent only where the peer asked for
    /// a response; empty for a user name. Without it nothing is said.
    pub identity_response: Option<Bytes>,
    /// A policy for this peer alone, in place of the acceptor's.
    pub policy: Option<Arc<AcceptPolicy>>,
    /// The user that the requestor has proven to be by its user identity (PS3.7 D.3.3.7).
    pub identity: Option<Arc<Identity>>,
}

/// Decides who may associate. It is asked after the acceptor's policy found nothing to object.
pub trait Admission: Send + Sync {
    /// Sees the whole request, with the user identity, and where it comes from.
    ///
    /// # Errors
    /// The rejection that the peer is sent.
    fn admit<'a>(
        &'a self,
        request: &'a AssociateRq,
        peer: &'a Peer,
    ) -> BoxFuture<'a, Result<Admitted, Rejection>>;

    /// Is told of each request that is rejected, by whomever, before the peer is.
    fn rejected(&self, _request: &AssociateRq, _peer: &Peer, _rejection: Rejection) {}
}

/// Admits every peer. A user identity is accepted unseen, and a response it asks for is empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnyoneAdmitted;

impl Admission for AnyoneAdmitted {
    fn admit<'a>(&'a self, _: &'a AssociateRq, _: &'a Peer) -> BoxFuture<'a, Result<Admitted, Rejection>> {
        let admitted = Admitted {
            identity_response: Some(Bytes::new()),
            ..Admitted::default()
        };
        Box::pin(async { Ok(admitted) })
    }
}

/// How associations are accepted.
#[derive(Clone)]
pub struct Acceptor {
    /// What is accepted.
    pub policy: Arc<AcceptPolicy>,
    /// Who is.
    pub admission: Arc<dyn Admission>,
    /// How long is waited.
    pub timeouts: Timeouts,
    /// Each association takes one of these as long as it lives; when none is left, the peer is
    /// rejected for now ("local limit exceeded").
    pub slots: Option<Arc<Semaphore>>,
}

impl Acceptor {
    /// Accepts by `policy`, from anyone, without a limit on their number.
    pub fn new(policy: AcceptPolicy) -> Self {
        Self {
            policy: Arc::new(policy),
            admission: Arc::new(AnyoneAdmitted),
            timeouts: Timeouts::default(),
            slots: None,
        }
    }
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor")
            .field("policy", &self.policy)
            .field("timeouts", &self.timeouts)
            .finish_non_exhaustive()
    }
}

/// Awaits an association request on `connection` and answers it.
///
/// # Errors
/// `Refused`, with the [`Rejection`] as its source, when the request was rejected; `TimedOut` when none
/// came before the ARTIM timer ran out; `Invalid` when what came was no request; `Closed`, `Io`.
pub async fn accept(connection: Connection, acceptor: &Acceptor) -> Result<Association> {
    const OPERATION: &str = "association.accept";
    let peer = Peer {
        address: connection.peer,
        certificate: connection.certificate,
    };
    let (slot, full) = match &acceptor.slots {
        _ if connection.is_beyond_limit => (None, true),
        None => (None, false),
        Some(slots) => {
            let slot = Arc::clone(slots).try_acquire_owned().ok();
            let full = slot.is_none();
            (slot, full)
        }
    };
    let shared = Arc::new(Shared::new(
        Role::Acceptor,
        connection.write,
        acceptor.timeouts,
        slot,
    ));
    let mut receiver = Receiver::new(
        connection.read,
        acceptor.policy.maximum_length_bytes,
        shared.clone(),
    );
    shared.on(Event::TransportIndication);
    // The ARTIM timer runs until the request is there whole.
    let request = match tokio::time::timeout(acceptor.timeouts.artim, receiver.item(None)).await {
        Ok(item) => item?,
        Err(_) => {
            shared.on(Event::ArtimExpired);
            shared.close().await;
            return Err(Error::new(
                ErrorKind::TimedOut,
                OPERATION,
                "no association request came before the ARTIM timer ran out",
            ));
        }
    };
    let event = match &request {
        Item::Fragment(_) => Event::DataPdu,
        Item::Pdu(pdu) => pdu.into(),
    };
    let rq = match (shared.on(event), request) {
        (Some(Action::Ae6), Item::Pdu(Pdu::AssociateRq(rq))) => rq,
        (Some(Action::Aa2), _) => {
            shared.close().await;
            return Err(Error::new(ErrorKind::Closed, OPERATION, "the peer aborted"));
        }
        _ => {
            receiver.fail(Abort::USER).await;
            return Err(Error::new(
                ErrorKind::Invalid,
                OPERATION,
                "something else than an association request came first",
            ));
        }
    };
    let proposed: usize = rq
        .contexts
        .iter()
        .map(|context| context.transfer_syntaxes.len())
        .sum();
    if proposed > PROPOSED_USUAL_MAX {
        tokio::time::sleep(REFUSED_REST).await;
    }
    let decided = match acceptor.policy.screen(&rq) {
        Err(rejection) => Err(rejection),
        Ok(()) if full => Err(Rejection::LOCAL_LIMIT_EXCEEDED),
        Ok(()) => {
            let admitting = acceptor.admission.admit(&rq, &peer);
            let admitted = tokio::time::timeout(acceptor.timeouts.artim, admitting).await;
            admitted.unwrap_or(Err(Rejection::TEMPORARY_CONGESTION))
        }
    };
    let admitted = match decided {
        Ok(admitted) => admitted,
        Err(rejection) => {
            acceptor.admission.rejected(&rq, &peer, rejection);
            shared.request(Event::AssociateReject)?;
            shared.send_pdu(&Pdu::AssociateRj(rejection)).await?;
            receiver.linger().await;
            return Err(rejected(OPERATION, rejection));
        }
    };
    let policy = admitted.policy.as_ref().unwrap_or(&acceptor.policy);
    let mut ac = policy.answer(&rq);
    if rq
        .user
        .identity
        .as_ref()
        .is_some_and(|identity| identity.response_requested)
    {
        ac.user.identity_response = admitted.identity_response;
    }
    receiver.set_maximum_length(policy.maximum_length_bytes);
    let negotiated = Arc::new(Negotiated {
        certificate: peer.certificate,
        identity: admitted.identity,
        ..Negotiated::new(Role::Acceptor, &rq, &ac)
    });
    shared.request(Event::AssociateAccept)?;
    shared.send_pdu(&Pdu::AssociateAc(Box::new(ac))).await?;
    Ok(Association {
        receiver,
        sender: Sender { shared, negotiated },
        peer: peer.address,
    })
}

pub(super) fn rejected(operation: &'static str, rejection: Rejection) -> Error {
    let retry = if rejection.is_transient() {
        Retry::Later
    } else {
        Retry::Never
    };
    Error::new(ErrorKind::Refused, operation, rejection.to_string())
        .with_retry(retry)
        .with_source(rejection)
}
