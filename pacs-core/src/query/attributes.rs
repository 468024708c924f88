//! Which attributes of an instance the index keeps: [`AttributeSet`], [`LevelAttributes`].

use std::collections::HashMap;

use dicom_core::{Tag, VR};

use super::key::is_never_matched;
use super::path::{AttributePath, AttributeStep};
use super::standard;
use crate::dataset::{DataSet, Element, Value, is_private_creator, standard_vr};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::uid::Level;

/// The kept attributes of one instance, each at the level it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LevelAttributes {
    /// Of the patient.
    pub patient: DataSet,
    /// Of the study.
    pub study: DataSet,
    /// Of the series.
    pub series: DataSet,
    /// Of the instance.
    pub instance: DataSet,
}

impl LevelAttributes {
    /// Those of one level.
    pub fn at(&self, level: Level) -> &DataSet {
        match level {
            Level::Patient => &self.patient,
            Level::Study => &self.study,
            Level::Series => &self.series,
            Level::Instance => &self.instance,
        }
    }

    /// Those of all levels together.
    pub fn together(&self) -> DataSet {
        let mut all = DataSet::new();
        for level in Level::ALL {
            all.add_from(self.at(level));
        }
        all
    }

    /// Whether there are none above the instance.
    pub(crate) fn is_empty_above(&self) -> bool {
        self.patient.is_empty() && self.study.is_empty() && self.series.is_empty()
    }

    /// Puts those of one level in place of what is `known`.
    pub fn correct(&self, level: Level, known: &mut DataSet) {
        for element in self.at(level).iter() {
            known.put(element.clone());
        }
    }

    /// Those of one level, to be changed.
    pub fn at_mut(&mut self, level: Level) -> &mut DataSet {
        match level {
            Level::Patient => &mut self.patient,
            Level::Study => &mut self.study,
            Level::Series => &mut self.series,
            Level::Instance => &mut self.instance,
        }
    }
}

/// An attribute that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    step: AttributeStep,
    /// Where it stands in kept records: itself, or in the block that this set gives its creator.
    tag: Tag,
    level: Level,
    /// Of a sequence: what is kept of its items; none means everything.
    nested: Vec<Node>,
}

/// Which attributes are kept, and at which level each.
///
/// The default holds every key of PS3.4 C.6.1.1 and C.6.2.1, what QIDO-RS answers by default, and what
/// viewers commonly ask for. [`keep`](Self::keep) adds more.
///
/// Private attributes are kept in a block that this set assigns to their creator, whatever block an
/// instance used, together with the Private Creator element: so records stay valid data sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributeSet {
    /// In ascending order of `tag`.
    nodes: Vec<Node>,
}

impl Default for AttributeSet {
    fn default() -> Self {
        let mut set = Self { nodes: Vec::new() };
        let plain = standard::PLAIN
            .iter()
            .flat_map(|(level, keys, more)| keys.iter().chain(*more).map(|tag| (*level, vec![*tag])));
        let nested = standard::NESTED
            .iter()
            .flat_map(|(level, path, tags)| tags.iter().map(|tag| (*level, [path, &[*tag][..]].concat())));
        for (level, path) in plain.chain(nested) {
            let steps: Vec<_> = path.into_iter().map(AttributeStep::Standard).collect();
            insert(&mut set.nodes, level, &steps);
        }
        set
    }
}

impl AttributeSet {
    /// Also keeps the attribute at `path`, as one of `level`. One that is kept already moves to `level`.
    ///
    /// # Errors
    /// `Invalid`, with its tag, for what can't mean anything: an attribute that an index derives itself, one
    /// that is never matched, and a key of the query models at a level that is not its own (PS3.4 C.6).
    pub fn keep(mut self, level: Level, path: &AttributePath) -> Result<Self> {
        if let [AttributeStep::Standard(tag), ..] = path.steps() {
            may_be_kept(*tag, level)?;
        }
        insert(&mut self.nodes, level, path.steps());
        Ok(self)
    }

    /// The level an attribute belongs to, also of those that an index derives. `None` for one that is
    /// not kept. A private tag is looked up in the block that this set gives its creator.
    pub fn level_of(&self, tag: Tag) -> Option<Level> {
        let kept = self.node(tag).map(|node| node.level);
        kept.or_else(|| {
            let derived = standard::DERIVED.iter().find(|(_, derived)| *derived == tag);
            derived.map(|(level, _)| *level)
        })
    }

    /// The attributes of the Standard that belong to `level`, also those that an index derives.
    pub fn at(&self, level: Level) -> impl Iterator<Item = Tag> {
        let kept = self.nodes.iter().filter(move |node| node.level == level);
        let standard = kept.filter(|node| matches!(node.step, AttributeStep::Standard(_)));
        let derived = standard::DERIVED.iter().filter(move |(of, _)| *of == level);
        standard.map(|node| node.tag).chain(derived.map(|(_, tag)| *tag))
    }

    /// Takes out of an instance what is kept of it.
    ///
    /// Elements without a value are left out, and so is a value longer than
    /// [`limits::INDEXED_VALUE_LENGTH_MAX_BYTES`]; of a sequence the first
    /// [`limits::INDEXED_ITEMS_MAX`] items are kept.
    pub fn extract(&self, header: &DataSet) -> LevelAttributes {
        let mut out = LevelAttributes::default();
        for node in &self.nodes {
            extract_node(node, header, out.at_mut(node.level));
        }
        out
    }

    /// A number that stays the same for the same configuration, in this and later processes. When it is
    /// another one than that an index was filled under, the index must be made again to be complete.
    pub fn fingerprint(&self) -> u64 {
        let mut text = String::from("3"); // To be changed when extraction changes.
        describe(&self.nodes, &mut text);
        twox_hash::XxHash3_64::oneshot(text.as_bytes())
    }

    fn node(&self, tag: Tag) -> Option<&Node> {
        find(&self.nodes, tag)
    }

    /// Turns the keys of an identifier into what an index with this set can match.
    ///
    /// - Private attributes move into the blocks of this set.
    /// - A key that asks for what isn't kept, or for what belongs to a level below `level`, becomes a
    ///   return key without a value (PS3.4 C.2.2.1.3); their tags are returned, also of those that had none.
    pub(crate) fn supported(&self, keys: &DataSet, level: Level) -> (DataSet, Vec<Tag>) {
        let mut unsupported = Vec::new();
        let narrowed = narrow(&self.nodes, Some((self, level)), keys, &mut unsupported);
        (narrowed, unsupported)
    }
}

/// The unique key of a level (PS3.4 C.6.1.1).
pub fn unique_key(level: Level) -> Tag {
    use dicom_dictionary_std::tags;
    match level {
        Level::Patient => tags::PATIENT_ID,
        Level::Study => tags::STUDY_INSTANCE_UID,
        Level::Series => tags::SERIES_INSTANCE_UID,
        Level::Instance => tags::SOP_INSTANCE_UID,
    }
}

fn find(nodes: &[Node], tag: Tag) -> Option<&Node> {
    let at = nodes.binary_search_by_key(&tag, |node| node.tag).ok()?;
    Some(&nodes[at])
}

/// See [`AttributeSet::keep`].
fn may_be_kept(tag: Tag, level: Level) -> Result<()> {
    let why = match standard::fixed_level(tag) {
        _ if standard::DERIVED.iter().any(|(_, derived)| *derived == tag) => {
            "this is counted, no instance brings it".to_owned()
        }
        _ if is_never_matched(tag) => "this is never searched".to_owned(),
        Some(own) if own != level => {
            format!("it is of level {} by the Standard (PS3.4 C.6)", own.as_str())
        }
        _ => return Ok(()),
    };
    Err(Error::new(ErrorKind::Invalid, "attribute_set.keep", why).with_tag(tag))
}

fn insert(nodes: &mut Vec<Node>, level: Level, steps: &[AttributeStep]) {
    let Some((step, rest)) = steps.split_first() else {
        return;
    };
    let known = nodes.iter().position(|node| node.step == *step);
    let at = known.unwrap_or_else(|| {
        let tag = place(nodes, step);
        let at = nodes.partition_point(|node| node.tag < tag);
        let node = Node {
            step: step.clone(),
            tag,
            level,
            nested: Vec::new(),
        };
        nodes.insert(at, node);
        at
    });
    let node = &mut nodes[at];
    node.level = level;
    if rest.is_empty() {
        node.nested.clear();
    } else if known.is_none() || !node.nested.is_empty() {
        // A sequence that is kept whole already has what is asked for.
        insert(&mut node.nested, level, rest);
    }
}

/// The tag under which a step is kept beside `nodes`.
fn place(nodes: &[Node], step: &AttributeStep) -> Tag {
    let (creator, group, element) = match step {
        AttributeStep::Standard(tag) => return *tag,
        AttributeStep::Private {
            creator,
            group,
            element,
            ..
        } => (creator, *group, *element),
    };
    let mut next = 0x10;
    for node in nodes.iter().filter(|node| node.tag.group() == group) {
        let block = node.tag.element() >> 8;
        match &node.step {
            AttributeStep::Private { creator: other, .. } if other == creator => {
                return Tag(group, block << 8 | u16::from(element));
            }
            _ => next = next.max(block + 1),
        }
    }
    Tag(group, next.min(0xFF) << 8 | u16::from(element))
}

/// Where the attribute of a step stands in `set`.
fn resolve(step: &AttributeStep, set: &DataSet) -> Option<Tag> {
    match step {
        AttributeStep::Standard(tag) => Some(*tag),
        AttributeStep::Private {
            creator,
            group,
            element,
            ..
        } => set
            .iter()
            .skip_while(|e| e.tag < Tag(*group, 0x10))
            .take_while(|e| e.tag <= Tag(*group, 0xFF))
            .find(|e| e.strings().next() == Some(creator.as_str()))
            .map(|e| Tag(*group, e.tag.element() << 8 | u16::from(*element))),
    }
}

fn put_creator(node: &Node, out: &mut DataSet) {
    if let AttributeStep::Private { creator, group, .. } = &node.step {
        let block = Tag(*group, node.tag.element() >> 8);
        if !out.contains(block) {
            out.put_text(block, VR::LO, creator.clone());
        }
    }
}

fn extract_node(node: &Node, from: &DataSet, out: &mut DataSet) {
    let Some(element) = resolve(&node.step, from).and_then(|tag| from.get(tag)) else {
        return;
    };
    let value = match &element.value {
        Value::Bytes(bytes) if bytes.len() > limits::INDEXED_VALUE_LENGTH_MAX_BYTES => return,
        // A copy, so that a short value doesn't hold on to the buffer that it was read from.
        Value::Bytes(bytes) => Value::Bytes(bytes::Bytes::copy_from_slice(bytes)),
        Value::Items(items) => {
            let items = items.iter().take(limits::INDEXED_ITEMS_MAX);
            let kept = items.map(|item| extract_item(node, item));
            Value::Items(kept.filter(|item| !item.is_empty()).collect())
        }
    };
    let vr = match &node.step {
        AttributeStep::Private { vr, .. } => *vr,
        AttributeStep::Standard(tag) if element.vr == VR::UN => standard_vr(*tag).unwrap_or(element.vr),
        AttributeStep::Standard(_) => element.vr,
    };
    let tag = node.tag;
    let kept = Element { tag, vr, value };
    // A sequence in place of a value, or the other way round, is not what the attribute says it is. Whether
    // there is a value is for its own VR to say: blanks that came as UN are none of text.
    if (vr == VR::SQ) != matches!(kept.value, Value::Items(_)) || kept.is_empty() {
        return;
    }
    put_creator(node, out);
    out.put(kept);
}

fn extract_item(node: &Node, item: &DataSet) -> DataSet {
    let mut out = DataSet::new();
    if node.nested.is_empty() {
        let short = |e: &&Element| e.bytes().len() <= limits::INDEXED_VALUE_LENGTH_MAX_BYTES && !e.is_empty();
        return item.iter().filter(short).cloned().collect();
    }
    for node in &node.nested {
        extract_node(node, item, &mut out);
    }
    out
}

fn narrow(
    nodes: &[Node],
    top: Option<(&AttributeSet, Level)>,
    keys: &DataSet,
    unsupported: &mut Vec<Tag>,
) -> DataSet {
    let mut out = DataSet::new();
    // Where each attribute stands in these keys: private ones as their creators say.
    let places: HashMap<Tag, &Node> = nodes
        .iter()
        .filter_map(|node| Some((resolve(&node.step, keys)?, node)))
        .collect();
    for element in keys.iter() {
        if is_never_matched(element.tag) {
            if !is_private_creator(element.tag) {
                out.put(element.clone());
            }
            continue;
        }
        let node = places.get(&element.tag).copied();
        let level = match (node, top) {
            (Some(node), _) => Some(node.level),
            (None, Some((set, _))) if element.tag.group() % 2 == 0 => set.level_of(element.tag),
            _ => None,
        };
        let matched = match top {
            Some((_, asked)) => level.is_some_and(|level| level <= asked),
            None => level.is_some(),
        };
        let mut element = element.clone();
        if let Some(node) = node {
            put_creator(node, &mut out);
            element.tag = node.tag;
            if let AttributeStep::Private { vr, .. } = &node.step {
                element.vr = *vr;
            }
        } else if element.tag.group() % 2 == 1 {
            // The creator of what isn't kept goes along, so that the answer says whose it is.
            let block = Tag(element.tag.group(), element.tag.element() >> 8);
            match keys.get(block) {
                Some(creator) if !out.contains(block) => out.put(creator.clone()),
                Some(_) => {}
                None => {
                    unsupported.push(element.tag);
                    continue;
                }
            }
        }
        if !matched {
            unsupported.push(element.tag);
            let sequence = matches!(element.value, Value::Items(_));
            element.value = if sequence {
                Value::Items(Vec::new())
            } else {
                Value::Bytes(bytes::Bytes::new())
            };
        } else if let (Value::Items(items), Some(node)) = (&mut element.value, node)
            && !node.nested.is_empty()
        {
            for item in items {
                *item = narrow(&node.nested, None, item, unsupported);
            }
        }
        out.put(element);
    }
    out
}

/// Writes what decides what is kept, in words of our own, so that the text is the same whatever the
/// libraries print.
fn describe(nodes: &[Node], out: &mut String) {
    use std::fmt::Write;
    for node in nodes {
        // Writing to a String can't fail.
        let _ = write!(out, "|{} {}", node.tag, node.level.as_str());
        if let AttributeStep::Private { creator, vr, .. } = &node.step {
            let _ = write!(out, " {vr} {creator}");
        }
        out.push('(');
        describe(&node.nested, out);
        out.push(')');
    }
}
