//! PDUs and P-DATA: held against another implementation, cut and chunked at random, and fed garbage.

use bytes::{Bytes, BytesMut};
use dicom_ul::pdu as other;
use pacs_net::ul::codec::{read_pdu, write_pdu};
use pacs_net::ul::cutter::Cutter;
use pacs_net::ul::decoder::{Decoder, Fragment, Item};
use pacs_net::ul::pdu::*;
use pacs_net::ul::user::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn text_uid() -> impl Strategy<Value = String> {
    "[1-9][0-9]{0,3}(\\.[0-9]{1,5}){1,8}"
}

fn window() -> impl Strategy<Value = AsynchronousWindow> {
    (any::<u16>(), any::<u16>()).prop_map(|(invoked, performed)| AsynchronousWindow { invoked, performed })
}

fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

prop_compose! {
    fn user()(
        maximum_length in any::<u32>(),
        implementation_class_uid in text_uid(),
        implementation_version in "[A-Z0-9_]{0,16}",
        asynchronous in option::of(window()),
        roles in vec((text_uid(), any::<bool>(), any::<bool>()), 0..4),
        extended in vec((text_uid(), bytes(8)), 0..3),
        common in vec((text_uid(), text_uid(), vec(text_uid(), 0..3)), 0..3),
        identity in option::of((1u8..=5, any::<bool>(), bytes(40), bytes(20))),
        identity_response in option::of(bytes(40)),
    ) -> UserInformation {
        UserInformation {
            maximum_length,
            implementation_class_uid,
            implementation_version,
            asynchronous,
            roles: roles.into_iter().map(|(sop_class, scu, scp)| RoleSelection { sop_class, scu, scp }).collect(),
            extended: extended
                .into_iter()
                .map(|(sop_class, information)| ExtendedNegotiation { sop_class, information })
                .collect(),
            common_extended: common
                .into_iter()
                .map(|(sop_class, service_class, related)| CommonExtendedNegotiation { sop_class, service_class, related })
                .collect(),
            identity: identity.map(|(kind, response_requested, primary, secondary)| UserIdentity {
                kind, response_requested, primary, secondary,
            }),
            identity_response,
        }
    }
}

prop_compose! {
    fn rq()(
        called in "[A-Z]{1,16}",
        calling in "[A-Z]{1,16}",
        contexts in vec((any::<u8>(), text_uid(), vec(text_uid(), 0..5)), 0..20),
        user in user(),
    ) -> AssociateRq {
        AssociateRq {
            protocol_version: 1,
            called_ae_title: called,
            calling_ae_title: calling,
            echoed: None,
            application_context: "1.2.840.10008.3.1.1.1".into(),
            contexts: contexts
                .into_iter()
                .map(|(id, abstract_syntax, transfer_syntaxes)| ProposedContext { id, abstract_syntax, transfer_syntaxes })
                .collect(),
            user,
        }
    }
}

prop_compose! {
    fn ac()(
        rq in rq(),
        answers in vec((any::<u8>(), 0u8..5, text_uid()), 0..20),
        called in "[A-Z]{1,16}",
        calling in "[A-Z]{1,16}",
    ) -> AssociateAc {
        use ContextResult::*;
        let results = [Acceptance, UserRejection, NoReason, AbstractSyntaxNotSupported, TransferSyntaxesNotSupported];
        AssociateAc {
            protocol_version: 1,
            // The other implementation reads AE titles there.
            echoed: format!("{called:16}{calling:16}{:\0<32}", "").into_bytes().try_into().unwrap(),
            application_context: rq.application_context,
            contexts: answers
                .into_iter()
                .map(|(id, result, syntax)| ContextAnswer {
                    id,
                    result: results[usize::from(result)],
                    transfer_syntax: syntax,
                })
                .collect(),
            user: rq.user,
        }
    }
}

/// What the other implementation reads of the user information, as far as it knows it.
fn compare_user(ours: &UserInformation, theirs: &[other::UserVariableItem]) {
    use other::UserVariableItem as V;
    let mut roles = ours.roles.iter();
    let mut extended = ours.extended.iter();
    for item in theirs {
        match item {
            V::MaxLength(length) => assert_eq!(*length, ours.maximum_length),
            V::ImplementationClassUID(uid) => assert_eq!(*uid, ours.implementation_class_uid),
            V::ImplementationVersionName(name) => assert_eq!(*name, ours.implementation_version),
            V::ScuScpRoleSelectionSubItem(uid, answer) => {
                let role = roles.next().unwrap();
                assert_eq!(
                    (uid, answer.scu, answer.scp),
                    (&role.sop_class, role.scu, role.scp)
                );
            }
            V::SopClassExtendedNegotiationSubItem(uid, data) => {
                let item = extended.next().unwrap();
                assert_eq!((uid, &data[..]), (&item.sop_class, &item.information[..]));
            }
            V::UserIdentityItem(identity) => {
                let ours = ours.identity.as_ref().unwrap();
                assert_eq!(identity.primary_field(), ours.primary);
                assert_eq!(identity.secondary_field(), ours.secondary);
                assert_eq!(identity.positive_response_requested(), ours.response_requested);
            }
            _ => {}
        }
    }
    assert!(roles.next().is_none() && extended.next().is_none());
}

/// Writes with ours, reads with the other; then writes what it read, and reads that with ours.
fn through_other(pdu: &Pdu) -> (other::Pdu, Pdu) {
    let written = write_pdu(pdu).unwrap();
    let read = other::read_pdu(&written[..], u32::MAX - 7, true)
        .unwrap()
        .unwrap();
    let mut rewritten = Vec::new();
    other::write_pdu(&mut rewritten, &read).unwrap();
    let reread = read_pdu(rewritten[0], &rewritten[6..]).unwrap();
    (read, reread)
}

/// The order of sub-items is free, and the other implementation drops identities of kinds it doesn't
/// know, as well as an empty user information.
fn forget_what_it_drops(user: &mut UserInformation) {
    if user.identity.as_ref().is_some_and(|identity| identity.kind > 5) {
        user.identity = None;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn a_request_reads_the_same_here_and_in_another_implementation(rq in rq()) {
        let pdu = Pdu::AssociateRq(Box::new(rq.clone()));
        let written = write_pdu(&pdu).unwrap();
        let Pdu::AssociateRq(read) = read_pdu(written[0], &written[6..]).unwrap() else { panic!("another PDU") };
        prop_assert_eq!(&AssociateRq { echoed: None, ..*read }, &rq);
        let (theirs, back) = through_other(&pdu);
        let other::Pdu::AssociationRQ(theirs) = theirs else { panic!("another PDU") };
        prop_assert_eq!(&theirs.called_ae_title, &rq.called_ae_title);
        prop_assert_eq!(&theirs.calling_ae_title, &rq.calling_ae_title);
        for (theirs, ours) in theirs.presentation_contexts.iter().zip(&rq.contexts) {
            prop_assert_eq!(theirs.id, ours.id);
            prop_assert_eq!(&theirs.abstract_syntax, &ours.abstract_syntax);
            prop_assert_eq!(&theirs.transfer_syntaxes, &ours.transfer_syntaxes);
        }
        compare_user(&rq.user, &theirs.user_variables);
        let mut expected = rq;
        forget_what_it_drops(&mut expected.user);
        let Pdu::AssociateRq(back) = back else { panic!("another PDU") };
        prop_assert_eq!(AssociateRq { echoed: None, ..*back }, expected);
    }

    #[test]
    fn an_answer_reads_the_same_here_and_in_another_implementation(ac in ac()) {
        let mut expected = ac.clone();
        for context in &mut expected.contexts {
            if context.result != ContextResult::Acceptance {
                context.transfer_syntax = String::new();
            }
        }
        let pdu = Pdu::AssociateAc(Box::new(ac.clone()));
        let written = write_pdu(&pdu).unwrap();
        prop_assert_eq!(read_pdu(written[0], &written[6..]).unwrap(), Pdu::AssociateAc(Box::new(expected.clone())));
        let (theirs, back) = through_other(&pdu);
        let other::Pdu::AssociationAC(theirs) = theirs else { panic!("another PDU") };
        for (theirs, ours) in theirs.presentation_contexts.iter().zip(&ac.contexts) {
            prop_assert_eq!(theirs.id, ours.id);
            prop_assert_eq!(theirs.reason.clone() as u8, ours.result as u8);
            prop_assert_eq!(&theirs.transfer_syntax, &ours.transfer_syntax);
        }
        compare_user(&ac.user, &theirs.user_variables);
        forget_what_it_drops(&mut expected.user);
        prop_assert_eq!(back, Pdu::AssociateAc(Box::new(expected)));
    }

    #[test]
    fn messages_survive_any_cutting_and_chunking(
        messages in vec((bytes(300), option::of(vec(bytes(5000), 0..6))), 1..5),
        maximum_length in prop_oneof![8u32..64, 64u32..20_000, Just(u32::MAX)],
        chunks in vec(1usize..4000, 1..20),
    ) {
        let mut wire = Vec::new();
        for (command, data) in &messages {
            let mut cutter = Cutter::new(5, maximum_length);
            cutter.command(command.clone());
            if let Some(data) = data {
                for piece in data {
                    cutter.data(piece.clone());
                }
                cutter.end_data();
            }
            for piece in cutter.take_ready() {
                wire.extend_from_slice(&piece);
            }
        }
        let mut decoder = Decoder::new(maximum_length);
        let mut got: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::new();
        let mut command = Vec::new();
        let mut data = Vec::new();
        let mut in_data = false;
        let mut rest = &wire[..];
        for length in chunks.iter().cycle() {
            let length = (*length).min(rest.len());
            decoder.buffer().extend_from_slice(&rest[..length]);
            rest = &rest[length..];
            while let Some(item) = decoder.next_item().unwrap() {
                let Item::Fragment(fragment) = item else { panic!("another PDU") };
                prop_assert_eq!(fragment.context_id, 5);
                prop_assert!(fragment.last || !fragment.data.is_empty());
                if fragment.command {
                    command.extend_from_slice(&fragment.data);
                    if fragment.last {
                        got.push((std::mem::take(&mut command), None));
                    }
                } else {
                    in_data = true;
                    data.extend_from_slice(&fragment.data);
                    if fragment.last {
                        got.last_mut().unwrap().1 = Some(std::mem::take(&mut data));
                        in_data = false;
                    }
                }
            }
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(decoder.is_at_rest() && !in_data);
        let sent: Vec<_> = messages
            .into_iter()
            .map(|(command, data)| (command.to_vec(), data.map(|pieces| pieces.concat())))
            .collect();
        prop_assert_eq!(got, sent);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(
        starts in vec((0u8..9, any::<bool>(), bytes(400)), 1..6),
        maximum_length in prop_oneof![Just(0u32), 1u32..2000],
    ) {
        let mut decoder = Decoder::new(maximum_length);
        let mut wire = BytesMut::new();
        for (kind, honest, body) in starts {
            // Half of the PDUs have a right length, so that what is behind it is reached.
            let length = if honest { body.len() as u32 } else { u32::from(kind) * 77 };
            wire.extend_from_slice(&[kind, 0]);
            wire.extend_from_slice(&length.to_be_bytes());
            wire.extend_from_slice(&body);
        }
        for chunk in wire.chunks(33) {
            decoder.buffer().extend_from_slice(chunk);
            loop {
                match decoder.next_item() {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => return Ok(()),
                }
            }
        }
    }

    #[test]
    fn a_damaged_association_pdu_is_read_or_refused(rq in rq(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut written = write_pdu(&Pdu::AssociateRq(Box::new(rq))).unwrap().to_vec();
        let at = at.index(written.len() - 6) + 6;
        written[at] = to;
        let _ = read_pdu(1, &written[6..]);
        let _ = read_pdu(2, &written[6..]);
        let _ = read_pdu(1, &written[6..at]);
    }
}

#[test]
fn every_pdu_sent_fits_the_peers_maximum_and_is_of_even_length() {
    for maximum_length in [8, 9, 10, 100, 16_384, 131_072] {
        let mut cutter = Cutter::new(1, maximum_length);
        cutter.command(Bytes::from(vec![0; 201]));
        for length in [1, 99_999, 0, 7] {
            cutter.data(Bytes::from(vec![1; length]));
        }
        cutter.end_data();
        let wire = cutter.take_ready().concat();
        let mut at = 0;
        while at < wire.len() {
            let length = u32::from_be_bytes(wire[at + 2..at + 6].try_into().unwrap());
            assert!(length <= maximum_length);
            at += 6 + length as usize;
            assert!(at == wire.len() || length % 2 == 0 || wire[at - length as usize + 5] & 2 != 0);
        }
        assert_eq!(at, wire.len());
    }
}

#[test]
fn an_empty_data_set_is_one_empty_last_fragment() {
    let mut cutter = Cutter::new(3, 100);
    cutter.command(Bytes::from_static(b"cc"));
    cutter.end_data();
    let mut decoder = Decoder::new(100);
    decoder.buffer().extend_from_slice(&cutter.take_ready().concat());
    let fragment = |command, data: &'static [u8]| {
        Item::Fragment(Fragment {
            context_id: 3,
            command,
            last: true,
            data: Bytes::from_static(data),
        })
    };
    assert_eq!(decoder.next_item(), Ok(Some(fragment(true, b"cc"))));
    assert_eq!(decoder.next_item(), Ok(Some(fragment(false, b""))));
    assert_eq!(decoder.next_item(), Ok(None));
    assert!(decoder.is_at_rest());
}

#[test]
fn a_length_is_refused_before_its_bytes_are_awaited() {
    let cases: [(&str, &[u8], Abort); 8] = [
        ("unknown type", &[8], Abort::UNRECOGNIZED_PDU),
        ("type 0", &[0], Abort::UNRECOGNIZED_PDU),
        (
            "4 GiB request",
            &[1, 0, 255, 255, 255, 255],
            Abort::INVALID_PARAMETER,
        ),
        (
            "P-DATA above our maximum",
            &[4, 0, 0, 0, 4, 1],
            Abort::INVALID_PARAMETER,
        ),
        (
            "P-DATA without a PDV",
            &[4, 0, 0, 0, 0, 5],
            Abort::INVALID_PARAMETER,
        ),
        ("long release", &[5, 0, 0, 0, 0, 5], Abort::INVALID_PARAMETER),
        (
            "PDV beyond its PDU",
            &[4, 0, 0, 0, 0, 10, 0, 0, 0, 7, 1, 3],
            Abort::INVALID_PARAMETER,
        ),
        (
            "PDV of length 1",
            &[4, 0, 0, 0, 0, 10, 0, 0, 0, 1, 1, 3],
            Abort::INVALID_PARAMETER,
        ),
    ];
    for (name, wire, abort) in cases {
        let mut decoder = Decoder::new(1024);
        decoder.buffer().extend_from_slice(wire);
        assert_eq!(decoder.next_item().unwrap_err().abort, abort, "{name}");
    }
}

#[test]
fn a_long_pdu_takes_no_memory_beyond_the_read_buffer() {
    let mut decoder = Decoder::new(0);
    decoder
        .buffer()
        .extend_from_slice(&[4, 0, 255, 255, 255, 255, 255, 255, 255, 251, 1, 0]);
    let mut taken = 0usize;
    for _ in 0..1000 {
        let buffer = decoder.buffer();
        let room = buffer.capacity() - buffer.len();
        assert!(buffer.capacity() <= 512 * 1024);
        buffer.resize(buffer.len() + room.min(100_000), 7);
        while let Ok(Some(Item::Fragment(fragment))) = decoder.next_item() {
            taken += fragment.data.len();
        }
    }
    assert!(taken > 10_000_000);
}

#[test]
fn a_decoder_at_rest_gives_its_buffer_back() {
    let mut decoder = Decoder::new(0);
    for _ in 0..10 {
        let buffer = decoder.buffer();
        let room = buffer.capacity();
        buffer.resize(room, 0);
        buffer.clear();
        decoder.note_read(room);
    }
    assert!(decoder.buffer().capacity() >= 64 * 1024);
    decoder.shrink();
    assert!(decoder.buffer().capacity() <= 8 * 1024);
}
