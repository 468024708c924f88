//! The router decides where things go: [`Router`], [`Occasion`], [`Delivery`]; [`Rules`] decides by data.
//!
//! A router only decides. The engine asks it, on a thread of its own, about everything that is durable and in the
//! index: each instance that is new or replaced, each series and study that has been quiet for a while, each report;
//! and about each order that is placed. About what was fetched from elsewhere it is asked only if it wants to be.
//! What it decides is put into the [`Outbox`] where the engine has a [`Ledger`](crate::Ledger), together with how far the archive was
//! asked about: killed at any instant, the engine asks again about all that it has no answer for, and no delivery is
//! entered twice. Then the [`Observer`](crate::hooks::Observer)s are told
//! ([`Event::Routed`](crate::hooks::Event::Routed)). Who delivers takes from the outbox; `deliver` of `pacs-net` does.

mod outbox;
mod rules;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use dicom_core::Tag;

use crate::archive::Timestamp;
use crate::dataset::{DataSet, coercion};
use crate::error::{Error, ErrorKind, Result};
use crate::hooks::Source;
use crate::index::InstanceRecord;
use crate::query::AttributeSet;

pub(crate) use outbox::Decided;
/// The kind of the ledger's key under which it is noted how far the archive was asked about.
pub(crate) const ROUTED: &str = "routed";

/// What a copy of a ledger has of an entry, so that it can stand beside another archive that has the same instances, in an
/// order of its own: a replica, or what was restored. None of how far in the order the archive was asked about; deliveries
/// forget the place of what they deliver, so that any later version counts as later.
pub fn beside_another_archive(key: &[u8], value: &[u8]) -> Option<(Bytes, Bytes)> {
    match *key == *crate::ledger::Key::of(ROUTED).bytes() {
        true => None,
        false => Some(outbox::without_order(key, value)),
    }
}

pub use outbox::{Dead, DestinationStatus, Line, Outbox, Outcome, Progress, Recorded, Waiting, What};
pub use rules::{Checked, Conditions, Day, Hours, LocalTime, Rule, Rules, Wanted};

/// What happened, that a router is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Trigger {
    /// An instance was stored: it is new, or took the place of another version.
    InstanceStored,
    /// A report was stored that is final: an SR document that is complete, or an encapsulated document. It is asked
    /// about as an instance before.
    ReportStored,
    /// Nothing came to a series for a while.
    SeriesStable,
    /// Nothing came to a study for a while, for the first time.
    StudyStable,
    /// Nothing came to a study for a while, after something had come to it, was amended or removed, since it was
    /// stable before. A removal in the last moments before the process dies may go untold.
    StudyChanged,
    /// An order was placed or changed: the worklist has steps of a study that are still to be done. See
    /// [`Pacs::order_placed`](crate::Pacs::order_placed).
    OrderPlaced,
}

impl Trigger {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::InstanceStored,
        Self::ReportStored,
        Self::SeriesStable,
        Self::StudyStable,
        Self::StudyChanged,
        Self::OrderPlaced,
    ];

    /// Its name in rules.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InstanceStored => "instance-stored",
            Self::ReportStored => "report-stored",
            Self::SeriesStable => "series-stable",
            Self::StudyStable => "study-stable",
            Self::StudyChanged => "study-changed",
            Self::OrderPlaced => "order-placed",
        }
    }

    /// The one with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|trigger| trigger.as_str() == name)
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// In which order deliveries to one destination are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// At once.
    Stat,
    /// Before the others.
    High,
    /// As it comes.
    #[default]
    Medium,
    /// When nothing else is to be done.
    Low,
}

impl Priority {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 4] = [Self::Stat, Self::High, Self::Medium, Self::Low];

    /// As the Standard writes it (PS3.3 C.30.2, Scheduled Procedure Step Priority; and PS3.3 C.4.11 for STAT).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stat => "STAT",
            Self::High => "HIGH",
            Self::Medium => "MEDIUM",
            Self::Low => "LOW",
        }
    }

    /// The one that is written so, in any case; ROUTINE is another word for MEDIUM (PS3.3 C.4.11).
    pub fn parse(text: &str) -> Option<Self> {
        let medium = text.eq_ignore_ascii_case("ROUTINE").then_some(Self::Medium);
        medium.or_else(|| {
            Self::ALL
                .into_iter()
                .find(|priority| priority.as_str().eq_ignore_ascii_case(text))
        })
    }
}

/// What a router is asked about.
pub struct Occasion<'a> {
    /// What happened.
    pub trigger: Trigger,
    /// The instance; of a series or a study the one that came to it last; none of an order.
    pub record: Option<&'a InstanceRecord>,
    /// Who sent it. What is found only after a restart has no address.
    pub source: &'a Source,
    /// It did not come by itself, but because it was fetched: see [`Pacs::fetching`](crate::Pacs::fetching).
    pub fetched: bool,
    /// When it happened.
    pub at: Timestamp,
    /// Which attributes the record has.
    pub attributes: &'a AttributeSet,
    /// Reads what stands before the pixel data, with corrections: for attributes that the record doesn't have. Of an
    /// order it is an item of the worklist.
    pub header: &'a dyn Fn() -> Result<Arc<DataSet>>,
}

impl fmt::Debug for Occasion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Occasion")
            .field("trigger", &self.trigger)
            .field("key", &self.record.map(|record| record.key))
            .finish_non_exhaustive()
    }
}

/// What is put in place of attributes on the way to a destination, and what is left out. The stored bytes stay.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Elements of the top level in normal form, with or without a value.
    pub set: DataSet,
    /// Attributes of the top level that are left out.
    pub remove: Vec<Tag>,
}

impl Changes {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }

    /// Whether an attribute may be changed on the way out: none that says which instance it is or how it is to be
    /// read, none of group 0002, none that describes pixels.
    ///
    /// # Errors
    /// `Invalid` with the first that may not.
    pub fn check(&self) -> Result<()> {
        let set = self.set.iter().map(|element| element.tag);
        let mut changed = set.chain(self.remove.iter().copied());
        match changed.find(|tag| coercion::is_fixed(*tag)) {
            Some(tag) => {
                let why = "an attribute that can't be changed on the way out: it identifies the instance or describes its pixels";
                Err(Error::new(ErrorKind::Invalid, "route.changes", why).with_tag(tag))
            }
            None => Ok(()),
        }
    }
}

/// To where something goes, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// To whom: a name that the delivering side knows, such as an AE title. At most
    /// [`limits::DESTINATION_NAME_LENGTH_MAX_BYTES`](crate::limits::DESTINATION_NAME_LENGTH_MAX_BYTES) long.
    pub destination: Arc<str>,
    /// The occasion itself is told, once; else each instance is sent that it is about: the one, or all of the series
    /// or the study.
    pub tells: bool,
    /// In which order.
    pub priority: Priority,
    /// What is changed on the way.
    pub changes: Option<Arc<Changes>>,
}

impl Delivery {
    /// The instances to this destination, as they are.
    pub fn to(destination: impl Into<Arc<str>>) -> Self {
        Self {
            destination: destination.into(),
            tells: false,
            priority: Priority::default(),
            changes: None,
        }
    }

    /// The occasion to this destination.
    pub fn tell(destination: impl Into<Arc<str>>) -> Self {
        Self {
            tells: true,
            ..Self::to(destination)
        }
    }
}

/// Decides where an instance goes.
///
/// Asked on a thread of the engine that does nothing else; one that takes long delays deliveries, and nothing more.
pub trait Router: Send + Sync + 'static {
    /// The deliveries of what happened.
    ///
    /// - The same destination twice is delivered to once, as the first of them says.
    /// - No delivery is an answer like any other.
    ///
    /// # Errors
    /// What is logged; where the engine has a ledger, it is asked again later, as it is after a panic.
    fn route(&self, occasion: &Occasion<'_>) -> Result<Vec<Delivery>>;

    /// Whether it is to be asked when this happens: about the others nothing is looked up.
    fn wants(&self, trigger: Trigger) -> bool {
        trigger == Trigger::InstanceStored
    }

    /// Whether it is to be asked about what was fetched, too ([`Occasion::fetched`]): who decides about new images
    /// alone never hears of old ones.
    fn wants_fetched(&self) -> bool {
        false
    }
}

impl<F: Fn(&Occasion<'_>) -> Result<Vec<Delivery>> + Send + Sync + 'static> Router for F {
    fn route(&self, occasion: &Occasion<'_>) -> Result<Vec<Delivery>> {
        self(occasion)
    }
}

/// A router that can be replaced by another while the engine runs. Clones are the same.
#[derive(Clone)]
pub struct Reloadable(Arc<RwLock<Arc<dyn Router>>>);

impl Reloadable {
    /// Begins with this router.
    pub fn new(router: Arc<dyn Router>) -> Self {
        Self(Arc::new(RwLock::new(router)))
    }

    /// Asks this one from now on.
    pub fn replace(&self, router: Arc<dyn Router>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = router;
    }
}

impl fmt::Debug for Reloadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reloadable")
    }
}

impl Router for Reloadable {
    fn route(&self, occasion: &Occasion<'_>) -> Result<Vec<Delivery>> {
        let router = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        router.route(occasion)
    }

    fn wants(&self, trigger: Trigger) -> bool {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .wants(trigger)
    }

    fn wants_fetched(&self) -> bool {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .wants_fetched()
    }
}
