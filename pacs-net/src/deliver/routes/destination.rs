//! A destination as a file says it.

use std::path::PathBuf;
use std::sync::Arc;

use pacs_core::{AeTitle, Pacs, deid};
use serde::Deserialize;

use super::super::priors::Wanted;
use super::super::{FetchPriors, Service, ToFolder, ToPeer, ToReportReceiver};
#[cfg(feature = "web")]
use super::super::{ToStow, ToWebhook};
#[cfg(feature = "web")]
use crate::fetch::WebService;
use crate::fetch::{Fetch, Source};
use crate::hl7::report::Parties;
use crate::hl7::{Sender, SenderOptions};
use crate::settings::{Peer, at_least_one};
use crate::tls::Connector;

/// A destination beside the peers of the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Destination {
    /// What rules call it.
    pub(super) name: String,
    /// URL of the studies of a DICOMweb service.
    stow: Option<String>,
    /// URL that is told what happened.
    webhook: Option<String>,
    /// What a webhook's messages are signed with.
    secret: Option<String>,
    /// Directory that files are written into.
    folder: Option<PathBuf>,
    /// AE title of the peer that instances are sent to.
    peer: Option<String>,
    /// How what goes there is de-identified.
    deidentify: Option<deid::Settings>,
    /// Host and port of who takes reports as HL7 messages.
    report: Option<String>,
    /// Reports go over TLS.
    tls: Option<bool>,
    /// AE title of the peer, or URL of the DICOMweb service, that priors are fetched from.
    pub(super) priors: Option<String>,
    /// By which service of a peer they are fetched: `move`, which nearly every archive has, if it knows this server; or `get`.
    by: Option<By>,
    /// What priors have in common with the study.
    same: Option<Vec<Same>>,
    /// How many of them are fetched, the newest.
    at_most: Option<usize>,
    /// How many years older than the study they may be.
    years: Option<u32>,
    /// Studies delivered at once.
    #[serde(default = "one", deserialize_with = "at_least_one")]
    workers: usize,
    /// Instances a second, at most; 0 for as many as can be.
    #[serde(default)]
    per_second: u32,
}

fn is_url(text: &str) -> bool {
    text.contains("://")
}

/// By which service priors are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum By {
    Move,
    Get,
}

/// What priors have in common with a study.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Same {
    Modality,
    BodyPart,
}

fn one() -> usize {
    1
}

impl Destination {
    pub(super) fn check(&self, peers: &[Peer]) -> Result<(), String> {
        let kinds = [
            self.stow.is_some(),
            self.webhook.is_some(),
            self.folder.is_some(),
            self.peer.is_some(),
            self.report.is_some(),
            self.priors.is_some(),
        ];
        if kinds.into_iter().filter(|is| *is).count() != 1 {
            return Err(format!(
                "the destination {:?} needs one of stow, webhook, folder, peer, report and priors",
                self.name
            ));
        }
        if self.webhook.is_some() != self.secret.is_some() {
            return Err(format!(
                "the destination {:?}: a webhook needs a secret, and nothing else one",
                self.name
            ));
        }
        if self.deidentify.is_some() && !(self.stow.is_some() || self.folder.is_some() || self.peer.is_some())
        {
            return Err(format!(
                "the destination {:?}: deidentify is of one with stow, folder or peer",
                self.name
            ));
        }
        self.deidentifier().map(drop)?;
        if let Some(peer) = &self.peer {
            self.known("peer", peer, peers).map(drop)?;
        }
        if let Some(report) = &self.report {
            self.host_and_port(report)?;
        } else if self.tls.is_some() {
            return Err(format!(
                "the destination {:?}: tls is of one with report; a URL says it by https://, and a peer by itself",
                self.name
            ));
        }
        match &self.priors {
            Some(priors) if is_url(priors) => {
                if self.by.is_some() {
                    return Err(format!(
                        "the destination {:?}: by is of priors from a peer; a URL is fetched from by WADO-RS",
                        self.name
                    ));
                }
                self.service_at(priors, &Connector::default()).map(drop)?;
            }
            Some(title) => self.known("priors", title, peers).map(drop)?,
            None if self.by.is_some()
                || self.same.is_some()
                || self.at_most.is_some()
                || self.years.is_some() =>
            {
                return Err(format!(
                    "the destination {:?}: by, same, at-most and years are of one with priors",
                    self.name
                ));
            }
            None => {}
        }
        match self.at_most {
            Some(0) => Err(format!("the destination {:?}: at-most is at least 1", self.name)),
            _ => Ok(()),
        }
    }

    /// What de-identifies what goes there.
    fn deidentifier(&self) -> Result<Option<deid::Deidentifier>, String> {
        let made = self.deidentify.as_ref().map(deid::Settings::deidentifier);
        let made = made.transpose();
        made.map_err(|error| format!("the destination {:?}: {}", self.name, error.context()))
    }

    /// The peer that a key names.
    fn known<'a>(&self, key: &str, title: &str, peers: &'a [Peer]) -> Result<&'a Peer, String> {
        let known = peers.iter().find(|peer| peer.ae_title.as_str() == title);
        known.ok_or_else(|| {
            format!(
                "the destination {:?}: {key} names {title:?}, which is the AE title of no [[peer]]",
                self.name
            )
        })
    }

    /// The DICOMweb service that priors are fetched from.
    #[cfg(feature = "web")]
    fn service_at(&self, url: &str, connector: &Connector) -> Result<Source, String> {
        let service = WebService::new(url, connector).map(Source::Web);
        service.map_err(|error| format!("the destination {:?}: {}", self.name, error.context()))
    }

    #[cfg(not(feature = "web"))]
    fn service_at(&self, _: &str, _: &Connector) -> Result<Source, String> {
        Err(self.without_web())
    }

    /// What is over HTTP needs the feature `web`.
    #[cfg(not(feature = "web"))]
    fn without_web(&self) -> String {
        format!("the destination {:?}: this program knows no DICOMweb", self.name)
    }

    fn wanted(&self) -> Wanted {
        let same = |what| self.same.as_ref().is_some_and(|same| same.contains(&what));
        let usual = Wanted::default();
        Wanted {
            same_modality: same(Same::Modality),
            same_body_part: same(Same::BodyPart),
            at_most: self.at_most.unwrap_or(usual.at_most),
            years: self.years,
        }
    }

    fn host_and_port<'a>(&self, report: &'a str) -> Result<(&'a str, u16), String> {
        let parts = report.rsplit_once(':');
        parts
            .and_then(|(host, port)| Some((host, port.parse().ok()?)))
            .filter(|(host, port)| !host.is_empty() && *port != 0)
            .ok_or_else(|| format!("the destination {:?}: report is like host:2575", self.name))
    }

    /// It, to be served.
    pub(super) fn service(
        &self,
        pacs: &Pacs,
        peers: &[Peer],
        ae_title: AeTitle,
        connector: &Connector,
    ) -> Result<Service, String> {
        #[cfg(feature = "web")]
        let failed =
            |error: pacs_core::Error| format!("the destination {:?}: {}", self.name, error.context());
        let pacs = pacs.clone();
        let destination: Arc<dyn super::super::Destination> = match self {
            #[cfg(feature = "web")]
            Self { stow: Some(url), .. } => {
                let to = ToStow::new(pacs, url, connector).map_err(failed)?;
                Arc::new(to.deidentifying(self.deidentifier()?))
            }
            #[cfg(feature = "web")]
            Self {
                webhook: Some(url),
                secret: Some(secret),
                ..
            } => Arc::new(ToWebhook::new(url, secret, connector).map_err(failed)?),
            Self {
                folder: Some(folder), ..
            } => Arc::new(ToFolder::new(pacs, folder.clone()).deidentifying(self.deidentifier()?)),
            Self {
                peer: Some(title), ..
            } => {
                let peer = self.known("peer", title, peers)?;
                let remote = peer.remote(ae_title, connector);
                Arc::new(ToPeer::new(pacs, remote).deidentifying(self.deidentifier()?))
            }
            Self {
                report: Some(report), ..
            } => {
                let (host, port) = self.host_and_port(report)?;
                let parties = Parties {
                    sending_application: ae_title.as_str().to_owned(),
                    ..Parties::default()
                };
                let sender = Sender::new(host, port, SenderOptions::default());
                let sender = sender.with_tls((self.tls == Some(true)).then(|| connector.clone()));
                Arc::new(ToReportReceiver::new(pacs, sender, parties))
            }
            Self {
                priors: Some(title), ..
            } => {
                let archive = match is_url(title) {
                    true => self.service_at(title, connector)?,
                    false => {
                        let peer = self.known("priors", title, peers)?;
                        Source::Peer {
                            remote: peer.remote(ae_title, connector),
                            how: match self.by {
                                Some(By::Get) => Fetch::Get,
                                Some(By::Move) | None => Fetch::Move(ae_title),
                            },
                        }
                    }
                };
                Arc::new(FetchPriors::new(pacs, archive, self.wanted()))
            }
            #[cfg(feature = "web")]
            _ => return Err(format!("the destination {:?} leads nowhere", self.name)),
            #[cfg(not(feature = "web"))]
            _ => return Err(self.without_web()),
        };
        Ok(Service {
            name: self.name.as_str().into(),
            destination,
            workers: self.workers,
            per_second_max: self.per_second,
        })
    }
}
