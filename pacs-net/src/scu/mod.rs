//! Service class users: what we ask of peers.
//!
//! - [`Remote`]: where a peer is and what it is called; [`Remote::connect`] associates.
//! - [`find`], [`retrieve`], [`move_to`]: query and retrieve.
//! - [`find_worklist`]: what is to be done; [`create_performed`], [`set_performed`], [`get_performed`]: what is done.
//! - [`ups`]: unified procedure steps.
//! - [`Sending`]: sends instances over several associations, several at a time on each; [`Kept`] gives it those of an
//!   engine, [`Files`] files.
//! - [`CommitmentRequest`]: asks for storage commitment; [`notify_availability`] tells of a study.

pub(crate) mod availability;
pub(crate) mod commitment;
mod file;
mod kept;
mod performed;
mod query;
mod receiving;
mod send;
pub mod ups;
mod worklist;

use std::time::Duration;

use bytes::Bytes;
use pacs_core::audit::{AccessPoint, Participant};
use pacs_core::{AeTitle, Error, Result, Uid};

pub use availability::notify_availability;
pub use commitment::{COMMITMENT_INSTANCES_MAX, Commitment, CommitmentRequest, Commitments, Reference};
pub use file::{FileToSend, Files};
pub use kept::Kept;
#[cfg(feature = "pixel")]
pub(crate) use kept::transcoded;
pub use performed::{create_performed, get_performed, performed_proposal, set_performed};
pub(crate) use query::sop_class;
pub use query::{
    Progress, find, find_until, identifier, move_to, move_until, query_proposal, retrieve, retrieve_until,
};
pub use receiving::receiving;
pub(crate) use send::send_on;
pub use send::{Outgoing, Sending, Sent, Supply};
pub use worklist::{find_worklist, find_worklist_until, worklist_proposal};

use crate::tls::Connector;
use crate::transport::{Proposal, Timeouts, connect_tcp, connect_tls};

/// A peer application entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its host name or address.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// What it is called.
    pub called: AeTitle,
    /// What we are called.
    pub calling: AeTitle,
    /// How long is waited for it.
    pub timeouts: Timeouts,
    /// By which it is called over TLS.
    pub tls: Option<Connector>,
}

impl Remote {
    /// Says in an error's text which peer can't be reached, and why.
    pub(crate) fn unreachable(&self, error: Error) -> Error {
        let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
        let (called, host, port) = (&self.called, &self.host, self.port);
        let text = format!("{called} at {host}:{port}: {}{cause}", error.context());
        Error::new(error.kind(), "store.associate", text).with_source(error)
    }

    /// With timeouts that suit a local network: 10 seconds for a connection.
    pub fn new(host: impl Into<String>, port: u16, called: AeTitle, calling: AeTitle) -> Self {
        let timeouts = Timeouts {
            associate: Duration::from_secs(10),
            ..Timeouts::default()
        };
        Self {
            host: host.into(),
            port,
            called,
            calling,
            timeouts,
            tls: None,
        }
    }

    /// Called over TLS, where there is a connector.
    #[must_use]
    pub fn with_tls(mut self, connector: Option<Connector>) -> Self {
        self.tls = connector;
        self
    }

    /// How it takes part in events, for the records of audit (PS3.15 A.5.2.2).
    pub(crate) fn participant(&self) -> Participant {
        Participant::application(self.called).at(AccessPoint::host(&self.host))
    }

    /// A proposal to it, without a context yet.
    pub fn proposal(&self) -> Proposal {
        Proposal::new(self.calling, self.called).with_timeouts(self.timeouts)
    }

    /// Associates with it.
    ///
    /// # Errors
    /// As [`connect_tcp`], or [`connect_tls`] where it is called so.
    pub async fn connect(&self, proposal: &Proposal) -> Result<crate::transport::Association> {
        match &self.tls {
            Some(connector) => connect_tls(&self.host, self.port, connector, proposal).await,
            None => connect_tcp((self.host.as_str(), self.port), proposal).await,
        }
    }

    /// Verification (PS3.4 annex A): answers the status.
    ///
    /// # Errors
    /// When no association comes about, or it ends before the answer.
    pub async fn echo(&self) -> Result<crate::dimse::Status> {
        let verification = Uid::constant(dicom_dictionary_std::uids::VERIFICATION);
        let proposal = self.proposal().with_context(verification, NATIVE.iter());
        let client = self.client(&proposal).await?;
        let status = client.echo().await?;
        // What was asked has been answered, whatever becomes of the association.
        if let Err(error) = client.release().await {
            tracing::debug!(%error, "a release was not answered");
        }
        Ok(status)
    }

    /// Associates and makes requests; the peer's own requests are refused.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn client(&self, proposal: &Proposal) -> Result<crate::dimse::Client> {
        let association = self.connect(proposal).await?;
        Ok(crate::dimse::Client::start(
            association,
            std::sync::Arc::new(crate::dimse::NoServices),
        ))
    }
}

/// The transfer syntaxes every implementation can be expected to take, in our order of preference:
/// explicit VR tells what private attributes are.
pub const NATIVE: [Uid; 2] = [
    Uid::constant(dicom_dictionary_std::uids::EXPLICIT_VR_LITTLE_ENDIAN),
    Uid::constant(dicom_dictionary_std::uids::IMPLICIT_VR_LITTLE_ENDIAN),
];

/// A data set in pieces.
pub type Pieces = futures::stream::BoxStream<'static, Result<Bytes>>;
