//! Rules as a configuration writes them.

use std::collections::BTreeMap;

use dicom_core::dictionary::DataDictionary;
use dicom_dictionary_std::StandardDataDictionary;
use pacs_core::dataset::standard_vr;
use pacs_core::{Tag, VR};
use serde::{Deserialize, Deserializer, de};

use super::transform::Transform;
use super::{Mapping, Origin, Path, Rule, Table};

/// As it stands in a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default = "yes")]
    defaults: bool,
    #[serde(default)]
    patient: BTreeMap<String, String>,
    #[serde(default)]
    order: BTreeMap<String, String>,
}

fn yes() -> bool {
    true
}

impl<'de> Deserialize<'de> for Mapping {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(deserializer)?;
        let mut mapping = match written.defaults {
            true => Self::default(),
            false => Self {
                patient: Table::default(),
                order: Table::default(),
            },
        };
        for (table, rules) in [
            (&mut mapping.patient, written.patient),
            (&mut mapping.order, written.order),
        ] {
            for (attribute, origins) in rules {
                table.put(rule(&attribute, &origins).map_err(de::Error::custom)?);
            }
        }
        Ok(mapping)
    }
}

/// Reads one rule; says what is wrong with it.
pub(super) fn rule(attribute: &str, origins: &str) -> Result<Rule, String> {
    let (path, vr) = target(attribute)?;
    let origins = origins_of(origins, vr).map_err(|why| format!("{attribute}: {why}"))?;
    Ok(Rule {
        attribute: path,
        vr,
        origins,
    })
}

/// An attribute with the sequences that it is in, and its VR.
fn target(text: &str) -> Result<(Vec<Tag>, VR), String> {
    let mut path = Vec::new();
    let mut above: Option<(&str, VR)> = None;
    for name in text.split('.') {
        if let Some((name, _)) = above.filter(|(_, vr)| *vr != VR::SQ) {
            return Err(format!("{name} is no sequence, so nothing is within it"));
        }
        let tag = tag(name).ok_or_else(|| format!("{name} is no attribute that DICOM has"))?;
        let vr = standard_vr(tag).ok_or_else(|| format!("{name} is no attribute that DICOM has"))?;
        above = Some((name, vr));
        path.push(tag);
    }
    // Splitting yields one part at least.
    let vr = above.map_or(VR::UN, |(_, vr)| vr);
    if vr != VR::SQ && !is_text(vr) {
        return Err(format!(
            "{text}: a number in binary, or bytes, can't be had from a message"
        ));
    }
    Ok((path, vr))
}

fn is_text(vr: VR) -> bool {
    use VR::*;
    matches!(
        vr,
        AE | AS | CS | DA | DS | DT | IS | LO | LT | PN | SH | ST | TM | UC | UI | UR | UT
    )
}

fn tag(name: &str) -> Option<Tag> {
    let tag = if name.len() == 8 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let number = u32::from_str_radix(name, 16).ok()?;
        Tag((number >> 16) as u16, number as u16)
    } else {
        StandardDataDictionary.by_name(name)?.tag.inner()
    };
    // Groups below 0008 are of messages and files, not of instances.
    (tag.0 >= 8).then_some(tag)
}

fn origins_of(text: &str, vr: VR) -> Result<Vec<Origin>, String> {
    let mut origins = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('\'') {
            let (text, behind) = quoted.split_once('\'').ok_or("a quotation mark is missing")?;
            if vr == VR::SQ {
                return Err("it is a sequence: only code makes an item of one".to_owned());
            }
            origins.push(Origin::Text(text.to_owned()));
            rest = behind.trim_start();
        } else {
            let (path, behind) = word(rest);
            let path = Path::parse(path).map_err(|error| format!("\"{path}\" is {}", error.context()))?;
            let (how, further) = word(behind);
            let transform = match how {
                "" | "or" => {
                    rest = behind;
                    Transform::default_of(vr)
                }
                how => {
                    rest = further;
                    Transform::parse(how)?
                }
            };
            transform.check(vr)?;
            origins.push(Origin::Field(path, transform));
        }
        match word(rest) {
            ("", _) => break,
            ("or", "") => return Err("nothing stands behind \"or\"".to_owned()),
            ("or", behind) => rest = behind,
            (other, _) => return Err(format!("\"{other}\" stands where \"or\" is expected")),
        }
    }
    Ok(origins)
}

/// The first word, and what is behind it.
fn word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim_start())
}
