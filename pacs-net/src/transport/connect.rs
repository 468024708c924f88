//! [`connect`]: the requestor's side of making an association.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use pacs_core::{AeTitle, Error, ErrorKind, Result, Retry, Uid};
use tokio::net::{TcpStream, ToSocketAddrs};

use super::Timeouts;
use super::accept::rejected;
use super::association::Association;
use super::connection::Connection;
use super::negotiated::Negotiated;
use super::receiver::Receiver;
use super::sender::Sender;
use super::shared::Shared;
use crate::tls::Connector;
use crate::ul::decoder::Item;
use crate::ul::pdu::{Abort, AssociateRq, Pdu, ProposedContext};
use crate::ul::state::{Action, Event, Role};
use crate::ul::user::{
    AsynchronousWindow, ExtendedNegotiation, RoleSelection, UserIdentity, UserInformation,
};
use crate::ul::{DICOM_APPLICATION_CONTEXT, PEER_MAXIMUM_LENGTH_MIN_BYTES, PRESENTATION_CONTEXTS_MAX};
use crate::util;

/// An association request in the making.
#[derive(Clone, Debug)]
pub struct Proposal {
    rq: AssociateRq,
    timeouts: Timeouts,
}

impl Proposal {
    /// From `calling` to `called`, without a context yet.
    pub fn new(calling: AeTitle, called: AeTitle) -> Self {
        Self {
            rq: AssociateRq {
                protocol_version: 1,
                called_ae_title: called.to_string(),
                calling_ae_title: calling.to_string(),
                echoed: None,
                application_context: DICOM_APPLICATION_CONTEXT.to_owned(),
                contexts: Vec::new(),
                user: UserInformation {
                    maximum_length: 128 * 1024,
                    implementation_class_uid: crate::IMPLEMENTATION_CLASS_UID.to_string(),
                    implementation_version: crate::IMPLEMENTATION_VERSION.to_owned(),
                    ..UserInformation::default()
                },
            },
            timeouts: Timeouts::default(),
        }
    }

    /// Proposes a presentation context. Beyond 128 it is not added: see [`Self::contexts_left`].
    #[must_use]
    pub fn with_context<'a>(
        mut self,
        abstract_syntax: Uid,
        transfer_syntaxes: impl IntoIterator<Item = &'a Uid>,
    ) -> Self {
        if self.contexts_left() > 0 {
            self.rq.contexts.push(ProposedContext {
                // At most 127 are there, so the ID is at most 255.
                id: (self.rq.contexts.len() * 2 + 1) as u8,
                abstract_syntax: abstract_syntax.to_string(),
                transfer_syntaxes: transfer_syntaxes.into_iter().map(Uid::to_string).collect(),
            });
        }
        self
    }

    /// How many more contexts fit.
    pub fn contexts_left(&self) -> usize {
        PRESENTATION_CONTEXTS_MAX - self.rq.contexts.len()
    }

    /// Asks for a window of asynchronous operations: `invoked` outstanding ones of ours, `performed`
    /// ones that we take. 0 is without limit.
    #[must_use]
    pub fn with_asynchronous(mut self, invoked: u16, performed: u16) -> Self {
        self.rq.user.asynchronous = Some(AsynchronousWindow { invoked, performed });
        self
    }

    /// Asks for roles on a SOP class.
    #[must_use]
    pub fn with_role(mut self, sop_class: Uid, scu: bool, scp: bool) -> Self {
        self.rq.user.roles.push(RoleSelection {
            sop_class: sop_class.to_string(),
            scu,
            scp,
        });
        self
    }

    /// Adds SOP class extended negotiation.
    #[must_use]
    pub fn with_extended(mut self, sop_class: Uid, information: Bytes) -> Self {
        self.rq.user.extended.push(ExtendedNegotiation {
            sop_class: sop_class.to_string(),
            information,
        });
        self
    }

    /// Adds a user identity.
    #[must_use]
    pub fn with_identity(mut self, identity: UserIdentity) -> Self {
        self.rq.user.identity = Some(identity);
        self
    }

    /// Sets the maximum length of the P-DATA-TF PDUs we receive, in bytes; 0 offers "without limit".
    #[must_use]
    pub fn with_maximum_length(mut self, bytes: u32) -> Self {
        self.rq.user.maximum_length = bytes;
        self
    }

    /// Sets how long is waited.
    #[must_use]
    pub fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// The request as it stands.
    pub fn request(&self) -> &AssociateRq {
        &self.rq
    }

    /// The request as it stands, to change what has no method here.
    pub fn request_mut(&mut self) -> &mut AssociateRq {
        &mut self.rq
    }
}

/// Opens a TCP connection and requests an association on it.
///
/// # Errors
/// As [`connect`]; `Io` or `TimedOut` when no connection comes about.
pub async fn connect_tcp(address: impl ToSocketAddrs, proposal: &Proposal) -> Result<Association> {
    let stream = within(proposal, opened(address)).await?;
    connect(Connection::tcp(stream), proposal).await
}

/// Opens a TCP connection, makes it secure and requests an association on it.
///
/// # Errors
/// As [`connect_tcp`]; `Refused` when the peer's certificate is not believed, or the peer doesn't believe ours.
pub async fn connect_tls(
    host: &str,
    port: u16,
    connector: &Connector,
    proposal: &Proposal,
) -> Result<Association> {
    let secured = async {
        let stream = opened((host, port)).await?;
        Connection::tune(&stream);
        let peer = stream.peer_addr().ok();
        // Whatever is wrong with a certificate, the host isn't there as long as it is, and it may be mended.
        let secured = connector.connect(host, stream).await.map_err(|error| {
            let why = error.context().to_owned();
            Error::new(error.kind(), OPERATION, why)
                .with_source(error)
                .with_retry(Retry::Later)
        });
        Ok(Connection::secured(secured?, peer))
    };
    connect(within(proposal, secured).await?, proposal).await
}

async fn opened(address: impl ToSocketAddrs) -> Result<TcpStream> {
    let opened = util::connect(address).await;
    opened.map_err(|error| Error::io(OPERATION, "the connection failed", error).with_retry(Retry::Later))
}

async fn within<T>(proposal: &Proposal, opening: impl Future<Output = Result<T>>) -> Result<T> {
    let opened = tokio::time::timeout(proposal.timeouts.associate, opening).await;
    opened.unwrap_or_else(|_| {
        let why = "the peer did not take the connection";
        Err(Error::new(ErrorKind::TimedOut, OPERATION, why))
    })
}

const OPERATION: &str = "association.connect";

/// Requests an association on `connection`.
///
/// # Errors
/// `Refused`, with the [`Rejection`](crate::ul::pdu::Rejection) as its source, when the peer rejects;
/// `TimedOut` when it doesn't answer; `Invalid` when it breaks the protocol; `Closed`, `Io`.
pub async fn connect(connection: Connection, proposal: &Proposal) -> Result<Association> {
    let rq = &proposal.rq;
    let peer: Option<SocketAddr> = connection.peer;
    let shared = Arc::new(Shared::new(
        Role::Requestor,
        connection.write,
        proposal.timeouts,
        None,
    ));
    let mut receiver = Receiver::new(connection.read, rq.user.maximum_length, shared.clone());
    shared.request(Event::AssociateRequest)?;
    shared.request(Event::TransportConfirm)?;
    shared.send_pdu(&Pdu::AssociateRq(Box::new(rq.clone()))).await?;
    let answer = match tokio::time::timeout(proposal.timeouts.associate, receiver.item(None)).await {
        Ok(item) => item?,
        Err(_) => {
            shared.on(Event::AbortRequest);
            shared.send_abort(Abort::USER).await;
            return Err(Error::new(
                ErrorKind::TimedOut,
                OPERATION,
                "the peer did not answer the association request",
            ));
        }
    };
    let event = match &answer {
        Item::Fragment(_) => Event::DataPdu,
        Item::Pdu(pdu) => pdu.into(),
    };
    let ac = match (shared.on(event), answer) {
        (Some(Action::Ae3), Item::Pdu(Pdu::AssociateAc(ac))) => ac,
        (Some(Action::Ae4), Item::Pdu(Pdu::AssociateRj(rejection))) => {
            shared.close().await;
            return Err(rejected(OPERATION, rejection));
        }
        (Some(Action::Aa3), Item::Pdu(Pdu::Abort(abort))) => {
            shared.close().await;
            return Err(Error::new(ErrorKind::Closed, OPERATION, abort.to_string()).with_source(abort));
        }
        _ => {
            receiver.fail(Abort::UNEXPECTED_PDU).await;
            return Err(Error::new(
                ErrorKind::Invalid,
                OPERATION,
                "something else than an answer to the association request came",
            ));
        }
    };
    if (1..PEER_MAXIMUM_LENGTH_MIN_BYTES).contains(&ac.user.maximum_length) {
        shared.on(Event::AbortRequest);
        receiver.fail(Abort::INVALID_PARAMETER).await;
        return Err(Error::new(
            ErrorKind::Unsupported,
            OPERATION,
            "the peer's maximum length leaves no room for a message",
        ));
    }
    let negotiated = Arc::new(Negotiated::new(Role::Requestor, rq, &ac));
    Ok(Association {
        receiver,
        sender: Sender { shared, negotiated },
        peer,
    })
}
