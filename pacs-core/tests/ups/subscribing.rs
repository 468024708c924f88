//! Subscriptions and events (CC.2.3, CC.2.4).

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use super::*;

use EventType::{Assigned, CancelRequested, ProgressReport, ScpStatusChange, StateReport};
use pacs_core::workflow::ups::{FILTERED_GLOBAL_SUBSCRIPTION, GLOBAL_SUBSCRIPTION, Subscription};

fn subscribe(ups: &Ups, ae: &str, to: &Subscription, lock: bool) {
    block_on(ups.subscribe(&title(ae), to, lock)).unwrap();
}

/// Takes all events that wait for an AE out of its queue.
fn take(ups: &Ups, ae: &str) -> Vec<EventType> {
    block_on(async {
        let queue = ups.queue_of(&title(ae)).await;
        let waiting = queue.next(1000).await.unwrap();
        queue.acknowledge(&waiting).await.unwrap();
        waiting.iter().map(|queued| queued.event.event_type).collect()
    })
}

#[test]
fn each_change_is_told_once_to_each_who_is_subscribed() {
    let ups = in_memory();
    for ae in ["ONE", "TWO"] {
        subscribe(&ups, ae, &Subscription::Global, false);
    }
    let mut assigned = step();
    assigned.put_items(tags::SCHEDULED_STATION_NAME_CODE_SEQUENCE, vec![code("S1")]);
    let uid = block_on(ups.create(None, assigned)).unwrap().sop_instance;
    let mine = Some(&TRANSACTION);
    block_on(async {
        // Assigned to another station.
        let mut set = DataSet::new();
        set.put_items(tags::SCHEDULED_STATION_NAME_CODE_SEQUENCE, vec![code("S2")]);
        ups.set(&uid, None, set).await.unwrap();
        // Set to what it is: nothing is updated.
        let mut set = DataSet::new();
        set.put_text(tags::INPUT_READINESS_STATE, VR::CS, "READY");
        ups.set(&uid, None, set).await.unwrap();
        let mut set = DataSet::new();
        set.put_text(tags::INPUT_READINESS_STATE, VR::CS, "INCOMPLETE");
        ups.set(&uid, None, set).await.unwrap();
        ups.change_state(&uid, State::InProgress, mine).await.unwrap();
        let mut progress = DataSet::new();
        progress.put_text(tags::PROCEDURE_STEP_PROGRESS, VR::DS, "50");
        let mut set = DataSet::new();
        set.put_items(tags::PROCEDURE_STEP_PROGRESS_INFORMATION_SEQUENCE, vec![progress]);
        ups.set(&uid, mine, set).await.unwrap();
        ups.request_cancel(&uid, &title("ASKING"), &DataSet::new())
            .await
            .unwrap();
        ups.set(&uid, mine, performed()).await.unwrap();
        ups.change_state(&uid, State::Completed, mine).await.unwrap();
        // Refused, and done already.
        assert!(ups.change_state(&uid, State::Canceled, mine).await.is_err());
        ups.change_state(&uid, State::Completed, mine).await.unwrap();
    });
    let expected = [
        StateReport,
        Assigned,
        Assigned,
        StateReport,
        StateReport,
        ProgressReport,
        CancelRequested,
        StateReport,
    ];
    for ae in ["ONE", "TWO"] {
        let waiting = block_on(ups.events(&title(ae), 100)).unwrap();
        assert!(waiting.iter().all(|queued| queued.event.sop_instance == uid));
        assert_eq!(take(&ups, ae), expected, "{ae}");
        assert_eq!(take(&ups, ae), [], "what was delivered waits no longer");
    }
}

#[test]
fn who_is_no_longer_assigned_to_a_step_is_told() {
    let ups = in_memory();
    let mut set = step();
    set.put_items(tags::SCHEDULED_STATION_NAME_CODE_SEQUENCE, vec![code("S1")]);
    let uid = block_on(ups.create(None, set)).unwrap().sop_instance;
    subscribe(&ups, "A", &Subscription::Step(uid), false);
    take(&ups, "A");
    let mut nobody = DataSet::new();
    nobody.put_items(tags::SCHEDULED_STATION_NAME_CODE_SEQUENCE, Vec::new());
    block_on(ups.set(&uid, None, nobody)).unwrap();
    let waiting = block_on(ups.events(&title("A"), 10)).unwrap();
    let [told] = &waiting[..] else { panic!() };
    assert_eq!(told.event.event_type, Assigned);
    assert!(told.event.attributes.iter().all(|element| element.is_empty()));
}

#[test]
fn what_an_event_says_is_what_its_table_has() {
    let ups = in_memory();
    let mut set = step();
    let mut performer = DataSet::new();
    performer.put_items(tags::HUMAN_PERFORMER_CODE_SEQUENCE, vec![code("DR1")]);
    performer.put_text(tags::HUMAN_PERFORMER_NAME, VR::PN, "Reader^One");
    performer.put_text(tags::HUMAN_PERFORMER_ORGANIZATION, VR::LO, "Radiology");
    set.put_items(tags::SCHEDULED_HUMAN_PERFORMERS_SEQUENCE, vec![performer]);
    subscribe(&ups, "ALL", &Subscription::Global, false);
    let uid = block_on(ups.create(None, set)).unwrap().sop_instance;
    block_on(ups.change_state(&uid, State::InProgress, Some(&TRANSACTION))).unwrap();
    let mut why = DataSet::new();
    why.put_text(tags::REASON_FOR_CANCELLATION, VR::LT, "not needed");
    why.put_text(tags::CONTACT_URI, VR::UR, "tel:1");
    why.put_text(tags::PATIENT_NAME, VR::PN, "No^Part");
    block_on(ups.request_cancel(&uid, &title("ASKING"), &why)).unwrap();
    let waiting = block_on(ups.events(&title("ALL"), 10)).unwrap();
    let tags_of = |at: usize| -> Vec<Tag> {
        let attributes = &waiting[at].event.attributes;
        attributes.iter().map(|element| element.tag).collect()
    };
    assert_eq!(
        tags_of(0),
        [tags::INPUT_READINESS_STATE, tags::PROCEDURE_STEP_STATE]
    );
    assert_eq!(
        tags_of(1),
        [
            tags::HUMAN_PERFORMER_CODE_SEQUENCE,
            tags::HUMAN_PERFORMER_ORGANIZATION
        ]
    );
    assert_eq!(
        tags_of(3),
        [
            tags::CONTACT_URI,
            tags::REQUESTING_AE,
            tags::REASON_FOR_CANCELLATION
        ]
    );
}

#[test]
fn subscribing_and_unsubscribing_follow_the_table_of_transitions() {
    let ups = in_memory();
    let old = in_state(&ups, State::Scheduled);
    let cancel = |uid: &Uid| block_on(ups.request_cancel(uid, &title("ASKING"), &DataSet::new())).unwrap();
    let one = Subscription::Step(old);

    // A specific one reports the state at once, each time.
    subscribe(&ups, "A", &one, false);
    subscribe(&ups, "A", &one, true);
    assert_eq!(take(&ups, "A"), [StateReport, StateReport]);
    // A global one with a lock reports of all that are there; without one of none.
    subscribe(&ups, "B", &Subscription::Global, true);
    subscribe(&ups, "C", &Subscription::Global, false);
    assert_eq!(take(&ups, "B"), [StateReport]);
    assert_eq!(take(&ups, "C"), []);
    // Who is subscribed already is not told again.
    subscribe(&ups, "A", &Subscription::Global, true);
    assert_eq!(take(&ups, "A"), []);

    let new = in_state(&ups, State::Scheduled);
    for ae in ["A", "B", "C"] {
        assert_eq!(take(&ups, ae), [StateReport], "{ae}");
    }
    // Suspended: what comes is not told, what is there is.
    assert!(block_on(ups.suspend(&title("C"), &GLOBAL_SUBSCRIPTION)).unwrap());
    assert!(!block_on(ups.suspend(&title("C"), &GLOBAL_SUBSCRIPTION)).unwrap());
    let later = in_state(&ups, State::Scheduled);
    assert_eq!(take(&ups, "C"), []);
    cancel(&new);
    assert_eq!(take(&ups, "C"), [CancelRequested, StateReport, StateReport]);
    take(&ups, "B");
    // From one step alone.
    assert!(block_on(ups.unsubscribe(&title("B"), &old)).unwrap());
    assert!(!block_on(ups.unsubscribe(&title("B"), &old)).unwrap());
    cancel(&old);
    assert_eq!(take(&ups, "B"), []);
    // From all, also the specific ones.
    assert!(block_on(ups.unsubscribe(&title("B"), &GLOBAL_SUBSCRIPTION)).unwrap());
    assert!(block_on(ups.unsubscribe(&title("A"), &GLOBAL_SUBSCRIPTION)).unwrap());
    take(&ups, "A");
    cancel(&later);
    in_state(&ups, State::Scheduled);
    assert_eq!((take(&ups, "A"), take(&ups, "B")), (vec![], vec![]));
    assert!(!block_on(ups.unsubscribe(&title("B"), &GLOBAL_SUBSCRIPTION)).unwrap());

    let nowhere = Subscription::Step(Uid::constant("1.2.404"));
    let error = block_on(ups.subscribe(&title("A"), &nowhere, false)).unwrap_err();
    assert_eq!(refusal(&error), Refusal::NoSuchStep);
    let error = block_on(ups.suspend(&title("A"), &old)).unwrap_err();
    assert_eq!(refusal(&error), Refusal::NotAppropriate);
}

#[test]
fn a_filtered_subscription_is_to_those_that_match() {
    let ups = in_memory();
    let with_station = |station: &str| {
        let mut set = step();
        set.put_items(tags::SCHEDULED_STATION_NAME_CODE_SEQUENCE, vec![code(station)]);
        block_on(ups.create(None, set)).unwrap().sop_instance
    };
    let (there, _) = (with_station("CT1"), with_station("MR1"));
    let mut item = DataSet::new();
    item.put_text(tags::CODE_VALUE, VR::SH, "CT1");
    let mut filter = DataSet::new();
    filter.put_items(tags::SCHEDULED_STATION_NAME_CODE_SEQUENCE, vec![item]);
    subscribe(&ups, "CT", &Subscription::Filtered(filter), true);
    let comes = with_station("CT1");
    with_station("MR1");
    let told: Vec<Uid> = block_on(ups.events(&title("CT"), 10))
        .unwrap()
        .iter()
        .filter(|queued| queued.event.event_type == StateReport)
        .map(|queued| queued.event.sop_instance)
        .collect();
    assert_eq!(told, [there, comes]);
    let error = block_on(ups.subscribe(&title("CT"), &Subscription::Filtered(DataSet::new()), false));
    assert_eq!(error.unwrap_err().kind(), pacs_core::ErrorKind::Invalid);
    take(&ups, "CT");
    assert!(block_on(ups.unsubscribe(&title("CT"), &FILTERED_GLOBAL_SUBSCRIPTION)).unwrap());
    with_station("CT1");
    assert_eq!(take(&ups, "CT"), []);
}

#[test]
fn what_is_long_done_goes_unless_somebody_holds_it() {
    let ups = in_memory();
    let (open, locked, done) = (
        in_state(&ups, State::InProgress),
        in_state(&ups, State::Completed),
        in_state(&ups, State::Canceled),
    );
    subscribe(&ups, "HOLDS", &Subscription::Step(locked), true);
    let later = SystemTime::now() + Duration::from_secs(60);
    assert_eq!(block_on(ups.expire(SystemTime::UNIX_EPOCH)).unwrap(), 0);
    assert_eq!(block_on(ups.expire(later)).unwrap(), 1);
    let is_there = |uid: &Uid| block_on(ups.get(uid)).is_ok();
    assert_eq!(
        [open, locked, done].map(|uid| is_there(&uid)),
        [true, true, false]
    );
    // Events that nobody took are gone too.
    assert_eq!(events(&ups, "HOLDS"), []);
    assert!(block_on(ups.unsubscribe(&title("HOLDS"), &locked)).unwrap());
    assert_eq!(block_on(ups.expire(later)).unwrap(), 1);
    assert!(!is_there(&locked));
    assert!(is_there(&open));
}

#[test]
fn everybody_with_a_subscription_hears_of_a_restart() {
    let ups = in_memory();
    let uid = in_state(&ups, State::Scheduled);
    subscribe(&ups, "ONE", &Subscription::Step(uid), false);
    subscribe(&ups, "ALL", &Subscription::Global, false);
    take(&ups, "ONE");
    let heard = Arc::new(Mutex::new(Vec::new()));
    let to = Arc::clone(&heard);
    let watching = ups.watch_events(move |ae| to.lock().unwrap().push(*ae));
    block_on(ups.report_status(false)).unwrap();
    drop(watching);
    assert_eq!(take(&ups, "ONE"), [ScpStatusChange]);
    assert_eq!(take(&ups, "ALL"), [ScpStatusChange]);
    assert_eq!(*heard.lock().unwrap(), [title("ALL"), title("ONE")]);
    block_on(ups.report_status(true)).unwrap();
    assert_eq!(heard.lock().unwrap().len(), 2, "nobody listens any more");
    assert_eq!(block_on(ups.waiting()).unwrap(), [title("ALL"), title("ONE")]);
}

#[test]
fn whoever_subscribes_while_a_step_changes_hears_of_its_last_state() {
    let ups = in_memory();
    for _ in 0..50 {
        let uid = in_state(&ups, State::Scheduled);
        std::thread::scope(|scope| {
            scope.spawn(|| block_on(ups.change_state(&uid, State::InProgress, Some(&TRANSACTION))).unwrap());
            scope.spawn(|| subscribe(&ups, "LATE", &Subscription::Step(uid), false));
        });
        let told = block_on(ups.events(&title("LATE"), 10)).unwrap();
        let last = told
            .last()
            .unwrap()
            .event
            .attributes
            .string(tags::PROCEDURE_STEP_STATE);
        assert_eq!(last, Some("IN PROGRESS"));
        take(&ups, "LATE");
    }
}
