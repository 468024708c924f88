//! How other servers differ from us, each difference with its explanation.
//!
//! An explanation is a condition on the question, on what is known of the entity, and on what was
//! answered. A difference that none explains fails the test, and so does an explanation without a
//! difference.

use std::collections::{BTreeMap, BTreeSet};

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use pacs_core::DataSet;
use pacs_core::dataset::Element;
use pacs_core::query::Query;
use pacs_core::testkit::reference::{Reference, matches};
use serde_json::Value;

use crate::cases::Case;
use crate::clients::{Outcome, key};
use crate::explanations::{EXPLANATIONS, stored};

/// One thing that another server answers otherwise.
#[derive(Clone, Debug)]
pub(crate) enum Difference {
    /// It refuses what we answer.
    Refused,
    /// It answers what we refuse.
    NotRefused,
    /// An entity that we answer, and it doesn't.
    Missing(String),
    /// An entity that it answers, and we don't.
    Extra(String),
    /// A value of an entity that both answer.
    Value {
        entity: String,
        key: String,
        ours: Option<Value>,
        theirs: Option<Value>,
    },
}

/// Everything in which two outcomes differ, but for Retrieve AE Title.
pub(crate) fn between(ours: &Outcome, theirs: &Outcome) -> Vec<Difference> {
    let (ours, theirs) = match (ours, theirs) {
        (Outcome::Answers(ours), Outcome::Answers(theirs)) => (ours, theirs),
        (Outcome::Answers(_), Outcome::Refused) => return vec![Difference::Refused],
        (Outcome::Refused, Outcome::Answers(_)) => return vec![Difference::NotRefused],
        (Outcome::Refused, Outcome::Refused) => return Vec::new(),
    };
    let title = key(tags::RETRIEVE_AE_TITLE);
    let mut out = Vec::new();
    let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    for name in names {
        match (ours.get(name), theirs.get(name)) {
            (Some(ours), Some(theirs)) => {
                let keys: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
                let unlike = keys
                    .into_iter()
                    .filter(|key| **key != title && ours.get(*key) != theirs.get(*key));
                out.extend(unlike.map(|key| Difference::Value {
                    entity: name.clone(),
                    key: key.clone(),
                    ours: ours.get(key).cloned(),
                    theirs: theirs.get(key).cloned(),
                }));
            }
            (Some(_), None) => out.push(Difference::Missing(name.clone())),
            (None, _) => out.push(Difference::Extra(name.clone())),
        }
    }
    out
}

/// A difference, and what is known of its entity.
pub(crate) struct View<'a> {
    pub(crate) case: &'a Case,
    pub(crate) difference: &'a Difference,
    pub(crate) known: DataSet,
}

impl View<'_> {
    /// Whether the entity is missing, and a matching key, with what is stored of its attribute,
    /// satisfies `culprit`.
    pub(crate) fn missing(&self, culprit: impl Fn(&Element, &str) -> bool) -> bool {
        matches!(self.difference, Difference::Missing(_)) && self.some_key(culprit)
    }

    /// The same of an entity that they answer and we don't.
    pub(crate) fn extra(&self, culprit: impl Fn(&Element, &str) -> bool) -> bool {
        matches!(self.difference, Difference::Extra(_)) && self.some_key(culprit)
    }

    pub(crate) fn some_key(&self, culprit: impl Fn(&Element, &str) -> bool) -> bool {
        let mut keys = self.case.keys.iter().filter(|key| !key.is_empty());
        keys.any(|key| culprit(key, &stored(&self.known, key.tag)))
    }

    /// Whether the entity would match without the keys that `dropped` names, and doesn't with them.
    pub(crate) fn extra_without(&self, dropped: impl Fn(&Element) -> bool) -> bool {
        let mut keys = self.case.keys.clone();
        keys.retain(|key| !dropped(key));
        let query = Query::new(self.case.model, self.case.level, keys, self.case.options);
        matches!(self.difference, Difference::Extra(_)) && matches(&query, &self.known)
    }

    /// The attribute whose value differs, ours and theirs; empty for none.
    pub(crate) fn value(&self) -> Option<(Tag, &Value, Option<&Value>)> {
        match self.difference {
            Difference::Value {
                key, ours, theirs, ..
            } => {
                let number = u32::from_str_radix(key, 16).expect("is a tag");
                let tag = Tag((number >> 16) as u16, number as u16);
                Some((tag, ours.as_ref().unwrap_or(&Value::Null), theirs.as_ref()))
            }
            _ => None,
        }
    }
}

/// The differences from a server, by explanation.
pub(crate) struct Explained<'a> {
    server: &'a str,
    reference: &'a Reference,
    /// Of each explanation by its place: questions, and differences.
    counts: BTreeMap<usize, (usize, usize)>,
    /// Those that nothing explains.
    pub(crate) unexplained: Vec<String>,
}

impl<'a> Explained<'a> {
    pub(crate) fn new(server: &'a str, reference: &'a Reference) -> Self {
        Self {
            server,
            reference,
            counts: BTreeMap::new(),
            unexplained: Vec::new(),
        }
    }

    /// Explains the differences in the answers to one question.
    pub(crate) fn add(&mut self, case: &Case, differences: &[Difference]) {
        let everything = Query::new(case.model, case.level, DataSet::new(), case.options);
        let known = self.reference.answers(&everything);
        let mut found: BTreeMap<usize, usize> = BTreeMap::new();
        for difference in differences {
            let known = match difference {
                Difference::Missing(entity)
                | Difference::Extra(entity)
                | Difference::Value { entity, .. } => known.get(entity).cloned(),
                Difference::Refused | Difference::NotRefused => None,
            };
            let view = View {
                case,
                difference,
                known: known.unwrap_or_default(),
            };
            let mut explanations = EXPLANATIONS.iter();
            match explanations.position(|one| one.server == self.server && (one.applies)(&view)) {
                Some(at) => *found.entry(at).or_default() += 1,
                None => self
                    .unexplained
                    .push(format!("{}: {}: {difference:?}", self.server, case.name())),
            }
        }
        for (at, differences) in found {
            let count = self.counts.entry(at).or_default();
            count.0 += 1;
            count.1 += differences;
        }
    }

    /// Explanations of this server that explain nothing.
    pub(crate) fn unused(&self) -> Vec<&'static str> {
        let own = EXPLANATIONS
            .iter()
            .enumerate()
            .filter(|(_, one)| one.server == self.server);
        own.filter(|(at, _)| !self.counts.contains_key(at))
            .map(|(_, one)| one.what)
            .collect()
    }
}

impl std::fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{}: questions, differences, what it does, and what we rest on",
            self.server
        )?;
        for (at, (questions, differences)) in &self.counts {
            let one = &EXPLANATIONS[*at];
            writeln!(
                f,
                "{questions:>5} {differences:>5}  {}\n             {}",
                one.what, one.clause
            )?;
        }
        Ok(())
    }
}
