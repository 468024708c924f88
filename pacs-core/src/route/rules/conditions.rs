//! Conditions of a rule on attributes and on names.

use std::collections::BTreeMap;

use dicom_core::{Tag, VR};
use serde::{Deserialize, Deserializer, de};

use crate::dataset::{DataSet, Element, standard_vr};
use crate::error::Result;
use crate::query::{AttributePath, AttributeStep, Model, Pattern, Query, QueryOptions};
use crate::route::Occasion;
use crate::uid::Level;

/// Whether the index has what a condition asks for.
pub(super) fn is_kept(query: &Query, occasion: &Occasion<'_>) -> bool {
    let mut keys = query.matching().iter();
    keys.all(|key| occasion.attributes.level_of(key.tag).is_some())
}

/// Whether what is known of the instance matches; what the index doesn't keep is read.
pub(super) fn matches(query: &Query, occasion: &Occasion<'_>) -> Result<bool> {
    match occasion.record {
        Some(record) if is_kept(query, occasion) => Ok(query.matches(&record.attributes.together())),
        _ => Ok(query.matches(&*(occasion.header)()?)),
    }
}

/// Conditions on attributes.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// By the name that the file has, one query of one key each.
    pub(super) each: Vec<(String, Query)>,
}

impl Conditions {
    /// These keys, in normal form.
    pub fn new(keys: DataSet) -> Self {
        let one = |element: Element| {
            let mut key = DataSet::new();
            let name = element.tag.to_string();
            key.put(element);
            (name, query(key))
        };
        Self {
            each: keys.into_iter().map(one).collect(),
        }
    }
}

fn query(keys: DataSet) -> Query {
    let options = QueryOptions {
        relational: true,
        ..QueryOptions::default()
    };
    Query::new(Model::PatientRoot, Level::Instance, keys, options)
}

impl<'de> Deserialize<'de> for Conditions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a text, or a list of texts")]
        enum Values {
            One(String),
            Any(Vec<String>),
        }
        let named = BTreeMap::<String, Values>::deserialize(deserializer)?;
        let mut each = Vec::new();
        for (name, values) in named {
            let text = match values {
                Values::One(text) => text,
                Values::Any(texts) => texts.join("\\"),
            };
            let key =
                condition(&name, &text).map_err(|why| de::Error::custom(format_args!("{name}: {why}")))?;
            each.push((name, query(key)));
        }
        Ok(Self { each })
    }
}

/// The key that asks for this text at this path.
fn condition(name: &str, text: &str) -> Result<DataSet, String> {
    let path: AttributePath = name
        .parse()
        .map_err(|_| "no attribute has this name".to_owned())?;
    let mut tags = Vec::new();
    for step in path.steps() {
        match step {
            AttributeStep::Standard(tag) => tags.push(*tag),
            AttributeStep::Private { .. } => {
                return Err("a private attribute can't be asked for here".to_owned());
            }
        }
    }
    let Some((last, around)) = tags.split_last() else {
        return Err("no attribute has this name".to_owned());
    };
    let vr = standard_vr(*last).ok_or("the attribute is not known")?;
    if text.is_empty() {
        return Err("a value must stand here; \"\\\"\\\"\" asks for none".to_owned());
    }
    let mut key = DataSet::new();
    match vr {
        VR::US | VR::SS | VR::UL | VR::SL | VR::UV | VR::SV | VR::FL | VR::FD | VR::AT => {
            key.put(Element::from_text(*last, vr, text).map_err(|error| error.context().to_owned())?);
        }
        // Not checked as a value: it may hold wild cards or be a range.
        _ => key.put_text(*last, vr, text),
    }
    for sequence in around.iter().rev() {
        let mut outer = DataSet::new();
        outer.put_items(*sequence, vec![key]);
        key = outer;
    }
    Ok(key)
}

/// The attribute of the top level with this name.
pub(super) fn top_level(name: &str) -> Result<Tag, String> {
    let path: AttributePath = name
        .parse()
        .map_err(|_| "no attribute has this name".to_owned())?;
    match path.steps() {
        [AttributeStep::Standard(tag)] => Ok(*tag),
        _ => Err("an attribute of the top level is needed".to_owned()),
    }
}

/// Text with wild cards.
#[derive(Clone, Debug)]
pub struct Wanted {
    text: String,
    pattern: Option<Pattern>,
}

impl Wanted {
    /// `*` stands for any text, `?` for any character.
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        let pattern = Pattern::parse(&text);
        Self { text, pattern }
    }

    pub(super) fn matches(&self, found: &str) -> bool {
        match &self.pattern {
            Some(pattern) => pattern.matches(found),
            None => self.text == found,
        }
    }
}
