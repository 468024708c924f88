//! Where things go by themselves: a file of destinations and rules, read again when it changes.

mod explain;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{Datelike as _, Local, TimeZone as _, Timelike as _};
use pacs_core::route::{LocalTime, Reloadable, Rule, Rules, Trigger};
use pacs_core::{Pacs, Timestamp};
use pacs_net::deliver::{Deliveries, Patience, Routes, Service, ToReadingWorklist};
use pacs_net::settings::Peer;
use pacs_net::tls::Connector;

pub(crate) use explain::{Explained, explain};

use crate::config::Config;

/// What is read of the file, held against the peers.
#[derive(Clone, Debug)]
pub(crate) struct Routing {
    routes: Routes,
    rules: Rules,
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
            None => Self::parse("", &config.peers),
        }
    }

    fn parse(text: &str, peers: &[Peer]) -> Result<Self, String> {
        let routes: Routes = toml::from_str(text).map_err(|error| error.to_string())?;
        let routes = routes.among(peers, &[READING])?;
        let rules = reading().into_iter().chain(routes.rules().iter().cloned());
        Ok(Self {
            rules: Rules::new(rules.collect())?.with_clock(local),
            routes,
        })
    }

    pub(crate) fn rules(&self) -> Rules {
        self.rules.clone()
    }

    /// All that may be delivered to: the peers too.
    fn services(&self, config: &Config, pacs: &Pacs, connector: &Connector) -> Result<Vec<Service>, String> {
        let mut services = self.routes.services(pacs, config.ae_title, connector)?;
        services.push(Service {
            name: READING.into(),
            destination: Arc::new(ToReadingWorklist::new(pacs.clone()).map_err(|error| error.to_string())?),
            workers: 1,
            per_second_max: 0,
        });
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
    (config, connector): (&Config, &Connector),
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
        let deliveries = routing.services(config, pacs, connector).and_then(|services| {
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
                    Ok(new) if new.services(config, pacs, connector).is_ok() => return new,
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
                tls: false,
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
}
