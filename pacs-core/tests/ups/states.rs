//! Creating, updating and the state machine (CC.1.1, CC.2.1, CC.2.2, CC.2.5, CC.2.6).

use super::*;

use pacs_core::workflow::ups::{ChangeKind, Subscription, Warning};

/// What is asked of a step.
#[derive(Clone, Copy, Debug)]
enum Ask {
    /// Change the state, with the right Transaction UID, a wrong one, or none.
    Change(State, Transaction),
    Cancel,
    Set(Transaction),
    /// Set Procedure Step State itself.
    SetState,
    Create,
    Get,
}

#[derive(Clone, Copy, Debug)]
enum Transaction {
    Right,
    Wrong,
    None,
}

use Ask::{Cancel, Change, Create, Get, Set, SetState};
use State::{Canceled, Completed, InProgress, Scheduled};
use Transaction::{Right, Wrong};

/// Each request and its status where there is no step, and where it is SCHEDULED, IN PROGRESS, COMPLETED, CANCELED:
/// table CC.1.1-2, CC.2.6-1, CC.2.7-1.
const STATUSES: &[(Ask, [u16; 5])] = &[
    (Create, [0x0000, 0x0111, 0x0111, 0x0111, 0x0111]),
    (Get, [0xC307, 0x0000, 0x0000, 0x0000, 0x0000]),
    (
        Change(InProgress, Right),
        [0xC307, 0x0000, 0xC302, 0xC300, 0xC300],
    ),
    // A SCHEDULED step takes any Transaction UID.
    (
        Change(InProgress, Wrong),
        [0xC307, 0x0000, 0xC301, 0xC301, 0xC301],
    ),
    (
        Change(InProgress, Transaction::None),
        [0xC307, 0xC301, 0xC301, 0xC301, 0xC301],
    ),
    (Change(Scheduled, Right), [0xC307, 0xC303, 0xC303, 0xC303, 0xC303]),
    (
        Change(Scheduled, Transaction::None),
        [0xC307, 0xC303, 0xC303, 0xC303, 0xC303],
    ),
    (Change(Completed, Right), [0xC307, 0xC310, 0x0000, 0xB306, 0xC300]),
    (Change(Completed, Wrong), [0xC307, 0xC310, 0xC301, 0xC301, 0xC301]),
    (
        Change(Completed, Transaction::None),
        [0xC307, 0xC301, 0xC301, 0xC301, 0xC301],
    ),
    (Change(Canceled, Right), [0xC307, 0xC310, 0x0000, 0xC300, 0xB304]),
    (Change(Canceled, Wrong), [0xC307, 0xC310, 0xC301, 0xC301, 0xC301]),
    (
        Change(Canceled, Transaction::None),
        [0xC307, 0xC301, 0xC301, 0xC301, 0xC301],
    ),
    // Nobody is subscribed, so that nobody would hear of it.
    (Cancel, [0xC307, 0x0000, 0xC312, 0xC311, 0xB304]),
    (Set(Right), [0xC307, 0xC310, 0x0000, 0xC300, 0xC300]),
    (Set(Wrong), [0xC307, 0xC310, 0xC301, 0xC300, 0xC300]),
    (Set(Transaction::None), [0xC307, 0x0000, 0xC301, 0xC300, 0xC300]),
    (SetState, [0xC307, 0xC303, 0xC303, 0xC300, 0xC300]),
];

fn ask(ups: &Ups, uid: &Uid, what: Ask) -> u16 {
    let uid_of = |transaction| match transaction {
        Right => Some(TRANSACTION),
        Wrong => Some(OTHER_TRANSACTION),
        Transaction::None => None,
    };
    block_on(async {
        match what {
            Change(state, transaction) => {
                status(&ups.change_state(uid, state, uid_of(transaction).as_ref()).await)
            }
            Cancel => status(&ups.request_cancel(uid, &title("ASKING"), &DataSet::new()).await),
            Set(transaction) => {
                let mut set = DataSet::new();
                set.put_text(tags::PROCEDURE_STEP_LABEL, VR::LO, "Another label");
                status(&ups.set(uid, uid_of(transaction).as_ref(), set).await)
            }
            SetState => {
                let mut set = DataSet::new();
                set.put_text(tags::PROCEDURE_STEP_STATE, VR::CS, "SCHEDULED");
                let step = ups.get(uid).await.unwrap_or_default();
                let is_claimed = step.string(tags::PROCEDURE_STEP_STATE) == Some("IN PROGRESS");
                status(&ups.set(uid, is_claimed.then_some(&TRANSACTION), set).await)
            }
            Create => status(&ups.create(Some(*uid), step()).await),
            Get => ups
                .get(uid)
                .await
                .map_or_else(|error| refusal(&error).status(), |_| 0),
        }
    })
}

#[test]
fn each_request_in_each_state_is_answered_as_the_tables_say_and_what_is_refused_changes_nothing() {
    for (request, statuses) in STATUSES {
        for (at, expected) in statuses.iter().enumerate() {
            let ups = in_memory();
            let before = at.checked_sub(1).map(|at| State::ALL[at]);
            let uid = before.map_or(Uid::constant("1.2.404"), |state| in_state(&ups, state));
            let was = block_on(ups.get(&uid)).ok();
            let answered = ask(&ups, &uid, *request);
            assert_eq!(answered, *expected, "{request:?} in {before:?}: {answered:04X}");
            let is = block_on(ups.get(&uid)).ok();
            let changes = answered == 0 && !matches!(request, Get);
            assert_eq!(was != is, changes, "{request:?} in {before:?}");
            if let (Change(state, _), 0) = (request, answered) {
                assert_eq!(state_of(&ups, &uid), *state);
            }
        }
    }
}

#[test]
fn a_final_state_needs_what_its_table_requires_and_names_what_is_missing() {
    let ups = in_memory();
    let claimed = |ups: &Ups| {
        let uid = in_state(ups, Scheduled);
        block_on(ups.change_state(&uid, InProgress, Some(&TRANSACTION))).unwrap();
        uid
    };
    let refused = |uid: &Uid, state| {
        let error = block_on(ups.change_state(uid, state, Some(&TRANSACTION))).unwrap_err();
        assert_eq!(refusal(&error), Refusal::FinalStateRequirements);
        error.tags().to_vec()
    };
    let uid = claimed(&ups);
    assert_eq!(
        refused(&uid, Completed),
        [tags::UNIFIED_PROCEDURE_STEP_PERFORMED_PROCEDURE_SEQUENCE]
    );
    assert_eq!(
        refused(&uid, Canceled),
        [tags::PROCEDURE_STEP_DISCONTINUATION_REASON_CODE_SEQUENCE]
    );
    for tag in [
        tags::PERFORMED_STATION_NAME_CODE_SEQUENCE,
        tags::PERFORMED_PROCEDURE_STEP_START_DATE_TIME,
        tags::PERFORMED_WORKITEM_CODE_SEQUENCE,
        tags::PERFORMED_PROCEDURE_STEP_END_DATE_TIME,
        tags::OUTPUT_INFORMATION_SEQUENCE,
    ] {
        let sequence = tags::UNIFIED_PROCEDURE_STEP_PERFORMED_PROCEDURE_SEQUENCE;
        let mut set = performed();
        let mut item = set.items(sequence)[0].clone();
        item.remove(tag);
        set.put_items(sequence, vec![item]);
        block_on(ups.set(&uid, Some(&TRANSACTION), set)).unwrap();
        assert_eq!(refused(&uid, Completed), [tag]);
        assert_eq!(state_of(&ups, &uid), InProgress);
    }
    // What COMPLETED needs, CANCELED doesn't; when it was canceled is filled in.
    block_on(ups.set(&uid, Some(&TRANSACTION), discontinued())).unwrap();
    block_on(ups.change_state(&uid, Canceled, Some(&TRANSACTION))).unwrap();
    let step = block_on(ups.get(&uid)).unwrap();
    let progress = &step.items(tags::PROCEDURE_STEP_PROGRESS_INFORMATION_SEQUENCE)[0];
    assert!(
        progress
            .string(tags::PROCEDURE_STEP_CANCELLATION_DATE_TIME)
            .is_some()
    );
}

#[test]
fn a_step_that_is_scheduled_and_asked_to_be_canceled_is_canceled_through_in_progress_with_the_reason() {
    let ups = in_memory();
    let uid = in_state(&ups, Scheduled);
    let watcher = title("WATCHER");
    block_on(ups.subscribe(&watcher, &Subscription::Step(uid), false)).unwrap();
    let mut why = DataSet::new();
    why.put_text(tags::REASON_FOR_CANCELLATION, VR::LT, "ordered twice");
    block_on(ups.request_cancel(&uid, &title("ASKING"), &why)).unwrap();
    let told = block_on(ups.events(&watcher, 10)).unwrap();
    let states: Vec<_> = told
        .iter()
        .map(|queued| {
            queued
                .event
                .attributes
                .string(tags::PROCEDURE_STEP_STATE)
                .unwrap_or_default()
        })
        .collect();
    // Between its state and the next one it is told that somebody asked.
    assert_eq!(states, ["SCHEDULED", "", "IN PROGRESS", "CANCELED"]);
    assert_eq!(
        told[1].event.attributes.string(tags::REQUESTING_AE),
        Some("ASKING")
    );
    let last = &told[3].event.attributes;
    assert_eq!(last.string(tags::REASON_FOR_CANCELLATION), Some("ordered twice"));
    let code = &last.items(tags::PROCEDURE_STEP_DISCONTINUATION_REASON_CODE_SEQUENCE)[0];
    assert_eq!(code.string(tags::CODE_VALUE), Some("110513"));
}

#[test]
fn what_is_created_has_what_is_required_or_is_refused_with_the_attribute() {
    let ups = in_memory();
    let refused = |change: &dyn Fn(&mut DataSet)| {
        let mut set = step();
        change(&mut set);
        let error = block_on(ups.create(None, set)).unwrap_err();
        (refusal(&error).status(), error.tags().to_vec())
    };
    for tag in [
        tags::PROCEDURE_STEP_STATE,
        tags::PROCEDURE_STEP_LABEL,
        tags::SCHEDULED_PROCEDURE_STEP_PRIORITY,
        tags::SCHEDULED_PROCEDURE_STEP_START_DATE_TIME,
        tags::INPUT_READINESS_STATE,
    ] {
        assert_eq!(refused(&|set| _ = set.remove(tag)), (0x0120, vec![tag]));
        assert_eq!(refused(&|set| set.put_text(tag, VR::LO, "")), (0x0121, vec![tag]));
    }
    let bad: &[(Tag, VR, &str, u16)] = &[
        (tags::PROCEDURE_STEP_STATE, VR::CS, "IN PROGRESS", 0xC309),
        (tags::TRANSACTION_UID, VR::UI, "1.2.3", 0x0106),
        (tags::SCHEDULED_PROCEDURE_STEP_PRIORITY, VR::CS, "SOON", 0x0106),
        (
            tags::SCHEDULED_PROCEDURE_STEP_START_DATE_TIME,
            VR::DT,
            "tomorrow",
            0x0106,
        ),
        (tags::INPUT_READINESS_STATE, VR::CS, "PERHAPS", 0x0106),
        (tags::STUDY_INSTANCE_UID, VR::UI, "a.b", 0x0106),
        (tags::SOP_INSTANCE_UID, VR::UI, "1.2.840.10008.5.1.4.34.5", 0x0106),
    ];
    for (tag, vr, value, status) in bad {
        let answer = refused(&|set| set.put_text(*tag, *vr, *value));
        assert_eq!(answer, (*status, vec![*tag]));
    }
    let performed = tags::UNIFIED_PROCEDURE_STEP_PERFORMED_PROCEDURE_SEQUENCE;
    let answer = refused(&|set| set.put_items(performed, vec![code("1")]));
    assert_eq!(answer, (0x0106, vec![performed]));
    // Within a sequence too.
    let answer = refused(&|set| set.put_items(tags::REFERENCED_REQUEST_SEQUENCE, vec![code("1")]));
    assert_eq!(answer, (0x0120, vec![tags::STUDY_INSTANCE_UID]));
    assert_eq!(block_on(ups.create(None, step())).unwrap().warning, None);
}

#[test]
fn what_may_be_empty_and_is_missing_is_added_and_said_so() {
    let ups = in_memory();
    let mut set = step();
    set.remove(tags::SCHEDULED_WORKITEM_CODE_SEQUENCE);
    set.remove(tags::WORKLIST_LABEL);
    let created = block_on(ups.create(None, set)).unwrap();
    assert_eq!(created.warning, Some(Warning::CreatedWithModifications));
    let kept = block_on(ups.get(&created.sop_instance)).unwrap();
    assert!(kept.contains(tags::SCHEDULED_WORKITEM_CODE_SEQUENCE));
    assert!(kept.string(tags::WORKLIST_LABEL).is_some());
    assert!(
        kept.string(tags::SCHEDULED_PROCEDURE_STEP_MODIFICATION_DATE_TIME)
            .is_some()
    );
    assert_eq!(
        kept.string(tags::SOP_CLASS_UID),
        Some("1.2.840.10008.5.1.4.34.6.1")
    );
}

#[test]
fn what_is_not_allowed_in_an_update_is_refused_and_nothing_else_of_it_is_set() {
    let ups = in_memory();
    let uid = in_state(&ups, Scheduled);
    for (tag, vr, value) in [
        (tags::PATIENT_NAME, VR::PN, "Other^Name"),
        (tags::PATIENT_ID, VR::LO, "1"),
        (tags::SOP_INSTANCE_UID, VR::UI, "1.2.3"),
        (tags::PROCEDURE_STEP_STATE, VR::CS, "COMPLETED"),
        (tags::SCHEDULED_PROCEDURE_STEP_PRIORITY, VR::CS, "SOON"),
        (tags::PROCEDURE_STEP_LABEL, VR::LO, ""),
    ] {
        let mut set = DataSet::new();
        set.put_text(
            tags::COMMENTS_ON_THE_SCHEDULED_PROCEDURE_STEP,
            VR::LT,
            "a comment",
        );
        set.put_text(tag, vr, value);
        let error = block_on(ups.set(&uid, None, set)).unwrap_err();
        assert_eq!(error.tags(), [tag]);
        let kept = block_on(ups.get(&uid)).unwrap();
        assert_eq!(kept.string(tags::COMMENTS_ON_THE_SCHEDULED_PROCEDURE_STEP), None);
    }
}

#[test]
fn the_transaction_uid_is_given_to_nobody() {
    let ups = in_memory();
    let uid = in_state(&ups, InProgress);
    assert!(!block_on(ups.get(&uid)).unwrap().contains(tags::TRANSACTION_UID));
    let watched = Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = Arc::clone(&watched);
    let _watching = ups.watch(move |change| heard.lock().unwrap().push(change.clone()));
    let mut asked = DataSet::new();
    asked.put_text(tags::TRANSACTION_UID, VR::UI, TRANSACTION.as_str());
    let set = block_on(ups.set(&uid, None, asked)).unwrap();
    assert!(!set.change.unwrap().step.contains(tags::TRANSACTION_UID));
    let watched = watched.lock().unwrap();
    assert_eq!(watched.len(), 1);
    assert_eq!(
        (watched[0].kind, watched[0].state),
        (ChangeKind::Updated, InProgress)
    );
    assert!(!watched[0].step.contains(tags::TRANSACTION_UID));
}

#[test]
fn of_many_who_claim_a_step_at_once_one_gets_it() {
    let ups = in_memory();
    let uid = in_state(&ups, Scheduled);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let claiming: Vec<_> = (10..20)
            .map(|number| {
                let ups = ups.clone();
                scope.spawn(move || {
                    let mine = Uid::parse(&format!("2.25.{number}")).unwrap();
                    status(&block_on(ups.change_state(&uid, InProgress, Some(&mine))))
                })
            })
            .collect();
        claiming.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 0).count(), 1);
    assert_eq!(statuses.iter().filter(|status| **status == 0xC301).count(), 9);
}

#[test]
fn steps_subscriptions_and_events_are_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    let open = || Ups::new(Arc::new(RedbLedger::open(&path).unwrap()) as Arc<dyn Ledger>);
    let uid = {
        let ups = open();
        block_on(ups.subscribe(&title("ALL"), &Subscription::Global, true)).unwrap();
        let uid = in_state(&ups, InProgress);
        block_on(ups.subscribe(&title("ONE"), &Subscription::Step(uid), false)).unwrap();
        uid
    };
    let ups = open();
    assert_eq!(state_of(&ups, &uid), InProgress);
    let before = events(&ups, "ALL");
    // Created, claimed; the discontinuation reason is no progress.
    assert_eq!(before, [EventType::StateReport, EventType::StateReport]);
    assert_eq!(events(&ups, "ONE"), [EventType::StateReport]);
    // Still claimed by the same, and still watched.
    let wrong = block_on(ups.change_state(&uid, Completed, Some(&OTHER_TRANSACTION)));
    assert_eq!(status(&wrong), 0xC301);
    block_on(ups.change_state(&uid, Completed, Some(&TRANSACTION))).unwrap();
    assert_eq!(events(&ups, "ALL").len(), before.len() + 1);
    assert_eq!(events(&ups, "ONE").len(), 2);
    in_state(&ups, Scheduled);
    assert_eq!(events(&ups, "ALL").len(), before.len() + 2);
}
