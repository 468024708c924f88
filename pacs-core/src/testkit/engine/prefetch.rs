//! What the engine promises of orders, and of what is fetched from elsewhere: it is told apart from what is new.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use futures::executor::block_on;

use super::{Options, Pacs, Place, instance, keep, study_uid};
use crate::dataset::DataSet;
use crate::engine::Fetching;
use crate::error::{Error, ErrorKind, Result};
use crate::hooks::{Event, Source};
use crate::ledger::Ledger;
use crate::route::{Delivery, Occasion, Outbox, Priority, Router, Rule, Rules, Trigger, What};
use crate::uid::Uid;
use crate::workflow::Worklist;
use crate::workflow::worklist::status;

/// Decides that every occasion is told to who is named like it, and like how it came.
struct Everything;

impl Router for Everything {
    fn route(&self, occasion: &Occasion<'_>) -> Result<Vec<Delivery>> {
        let came = if occasion.fetched { "fetched" } else { "new" };
        Ok(vec![Delivery::tell(format!("{came} {}", occasion.trigger))])
    }

    fn wants(&self, _: Trigger) -> bool {
        true
    }

    fn wants_fetched(&self) -> bool {
        true
    }
}

fn open(
    place: &dyn Place,
    ledger: &Arc<dyn Ledger>,
    router: Arc<dyn Router>,
) -> (Pacs, Receiver<(Uid, String)>) {
    let (sender, events) = channel();
    let observer = move |event: &Event| {
        if let Event::Routed { record, deliveries } = event {
            for delivery in deliveries {
                // The test may have its answer already.
                let _ = sender.send((record.key.study, delivery.destination.to_string()));
            }
        }
        Ok(())
    };
    let options = Options {
        router: Some(router),
        ledger: Some(Arc::clone(ledger)),
        stable_after: Duration::from_millis(100),
        observers: vec![Arc::new(observer)],
        ..Options::default()
    };
    let pacs = block_on(Pacs::open(place.archive(), place.index(), options)).expect("opens");
    (pacs, events)
}

/// Closed, so that everything was asked about.
fn close(pacs: Pacs) {
    pacs.close().expect("closes");
}

fn source(calling: &str, originator: Option<&str>) -> Source {
    let title = |title: &str| title.parse().expect("is an AE title");
    Source {
        calling_ae: Some(title(calling)),
        called_ae: Some(title("PACS")),
        address: None,
        move_originator: originator.map(title),
        ..Source::default()
    }
}

fn keep_from(pacs: &Pacs, source: Source, (study, number): (u32, u32)) {
    let mut one = instance(study, 1, number, 0);
    one.0.source = source;
    keep(pacs, one);
}

fn fetching(pacs: &Pacs, study: u32) -> Fetching {
    block_on(pacs.fetching(&study_uid(study), &source("OLD", None))).expect("is noted")
}

/// What was told until this was. Far longer than it may take is waited for each.
fn until(events: &Receiver<(Uid, String)>, study: u32, told: &str) -> Vec<(Uid, String)> {
    let mut all = Vec::new();
    let last = (study_uid(study), told.to_owned());
    while all.last() != Some(&last) {
        all.push(events.recv_timeout(Duration::from_secs(60)).expect("is told"));
    }
    all
}

fn of(told: &[(Uid, String)], study: u32) -> Vec<&str> {
    let of = told.iter().filter(|(uid, _)| *uid == study_uid(study));
    of.map(|(_, told)| told.as_str()).collect()
}

/// How the instances of a study came. Between them its series may get stable, where that takes long.
fn stored(told: &[(Uid, String)], study: u32) -> Vec<&str> {
    let of = of(told, study).into_iter();
    of.filter_map(|told| told.strip_suffix(" instance-stored"))
        .collect()
}

/// See its name.
pub fn what_is_fetched_is_asked_about_as_that_until_it_is_stable(place: &dyn Place) {
    let (pacs, events) = open(place, &place.ledger(), Arc::new(Everything));
    let fetching = fetching(&pacs, 1);
    keep_from(&pacs, source("OLD", None), (1, 1));
    // A node of the archive, that is known from then on.
    keep_from(&pacs, source("NODE", Some("PACS")), (1, 2));
    keep_from(&pacs, source("NODE", None), (1, 3));
    // It sends something by itself, too.
    keep_from(&pacs, source("OLD", None), (2, 1));
    let told = until(&events, 2, "new study-stable");
    assert_eq!(stored(&told, 1), ["fetched"; 3]);
    // It isn't stable before it is there, however long that takes.
    assert!(!of(&told, 1).contains(&"fetched study-stable"));
    assert_eq!(stored(&told, 2), ["new"]);
    drop(fetching);
    keep_from(&pacs, source("OLD", None), (3, 1));
    until(&events, 1, "fetched study-stable");
    // What comes now wasn't asked for.
    keep_from(&pacs, source("OLD", None), (1, 4));
    let told = until(&events, 1, "new study-changed");
    let expected = ["new instance-stored", "new series-stable", "new study-changed"];
    assert_eq!(of(&told, 1), expected);
    close(pacs);
}

/// See its name.
pub fn a_study_that_is_fetched_and_comes_by_itself_is_new(place: &dyn Place) {
    let (pacs, events) = open(place, &place.ledger(), Arc::new(Everything));
    let fetching = fetching(&pacs, 1);
    keep_from(&pacs, source("OLD", None), (1, 1));
    keep_from(&pacs, source("SCANNER", None), (1, 2));
    drop(fetching);
    let told = until(&events, 1, "new study-stable");
    assert_eq!(stored(&told, 1), ["fetched", "new"]);
    close(pacs);
}

/// See its name.
pub fn who_does_not_want_it_is_not_asked_about_what_is_fetched(place: &dyn Place) {
    let ledger = place.ledger();
    let new = |on| {
        let mut rule = Rule::new("new").send_to("A");
        rule.on = on;
        rule
    };
    let rules = Rules::new(vec![new(Trigger::InstanceStored), new(Trigger::StudyStable)]);
    let (pacs, events) = open(place, &ledger, Arc::new(rules.expect("they mean something")));
    drop(fetching(&pacs, 1));
    keep_from(&pacs, source("OLD", None), (1, 1));
    keep_from(&pacs, source("SCANNER", None), (2, 1));
    until(&events, 2, "A");
    close(pacs);
    let outbox = block_on(Outbox::open(Arc::clone(&ledger))).expect("opens");
    assert_eq!(outbox.status()[0].waiting, 1);
    let line = block_on(outbox.claim(&"A".into(), crate::archive::Timestamp::now()));
    let line = line.expect("is asked").expect("something waits");
    assert_eq!(line.study(), &study_uid(2));
}

/// Wants to know everything, and can't answer now.
struct Busy;

impl Router for Busy {
    fn route(&self, _: &Occasion<'_>) -> Result<Vec<Delivery>> {
        Err(Error::new(ErrorKind::OutOfResources, "test.route", "not now"))
    }

    fn wants(&self, _: Trigger) -> bool {
        true
    }

    fn wants_fetched(&self) -> bool {
        true
    }
}

/// See its name.
pub fn that_something_is_fetched_is_known_after_reopening(place: &dyn Place) {
    let ledger = place.ledger();
    let (pacs, _) = open(place, &ledger, Arc::new(Busy));
    let fetching = fetching(&pacs, 1);
    keep_from(&pacs, source("OLD", None), (1, 1));
    keep_from(&pacs, source("SCANNER", None), (2, 1));
    close(pacs);
    drop(fetching);
    let (pacs, events) = open(place, &ledger, Arc::new(Everything));
    let told = until(&events, 1, "fetched study-stable");
    assert_eq!(of(&told, 1)[0], "fetched instance-stored");
    close(pacs);
}

fn order(modality: &str, status: &str) -> DataSet {
    let mut step = DataSet::new();
    for (tag, vr, text) in [
        (tags::MODALITY, VR::CS, modality),
        (tags::SCHEDULED_PROCEDURE_STEP_START_DATE, VR::DA, "20240202"),
        (tags::SCHEDULED_PROCEDURE_STEP_ID, VR::SH, "S1"),
        (tags::SCHEDULED_PROCEDURE_STEP_STATUS, VR::CS, status),
    ] {
        step.put_text(tag, vr, text);
    }
    let mut item = DataSet::new();
    item.put_text(tags::ACCESSION_NUMBER, VR::SH, "A1");
    item.put_text(tags::PATIENT_ID, VR::LO, "P1");
    item.put_uid(tags::STUDY_INSTANCE_UID, &study_uid(1));
    item.put_items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE, vec![step]);
    item
}

/// See its name.
pub fn an_order_is_entered_once_before_its_placer_is_answered(place: &dyn Place) {
    let ledger = place.ledger();
    let worklist = Worklist::new(Arc::clone(&ledger));
    let place_order = |pacs: &Pacs, modality, status| {
        block_on(worklist.put(order(modality, status))).expect("is an item");
        block_on(pacs.order_placed(&study_uid(1), &source("RIS", None))).expect("is asked about");
    };
    // One that knows of instances alone, and who asks for what can't be sent yet.
    let (pacs, _) = open(
        place,
        &ledger,
        Arc::new(|_: &Occasion<'_>| Ok(vec![Delivery::tell("A")])),
    );
    place_order(&pacs, "CT", status::SCHEDULED);
    close(pacs);
    let mut sends = Rule::new("sends").send_to("A");
    sends.on = Trigger::OrderPlaced;
    assert!(Rules::new(vec![sends]).is_err());

    let mut step = DataSet::new();
    step.put_text(tags::MODALITY, VR::CS, "CT");
    let mut keys = DataSet::new();
    keys.put_items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE, vec![step]);
    let mut rule = Rule::new("orders").when(keys);
    (rule.on, rule.priority) = (Trigger::OrderPlaced, Priority::High);
    rule.tell.push("A".into());
    let rules = Rules::new(vec![rule]).expect("they mean something");
    let (pacs, _) = open(place, &ledger, Arc::new(rules));
    let waiting = || {
        // As it is kept: what only memory knows is not there.
        let outbox = block_on(Outbox::open(Arc::clone(&ledger))).expect("opens");
        let line = block_on(outbox.claim(&"A".into(), crate::archive::Timestamp::now())).expect("is asked");
        line.map_or(Vec::new(), |line| block_on(line.waiting(9)).expect("is read"))
    };
    place_order(&pacs, "MR", status::SCHEDULED);
    place_order(&pacs, "CT", status::CANCELLED);
    assert!(waiting().is_empty());
    for _ in 0..2 {
        place_order(&pacs, "CT", status::SCHEDULED);
        let all = waiting();
        assert_eq!((all.len(), all[0].recorded.priority), (1, Priority::High));
        assert!(matches!(all[0].what, What::Occasion(Trigger::OrderPlaced, of, _) if of == study_uid(1)));
        let outbox = block_on(Outbox::open(Arc::clone(&ledger))).expect("opens");
        let known = block_on(outbox.recorded_of("A", &study_uid(1), 9)).expect("is read");
        assert_eq!((known.len(), known[0].0), (1, all[0].what));
        let other = block_on(outbox.recorded_of("A", &study_uid(12), 9)).expect("is read");
        assert!(other.is_empty());
    }
    pacs.close().expect("closes");
    let closed = block_on(pacs.order_placed(&study_uid(1), &source("RIS", None)));
    assert_eq!(closed.expect_err("nobody is there").kind(), ErrorKind::Closed);
    drop(pacs);
    // Another order than before.
    let mut urgent = order("CT", status::SCHEDULED);
    urgent.put_text(tags::REQUESTED_PROCEDURE_PRIORITY, VR::SH, "STAT");
    block_on(worklist.put(urgent)).expect("is an item");
    let (pacs, _) = open(place, &ledger, Arc::new(Everything));
    block_on(pacs.order_placed(&study_uid(1), &source("RIS", None))).expect("is asked about");
    let outbox = pacs.outbox().expect("there is a ledger").status();
    let told = outbox.iter().find(|one| &*one.destination == "new order-placed");
    assert_eq!(told.map(|one| one.waiting), Some(1));
    close(pacs);
}
