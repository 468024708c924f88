//! `[access]`: who may do what.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use pacs_core::access::{self, AccessControl, AllowAll, Network, Permission, Policy, Role, Values};
use pacs_net::identity::{Identities, Issuer, IssuerSettings, Proofs, Shares, Users};
use pacs_net::tls::Connector;
use serde::Deserialize;

use super::Config;
use super::render::{Rendering, quoted};

/// Who may do what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct AccessConfig {
    /// What everybody may, also who isn't known.
    pub(crate) anyone: Vec<Permission>,
    /// The file with users and their passwords; in the data directory where it is not said.
    pub(crate) users: Option<PathBuf>,
    /// What those may who have it.
    #[serde(rename = "role")]
    pub(crate) roles: Vec<Role>,
    /// Systems that are known.
    #[serde(rename = "peer")]
    pub(crate) peers: Vec<access::Peer>,
    /// Whose tokens are believed.
    #[serde(rename = "issuer")]
    pub(crate) issuers: Vec<IssuerSettings>,
}

impl AccessConfig {
    /// What a small site may begin with.
    pub(super) fn example() -> Self {
        let role = |name: &str, allow: &[Permission]| Role {
            name: name.to_owned(),
            allow: allow.to_vec(),
            only: BTreeMap::new(),
        };
        let only = Values::Any(vec!["Cardiology".to_owned()]);
        Self {
            roles: vec![
                role(
                    "modality",
                    &[Permission::Store, Permission::Find, Permission::Work],
                ),
                role(
                    "reader",
                    &[Permission::Find, Permission::Retrieve, Permission::Work],
                ),
                Role {
                    only: [("InstitutionalDepartmentName".to_owned(), only)].into(),
                    ..role("cardiology", &[Permission::Find, Permission::Retrieve])
                },
            ],
            peers: vec![access::Peer {
                ae_title: "CT1".parse().ok(),
                addresses: Network::parse("192.0.2.0/24").into_iter().collect(),
                certificate: Some("ct1.hospital.example".to_owned()),
                roles: vec!["modality".to_owned()],
            }],
            issuers: vec![IssuerSettings {
                url: "https://login.hospital.example".to_owned(),
                audience: "pacs".to_owned(),
                roles_claim: IssuerSettings::default_claim(),
                roles: [("radiologist".to_owned(), vec!["reader".to_owned()])].into(),
                name_claim: IssuerSettings::default_name(),
            }],
            ..Self::default()
        }
    }

    /// As a file has it.
    pub(super) fn render(&self, out: &mut Rendering) {
        let list = |texts: &[String]| toml::Value::Array(texts.iter().map(|text| quoted(text)).collect());
        let permissions = |permissions: &[Permission]| {
            let names = permissions.iter().map(|permission| quoted(permission.name()));
            toml::Value::Array(names.collect())
        };
        out.line(format_args!("[access]"));
        out.setting(
            "anyone",
            permissions(&self.anyone),
            "What everybody may, also who isn't known.",
        );
        const USERS: &str = "The file with users and their passwords; read again when it changes.";
        match &self.users {
            Some(users) => out.setting("users", quoted(&users.to_string_lossy()), USERS),
            None => {
                out.text(USERS);
                out.text("users = \"users\"");
            }
        }
        out.text("A role, and of what part of what is kept: attributes with values as in a query.");
        for role in &self.roles {
            out.line(format_args!("[[access.role]]"));
            out.line(format_args!("name = {}", quoted(&role.name)));
            out.line(format_args!("allow = {}", permissions(&role.allow)));
            if !role.only.is_empty() {
                let only = role.only.iter().map(|(keyword, values)| {
                    let values = match values {
                        Values::One(value) => quoted(value),
                        Values::Any(values) => list(values),
                    };
                    (keyword.clone(), values)
                });
                let only = toml::Table::from_iter(only);
                out.line(format_args!("only = {}", toml::Value::Table(only)));
            }
        }
        out.text("A system that is known: all that is named must be so. An AE title is a name, and no proof of it.");
        for peer in &self.peers {
            out.line(format_args!("[[access.peer]]"));
            if let Some(title) = &peer.ae_title {
                out.line(format_args!("ae-title = {}", quoted(title.as_str())));
            }
            if !peer.addresses.is_empty() {
                let addresses: Vec<String> = peer.addresses.iter().map(Network::to_string).collect();
                out.line(format_args!("addresses = {}", list(&addresses)));
            }
            if let Some(name) = &peer.certificate {
                out.line(format_args!("certificate = {}", quoted(name)));
            }
            out.line(format_args!("roles = {}", list(&peer.roles)));
        }
        out.text(
            "An OpenID Connect provider whose tokens are believed: which of its roles mean which of ours.",
        );
        for issuer in &self.issuers {
            out.line(format_args!("[[access.issuer]]"));
            out.line(format_args!("url = {}", quoted(&issuer.url)));
            out.line(format_args!("audience = {}", quoted(&issuer.audience)));
            out.line(format_args!("roles-claim = {}", quoted(&issuer.roles_claim)));
            out.line(format_args!("name-claim = {}", quoted(&issuer.name_claim)));
            let roles = issuer.roles.iter().map(|(said, ours)| (said.clone(), list(ours)));
            let roles = toml::Value::Table(toml::Table::from_iter(roles));
            out.line(format_args!("roles = {roles}"));
        }
    }

    /// Who may do what.
    pub(crate) fn policy(&self) -> Result<Policy, String> {
        let policy = Policy::new(self.anyone.clone(), self.roles.clone(), self.peers.clone());
        let policy = policy.map_err(|error| error.to_string())?;
        for issuer in &self.issuers {
            let unknown = issuer
                .roles
                .values()
                .flatten()
                .find(|role| !policy.has_role(role));
            if let Some(role) = unknown {
                return Err(format!("the issuer {}: there is no role {role:?}", issuer.url));
            }
        }
        Ok(policy)
    }
}

impl Config {
    /// The file with users and their passwords.
    pub(crate) fn users(&self) -> PathBuf {
        let named = self.access.as_ref().and_then(|access| access.users.clone());
        named.unwrap_or_else(|| self.data.join("users"))
    }

    /// The key that shares are signed with.
    pub(crate) fn shares(&self) -> PathBuf {
        self.data.join("shares.key")
    }

    /// Who decides who may do what, without the users. Where nothing is said of it, everybody on this machine may
    /// everything, and nobody beyond it anything.
    pub(crate) fn control(&self) -> Result<Arc<dyn AccessControl>, String> {
        Ok(match &self.access {
            Some(access) => Arc::new(access.policy()?),
            None if self.listen.is_loopback() => Arc::new(AllowAll),
            None => Arc::new(Policy::default()),
        })
    }

    /// Who believes users.
    pub(crate) fn identities(&self, connector: &Connector) -> Result<Option<Identities>, String> {
        let Some(access) = &self.access else {
            if !self.listen.is_loopback() {
                tracing::warn!(
                    "nobody is let in: the server listens beyond this machine, and no [access] says who may do what"
                );
            }
            return Ok(None);
        };
        if !self.listen.is_loopback() && self.tls.certificate.is_none() {
            tracing::warn!(
                "passwords and tokens come in the clear: the server listens beyond this machine, and [tls] has no certificate"
            );
        }
        let failed = |error: pacs_core::Error| error.to_string();
        let policy = access.policy()?;
        let users = Users::open(&self.users()).map_err(failed)?;
        for role in users.roles().iter().filter(|role| !policy.has_role(role)) {
            tracing::warn!(
                role,
                "users have a role that is not there, and that allows nothing"
            );
        }
        let issuers = access.issuers.iter().cloned();
        let issuers = issuers.map(|settings| Issuer::new(settings, connector.clone()));
        let issuers: pacs_core::Result<Vec<Issuer>> = issuers.collect();
        let shares = Shares::open(&self.shares()).map_err(failed)?;
        let proofs = Proofs::new(Some(users), issuers.map_err(failed)?, Some(shares));
        Ok(Some(Identities(Arc::new(proofs))))
    }
}
