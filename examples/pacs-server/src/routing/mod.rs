//! Where things go by themselves: a file of destinations and rules, read again when it changes.

mod explain;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{Datelike as _, Local, TimeZone as _, Timelike as _};
use pacs_core::route::{LocalTime, Reloadable, Rule, Rules, Trigger};
use pacs_core::{Pacs, Timestamp};
use pacs_net::deliver::priors::Wanted;
use pacs_net::deliver::{
    Deliveries, FetchPriors, Patience, Service, ToFolder, ToPeer, ToReadingWorklist, ToReportReceiver,
    ToStow, ToWebhook,
};
use pacs_net::fetch::{Fetch, Source, WebService};
use pacs_net::hl7::report::Parties;
use pacs_net::scu::Remote;
use pacs_net::settings::{Peer, at_least_one};
use serde::Deserialize;

pub(crate) use explain::{Explained, explain};

use crate::config::Config;

/// What the file says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    #[serde(rename = "destination")]
    destinations: Vec<Destination>,
    #[serde(rename = "route")]
    routes: Vec<Rule>,
}

/// A destination beside the peers of the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Destination {
    /// What rules call it.
    name: String,
    /// URL of the studies of a DICOMweb service.
    stow: Option<String>,
    /// URL that is told what happened.
    webhook: Option<String>,
    /// What a webhook's messages are signed with.
    secret: Option<String>,
    /// Directory that files are written into.
    folder: Option<PathBuf>,
    /// Host and port of who takes reports as HL7 messages.
    report: Option<String>,
    /// AE title of the peer, or URL of the DICOMweb service, that priors are fetched from.
    priors: Option<String>,
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

/// What is read of the file, held against the peers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routing {
    destinations: Vec<Destination>,
    rules: Option<Rules>,
}

impl Routing {
    /// Of the file that the configuration names; of none, nothing goes anywhere. The error says where and why.
    pub(crate) fn read(config: &Config) -> Result<Self, String> {
        match &config.routes {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| format!("the routes {} can't be read: {error}", path.display()))?;
                Self::parse(&text, &config.peers)
                    .map_err(|error| format!("the routes {}: {error}", path.display()))
            }
            None => Ok(Self::default()),
        }
    }

    fn parse(text: &str, peers: &[Peer]) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let mut names: BTreeSet<&str> = peers.iter().map(|peer| peer.ae_title.as_str()).collect();
        names.insert(READING);
        for destination in &file.destinations {
            if !names.insert(&destination.name) {
                return Err(format!(
                    "two destinations, or a peer and one, are called {:?}",
                    destination.name
                ));
            }
            destination.check(peers)?;
        }
        let priors: BTreeSet<&str> = file
            .destinations
            .iter()
            .filter(|destination| destination.priors.is_some())
            .map(|destination| &*destination.name)
            .collect();
        for rule in &file.routes {
            if let Some(name) = rule.send_to.iter().find(|name| priors.contains(&***name)) {
                return Err(format!(
                    "the rule {:?} sends to {name:?}, which fetches priors: it is told of studies (tell)",
                    rule.name
                ));
            }
            if rule.fetched && rule.tell.iter().any(|name| priors.contains(&**name)) {
                return Err(format!(
                    "the rule {:?} would fetch priors of what was itself fetched",
                    rule.name
                ));
            }
            let mut led = rule.send_to.iter().chain(&rule.tell);
            if let Some(unknown) = led.find(|name| !names.contains(&***name)) {
                return Err(format!(
                    "the rule {:?} leads to {unknown:?}, which is neither a [[destination]] nor a [[peer]]",
                    rule.name
                ));
            }
        }
        Ok(Self {
            rules: Some(Rules::new(reading().into_iter().chain(file.routes).collect())?.with_clock(local)),
            destinations: file.destinations,
        })
    }

    pub(crate) fn rules(&self) -> Rules {
        match &self.rules {
            Some(rules) => rules.clone(),
            None => Rules::new(reading().into()).expect("our own rules mean something"),
        }
    }

    /// All that may be delivered to: the peers too.
    fn services(&self, config: &Config, pacs: &Pacs) -> Result<Vec<Service>, String> {
        let peers = config.peers.iter().map(|peer| {
            let remote = Remote::new(&peer.host, peer.port, peer.ae_title, config.ae_title);
            Service {
                name: peer.ae_title.as_str().into(),
                destination: Arc::new(ToPeer::new(pacs.clone(), remote)),
                workers: peer.associations,
                per_second_max: 0,
            }
        });
        let mut services: Vec<Service> = peers.collect();
        services.push(Service {
            name: READING.into(),
            destination: Arc::new(ToReadingWorklist::new(pacs.clone()).map_err(|error| error.to_string())?),
            workers: 1,
            per_second_max: 0,
        });
        for destination in &self.destinations {
            services.push(destination.service(pacs, config)?);
        }
        Ok(services)
    }
}

/// The reading worklist of this server: what rules call it.
const READING: &str = "READING";

/// What always leads to the reading worklist: a study that is stable is to be read, and with its report it was.
fn reading() -> [Rule; 2] {
    [Trigger::StudyStable, Trigger::ReportStored].map(|on| {
        let mut rule = Rule::new(format!("reading worklist, {on}"));
        rule.on = on;
        rule.tell.push(READING.into());
        rule
    })
}

impl Destination {
    fn check(&self, peers: &[Peer]) -> Result<(), String> {
        let kinds = [
            self.stow.is_some(),
            self.webhook.is_some(),
            self.folder.is_some(),
            self.report.is_some(),
            self.priors.is_some(),
        ];
        if kinds.into_iter().filter(|is| *is).count() != 1 {
            return Err(format!(
                "the destination {:?} needs one of stow, webhook, folder, report and priors",
                self.name
            ));
        }
        if self.webhook.is_some() != self.secret.is_some() {
            return Err(format!(
                "the destination {:?}: a webhook needs a secret, and nothing else one",
                self.name
            ));
        }
        if let Some(report) = &self.report {
            self.host_and_port(report)?;
        }
        match &self.priors {
            Some(priors) if is_url(priors) => {
                if self.by.is_some() {
                    return Err(format!(
                        "the destination {:?}: by is of priors from a peer; a URL is fetched from by WADO-RS",
                        self.name
                    ));
                }
                self.service_at(priors).map(drop)?;
            }
            Some(title) => self.archive(title, peers).map(drop)?,
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

    /// The peer that priors are fetched from.
    fn archive<'a>(&self, title: &str, peers: &'a [Peer]) -> Result<&'a Peer, String> {
        let known = peers.iter().find(|peer| peer.ae_title.as_str() == title);
        known.ok_or_else(|| {
            format!(
                "the destination {:?}: priors names {title:?}, which is the AE title of no [[peer]]",
                self.name
            )
        })
    }

    /// The DICOMweb service that priors are fetched from.
    fn service_at(&self, url: &str) -> Result<WebService, String> {
        WebService::new(url).map_err(|error| format!("the destination {:?}: {}", self.name, error.context()))
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

    fn service(&self, pacs: &Pacs, config: &Config) -> Result<Service, String> {
        let ae_title = config.ae_title;
        let failed =
            |error: pacs_core::Error| format!("the destination {:?}: {}", self.name, error.context());
        let pacs = pacs.clone();
        let destination: Arc<dyn pacs_net::deliver::Destination> = match self {
            Self { stow: Some(url), .. } => Arc::new(ToStow::new(pacs, url).map_err(failed)?),
            Self {
                webhook: Some(url),
                secret: Some(secret),
                ..
            } => Arc::new(ToWebhook::new(url, secret).map_err(failed)?),
            Self {
                folder: Some(folder), ..
            } => Arc::new(ToFolder::new(pacs, folder.clone())),
            Self {
                report: Some(report), ..
            } => {
                let (host, port) = self.host_and_port(report)?;
                let parties = Parties {
                    sending_application: ae_title.as_str().to_owned(),
                    ..Parties::default()
                };
                Arc::new(ToReportReceiver::new(pacs, host, port, parties))
            }
            Self {
                priors: Some(title), ..
            } => {
                let archive = if is_url(title) {
                    Source::Web(self.service_at(title)?)
                } else {
                    let peer = self.archive(title, &config.peers)?;
                    Source::Peer {
                        remote: Remote::new(&peer.host, peer.port, peer.ae_title, ae_title),
                        how: match self.by {
                            Some(By::Get) => Fetch::Get,
                            Some(By::Move) | None => Fetch::Move(ae_title),
                        },
                    }
                };
                Arc::new(FetchPriors::new(pacs, archive, self.wanted()))
            }
            _ => return Err(format!("the destination {:?} leads nowhere", self.name)),
        };
        Ok(Service {
            name: self.name.as_str().into(),
            destination,
            workers: self.workers,
            per_second_max: self.per_second,
        })
    }
}

/// The clock on the wall here.
pub(crate) fn local(at: Timestamp) -> LocalTime {
    let milliseconds = i64::try_from(at.0).unwrap_or_default();
    match Local.timestamp_millis_opt(milliseconds).earliest() {
        Some(time) => LocalTime {
            minute: (time.hour() * 60 + time.minute()) as u16,
            weekday: time.weekday().num_days_from_monday() as u8,
        },
        None => LocalTime::utc(at),
    }
}

/// How often it is looked whether the file has changed.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Delivers until `stop` is ready; reads the file again when it changes. One that can't be read again changes nothing.
pub(crate) async fn run(
    config: &Config,
    pacs: &Pacs,
    routing: Routing,
    router: &Reloadable,
    reached: tokio::sync::watch::Sender<Option<Deliveries>>,
    stop: impl Future<Output = ()>,
) {
    tokio::pin!(stop);
    let mut routing = routing;
    let mut seen = config.routes.as_deref().and_then(modified);
    loop {
        let deliveries = routing.services(config, pacs).and_then(|services| {
            Deliveries::new(pacs, services, Patience::default()).map_err(|error| error.to_string())
        });
        let deliveries = match deliveries {
            Ok(deliveries) => deliveries,
            Err(error) => {
                tracing::error!(error, "nothing is delivered");
                return stop.await;
            }
        };
        // Who shows how it stands may have gone.
        let _ = reached.send(Some(deliveries.clone()));
        let changed = async {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let Some(path) = &config.routes else { continue };
                let now = modified(path);
                if now.is_none() || now == seen {
                    continue;
                }
                seen = now;
                match Routing::read(config) {
                    Ok(new) if new.services(config, pacs).is_ok() => return new,
                    Ok(_) => tracing::error!("the routes have changed and lead nowhere: the old ones stay"),
                    Err(error) => tracing::error!(
                        error,
                        "the routes have changed and can't be read: the old ones stay"
                    ),
                }
            }
        };
        let mut stopped = false;
        let mut new = None;
        deliveries
            .run(async {
                tokio::select! {
                    () = &mut stop => stopped = true,
                    read = changed => new = Some(read),
                }
            })
            .await;
        match new {
            Some(new) if !stopped => {
                tracing::info!("the routes have changed");
                router.replace(Arc::new(new.rules()));
                routing = new;
            }
            _ => return,
        }
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers() -> Vec<Peer> {
        ["WORKSTATION", "OLDPACS"]
            .map(|title| Peer {
                ae_title: title.parse().unwrap(),
                host: "h".to_owned(),
                port: 104,
                associations: 1,
            })
            .into()
    }

    #[test]
    fn the_file_in_the_readme_is_read() {
        let readme = include_str!("../../../../README.md");
        let begin = readme.find("[[destination]]").unwrap();
        let end = begin + readme[begin..].find("```").unwrap();
        let routing = Routing::parse(&readme[begin..end], &peers()).unwrap();
        assert!(routing.rules().each().len() >= 3 + reading().len());
    }

    #[test]
    fn an_error_names_the_rule_or_the_line_and_the_reason() {
        let route = |rest: &str| format!("[[route]]\nname = \"r\"\n{rest}");
        let to = "send-to = [\"WORKSTATION\"]\n";
        let priors = |rest: &str| format!("[[destination]]\nname = \"d\"\npriors = \"{rest}");
        let cases = [
            (route("send-to = [\"NOWHERE\"]"), "NOWHERE"),
            (route(""), "leads nowhere"),
            (route(&format!("{to}on = \"full-moon\"")), "study-stable"),
            (route(&format!("{to}hours = \"evening\"")), "HH:MM-HH:MM"),
            (route(&format!("{to}days = [\"mon\"]")), "monday"),
            (route(&format!("{to}when = {{ NoSuch = \"x\" }}")), "NoSuch"),
            (route(&format!("{to}when = {{ Modality = 5 }}")), "Modality"),
            (
                route(&format!("{to}set = {{ SOPInstanceUID = \"1.2\" }}")),
                "can't be changed",
            ),
            (route(&format!("{to}remove = [\"Rows\"]")), "can't be changed"),
            (
                route(&format!("{to}priority = \"soon\"")),
                "stat, high, medium, low",
            ),
            (route(&format!("{to}unknown = 1")), "unknown field"),
            ("[[destination]]\nname = \"d\"".to_owned(), "one of stow"),
            (
                "[[destination]]\nname = \"d\"\nwebhook = \"http://h/\"".to_owned(),
                "secret",
            ),
            (
                "[[destination]]\nname = \"d\"\nreport = \"h\"".to_owned(),
                "host:2575",
            ),
            (priors("NOWHERE\""), "no [[peer]]"),
            (priors("WORKSTATION\"\nby = \"push\""), "`move` or `get`"),
            (priors("http://h/dicom-web\"\nby = \"get\""), "WADO-RS"),
            (priors("ftp://h/\""), "http"),
            (
                priors("WORKSTATION\"\nsame = [\"patient\"]"),
                "`modality` or `body-part`",
            ),
            (priors("WORKSTATION\"\nat-most = 0"), "at least 1"),
            (
                "[[destination]]\nname = \"d\"\nfolder = \"f\"\nyears = 2".to_owned(),
                "one with priors",
            ),
            (
                format!("{}\n{}", priors("WORKSTATION\""), route("send-to = [\"d\"]")),
                "told of studies",
            ),
            (
                format!(
                    "{}\n{}",
                    priors("WORKSTATION\""),
                    route("fetched = true\ntell = [\"d\"]")
                ),
                "itself fetched",
            ),
            (route(&format!("{to}on = \"order-placed\"")), "only be told"),
            (
                "[[destination]]\nname = \"WORKSTATION\"\nfolder = \"f\"".to_owned(),
                "WORKSTATION",
            ),
        ];
        for (text, reason) in cases {
            let error = Routing::parse(&text, &peers()).unwrap_err();
            assert!(error.contains(reason), "{text}\n{error}");
        }
    }
}
