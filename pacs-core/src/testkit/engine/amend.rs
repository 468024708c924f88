//! What the engine promises of attributes that are corrected when an instance is kept already.

use std::sync::{Arc, Mutex};

use dicom_core::{Tag, VR};
use dicom_dictionary_std::{tags, uids};
use futures::executor::block_on;
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt};

use super::{
    DuplicatePolicy, Place, all, data_set, explicit, instance, instance_uid, keep, open, read, study_uid,
};
use crate::archive::Locator;
use crate::dataset::charset::CharacterSet;
use crate::dataset::scan::parse;
use crate::dataset::{DataSet, Element, encode};
use crate::engine::{Amended, Options, Pacs, StoreOutcome};
use crate::error::{Error, ErrorKind};
use crate::hooks::{Event, Source};
use crate::index::{InstanceRecord, Scope};
use crate::patient::PatientId;
use crate::query::{AttributeSet, Model, Query, QueryOptions};
use crate::testkit::around::Around;
use crate::uid::{AeTitle, Level, Uid};

fn amend(pacs: &Pacs, scope: Scope, wanted: &[(Tag, VR, &str)]) -> Amended {
    let done = block_on(pacs.amend(&Source::default(), scope, set(wanted))).expect("is amended");
    assert_eq!(done.failed, 0, "{:?}", done.first_failed);
    done
}

fn set(elements: &[(Tag, VR, &str)]) -> DataSet {
    let mut set = DataSet::new();
    for (tag, vr, text) in elements {
        set.put_text(*tag, *vr, *text);
    }
    set
}

const NAME: (Tag, VR, &str) = (tags::PATIENT_NAME, VR::PN, "Corrected^Name");
const ACCESSION: (Tag, VR, &str) = (tags::ACCESSION_NUMBER, VR::SH, "CORRECTED");

fn having(pacs: &Pacs, level: Level, tag: Tag, vr: VR, text: &str) -> usize {
    let query = Query::new(
        Model::PatientRoot,
        level,
        set(&[(tag, vr, text)]),
        QueryOptions::default(),
    );
    let stream = pacs.find(&Source::default(), query).expect("is admitted");
    let found: Vec<DataSet> = block_on(stream.try_collect()).expect("is answered");
    found.len()
}

fn record(pacs: &Pacs, study: u32, series: u32, number: u32) -> InstanceRecord {
    let found = block_on(pacs.lookup(&instance_uid(study, series, number)));
    found.expect("is answered").expect("is known")
}

fn leaving(pacs: &Pacs, record: &InstanceRecord) -> DataSet {
    parse(&all(pacs.outgoing_data_set(record)), &record.transfer_syntax).expect("is a data set")
}

/// Study 1 with two series, and study 8 of the same patient.
fn filled(place: &dyn Place) -> Pacs {
    let pacs = open(place, DuplicatePolicy::default());
    for (study, series, number) in [(1, 1, 1), (1, 1, 2), (1, 2, 1), (8, 1, 1)] {
        keep(&pacs, instance(study, series, number, 0));
    }
    pacs
}

/// See its name.
pub fn an_amended_attribute_is_found_by_its_new_value_at_every_level_and_not_by_its_old_one(
    place: &dyn Place,
) {
    let pacs = filled(place);
    let done = amend(&pacs, Scope::Study(study_uid(1)), &[ACCESSION, NAME]);
    assert_eq!((done.amended, done.unchanged), (3, 0));
    for (level, new, old) in [
        (Level::Study, 1, 0),
        (Level::Series, 2, 0),
        (Level::Instance, 3, 0),
    ] {
        let by_accession = |text| having(&pacs, level, tags::ACCESSION_NUMBER, VR::SH, text);
        assert_eq!(
            (by_accession("CORRECTED"), by_accession("A1")),
            (new, old),
            "{level:?}"
        );
    }
    assert_eq!(
        having(
            &pacs,
            Level::Patient,
            tags::PATIENT_NAME,
            VR::PN,
            "Corrected^Name"
        ),
        1
    );
    // The other study was not amended.
    assert_eq!(
        having(&pacs, Level::Study, tags::PATIENT_NAME, VR::PN, "Family1^Given"),
        1
    );
    let totals = block_on(pacs.totals()).expect("totals");
    assert_eq!(
        (totals.patients, totals.studies, totals.series, totals.instances),
        (1, 2, 3, 4)
    );
}

/// See its name.
pub fn the_stored_bytes_of_an_amended_instance_are_those_that_came(place: &dyn Place) {
    let pacs = filled(place);
    let before = record(&pacs, 1, 1, 1);
    let comment = (tags::IMAGE_COMMENTS, VR::LT, "Corrected");
    amend(&pacs, Scope::Instance(instance_uid(1, 1, 1)), &[comment]);
    let after = record(&pacs, 1, 1, 1);
    let (_, bytes) = instance(1, 1, 1, 0);
    assert_eq!(all(pacs.read_data_set(&after)), bytes);
    // The earlier version is there as well.
    assert_eq!(after.superseded.first(), Some(&before.locator));
    assert_eq!(all(pacs.read_data_set(&before)), bytes);
    let verified = block_on(pacs.verify(|_| ())).expect("is verified");
    assert_eq!((verified.whole, verified.whole_earlier), (5, 1));
    assert!(verified.damaged.is_empty());
}

/// Each amendment adds an item to what the instance had before, and nothing else of it changes.
pub fn an_amended_instance_leaves_with_its_new_values_and_all_that_it_had_before(place: &dyn Place) {
    let pacs = filled(place);
    let came = parse(&instance(1, 1, 1, 0).1, uids::EXPLICIT_VR_LITTLE_ENDIAN).expect("is a data set");
    let source = Source {
        called_ae: AeTitle::parse("ARCHIVE").ok(),
        ..Source::default()
    };
    let scope = || Scope::Study(study_uid(1));
    for (second, wanted) in [
        (false, set(&[NAME, ACCESSION])),
        (true, set(&[(NAME.0, NAME.1, "")])),
    ] {
        block_on(pacs.amend(&source, scope(), wanted.clone())).expect("is amended");
        let mut left = leaving(&pacs, &record(&pacs, 1, 1, 1));
        for element in wanted.iter() {
            assert_eq!(left.string(element.tag), wanted.string(element.tag));
        }
        let items = left.items(tags::ORIGINAL_ATTRIBUTES_SEQUENCE).to_vec();
        assert_eq!(items.len(), 1 + usize::from(second));
        for (item, name) in items.iter().zip(["Family1^Given", "Corrected^Name"]) {
            let text = |tag| item.string(tag);
            assert_eq!(text(tags::REASON_FOR_THE_ATTRIBUTE_MODIFICATION), Some("CORRECT"));
            assert_eq!(text(tags::MODIFYING_SYSTEM), Some("ARCHIVE"));
            let [original] = item.items(tags::MODIFIED_ATTRIBUTES_SEQUENCE) else {
                panic!("a single item");
            };
            assert_eq!(original.string(tags::PATIENT_NAME), Some(name));
        }
        left.remove(tags::ORIGINAL_ATTRIBUTES_SEQUENCE);
        for tag in [NAME.0, ACCESSION.0] {
            left.put(came.get(tag).expect("is there").clone());
        }
        assert_eq!(left, came);
    }
    assert_eq!(
        having(&pacs, Level::Series, tags::ACCESSION_NUMBER, VR::SH, "CORRECTED"),
        2
    );
    assert_eq!(
        having(&pacs, Level::Study, tags::PATIENT_NAME, VR::PN, "Corrected^Name"),
        0
    );
}

/// See its name; and where the engine was only opened again.
pub fn a_rebuilt_index_knows_every_amendment(place: &dyn Place) {
    let pacs = filled(place);
    amend(&pacs, Scope::Study(study_uid(1)), &[ACCESSION, NAME]);
    amend(
        &pacs,
        Scope::Series(record(&pacs, 1, 2, 1).key.series),
        &[(tags::SERIES_DESCRIPTION, VR::LO, "S")],
    );
    amend(&pacs, Scope::Study(study_uid(1)), &[(NAME.0, NAME.1, "")]);
    let state = |pacs: &Pacs| {
        let records = [(1, 1, 1), (1, 1, 2), (1, 2, 1), (8, 1, 1)]
            .map(|(study, series, number)| record(pacs, study, series, number));
        let found = |level, (tag, vr, text): (Tag, VR, &str)| having(pacs, level, tag, vr, text);
        assert_eq!(found(Level::Study, ACCESSION), 1);
        assert_eq!(found(Level::Study, NAME), 0);
        assert_eq!(found(Level::Study, (NAME.0, NAME.1, "Family1^Given")), 1);
        assert_eq!(found(Level::Series, (tags::SERIES_DESCRIPTION, VR::LO, "S")), 1);
        records.map(|record| {
            (
                record.coerced.clone(),
                leaving(pacs, &record),
                record.superseded.len(),
            )
        })
    };
    let before = state(&pacs);
    drop(pacs);
    let pacs = open(place, DuplicatePolicy::default());
    assert!(state(&pacs) == before);
    drop(pacs);
    rebuild(place);
    let pacs = open(place, DuplicatePolicy::default());
    assert!(state(&pacs) == before);
}

/// See its name.
pub fn what_was_amended_and_comes_again_is_kept_already_and_stays_amended(place: &dyn Place) {
    let pacs = filled(place);
    amend(&pacs, Scope::Study(study_uid(1)), &[NAME]);
    let again = keep(&pacs, instance(1, 1, 1, 0));
    assert_eq!(again.outcome, StoreOutcome::AlreadyKept);
    assert_eq!(leaving(&pacs, &again.record).string(NAME.0), Some(NAME.2));
    assert_eq!(read(&pacs, &again), instance(1, 1, 1, 0).1);
}

/// See its name.
pub fn what_has_its_values_already_is_not_amended(place: &dyn Place) {
    let pacs = filled(place);
    let came = (tags::ACCESSION_NUMBER, VR::SH, "A1 ");
    let done = amend(&pacs, Scope::Study(study_uid(1)), &[came]);
    assert_eq!((done.amended, done.unchanged), (0, 3));
    for amended in [3, 0] {
        let done = amend(&pacs, Scope::Study(study_uid(1)), &[NAME]);
        assert_eq!((done.amended, done.unchanged), (amended, 3 - amended));
    }
    let verified = block_on(pacs.verify(|_| ())).expect("is verified");
    assert_eq!((verified.whole, verified.whole_earlier), (7, 3));
}

/// See its name: what is known of the surviving one counts, and the other one is gone.
pub fn two_patients_become_one(place: &dyn Place) {
    let pacs = filled(place);
    let mut other = data_set(2, 1, 1, 0);
    other.put_text(tags::PATIENT_BIRTH_DATE, VR::DA, "19700101");
    keep(&pacs, (instance(2, 1, 1, 0).0, explicit(&other)));
    let merge = |prior: &str, surviving: &str| {
        block_on(pacs.merge_patients(&Source::default(), &prior.into(), &surviving.into()))
    };
    let kind = |prior, surviving| merge(prior, surviving).map(|_| ()).map_err(|error| error.kind());
    assert_eq!(kind("P1", "P1"), Err(ErrorKind::Invalid));
    assert_eq!(kind("", "P1"), Err(ErrorKind::Invalid));
    assert_eq!(kind("P1", "P3"), Err(ErrorKind::NotFound));
    assert_eq!(kind("P?", "P1"), Err(ErrorKind::NotFound));
    // It has no birth date, so none is left.
    let done = merge("P2", "P1").expect("is merged");
    assert_eq!((done.amended, done.unchanged, done.failed), (1, 0, 0));
    let left = leaving(&pacs, &record(&pacs, 2, 1, 1));
    assert_eq!(left.string(tags::PATIENT_ID), Some("P1"));
    assert_eq!(left.string(tags::PATIENT_NAME), Some("Family1^Given"));
    assert!(left.get(tags::PATIENT_BIRTH_DATE).is_some_and(Element::is_empty));
    let studies = |id| having(&pacs, Level::Study, tags::PATIENT_ID, VR::LO, id);
    assert_eq!((studies("P1"), studies("P2")), (3, 0));
    assert_eq!(
        having(&pacs, Level::Study, tags::PATIENT_BIRTH_DATE, VR::DA, "19700101"),
        0
    );
    assert_eq!(block_on(pacs.totals()).expect("totals").patients, 1);
}

/// The same Patient ID of two issuers is of two patients: what is amended of the one leaves the other, until they are
/// merged, also where that is broken off.
pub fn patients_with_one_id_by_two_issuers_are_two(place: &dyn Place) {
    let (pacs, archive) = failing(place);
    let send = |study, number, issuer: &str| {
        let mut set = data_set(study, 1, number, 0);
        set.put_text(tags::PATIENT_ID, VR::LO, "P1");
        set.put_text(tags::ISSUER_OF_PATIENT_ID, VR::LO, issuer);
        keep(&pacs, (instance(study, 1, number, 0).0, explicit(&set)));
    };
    send(1, 1, "A");
    (1..=3).for_each(|number| send(2, number, "B"));
    let of = |issuer| PatientId::new("P1", Some(issuer));
    let mut wanted = DataSet::new();
    wanted.put_text(tags::PATIENT_NAME, VR::PN, "Other^Given");
    let amend = |issuer| block_on(pacs.amend_patient(&Source::default(), &of(issuer), wanted.clone()));
    assert_eq!(amend("B").expect("is amended").amended, 3);
    assert_eq!(amend("C").expect_err("is nobody").kind(), ErrorKind::NotFound);
    let left = |study| leaving(&pacs, &record(&pacs, study, 1, 1));
    assert_eq!(left(1).string(tags::PATIENT_NAME), Some("Family1^Given"));
    assert_eq!(left(2).string(tags::PATIENT_NAME), Some("Other^Given"));
    let merge = || block_on(pacs.merge_patients(&Source::default(), &of("B"), &of("A")));
    *archive.room.lock().expect("nobody panics") = Some(1);
    assert_eq!(merge().expect_err("is full").kind(), ErrorKind::OutOfResources);
    *archive.room.lock().expect("nobody panics") = None;
    assert_eq!(merge().expect("is merged").failed, 0);
    for number in 1..=3 {
        let left = leaving(&pacs, &record(&pacs, 2, 1, number));
        assert_eq!(left.string(tags::PATIENT_NAME), Some("Family1^Given"));
        assert_eq!(left.string(tags::ISSUER_OF_PATIENT_ID), Some("A"));
    }
    assert_eq!(left(1).items(tags::ORIGINAL_ATTRIBUTES_SEQUENCE).len(), 0);
}

/// How an archive fails.
#[derive(Default)]
struct Failing {
    /// It is full, but for so many instances.
    room: Mutex<Option<u64>>,
    unreadable: Mutex<Option<Locator>>,
}

fn failing(place: &dyn Place) -> (Pacs, Arc<Failing>) {
    let failing = Arc::<Failing>::default();
    let (full, unreadable) = (Arc::clone(&failing), Arc::clone(&failing));
    let archive = Around::new(place.archive())
        .beginning(move || match &mut *full.room.lock().expect("nobody panics") {
            Some(0) => Err(Error::new(ErrorKind::OutOfResources, "archive.begin", "no room")),
            room => {
                *room = room.map(|room| room - 1);
                Ok(())
            }
        })
        .reading(move |locator, pieces| {
            if unreadable.unreadable.lock().expect("nobody panics").as_ref() != Some(locator) {
                return pieces;
            }
            let error = Error::new(ErrorKind::Io, "archive.read", "a bad sector");
            futures::stream::iter([Err(error)]).boxed()
        });
    let opened = Pacs::open(Arc::new(archive), place.index(), Options::default());
    (block_on(opened).expect("opens"), failing)
}

/// A merge that was broken off within a study is finished by the same call again, also of what is known of the prior
/// patient only.
pub fn a_merge_that_was_broken_off_goes_on_where_it_was(place: &dyn Place) {
    let (pacs, archive) = failing(place);
    for number in 1..=5 {
        let mut set = data_set(1, 1, number, 0);
        set.put_text(tags::PATIENT_BIRTH_DATE, VR::DA, "19700101");
        keep(&pacs, (instance(1, 1, number, 0).0, explicit(&set)));
    }
    keep(&pacs, instance(2, 1, 1, 0));
    let merge = || {
        let (prior, surviving) = ("P1 ".into(), " P2".into());
        block_on(pacs.merge_patients(&Source::default(), &prior, &surviving))
    };
    *archive.room.lock().expect("nobody panics") = Some(2);
    let broken = merge().expect_err("there is no room");
    assert_eq!(broken.kind(), ErrorKind::OutOfResources);
    *archive.room.lock().expect("nobody panics") = None;
    let done = merge().expect("is merged");
    assert_eq!((done.amended, done.unchanged, done.failed), (3, 2, 0));
    for number in 1..=5 {
        let left = leaving(&pacs, &record(&pacs, 1, 1, number));
        assert_eq!(left.string(tags::PATIENT_ID), Some("P2"));
        assert_eq!(left.string(tags::PATIENT_BIRTH_DATE), None);
        // What is counted is no attribute of an instance.
        assert!(!left.contains(tags::NUMBER_OF_PATIENT_RELATED_STUDIES));
    }
    assert_eq!(block_on(pacs.totals()).expect("totals").patients, 1);
    for level in [Level::Patient, Level::Study] {
        let found = having(&pacs, level, tags::PATIENT_BIRTH_DATE, VR::DA, "19700101");
        assert_eq!(found, 0, "{level:?}");
    }
    // Who never was is not found, though the other one has what was amended.
    let nobody = block_on(pacs.merge_patients(&Source::default(), &"NOBODY".into(), &"P2".into()));
    assert_eq!(
        nobody.map(|_| ()).expect_err("is refused").kind(),
        ErrorKind::NotFound
    );
}

/// What is known of a study by an instance that is gone is amended, also where those that are left say so already, and a
/// value that was taken away does not come back.
pub fn what_nobody_says_any_more_is_amended_and_what_was_taken_away_stays_away(place: &dyn Place) {
    let pacs = open(place, DuplicatePolicy::default());
    let send = |number: u32, name: &str, description: &str| {
        let mut set = data_set(1, 1, number, 0);
        set.put_text(tags::PATIENT_NAME, VR::PN, name);
        set.put_text(tags::STUDY_DESCRIPTION, VR::LO, description);
        keep(&pacs, (instance(1, 1, number, 0).0, explicit(&set)));
    };
    send(1, "Old", "OLD");
    send(2, NAME.2, "");
    block_on(pacs.remove(&instance_uid(1, 1, 1))).expect("is removed");
    let description = (tags::STUDY_DESCRIPTION, VR::LO, "");
    assert_eq!(
        amend(&pacs, Scope::Study(study_uid(1)), &[NAME, description]).amended,
        1
    );
    assert_eq!(
        amend(&pacs, Scope::Study(study_uid(1)), &[NAME, description]).amended,
        0
    );
    send(3, "Old", "OLD");
    let holds = |pacs: &Pacs| {
        for level in [Level::Patient, Level::Study] {
            let by_name = |text| having(pacs, level, tags::PATIENT_NAME, VR::PN, text);
            assert_eq!((by_name(NAME.2), by_name("Old")), (1, 0));
        }
        assert_eq!(
            having(pacs, Level::Study, tags::STUDY_DESCRIPTION, VR::LO, "OLD"),
            0
        );
    };
    holds(&pacs);
    block_on(pacs.reindex(|_| ())).expect("is indexed again");
    holds(&pacs);
    drop(pacs);
    rebuild(place);
    holds(&open(place, DuplicatePolicy::default()));
}

/// See its name: here one whose medium fails.
pub fn an_instance_that_can_not_be_read_costs_no_other(place: &dyn Place) {
    let (pacs, archive) = failing(place);
    for number in 1..=3 {
        keep(&pacs, instance(1, 1, number, 0));
    }
    let locator = record(&pacs, 1, 1, 2).locator;
    *archive.unreadable.lock().expect("nobody panics") = Some(locator);
    let amend = || block_on(pacs.amend(&Source::default(), Scope::Study(study_uid(1)), set(&[NAME])));
    let done = amend().expect("is amended");
    assert_eq!((done.amended, done.unchanged, done.failed), (2, 0, 1));
    *archive.unreadable.lock().expect("nobody panics") = None;
    let done = amend().expect("is amended");
    assert_eq!((done.amended, done.unchanged, done.failed), (1, 2, 0));
}

/// What is not amended of a study stays as it is known, whatever its instances say of it, also where one of them
/// says that it is another patient's.
pub fn an_amendment_changes_nothing_else_that_is_known(place: &dyn Place) {
    let pacs = open(place, DuplicatePolicy::default());
    for (number, patient, description) in [(1, "P1", "FIRST"), (2, "P1", "SECOND"), (3, "STRAY", "THIRD")] {
        let mut set = data_set(1, 1, number, 0);
        set.put_text(tags::PATIENT_ID, VR::LO, patient);
        set.put_text(tags::STUDY_DESCRIPTION, VR::LO, description);
        keep(&pacs, (instance(1, 1, number, 0).0, explicit(&set)));
    }
    amend(&pacs, Scope::Study(study_uid(1)), &[ACCESSION]);
    let holds = |pacs: &Pacs| {
        let found = |tag, vr, text| having(pacs, Level::Study, tag, vr, text);
        assert_eq!(found(tags::ACCESSION_NUMBER, VR::SH, "CORRECTED"), 1);
        assert_eq!(found(tags::STUDY_DESCRIPTION, VR::LO, "FIRST"), 1);
        assert_eq!(found(tags::PATIENT_ID, VR::LO, "P1"), 1);
        assert_eq!(block_on(pacs.totals()).expect("totals").patients, 1);
    };
    holds(&pacs);
    // Whichever comes first in a scan without order is the first then.
    drop(pacs);
    if place.archive().capability().ordered_scan {
        rebuild(place);
        holds(&open(place, DuplicatePolicy::default()));
    }
}

fn rebuild(place: &dyn Place) {
    let (archive, index) = (place.archive(), place.index());
    block_on(Pacs::rebuild_index(&*archive, &*index, &AttributeSet::default())).expect("is rebuilt");
}

/// A study that is sent again with other values is known by those; where it was amended it stays so, though what came
/// leaves as it was sent.
pub fn what_is_sent_again_with_other_values_corrects_and_takes_no_amendment_back(place: &dyn Place) {
    let pacs = open(place, DuplicatePolicy::default());
    let send = |name: &str, number: u32| {
        let mut set = data_set(1, 1, number, 0);
        set.put_text(tags::PATIENT_NAME, VR::PN, name);
        set.put_text(tags::STUDY_DESCRIPTION, VR::LO, name);
        keep(&pacs, (instance(1, 1, number, 0).0, explicit(&set)));
    };
    for name in ["Wrong", "Right"] {
        send(name, 1);
        send(name, 2);
    }
    let by_name = |pacs: &Pacs, text| {
        let one = |level| having(pacs, level, tags::PATIENT_NAME, VR::PN, text);
        (one(Level::Patient), one(Level::Study))
    };
    assert_eq!(
        (by_name(&pacs, "Wrong"), by_name(&pacs, "Right")),
        ((0, 0), (1, 1))
    );
    amend(&pacs, Scope::Study(study_uid(1)), &[NAME]);
    send("Another", 1);
    send("Other", 1);
    let holds = |pacs: &Pacs| {
        assert_eq!((by_name(pacs, NAME.2), by_name(pacs, "Other")), ((1, 1), (0, 0)));
        // Nobody amended that.
        assert_eq!(
            having(pacs, Level::Study, tags::STUDY_DESCRIPTION, VR::LO, "Other"),
            1
        );
        assert_eq!(
            leaving(pacs, &record(pacs, 1, 1, 1)).string(NAME.0),
            Some("Other")
        );
        assert_eq!(leaving(pacs, &record(pacs, 1, 1, 2)).string(NAME.0), Some(NAME.2));
    };
    holds(&pacs);
    drop(pacs);
    holds(&open(place, DuplicatePolicy::default()));
    rebuild(place);
    holds(&open(place, DuplicatePolicy::default()));
}

/// See its name: here one in a deflated transfer syntax.
pub fn an_instance_that_can_not_be_amended_costs_no_other(place: &dyn Place) {
    let pacs = filled(place);
    let (mut announced, _) = instance(1, 1, 3, 0);
    announced.transfer_syntax = Uid::constant(uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN);
    let (set_of_it, syntax) = (data_set(1, 1, 3, 0), &announced.transfer_syntax);
    let deflated = encode::encode(&set_of_it, syntax, &CharacterSet::utf8()).expect("is encoded");
    keep(&pacs, (announced, deflated.into()));
    let wanted = set(&[ACCESSION]);
    let done = block_on(pacs.amend(&Source::default(), Scope::Study(study_uid(1)), wanted));
    let done = done.expect("is amended");
    assert_eq!((done.amended, done.unchanged), (3, 0));
    let [(key, error)] = &done.first_failed[..] else {
        panic!("{:?}", done.first_failed);
    };
    assert_eq!(key.instance, instance_uid(1, 1, 3));
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(record(&pacs, 1, 1, 3).superseded.len(), 0);
}

/// An instance in plain ASCII leaves in UTF-8 when it gets what ASCII can't say; one in another character set stays
/// in that, and one whose bytes are in none is left as it is.
pub fn what_plain_ascii_can_not_say_is_said_in_utf_8(place: &dyn Place) {
    let pacs = open(place, DuplicatePolicy::default());
    let latin = CharacterSet::parse("ISO_IR 100");
    let mut set = data_set(8, 1, 1, 0);
    set.put_text(tags::STUDY_DESCRIPTION, VR::LO, "Sch\u{e4}del");
    let bytes = encode::encode(&set, uids::EXPLICIT_VR_LITTLE_ENDIAN, &latin).expect("is encoded");
    // The same without the character set.
    let at = bytes
        .windows(4)
        .position(|four| four == b"\x08\0\x05\0")
        .expect("is there");
    let undeclared = [&bytes[..at], &bytes[at + 18..]].concat();
    keep(&pacs, instance(1, 1, 1, 0));
    keep(&pacs, (instance(8, 1, 1, 0).0, bytes.into()));
    let scope = |study| Scope::Study(study_uid(study));
    let name = "M\u{fc}ller^J\u{f6}rg";
    for study in [1, 8] {
        amend(&pacs, scope(study), &[(NAME.0, NAME.1, name)]);
    }
    // And again, now that it is.
    amend(&pacs, scope(1), &[(tags::STUDY_DESCRIPTION, VR::LO, "\u{5c71}")]);
    for (study, charset, description) in [(1, "ISO_IR 192", "\u{5c71}"), (8, "ISO_IR 100", "Sch\u{e4}del")] {
        let record = record(&pacs, study, 1, 1);
        let left = leaving(&pacs, &record);
        assert_eq!(left.string(tags::SPECIFIC_CHARACTER_SET), Some(charset));
        assert_eq!(left.string(tags::PATIENT_NAME), Some(name));
        assert_eq!(left.string(tags::STUDY_DESCRIPTION), Some(description));
        assert_eq!(left.string(tags::PATIENT_ID), Some("P1"));
        assert!(!left.contains(tags::MODIFIED_ATTRIBUTES_SEQUENCE));
        let metadata = block_on(pacs.metadata(&record)).expect("is made");
        assert_eq!(metadata.header.string(tags::PATIENT_NAME), Some(name));
        assert_eq!(
            metadata.header.string(tags::SPECIFIC_CHARACTER_SET),
            Some(charset)
        );
        assert!(!metadata.header.contains(tags::MODIFIED_ATTRIBUTES_SEQUENCE));
    }
    assert_eq!(
        having(&pacs, Level::Instance, tags::PATIENT_NAME, VR::PN, name),
        2
    );
    keep(&pacs, (instance(8, 1, 1, 0).0, undeclared.into()));
    let done = block_on(pacs.amend(&Source::default(), scope(8), self::set(&[(NAME.0, NAME.1, name)])));
    let failed = done.expect("is answered").first_failed;
    assert!(matches!(&failed[..], [(_, error)] if error.kind() == ErrorKind::Invalid));
}

/// See its name.
pub fn amendments_of_one_instance_at_once_all_count(place: &dyn Place) {
    let pacs = filled(place);
    let wanted = [
        NAME,
        ACCESSION,
        (tags::STUDY_DESCRIPTION, VR::LO, "D"),
        (tags::SERIES_DESCRIPTION, VR::LO, "S"),
    ];
    let source = Source::default();
    // The only one of its study.
    let scope = || Scope::Study(study_uid(8));
    let all = wanted.map(|one| pacs.amend(&source, scope(), set(&[one])));
    for done in block_on(join_all(all)) {
        assert_eq!(done.expect("is amended").amended, 1);
    }
    let left = leaving(&pacs, &record(&pacs, 8, 1, 1));
    for (tag, _, text) in wanted {
        assert_eq!(left.string(tag), Some(text));
    }
    assert_eq!(left.items(tags::ORIGINAL_ATTRIBUTES_SEQUENCE).len(), 4);
}

/// See its name.
pub fn what_may_not_be_amended_is_invalid_and_what_is_not_kept_is_not_found(place: &dyn Place) {
    let pacs = filled(place);
    let kind = |scope, wanted: &[(Tag, VR, &str)]| {
        let done = block_on(pacs.amend(&Source::default(), scope, set(wanted)));
        done.map(|_| ()).expect_err("is refused").kind()
    };
    let study = || Scope::Study(study_uid(1));
    for wanted in [
        (tags::STUDY_INSTANCE_UID, VR::UI, "1.2"),
        (tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192"),
        (tags::MODIFIED_ATTRIBUTES_SEQUENCE, VR::LO, "x"),
        (tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "RGB"),
        (tags::PATIENT_NAME, VR::LO, "Name"),
        (tags::STUDY_DATE, VR::DA, "31.12.1970"),
        (tags::PATIENT_ID, VR::LO, " "),
    ] {
        assert_eq!(kind(study(), &[NAME, wanted]), ErrorKind::Invalid);
    }
    assert_eq!(kind(study(), &[]), ErrorKind::Invalid);
    // What others know as theirs, too.
    let series = || Scope::Series(record(&pacs, 1, 1, 1).key.series);
    let description = (tags::SERIES_DESCRIPTION, VR::LO, "S");
    assert_eq!(kind(series(), &[description, NAME]), ErrorKind::Invalid);
    assert_eq!(kind(series(), &[ACCESSION]), ErrorKind::Invalid);
    assert_eq!(
        kind(Scope::Instance(instance_uid(1, 1, 1)), &[description]),
        ErrorKind::Invalid
    );
    assert_eq!(kind(Scope::All, &[NAME]), ErrorKind::Invalid);
    assert_eq!(kind(Scope::Patient(String::new()), &[NAME]), ErrorKind::Invalid);
    assert_eq!(
        kind(Scope::Patient("NOBODY".to_owned()), &[NAME]),
        ErrorKind::NotFound
    );
    assert_eq!(
        kind(Scope::Study(Uid::constant("2.25.404")), &[NAME]),
        ErrorKind::NotFound
    );
    let verified = block_on(pacs.verify(|_| ())).expect("is verified");
    assert_eq!((verified.whole, verified.whole_earlier), (4, 0));
}

/// See its name; nobody is asked whether it may be kept, and it goes nowhere by itself.
pub fn observers_are_told_what_was_amended(place: &dyn Place) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&told);
    let observer = move |event: &Event| {
        if let Event::Amended { record, source } = event {
            let note = (record.key.instance, record.coerced.is_some(), source.called_ae);
            notes.lock().expect("nobody panics").push(note);
        }
        Ok(())
    };
    let options = Options {
        observers: vec![Arc::new(observer)],
        ..Options::default()
    };
    let pacs = block_on(Pacs::open(place.archive(), place.index(), options)).expect("opens");
    keep(&pacs, instance(1, 1, 1, 0));
    let source = Source {
        called_ae: AeTitle::parse("ARCHIVE").ok(),
        ..Source::default()
    };
    for _ in 0..2 {
        block_on(pacs.amend(&source, Scope::Study(study_uid(1)), set(&[NAME]))).expect("is amended");
    }
    pacs.close().expect("closes");
    let expected = [(instance_uid(1, 1, 1), true, source.called_ae)];
    assert_eq!(*told.lock().expect("nobody panics"), expected);
}
