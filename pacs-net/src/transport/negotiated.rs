//! [`Negotiated`]: what both sides have agreed on.

use std::sync::Arc;

use pacs_core::Uid;
use pacs_core::access::{Certificate, Identity};

use crate::ul::pdu::{AssociateAc, AssociateRq, ContextResult};
use crate::ul::state::Role;
use crate::ul::user::{ExtendedNegotiation, UserInformation};

/// An accepted presentation context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresentationContext {
    /// Presentation context ID.
    pub id: u8,
    /// Abstract syntax: the SOP class.
    pub abstract_syntax: Uid,
    /// The transfer syntax of every data set on it.
    pub transfer_syntax: Uid,
    /// The association requestor may be SCU.
    pub requestor_scu: bool,
    /// The association requestor may be SCP.
    pub requestor_scp: bool,
}

/// What an association's two sides have agreed on.
#[derive(Clone, Debug)]
pub struct Negotiated {
    /// Which side we are.
    pub role: Role,
    /// AE title of the acceptor.
    pub called_ae_title: String,
    /// AE title of the requestor.
    pub calling_ae_title: String,
    /// The accepted contexts, in the order proposed.
    pub contexts: Box<[PresentationContext]>,
    /// Operations the peer may have outstanding at us; 0 is without limit.
    pub incoming_operations: u16,
    /// Operations we may have outstanding at the peer; 0 is without limit.
    pub outgoing_operations: u16,
    /// What the peer said of itself, without its identity.
    pub peer: UserInformation,
    /// SOP class extended negotiation as the acceptor answered it.
    pub extended: Vec<ExtendedNegotiation>,
    /// Whom the peer has shown itself to be, by a certificate.
    pub certificate: Option<Arc<Certificate>>,
    /// The user that the requestor has proven to be.
    pub identity: Option<Arc<Identity>>,
}

impl Negotiated {
    /// What a request and its answer come to, seen from `role`.
    ///
    /// Contexts that were not proposed, or answered with a transfer syntax that was not proposed, are
    /// left out: nothing can be sent on them.
    pub fn new(role: Role, rq: &AssociateRq, ac: &AssociateAc) -> Self {
        let mut contexts: Vec<PresentationContext> = Vec::new();
        for answer in &ac.contexts {
            if answer.result != ContextResult::Acceptance {
                continue;
            }
            let proposal = rq.contexts.iter().find(|context| {
                context.id == answer.id && context.transfer_syntaxes.contains(&answer.transfer_syntax)
            });
            let Some(proposal) = proposal else { continue };
            let (Ok(abstract_syntax), Ok(transfer_syntax)) = (
                Uid::parse(&proposal.abstract_syntax),
                Uid::parse(&answer.transfer_syntax),
            ) else {
                continue;
            };
            if contexts.iter().any(|context| context.id == answer.id) {
                continue;
            }
            // Without an answer, or without having asked, the default roles hold (PS3.7 D.3.3.4).
            let asked = rq
                .user
                .roles
                .iter()
                .find(|role| role.sop_class == proposal.abstract_syntax);
            let answered = ac
                .user
                .roles
                .iter()
                .find(|role| role.sop_class == proposal.abstract_syntax);
            let (requestor_scu, requestor_scp) = match (asked, answered) {
                (Some(asked), Some(answered)) => (asked.scu && answered.scu, asked.scp && answered.scp),
                _ => (true, false),
            };
            contexts.push(PresentationContext {
                id: answer.id,
                abstract_syntax,
                transfer_syntax,
                requestor_scu,
                requestor_scp,
            });
        }
        let (invoked, performed) = match (rq.user.asynchronous, ac.user.asynchronous) {
            (Some(asked), Some(answered)) => (
                smaller(asked.invoked, answered.invoked),
                smaller(asked.performed, answered.performed),
            ),
            _ => (1, 1),
        };
        let (incoming_operations, outgoing_operations, peer) = match role {
            Role::Acceptor => (invoked, performed, &rq.user),
            Role::Requestor => (performed, invoked, &ac.user),
        };
        Self {
            role,
            called_ae_title: rq.called_ae_title.clone(),
            calling_ae_title: rq.calling_ae_title.clone(),
            contexts: contexts.into(),
            incoming_operations,
            outgoing_operations,
            peer: UserInformation {
                identity: None,
                ..peer.clone()
            },
            extended: ac.user.extended.clone(),
            certificate: None,
            identity: None,
        }
    }

    /// The accepted context with this ID.
    pub fn context(&self, id: u8) -> Option<&PresentationContext> {
        self.contexts.iter().find(|context| context.id == id)
    }

    /// The first accepted context of this SOP class on which we may be SCU.
    pub fn context_for(&self, abstract_syntax: &Uid) -> Option<&PresentationContext> {
        self.contexts_for(abstract_syntax).next()
    }

    /// The accepted contexts of this SOP class on which we may be SCU.
    pub fn contexts_for(&self, abstract_syntax: &Uid) -> impl Iterator<Item = &PresentationContext> {
        let abstract_syntax = *abstract_syntax;
        self.contexts
            .iter()
            .filter(move |context| context.abstract_syntax == abstract_syntax && self.may_be_scu(context))
    }

    /// Whether we may send requests on this context.
    pub fn may_be_scu(&self, context: &PresentationContext) -> bool {
        match self.role {
            Role::Requestor => context.requestor_scu,
            Role::Acceptor => context.requestor_scp,
        }
    }

    /// Whether the peer may send requests on this context (PS3.7 D.3.3.4).
    pub fn peer_may_be_scu(&self, context: &PresentationContext) -> bool {
        match self.role {
            Role::Requestor => context.requestor_scp,
            Role::Acceptor => context.requestor_scu,
        }
    }
}

/// The smaller of two windows, where 0 is without limit.
fn smaller(a: u16, b: u16) -> u16 {
    match (a, b) {
        (0, other) | (other, 0) => other,
        (a, b) => a.min(b),
    }
}
