//! [`Policy`]: who may do what, by roles.

use std::collections::BTreeMap;
use std::time::SystemTime;

use dicom_core::VR;
use serde::{Deserialize, Deserializer, de};

use super::{AccessControl, Door, Network, OPERATION, Part, Permission, Restriction, refused};
use crate::dataset::{DataSet, standard_vr};
use crate::error::{Error, ErrorKind, Result};
use crate::hooks::Source;
use crate::query::{AttributePath, AttributeSet, AttributeStep};
use crate::uid::AeTitle;

/// Who may do what, as a configuration file has it; its keys are the fields' names, with hyphens. By default nobody may
/// anything.
///
/// - Who has proven to be a user may what the user's roles allow, wherever they come from.
/// - Everybody else may what the roles of those [`Peer`]s allow that they are.
/// - And both may what `anyone` may.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Policy {
    anyone: Vec<Permission>,
    roles: BTreeMap<String, Vec<(Permission, Part)>>,
    peers: Vec<Peer>,
}

/// As a file has it.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    anyone: Vec<Permission>,
    role: Vec<Role>,
    peer: Vec<Peer>,
}

/// What those may who have it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Role {
    /// What it is called.
    pub name: String,
    /// What it allows.
    pub allow: Vec<Permission>,
    /// Of what part of what is kept: keywords of attributes, each with a value or several, as in a query. Where none is
    /// named, of all.
    #[serde(default, deserialize_with = "some")]
    pub only: BTreeMap<String, Values>,
}

/// One value of an attribute, or any of several.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Values {
    /// One.
    One(String),
    /// Any of these.
    Any(Vec<String>),
}

/// A system that is known by what it calls itself, where it is and what certificate it shows: all that is named must be so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Peer {
    /// What it calls itself over DICOM: a name, and no proof of it.
    #[serde(deserialize_with = "ae_title")]
    pub ae_title: Option<AeTitle>,
    /// Where it is; anywhere, where none is named. A file names one or says nothing.
    #[serde(deserialize_with = "networks")]
    pub addresses: Vec<Network>,
    /// Whom its certificate is of: see [`Certificate::is_of`](super::Certificate::is_of).
    pub certificate: Option<String>,
    /// The roles that it has.
    pub roles: Vec<String>,
}

/// A file from which the last address was taken away doesn't mean every address.
fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Network>, D::Error> {
    let networks = Vec::deserialize(deserializer)?;
    match networks.is_empty() {
        true => Err(de::Error::custom(
            "addresses: names none; a peer without it may be anywhere",
        )),
        false => Ok(networks),
    }
}

/// A file that says `only` of nothing means a part, and names none.
fn some<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Values>, D::Error> {
    let only = BTreeMap::deserialize(deserializer)?;
    match only.is_empty() {
        true => Err(de::Error::custom(
            "only: names no attribute; a role without it is of all that is kept",
        )),
        false => Ok(only),
    }
}

impl Peer {
    /// Whether `source` is it.
    fn is(&self, source: &Source) -> bool {
        // Elsewhere an AE title is what a file says of its origin.
        let has_title = matches!(source.door, Some(Door::Dicom | Door::Call));
        let calling = source.calling_ae.filter(|_| has_title);
        let address = source.address.map(|address| address.ip());
        let is_there = |address| self.addresses.iter().any(|network| network.holds(address));
        let certificate = source.certificate.as_deref();
        self.ae_title.is_none_or(|title| calling == Some(title))
            && (self.addresses.is_empty() || address.is_some_and(is_there))
            && self
                .certificate
                .as_deref()
                .is_none_or(|name| certificate.is_some_and(|certificate| certificate.is_of(name)))
    }
}

impl Policy {
    /// Whoever isn't known may what `anyone` names; roles and peers are as a file has them.
    ///
    /// # Errors
    /// `Invalid` when a role is there twice or allows nothing that it names, when a peer has a role that is not there,
    /// or is one that everybody is.
    pub fn new(anyone: Vec<Permission>, roles: Vec<Role>, peers: Vec<Peer>) -> Result<Self> {
        let invalid = |why: String| Error::new(ErrorKind::Invalid, "access.policy", why);
        let mut known = BTreeMap::new();
        for role in roles {
            let part = match role.only.is_empty() {
                true => Part::All,
                false => Part::Only([restriction(&role)?].into()),
            };
            let allowed = role.allow.iter().map(|permission| (*permission, part.clone()));
            if known.insert(role.name.clone(), allowed.collect()).is_some() {
                return Err(invalid(format!("two roles are called {:?}", role.name)));
            }
        }
        for peer in &peers {
            if peer.ae_title.is_none() && peer.addresses.is_empty() && peer.certificate.is_none() {
                let why = "a peer is known by its ae-title, its addresses or its certificate: without any of them it is everybody";
                return Err(invalid(why.to_owned()));
            }
            if let Some(role) = peer.roles.iter().find(|role| !known.contains_key(*role)) {
                let certificate = peer.certificate.as_deref();
                let known_by = peer.ae_title.as_ref().map(|title| title.as_str()).or(certificate);
                let which = known_by.map_or_else(String::new, |name| format!(" {name:?}"));
                return Err(invalid(format!("the peer{which}: there is no role {role:?}")));
            }
        }
        Ok(Self {
            anyone,
            roles: known,
            peers,
        })
    }

    /// Holds the attributes that parts are told apart by against those that an index keeps: by another one nothing is
    /// found.
    ///
    /// # Errors
    /// `Invalid`, with its tag, when one is not kept.
    pub fn check(&self, kept: &AttributeSet) -> Result<()> {
        let parts = self.roles.values().flatten().map(|(_, part)| part);
        let restrictions = parts.filter_map(|part| match part {
            Part::All => None,
            Part::Only(any) => Some(any.iter()),
        });
        for element in restrictions
            .flatten()
            .flat_map(|restriction| restriction.keys().iter())
        {
            if kept.level_of(element.tag).is_none() {
                let why = "a role tells apart by an attribute that is not indexed: an [[attribute]] table has it indexed";
                return Err(Error::new(ErrorKind::Invalid, "access.policy", why).with_tag(element.tag));
            }
        }
        Ok(())
    }

    /// Whether there is a role of this name.
    pub fn has_role(&self, name: &str) -> bool {
        self.roles.contains_key(name)
    }

    fn allowed<'a>(
        &'a self,
        roles: &'a [String],
        permission: Permission,
    ) -> impl Iterator<Item = &'a Part> + 'a {
        let allowed = roles.iter().filter_map(|role| self.roles.get(role)).flatten();
        allowed
            .filter(move |(allowed, _)| *allowed == permission)
            .map(|(_, part)| part)
    }
}

impl AccessControl for Policy {
    fn permit(&self, source: &Source, permission: Permission) -> Result<Part> {
        if self.anyone.contains(&permission) {
            return Ok(Part::All);
        }
        let parts: Vec<&Part> = match &source.identity {
            Some(user) => {
                if user.until.is_some_and(|until| until <= SystemTime::now()) {
                    let why = "the proof of who this is has expired";
                    return Err(Error::new(ErrorKind::Refused, OPERATION, why));
                }
                let granted = user.granted.iter().filter(|(granted, _)| *granted == permission);
                let granted = granted.map(|(_, part)| part);
                granted.chain(self.allowed(&user.roles, permission)).collect()
            }
            None => {
                let peers = self.peers.iter().filter(|peer| peer.is(source));
                peers
                    .flat_map(|peer| self.allowed(&peer.roles, permission))
                    .collect()
            }
        };
        let together = parts.into_iter().cloned().reduce(Part::or);
        together.ok_or_else(|| refused(permission))
    }
}

impl TryFrom<Written> for Policy {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let policy = Self::new(written.anyone, written.role, written.peer);
        policy.map_err(|error| error.context().to_owned())
    }
}

fn ae_title<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<AeTitle>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let title = AeTitle::parse(&text).map_err(|error| de::Error::custom(error.context()))?;
    Ok(Some(title))
}

fn restriction(role: &Role) -> Result<Restriction> {
    let mut keys = DataSet::new();
    for (keyword, values) in &role.only {
        let invalid = |why: String| {
            let why = format!("of the role {:?}: {why}", role.name);
            Error::new(ErrorKind::Invalid, "access.policy", why)
        };
        let path: AttributePath = keyword
            .parse()
            .map_err(|error: Error| invalid(format!("{keyword:?} is {}", error.context())))?;
        let [AttributeStep::Standard(tag)] = path.steps() else {
            return Err(invalid(format!(
                "{keyword:?} is no attribute of an instance's top level"
            )));
        };
        let values = match values {
            Values::One(value) => std::slice::from_ref(value),
            Values::Any(values) => values,
        };
        if values.is_empty()
            || values
                .iter()
                .any(|value| value.trim().is_empty() || value.contains('\\'))
        {
            return Err(invalid(format!("{keyword} must have values, none of them empty")));
        }
        let vr = standard_vr(*tag).unwrap_or(VR::LO);
        keys.put_text(*tag, vr, values.join("\\"));
    }
    Restriction::new(keys)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use dicom_dictionary_std::tags;

    use super::*;
    use crate::access::{Certificate, Identity};

    const POLICY: &str = r#"
        anyone = ["work"]

        [[role]]
        name = "modality"
        allow = ["store", "find"]

        [[role]]
        name = "cardiology"
        allow = ["find", "retrieve"]
        only = { ReferringPhysicianName = ["Heart^*", "Vessel"], Modality = "US" }

        [[role]]
        name = "mammography"
        allow = ["retrieve"]
        only = { Modality = "MG" }

        [[peer]]
        ae-title = "CT1"
        addresses = ["10.1.0.0/16", "fd00::1"]
        roles = ["modality"]

        [[peer]]
        certificate = "gateway.example"
        roles = ["modality", "cardiology"]
    "#;

    fn policy() -> Policy {
        toml::from_str(POLICY).unwrap()
    }

    fn ct(address: &str) -> Source {
        Source {
            door: Some(Door::Dicom),
            calling_ae: Some("CT1".parse().unwrap()),
            address: Some(format!("{address}:104").parse().unwrap()),
            ..Source::default()
        }
    }

    fn user(roles: &[&str]) -> Source {
        Source {
            door: Some(Door::Web),
            identity: Some(Arc::new(Identity {
                name: "anna".to_owned(),
                roles: roles.iter().map(|role| (*role).to_owned()).collect(),
                ..Identity::default()
            })),
            ..Source::default()
        }
    }

    #[test]
    fn a_peer_is_who_fits_all_that_is_said_of_it() {
        let policy = policy();
        assert_eq!(
            policy.permit(&ct("10.1.2.3"), Permission::Store).unwrap(),
            Part::All
        );
        assert!(policy.permit(&ct("10.1.2.3"), Permission::Delete).is_err());
        assert!(policy.permit(&ct("10.2.2.3"), Permission::Store).is_err());
        let other = Source {
            calling_ae: Some("CT2".parse().unwrap()),
            ..ct("10.1.2.3")
        };
        assert!(policy.permit(&other, Permission::Store).is_err());
        // What a file calls its origin proves nothing.
        let web = Source {
            door: Some(Door::Web),
            ..ct("10.1.2.3")
        };
        assert!(policy.permit(&web, Permission::Store).is_err());
        let certificate = |common_name: &str| Source {
            door: Some(Door::Hl7),
            certificate: Some(Arc::new(Certificate {
                subject: format!("CN={common_name}"),
                common_name: Some(common_name.to_owned()),
                names: Vec::new(),
            })),
            ..Source::default()
        };
        assert!(
            policy
                .permit(&certificate("gateway.example"), Permission::Store)
                .is_ok()
        );
        assert!(
            policy
                .permit(&certificate("other.example"), Permission::Store)
                .is_err()
        );
    }

    #[test]
    fn what_anyone_may_everybody_may_and_nothing_else() {
        let policy = policy();
        let stranger = Source {
            door: Some(Door::Web),
            ..Source::default()
        };
        for permission in Permission::ALL {
            let is_allowed = policy.permit(&stranger, permission).is_ok();
            assert_eq!(is_allowed, permission == Permission::Work, "{permission:?}");
            assert!(Policy::default().permit(&stranger, permission).is_err());
        }
    }

    #[test]
    fn a_user_has_the_parts_of_all_roles_together_and_none_of_the_peer() {
        let policy = policy();
        let attributes = |modality: &str, referring: &str| {
            let mut set = DataSet::new();
            set.put_text(tags::MODALITY, VR::CS, modality);
            set.put_text(tags::REFERRING_PHYSICIAN_NAME, VR::PN, referring);
            set
        };
        let both = user(&["cardiology", "mammography", "no-such-role"]);
        let part = policy.permit(&both, Permission::Retrieve).unwrap();
        assert!(part.holds(&attributes("US", "Heart^Anna")));
        assert!(part.holds(&attributes("US", "Vessel")));
        assert!(part.holds(&attributes("MG", "Nobody")));
        assert!(!part.holds(&attributes("US", "Nobody")));
        assert!(!part.holds(&attributes("CT", "Heart^Anna")));
        assert!(!part.holds(&DataSet::new()));
        let part = policy.permit(&both, Permission::Find).unwrap();
        assert!(!part.holds(&attributes("MG", "Nobody")));
        let mut at_a_scanner = ct("10.1.2.3");
        at_a_scanner.identity = user(&["cardiology"]).identity;
        assert!(policy.permit(&at_a_scanner, Permission::Store).is_err());
        let all = policy.permit(&user(&["modality", "cardiology"]), Permission::Find);
        assert_eq!(all.unwrap(), Part::All);
    }

    #[test]
    fn a_proof_ends_when_it_says_so() {
        let policy = policy();
        let until = |at: SystemTime| {
            let mut source = user(&["modality"]);
            let identity = Identity {
                until: Some(at),
                ..(**source.identity.as_ref().unwrap()).clone()
            };
            source.identity = Some(Arc::new(identity));
            source
        };
        let hour = Duration::from_secs(3600);
        assert!(
            policy
                .permit(&until(SystemTime::now() + hour), Permission::Find)
                .is_ok()
        );
        assert!(
            policy
                .permit(&until(SystemTime::now() - hour), Permission::Find)
                .is_err()
        );
    }

    #[test]
    fn what_can_not_be_meant_is_refused_with_the_reason() {
        for (text, why) in [
            ("[[peer]]\nroles = []", "everybody"),
            ("[[peer]]\nae-title = \"A\"\nroles = [\"x\"]", "no role \"x\""),
            (
                "[[role]]\nname = \"a\"\nallow = []\n[[role]]\nname = \"a\"\nallow = []",
                "two roles",
            ),
            (
                "[[role]]\nname = \"a\"\nallow = [\"fly\"]",
                "unknown variant `fly`",
            ),
            (
                "[[role]]\nname = \"a\"\nallow = []\nonly = { NoSuchThing = \"x\" }",
                "NoSuchThing",
            ),
            (
                "[[role]]\nname = \"a\"\nallow = []\nonly = { Modality = [] }",
                "must have values",
            ),
            (
                "[[role]]\nname = \"a\"\nallow = []\nonly = { Modality = \"*\" }",
                "everything would fit",
            ),
            ("[[peer]]\naddresses = [\"10.1\"]", "no address"),
            ("[[peer]]\nae-title = \"A\"\naddresses = []", "names none"),
            (
                "[[role]]\nname = \"a\"\nallow = []\nonly = {}",
                "names no attribute",
            ),
            ("anyone = [\"find\"]\nnobody = []", "unknown field"),
        ] {
            let error = toml::from_str::<Policy>(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
