//! A query asks the index: [`Query`], its matching (PS3.4 C.2.2.2), and which attributes are kept for it.
//!
//! - [`AttributeSet`] says which attributes of an instance an index keeps, and at which level.
//! - [`Query::from_identifier`] reads what a peer asks; [`retrieval`] does for a retrieval.
//! - [`Query::matches`] decides. It is written once, here: an index only chooses candidates, for which it
//!   looks at [`Query::key`] and [`KeyMatch`].
//! - [`Query::answer`] makes the response identifier of a match.
//!
//! What the Standard leaves open is decided so:
//!
//! - Text is compared case by case, person names without regard to case and accents ([`fold_person_name`]).
//! - IS and DS are compared as numbers. A time or date of less precision stands for its whole span.
//! - Several values in a key: any of them matches, or each must after negotiation of multiple value matching.
//! - `""` asks for entities without a value, negotiated or not. `*` alone is universal for every VR.
//! - A key of a level above the asked one matches also where the Standard only has its unique key there.
//!   A key of a level below, or of an attribute that is not kept, is answered without a value and doesn't
//!   restrict (as an optional key that is not supported, C.2.2.1.3).

mod answer;
mod attributes;
mod identifier;
mod key;
mod number;
mod path;
mod person;
mod phonetic;
mod sequence;
mod standard;
mod temporal;
#[cfg(test)]
mod tests;
mod wildcard;

use std::sync::Arc;

use dicom_core::Tag;

pub(crate) use answer::answer;
pub use attributes::{AttributeSet, LevelAttributes, unique_key};
pub(crate) use identifier::check_size;
pub use identifier::{Retrieval, retrieval};
pub(crate) use key::is_never_matched;
pub use key::{Key, KeyMatch};
pub use number::Number;
pub(crate) use number::numbers;
pub use path::{AttributePath, AttributeStep};
pub use person::{PersonKey, fold_person_name, folded_groups};
pub use sequence::Keys;
pub(crate) use temporal::{date_time, days as days_since_1970};
pub use wildcard::Pattern;

use crate::dataset::DataSet;
use crate::uid::Level;

/// The information model a query is made in (PS3.4 C.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Model {
    /// Patient Root: four levels.
    PatientRoot,
    /// Study Root: three levels; the patient's attributes belong to the study.
    StudyRoot,
}

/// What requester and responder agreed on beyond the base (PS3.4 C.3.4, C.5.3, sub-items of extended negotiation).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct QueryOptions {
    /// Relational queries: unique keys of the levels above may be missing.
    pub relational: bool,
    /// A date range and a time range of one pair of attributes are one range of date-times (PS3.4 C.2.2.2.5.4).
    pub combined_date_time: bool,
    /// Person names also match when they sound or are written alike (PS3.4 C.2.2.2.1.1).
    pub fuzzy_person_names: bool,
    /// Of several values in one key each must match, not any (PS3.4 C.2.2.2.8).
    pub multiple_values: bool,
}

/// A question to the index. Cheap to clone.
#[derive(Clone)]
pub struct Query {
    asked: Arc<Asked>,
}

#[derive(Clone, PartialEq)]
struct Asked {
    model: Model,
    level: Level,
    keys: DataSet,
    options: QueryOptions,
    /// The keys that restrict, read once. Those cheap to decide come first.
    matching: Vec<Key>,
    unsupported: Vec<Tag>,
}

impl Query {
    /// Asks for the entities of `level` with these keys, in normal form (text as UTF-8), as they are:
    /// every key with a value restricts. [`from_identifier`](Self::from_identifier) checks what a peer
    /// sends.
    pub fn new(model: Model, level: Level, keys: DataSet, options: QueryOptions) -> Self {
        Self::with_unsupported(model, level, keys, options, Vec::new())
    }

    fn with_unsupported(
        model: Model,
        level: Level,
        keys: DataSet,
        options: QueryOptions,
        unsupported: Vec<Tag>,
    ) -> Self {
        let mut matching = Key::parse_all(&keys, options);
        matching.sort_by_key(Key::cost);
        Self {
            asked: Arc::new(Asked {
                model,
                level,
                keys,
                options,
                matching,
                unsupported,
            }),
        }
    }

    /// The information model.
    pub fn model(&self) -> Model {
        self.asked.model
    }

    /// Query/Retrieve Level (0008,0052): what kind of entity is asked for.
    pub fn level(&self) -> Level {
        self.asked.level
    }

    /// Matching keys and return keys, in normal form (text as UTF-8).
    pub fn keys(&self) -> &DataSet {
        &self.asked.keys
    }

    /// What was agreed on beyond the base.
    pub fn options(&self) -> QueryOptions {
        self.asked.options
    }

    /// The keys that restrict; every one of them must match. Universal keys are not among them.
    pub fn matching(&self) -> &[Key] {
        &self.asked.matching
    }

    /// Asks for less: what matches must match `keys` too, none of which is returned unless it was asked
    /// for. For an access control that shows a peer its own part only.
    pub fn restrict(&mut self, keys: &DataSet) {
        let asked = Arc::make_mut(&mut self.asked);
        asked.matching.extend(Key::parse_all(keys, asked.options));
        asked.matching.sort_by_key(Key::cost);
    }

    /// Lets the keys of these attributes restrict nothing.
    pub(crate) fn forget(&mut self, tags: &[Tag]) {
        let asked = Arc::make_mut(&mut self.asked);
        asked.matching.retain(|key| !tags.contains(&key.tag));
    }

    /// What the key of this attribute asks, if it restricts.
    pub fn key(&self, tag: Tag) -> Option<&KeyMatch> {
        let key = self.asked.matching.iter().find(|key| key.tag == tag)?;
        Some(&key.wanted)
    }

    /// Optional keys of the identifier that are not supported at this level: those with a value don't restrict,
    /// and all are answered without one (C-FIND status FF01, PS3.4 C.4.1.1.4).
    pub fn unsupported(&self) -> &[Tag] {
        &self.asked.unsupported
    }

    /// Whether an entity matches all keys. `record` holds what is known of it and of those above it, in
    /// normal form.
    pub fn matches(&self, record: &DataSet) -> bool {
        self.asked.matching.iter().all(|key| key.matches(record))
    }
}

impl PartialEq for Query {
    fn eq(&self, other: &Self) -> bool {
        self.asked == other.asked
    }
}

impl Eq for Query {}

impl std::fmt::Debug for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The read keys hold values, and values are patient data.
        f.debug_struct("Query")
            .field("model", &self.asked.model)
            .field("level", &self.asked.level)
            .field("keys", &self.asked.keys)
            .field("options", &self.asked.options)
            .finish()
    }
}
