//! Where a value stands in a message: [`Path`].

use std::fmt;
use std::str::FromStr;

use pacs_core::{Error, ErrorKind, Result};

/// The highest number that a part of a path has: beyond what any segment has, and small enough that setting the last
/// one takes no memory to speak of.
const NUMBER_MAX: u16 = 999;

/// A place in a message: `PID-5` a field, `PID-3[2]` its second repetition, `PID-3[2].4.2` a subcomponent of that,
/// `OBX[3]-5` a field of the third OBX. Numbers begin at 1 and end at 999. What is not said is the first: segment,
/// repetition, component, subcomponent.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Path {
    pub(super) segment: [u8; 3],
    pub(super) occurrence: u16,
    pub(super) field: u16,
    pub(super) repetition: Option<u16>,
    pub(super) component: Option<u16>,
    pub(super) subcomponent: Option<u16>,
}

impl Path {
    /// Reads one.
    ///
    /// # Errors
    /// `Invalid`, with a sentence that says how one is written.
    pub fn parse(text: &str) -> Result<Self> {
        read(text).ok_or_else(|| {
            let why = "not a path into an HL7 message, as PID-5, PID-3[2].4.2 or OBX[3]-5";
            Error::new(ErrorKind::Invalid, "hl7.path", why)
        })
    }

    /// The name of the segment.
    pub fn segment(&self) -> &str {
        // Only ASCII is read.
        std::str::from_utf8(&self.segment).unwrap_or_default()
    }
}

fn read(text: &str) -> Option<Path> {
    let (segment, rest) = text.trim().split_once('-')?;
    let (segment, occurrence) = indexed(segment)?;
    let segment = super::message::segment_name(segment)?;
    let mut parts = rest.split('.');
    let (field, repetition) = indexed(parts.next()?)?;
    let mut next = || {
        parts
            .next()
            .map(number)
            .map_or(Some(None), |number| number.map(Some))
    };
    let (component, subcomponent) = (next()?, next()?);
    if parts.next().is_some() {
        return None;
    }
    Some(Path {
        segment,
        occurrence: occurrence.unwrap_or(1),
        field: number(field)?,
        repetition,
        component,
        subcomponent,
    })
}

/// What stands before `[n]`, and n.
fn indexed(text: &str) -> Option<(&str, Option<u16>)> {
    match text.split_once('[') {
        Some((name, index)) => Some((name, Some(number(index.strip_suffix(']')?)?))),
        None => Some((text, None)),
    }
}

fn number(text: &str) -> Option<u16> {
    let is_one = (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = is_one.then(|| text.parse().ok()).flatten()?;
    (1..=NUMBER_MAX).contains(&number).then_some(number)
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.segment())?;
        if self.occurrence != 1 {
            write!(f, "[{}]", self.occurrence)?;
        }
        write!(f, "-{}", self.field)?;
        if let Some(repetition) = self.repetition {
            write!(f, "[{repetition}]")?;
        }
        for part in [self.component, self.subcomponent].into_iter().flatten() {
            write!(f, ".{part}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Path({self})")
    }
}

impl FromStr for Path {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_as_it_is_read() {
        for text in [
            "PID-5",
            "PID-3[2].4.2",
            "OBX[3]-5",
            "ZDS-1.1",
            "MSH-9.2",
            "PV1-999[999].999.999",
        ] {
            assert_eq!(Path::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in [
            "",
            "PID",
            "PID-",
            "PID-0",
            "PID-1000",
            "pid-3",
            "PI-3",
            "PIDX-3",
            "PID-3.",
            "PID-3.1.2.3",
            "PID-3[0]",
            "PID-3[1",
            "PID-3]1[",
            "PID[x]-3",
            "-3",
            "PID-+3",
            "PID-3.a",
            "PÄD-3",
        ] {
            assert_eq!(
                Path::parse(text).unwrap_err().kind(),
                ErrorKind::Invalid,
                "{text}"
            );
        }
    }
}
