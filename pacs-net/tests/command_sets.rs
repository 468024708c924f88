//! Command sets as bytes.

mod support;

use bytes::Bytes;
use dicom_core::Tag;
use pacs_core::ErrorKind;
use pacs_net::dimse::*;
use proptest::prelude::*;
use support::*;

#[test]
fn a_store_request_is_encoded_as_the_standard_lays_it_out() {
    let mut command = CommandSet::request(CommandField::C_STORE)
        .with_affected_sop_class(&uid("1.2"))
        .with_affected_sop_instance(&uid("1.2.3.4"))
        .with_priority(Priority::Low)
        .with_move_originator(&title("ABC"), 7);
    command.set_message_id(0x0102);
    command.set_has_data_set(true);
    let expected: &[&[u8]] = &[
        &[0, 0, 0, 0, 4, 0, 0, 0, 90, 0, 0, 0],
        &[0, 0, 2, 0, 4, 0, 0, 0],
        b"1.2\0",
        &[0, 0, 0, 1, 2, 0, 0, 0, 1, 0],
        &[0, 0, 0x10, 1, 2, 0, 0, 0, 2, 1],
        &[0, 0, 0, 7, 2, 0, 0, 0, 2, 0],
        &[0, 0, 0, 8, 2, 0, 0, 0, 0, 0],
        &[0, 0, 0, 0x10, 8, 0, 0, 0],
        b"1.2.3.4\0",
        &[0, 0, 0x30, 0x10, 4, 0, 0, 0],
        b"ABC ",
        &[0, 0, 0x31, 0x10, 2, 0, 0, 0, 7, 0],
    ];
    let expected = expected.concat();
    assert_eq!(expected.len(), 102);
    assert_eq!(command.encode(), expected);
    let read = CommandSet::decode(&command.encode()).unwrap();
    assert_eq!(read.command_field(), CommandField::C_STORE);
    assert_eq!(read.message_id(), 0x0102);
    assert_eq!(read.sop_class().unwrap(), uid("1.2"));
    assert_eq!(read.sop_instance().unwrap(), uid("1.2.3.4"));
    assert_eq!(read.priority(), Priority::Low);
    assert_eq!(read.move_originator(), Some((title("ABC"), 7)));
    assert!(read.has_data_set());
}

#[test]
fn each_element_comes_back_as_it_was_set() {
    let tags = [Tag(0x0008, 0x0018), Tag(0x0010, 0x0010)];
    let counts = SubOperations {
        remaining: Some(1),
        completed: 2,
        failed: 3,
        warning: 4,
    };
    let command = CommandSet::request(CommandField::N_ACTION)
        .with_requested_sop_class(&CT)
        .with_requested_sop_instance(&uid("1.2.3"))
        .with_move_destination(&title("DEST"))
        .with_attribute_identifiers(&tags)
        .with_offending_elements(&tags[..1])
        .with_event_type_id(5)
        .with_action_type_id(6)
        .with_sub_operations(counts)
        .with_error_comment("why");
    let read = CommandSet::decode(&command.encode()).unwrap();
    assert_eq!(read.sop_class().unwrap(), CT);
    assert_eq!(read.sop_instance().unwrap(), uid("1.2.3"));
    assert_eq!(read.move_destination().unwrap(), title("DEST"));
    assert_eq!(read.attribute_identifiers(), tags);
    assert_eq!(read.offending_elements(), tags[..1]);
    assert_eq!((read.event_type_id(), read.action_type_id()), (Some(5), Some(6)));
    assert_eq!(read.sub_operations(), counts);
    assert_eq!(read.error_comment(), Some("why"));
    assert!(!read.has_data_set());
}

#[test]
fn an_error_comment_is_cut_to_64_ascii_characters() {
    let comment = "Größe\\\n".repeat(20);
    let command = CommandSet::request(CommandField::C_ECHO).with_error_comment(&comment);
    let read = CommandSet::decode(&command.encode()).unwrap();
    let comment = read.error_comment().unwrap();
    assert_eq!(comment.len(), 64);
    assert!(comment.starts_with("Gr??e??Gr"));
    assert!(comment.ends_with("..."));
}

#[test]
fn an_error_comment_that_is_too_long_ends_after_a_whole_word_with_an_ellipsis() {
    let sent = |comment: &str| {
        let command = CommandSet::request(CommandField::C_ECHO).with_error_comment(comment);
        let read = CommandSet::decode(&command.encode()).unwrap();
        read.error_comment().unwrap().to_owned()
    };
    let fits = format!("{} {}", "a".repeat(30), "b".repeat(33));
    assert_eq!(sent(&fits), fits);
    let long = "the receiver does not take this transfer syntax, and nobody can convert it";
    assert_eq!(
        sent(long),
        "the receiver does not take this transfer syntax, and nobody..."
    );
    let punctuated = format!("{}, {}", "a".repeat(40), "b".repeat(40));
    assert_eq!(sent(&punctuated), format!("{}...", "a".repeat(40)));
    // A word that ends where the ellipsis has just room is whole.
    let exact = format!("{} {} c", "a".repeat(30), "b".repeat(33));
    assert_eq!(sent(&exact), format!("{}...", "a".repeat(30)));
    let exact = format!("{} {} ccccc", "a".repeat(30), "b".repeat(30));
    assert_eq!(sent(&exact), format!("{} {}...", "a".repeat(30), "b".repeat(30)));
}

#[test]
fn a_response_names_what_the_request_named() {
    let mut request = CommandSet::request(CommandField::N_SET)
        .with_requested_sop_class(&CT)
        .with_requested_sop_instance(&uid("1.2.3"));
    request.set_message_id(9);
    let response = CommandSet::response(&request, Status::SUCCESS);
    assert_eq!(response.command_field(), CommandField::N_SET.response());
    assert_eq!(response.command_field().to_string(), "N-SET-RSP");
    assert_eq!(response.message_id_responded_to(), Some(9));
    assert_eq!(response.sop_class().unwrap(), CT);
    assert_eq!(response.sop_instance().unwrap(), uid("1.2.3"));
    assert!(!response.has_data_set());
}

#[test]
fn statuses_fall_into_their_categories() {
    use Category::*;
    let cases = [
        (0x0000, Success),
        (0xFF00, Pending),
        (0xFF01, Pending),
        (0xFE00, Cancel),
        (0x0001, Warning),
        (0x0107, Warning),
        (0x0116, Warning),
        (0xB000, Warning),
        (0xB007, Warning),
        (0xA700, Failure),
        (0xA900, Failure),
        (0xC123, Failure),
        (0x0110, Failure),
        (0x0211, Failure),
        (0x1234, Failure),
    ];
    for (code, category) in cases {
        assert_eq!(Status(code).category(), category, "{code:04X}");
    }
}

#[test]
fn bytes_that_are_no_command_set_are_refused() {
    let field = [0, 0, 0, 1, 2, 0, 0, 0, 1, 0];
    let cases: [(&str, Vec<u8>); 6] = [
        ("empty", vec![]),
        ("another group", [&field[..], &[8, 0, 5, 0, 0, 0, 0, 0]].concat()),
        ("half a header", [&field[..], &[0, 0, 1]].concat()),
        (
            "half a value",
            [&field[..], &[0, 0, 2, 0, 9, 0, 0, 0, b'1']].concat(),
        ),
        ("an element twice", [&field[..], &field[..]].concat()),
        (
            "undefined length",
            [&field[..], &[0, 0, 2, 0, 255, 255, 255, 255]].concat(),
        ),
    ];
    for (name, bytes) in cases {
        let error = CommandSet::decode(&Bytes::from(bytes)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{name}");
    }
    let long = Bytes::from(vec![0; COMMAND_SET_LENGTH_MAX_BYTES + 1]);
    assert_eq!(
        CommandSet::decode(&long).unwrap_err().kind(),
        ErrorKind::OutOfResources
    );
    assert!(CommandSet::decode(&Bytes::copy_from_slice(&field)).is_ok());
}

#[test]
fn debug_shows_no_value() {
    let command = CommandSet::request(CommandField::C_STORE).with_affected_sop_instance(&uid("1.2.999"));
    assert!(!format!("{command:?}").contains("999"));
}

proptest! {
    #[test]
    fn no_bytes_make_decoding_panic_and_what_is_read_encodes_to_the_same(
        mut elements in proptest::collection::vec((any::<u16>(), proptest::collection::vec(any::<u8>(), 0..9)), 0..12),
        cut in 0usize..4,
    ) {
        elements.push((0x0100, vec![1, 0]));
        let mut bytes = Vec::new();
        for (number, value) in &elements {
            bytes.extend_from_slice(&[0, 0]);
            bytes.extend_from_slice(&number.to_le_bytes());
            bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
            bytes.extend_from_slice(value);
        }
        bytes.truncate(bytes.len() - cut);
        if let Ok(set) = CommandSet::decode(&Bytes::from(bytes)) {
            let _ = (set.sop_class(), set.sop_instance(), set.move_destination(), set.move_originator());
            let _ = (set.offending_elements(), set.error_comment(), set.sub_operations(), set.status());
            let again = CommandSet::decode(&set.encode()).unwrap();
            prop_assert_eq!(again.encode(), set.encode());
        }
    }
}
