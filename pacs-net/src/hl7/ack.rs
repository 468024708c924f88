//! The answer to a message (HL7 v2.5 2.9): [`Fault`] says why not, [`answers`] writes what is sent.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use pacs_core::{Error, ErrorKind, Retry, Timestamp};

use super::message::{Message, Segment};
use super::path::Path;

/// What MSA-1 says (HL7 table 0008).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckCode {
    /// AA, application accept: done, and durable.
    Accept,
    /// AE, application error: something in the message can't be. The same message will fail again.
    Error,
    /// AR, application reject: it is not taken here, or not now.
    Reject,
}

impl AckCode {
    /// As MSA-1 has it.
    pub fn as_str(self) -> &'static str {
        match self {
            AckCode::Accept => "AA",
            AckCode::Error => "AE",
            AckCode::Reject => "AR",
        }
    }

    /// Reads MSA-1, also of an accept acknowledgement (CA, CE, CR); `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "AA" | "CA" => Some(AckCode::Accept),
            "AE" | "CE" => Some(AckCode::Error),
            "AR" | "CR" => Some(AckCode::Reject),
            _ => None,
        }
    }
}

/// What is wrong with a message, in the terms of HL7 table 0357.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// 100: segments in the wrong order, or missing.
    SegmentSequence,
    /// 101: a field is missing.
    RequiredFieldMissing,
    /// 102: a value that the field can't have.
    DataType,
    /// 103: a value that is not in the table.
    TableValue,
    /// 200: this kind of message is not taken.
    UnsupportedMessageType,
    /// 201: this event is not taken.
    UnsupportedEvent,
    /// 204: what the message is about is not known.
    UnknownKey,
    /// 205: what is to be made is there already.
    DuplicateKey,
    /// 207: a failure of ours.
    Internal,
}

impl Condition {
    /// Its number.
    pub fn code(self) -> u16 {
        match self {
            Condition::SegmentSequence => 100,
            Condition::RequiredFieldMissing => 101,
            Condition::DataType => 102,
            Condition::TableValue => 103,
            Condition::UnsupportedMessageType => 200,
            Condition::UnsupportedEvent => 201,
            Condition::UnknownKey => 204,
            Condition::DuplicateKey => 205,
            Condition::Internal => 207,
        }
    }

    /// The one with this number.
    pub(super) fn of_code(code: u16) -> Option<Self> {
        use Condition as C;
        let all = [
            C::SegmentSequence,
            C::RequiredFieldMissing,
            C::DataType,
            C::TableValue,
            C::UnsupportedMessageType,
            C::UnsupportedEvent,
            C::UnknownKey,
            C::DuplicateKey,
            C::Internal,
        ];
        all.into_iter().find(|condition| condition.code() == code)
    }

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Condition::SegmentSequence => "Segment sequence error",
            Condition::RequiredFieldMissing => "Required field missing",
            Condition::DataType => "Data type error",
            Condition::TableValue => "Table value not found",
            Condition::UnsupportedMessageType => "Unsupported message type",
            Condition::UnsupportedEvent => "Unsupported event code",
            Condition::UnknownKey => "Unknown key identifier",
            Condition::DuplicateKey => "Duplicate key identifier",
            Condition::Internal => "Application internal error",
        }
    }
}

/// Why a message was not accepted. Its text never holds anything of the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// AE or AR.
    pub code: AckCode,
    /// What is wrong.
    pub condition: Condition,
    /// Why, as a sentence.
    pub text: Cow<'static, str>,
    /// Where in the message.
    pub location: Option<Path>,
    /// Whether the same message may be accepted later.
    pub retry: Retry,
}

impl Fault {
    /// AE: something in the message can't be.
    pub fn error(condition: Condition, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code: AckCode::Error,
            condition,
            text: text.into(),
            location: None,
            retry: Retry::Never,
        }
    }

    /// AR: the message is not taken here.
    pub fn reject(condition: Condition, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code: AckCode::Reject,
            ..Self::error(condition, text)
        }
    }

    /// Names the place in the message.
    #[must_use]
    pub fn at(mut self, location: Path) -> Self {
        self.location = Some(location);
        self
    }

    /// AE: the field at this path must have a value.
    pub fn missing(path: &str) -> Self {
        let fault = Self::error(
            Condition::RequiredFieldMissing,
            format!("{path} must have a value"),
        );
        match Path::parse(path) {
            Ok(path) => fault.at(path),
            Err(_) => fault,
        }
    }
}

impl From<Error> for Fault {
    /// What can't be in a message is AE; what is not taken, can't be read or failed here is AR.
    fn from(error: Error) -> Self {
        let text = error.context().to_owned();
        let mut fault = match error.kind() {
            ErrorKind::Invalid if error.operation() == "hl7.parse" => {
                Self::reject(Condition::SegmentSequence, text)
            }
            ErrorKind::Invalid | ErrorKind::Mismatch => Self::error(Condition::DataType, text),
            ErrorKind::NotFound => Self::error(Condition::UnknownKey, text),
            ErrorKind::AlreadyExists => Self::error(Condition::DuplicateKey, text),
            ErrorKind::Refused => Self::error(Condition::Internal, text),
            ErrorKind::Unsupported => Self::reject(Condition::UnsupportedMessageType, text),
            _ => Self::reject(Condition::Internal, text),
        };
        fault.retry = error.retry();
        for tag in error.tags() {
            fault.text = format!("{} {tag}", fault.text).into();
        }
        fault
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}: {}",
            self.code.as_str(),
            self.condition.code(),
            self.text
        )?;
        match &self.location {
            Some(path) => write!(f, " ({path})"),
            None => Ok(()),
        }
    }
}

/// What is sent back for the message with this header: one answer in original mode; in enhanced mode (MSH-15 or MSH-16
/// has a value) an accept acknowledgement, an application acknowledgement, both or none, as these fields ask
/// (AL, NE, ER, SU). The accept acknowledgement comes when the message is dealt with: it promises what the other does.
pub fn answers(header: &Message, outcome: &Result<(), Fault>) -> Vec<Message> {
    let wanted = |path| {
        let asked = header.get(path);
        let is = match asked.as_deref() {
            Some("AL") => true,
            Some("SU") => outcome.is_ok(),
            Some("ER") => outcome.is_err(),
            _ => false,
        };
        (asked.is_some(), is)
    };
    let ((accept_asked, accept), (application_asked, application)) = (wanted("MSH-15"), wanted("MSH-16"));
    if !accept_asked && !application_asked {
        return vec![answer(header, outcome, 'A')];
    }
    let mut answers = Vec::new();
    if accept {
        answers.push(answer(header, outcome, 'C'));
    }
    if application {
        answers.push(answer(header, outcome, 'A'));
    }
    answers
}

/// Answers that were made by this process.
static MADE: AtomicU64 = AtomicU64::new(0);

/// An identifier that no other message of ours has: 20 characters, as MSH-10 has at most.
pub(super) fn control_id() -> String {
    let made = MADE.fetch_add(1, Ordering::Relaxed) % (36 * 36 * 36 * 36);
    format!("{:013}{made:07}", Timestamp::now().0 % 10_u64.pow(13))
}

fn answer(header: &Message, outcome: &Result<(), Fault>, letter: char) -> Message {
    let get = |path: &str| header.get(path).unwrap_or_default();
    let control_id = control_id();
    let time = super::time::now();
    let event = get("MSH-9.2");
    let kind = match event.as_str() {
        "" => "ACK".to_owned(),
        event => format!("ACK^{}^ACK", header.escape(event)),
    };
    // A header that was sent to us, with sender and receiver changed: delimiters, processing ID, version and character
    // set stay.
    let raw = |path: &str| {
        Path::parse(path)
            .map(|path| header.raw(&path).to_owned())
            .unwrap_or_default()
    };
    let delimiters = header.delimiters();
    let mut answer = header.part([]);
    for (path, value) in [
        (3, raw("MSH-5")),
        (4, raw("MSH-6")),
        (5, raw("MSH-3")),
        (6, raw("MSH-4")),
        (7, time),
        (8, String::new()),
        (
            9,
            kind.replace('^', delimiters.component.encode_utf8(&mut [0; 4])),
        ),
        (10, control_id),
        (13, String::new()),
        (14, String::new()),
        (15, String::new()),
        (16, String::new()),
    ] {
        answer.put_header(path, &value);
    }
    let (code, fault) = match outcome {
        Ok(()) => (AckCode::Accept, None),
        Err(fault) => (fault.code, Some(fault)),
    };
    let code = code.as_str().replacen('A', letter.encode_utf8(&mut [0; 4]), 1);
    let text = fault.map_or(String::new(), |fault| ascii(&fault.text));
    let id = raw("MSH-10");
    answer.push(answer.segment("MSA", &[&code, &id, &answer.escape(&text)]));
    if let Some(fault) = fault {
        answer.push(error(&answer, fault, &get("MSH-12"), &text));
    }
    answer
}

/// The ERR segment: as it is since version 2.5, or with ERR-1 alone as it was before.
fn error(answer: &Message, fault: &Fault, version: &str, text: &str) -> Segment {
    let mark = |mark: Option<char>| mark.map_or(String::new(), String::from);
    let component = mark(Some(answer.delimiters().component));
    let subcomponent = mark(answer.delimiters().subcomponent);
    let (code, name) = (fault.condition.code().to_string(), fault.condition.name());
    let location = fault.location.map_or(Vec::new(), |path| {
        vec![
            path.segment().to_owned(),
            path.occurrence.to_string(),
            path.field.to_string(),
        ]
    });
    let is_old = version
        .strip_prefix("2.")
        .and_then(|rest| rest.get(..1)?.parse::<u8>().ok())
        .is_some_and(|minor| minor < 5);
    if is_old {
        let mut place = location;
        place.resize(3, String::new());
        place.push([code.as_str(), name, "HL70357"].join(&subcomponent));
        return answer.segment("ERR", &[&place.join(&component)]);
    }
    let coded = [code.as_str(), name, "HL70357"].join(&component);
    let text = answer.escape(text);
    answer.segment(
        "ERR",
        &["", &location.join(&component), &coded, "E", "", "", "", &text],
    )
}

/// Any character set can say it.
fn ascii(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> Message {
        Message::parse(text.as_bytes()).unwrap()
    }

    fn fault() -> Fault {
        Fault::missing("PID-3")
    }

    #[test]
    fn who_is_accepted_is_told_with_the_id_of_the_message() {
        let header =
            header("MSH|^~\\&|RIS|HOSP|PACS|RAD|20240101||ADT^A08^ADT_A01|ID\\F\\1|T|2.3.1||||||8859/1\r");
        let [answer] = &answers(&header, &Ok(()))[..] else {
            panic!()
        };
        for (path, expected) in [
            ("MSH-3", "PACS"),
            ("MSH-4", "RAD"),
            ("MSH-5", "RIS"),
            ("MSH-6", "HOSP"),
            ("MSH-9", "ACK"),
            ("MSH-9.2", "A08"),
            ("MSH-11", "T"),
            ("MSH-12", "2.3.1"),
            ("MSH-18", "8859/1"),
            ("MSA-1", "AA"),
            ("MSA-2", "ID|1"),
        ] {
            assert_eq!(answer.get(path).as_deref(), Some(expected), "{path}");
        }
        assert_eq!(answer.get("MSA-3"), None);
        assert_eq!(answer.get("ERR-1"), None);
        let (id, other) = (answer.get("MSH-10").unwrap(), control_id());
        assert!(id != other && id.len() == 20 && other.len() == 20);
    }

    #[test]
    fn who_is_not_accepted_is_told_why_and_where() {
        let new = header("MSH|^~\\&|A||||||ADT^A08|1|P|2.5.1\r");
        let [answer] = &answers(&new, &Err(fault()))[..] else {
            panic!()
        };
        assert_eq!(answer.get("MSA-1").as_deref(), Some("AE"));
        assert_eq!(answer.get("MSA-3").as_deref(), Some("PID-3 must have a value"));
        let text = answer.text();
        assert!(
            text.contains("ERR||PID^1^3|101^Required field missing^HL70357|E||||PID-3 must have a value\r"),
            "{text}"
        );
        let old = header("MSH|^~\\&|A||||||ADT^A08|1|P|2.3.1\r");
        let text = answers(&old, &Err(fault()))[0].text();
        assert!(
            text.contains("ERR|PID^1^3^101&Required field missing&HL70357\r"),
            "{text}"
        );
        let refused = Err(Fault::reject(Condition::UnsupportedEvent, "not this"));
        assert_eq!(answers(&new, &refused)[0].get("MSA-1").as_deref(), Some("AR"));
    }

    #[test]
    fn in_enhanced_mode_the_sender_says_which_answers_it_wants() {
        for (accept, application, when_accepted, when_not) in [
            ("NE", "AL", "AA", "AE"),
            ("AL", "NE", "CA", "CE"),
            ("AL", "AL", "CA AA", "CE AE"),
            ("ER", "SU", "AA", "CE"),
            ("NE", "NE", "", ""),
            ("", "AL", "AA", "AE"),
            ("AL", "", "CA", "CE"),
            ("", "", "AA", "AE"),
        ] {
            let header = header(&format!(
                "MSH|^~\\&|A||||||ADT^A08|1|P|2.5|||{accept}|{application}\r"
            ));
            let codes = |outcome| {
                let answers = answers(&header, &outcome);
                let codes: Vec<_> = answers
                    .iter()
                    .map(|answer| answer.get("MSA-1").unwrap())
                    .collect();
                codes.join(" ")
            };
            assert_eq!(codes(Ok(())), when_accepted, "{accept} {application}");
            assert_eq!(codes(Err(fault())), when_not, "{accept} {application}");
        }
    }

    #[test]
    fn an_answer_has_the_delimiters_of_the_message() {
        let header = header("MSH#!@%$#A##B####T!U#1#P#2.5\r");
        let answer = &answers(&header, &Err(fault()))[0];
        assert_eq!(Message::parse(answer.text().as_bytes()).unwrap(), *answer);
        assert_eq!(answer.get("ERR-3.2").as_deref(), Some("Required field missing"));
        assert_eq!(answer.get("MSH-9.2").as_deref(), Some("U"));
    }
}
