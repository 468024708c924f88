//! [`Participant`]: who took part in an event.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use super::Code;
use crate::hooks::Source;
use crate::uid::AeTitle;

/// A person, an application or a node that took part in an event (ActiveParticipant of PS3.15 A.5.1).
///
/// What role it had is what the constructors of [`Message`](super::Message) say of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Participant {
    pub(super) user_id: String,
    pub(super) alternative_id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) is_requestor: bool,
    pub(super) roles: Vec<Code>,
    pub(super) access_point: Option<AccessPoint>,
    pub(super) media: Option<Code>,
}

/// Where on the network a participant is (NetworkAccessPointID with NetworkAccessPointTypeCode).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessPoint {
    /// The name of a machine, as DNS has it.
    Host(String),
    /// An address of IP.
    Address(IpAddr),
    /// An address of e-mail.
    Email(String),
    /// A URI.
    Uri(String),
}

impl Participant {
    fn new(user_id: String) -> Self {
        Self {
            user_id,
            alternative_id: None,
            name: None,
            is_requestor: false,
            roles: Vec::new(),
            access_point: None,
            media: None,
        }
    }

    /// A person, by the name that he or she logs in with, as `name@domain` where there are domains (PS3.15 A.5.2.1).
    pub fn person(user_id: impl Into<String>) -> Self {
        Self::new(user_id.into())
    }

    /// A process, by what the system's logs call it, with the AE titles that it took part by (PS3.15 A.5.2.2).
    pub fn process(user_id: impl Into<String>, titles: impl IntoIterator<Item = AeTitle>) -> Self {
        let mut process = Self::new(user_id.into());
        process.alternative_id = ae_titles(titles);
        process
    }

    /// An application of which its AE title is known.
    pub fn application(title: AeTitle) -> Self {
        Self::process(title.as_str(), [title])
    }

    /// A node of which an address or a name is known: the other side of a connection that said nothing else.
    pub fn node(at: AccessPoint) -> Self {
        let mut node = Self::new(at.id());
        node.access_point = Some(at);
        node
    }

    /// Who asks, as far as an engine is told.
    pub fn of(source: &Source) -> Self {
        let address = source.address.map(|address| address.ip());
        let title = source.calling_ae.map(|title| title.as_str().to_owned());
        let mut participant = match (source.calling_ae, address) {
            _ if source.identity.is_some() => {
                let name = source.identity.as_ref().map(|user| user.name.clone());
                let mut person = Self::person(name.unwrap_or_default());
                person.alternative_id = title;
                person
            }
            (Some(title), _) => Self::application(title),
            (None, Some(address)) => Self::node(AccessPoint::Address(address)),
            // What comes over no network is asked for by the program itself.
            (None, None) => Self::new("local".to_owned()),
        };
        participant.access_point = address.map(AccessPoint::Address);
        participant
    }

    /// With another identifier, under which it is known within the enterprise (AlternativeUserID, PS3.15 A.5.2.2).
    #[must_use]
    pub fn also_known_as(mut self, id: impl Into<String>) -> Self {
        self.alternative_id = Some(id.into());
        self
    }

    /// With a name that people know (UserName).
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// With where it is.
    #[must_use]
    pub fn at(mut self, access_point: AccessPoint) -> Self {
        self.access_point = Some(access_point);
        self
    }

    /// Who wanted the event to happen (UserIsRequestor).
    #[must_use]
    pub fn requesting(mut self) -> Self {
        self.is_requestor = true;
        self
    }

    pub(super) fn role(mut self, role: Code) -> Self {
        self.roles.push(role);
        self
    }
}

/// It may name a person.
impl fmt::Debug for Participant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Participant")
            .field("is_requestor", &self.is_requestor)
            .field("roles", &self.roles)
            .finish_non_exhaustive()
    }
}

impl AccessPoint {
    /// A host as configurations name it: by its address, or by its name.
    pub fn host(host: &str) -> Self {
        match host.parse() {
            Ok(address) => Self::Address(address),
            Err(_) => Self::Host(host.to_owned()),
        }
    }

    pub(super) fn id(&self) -> String {
        match self {
            Self::Address(address) => address.to_canonical().to_string(),
            Self::Host(text) | Self::Email(text) | Self::Uri(text) => text.clone(),
        }
    }

    /// NetworkAccessPointTypeCode.
    pub(super) fn type_code(&self) -> &'static str {
        match self {
            Self::Host(_) => "1",
            Self::Address(_) => "2",
            Self::Email(_) => "4",
            Self::Uri(_) => "5",
        }
    }
}

impl From<IpAddr> for AccessPoint {
    fn from(address: IpAddr) -> Self {
        Self::Address(address)
    }
}

fn ae_titles(titles: impl IntoIterator<Item = AeTitle>) -> Option<String> {
    let titles: Vec<String> = titles.into_iter().map(|title| title.to_string()).collect();
    (!titles.is_empty()).then(|| format!("AETITLES={}", titles.join(";")))
}

/// The URI of a file or directory of this machine: `file://` and its path from the root on.
pub fn file_uri(path: &Path) -> String {
    let whole = std::path::absolute(path);
    format!("file://{}", whole.as_deref().unwrap_or(path).display())
}

/// What data is brought in from or taken out to.
#[derive(Clone, PartialEq, Eq)]
pub struct Media(pub(super) Participant);

impl Media {
    /// A thing that is carried, with what stands on it or where it is, for people, and what it is
    /// ([`Code::MEDIA_DVD`] and others). `id` may be its serial number or its volume label.
    pub fn physical(label: impl Into<String>, kind: Code, id: Option<String>) -> Self {
        let mut media = Participant::new(label.into());
        media.alternative_id = id;
        media.media = Some(kind);
        Self(media)
    }

    /// What has an address: a directory ([`file_uri`]), a web server.
    pub fn uri(uri: impl Into<String>) -> Self {
        let uri = uri.into();
        let mut media = Participant::new(uri.clone());
        media.access_point = Some(AccessPoint::Uri(uri));
        media.media = Some(Code::MEDIA_URI);
        Self(media)
    }
}

/// It may say whose it is.
impl fmt::Debug for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Media").field(&self.0.media).finish()
    }
}
