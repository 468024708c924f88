//! Reads the identifier of a request: [`Query::from_identifier`] and [`retrieval`].

use std::collections::BTreeSet;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use super::{AttributeSet, Model, Query, QueryOptions, unique_key};
use crate::dataset::{DataSet, Element, Value, standard_vr};
use crate::error::{Error, ErrorKind, Result};
use crate::index::{InstanceRecord, Scope};
use crate::limits;
use crate::uid::{Level, Uid};

impl Model {
    /// The levels of the model, from the top (PS3.4 C.6.1, C.6.2).
    pub fn levels(self) -> &'static [Level] {
        match self {
            Model::PatientRoot => &Level::ALL,
            Model::StudyRoot => &Level::ALL[1..],
        }
    }
}

impl Query {
    /// Reads the identifier of a C-FIND request (PS3.4 C.4.1.1.3, C.4.1.2, C.4.1.3), for an index that
    /// keeps `attributes`.
    ///
    /// Unless relational queries were agreed on, the unique key of each level above must have a single
    /// value. The unique key of the level itself may be missing, as real SCUs leave it out. Keys that
    /// can't be matched, because the attribute isn't kept or belongs to a level below, don't restrict
    /// and are listed by [`unsupported`](Self::unsupported).
    ///
    /// # Errors
    /// `Invalid`, with the tag at fault, when the level is missing or none of the model's, when a unique
    /// key is missing or not a single value, or when a key is beyond
    /// [`limits::KEY_TEXT_LENGTH_MAX_BYTES`] or [`limits::KEY_VALUES_MAX`].
    pub fn from_identifier(
        attributes: &AttributeSet,
        model: Model,
        identifier: &DataSet,
        options: QueryOptions,
    ) -> Result<Self> {
        let level = level(model, identifier, "query.parse")?;
        if !options.relational {
            for above in model.levels().iter().filter(|above| **above < level) {
                require_single_value(identifier, *above)?;
            }
        }
        identifier.iter().try_for_each(|key| check_size(key, key.tag))?;
        let (keys, unsupported) = attributes.supported(identifier, level);
        Ok(Self::with_unsupported(model, level, keys, options, unsupported))
    }
}

/// What a C-MOVE or C-GET request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retrieval {
    /// Everything below each of these.
    pub scopes: Vec<Scope>,
    /// Of these studies alone, where some are named.
    studies: BTreeSet<Uid>,
    /// Of these series alone, where some are named.
    series: BTreeSet<Uid>,
    /// Of the patient with one of these Patient IDs alone, where some are named.
    patients: BTreeSet<String>,
}

impl Retrieval {
    /// Whether an instance of one of the scopes is also below the entities named above the level.
    pub fn asks_for(&self, record: &InstanceRecord) -> bool {
        let among = |named: &BTreeSet<Uid>, uid: &Uid| named.is_empty() || named.contains(uid);
        // As C-FIND answers it: the index files a study under one patient, whatever its instances say.
        let patient = || {
            record
                .attributes
                .patient
                .string(tags::PATIENT_ID)
                .unwrap_or_default()
        };
        among(&self.studies, &record.key.study)
            && among(&self.series, &record.key.series)
            && (self.patients.is_empty() || self.patients.contains(patient().trim()))
    }
}

/// Reads the identifier of a C-MOVE or C-GET request (PS3.4 C.4.2.1.4, C.4.3.1.3): everything below each
/// entity that its unique key names, a single value or a list of UIDs.
///
/// The unique keys of the levels above are not asked for: a UID names an entity wherever it stands, and
/// many SCUs leave the others out. So an identifier of a relational retrieval is read the same way. A patient, a
/// study or a series that is named all the same must be the one that the instance is of
/// ([`Retrieval::asks_for`]): real series UIDs stand in two studies now and then.
///
/// # Errors
/// `Invalid`, with the tag at fault, when the level is missing or none of the model's, when the unique key of
/// the level is missing or (Patient ID) not a single value, or when a unique key is not a UID.
pub fn retrieval(model: Model, identifier: &DataSet) -> Result<Retrieval> {
    let level = level(model, identifier, "retrieve.parse")?;
    let key = unique_key(level);
    let mut values = identifier.strings(key).filter(|text| !text.is_empty());
    if level == Level::Patient {
        return match (values.next(), values.next()) {
            (Some(patient), None) => Ok(Retrieval {
                scopes: vec![Scope::Patient(patient.to_owned())],
                ..Retrieval::default()
            }),
            _ => Err(invalid(
                "retrieve.parse",
                "Patient ID must have a single value (PS3.4 C.4.2.1.4)",
                key,
            )),
        };
    }
    let scope = match level {
        Level::Series => Scope::Series,
        Level::Instance => Scope::Instance,
        _ => Scope::Study,
    };
    let mut scopes = Vec::new();
    // What a peer names twice is sent once.
    let mut seen = BTreeSet::new();
    for text in values {
        let uid = Uid::parse(text).map_err(|error| error.with_tag(key))?;
        if seen.insert(uid) {
            scopes.push(scope(uid));
        }
    }
    if scopes.is_empty() {
        return Err(invalid(
            "retrieve.parse",
            "the unique key of the level is missing (PS3.4 C.4.2.1.4)",
            key,
        ));
    }
    let named = |above: Level| {
        let mut named = BTreeSet::new();
        if above < level {
            let key = unique_key(above);
            // "*" is no UID, and sent to mean any.
            for text in identifier.strings(key).filter(|text| !matches!(*text, "" | "*")) {
                named.insert(Uid::parse(text).map_err(|error| error.with_tag(key))?);
            }
        }
        Ok(named)
    };
    // Below the patient the study's UID names it; the patient must be the study's all the same.
    let patients = match model {
        Model::PatientRoot => identifier
            .strings(tags::PATIENT_ID)
            .map(str::trim)
            .filter(|text| !matches!(*text, "" | "*"))
            .map(str::to_owned)
            .collect(),
        Model::StudyRoot => BTreeSet::new(),
    };
    Ok(Retrieval {
        scopes,
        studies: named(Level::Study)?,
        series: named(Level::Series)?,
        patients,
    })
}

fn level(model: Model, identifier: &DataSet, operation: &'static str) -> Result<Level> {
    let text = identifier.string(tags::QUERY_RETRIEVE_LEVEL).ok_or_else(|| {
        invalid(
            operation,
            "Query/Retrieve Level is missing",
            tags::QUERY_RETRIEVE_LEVEL,
        )
    })?;
    Level::parse(text)
        .filter(|level| model.levels().contains(level))
        .ok_or_else(|| {
            invalid(
                operation,
                "Query/Retrieve Level is none of this information model's (PS3.4 C.6)",
                tags::QUERY_RETRIEVE_LEVEL,
            )
        })
}

fn require_single_value(identifier: &DataSet, level: Level) -> Result<()> {
    let key = unique_key(level);
    let mut values = identifier.strings(key);
    let single = match (values.next(), values.next()) {
        (Some(value), None) if level == Level::Patient => {
            !value.is_empty() && value != "\"\"" && !value.contains(['*', '?'])
        }
        (Some(value), None) => Uid::parse(value).is_ok(),
        _ => false,
    };
    if single {
        return Ok(());
    }
    Err(invalid(
        "query.parse",
        "the unique key of each level above must have a single value (PS3.4 C.4.1.2.1)",
        key,
    ))
}

/// Holds a key, with all that is nested in it, against the limits. `top` is the key in the identifier.
pub(super) fn check_size(key: &Element, top: Tag) -> Result<()> {
    let text = match &key.value {
        Value::Items(items) => {
            // One is allowed (PS3.4 C.2.2.2.6), and each costs a comparison with every record.
            if items.len() > 1 {
                return Err(invalid(
                    "query.parse",
                    "a sequence key has more than one item",
                    top,
                ));
            }
            // The depth was bounded when the identifier was read.
            let mut nested = items.iter().flat_map(DataSet::iter);
            return nested.try_for_each(|key| check_size(key, top));
        }
        Value::Bytes(bytes) => bytes,
    };
    // A list of UIDs is looked up, whatever its length.
    if standard_vr(key.tag) == Some(VR::UI) {
        return Ok(());
    }
    let values = text.iter().filter(|byte| **byte == b'\\').count() + 1;
    let longest = text.split(|byte| *byte == b'\\').map(<[u8]>::len).max();
    if values > limits::KEY_VALUES_MAX || longest > Some(limits::KEY_TEXT_LENGTH_MAX_BYTES) {
        return Err(invalid("query.parse", "a matching key is too long", top));
    }
    Ok(())
}

fn invalid(operation: &'static str, why: &'static str, tag: Tag) -> Error {
    Error::new(ErrorKind::Invalid, operation, why).with_tag(tag)
}
