//! What real senders write, and the Standard does not, is understood.

use super::*;

#[test]
fn sequences_of_defined_and_undefined_length_are_the_same() {
    let inside = explicit(NAME, VR::PN, b"A^B ");
    let items = [
        [implicit(ITEM, &inside), implicit(ITEM, b"")].concat(),
        [
            undefined(open_item(), &inside, ITEM_END),
            undefined(open_item(), b"", ITEM_END),
        ]
        .concat(),
    ];
    let after = explicit(ID, VR::LO, b"4711");
    for items in &items {
        let defined = [explicit(SEQUENCE, VR::SQ, items), after.clone()].concat();
        let open = undefined(header(SEQUENCE, VR::SQ, UNDEFINED), items, SEQUENCE_END);
        for bytes in [defined, [open, after.clone()].concat()] {
            let scan = scan(&bytes, EXPLICIT);
            assert!(scan.complete && scan.problems.is_empty());
            let [first, second] = scan.header.items(SEQUENCE) else {
                panic!("two items")
            };
            assert_eq!(first.string(NAME), Some("A^B"));
            assert!(second.is_empty());
            assert_eq!(scan.header.string(ID), Some("4711"));
        }
    }
}

#[test]
fn un_of_undefined_length_is_an_implicit_sequence() {
    // PS3.5 6.2.2, CP-246.
    let private = Tag(0x0009, 0x1010);
    let nested = undefined(
        [tag(SEQUENCE), UNDEFINED.to_le_bytes()].concat(),
        &implicit(ITEM, &implicit(ID, b"4711")),
        SEQUENCE_END,
    );
    let inside = [implicit(Tag(0x0008, 0x0060), b"CT"), nested].concat();
    let bytes = [
        explicit(Tag(0x0009, 0x0010), VR::LO, b"ME"),
        undefined(
            header(private, VR::UN, UNDEFINED),
            &undefined(open_item(), &inside, ITEM_END),
            SEQUENCE_END,
        ),
        explicit(NAME, VR::PN, b"A^B "),
    ]
    .concat();
    let scan = scan(&bytes, EXPLICIT);
    assert!(scan.complete && scan.problems.is_empty());
    let item = &scan.header.items(private)[0];
    assert_eq!(item.string(Tag(0x0008, 0x0060)), Some("CT"));
    assert_eq!(item.items(SEQUENCE)[0].string(ID), Some("4711"));
    assert_eq!(scan.header.string(NAME), Some("A^B"));
}

#[test]
fn un_of_a_known_attribute_is_what_the_dictionary_says() {
    let bytes = [
        explicit(CHARSET, VR::CS, b"ISO_IR 100"),
        explicit(SEQUENCE, VR::UN, &implicit(ITEM, &implicit(ID, b"4711"))),
        explicit(NAME, VR::UN, b"M\xfcller"),
        explicit(Tag(0x0028, 0x0010), VR::UN, &[2, 1]),
    ]
    .concat();
    let scan = scan(&bytes, EXPLICIT);
    assert_eq!(scan.header.get(NAME).unwrap().vr, VR::PN);
    assert_eq!(scan.header.string(NAME), Some("Müller"));
    assert_eq!(scan.header.items(SEQUENCE)[0].string(ID), Some("4711"));
    assert_eq!(scan.header.u16(Tag(0x0028, 0x0010)), Some(0x102));
}

#[test]
fn private_elements_without_vr_are_un_and_their_creators_text() {
    let bytes = [
        implicit(Tag(0x0009, 0x0010), b"MAKER "),
        implicit(Tag(0x0009, 0x1001), b"\x01\x02"),
        implicit(Tag(0x0009, 0x0000), &[1, 0, 0, 0]),
    ]
    .concat();
    let scan = scan(&bytes, IMPLICIT);
    assert_eq!(scan.header.string(Tag(0x0009, 0x0010)), Some("MAKER"));
    assert_eq!(scan.header.get(Tag(0x0009, 0x1001)).unwrap().vr, VR::UN);
    assert_eq!(kinds(&scan), [ProblemKind::OutOfOrder]);
    assert_eq!(scan.header.len(), 2, "no Group Length");
}

#[test]
fn the_first_element_tells_when_the_transfer_syntax_is_not_what_was_said() {
    let with = [
        explicit(Tag(0x0008, 0x0016), VR::UI, b"1.2\0"),
        explicit(ID, VR::LO, b"4711"),
    ]
    .concat();
    let without = [implicit(Tag(0x0008, 0x0016), b"1.2\0"), implicit(ID, b"4711")].concat();
    let big = [
        &b"\x00\x08\x00\x16UI\x00\x041.2\0"[..],
        b"\x00\x10\x00\x20LO\x00\x044711",
    ]
    .concat();
    for (bytes, said, kind) in [
        (&with, IMPLICIT, ProblemKind::ExplicitInImplicit),
        (&with, BIG, ProblemKind::WrongByteOrder),
        (&without, EXPLICIT, ProblemKind::ImplicitInExplicit),
        (&without, JPEG, ProblemKind::ImplicitInExplicit),
        (&big, EXPLICIT, ProblemKind::WrongByteOrder),
    ] {
        let scan = scan(bytes, said);
        assert_eq!(kinds(&scan), [kind]);
        assert_eq!(scan.header.string(ID), Some("4711"));
        assert!(scan.complete);
    }
    // The same in an item.
    let item = explicit(SEQUENCE, VR::SQ, &implicit(ITEM, &without));
    let scan = scan(&item, EXPLICIT);
    assert_eq!(scan.header.items(SEQUENCE)[0].string(ID), Some("4711"));
}

#[test]
fn big_endian_numbers_become_little_endian() {
    let bytes = [
        &b"\x00\x28\x00\x10US\x00\x02\x01\x02"[..],
        b"\x00\x28\x00\x09AT\x00\x04\x00\x18\x10\x63",
        b"\x00\x40\x92\x25FD\x00\x08\x3f\xf0\0\0\0\0\0\0",
    ]
    .concat();
    let scan = scan(&bytes, BIG);
    assert_eq!(scan.header.u16(Tag(0x0028, 0x0010)), Some(0x102));
    assert_eq!(
        scan.header.get(Tag(0x0028, 0x0009)).unwrap().bytes(),
        [0x18, 0, 0x63, 0x10]
    );
    assert_eq!(
        scan.header.get(Tag(0x0040, 0x9225)).unwrap().bytes(),
        1_f64.to_le_bytes()
    );
}

#[test]
fn unknown_vrs_are_passed_by_their_length() {
    let after = explicit(ID, VR::LO, b"4711");
    let before = explicit(Tag(0x0008, 0x0060), VR::CS, b"CT");
    for odd in [
        // Short form: no letters.
        &b"\x10\x00\x10\x00??\x04\x00A^B "[..],
        b"\x10\x00\x10\x00  \x04\x00A^B ",
        b"\x10\x00\x10\x00\0\0\x04\x00A^B ",
        // Long form: what a VR yet to come would have (PS3.5 6.2.2).
        b"\x10\x00\x10\x00ZZ\0\0\x04\0\0\0A^B ",
        // Letters, and a length where nothing may be.
        b"\x10\x00\x10\x00ZZ\x04\x00A^B ",
        // No VR.
        b"\x10\x00\x10\x00\x04\0\0\0A^B ",
    ] {
        let scan = scan(&[&before, odd, &after].concat(), EXPLICIT);
        assert_eq!(kinds(&scan), [ProblemKind::UnknownVr], "{odd:?}");
        assert_eq!(scan.header.string(NAME), Some("A^B"), "{odd:?}");
        assert_eq!(scan.header.string(ID), Some("4711"), "{odd:?}");
        assert!(scan.complete);
    }
}

#[test]
fn elements_out_of_order_are_sorted_and_a_late_character_set_counts() {
    let bytes = [
        explicit(ID, VR::LO, b"1 "),
        explicit(NAME, VR::PN, b"M\xfcller"),
        explicit(CHARSET, VR::CS, b"ISO_IR 144"),
        explicit(ID, VR::LO, b"2 "),
    ]
    .concat();
    let scan = scan(&bytes, EXPLICIT);
    assert_eq!(kinds(&scan), [ProblemKind::OutOfOrder]);
    assert_eq!(
        scan.header.iter().map(|e| e.tag).collect::<Vec<_>>(),
        [CHARSET, NAME, ID]
    );
    assert_eq!(scan.header.string(NAME), Some("Mќller"));
    assert_eq!(scan.header.string(ID), Some("2"), "the last one counts");
}

#[test]
fn an_item_has_the_character_set_of_its_own_or_that_around_it() {
    let own = [
        explicit(CHARSET, VR::CS, b"ISO_IR 100"),
        explicit(NAME, VR::PN, b"M\xfcller"),
    ]
    .concat();
    let items = [
        implicit(ITEM, &own),
        implicit(ITEM, &explicit(NAME, VR::PN, b"M\xfcller")),
    ]
    .concat();
    let bytes = [
        explicit(CHARSET, VR::CS, b"ISO_IR 144"),
        explicit(SEQUENCE, VR::SQ, &items),
        explicit(NAME, VR::PN, b"M\xfcller"),
    ]
    .concat();
    let header = parse(&bytes, EXPLICIT).unwrap();
    assert_eq!(header.items(SEQUENCE)[0].string(NAME), Some("Müller"));
    assert_eq!(header.items(SEQUENCE)[1].string(NAME), Some("Mќller"));
    assert_eq!(header.string(NAME), Some("Mќller"));
    assert_eq!(header.string(CHARSET), Some("ISO_IR 144"));
}

#[test]
fn missing_and_stray_delimiters_are_bridged() {
    let name = explicit(NAME, VR::PN, b"A^B ");
    let id = explicit(ID, VR::LO, b"4711");
    let open = header(SEQUENCE, VR::SQ, UNDEFINED);
    let end = implicit(SEQUENCE_END, b"");
    let stray = implicit(ITEM_END, b"");
    for (bytes, kind) in [
        // No delimiter of the item; none of the sequence behind an item of defined length.
        (
            [&open[..], &open_item(), &name, &end, &id].concat(),
            ProblemKind::MissingDelimiter,
        ),
        (
            [&open[..], &implicit(ITEM, &name), &id].concat(),
            ProblemKind::MissingDelimiter,
        ),
        // Delimiters where lengths are defined.
        (
            [
                &open[..],
                &implicit(ITEM, &[&name[..], &stray].concat()),
                &end,
                &id,
            ]
            .concat(),
            ProblemKind::StrayDelimiter,
        ),
        (
            [
                explicit(SEQUENCE, VR::SQ, &implicit(ITEM, &name)),
                end.clone(),
                id.clone(),
            ]
            .concat(),
            ProblemKind::StrayDelimiter,
        ),
        // A length that reaches out of its item.
        (
            [
                explicit(
                    SEQUENCE,
                    VR::SQ,
                    &implicit(ITEM, &[&name[..], &header(ID, VR::LO, 90)].concat()),
                ),
                id.clone(),
            ]
            .concat(),
            ProblemKind::LengthBeyondParent,
        ),
        // Three bytes that are no element.
        (
            [
                explicit(SEQUENCE, VR::SQ, &implicit(ITEM, &[&name[..], b"abc"].concat())),
                id.clone(),
            ]
            .concat(),
            ProblemKind::LengthBeyondParent,
        ),
        // An element where an item must be.
        (
            [
                explicit(SEQUENCE, VR::SQ, &[&implicit(ITEM, &name)[..], &id].concat()),
                id.clone(),
            ]
            .concat(),
            ProblemKind::Unreadable,
        ),
    ] {
        let scan = scan(&bytes, EXPLICIT);
        assert!(kinds(&scan).contains(&kind), "{kind:?}: {:?}", scan.problems);
        assert!(scan.complete, "{kind:?}");
        assert_eq!(
            scan.header.items(SEQUENCE)[0].string(NAME),
            Some("A^B"),
            "{kind:?}"
        );
        assert_eq!(scan.header.string(ID), Some("4711"), "{kind:?}");
    }
}

#[test]
fn odd_lengths_and_zeros_at_the_end_are_taken() {
    for zeros in [1, 7, 8, 9, 500] {
        let bytes = [
            explicit(NAME, VR::PN, b"A^B"),
            explicit(ID, VR::LO, b"4711"),
            vec![0; zeros],
        ]
        .concat();
        let scan = scan(&bytes, EXPLICIT);
        assert_eq!(kinds(&scan), [ProblemKind::OddLength, ProblemKind::TrailingZeros]);
        assert!(scan.complete);
        assert_eq!(scan.header.string(NAME), Some("A^B"));
        assert_eq!(scan.header.string(ID), Some("4711"));
    }
    let garbage = [explicit(ID, VR::LO, b"4711"), vec![0; 8], vec![1]].concat();
    assert!(!scan(&garbage, EXPLICIT).complete);
}

#[test]
fn what_is_no_data_set_is_an_error_and_an_empty_one_is_not() {
    for bytes in [&b"<html>"[..], b"\xfe\xff\x00\xe0\xff\xff\xff\xff", &[b'A'; 100]] {
        assert!(scan_in_pieces(bytes, EXPLICIT, 100).is_err());
    }
    assert!(scan(b"", EXPLICIT).complete);
}

#[test]
fn damage_of_a_deflated_stream_is_told_whatever_the_pieces_though_not_the_same_may_come_before_it() {
    let mut damaged = vec![0x0A, 0xC2, 0xC2, 0x78, 0x01, 0xC3];
    damaged.resize(205, 0xA3);
    damaged.push(0xC2);
    damaged.resize(384, 0xA3);
    damaged.extend([0xC2, 0x00, 0xA3]);
    for piece in [1, 7, damaged.len()] {
        let scan = scan_in_pieces(&damaged, DEFLATED, piece).unwrap();
        assert!(!scan.complete);
        let kinds: Vec<_> = scan.problems.iter().map(|problem| problem.kind).collect();
        assert!(kinds.contains(&ProblemKind::NotInflatable), "{kinds:?}");
    }
}
