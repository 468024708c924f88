//! What is answered to proposals, as a table.

mod support;

use bytes::Bytes;
use pacs_net::transport::Negotiated;
use pacs_net::ul::negotiate::{AcceptPolicy, ContextRule};
use pacs_net::ul::pdu::*;
use pacs_net::ul::state::Role;
use pacs_net::ul::user::*;
use support::*;

const MR: &str = "1.2.840.10008.5.1.4.1.1.4";

fn request(contexts: &[(u8, &str, &[&str])]) -> AssociateRq {
    let mut rq = proposal().request().clone();
    rq.contexts = contexts
        .iter()
        .map(|(id, abstract_syntax, transfer_syntaxes)| ProposedContext {
            id: *id,
            abstract_syntax: (*abstract_syntax).to_owned(),
            transfer_syntaxes: transfer_syntaxes
                .iter()
                .map(|syntax| (*syntax).to_owned())
                .collect(),
        })
        .collect();
    rq
}

#[test]
fn each_context_is_answered_by_its_rule() {
    use ContextResult::*;
    let strict = policy();
    let mut open = policy();
    open.other_contexts = Some(ContextRule::as_proposed());
    let (verification, ct) = (VERIFICATION.as_str(), CT.as_str());
    let (implicit, explicit, jpeg) = (IMPLICIT.as_str(), EXPLICIT.as_str(), JPEG.as_str());
    type Case<'a> = (
        &'a str,
        &'a AcceptPolicy,
        &'a str,
        &'a [&'a str],
        ContextResult,
        &'a str,
    );
    let cases: [Case<'_>; 11] = [
        (
            "our order",
            &strict,
            verification,
            &[implicit, explicit],
            Acceptance,
            explicit,
        ),
        (
            "what there is",
            &strict,
            verification,
            &[jpeg, implicit],
            Acceptance,
            implicit,
        ),
        (
            "none of ours",
            &strict,
            verification,
            &[jpeg],
            TransferSyntaxesNotSupported,
            "",
        ),
        (
            "none at all",
            &strict,
            verification,
            &[],
            TransferSyntaxesNotSupported,
            "",
        ),
        ("their order", &strict, ct, &[jpeg, explicit], Acceptance, jpeg),
        ("private syntax", &strict, ct, &["1.2.3.4"], Acceptance, "1.2.3.4"),
        ("no UID", &strict, ct, &["jpeg", "1.2.3.4"], Acceptance, "1.2.3.4"),
        (
            "no rule",
            &strict,
            MR,
            &[implicit],
            AbstractSyntaxNotSupported,
            "",
        ),
        ("rule for others", &open, MR, &[implicit], Acceptance, implicit),
        (
            "no SOP class",
            &open,
            "what?",
            &[implicit],
            AbstractSyntaxNotSupported,
            "",
        ),
        (
            "empty SOP class",
            &open,
            "",
            &[implicit],
            AbstractSyntaxNotSupported,
            "",
        ),
    ];
    for (name, policy, abstract_syntax, proposed, result, chosen) in cases {
        let ac = policy.answer(&request(&[(1, abstract_syntax, proposed)]));
        assert_eq!(ac.contexts.len(), 1, "{name}");
        assert_eq!(ac.contexts[0].result, result, "{name}");
        if result == Acceptance {
            assert_eq!(ac.contexts[0].transfer_syntax, chosen, "{name}");
        }
    }
}

#[test]
fn a_context_id_that_is_even_or_used_twice_is_refused_alone() {
    let (ct, implicit) = (CT.as_str(), IMPLICIT.as_str());
    let rq = request(&[
        (1, ct, &[implicit]),
        (2, ct, &[implicit]),
        (1, ct, &[implicit]),
        (255, ct, &[implicit]),
    ]);
    let ac = policy().answer(&rq);
    let results: Vec<_> = ac.contexts.iter().map(|context| context.result as u8).collect();
    assert_eq!(results, [0, 2, 2, 0]);
    let negotiated = Negotiated::new(Role::Acceptor, &rq, &ac);
    let ids: Vec<_> = negotiated.contexts.iter().map(|context| context.id).collect();
    assert_eq!(ids, [1, 255]);
}

#[test]
fn a_request_as_a_whole_is_rejected_with_result_source_and_reason() {
    let mut policy = policy();
    policy.ae_titles = vec![title("SCP"), title("OTHER")];
    policy.callers = vec![title("SCU")];
    let good = proposal().request().clone();
    assert_eq!(policy.screen(&good), Ok(()));
    type Change = fn(&mut AssociateRq);
    let cases: [(Change, (u8, u8, u8)); 8] = [
        (|rq| rq.protocol_version = 2, (1, 2, 2)),
        (|rq| rq.application_context = "1.2.3".into(), (1, 1, 2)),
        (|rq| rq.called_ae_title = "scp".into(), (1, 1, 7)),
        (|rq| rq.called_ae_title = String::new(), (1, 1, 7)),
        (|rq| rq.calling_ae_title = "STRANGER".into(), (1, 1, 3)),
        (|rq| rq.calling_ae_title = String::new(), (1, 1, 3)),
        (|rq| rq.user.maximum_length = 4, (1, 1, 1)),
        (|rq| rq.user.maximum_length = 7, (1, 1, 1)),
    ];
    for (change, (result, source, reason)) in cases {
        let mut rq = good.clone();
        change(&mut rq);
        let rejection = Rejection {
            result,
            source,
            reason,
        };
        assert_eq!(policy.screen(&rq), Err(rejection));
    }
    for fine in [0, 8, u32::MAX] {
        let mut rq = good.clone();
        rq.user.maximum_length = fine;
        rq.protocol_version = 3;
        assert_eq!(policy.screen(&rq), Ok(()));
    }
    assert!(Rejection::LOCAL_LIMIT_EXCEEDED.is_transient());
}

#[test]
fn the_window_is_the_smaller_of_what_is_asked_and_our_cap() {
    let cases = [
        (None, (4, 2), None, (1, 1)),
        (Some((8, 8)), (4, 2), Some((4, 2)), (4, 2)),
        (Some((3, 1)), (4, 2), Some((3, 1)), (3, 1)),
        (Some((0, 0)), (4, 2), Some((4, 2)), (4, 2)),
        (Some((8, 8)), (0, 0), Some((1, 1)), (1, 1)),
    ];
    for (asked, (operations, suboperations), answered, (incoming, outgoing)) in cases {
        let window = |(invoked, performed)| AsynchronousWindow { invoked, performed };
        let mut policy = policy();
        policy.operations_max = operations;
        policy.suboperations_max = suboperations;
        let mut rq = proposal().request().clone();
        rq.user.asynchronous = asked.map(window);
        let ac = policy.answer(&rq);
        assert_eq!(ac.user.asynchronous, answered.map(window));
        let acceptor = Negotiated::new(Role::Acceptor, &rq, &ac);
        let requestor = Negotiated::new(Role::Requestor, &rq, &ac);
        assert_eq!(
            (acceptor.incoming_operations, acceptor.outgoing_operations),
            (incoming, outgoing)
        );
        assert_eq!(
            (requestor.outgoing_operations, requestor.incoming_operations),
            (incoming, outgoing)
        );
    }
}

#[test]
fn roles_are_granted_where_asked_and_allowed() {
    // (asked SCU, asked SCP) for CT, where the rule allows both, and for verification: SCU alone.
    let cases = [
        (CT, Some((true, true)), (true, true)),
        (CT, Some((false, true)), (false, true)),
        (CT, None, (true, false)),
        (VERIFICATION, Some((true, true)), (true, false)),
        (VERIFICATION, Some((false, true)), (false, false)),
    ];
    for (sop_class, asked, granted) in cases {
        let mut proposal = proposal();
        if let Some((scu, scp)) = asked {
            proposal = proposal.with_role(sop_class, scu, scp);
        }
        let rq = proposal.request();
        let ac = policy().answer(rq);
        assert_eq!(ac.user.roles.len(), usize::from(asked.is_some()));
        let requestor = Negotiated::new(Role::Requestor, rq, &ac);
        let acceptor = Negotiated::new(Role::Acceptor, rq, &ac);
        assert_eq!(
            requestor.context_for(&sop_class).is_some(),
            granted.0,
            "{sop_class} {asked:?}"
        );
        assert_eq!(
            acceptor.context_for(&sop_class).is_some(),
            granted.1,
            "{sop_class} {asked:?}"
        );
    }
}

#[test]
fn an_acceptor_that_doesnt_answer_roles_leaves_the_default() {
    let rq = proposal().with_role(CT, true, true).request().clone();
    let mut ac = policy().answer(&rq);
    ac.user.roles.clear();
    let requestor = Negotiated::new(Role::Requestor, &rq, &ac);
    let context = requestor.context_for(&CT).unwrap();
    assert!(context.requestor_scu && !context.requestor_scp);
}

#[test]
fn extended_negotiation_is_answered_with_what_both_support() {
    let mut policy = policy();
    policy.extended.insert(FIND, vec![1, 1, 0]);
    let rq = proposal()
        .with_extended(FIND, Bytes::from_static(&[1, 0, 1, 1]))
        .with_extended(CT, Bytes::from_static(&[1]))
        .request()
        .clone();
    let answer = policy.answer(&rq).user.extended;
    assert_eq!(answer.len(), 1);
    assert_eq!(answer[0].sop_class, FIND.as_str());
    assert_eq!(answer[0].information, [1, 0, 0][..]);
}

#[test]
fn answers_that_were_not_asked_for_are_left_out() {
    let rq = request(&[(1, CT.as_str(), &[IMPLICIT.as_str()])]);
    let mut ac = policy().answer(&rq);
    let mut strange = ac.contexts[0].clone();
    strange.id = 3;
    ac.contexts.push(strange);
    assert_eq!(Negotiated::new(Role::Requestor, &rq, &ac).contexts.len(), 1);
    ac.contexts[0].transfer_syntax = EXPLICIT.to_string();
    assert_eq!(Negotiated::new(Role::Requestor, &rq, &ac).contexts.len(), 0);
}
