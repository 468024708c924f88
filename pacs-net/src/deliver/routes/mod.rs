//! [`Routes`]: destinations and rules as a file says them.

mod destination;

use std::collections::BTreeSet;
use std::sync::Arc;

use pacs_core::route::{Rule, Rules};
use pacs_core::{AeTitle, Pacs};
use serde::Deserialize;

use self::destination::Destination;
use super::{Service, ToPeer};
use crate::settings::Peer;
use crate::tls::Connector;

/// Where things go, as a file says it: `peer`s, which are delivered to by their AE titles; `destination`s of other kinds;
/// and the rules that lead there, each a `route`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Routes {
    #[serde(rename = "peer")]
    peers: Vec<Peer>,
    #[serde(rename = "destination")]
    destinations: Vec<Destination>,
    #[serde(rename = "route")]
    rules: Vec<Rule>,
}

impl Routes {
    /// The same with peers that are known from elsewhere, held against what it says. Rules may also lead to `own`, which
    /// the caller serves.
    ///
    /// # Errors
    /// Which rule or destination can't mean anything, and why: fit to be shown.
    pub fn among(mut self, peers: &[Peer], own: &[&str]) -> Result<Self, String> {
        self.peers.extend_from_slice(peers);
        if let Some(twice) = Peer::twice(&self.peers) {
            return Err(format!("two peers are called {twice}"));
        }
        let mut names: BTreeSet<&str> = self.peers.iter().map(|peer| peer.ae_title.as_str()).collect();
        names.extend(own);
        for destination in &self.destinations {
            if !names.insert(&destination.name) {
                return Err(format!(
                    "two destinations, or a peer and one, are called {:?}",
                    destination.name
                ));
            }
            destination.check(&self.peers)?;
        }
        self.rules.iter().try_for_each(|rule| self.check(rule, &names))?;
        // What a rule says by itself.
        Rules::new(self.rules.clone())?;
        Ok(self)
    }

    /// Whether a rule leads somewhere.
    fn check(&self, rule: &Rule, names: &BTreeSet<&str>) -> Result<(), String> {
        let fetch = self
            .destinations
            .iter()
            .filter(|destination| destination.priors.is_some());
        let priors: BTreeSet<&str> = fetch.map(|destination| &*destination.name).collect();
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
        match led.find(|name| !names.contains(&***name)) {
            Some(unknown) => Err(format!(
                "the rule {:?} leads to {unknown:?}, which is neither a [[destination]] nor a [[peer]]",
                rule.name
            )),
            None => Ok(()),
        }
    }

    /// The rules, in their order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// All that may be delivered to, with this AE title as ours; over TLS by `connector`, where it is said so.
    ///
    /// # Errors
    /// Which destination can't be served, and why.
    pub fn services(
        &self,
        pacs: &Pacs,
        ae_title: AeTitle,
        connector: &Connector,
    ) -> Result<Vec<Service>, String> {
        let peers = self.peers.iter().map(|peer| {
            let remote = peer.remote(ae_title, connector);
            Ok(Service {
                name: peer.ae_title.as_str().into(),
                destination: Arc::new(ToPeer::new(pacs.clone(), remote)),
                workers: peer.associations,
                per_second_max: 0,
            })
        });
        let others = self.destinations.iter();
        let others = others.map(|destination| destination.service(pacs, &self.peers, ae_title, connector));
        peers.chain(others).collect()
    }
}

#[cfg(all(test, feature = "web"))]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Routes, String> {
        let peers = ["WORKSTATION", "OLDPACS"].map(|title| Peer {
            ae_title: title.parse().unwrap(),
            host: "h".to_owned(),
            port: 104,
            associations: 1,
            tls: false,
        });
        let routes: Routes = toml::from_str(text).map_err(|error| error.to_string())?;
        routes.among(&peers, &[])
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
            let error = parse(&text).unwrap_err();
            assert!(error.contains(reason), "{text}\n{error}");
        }
    }
}
