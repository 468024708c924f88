//! Names of attributes as configuration writes them: [`AttributePath`], [`AttributeStep`].

use std::str::FromStr;

use dicom_core::dictionary::DataDictionary;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::StandardDataDictionary;

use crate::dataset::standard_vr;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// One step of an [`AttributePath`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AttributeStep {
    /// An attribute of the Standard.
    Standard(Tag),
    /// A private attribute (PS3.5 7.8.1), wherever its creator's block lies in an instance.
    Private {
        /// Private Creator, the value of (gggg,00bb).
        creator: String,
        /// The odd group.
        group: u16,
        /// The element's number inside the block.
        element: u8,
        /// Its value representation, which an implicit transfer syntax doesn't tell.
        vr: VR,
    },
}

/// Where an attribute stands: itself, or the sequences around it and itself. A path that ends with a
/// sequence means everything in its items.
///
/// As text, steps are joined by `.`; a step is a keyword (`ProtocolName`), a tag (`00181030`), or a
/// private attribute as `ggggxxee[CREATOR]:VR` (`0029xx10[ACME 1.1]:LO`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AttributePath(Vec<AttributeStep>);

impl AttributePath {
    /// Joins the steps.
    ///
    /// # Errors
    /// `Invalid` when there is none, or more than [`limits::SEQUENCE_DEPTH_MAX`], or one of them can't
    /// stand where it does.
    pub fn new(steps: Vec<AttributeStep>) -> Result<Self> {
        let invalid = |why: &'static str| Err(Error::new(ErrorKind::Invalid, "attribute_path.new", why));
        let Some((last, sequences)) = steps.split_last() else {
            return invalid("a path needs an attribute");
        };
        if steps.len() > limits::SEQUENCE_DEPTH_MAX {
            return invalid("a path has too many steps");
        }
        if sequences.iter().any(|step| step.vr() != VR::SQ) {
            return invalid("every step of a path but the last must be a sequence");
        }
        for step in &steps {
            match step {
                AttributeStep::Private { creator, group, .. } => {
                    if group % 2 == 0 || *group < 9 {
                        return invalid("a private attribute has an odd group from 0009 on");
                    }
                    let valid = !creator.trim().is_empty() && creator.len() <= 64 && !creator.contains('\\');
                    if !valid {
                        return invalid("a private creator is 1 to 64 characters without backslash");
                    }
                }
                AttributeStep::Standard(tag) if tag.group() % 2 == 1 || tag.group() < 8 => {
                    return invalid(
                        "an attribute with an odd group needs its private creator, and groups below 0008 are no attributes of an instance",
                    );
                }
                AttributeStep::Standard(_) => {}
            }
        }
        if matches!(
            last.vr(),
            VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::UN
        ) {
            return invalid("bulk data can't be kept in an index");
        }
        Ok(Self(steps))
    }

    /// The sequences from the outermost on, and the attribute.
    pub fn steps(&self) -> &[AttributeStep] {
        &self.0
    }

    /// Of an attribute of the Standard that stands in no sequence.
    ///
    /// # Errors
    /// As of [`new`](Self::new).
    pub fn of_tag(tag: Tag) -> Result<Self> {
        Self::new(vec![AttributeStep::Standard(tag)])
    }
}

impl AttributeStep {
    fn vr(&self) -> VR {
        match self {
            Self::Standard(tag) => standard_vr(*tag).unwrap_or(VR::LO),
            Self::Private { vr, .. } => *vr,
        }
    }
}

impl FromStr for AttributeStep {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = || {
            Error::new(
                ErrorKind::Invalid,
                "attribute_path.parse",
                "not an attribute: a keyword, a tag as ggggeeee, or ggggxxee[CREATOR]:VR",
            )
        };
        if let Some((tag, rest)) = text.split_once('[') {
            let (creator, vr) = rest.rsplit_once("]:").ok_or_else(invalid)?;
            let (group, element) = tag.split_once("xx").ok_or_else(invalid)?;
            if group.len() != 4 || element.len() != 2 {
                return Err(invalid());
            }
            return Ok(Self::Private {
                creator: creator.trim().to_owned(),
                group: u16::from_str_radix(group, 16).map_err(|_| invalid())?,
                element: u8::from_str_radix(element, 16).map_err(|_| invalid())?,
                vr: vr.parse().map_err(|_| invalid())?,
            });
        }
        let digits: String = text.chars().filter(|c| !matches!(c, '(' | ')' | ',')).collect();
        if digits.len() == 8
            && let Ok(number) = u32::from_str_radix(&digits, 16)
        {
            return Ok(Self::Standard(Tag((number >> 16) as u16, number as u16)));
        }
        let entry = StandardDataDictionary.by_name(text).ok_or_else(invalid)?;
        Ok(Self::Standard(entry.tag.inner()))
    }
}

impl FromStr for AttributePath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // A creator may hold dots too.
        let mut inside = false;
        let steps = text.split(|c| {
            inside = (inside || c == '[') && c != ']';
            c == '.' && !inside
        });
        Self::new(steps.map(|step| step.trim().parse()).collect::<Result<_>>()?)
    }
}
