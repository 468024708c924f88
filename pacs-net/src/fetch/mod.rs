//! Where studies are fetched from: a [`Source`] is another PACS, which is asked what it has and gives it.
//!
//! | source | is asked by | gives by |
//! | --- | --- | --- |
//! | [`Source::Peer`] | C-FIND | C-GET, or C-MOVE to a server of ours (PS3.4 annex C) |
//! | `Source::Web` (feature `web`) | QIDO-RS | WADO-RS (PS3.18 10.4, 10.6) |

mod peer;
#[cfg(feature = "web")]
mod web;

use std::collections::BTreeSet;
use std::fmt;

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use futures::TryStreamExt;
use futures::stream::BoxStream;
#[cfg(feature = "web")]
use pacs_core::audit::AccessPoint;
use pacs_core::audit::{Audit, Between, Message, Participant, Question};
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::encode::encode;
use pacs_core::{AeTitle, DataSet, Error, ErrorKind, Level, Pacs, Result, Uid};

use crate::scu::{Remote, identifier};
#[cfg(feature = "web")]
pub use web::WebService;

/// Instances of one study that a source may list. Real ones stay far below; bounds what is held of an answer.
const LISTED_MAX: usize = 200_000;

/// The operation of an error that says that a source isn't there at all.
pub(crate) const AWAY: &str = "source.connect";

/// What stands for the move originator of what is fetched over HTTP, where there is none.
#[cfg(feature = "web")]
fn over_http() -> Option<AeTitle> {
    AeTitle::parse("WADO-RS").ok()
}

/// A PACS that studies are fetched from. `Display` names it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Source {
    /// A peer, asked by C-FIND.
    Peer {
        /// Where it is.
        remote: Remote,
        /// By which service it gives.
        how: Fetch,
    },
    /// A DICOMweb service.
    #[cfg(feature = "web")]
    Web(WebService),
}

/// By which service a peer gives a study.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// C-GET: the instances come on our own association.
    Get,
    /// C-MOVE to this AE title, under which the peer knows a server of ours that serves the same engine and listens.
    Move(AeTitle),
}

/// What became of a study.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Series that the source lists.
    pub series: usize,
    /// Instances that it lists.
    pub instances: usize,
    /// Bytes of those of them that are kept here, in their Part 10 streams.
    pub bytes: u64,
    /// How many had to be fetched; the others were kept already.
    pub asked: usize,
    /// Those that are not kept here after all, or not as they were stored where that was looked at.
    pub missing: Vec<Uid>,
    /// What the source said of the last retrieval that was not all success.
    pub said: Option<String>,
}

/// Asks a source what it has. It connects when it is first asked, and again when its connection has ended.
#[derive(Debug)]
pub struct Finder {
    asked: Asked,
    /// Where it is recorded what is asked.
    audit: Audit,
    source: Participant,
}

#[derive(Debug)]
enum Asked {
    Peer(peer::Finder),
    #[cfg(feature = "web")]
    Web(WebService),
}

impl Finder {
    /// What matches `keys` at a level, as the source sends it: matching keys with values, return keys without; above
    /// the level the UIDs of where to look. After `at_most` the source is asked to end, and so does the stream.
    ///
    /// # Errors
    /// When the source can't be asked, or it must be recorded that it is and can't be; here or as an item of the stream `Refused` when it doesn't answer the question.
    pub async fn find(
        &mut self,
        level: Level,
        keys: &DataSet,
        at_most: usize,
    ) -> Result<BoxStream<'static, Result<DataSet>>> {
        self.record(level, keys).await?;
        match &mut self.asked {
            Asked::Peer(finder) => finder.find(level, keys, at_most).await,
            #[cfg(feature = "web")]
            Asked::Web(service) => web::find(service, level, keys, at_most),
        }
    }

    /// Records what is asked (PS3.15 A.5.3.10), also over HTTP as the query that it is made of.
    async fn record(&self, level: Level, keys: &DataSet) -> Result<()> {
        if !self.audit.is_on() {
            return Ok(());
        }
        let transfer_syntax = Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN);
        let identifier = identifier(level, keys);
        let question = Question::Dicom {
            sop_class: Uid::constant(uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND),
            identifier: encode(&identifier, transfer_syntax.as_str(), &CharacterSet::utf8())?,
            transfer_syntax,
        };
        let source = self.source.clone();
        let asked = self
            .audit
            .submit(|us| Message::query(Between::new(us.requesting(), source), question));
        asked.await
    }

    /// Ends the connection as the protocol has it; dropped it breaks off.
    pub async fn close(self) {
        match self.asked {
            Asked::Peer(finder) => finder.close().await,
            #[cfg(feature = "web")]
            Asked::Web(_) => {}
        }
    }
}

impl Source {
    /// Asks it what it has; `audit` is where that is recorded.
    pub fn finder(&self, audit: &Audit) -> Finder {
        let (asked, source) = match self {
            Self::Peer { remote, .. } => (Asked::Peer(peer::Finder::new(remote)), remote.participant()),
            #[cfg(feature = "web")]
            Self::Web(service) => {
                let place = AccessPoint::Uri(service.to_string());
                (Asked::Web(service.clone()), Participant::node(place))
            }
        };
        Finder {
            asked,
            audit: audit.clone(),
            source,
        }
    }

    /// Looks whether it is there and can be asked.
    ///
    /// # Errors
    /// Why not.
    pub async fn reach(&self) -> Result<()> {
        match self {
            Self::Peer { remote, .. } => {
                let mut finder = peer::Finder::new(remote);
                finder.client().await?;
                finder.close().await;
                Ok(())
            }
            #[cfg(feature = "web")]
            Self::Web(service) => web::reach(service).await,
        }
    }

    /// Who brings what is fetched, as [`Pacs::fetching`] is to be told: by C-GET whom we called, by C-MOVE one that says
    /// that it moves for us, over HTTP the fetching itself.
    pub fn brings(&self) -> pacs_core::Source {
        match self {
            Self::Peer { remote, .. } => pacs_core::Source {
                calling_ae: Some(remote.called),
                called_ae: Some(remote.calling),
                ..pacs_core::Source::default()
            },
            #[cfg(feature = "web")]
            Self::Web(_) => pacs_core::Source {
                called_ae: over_http(),
                ..pacs_core::Source::default()
            },
        }
    }

    /// Fetches what the source lists of a study and is not kept here: nothing where all is. Then it looks whether every
    /// instance is kept; with `verify` also whether the archive can give it back as it was stored, to the last byte.
    ///
    /// What the source can't give is no error: it is `missing`.
    ///
    /// # Errors
    /// When the source can't be asked, or refuses the query; `Unsupported` when it doesn't offer the service; what the
    /// index says.
    pub async fn fetch_study(&self, pacs: &Pacs, study: &Uid, verify: bool) -> Result<Fetched> {
        let listed = self.list(pacs, study).await?;
        let series: BTreeSet<Uid> = listed.iter().map(|it| it.series).collect();
        let mut fetched = Fetched {
            series: series.len(),
            instances: listed.len(),
            ..Fetched::default()
        };
        let (bytes, missing) = missing(pacs, &listed, verify).await?;
        fetched.asked = missing.len();
        if missing.is_empty() {
            fetched.bytes = bytes;
            return Ok(fetched);
        }
        fetched.said = match self {
            Self::Peer { remote, how } => peer::fetch(pacs, (remote, *how), study, &series, &missing).await?,
            #[cfg(feature = "web")]
            Self::Web(service) => web::fetch(pacs, service, study, &listed, &missing).await?,
        };
        let (bytes, missing) = self::missing(pacs, &listed, verify).await?;
        fetched.bytes = bytes;
        fetched.missing = missing.iter().map(|it| it.instance).collect();
        Ok(fetched)
    }

    /// The instances of a study by series: an answer of each level, as every source gives it (PS3.4 C.4.1.2.1).
    async fn list(&self, pacs: &Pacs, study: &Uid) -> Result<Vec<Listed>> {
        let mut finder = self.finder(pacs.audit());
        let mut all_series = BTreeSet::new();
        let mut keys = of(study, None);
        keys.put_text(tags::SERIES_INSTANCE_UID, VR::UI, "");
        let mut matches = finder.find(Level::Series, &keys, LISTED_MAX + 1).await?;
        while let Some(set) = matches.try_next().await? {
            all_series.insert(set.uid(tags::SERIES_INSTANCE_UID)?);
            bounded(all_series.len())?;
        }
        let mut listed = Vec::new();
        let mut seen = BTreeSet::new();
        for series in all_series {
            let mut keys = of(study, Some(&series));
            keys.put_text(tags::SOP_INSTANCE_UID, VR::UI, "");
            keys.put_text(tags::SOP_CLASS_UID, VR::UI, "");
            let mut matches = finder.find(Level::Instance, &keys, LISTED_MAX + 1).await?;
            while let Some(set) = matches.try_next().await? {
                let instance = set.uid(tags::SOP_INSTANCE_UID)?;
                if seen.insert(instance) {
                    listed.push(Listed {
                        series,
                        instance,
                        sop_class: set.uid(tags::SOP_CLASS_UID).ok(),
                    });
                }
                bounded(listed.len())?;
            }
        }
        finder.close().await;
        Ok(listed)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer { remote, .. } => write!(f, "{}@{}:{}", remote.called, remote.host, remote.port),
            #[cfg(feature = "web")]
            Self::Web(service) => service.fmt(f),
        }
    }
}

/// An instance that a source lists.
struct Listed {
    series: Uid,
    instance: Uid,
    sop_class: Option<Uid>,
}

fn bounded(count: usize) -> Result<()> {
    if count <= LISTED_MAX {
        return Ok(());
    }
    let why = format!("the peer lists more than {LISTED_MAX} instances of one study");
    Err(Error::new(ErrorKind::OutOfResources, "study.list", why))
}

/// The bytes of what is kept of `listed`, and what is not.
async fn missing<'a>(pacs: &Pacs, listed: &'a [Listed], verify: bool) -> Result<(u64, Vec<&'a Listed>)> {
    let (mut bytes, mut missing) = (0, Vec::new());
    for it in listed {
        let Some(record) = pacs.lookup(&it.instance).await? else {
            missing.push(it);
            continue;
        };
        if verify && let Err(error) = pacs.verify_instance(&record).await {
            if error.kind() == ErrorKind::Closed {
                return Err(error);
            }
            tracing::error!(instance = %it.instance, %error, "it is not kept as it was stored");
            missing.push(it);
            continue;
        }
        bytes += record.length;
    }
    Ok((bytes, missing))
}

/// Keys that say where to look.
fn of(study: &Uid, series: Option<&Uid>) -> DataSet {
    let mut keys = DataSet::new();
    keys.put_uid(tags::STUDY_INSTANCE_UID, study);
    if let Some(series) = series {
        keys.put_uid(tags::SERIES_INSTANCE_UID, series);
    }
    keys
}
