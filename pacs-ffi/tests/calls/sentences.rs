//! The engine's promises, those of `pacs_core::testkit::engine`, kept through the functions of the header: on each archive
//! that a configuration names.

use std::sync::Mutex;

use pacs::amend::{pacs_amended, pacs_engine_amend, pacs_engine_merge_patients};
use pacs::data_set::{pacs_data_set_count, pacs_data_set_item};
use pacs::engine::{
    pacs_engine_checkpoint, pacs_engine_remove, pacs_engine_totals, pacs_engine_verify, pacs_rebuild_index,
    pacs_rebuilt, pacs_totals,
};
use pacs::frame::{pacs_frames_decode, pacs_frames_free, pacs_frames_open, pacs_frames_read, pacs_pixels};
use pacs::hooks::{pacs_arriving, pacs_event, pacs_event_kind};
use pacs::instance::{pacs_instance_get_info, pacs_instance_header, pacs_instance_info};
use pacs::store::{pacs_outcome, pacs_receipt_abort, pacs_receipt_commit, pacs_receipt_write, pacs_receive};
use pacs_core::testkit::engine::{instance, instance_uid};

use super::hooks::string;
use super::storing::whole;
use super::*;

use pacs_outcome::*;

const ACCESSION: u32 = 0x0008_0050;
const ORIGINALS: u32 = 0x0400_0561;
const SERIES: i32 = pacs_level::PACS_LEVEL_SERIES as i32;
const PATIENT: i32 = pacs_level::PACS_LEVEL_PATIENT as i32;

/// A form of what is read: as it leaves, its data set alone, and the stored file.
const FILE: i32 = 0;
const DATA_SET: i32 = 1;
const STORED: i32 = 2;

/// A store that can be opened again, with everything that is opened of it.
struct Place {
    context: Context,
    directory: tempfile::TempDir,
    archive: &'static str,
}

impl Place {
    fn new(archive: &'static str) -> Self {
        Self {
            context: Context::new(),
            directory: tempfile::tempdir().unwrap(),
            archive,
        }
    }

    fn configuration(&self, more: &str) -> String {
        let (archive, directory) = (self.archive, self.directory.path().display());
        format!("archive = '{archive}'\ndata = '{directory}'\n{more}")
    }

    fn open(&self) -> Engine<'_> {
        self.open_with("", ptr::null())
    }

    fn open_with(&self, more: &str, hooks: *const pacs_hooks) -> Engine<'_> {
        Engine {
            place: self,
            engine: self.context.engine_with(&self.configuration(more), hooks),
        }
    }

    fn rebuild(&self) -> pacs_rebuilt {
        let (mut rebuilt, configuration) = (sized!(pacs_rebuilt), c(&self.configuration("")));
        ok!(
            self.context.0,
            pacs_rebuild_index(self.context.0, configuration.as_ptr(), &mut rebuilt)
        );
        rebuilt
    }
}

struct Engine<'p> {
    place: &'p Place,
    engine: *mut pacs_engine,
}

impl Drop for Engine<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.place.context.close(self.engine);
        }
    }
}

/// The file of an instance of the testkit, and the bytes of its data set.
fn made(study: u32, series: u32, number: u32, variant: u32) -> (Vec<u8>, Vec<u8>) {
    let (announced, bytes) = instance(study, series, number, variant);
    let (class, uid, syntax) = (
        announced.sop_class,
        announced.sop_instance,
        announced.transfer_syntax,
    );
    let mut file = write_meta(&Meta::new(class, uid, syntax)).to_vec();
    file.extend_from_slice(&bytes);
    (file, bytes.to_vec())
}

fn uid(study: u32, series: u32, number: u32) -> String {
    instance_uid(study, series, number).to_string()
}

fn study(study: u32) -> String {
    format!("1.2.826.0.1.3680043.10.1.{study}")
}

impl Engine<'_> {
    fn keep(&self, study: u32, series: u32, number: u32, variant: u32) -> pacs_stored {
        let (file, _) = made(study, series, number, variant);
        self.place.context.store(self.engine, &file)
    }

    /// The status that storing is answered with, and why.
    fn refused(&self, file: &[u8]) -> (pacs_status, String) {
        let (mut stored, store) = (sized!(pacs_stored), pacs_store);
        let status = status!(store(
            self.engine,
            ptr::null(),
            file.as_ptr().cast(),
            file.len(),
            &mut stored
        ));
        (status, last_error(self.place.context.0))
    }

    fn read(&self, uid: &str, form: i32) -> Vec<u8> {
        self.place.context.read(self.engine, uid, form)
    }

    fn info(&self, uid: &str) -> pacs_instance_info {
        let context = &self.place.context;
        let (instance, mut info) = (context.lookup(self.engine, uid), sized!(pacs_instance_info));
        ok!(context.0, pacs_instance_get_info(instance, &mut info));
        ok!(context.0, pacs_instance_free(instance));
        info
    }

    /// The stored data set, byte for byte.
    fn stored(&self, uid: &str) -> Vec<u8> {
        let offset = usize::try_from(self.info(uid).data_set_offset).unwrap();
        self.read(uid, STORED).split_off(offset)
    }

    fn having(&self, level: i32, tag: u32, value: &str) -> usize {
        self.place
            .context
            .found(self.engine, level, &[(tag, value)], tag)
            .len()
    }

    fn instances(&self) -> Vec<String> {
        let keys = [(INSTANCE_UID, "")];
        self.place
            .context
            .found(self.engine, INSTANCE, &keys, INSTANCE_UID)
    }

    fn totals(&self) -> (u64, u64, u64, u64) {
        let mut totals = sized!(pacs_totals);
        ok!(self.place.context.0, pacs_engine_totals(self.engine, &mut totals));
        (totals.patients, totals.studies, totals.series, totals.instances)
    }

    fn verified(&self) -> (u64, u64) {
        let (mut whole, mut damaged) = (0, 0);
        ok!(
            self.place.context.0,
            pacs_engine_verify(self.engine, ptr::null(), &mut whole, &mut damaged)
        );
        (whole, damaged)
    }

    /// What of these attributes leaves with an instance.
    fn leaving(&self, uid: &str, tags: &[u32]) -> Vec<String> {
        let context = &self.place.context;
        let (instance, mut header) = (context.lookup(self.engine, uid), ptr::null_mut());
        ok!(
            context.0,
            pacs_instance_header(instance, ptr::null(), &mut header)
        );
        let values = tags.iter().map(|tag| context.text(header, *tag)).collect();
        ok!(context.0, pacs_data_set_free(header));
        ok!(context.0, pacs_instance_free(instance));
        values
    }

    /// What an amendment that succeeds comes to.
    fn amend(&self, level: i32, id: &str, wanted: &[(u32, &str)]) -> (u64, u64, u64) {
        let (status, amended) = self.amendment(level, id, wanted);
        assert_eq!(status, PACS_OK, "{}", last_error(self.place.context.0));
        (amended.amended, amended.unchanged, amended.failed)
    }

    fn amendment(&self, level: i32, id: &str, wanted: &[(u32, &str)]) -> (pacs_status, pacs_amended) {
        let (context, mut amended) = (&self.place.context, sized!(pacs_amended));
        let (wanted, id, amend) = (context.keys(wanted), c(id), pacs_engine_amend);
        let (nobody, none) = (ptr::null(), ptr::null_mut());
        let status = status!(amend(
            self.engine,
            nobody,
            level,
            id.as_ptr(),
            wanted,
            None,
            none,
            &mut amended
        ));
        ok!(context.0, pacs_data_set_free(wanted));
        (status, amended)
    }
}

fn an_acknowledged_instance_is_found_and_read_back_byte_for_byte(place: &Place) {
    let engine = place.open();
    for number in 1..=3 {
        assert_eq!(engine.keep(1, 1, number, 0).outcome, PACS_OUTCOME_NEW);
        assert_eq!(engine.stored(&uid(1, 1, number)), made(1, 1, number, 0).1);
        assert_eq!(engine.read(&uid(1, 1, number), DATA_SET), made(1, 1, number, 0).1);
        assert_eq!(
            engine.read(&uid(1, 1, number), FILE),
            engine.read(&uid(1, 1, number), STORED)
        );
    }
    assert_eq!(engine.instances(), [uid(1, 1, 1), uid(1, 1, 2), uid(1, 1, 3)]);
    assert_eq!(engine.totals(), (1, 1, 1, 3));
}

fn the_metadata_of_an_instance_is_all_of_it_but_bulk_data(place: &Place) {
    let engine = place.open();
    engine.keep(1, 1, 1, 0);
    let read = engine.leaving(&uid(1, 1, 1), &[PATIENT_NAME, PATIENT_ID, ACCESSION, STUDY_UID]);
    assert_eq!(read, ["Family1^Given", "P1", "A1", &study(1)]);
}

fn nothing_of_an_instance_without_commit_is_found(place: &Place) {
    let (engine, context) = (place.open(), &place.context);
    let (file, _) = made(1, 1, 1, 0);
    let mut receipt = ptr::null_mut();
    ok!(context.0, pacs_receive(engine.engine, ptr::null(), &mut receipt));
    ok!(
        context.0,
        pacs_receipt_write(receipt, file.as_ptr().cast(), file.len())
    );
    assert_eq!(engine.instances(), [""; 0]);
    ok!(context.0, pacs_receipt_abort(receipt));
    assert_eq!(engine.instances(), [""; 0]);
    assert_eq!(engine.totals(), (0, 0, 0, 0));
    let mut receipt = ptr::null_mut();
    ok!(context.0, pacs_receive(engine.engine, ptr::null(), &mut receipt));
    for piece in file.chunks(100) {
        ok!(
            context.0,
            pacs_receipt_write(receipt, piece.as_ptr().cast(), piece.len())
        );
    }
    ok!(context.0, pacs_receipt_commit(receipt, ptr::null_mut()));
    assert_eq!(engine.instances(), [uid(1, 1, 1)]);
}

fn the_same_bytes_again_are_a_success_and_no_second_copy(place: &Place) {
    let engine = place.open();
    for outcome in [
        PACS_OUTCOME_NEW,
        PACS_OUTCOME_ALREADY_KEPT,
        PACS_OUTCOME_ALREADY_KEPT,
    ] {
        assert_eq!(engine.keep(1, 1, 1, 0).outcome, outcome);
    }
    assert_eq!(engine.verified(), (1, 0));
}

fn different_bytes_replace_and_the_old_version_stays(place: &Place) {
    let engine = place.open();
    engine.keep(1, 1, 1, 0);
    assert_eq!(engine.keep(1, 1, 1, 9).outcome, PACS_OUTCOME_REPLACED);
    assert_eq!(engine.stored(&uid(1, 1, 1)), made(1, 1, 1, 9).1);
    assert_eq!(engine.info(&uid(1, 1, 1)).earlier_versions, 1);
    // The old version again is kept already, and the newer one stays current.
    assert_eq!(engine.keep(1, 1, 1, 0).outcome, PACS_OUTCOME_ALREADY_KEPT);
    assert_eq!(engine.stored(&uid(1, 1, 1)), made(1, 1, 1, 9).1);
    assert_eq!(engine.verified(), (2, 0));
}

fn what_is_cut_off_never_takes_the_place_of_what_is_better(place: &Place) {
    let (engine, context) = (place.open(), &place.context);
    let (file, bytes) = made(1, 1, 1, 0);
    let cut = &file[..file.len() - 100];
    let first = context.store(engine.engine, cut);
    assert_eq!((first.outcome, first.warning), (PACS_OUTCOME_NEW, 0xB007));
    let whole = context.store(engine.engine, &file);
    assert_eq!((whole.outcome, whole.warning), (PACS_OUTCOME_REPLACED, 0));
    engine.keep(1, 1, 2, 0);
    let (other, _) = made(1, 1, 2, 0);
    let late = context.store(engine.engine, &other[..other.len() - 100]);
    assert_eq!((late.outcome, late.warning), (PACS_OUTCOME_FIRST_KEPT, 0xB006));
    assert_eq!(engine.stored(&uid(1, 1, 1)), bytes);
}

fn different_bytes_are_left_out_or_refused_where_the_first_is_kept(place: &Place) {
    let first = place.open_with("duplicates = 'keep-first'", ptr::null());
    first.keep(1, 1, 1, 0);
    assert_eq!(first.keep(1, 1, 1, 9).outcome, PACS_OUTCOME_FIRST_KEPT);
    assert_eq!(first.stored(&uid(1, 1, 1)), made(1, 1, 1, 0).1);
    drop(first);
    let refusing = place.open_with("duplicates = 'refuse'", ptr::null());
    refusing.keep(1, 1, 2, 0);
    let (status, why) = refusing.refused(&made(1, 1, 2, 9).0);
    assert_eq!(status, PACS_ALREADY_EXISTS, "{why}");
    assert_eq!(refusing.keep(1, 1, 2, 0).outcome, PACS_OUTCOME_ALREADY_KEPT);
}

fn many_at_once_under_one_uid_are_one_instance(place: &Place) {
    let engine = place.open();
    let (handle, (file, _)) = (engine.engine as usize, made(1, 1, 1, 0));
    let new = std::thread::scope(|scope| {
        let store = || {
            let mut stored = sized!(pacs_stored);
            let engine = handle as *mut pacs_engine;
            ok!(
                ptr::null(),
                pacs_store(engine, ptr::null(), file.as_ptr().cast(), file.len(), &mut stored)
            );
            stored.outcome == PACS_OUTCOME_NEW
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(store)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .filter(|new| *new)
            .count()
    });
    assert_eq!(new, 1);
    assert_eq!(engine.verified(), (1, 0));
}

fn an_instance_without_a_study_is_invalid_and_the_answer_names_the_attribute(place: &Place) {
    let engine = place.open();
    let (file, _) = made(1, 1, 1, 0);
    let at = file.windows(6).position(|six| six == b"\x20\0\x0D\0UI").unwrap();
    // Another element stands in its place.
    let mut without = file.clone();
    without[at + 2] = 0x0B;
    let (status, why) = engine.refused(&without);
    assert_eq!(status, PACS_INVALID, "{why}");
    assert!(why.contains("(0020,000D)"), "{why}");
    assert_eq!(engine.totals(), (0, 0, 0, 0));
}

fn a_removed_instance_is_gone_also_after_reopening(place: &Place) {
    let engine = place.open();
    engine.keep(1, 1, 1, 0);
    engine.keep(1, 1, 1, 9);
    engine.keep(1, 1, 2, 0);
    let mut removed = 0;
    ok!(
        place.context.0,
        pacs_engine_remove(engine.engine, INSTANCE, c(&uid(1, 1, 1)).as_ptr(), &mut removed)
    );
    assert_eq!(removed, 1);
    assert_eq!(engine.instances(), [uid(1, 1, 2)]);
    drop(engine);
    assert_eq!(place.open().instances(), [uid(1, 1, 2)]);
}

fn a_rebuilt_index_answers_like_the_old_one(place: &Place) {
    let engine = place.open();
    for (study, series, number) in [(1, 1, 1), (1, 2, 1), (2, 1, 1)] {
        engine.keep(study, series, number, 0);
    }
    engine.keep(2, 1, 1, 9);
    ok!(place.context.0, pacs_engine_checkpoint(engine.engine));
    let state = |engine: &Engine<'_>| {
        let found = |level, tag| place.context.found(engine.engine, level, &[(tag, "")], tag);
        let answers = [
            found(PATIENT, PATIENT_NAME),
            found(STUDY, STUDY_UID),
            found(STUDY, ACCESSION),
            found(SERIES, PATIENT_ID),
        ];
        (
            answers,
            engine.instances(),
            engine.totals(),
            engine.info(&uid(2, 1, 1)).earlier_versions,
        )
    };
    let before = state(&engine);
    drop(engine);
    let rebuilt = place.rebuild();
    assert_eq!(
        (rebuilt.instances, rebuilt.unreadable, rebuilt.missing),
        (3, 0, 0)
    );
    assert_eq!(state(&place.open()), before);
}

fn a_closed_engine_refuses_and_what_it_kept_is_there_after_reopening(place: &Place) {
    let engine = place.open();
    engine.keep(1, 1, 1, 0);
    let closed = engine.engine;
    drop(engine);
    let (file, store) = (made(1, 1, 2, 0).0, pacs_store);
    let none = ptr::null_mut();
    let status = status!(store(closed, ptr::null(), file.as_ptr().cast(), file.len(), none));
    assert_eq!(status, PACS_BAD_HANDLE);
    assert_eq!(place.open().instances(), [uid(1, 1, 1)]);
}

fn every_kept_instance_passes_verification(place: &Place) {
    let engine = place.open();
    for number in 1..=5 {
        engine.keep(1, 1, number, 0);
        engine.keep(1, 1, number, 1);
    }
    assert_eq!(engine.verified(), (10, 0));
}

fn a_file_with_a_header_and_one_without_are_taken_in_alike(place: &Place) {
    let engine = place.open();
    // What has no File Meta Information is in Implicit VR, as old systems wrote it.
    let set = pacs_core::dataset::scan::parse(
        &made(1, 1, 1, 0).1,
        &Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN),
    );
    let implicit = Uid::constant(uids::IMPLICIT_VR_LITTLE_ENDIAN);
    let bare = encode(&set.unwrap(), &implicit, &CharacterSet::utf8()).unwrap();
    assert_eq!(
        place.context.store(engine.engine, &bare).outcome,
        PACS_OUTCOME_NEW
    );
    assert_eq!(engine.stored(&uid(1, 1, 1)), bare);
    engine.keep(1, 1, 2, 0);
    assert_eq!(engine.having(INSTANCE, PATIENT_ID, "P1"), 2);
}

fn a_dicomdir_is_refused_with_a_reason(place: &Place) {
    let engine = place.open();
    let directory = pacs_core::dataset::part10::MEDIA_STORAGE_DIRECTORY;
    let syntax = Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let file = write_meta(&Meta::new(directory, instance_uid(1, 1, 1), syntax));
    let (status, why) = engine.refused(&file);
    assert_eq!(status, PACS_UNSUPPORTED);
    assert!(why.contains("DICOMDIR"), "{why}");
}

/// What the hooks of a test are told.
type Told = Mutex<Vec<String>>;

unsafe extern "C" fn note(told: *mut c_void, event: *const pacs_event) {
    // SAFETY: the header promises it.
    let event = unsafe { &*event };
    let what = match event.kind {
        pacs_event_kind::PACS_EVENT_STORED => format!("stored as {}", event.outcome as i32),
        pacs_event_kind::PACS_EVENT_REMOVED => "removed".to_owned(),
        pacs_event_kind::PACS_EVENT_AMENDED => "amended".to_owned(),
        pacs_event_kind::PACS_EVENT_ROUTED => "routed".to_owned(),
    };
    let told = user::<Told>(told);
    told.lock()
        .unwrap()
        .push(format!("{what} {}", string(event.instance)));
}

fn observers_are_told_in_order_what_was_kept_amended_and_removed(place: &Place) {
    let told = Told::default();
    let mut hooks = sized!(pacs_hooks);
    hooks.user = ptr::from_ref(&told).cast_mut().cast();
    hooks.happened = Some(note);
    let engine = place.open_with("", &hooks);
    engine.keep(1, 1, 1, 0);
    engine.keep(1, 1, 1, 0);
    engine.amend(STUDY, &study(1), &[(PATIENT_NAME, "Corrected")]);
    engine.keep(1, 1, 1, 9);
    ok!(
        place.context.0,
        pacs_engine_remove(engine.engine, STUDY, c(&study(1)).as_ptr(), ptr::null_mut())
    );
    drop(engine);
    let (new, again, replaced) = (PACS_OUTCOME_NEW, PACS_OUTCOME_ALREADY_KEPT, PACS_OUTCOME_REPLACED);
    let uid = uid(1, 1, 1);
    let stored = |outcome| format!("stored as {} {uid}", outcome as i32);
    let expected = [
        stored(new),
        stored(again),
        format!("amended {uid}"),
        stored(replaced),
        format!("removed {uid}"),
    ];
    assert_eq!(*told.lock().unwrap(), expected);
}

unsafe extern "C" fn identify(_: *mut c_void, arriving: *const pacs_arriving, _: *mut c_char) -> i32 {
    let put = pacs_data_set_put;
    // SAFETY: the header promises it.
    let changes = unsafe { (*arriving).changes };
    let put = |tag, value: &str| status!(put(changes, tag, ptr::null(), c(value).as_ptr()));
    assert_eq!(put(PATIENT_ID, "4711"), PACS_OK);
    // It came with that value.
    put(ACCESSION, "A1 ") as i32
}

fn a_coerced_instance_is_found_and_leaves_with_its_new_values_and_its_bytes_stay(place: &Place) {
    let mut hooks = sized!(pacs_hooks);
    hooks.before_store = Some(identify);
    let engine = place.open_with("", &hooks);
    let stored = engine.keep(1, 1, 1, 0);
    assert_eq!((stored.outcome, stored.warning), (PACS_OUTCOME_NEW, 0xB000));
    let holds = |engine: &Engine<'_>| {
        let by_id = |id| engine.having(STUDY, PATIENT_ID, id);
        assert_eq!((by_id("4711"), by_id("P1")), (1, 0));
        assert_eq!(engine.stored(&uid(1, 1, 1)), made(1, 1, 1, 0).1);
        let left = engine.leaving(&uid(1, 1, 1), &[PATIENT_ID, ACCESSION, PATIENT_NAME]);
        assert_eq!(left, ["4711", "A1", "Family1^Given"]);
    };
    holds(&engine);
    assert_eq!(engine.keep(1, 1, 1, 0).outcome, PACS_OUTCOME_ALREADY_KEPT);
    holds(&engine);
    drop(engine);
    place.rebuild();
    holds(&place.open());
}

fn an_amended_attribute_is_found_by_its_new_value_at_every_level_and_not_by_its_old_one(place: &Place) {
    let engine = place.open();
    for (study, series, number) in [(1, 1, 1), (1, 1, 2), (1, 2, 1), (8, 1, 1)] {
        engine.keep(study, series, number, 0);
    }
    let wanted = [(ACCESSION, "CORRECTED"), (PATIENT_NAME, "Corrected^Näme")];
    // What is in no character set but ASCII is said in another one where it must be.
    assert_eq!(engine.amend(STUDY, &study(1), &wanted), (3, 0, 0));
    let holds = |engine: &Engine<'_>| {
        for (level, new) in [(STUDY, 1), (SERIES, 2), (INSTANCE, 3)] {
            assert_eq!(engine.having(level, ACCESSION, "CORRECTED"), new);
            assert_eq!(engine.having(level, ACCESSION, "A1"), 0);
            assert_eq!(engine.having(level, PATIENT_NAME, "Corrected^Näme"), new);
        }
        let left = engine.leaving(&uid(1, 1, 1), &[PATIENT_NAME, ACCESSION, PATIENT_ID]);
        assert_eq!(left, ["Corrected^Näme", "CORRECTED", "P1"]);
        assert_eq!(engine.stored(&uid(1, 1, 1)), made(1, 1, 1, 0).1);
        assert_eq!(engine.info(&uid(1, 1, 1)).earlier_versions, 1);
        assert_eq!(engine.verified(), (7, 0));
    };
    holds(&engine);
    // All that it had is there still.
    let context = &place.context;
    let (instance, mut header) = (context.lookup(engine.engine, &uid(1, 1, 1)), ptr::null_mut());
    ok!(
        context.0,
        pacs_instance_header(instance, ptr::null(), &mut header)
    );
    let mut count = 0;
    ok!(context.0, pacs_data_set_count(header, ORIGINALS, &mut count));
    assert_eq!(count, 1);
    let (mut item, mut original) = (ptr::null_mut(), ptr::null_mut());
    ok!(context.0, pacs_data_set_item(header, ORIGINALS, 0, &mut item));
    assert_eq!(context.text(item, 0x0400_0565), "CORRECT");
    ok!(context.0, pacs_data_set_item(item, 0x0400_0550, 0, &mut original));
    assert_eq!(context.text(original, PATIENT_NAME), "Family1^Given");
    for set in [original, item, header] {
        ok!(context.0, pacs_data_set_free(set));
    }
    ok!(context.0, pacs_instance_free(instance));
    // Again it changes nothing, and nothing comes in the way of it.
    assert_eq!(engine.amend(STUDY, &study(1), &wanted), (0, 3, 0));
    assert_eq!(engine.keep(1, 1, 1, 0).outcome, PACS_OUTCOME_ALREADY_KEPT);
    holds(&engine);
    drop(engine);
    place.rebuild();
    holds(&place.open());
}

fn two_patients_become_one(place: &Place) {
    let (engine, context) = (place.open(), &place.context);
    engine.keep(1, 1, 1, 0);
    engine.keep(2, 1, 1, 0);
    engine.keep(2, 2, 1, 0);
    let merge = |prior: &str, surviving: &str| {
        let (mut amended, merge) = (sized!(pacs_amended), pacs_engine_merge_patients);
        let (prior, surviving, none) = (c(prior), c(surviving), ptr::null_mut());
        let (prior, surviving) = (prior.as_ptr(), surviving.as_ptr());
        let nobody = ptr::null();
        let status = status!(merge(
            engine.engine,
            nobody,
            prior,
            surviving,
            None,
            none,
            &mut amended
        ));
        (status, amended.amended)
    };
    assert_eq!(merge("NOBODY", "P1"), (PACS_NOT_FOUND, 0));
    assert_eq!(merge("P2", "NOBODY"), (PACS_NOT_FOUND, 0));
    assert_eq!(merge("P2", "P2"), (PACS_INVALID, 0));
    assert_eq!(merge("P2", "P1"), (PACS_OK, 2), "{}", last_error(context.0));
    let by_id = |id| engine.having(STUDY, PATIENT_ID, id);
    assert_eq!((by_id("P1"), by_id("P2")), (2, 0));
    assert_eq!(
        engine.leaving(&uid(2, 1, 1), &[PATIENT_ID, PATIENT_NAME]),
        ["P1", "Family1^Given"]
    );
    assert_eq!(engine.totals(), (1, 2, 3, 3));
}

unsafe extern "C" fn gather(told: *mut c_void, uid: *const c_char, why: *const c_char) {
    user::<Told>(told)
        .lock()
        .unwrap()
        .push(format!("{}: {}", string(uid), string(why)));
}

fn what_can_not_be_amended_is_told_and_costs_no_other(place: &Place) {
    let (engine, context) = (place.open(), &place.context);
    engine.keep(1, 1, 1, 0);
    let syntax = Uid::constant(uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN);
    let bytes = made(1, 1, 2, 0).1;
    let set = pacs_core::dataset::scan::parse(&bytes, &Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN));
    let deflated = encode(&set.unwrap(), &syntax, &CharacterSet::utf8()).unwrap();
    let class = Uid::constant(uids::CT_IMAGE_STORAGE);
    let mut file = write_meta(&Meta::new(class, instance_uid(1, 1, 2), syntax)).to_vec();
    file.extend(deflated);
    context.store(engine.engine, &file);
    let (told, mut amended, id) = (Told::default(), sized!(pacs_amended), c(&study(1)));
    let (wanted, pointer) = (
        context.keys(&[(ACCESSION, "A2")]),
        ptr::from_ref(&told).cast_mut().cast(),
    );
    ok!(
        context.0,
        pacs_engine_amend(
            engine.engine,
            ptr::null(),
            STUDY,
            id.as_ptr(),
            wanted,
            Some(gather),
            pointer,
            &mut amended
        )
    );
    ok!(context.0, pacs_data_set_free(wanted));
    assert_eq!((amended.amended, amended.unchanged, amended.failed), (1, 0, 1));
    let told = told.lock().unwrap();
    assert!(
        matches!(&told[..], [one] if one.starts_with(&uid(1, 1, 2)) && one.contains("deflated")),
        "{told:?}"
    );
    let (unknown, uids) = ([(ACCESSION, "A3")], [(STUDY_UID, "1.2")]);
    assert_eq!(engine.amendment(STUDY, &study(1), &uids).0, PACS_INVALID);
    assert_eq!(engine.amendment(STUDY, &study(1), &[]).0, PACS_INVALID);
    assert_eq!(engine.amendment(STUDY, &study(404), &unknown).0, PACS_NOT_FOUND);
    assert_eq!(engine.amendment(0, "", &unknown).0, PACS_INVALID);
    assert_eq!(engine.amendment(9, "", &unknown).0, PACS_BAD_ARGUMENT);
}

fn a_frame_is_read_and_decoded_and_one_that_is_not_there_is_not_found(place: &Place) {
    let (engine, context) = (place.open(), &place.context);
    context.store(engine.engine, &file(1, 1));
    let instance = context.lookup(engine.engine, "1.2.1.1.1");
    let (mut frames, mut count, nobody) = (ptr::null_mut(), 0, ptr::null());
    ok!(
        context.0,
        pacs_frames_open(instance, nobody, &mut frames, &mut count)
    );
    assert_eq!(count, 1);
    let samples: Vec<u8> = (1..25u16).flat_map(u16::to_le_bytes).collect();
    let read = |reader| whole(context, reader);
    let mut reader = ptr::null_mut();
    ok!(context.0, pacs_frames_read(frames, 1, &mut reader));
    assert_eq!(read(reader), samples);
    let mut pixels = sized!(pacs_pixels);
    ok!(context.0, pacs_frames_decode(frames, 1, &mut pixels, &mut reader));
    assert_eq!(read(reader), samples);
    let (get, none) = (pacs_frames_read, ptr::null_mut::<pacs::instance::pacs_reader>());
    let mut reader = none;
    assert_eq!(status!(get(frames, 2, &mut reader)), PACS_NOT_FOUND);
    assert!(reader.is_null());
    ok!(context.0, pacs_frames_free(frames));
    ok!(context.0, pacs_instance_free(instance));
}

macro_rules! on {
    ($module:ident, $archive:literal, $($sentence:ident),* $(,)?) => {
        mod $module {
            $(#[test] fn $sentence() { super::$sentence(&super::Place::new($archive)); })*
        }
    };
}

/// Those that open the store once, on every archive; the others on those that outlive the process.
macro_rules! all {
    (once: $($once:ident),*; again: $($again:ident),* $(,)?) => {
        on!(memory, "memory", $($once),*);
        on!(segment, "segment", $($once),*, $($again),*);
        on!(folder, "folder", $($once),*, $($again),*);
    };
}

all!(
    once: an_acknowledged_instance_is_found_and_read_back_byte_for_byte,
    the_metadata_of_an_instance_is_all_of_it_but_bulk_data,
    nothing_of_an_instance_without_commit_is_found,
    the_same_bytes_again_are_a_success_and_no_second_copy,
    different_bytes_replace_and_the_old_version_stays,
    what_is_cut_off_never_takes_the_place_of_what_is_better,
    different_bytes_are_left_out_or_refused_where_the_first_is_kept,
    many_at_once_under_one_uid_are_one_instance,
    an_instance_without_a_study_is_invalid_and_the_answer_names_the_attribute,
    every_kept_instance_passes_verification,
    a_file_with_a_header_and_one_without_are_taken_in_alike,
    a_dicomdir_is_refused_with_a_reason,
    observers_are_told_in_order_what_was_kept_amended_and_removed,
    two_patients_become_one,
    what_can_not_be_amended_is_told_and_costs_no_other,
    a_frame_is_read_and_decoded_and_one_that_is_not_there_is_not_found;
    again: a_removed_instance_is_gone_also_after_reopening,
    a_rebuilt_index_answers_like_the_old_one,
    a_closed_engine_refuses_and_what_it_kept_is_there_after_reopening,
    a_coerced_instance_is_found_and_leaves_with_its_new_values_and_its_bytes_stay,
    an_amended_attribute_is_found_by_its_new_value_at_every_level_and_not_by_its_old_one,
);
