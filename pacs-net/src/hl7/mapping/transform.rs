//! How a field is read to become the value of an attribute: [`Transform`].

use dicom_core::chrono::NaiveDate;
use dicom_dictionary_std::tags;
use pacs_core::{DataSet, Uid, VR};

use super::super::ack::{Condition, Fault};
use super::super::message::Message;
use super::super::path::Path;

/// What a field says of an attribute.
pub(super) enum Said {
    /// Nothing: what is known stays.
    Nothing,
    /// That there is no value.
    Empty,
    /// This value.
    Text(String),
    /// This item of a sequence.
    Item(DataSet),
}

/// How a field is read; see [the module](super).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transform {
    Text,
    Id,
    Issuer,
    Name,
    Person,
    Date,
    Time,
    DateTime,
    Sex,
    Code,
    Priority,
}

const NAMES: [(&str, Transform); 11] = [
    ("text", Transform::Text),
    ("id", Transform::Id),
    ("issuer", Transform::Issuer),
    ("name", Transform::Name),
    ("person", Transform::Person),
    ("date", Transform::Date),
    ("time", Transform::Time),
    ("datetime", Transform::DateTime),
    ("sex", Transform::Sex),
    ("code", Transform::Code),
    ("priority", Transform::Priority),
];

/// A field that says that there is no value (HL7 v2.5 2.5.3).
const DELETED: &str = "\"\"";

/// A code is no longer than this: an item of a worklist is small.
const CODE_LENGTH_MAX_BYTES: usize = 1024;

impl Transform {
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        let found = NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, transform)| *transform).ok_or_else(|| {
            let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            format!("\"{name}\" is not one of {}", names.join(", "))
        })
    }

    pub(super) fn default_of(vr: VR) -> Self {
        match vr {
            VR::PN => Transform::Name,
            VR::DA => Transform::Date,
            VR::TM => Transform::Time,
            VR::DT => Transform::DateTime,
            VR::SQ => Transform::Code,
            VR::UI => Transform::Id,
            _ => Transform::Text,
        }
    }

    /// Whether it makes values of this VR.
    pub(super) fn check(self, vr: VR) -> Result<(), String> {
        match (self, vr) {
            (Transform::Code, VR::SQ) => Ok(()),
            (Transform::Code, _) => Err("code makes an item of a sequence, and this is none".to_owned()),
            (_, VR::SQ) => Err("it is a sequence: only code makes an item of one".to_owned()),
            (Transform::Date, VR::DA) | (Transform::Time, VR::TM) | (Transform::DateTime, VR::DT) => Ok(()),
            (Transform::Date | Transform::Time | Transform::DateTime, _) | (_, VR::DA | VR::TM | VR::DT) => {
                Err("date makes a DA, time a TM and datetime a DT, and nothing else does".to_owned())
            }
            (Transform::Name | Transform::Person, VR::PN) => Ok(()),
            (Transform::Name | Transform::Person, _) => Err("name and person make a PN".to_owned()),
            _ => Ok(()),
        }
    }

    /// Reads the field at `path` for an attribute of this VR.
    ///
    /// # Errors
    /// A value that can't be, with its place; never the value.
    pub(super) fn read(self, message: &Message, path: &Path, vr: VR) -> Result<Said, Fault> {
        let raw = message.raw(path).trim();
        if raw.is_empty() {
            return Ok(Said::Nothing);
        }
        if raw == DELETED || message.value(path).as_deref() == Some(DELETED) {
            return Ok(Said::Empty);
        }
        let field = Field { message, path, raw };
        let value = message.value(path).unwrap_or_default();
        let value = value.trim();
        let text = match self {
            Transform::Text => shortened(value, vr),
            Transform::Id => identifier(value, vr).map_err(|why| bad(path, why))?,
            Transform::Issuer => {
                let authority = path.component.unwrap_or(4);
                let part = |number| message.unescaped(message.part_of(raw, authority, number));
                let name = part(1);
                shortened(if name.is_empty() { part(2) } else { name }.trim(), vr)
            }
            Transform::Name => field.name(),
            Transform::Person => field.person_name(1),
            Transform::Date => time(value).map_err(|why| bad(path, why))?.date,
            Transform::Time => time(value).map_err(|why| bad(path, why))?.time,
            Transform::DateTime => time(value).map_err(|why| bad(path, why))?.both,
            Transform::Sex => match value {
                "M" | "F" | "O" => value.to_owned(),
                "A" | "N" => "O".to_owned(),
                // Whom the sender doesn't know may be known here.
                _ => return Ok(Said::Nothing),
            },
            Transform::Code => return Ok(field.code().map_or(Said::Nothing, Said::Item)),
            Transform::Priority => priority(value).to_owned(),
        };
        Ok(match text.is_empty() {
            true => Said::Nothing,
            false => Said::Text(text),
        })
    }
}

fn bad(path: &Path, why: &'static str) -> Fault {
    Fault::error(Condition::DataType, format!("{path}: {why}")).at(*path)
}

/// One repetition of a field of several parts.
struct Field<'a> {
    message: &'a Message,
    path: &'a Path,
    raw: &'a str,
}

impl Field<'_> {
    /// A part of a repetition: a component, or within the component that the path names a subcomponent.
    fn part(&self, raw: &str, number: u16) -> String {
        let part = match self.path.component {
            Some(component) => self.message.part_of(raw, component, number),
            None => self.message.part_of(raw, number, 1),
        };
        self.message.unescaped(part).trim().to_owned()
    }

    /// The name whose family name is the part behind `before` others: family, given, middle, suffix and prefix, as a
    /// component group of PN (PS3.5 6.2.1).
    fn group(&self, raw: &str, before: u16, has_degree: bool) -> String {
        let part = |number| letters(&self.part(raw, before + number));
        let mut suffix = part(4);
        if has_degree {
            let degree = part(6);
            if !suffix.is_empty() && !degree.is_empty() {
                suffix.push(' ');
            }
            suffix.push_str(&degree);
        }
        let group = [part(1), part(2), part(3), part(5), suffix].join("^");
        let group: String = group.chars().take(64).collect();
        group.trim_end_matches(['^', ' ']).to_owned()
    }

    fn person_name(&self, before: u16) -> String {
        self.group(self.raw, before, false)
    }

    /// XPN: the repetitions that are the same name in another writing are its component groups.
    fn name(&self) -> String {
        let mut groups = [self.group(self.raw, 0, true), String::new(), String::new()];
        if self.path.component.is_none() && self.path.repetition.is_none() {
            let mut alphabetic = None;
            for raw in self.message.repetitions(self.path) {
                match self.part(raw, 8).as_str() {
                    "I" if groups[1].is_empty() => groups[1] = self.group(raw, 0, true),
                    "P" if groups[2].is_empty() => groups[2] = self.group(raw, 0, true),
                    "I" | "P" => {}
                    _ => {
                        let _ = alphabetic.get_or_insert_with(|| self.group(raw, 0, true));
                    }
                }
            }
            groups[0] = alphabetic.unwrap_or_default();
        }
        groups.join("=").trim_end_matches('=').to_owned()
    }

    /// CE: identifier, text and coding system; the scheme of who names none is local ("L").
    fn code(&self) -> Option<DataSet> {
        let from = self.path.component.unwrap_or(1);
        let part = |number| {
            let part = self.message.part_of(self.raw, from + number, 1);
            self.message.unescaped(part).trim().to_owned()
        };
        let (code, meaning, scheme) = (part(0), part(1), part(2));
        let code = shortened(&code, VR::UC);
        // One that is cut short is another code.
        if code.is_empty() || code.len() > CODE_LENGTH_MAX_BYTES {
            return None;
        }
        let mut item = DataSet::new();
        if code.chars().count() <= 16 {
            item.put_text(tags::CODE_VALUE, VR::SH, code.clone());
        } else {
            item.put_text(tags::LONG_CODE_VALUE, VR::UC, code.clone());
        }
        let scheme = if scheme.is_empty() { "L" } else { scheme.as_str() };
        item.put_text(tags::CODING_SCHEME_DESIGNATOR, VR::SH, shortened(scheme, VR::SH));
        let meaning = if meaning.is_empty() { code } else { meaning };
        item.put_text(tags::CODE_MEANING, VR::LO, shortened(&meaning, VR::LO));
        Some(item)
    }
}

/// A part of a name without what has a meaning of its own in PN.
fn letters(text: &str) -> String {
    let kept = |c: char| match c {
        '^' | '=' | '\\' => ' ',
        c if c.is_control() => ' ',
        c => c,
    };
    text.chars().map(kept).collect::<String>().trim().to_owned()
}

/// Text as an attribute of this VR may have it.
fn shortened(text: &str, vr: VR) -> String {
    let most = match vr {
        VR::AE | VR::CS | VR::SH => 16,
        VR::LO | VR::PN => 64,
        VR::ST => 1024,
        VR::LT => 10240,
        _ => usize::MAX,
    };
    let is_long = matches!(vr, VR::ST | VR::LT | VR::UT);
    let kept = |c: char| match c {
        '\n' if is_long => '\n',
        c if c.is_control() => ' ',
        // It would stand between two values.
        '\\' if !is_long => '/',
        c if vr == VR::CS => c.to_ascii_uppercase(),
        c => c,
    };
    let text: String = text.chars().map(kept).collect();
    let text: String = text.trim().chars().take(most).collect();
    text.trim_end().to_owned()
}

/// An identifier, as it is or not at all.
fn identifier(text: &str, vr: VR) -> Result<String, &'static str> {
    if vr == VR::UI {
        return match text.is_empty() {
            true => Ok(String::new()),
            false => Uid::parse(text)
                .map(|uid| uid.to_string())
                .map_err(|_| "it is no UID"),
        };
    }
    if text.contains('\\') || text.contains(char::is_control) {
        return Err("an identifier has no backslash and no control character in DICOM");
    }
    let fits = shortened(text, vr);
    match fits.chars().count() == text.chars().count() {
        true => Ok(fits),
        false => Err("an identifier is longer than the attribute may be, and is not shortened"),
    }
}

/// A point in time, as DA, TM and DT; empty where it is not said so far.
struct Time {
    date: String,
    time: String,
    both: String,
}

/// TS: YYYY[MM[DD[HH[MM[SS[.SSSS]]]]]][+/-ZZZZ]. The time is one at the place of the sender.
fn time(text: &str) -> Result<Time, &'static str> {
    const WHY: &str = "it is no point in time as HL7 has it: YYYYMMDDHHMMSS";
    let at = text.find(['+', '-']).unwrap_or(text.len());
    let (local, offset) = text.split_at(at);
    let (whole, fraction) = local.split_once('.').unwrap_or((local, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_well = is_digits(whole)
        && is_digits(fraction)
        && matches!(whole.len(), 0 | 4 | 6 | 8 | 10 | 12 | 14)
        && (fraction.is_empty() || whole.len() == 14)
        && (offset.is_empty() || offset.len() == 5 && is_digits(&offset[1..]));
    if !is_well {
        return Err(WHY);
    }
    let pair = |at: usize| {
        whole
            .get(at..at + 2)
            .map_or(Some(0), |digits| digits.parse::<u32>().ok())
    };
    let in_range = |at, most| pair(at).is_some_and(|number| number <= most);
    if !in_range(8, 23) || !in_range(10, 59) || !in_range(12, 60) {
        return Err(WHY);
    }
    let date = whole.get(..8).unwrap_or_default();
    if !date.is_empty() && NaiveDate::parse_from_str(date, "%Y%m%d").is_err() {
        return Err(WHY);
    }
    let mut time = whole.get(8..).unwrap_or_default().to_owned();
    let mut both = whole.to_owned();
    if !fraction.is_empty() {
        let fraction: String = fraction.chars().take(6).collect();
        time = format!("{time}.{fraction}");
        both = format!("{both}.{fraction}");
    }
    both.push_str(offset);
    Ok(Time {
        date: date.to_owned(),
        time,
        both,
    })
}

/// Tables 0485 and 0027 as Requested Procedure Priority (0040,1003); empty for what is none.
fn priority(text: &str) -> &'static str {
    match text.to_ascii_uppercase().as_str() {
        "S" | "STAT" => "STAT",
        "A" | "ASAP" | "P" | "C" | "H" | "HIGH" | "UR" | "URGENT" => "HIGH",
        "R" | "ROUTINE" => "ROUTINE",
        "T" | "M" | "MEDIUM" => "MEDIUM",
        "L" | "LOW" => "LOW",
        // Timing critical, with the minutes that it may wait.
        other if other.starts_with("TS") || other.starts_with("TM") || other.starts_with("TH") => "MEDIUM",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(transform: Transform, path: &str, vr: VR, field: &str) -> Result<String, Fault> {
        let text = format!("MSH|^~\\&|A||||||ORM^O01|1|P|2.5||||||UNICODE UTF-8\rZZZ|{field}\r");
        let message = Message::parse(text.as_bytes()).unwrap();
        Ok(match transform.read(&message, &Path::parse(path).unwrap(), vr)? {
            Said::Nothing => "(nothing)".to_owned(),
            Said::Empty => "(empty)".to_owned(),
            Said::Text(text) => text,
            Said::Item(item) => format!(
                "{}|{}|{}",
                item.string(tags::CODE_VALUE)
                    .or(item.string(tags::LONG_CODE_VALUE))
                    .unwrap(),
                item.string(tags::CODING_SCHEME_DESIGNATOR).unwrap(),
                item.string(tags::CODE_MEANING).unwrap()
            ),
        })
    }

    #[test]
    fn each_transform_makes_the_value_of_an_attribute() {
        use Transform as T;
        let long = "x".repeat(70);
        for (transform, path, vr, field, expected) in [
            (T::Text, "ZZZ-1", VR::LO, "a\\E\\b \\.br\\c", "a/b  c"),
            (T::Text, "ZZZ-1", VR::LT, "a\\E\\b\\.br\\c", "a\\b\nc"),
            (T::Text, "ZZZ-1", VR::LO, &long, &long[..64]),
            (T::Text, "ZZZ-1", VR::CS, "ct", "CT"),
            (T::Text, "ZZZ-1.2", VR::LO, "a^b", "b"),
            (T::Text, "ZZZ-1", VR::LO, "", "(nothing)"),
            (T::Text, "ZZZ-1", VR::LO, "\"\"", "(empty)"),
            (T::Id, "ZZZ-1", VR::LO, "4711^^^HOSP", "4711"),
            (T::Id, "ZZZ-1", VR::UI, "1.2.3^X", "1.2.3"),
            (T::Issuer, "ZZZ-1", VR::LO, "4711^^^HOSP&1.2&ISO", "HOSP"),
            (T::Issuer, "ZZZ-1", VR::LO, "4711^^^&1.2&ISO", "1.2"),
            (T::Issuer, "ZZZ-1", VR::LO, "4711", "(nothing)"),
            (
                T::Name,
                "ZZZ-1",
                VR::PN,
                "Doe&van^Jane^^Jr.^Dr.",
                "Doe^Jane^^Dr.^Jr.",
            ),
            (T::Name, "ZZZ-1", VR::PN, "D=o\\S\\e^Jane", "D o e^Jane"),
            (
                T::Name,
                "ZZZ-1",
                VR::PN,
                "山田^花子^^^^^L^I~Yamada^Hanako^^^^^L^A",
                "Yamada^Hanako=山田^花子",
            ),
            (
                T::Person,
                "ZZZ-1",
                VR::PN,
                "12^Order^Olga^^^Dr.",
                "Order^Olga^^Dr.",
            ),
            (T::Person, "ZZZ-1.1", VR::PN, "12&Tech&Tim^20240101", "Tech^Tim"),
            (T::Person, "ZZZ-1", VR::PN, "12", "(nothing)"),
            (T::Date, "ZZZ-1", VR::DA, "202402291015+0100", "20240229"),
            (T::Date, "ZZZ-1", VR::DA, "202402", "(nothing)"),
            (
                T::Time,
                "ZZZ-1",
                VR::TM,
                "20240229101530.1234567-0500",
                "101530.123456",
            ),
            (T::Time, "ZZZ-1", VR::TM, "20240229", "(nothing)"),
            (
                T::DateTime,
                "ZZZ-1",
                VR::DT,
                "202402291015+0100",
                "202402291015+0100",
            ),
            (T::Sex, "ZZZ-1", VR::CS, "F", "F"),
            (T::Sex, "ZZZ-1", VR::CS, "A", "O"),
            (T::Sex, "ZZZ-1", VR::CS, "U", "(nothing)"),
            (T::Sex, "ZZZ-1", VR::CS, "\"\"", "(empty)"),
            (T::Code, "ZZZ-1", VR::SQ, "A^Alpha^99X^B^Beta^LN", "A|99X|Alpha"),
            (T::Code, "ZZZ-1.4", VR::SQ, "A^Alpha^99X^B^Beta^LN", "B|LN|Beta"),
            (T::Code, "ZZZ-1", VR::SQ, "A", "A|L|A"),
            (
                T::Code,
                "ZZZ-1",
                VR::SQ,
                "12345678901234567^x",
                "12345678901234567|L|x",
            ),
            (T::Code, "ZZZ-1", VR::SQ, "^Alpha", "(nothing)"),
            (T::Priority, "ZZZ-1.6", VR::SH, "^^^^^S", "STAT"),
            (T::Priority, "ZZZ-1", VR::SH, "TM30", "MEDIUM"),
            (T::Priority, "ZZZ-1", VR::SH, "nobody knows", "(nothing)"),
        ] {
            assert_eq!(
                read(transform, path, vr, field).unwrap(),
                expected,
                "{transform:?} {path} {field}"
            );
        }
    }

    #[test]
    fn a_value_that_can_not_be_is_refused_with_its_place_and_not_told() {
        use Transform as T;
        for (transform, vr, field) in [
            (T::Id, VR::SH, "12345678901234567"),
            (T::Id, VR::LO, "a\\E\\b"),
            (T::Id, VR::UI, "Secret"),
            (T::Date, VR::DA, "Secret"),
            (T::Date, VR::DA, "20230229"),
            (T::Time, VR::TM, "2024022925"),
            (T::DateTime, VR::DT, "20240229+1"),
        ] {
            let fault = read(transform, "ZZZ-1", vr, field).unwrap_err();
            assert_eq!(fault.location, Some(Path::parse("ZZZ-1").unwrap()));
            assert!(!fault.to_string().contains(field), "{fault}");
        }
    }

    proptest! {
        #[test]
        fn any_field_is_read_or_refused(field in "[ -~ß山]{0,60}", at in 0_usize..NAMES.len()) {
            for vr in [VR::LO, VR::SH, VR::PN, VR::DA, VR::TM, VR::DT, VR::SQ, VR::UI, VR::LT] {
                for path in ["ZZZ-1", "ZZZ-1.2", "ZZZ-1[2].1.2"] {
                    let _ = read(NAMES[at].1, path, vr, &field);
                }
            }
        }
    }
}
