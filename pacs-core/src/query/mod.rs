//! A query asks the index: [`Query`], its matching (PS3.4 C.2.2.2), and which attributes are kept for it.

mod attributes;

pub use attributes::{AttributeSet, LevelAttributes};

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
}

/// A question to the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The information model.
    pub model: Model,
    /// Query/Retrieve Level (0008,0052): what kind of entity is asked for.
    pub level: Level,
    /// Matching keys and return keys, in normal form (text as UTF-8).
    pub keys: DataSet,
    /// What was agreed on beyond the base.
    pub options: QueryOptions,
}
