use proptest::prelude::*;

use super::*;

const ADT: &str = "MSH|^~\\&|RIS|HOSPITAL|PACS||20240229101530||ADT^A08^ADT_A01|42|P|2.5|||AL|NE||UNICODE UTF-8\r\
    EVN|A08\r\
    PID|1||4711^^^HOSPITAL&1.2.3&ISO^PI~0815^^^OTHER||Doe\\T\\Co^Jane^^^Dr.~Alias^^^^||19700131|F\r\
    OBX|1|TX|a||first\rOBX|2|TX|a||second~\\.br\\third\r";

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

#[test]
fn values_are_had_by_path() {
    let message = Message::parse(ADT.as_bytes()).unwrap();
    for (at, expected) in [
        ("MSH-1", Some("|")),
        ("MSH-2", Some("^~\\&")),
        ("MSH-3", Some("RIS")),
        ("MSH-9.2", Some("A08")),
        ("MSH-18", Some("UNICODE UTF-8")),
        ("PID-3", Some("4711")),
        ("PID-3.4", Some("HOSPITAL")),
        ("PID-3.4.2", Some("1.2.3")),
        ("PID-3[2].4", Some("OTHER")),
        ("PID-3[3]", None),
        ("PID-5", Some("Doe&Co")),
        ("PID-5.3", None),
        ("PID-8", Some("F")),
        ("PID-30", None),
        ("OBX[2]-5[2]", Some("\nthird")),
        ("OBX[3]-5", None),
        ("ZZZ-1", None),
        ("no path", None),
    ] {
        assert_eq!(message.get(at).as_deref(), expected, "{at}");
    }
    assert_eq!(message.raw(&path("PID-3")), "4711^^^HOSPITAL&1.2.3&ISO^PI");
    assert_eq!(message.repetitions(&path("PID-3")).len(), 2);
    assert!(message.repetitions(&path("PID-9")).is_empty());
}

#[test]
fn what_is_read_is_written_the_same() {
    let message = Message::parse(ADT.as_bytes()).unwrap();
    assert_eq!(message.text(), ADT);
    assert_eq!(message.to_bytes().unwrap(), ADT.as_bytes());
    for ends in ["\n", "\r\n", "\n\n"] {
        assert_eq!(
            Message::parse(ADT.replace('\r', ends).as_bytes()).unwrap(),
            message
        );
    }
    let marked = ["\u{FEFF}\r\n", ADT].concat();
    assert_eq!(Message::parse(marked.as_bytes()).unwrap(), message);
}

#[test]
fn delimiters_are_those_of_the_message() {
    let text = "MSH#!@%$#A##B####T!U#1#P#2.3\rPID###1!!!X$Y@2\r";
    let message = Message::parse(text.as_bytes()).unwrap();
    assert_eq!(message.get("PID-3.4.2").as_deref(), Some("Y"));
    assert_eq!(message.get("PID-3[2]").as_deref(), Some("2"));
    assert_eq!(message.get("MSH-9.2").as_deref(), Some("U"));
    // Fewer than five: what has no mark is not told apart.
    let message = Message::parse(b"MSH|^|A||||||T^U|1|P|2.1\rPID|||a~b&c\\F\\\r").unwrap();
    assert_eq!(message.get("PID-3").as_deref(), Some("a~b&c\\F\\"));
    assert_eq!(message.get("PID-3[2]").as_deref(), Some("a~b&c\\F\\"));
}

#[test]
fn a_value_is_set_wherever_it_belongs() {
    let mut message = Message::new("ADT^A08", "1", "20240229");
    for (at, text) in [
        ("PID-3[2].4.2", "1.2"),
        ("PID-3", "x|y"),
        ("PID-5.2", "Jane\\"),
        ("MSH-3", "PACS"),
        ("OBX-5", "one"),
        ("OBX[2]-5", "two"),
    ] {
        message.set(&path(at), text).unwrap();
        assert_eq!(message.get(at).as_deref(), Some(text), "{at}");
    }
    let text = message.text();
    let (_, behind) = text.split_once('\r').unwrap();
    assert_eq!(behind, "PID|||x\\F\\y||^Jane\\E\\\rOBX|||||one\rOBX|||||two\r");
    assert!(message.set(&path("MSH-2"), "x").is_err());
    assert!(message.set(&path("OBX[4]-1"), "x").is_err());
    assert_eq!(Message::parse(text.as_bytes()).unwrap(), message);
}

#[test]
fn what_is_no_message_is_refused_and_nothing_of_it_is_told() {
    use ErrorKind as K;
    let many = format!("{ADT}ZZZ{}", "|".repeat(1000));
    let long = format!("{ADT}{}", "Z1\r".repeat(6_000_000));
    let segments = format!("{ADT}{}", "ZZ1\r".repeat(SEGMENTS_MAX));
    for (text, kind) in [
        ("", K::Invalid),
        ("\r\r", K::Invalid),
        ("PID|1", K::Invalid),
        ("MSH", K::Invalid),
        ("MSH|", K::Invalid),
        ("MSH|||", K::Invalid),
        ("MSH|^^\\&|", K::Invalid),
        ("MSHabcde", K::Invalid),
        ("MSH|^~\\&|A\rSecret\r", K::Invalid),
        ("MSH|^~\\&|A\rPIDX|Secret\r", K::Invalid),
        ("MSH|^~\\&|A\rMSH|^~\\&|A\r", K::Invalid),
        ("FHS|^~\\&|A\rBHS|^~\\&\r", K::Unsupported),
        ("MSH|^~\\&||||||||||||||||KLINGON\r", K::Unsupported),
        (&many, K::OutOfResources),
        (&long, K::OutOfResources),
        (&segments, K::OutOfResources),
    ] {
        let refused = Message::parse(text.as_bytes()).unwrap_err();
        assert_eq!(refused.kind(), kind, "{}", &text[..text.len().min(60)]);
        assert!(!format!("{refused:?}").contains("Secret"));
    }
}

#[test]
fn a_header_is_had_of_what_is_no_message() {
    let header = Message::header(b"MSH|^~\\&|RIS\xFF||||||ADT^A08|42|P|2.5||||||KLINGON\rSecret\r").unwrap();
    assert_eq!(header.get("MSH-10").as_deref(), Some("42"));
    assert_eq!(header.segments().len(), 1);
    assert!(Message::header(b"garbage").is_none());
}

#[test]
fn a_component_that_is_set_without_a_repetition_is_that_of_the_first() {
    let text = "MSH|^~\\&|A\rPID|1||4711^^^RIS~0815^^^KIS\r";
    let mut message = Message::parse(text.as_bytes()).unwrap();
    message.set(&Path::parse("PID-3.4").unwrap(), "HIS").unwrap();
    assert_eq!(message.get("PID-3.4").as_deref(), Some("HIS"));
    assert_eq!(message.segments()[1].field(3), "4711^^^HIS~0815^^^KIS");
    message.set(&Path::parse("PID-3").unwrap(), "1").unwrap();
    assert_eq!(message.segments()[1].field(3), "1");
}

#[test]
fn debug_shows_no_value() {
    let message = Message::parse(ADT.as_bytes()).unwrap();
    let shown = format!("{message:?}");
    assert!(
        shown.contains("PID(..)") && !shown.contains("Doe") && !shown.contains("4711"),
        "{shown}"
    );
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Message::parse(&bytes);
        let _ = Message::parse(&[b"MSH|^~\\&|A|B", &bytes[..]].concat());
        let _ = Message::header(&bytes);
    }

    #[test]
    fn a_message_that_is_read_is_written_and_read_to_the_same(text in "MSH\\|\\^~\\\\&\\|[A-Z^~|]{0,40}(\r[A-Z]{3}(\\|[a-zß|^~&\\\\ .]{0,30})?){0,5}\r") {
        // What the header says of its character set is a set, or it is refused.
        if let Ok(message) = Message::parse(text.as_bytes()) {
            prop_assert_eq!(&Message::from_text(&message.text()).unwrap(), &message);
            prop_assert_eq!(message.text(), text);
        }
    }

    #[test]
    fn a_value_that_is_set_is_had_again(
        text in "[ -~\\t\nß山]{1,40}", repetition in 1_u16..4, component in 1_u16..6, subcomponent in 1_u16..4,
    ) {
        let at = Path::parse(&format!("PID-4[{repetition}].{component}.{subcomponent}")).unwrap();
        let mut message = Message::new("ADT^A08", "1", "");
        message.set(&at, &text).unwrap();
        prop_assert_eq!(message.value(&at), Some(text.clone()));
        let again = Message::parse(&message.to_bytes().unwrap()).unwrap();
        prop_assert_eq!(again.value(&at), Some(text));
    }
}
