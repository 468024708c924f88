//! Calling the peer, and what is asked of it in an identifier.

use std::sync::Arc;

use bytes::Bytes;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{tags, uids};
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::encode::encode;
use pacs_core::dataset::scan;
use pacs_core::query::Model;
use pacs_core::{DataSet, Error, ErrorKind, Result, Uid};
use pacs_net::dimse::{Client, Response, Services};
use pacs_net::scu::Remote;
use pacs_net::tls::{Connector, Credentials, Files};
use pacs_net::transport::{PresentationContext, Proposal};

use crate::cli::{Peer, Query};

/// Which service of the Query/Retrieve classes (PS3.4 C.6).
#[derive(Clone, Copy)]
pub(crate) enum Service {
    Find,
    Move,
    Get,
}

impl Peer {
    /// A proposal without contexts.
    pub(crate) fn proposal(&self) -> Proposal {
        Proposal::new(self.calling, self.called)
    }

    /// Where it is and what it is called.
    pub(crate) fn remote(&self) -> Result<Remote> {
        // The command line has made sure of a port.
        let (host, port) = self.address.rsplit_once(':').unwrap_or((&self.address, ""));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let remote = Remote::new(host, port.parse().unwrap_or_default(), self.called, self.calling);
        Ok(remote.with_tls(self.connector()?))
    }

    /// By which it is called over TLS, where it is.
    fn connector(&self) -> Result<Option<Connector>> {
        if !self.tls {
            return Ok(None);
        }
        let credentials = Credentials::read(Files {
            certificate: self.tls_certificate.clone(),
            key: self.tls_key.clone(),
            authorities: self.tls_authorities.clone(),
        })?;
        Connector::new(&credentials).map(Some)
    }

    /// Associates.
    pub(crate) async fn call(&self, proposal: &Proposal, services: Arc<dyn Services>) -> Result<Client> {
        Ok(Client::start(self.remote()?.connect(proposal).await?, services))
    }
}

impl Query {
    /// The SOP class of `service` in the chosen model.
    pub(crate) fn sop_class(&self, service: Service) -> Uid {
        use uids as u;
        Uid::constant(match (self.model(), service) {
            (Model::PatientRoot, Service::Find) => u::PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND,
            (Model::PatientRoot, Service::Move) => u::PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE,
            (Model::PatientRoot, Service::Get) => u::PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET,
            (Model::StudyRoot, Service::Find) => u::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND,
            (Model::StudyRoot, Service::Move) => u::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE,
            (Model::StudyRoot, Service::Get) => u::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET,
        })
    }

    /// The identifier of a request on `context`.
    pub(crate) fn identifier(&self, context: &PresentationContext) -> Result<Bytes> {
        self.identifier_asking(context, &[])
    }

    /// The identifier of a request on `context` that also asks for these UIDs.
    pub(crate) fn identifier_asking(&self, context: &PresentationContext, asked: &[Tag]) -> Result<Bytes> {
        let mut keys = self.keys();
        for tag in asked {
            keys.put_text(*tag, VR::UI, "");
        }
        keys.put_text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, self.level().as_str());
        Ok(encode(&keys, &context.transfer_syntax, &CharacterSet::default())?.into())
    }
}

/// The data set of a response, as text that can be read.
pub(crate) fn data_set(context: &PresentationContext, response: &Response) -> Result<Option<DataSet>> {
    response
        .data_set
        .as_ref()
        .map(|bytes| scan::parse(bytes, &context.transfer_syntax))
        .transpose()
}

/// Passes a final response that is a success or a warning; makes an error of any other.
pub(crate) fn expect_done(response: &Response) -> Result<()> {
    if response.status().is_done() {
        return Ok(());
    }
    let text = format!("the peer answered {}", words(response));
    Err(Error::new(ErrorKind::Refused, "peer.answer", text))
}

/// Status, comment and offending elements of a response.
pub(crate) fn words(response: &Response) -> String {
    let comment = response.command.error_comment().unwrap_or("without a comment");
    let tags = response.command.offending_elements();
    let tags: String = tags.iter().map(|tag| format!(" {tag}")).collect();
    format!("{}: {comment}{tags}", response.status())
}
