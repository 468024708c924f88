//! What the engine promises of what is routed: entered once, durable, in order.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use futures::executor::block_on;

use super::{Place, all, data_set, explicit, instance, instance_uid, keep, read, study_uid};
use crate::archive::Timestamp;
use crate::dataset::DataSet;
use crate::dataset::scan::parse;
use crate::engine::{Options, Pacs};
use crate::error::{Error, ErrorKind, Result};
use crate::hooks::{Event, Source};
use crate::ledger::Ledger;
use crate::route::{
    Changes, Delivery, Line, Occasion, Outbox, Outcome, Priority, Progress, Router, Rule, Rules, Trigger,
    Waiting, What,
};
use crate::uid::Uid;

fn open(place: &dyn Place, ledger: &Arc<dyn Ledger>, router: Option<Arc<dyn Router>>) -> Pacs {
    let options = Options {
        router,
        ledger: Some(Arc::clone(ledger)),
        ..Options::default()
    };
    block_on(Pacs::open(place.archive(), place.index(), options)).expect("opens")
}

/// Closed, so that everything was asked about.
fn close(pacs: Pacs) {
    pacs.close().expect("closes");
}

fn outbox(ledger: &Arc<dyn Ledger>) -> Outbox {
    block_on(Outbox::open(Arc::clone(ledger))).expect("opens")
}

fn to(names: &'static [&'static str]) -> Arc<dyn Router> {
    Arc::new(move |_: &Occasion<'_>| Ok(names.iter().map(|name| Delivery::to(*name)).collect()))
}

const SOON: Timestamp = Timestamp(u64::MAX - 1);

fn claim(outbox: &Outbox, destination: &str, now: Timestamp) -> Option<Line> {
    block_on(outbox.claim(&destination.into(), now)).expect("is asked")
}

fn waiting(line: &Line) -> Vec<Waiting> {
    block_on(line.waiting(100)).expect("is read")
}

fn finish(line: &Line, ended: Vec<(Waiting, Outcome)>) {
    block_on(line.finish(ended)).expect("is noted");
}

/// Delivers everything that may be delivered now; answers what, in the order in which it went.
fn deliver(outbox: &Outbox, destination: &str) -> Vec<What> {
    let mut delivered = Vec::new();
    while let Some(line) = claim(outbox, destination, Timestamp::now()) {
        let all = waiting(&line);
        delivered.extend(all.iter().map(|one| one.what));
        finish(
            &line,
            all.into_iter()
                .map(|one| (one, Outcome::Delivered(String::new())))
                .collect(),
        );
        block_on(line.let_go(None)).expect("is let go");
    }
    delivered
}

fn counts(outbox: &Outbox, destination: &str) -> (u64, u64) {
    let status = outbox.status();
    let one = status.iter().find(|status| &*status.destination == destination);
    one.map_or((0, 0), |status| (status.waiting, status.dead))
}

fn of(study: u32, series: u32, number: u32) -> What {
    What::Instance(instance_uid(study, series, number))
}

fn progress(outbox: &Outbox, destination: &str, what: &What) -> Option<Progress> {
    let recorded = block_on(outbox.recorded(destination, what)).expect("is read");
    recorded.map(|recorded| recorded.progress)
}

/// See its name.
pub fn what_is_decided_waits_in_the_outbox_once_for_each_destination(place: &dyn Place) {
    let ledger = place.ledger();
    let pacs = open(place, &ledger, Some(to(&["A", "B", "A"])));
    keep(&pacs, instance(1, 1, 1, 0));
    keep(&pacs, instance(1, 1, 2, 0));
    // Kept already: it goes nowhere again.
    keep(&pacs, instance(1, 1, 1, 0));
    close(pacs);
    let outbox = outbox(&ledger);
    for destination in ["A", "B"] {
        assert_eq!(counts(&outbox, destination), (2, 0));
        assert_eq!(deliver(&outbox, destination), [of(1, 1, 1), of(1, 1, 2)]);
        assert_eq!(counts(&outbox, destination), (0, 0));
        assert_eq!(progress(&outbox, destination, &of(1, 1, 1)), Some(Progress::Done));
    }
    assert!(claim(&outbox, "C", SOON).is_none());
    // What was delivered is forgotten in time, and not before.
    assert_eq!(
        block_on(outbox.forget_done(Timestamp(1))).expect("is forgotten"),
        0
    );
    assert_eq!(block_on(outbox.forget_done(SOON)).expect("is forgotten"), 4);
    assert_eq!(progress(&outbox, "A", &of(1, 1, 1)), None);
}

/// See its name.
pub fn what_was_kept_before_there_was_a_router_goes_nowhere(place: &dyn Place) {
    let ledger = place.ledger();
    let pacs = open(place, &ledger, None);
    keep(&pacs, instance(1, 1, 1, 0));
    close(pacs);
    let pacs = open(place, &ledger, Some(to(&["A"])));
    keep(&pacs, instance(1, 1, 2, 0));
    close(pacs);
    assert_eq!(deliver(&outbox(&ledger), "A"), [of(1, 1, 2)]);
}

/// See its name.
pub fn what_nobody_was_asked_about_is_asked_about_after_reopening(place: &dyn Place) {
    let ledger = place.ledger();
    close(open(place, &ledger, Some(to(&["A"]))));
    // A router that can't answer now.
    let busy: Arc<dyn Router> = Arc::new(|_: &Occasion<'_>| {
        Err::<Vec<Delivery>, _>(Error::new(ErrorKind::OutOfResources, "test.route", "not now"))
    });
    let pacs = open(place, &ledger, Some(busy));
    let mut announced = instance(1, 1, 1, 0);
    announced.0.source.calling_ae = Some("SCANNER".parse().expect("is an AE title"));
    keep(&pacs, announced);
    keep(&pacs, instance(1, 1, 2, 0));
    block_on(pacs.remove(&instance_uid(1, 1, 2))).expect("is removed");
    close(pacs);
    assert_eq!(counts(&outbox(&ledger), "A"), (0, 0));
    let by_source: Arc<dyn Router> = Arc::new(|occasion: &Occasion<'_>| {
        let calling = occasion.source.calling_ae;
        Ok(calling
            .map(|title| Delivery::to(title.as_str()))
            .into_iter()
            .collect())
    });
    let pacs = open(place, &ledger, Some(by_source));
    keep(&pacs, instance(2, 1, 1, 0));
    close(pacs);
    // Who sent it is known by its header.
    assert_eq!(deliver(&outbox(&ledger), "SCANNER"), [of(1, 1, 1)]);
    // Asked again, nothing is entered again.
    close(open(place, &ledger, Some(to(&["SCANNER"]))));
    assert_eq!(deliver(&outbox(&ledger), "SCANNER"), []);
}

/// See its name.
pub fn what_can_not_be_asked_about_keeps_no_other_one_waiting_and_is_asked_about_again(place: &dyn Place) {
    let ledger = place.ledger();
    // Whatever kind of failure it is.
    for (study, kind) in [
        (1, ErrorKind::Corrupt),
        (2, ErrorKind::Io),
        (3, ErrorKind::Internal),
    ] {
        let fails: Arc<dyn Router> = Arc::new(move |occasion: &Occasion<'_>| {
            let instance = occasion.record.expect("it is about one").key.instance;
            if instance != instance_uid(study, 1, 1) {
                return Ok(vec![Delivery::to("A")]);
            }
            if kind == ErrorKind::Internal {
                panic!("as asked for");
            }
            Err(Error::new(kind, "test.route", "it can't be read"))
        });
        for number in 1..=3 {
            let pacs = open(place, &ledger, Some(Arc::clone(&fails)));
            keep(&pacs, instance(study, 1, number, 0));
            close(pacs);
        }
        // What has come before and what has come after goes.
        assert_eq!(deliver(&outbox(&ledger), "A"), [of(study, 1, 2), of(study, 1, 3)]);
        close(open(place, &ledger, Some(to(&["A"]))));
        assert_eq!(deliver(&outbox(&ledger), "A"), [of(study, 1, 1)]);
        close(open(place, &ledger, Some(to(&["A"]))));
        assert_eq!(deliver(&outbox(&ledger), "A"), []);
    }
}

/// See its name.
pub fn what_takes_the_place_of_another_version_is_delivered_again(place: &dyn Place) {
    let ledger = place.ledger();
    let pacs = open(place, &ledger, Some(to(&["A"])));
    keep(&pacs, instance(1, 1, 1, 0));
    close(pacs);
    assert_eq!(deliver(&outbox(&ledger), "A"), [of(1, 1, 1)]);
    let pacs = open(place, &ledger, Some(to(&["A"])));
    keep(&pacs, instance(1, 1, 1, 1));
    close(pacs);
    let outbox = outbox(&ledger);
    assert_eq!(counts(&outbox, "A"), (1, 0));
    // Delivered while yet another version comes: that one waits on.
    let line = claim(&outbox, "A", SOON).expect("something waits");
    let before = waiting(&line);
    let pacs = open(place, &ledger, Some(to(&["A"])));
    keep(&pacs, instance(1, 1, 1, 2));
    close(pacs);
    finish(
        &line,
        vec![(before[0].clone(), Outcome::Delivered(String::new()))],
    );
    assert_eq!(progress(&outbox, "A", &of(1, 1, 1)), Some(Progress::Waiting));
    assert_eq!(waiting(&line).len(), 1);
    block_on(line.let_go(None)).expect("is let go");
    assert_eq!(deliver(&outbox, "A"), [of(1, 1, 1)]);
}

/// See its name.
pub fn a_study_is_delivered_in_the_order_of_the_archive_and_the_urgent_first(place: &dyn Place) {
    let ledger = place.ledger();
    let by_study: Arc<dyn Router> = Arc::new(|occasion: &Occasion<'_>| {
        let mut delivery = Delivery::to("A");
        if occasion
            .record
            .is_some_and(|record| record.key.study == study_uid(3))
        {
            delivery.priority = Priority::Stat;
        }
        Ok(vec![delivery])
    });
    let pacs = open(place, &ledger, Some(by_study));
    for (study, number) in [(1, 2), (2, 1), (1, 1), (3, 1), (2, 2)] {
        keep(&pacs, instance(study, 1, number, 0));
    }
    close(pacs);
    let outbox = outbox(&ledger);
    // Two who deliver never have the same study.
    let first = claim(&outbox, "A", SOON).expect("something waits");
    let second = claim(&outbox, "A", SOON).expect("something waits");
    assert_eq!((first.study(), second.study()), (&study_uid(3), &study_uid(1)));
    let read = block_on(second.waiting(1)).expect("is read");
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].what, of(1, 1, 2));
    // Let go without an end, it is as it was.
    drop((first, second));
    let expected = [of(3, 1, 1), of(1, 1, 2), of(1, 1, 1), of(2, 1, 1), of(2, 1, 2)];
    assert_eq!(deliver(&outbox, "A"), expected);
}

/// See its name.
pub fn what_is_refused_waits_among_the_dead_until_it_is_sent_again(place: &dyn Place) {
    let ledger = place.ledger();
    let pacs = open(place, &ledger, Some(to(&["A"])));
    for number in 1..=3 {
        keep(&pacs, instance(1, 1, number, 0));
    }
    close(pacs);
    let outbox = outbox(&ledger);
    let unfinished = || block_on(outbox.unfinished()).expect("is read");
    assert_eq!(unfinished(), [study_uid(1)].into());
    let line = claim(&outbox, "A", SOON).expect("something waits");
    let refused = |one: Waiting| (one, Outcome::Refused("not wanted".to_owned()));
    finish(&line, waiting(&line).into_iter().map(refused).collect());
    block_on(line.let_go(None)).expect("is let go");
    assert_eq!(counts(&outbox, "A"), (0, 3));
    assert_eq!(unfinished(), [study_uid(1)].into());
    assert!(claim(&outbox, "A", SOON).is_none());
    let dead = block_on(outbox.dead("A", None, 9)).expect("is read");
    assert_eq!((dead.len(), dead[0].recorded.why.as_str()), (3, "not wanted"));
    let (first, second) = (of(1, 1, 1), of(1, 1, 2));
    let rest = block_on(outbox.dead("A", Some(&first), 9)).expect("is read");
    assert_eq!(
        rest.iter().map(|dead| dead.what).collect::<Vec<_>>(),
        [second, of(1, 1, 3)]
    );
    assert_eq!(first.to_string().parse::<What>().expect("is read"), first);
    assert!(block_on(outbox.discard("A", first)).expect("is discarded"));
    assert_eq!(
        block_on(outbox.send_again("A", Some(first))).expect("is asked"),
        0
    );
    assert_eq!(
        block_on(outbox.send_again("A", Some(second))).expect("is asked"),
        1
    );
    assert_eq!(
        (counts(&outbox, "A"), deliver(&outbox, "A")),
        ((1, 1), vec![second])
    );
    assert_eq!(block_on(outbox.send_again("A", None)).expect("is asked"), 1);
    assert_eq!(deliver(&outbox, "A"), [of(1, 1, 3)]);
    assert_eq!(counts(&outbox, "A"), (0, 0));
    assert!(unfinished().is_empty());
}

/// See its name.
pub fn what_fails_waits_for_its_time_and_nothing_goes_to_who_is_held(place: &dyn Place) {
    let ledger = place.ledger();
    let pacs = open(place, &ledger, Some(to(&["A"])));
    keep(&pacs, instance(1, 1, 1, 0));
    keep(&pacs, instance(2, 1, 1, 0));
    close(pacs);
    let first = outbox(&ledger);
    let line = claim(&first, "A", SOON).expect("something waits");
    let failed = waiting(&line).remove(0);
    finish(&line, vec![(failed, Outcome::Failed("no room".to_owned()))]);
    let later = Timestamp(Timestamp::now().0 + 1_000_000);
    block_on(line.let_go(Some(later))).expect("is let go");
    // The other study goes on.
    assert_eq!(deliver(&first, "A"), [of(2, 1, 1)]);
    assert_eq!(block_on(first.next_try("A")).expect("is asked"), Some(later));
    block_on(first.hold("A")).expect("is held");
    drop(first);
    // All of that is known after reopening.
    let again = outbox(&ledger);
    assert_eq!(counts(&again, "A"), (1, 0));
    assert!(again.status()[0].held);
    assert!(claim(&again, "A", SOON).is_none());
    block_on(again.release("A")).expect("is released");
    assert!(claim(&again, "A", Timestamp(later.0 - 1)).is_none());
    let line = claim(&again, "A", later).expect("its time has come");
    let one = waiting(&line).remove(0);
    assert_eq!((line.failures(), one.recorded.attempts), (1, 1));
    assert_eq!(one.recorded.why, "no room");
}

/// See its name.
pub fn what_is_removed_or_abandoned_waits_no_more_and_may_be_decided_again(place: &dyn Place) {
    let ledger = place.ledger();
    let pacs = open(place, &ledger, Some(to(&["A", "B"])));
    for number in 1..=3 {
        keep(&pacs, instance(1, 1, number, 0));
    }
    keep(&pacs, instance(2, 1, 1, 0));
    close(pacs);
    let outbox = outbox(&ledger);
    let line = claim(&outbox, "A", SOON).expect("something waits");
    let mut read = waiting(&line);
    let (gone, refused) = (read.remove(0), read.remove(0));
    let ended = vec![
        (gone.clone(), Outcome::Gone),
        (refused, Outcome::Refused("no".to_owned())),
    ];
    finish(&line, ended);
    // What comes to an end is progress.
    assert_eq!(line.failures(), 0);
    block_on(line.let_go(None)).expect("is let go");
    assert_eq!(progress(&outbox, "A", &gone.what), None);
    assert_eq!(counts(&outbox, "A"), (2, 1));
    assert_eq!(block_on(outbox.abandon("A")).expect("is abandoned"), 3);
    assert_eq!(counts(&outbox, "A"), (0, 0));
    assert!(claim(&outbox, "A", SOON).is_none());
    assert_eq!(deliver(&outbox, "B").len(), 4);
    let pacs = open(place, &ledger, Some(to(&["A"])));
    keep(&pacs, instance(1, 1, 1, 1));
    close(pacs);
    assert_eq!(deliver(&self::outbox(&ledger), "A"), [of(1, 1, 1)]);
}

/// Asked about everything, and told of the studies.
struct Studies(Mutex<bool>);

impl Router for Studies {
    fn route(&self, occasion: &Occasion<'_>) -> Result<Vec<Delivery>> {
        Ok(match occasion.trigger {
            Trigger::SeriesStable => vec![Delivery::tell("SERIES")],
            Trigger::StudyStable => vec![Delivery::tell("STABLE"), Delivery::to("ALL")],
            Trigger::StudyChanged => vec![Delivery::tell("CHANGED")],
            _ => Vec::new(),
        })
    }

    fn wants(&self, _: Trigger) -> bool {
        *self.0.lock().expect("nobody panics")
    }
}

fn told(events: &Receiver<(Uid, Vec<Delivery>)>) -> (Uid, Vec<String>) {
    // Far longer than it may take; a study that never gets stable must end the test.
    let (study, deliveries) = events.recv_timeout(Duration::from_secs(60)).expect("is told");
    (
        study,
        deliveries
            .iter()
            .map(|delivery| delivery.destination.to_string())
            .collect(),
    )
}

/// An engine's options that ask about studies, and where is told what was decided.
fn studies(ledger: &Arc<dyn Ledger>) -> (Options, Receiver<(Uid, Vec<Delivery>)>) {
    let (sender, events) = channel();
    let observer = move |event: &Event| {
        if let Event::Routed { record, deliveries } = event {
            // The test may have its answer already.
            let _ = sender.send((record.key.study, deliveries.clone()));
        }
        Ok(())
    };
    let options = Options {
        router: Some(Arc::new(Studies(Mutex::new(true)))),
        ledger: Some(Arc::clone(ledger)),
        stable_after: Duration::from_millis(100),
        observers: vec![Arc::new(observer)],
        ..Options::default()
    };
    (options, events)
}

/// See its name.
pub fn a_study_that_was_removed_is_new_when_it_comes_again(place: &dyn Place) {
    let (options, events) = studies(&place.ledger());
    let pacs = block_on(Pacs::open(place.archive(), place.index(), options)).expect("opens");
    let comes = |study| {
        keep(&pacs, instance(study, 1, 1, 0));
        assert_eq!(told(&events), (study_uid(study), vec!["SERIES".to_owned()]));
        let (of, names) = told(&events);
        assert_eq!(of, study_uid(study));
        names
    };
    assert_eq!(comes(1), ["STABLE", "ALL"]);
    block_on(pacs.remove(&instance_uid(1, 1, 1))).expect("is removed");
    // When the second of these is stable, it was seen that nothing is left of the first study.
    comes(2);
    comes(3);
    assert_eq!(comes(1), ["STABLE", "ALL"]);
    close(pacs);
}

/// See its name.
pub fn a_study_is_stable_once_and_changed_after_that(place: &dyn Place) {
    let ledger = place.ledger();
    let (options, events) = studies(&ledger);
    let open =
        |options: Options| block_on(Pacs::open(place.archive(), place.index(), options)).expect("opens");
    let pacs = open(options.clone());
    keep(&pacs, instance(1, 1, 1, 0));
    keep(&pacs, instance(1, 1, 2, 0));
    let name = |names: &[&str]| {
        (
            study_uid(1),
            names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(),
        )
    };
    assert_eq!(told(&events), name(&["SERIES"]));
    assert_eq!(told(&events), name(&["STABLE", "ALL"]));
    // Amended, it has changed.
    let mut wanted = DataSet::new();
    wanted.put_text(tags::STUDY_DESCRIPTION, VR::LO, "changed");
    let scope = crate::Scope::Study(study_uid(1));
    block_on(pacs.amend(&Source::default(), scope, wanted)).expect("is amended");
    assert_eq!(told(&events), name(&["SERIES"]));
    assert_eq!(told(&events), name(&["CHANGED"]));
    // What is not stable yet at the end is so some time after reopening.
    let patient = Options {
        stable_after: Duration::from_secs(3600),
        ..options.clone()
    };
    close(pacs);
    let pacs = open(patient);
    keep(&pacs, instance(2, 1, 1, 0));
    close(pacs);
    let unfinished = block_on(outbox(&ledger).unfinished()).expect("is read");
    assert!(unfinished.contains(&study_uid(2)));
    let pacs = open(options);
    assert_eq!(told(&events).0, study_uid(2));
    assert_eq!(told(&events).1, ["STABLE", "ALL"]);
    close(pacs);
    let outbox = outbox(&ledger);
    assert_eq!(deliver(&outbox, "ALL").len(), 3);
    let stable = deliver(&outbox, "STABLE");
    assert!(matches!(stable[0], What::Occasion(Trigger::StudyStable, study, _) if study == study_uid(1)));
    assert_eq!((stable.len(), deliver(&outbox, "CHANGED").len()), (2, 1));
}

/// See its name.
pub fn a_rule_may_ask_for_attributes_that_the_index_does_not_keep(place: &dyn Place) {
    let key = |tag: Tag, vr: VR, text: &str| {
        let mut key = DataSet::new();
        key.put_text(tag, vr, text);
        key
    };
    let changes = Changes {
        set: key(tags::STATION_NAME, VR::SH, "elsewhere"),
        remove: vec![tags::PATIENT_COMMENTS],
    };
    let rules = vec![
        Rule::new("by what is kept")
            .when(key(tags::MODALITY, VR::CS, "CT\\MR"))
            .send_to("KEPT")
            .changing(changes.clone()),
        Rule::new("by what is not")
            .when(key(tags::GANTRY_ID, VR::LO, "D?"))
            .send_to("ALL"),
        Rule::new("by another value")
            .when(key(tags::GANTRY_ID, VR::LO, "X*"))
            .send_to("NONE"),
    ];
    let rules = Rules::new(rules).expect("they mean something");
    let ledger = place.ledger();
    let pacs = open(place, &ledger, Some(Arc::new(rules)));
    let mut set = data_set(1, 1, 1, 0);
    set.put_text(tags::GANTRY_ID, VR::LO, "D1");
    let attributes = crate::query::AttributeSet::default();
    assert_eq!(attributes.level_of(tags::GANTRY_ID), None);
    keep(&pacs, (instance(1, 1, 1, 0).0, explicit(&set)));
    close(pacs);
    let outbox = outbox(&ledger);
    assert_eq!(
        (counts(&outbox, "ALL"), counts(&outbox, "NONE")),
        ((1, 0), (0, 0))
    );
    let line = claim(&outbox, "KEPT", SOON).expect("something waits");
    assert_eq!(waiting(&line)[0].changes.as_deref(), Some(&changes));
}

/// See its name.
pub fn what_is_changed_on_the_way_leaves_changed_and_is_kept_as_it_came(place: &dyn Place) {
    let pacs = open(place, &place.ledger(), None);
    let received = keep(&pacs, instance(1, 1, 1, 0));
    let before = read(&pacs, &received);
    let mut set = DataSet::new();
    set.put_text(tags::PATIENT_NAME, VR::PN, "Müller^X");
    set.put_text(tags::STATION_NAME, VR::SH, "");
    let changes = Changes {
        set,
        remove: vec![tags::ACCESSION_NUMBER, tags::PATIENT_COMMENTS],
    };
    let leaving = block_on(pacs.changed_on_the_way(&received.record, &changes)).expect("can be changed");
    let bytes = all(pacs.outgoing_data_set(&leaving));
    let left = parse(&bytes, &received.record.transfer_syntax).expect("is read");
    assert_eq!(left.string(tags::PATIENT_NAME), Some("Müller^X"));
    assert!(left.contains(tags::STATION_NAME) && !left.contains(tags::ACCESSION_NUMBER));
    assert_eq!(left.string(tags::PATIENT_ID), Some("P1"));
    for noted in [
        tags::ORIGINAL_ATTRIBUTES_SEQUENCE,
        tags::NONCONFORMING_MODIFIED_ATTRIBUTES_SEQUENCE,
    ] {
        assert!(!left.contains(noted));
    }
    assert_eq!(read(&pacs, &received), before);
    let identifies = Changes {
        remove: vec![tags::SOP_INSTANCE_UID],
        ..Changes::default()
    };
    let refused = block_on(pacs.changed_on_the_way(&received.record, &identifies)).expect_err("is refused");
    assert_eq!(
        (refused.kind(), refused.tags()),
        (ErrorKind::Invalid, &[tags::SOP_INSTANCE_UID][..])
    );
}
