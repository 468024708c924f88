//! The engine's promises, run on any pair of archive and index.

mod access;
mod amend;
mod coercion;
mod frames;
mod metadata;
mod prefetch;
mod reading;
mod routing;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use futures::executor::block_on;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};

pub use self::access::*;
pub use self::amend::*;
pub use self::coercion::*;
pub use self::frames::*;
pub use self::metadata::*;
pub use self::prefetch::*;
pub use self::reading::*;
pub use self::routing::*;
use crate::archive::{Archive, Entry, Sequence};
use crate::dataset::charset::CharacterSet;
use crate::dataset::part10::{self, Meta};
use crate::dataset::{DataSet, encode};
use crate::engine::{Announced, DuplicatePolicy, Options, Pacs, Received, StoreOutcome};
use crate::error::{Error, ErrorKind, Result};
use crate::hooks::{Arriving, Decider, Event, Source};
use crate::index::{Index, Scope};
use crate::ledger::Ledger;
use crate::query::{AttributeSet, Model, Query, QueryOptions};
use crate::route::{Rule, Rules};
use crate::uid::{Level, Uid};

/// A place that holds an archive, an index and a ledger. Opening it again, after what was opened is dropped,
/// finds what was kept there; a place in memory gives the same ones again.
pub trait Place {
    /// The archive of this place.
    fn archive(&self) -> Arc<dyn Archive>;
    /// The index of this place.
    fn index(&self) -> Arc<dyn Index>;
    /// The ledger of this place.
    fn ledger(&self) -> Arc<dyn Ledger>;
}

/// Makes one `#[test]` of each promise, in a module `$name`; `$place` is an expression for a new, empty
/// [`Place`].
#[macro_export]
macro_rules! engine_conformance {
    ($name:ident, $place:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $crate::engine_conformance!(@each $place,
                an_acknowledged_instance_is_found_and_read_back_byte_for_byte,
                the_frames_of_what_was_received_lie_where_the_engine_says,
                the_metadata_of_an_instance_is_all_of_it_but_bulk_data_and_tells_where_that_lies,
                metadata_that_was_made_is_known_also_after_reopening_without_reading_the_instance,
                metadata_of_what_was_received_lately_is_made_ahead,
                who_asks_for_metadata_and_then_does_not_look_keeps_nobody_from_it,
                who_asks_for_the_same_large_metadata_has_the_same,
                metadata_is_that_of_the_version_that_is_asked_for,
                the_metadata_of_a_coerced_instance_has_the_coercion_applied,
                bulk_data_comes_in_little_endian_and_in_any_range_whatever_the_transfer_syntax,
                large_cells_of_big_endian_pixel_data_are_turned_whole,
                pixel_data_is_passed_over_where_metadata_is_made_and_what_follows_it_is_not_missed,
                metadata_that_can_not_be_made_is_an_error_of_its_instance_alone,
                nothing_of_an_instance_without_commit_is_found,
                the_same_bytes_again_are_a_success_and_no_second_copy,
                different_bytes_replace_and_the_old_version_stays_readable,
                what_is_cut_off_never_takes_the_place_of_what_is_better,
                what_is_whole_takes_the_place_of_what_is_cut_off_whatever_the_policy,
                different_bytes_are_left_out_when_the_first_is_kept,
                different_bytes_are_an_error_when_the_policy_is_to_refuse,
                two_at_once_under_one_uid_are_one_instance,
                a_data_set_that_is_not_what_was_announced_is_a_mismatch,
                an_instance_without_a_study_is_invalid_and_names_the_attribute,
                a_removed_instance_is_gone_also_after_reopening,
                an_instance_is_removed_only_while_it_is_the_version_that_is_meant,
                a_commit_goes_on_when_nobody_waits_for_it,
                an_index_that_was_lost_is_made_again_from_the_archive,
                a_rebuilt_index_answers_like_the_old_one,
                a_reindex_changes_no_answer,
                a_closed_engine_refuses_and_what_it_kept_is_there_after_reopening,
                every_kept_instance_passes_verification,
                a_file_with_a_header_and_one_without_are_imported_alike,
                a_dicomdir_is_refused_with_a_reason,
                observers_are_told_in_order_what_was_kept_routed_and_removed,
                a_decider_refuses_with_its_own_error,
                nobody_does_what_they_may_not_and_the_program_itself_may_all,
                who_may_find_a_part_finds_that_and_nothing_that_counts_the_rest,
                what_is_handed_out_or_stored_is_of_the_part_that_is_theirs,
                who_may_store_a_part_puts_nothing_in_the_place_of_what_is_not_of_it,
                what_is_decided_waits_in_the_outbox_once_for_each_destination,
                what_was_kept_before_there_was_a_router_goes_nowhere,
                what_nobody_was_asked_about_is_asked_about_after_reopening,
                what_can_not_be_asked_about_keeps_no_other_one_waiting_and_is_asked_about_again,
                what_takes_the_place_of_another_version_is_delivered_again,
                a_study_is_delivered_in_the_order_of_the_archive_and_the_urgent_first,
                what_is_refused_waits_among_the_dead_until_it_is_sent_again,
                what_fails_waits_for_its_time_and_nothing_goes_to_who_is_held,
                what_is_removed_or_abandoned_waits_no_more_and_may_be_decided_again,
                a_study_is_stable_once_and_changed_after_that,
                a_study_that_was_removed_is_new_when_it_comes_again,
                what_is_fetched_is_asked_about_as_that_until_it_is_stable,
                a_study_that_is_fetched_and_comes_by_itself_is_new,
                who_does_not_want_it_is_not_asked_about_what_is_fetched,
                that_something_is_fetched_is_known_after_reopening,
                an_order_is_entered_once_before_its_placer_is_answered,
                a_rule_may_ask_for_attributes_that_the_index_does_not_keep,
                what_is_changed_on_the_way_leaves_changed_and_is_kept_as_it_came,
                how_far_a_study_is_is_told_by_what_happened,
                a_report_completes_the_step_and_keeps_what_its_reader_said,
                a_study_that_its_reader_gives_back_waits_for_another_one,
                a_study_whose_step_is_canceled_before_anybody_claims_it_is_not_to_be_read,
                a_coerced_attribute_is_found_by_its_new_value_and_not_by_its_old_one,
                the_stored_bytes_of_a_coerced_instance_are_those_that_came,
                a_coerced_instance_leaves_with_its_new_values_and_the_original_ones,
                a_rebuilt_index_knows_every_coercion,
                a_coerced_instance_that_comes_again_is_kept_already_and_stays_coerced,
                what_has_its_value_already_is_not_coerced,
                what_may_not_be_coerced_is_invalid_and_nothing_is_kept,
                an_instance_that_is_known_too_late_is_not_kept_without_its_coercion,
                an_amended_attribute_is_found_by_its_new_value_at_every_level_and_not_by_its_old_one,
                the_stored_bytes_of_an_amended_instance_are_those_that_came,
                an_amended_instance_leaves_with_its_new_values_and_all_that_it_had_before,
                a_rebuilt_index_knows_every_amendment,
                what_was_amended_and_comes_again_is_kept_already_and_stays_amended,
                what_has_its_values_already_is_not_amended,
                two_patients_become_one,
                patients_with_one_id_by_two_issuers_are_two,
                a_merge_that_was_broken_off_goes_on_where_it_was,
                an_instance_that_can_not_be_amended_costs_no_other,
                an_instance_that_can_not_be_read_costs_no_other,
                what_nobody_says_any_more_is_amended_and_what_was_taken_away_stays_away,
                an_amendment_changes_nothing_else_that_is_known,
                what_is_sent_again_with_other_values_corrects_and_takes_no_amendment_back,
                what_plain_ascii_can_not_say_is_said_in_utf_8,
                amendments_of_one_instance_at_once_all_count,
                what_may_not_be_amended_is_invalid_and_what_is_not_kept_is_not_found,
                observers_are_told_what_was_amended,
                a_frame_is_read_without_the_rest_of_its_instance,
                frames_split_into_any_fragments_are_read_back_as_they_were,
                native_frames_are_handed_out_as_explicit_little_endian_has_them,
                a_frame_that_is_not_there_is_not_found_and_a_missing_one_costs_no_other,
                no_more_frames_are_counted_than_the_stored_bytes_can_hold,
                where_the_index_knows_no_frames_the_instance_is_read_once_for_all_who_ask,
                a_video_is_handed_out_whole_as_its_one_frame,
                a_frame_is_decoded_with_a_header_that_describes_it_and_a_damaged_one_costs_no_other,
                an_animation_of_pictures_of_several_sizes_is_refused,
            );
        }
    };
    (@each $place:expr, $($sentence:ident),* $(,)?) => {
        $(#[test] fn $sentence() { $crate::testkit::engine::$sentence(&$place); })*
    };
}

/// A small instance: its announcement and the bytes of its data set.
///
/// `study`, `series` and `number` say which; the same three give the same UIDs. `variant` changes its
/// bytes and nothing else.
pub fn instance(study: u32, series: u32, number: u32, variant: u32) -> (Announced, Bytes) {
    let set = data_set(study, series, number, variant);
    let announced = Announced {
        sop_class: Uid::constant(uids::CT_IMAGE_STORAGE),
        sop_instance: instance_uid(study, series, number),
        transfer_syntax: Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN),
        source: Source::default(),
    };
    (announced, explicit(&set))
}

fn explicit(set: &DataSet) -> Bytes {
    encode::encode(set, uids::EXPLICIT_VR_LITTLE_ENDIAN, &CharacterSet::utf8())
        .expect("is encoded")
        .into()
}

fn uid(text: String) -> Uid {
    Uid::parse(&text).unwrap_or(Uid::constant("2.25.1"))
}

/// The SOP Instance UID that [`instance`] gives.
pub fn instance_uid(study: u32, series: u32, number: u32) -> Uid {
    uid(format!("1.2.826.0.1.3680043.10.1.{study}.{series}.{number}"))
}

fn study_uid(study: u32) -> Uid {
    uid(format!("1.2.826.0.1.3680043.10.1.{study}"))
}

fn data_set(study: u32, series: u32, number: u32, variant: u32) -> DataSet {
    let mut set = DataSet::new();
    set.put_text(tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE);
    set.put_uid(tags::SOP_INSTANCE_UID, &instance_uid(study, series, number));
    set.put_text(
        tags::STUDY_DATE,
        VR::DA,
        format!("2024{:02}{:02}", study % 12 + 1, study % 28 + 1),
    );
    set.put_text(tags::ACCESSION_NUMBER, VR::SH, format!("A{study}"));
    set.put_text(
        tags::MODALITY,
        VR::CS,
        if series.is_multiple_of(2) { "CT" } else { "MR" },
    );
    set.put_text(tags::PATIENT_NAME, VR::PN, format!("Family{}^Given", study % 7));
    set.put_text(tags::PATIENT_ID, VR::LO, format!("P{}", study % 7));
    set.put_uid(tags::STUDY_INSTANCE_UID, &study_uid(study));
    set.put_uid(
        tags::SERIES_INSTANCE_UID,
        &uid(format!("1.2.826.0.1.3680043.10.1.{study}.{series}")),
    );
    set.put_text(tags::INSTANCE_NUMBER, VR::IS, number.to_string());
    set.put(crate::dataset::Element {
        tag: tags::PIXEL_DATA,
        vr: VR::OW,
        value: crate::dataset::Value::Bytes(Bytes::from(vec![
            variant as u8;
            500 + 2 * (number as usize % 50)
        ])),
    });
    set
}

fn open(place: &dyn Place, duplicates: DuplicatePolicy) -> Pacs {
    let options = Options {
        duplicates,
        ..Options::default()
    };
    block_on(Pacs::open(place.archive(), place.index(), options)).expect("opens")
}

async fn store(pacs: &Pacs, (announced, bytes): (Announced, Bytes)) -> Result<Received> {
    let mut receipt = pacs.receive(announced).await?;
    let middle = bytes.len() / 2;
    receipt.write(bytes.slice(..middle)).await?;
    receipt.write(bytes.slice(middle..)).await?;
    receipt.commit().await
}

fn keep(pacs: &Pacs, instance: (Announced, Bytes)) -> Received {
    block_on(store(pacs, instance)).expect("is kept")
}

fn read(pacs: &Pacs, received: &Received) -> Vec<u8> {
    all(pacs.read_data_set(&received.record))
}

fn all(stream: BoxStream<'static, Result<Bytes>>) -> Vec<u8> {
    block_on(stream.try_fold(Vec::new(), |mut all, chunk| async move {
        all.extend_from_slice(&chunk);
        Ok(all)
    }))
    .expect("is read")
}

fn entries(archive: &dyn Archive) -> usize {
    let stored = |entry: &Result<Entry>| matches!(entry, Ok(Entry::Stored(..)));
    block_on(
        archive
            .scan(Sequence(0))
            .filter(|entry| futures::future::ready(stored(entry)))
            .count(),
    )
}

/// What a query at each level answers, in a fixed order.
fn answers(pacs: &Pacs) -> Vec<Vec<DataSet>> {
    let ask = |level| {
        let mut keys = DataSet::new();
        for tag in [
            tags::PATIENT_ID,
            tags::STUDY_INSTANCE_UID,
            tags::SERIES_INSTANCE_UID,
            tags::SOP_INSTANCE_UID,
        ] {
            keys.put_text(tag, VR::LO, "");
        }
        keys.put_text(tags::MODALITIES_IN_STUDY, VR::CS, "");
        keys.put_text(tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS, "");
        let options = QueryOptions {
            relational: true,
            ..QueryOptions::default()
        };
        let query = Query::new(Model::PatientRoot, level, keys, options);
        let stream = pacs.find(&Source::default(), query).expect("is admitted");
        let mut found: Vec<DataSet> = block_on(stream.try_collect()).expect("is answered");
        found.sort_by_key(explicit);
        found
    };
    Level::ALL.map(ask).into()
}

/// See its name.
pub fn an_acknowledged_instance_is_found_and_read_back_byte_for_byte(place: &dyn Place) {
    let pacs = open(place, DuplicatePolicy::default());
    let (announced, bytes) = instance(1, 1, 1, 0);
    let received = keep(&pacs, (announced.clone(), bytes.clone()));
    assert_eq!(received.outcome, StoreOutcome::New);
    assert_eq!(read(&pacs, &received), bytes);
    let mut pieces = pacs.read_data_set(&received.record);
    while block_on(pieces.next()).is_some() {}
    assert!(block_on(pieces.next()).is_none(), "it ends once and for all");
    let found = block_on(pacs.lookup(&announced.sop_instance))
        .expect("is looked up")
        .expect("is found");
    assert_eq!(found, *received.record);
    assert_eq!(
        answers(&pacs).iter().map(Vec::len).collect::<Vec<_>>(),
        [1, 1, 1, 1]
    );
}

/// See its name; also after the same came again, and after a reindex.
pub fn the_frames_of_what_was_received_lie_where_the_engine_says(place: &dyn Place) {
    let pacs = open(place, DuplicatePolicy::default());
    let mut set = data_set(1, 1, 1, 0);
    set.remove(tags::PIXEL_DATA);
    set.put_text(tags::NUMBER_OF_FRAMES, VR::IS, "2");
    let mut bytes = explicit(&set).to_vec();
    // Encapsulated pixel data (PS3.5 A.4) with an empty Basic Offset Table and a fragment for each frame.
    bytes.extend(b"\xE0\x7F\x10\x00OB\0\0\xFF\xFF\xFF\xFF\xFE\xFF\x00\xE0\0\0\0\0");
    bytes.extend(b"\xFE\xFF\x00\xE0\x04\0\0\0one \xFE\xFF\x00\xE0\x06\0\0\0second");
    bytes.extend(b"\xFE\xFF\xDD\xE0\0\0\0\0");
    let bytes = Bytes::from(bytes);
    let announced = Announced {
        transfer_syntax: Uid::constant(uids::RLE_LOSSLESS),
        ..instance(1, 1, 1, 0).0
    };
    for again in [false, true] {
        let received = keep(&pacs, (announced.clone(), bytes.clone()));
        if again {
            block_on(pacs.reindex(|_| {})).expect("is indexed again");
        }
        let table = block_on(pacs.frames(&received.record)).expect("is looked up");
        let table = table.expect("is known");
        let frame = |at: usize| {
            let frame = table.frames[at];
            &bytes[frame.offset as usize..(frame.offset + frame.length) as usize]
        };
        assert_eq!(table.frames.len(), 2);
        assert_eq!((frame(0), frame(1)), (&b"one "[..], &b"second"[..]));
    }
}

/// See its name.
pub fn nothing_of_an_instance_without_commit_is_found(place: &dyn Place) {
    let pacs = open(place, DuplicatePolicy::default());
    let (announced, bytes) = instance(1, 1, 1, 0);
    block_on(async {
        for abort in [true, false] {
            let mut receipt = pacs.receive(announced.clone()).await.expect("begins");
            receipt.write(bytes.clone()).await.expect("is written");
            if abort {
                receipt.abort().await.expect("is aborted");
            }
        }
        assert_eq!(
            pacs.lookup(&announced.sop_instance).await.expect("is looked up"),
            None
        );
        assert_eq!(pacs.totals().await.expect("totals").instances, 0);
    });
    assert_eq!(entries(&*place_archive(pacs, place)), 0);
}

/// The archive, after the engine that has it open is gone.
fn place_archive(pacs: Pacs, place: &dyn Place) -> Arc<dyn Archive> {
    pacs.close().expect("closes");
    drop(pacs);
    place.archive()
}

/// See its name.
pub fn the_same_bytes_again_are_a_success_and_no_second_copy(place: &dyn Place) {
    let pacs = open(place, DuplicatePolicy::default());
    let first = keep(&pacs, instance(1, 1, 1, 0));
    let again = keep(&pacs, instance(1, 1, 1, 0));
    assert_eq!(again.outcome, StoreOutcome::AlreadyKept);
    assert_eq!(again.record, first.record);
    assert_eq!(entries(&*place_archive(pacs, place)), 1);
}

/// See its name.
pub fn different_bytes_replace_and_the_old_version_stays_readable(place: &dyn Place) {
    let pacs = open(place, DuplicatePolicy::Replace);
    let first = keep(&pacs, instance(1, 1, 1, 0));
    let second = keep(&pacs, instance(1, 1, 1, 9));
    assert_eq!(second.outcome, StoreOutcome::Replaced);
    assert_eq!(
        second.record.superseded,
        std::slice::from_ref(&first.record.locator)
    );
    assert_eq!(read(&pacs, &second), instance(1, 1, 1, 9).1);
    assert_eq!(read(&pacs, &first), instance(1, 1, 1, 0).1);
    assert_eq!(block_on(pacs.totals()).expect("totals").instances, 1);
    // The old version again is kept already, and the newer one stays current.
    let again = keep(&pacs, instance(1, 1, 1, 0));
    assert_eq!(
        (again.outcome, &again.record),
        (StoreOutcome::AlreadyKept, &second.record)
    );
    assert_eq!(entries(&*place_archive(pacs, place)), 2);
}

/// [`instance`] less its last bytes; or longer than it, and yet cut off.
fn cut_off(number: u32, longer: bool) -> (Announced, Bytes) {
    let (announced, bytes) = instance(1, 1, number, 0);
    let more = b"\xE1\x7F\x10\x10OB\0\0\0\x01\0\0only the first few bytes of many";
    match longer {
        true => (announced, Bytes::from([&bytes[..], more].concat())),
        false => (announced, bytes.slice(..bytes.len() - 100)),
    }
}

/// See its name: a whole one is better however short, and of two that are cut off the longer one.
pub fn what_is_cut_off_never_takes_the_place_of_what_is_better(place: &dyn Place) {
    let pacs = open(place, DuplicatePolicy::Replace);
    let whole = keep(&pacs, instance(1, 1, 1, 0));
    for longer in [false, true] {
        let late = keep(&pacs, cut_off(1, longer));
        assert_eq!((late.outcome, late.complete), (StoreOutcome::FirstKept, false));
        assert_eq!((late.warning(), &late.record), (Some(0xB006), &whole.record));
    }
    let early = keep(&pacs, cut_off(2, false));
    assert_eq!((early.outcome, early.complete), (StoreOutcome::New, false));
    let longer = keep(&pacs, cut_off(2, true));
    assert_eq!((longer.outcome, longer.complete), (StoreOutcome::Replaced, false));
    assert_eq!(entries(&*place_archive(pacs, place)), 3);
}

/// See its name; and what was cut off does not become current again.
pub fn what_is_whole_takes_the_place_of_what_is_cut_off_whatever_the_policy(place: &dyn Place) {
    for (number, policy) in [
        (1, DuplicatePolicy::Replace),
        (2, DuplicatePolicy::KeepFirst),
        (3, DuplicatePolicy::Refuse),
    ] {
        let pacs = open(place, policy);
        for longer in [false, true] {
            let number = number + 10 * u32::from(longer);
            keep(&pacs, cut_off(number, longer));
            let whole = keep(&pacs, instance(1, 1, number, 0));
            assert_eq!(whole.outcome, StoreOutcome::Replaced, "{policy:?}");
            assert_eq!(read(&pacs, &whole), instance(1, 1, number, 0).1);
            let again = keep(&pacs, cut_off(number, longer));
            assert_eq!(
                (again.outcome, &again.record),
                (StoreOutcome::AlreadyKept, &whole.record)
            );
        }
        place_archive(pacs, place);
    }
}

/// See its name.
pub fn different_bytes_are_left_out_when_the_first_is_kept(place: &dyn Place) {
    let pacs = open(place, DuplicatePolicy::KeepFirst);
    keep(&pacs, instance(1, 1, 1, 0));
    let second = keep(&pacs, instance(1, 1, 1, 9));
    assert_eq!(second.outcome, StoreOutcome::FirstKept);
    assert_eq!(read(&pacs, &second), instance(1, 1, 1, 0).1);
}

/// See its name.
pub fn different_bytes_are_an_error_when_the_policy_is_to_refuse(place: &dyn Place) {
    let pacs = open(place, DuplicatePolicy::Refuse);
    keep(&pacs, instance(1, 1, 1, 0));
    let refused = block_on(store(&pacs, instance(1, 1, 1, 9))).expect_err("is refused");
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
    assert_eq!(
        keep(&pacs, instance(1, 1, 1, 0)).outcome,
        StoreOutcome::AlreadyKept
    );
}

/// See its name.
pub fn two_at_once_under_one_uid_are_one_instance(place: &dyn Place) {
    let pacs = open(place, DuplicatePolicy::default());
    let outcomes = block_on(futures::future::join_all(
        (0..8).map(|_| store(&pacs, instance(1, 1, 1, 0))),
    ));
    let new = outcomes
        .iter()
        .filter(|outcome| outcome.as_ref().expect("is kept").outcome == StoreOutcome::New);
    assert_eq!(new.count(), 1);
    assert_eq!(entries(&*place_archive(pacs, place)), 1);
}

/// See its name.
pub fn a_data_set_that_is_not_what_was_announced_is_a_mismatch(place: &dyn Place) {
    let pacs = open(place, DuplicatePolicy::default());
    let (announced, bytes) = instance(1, 1, 1, 0);
    let other = Announced {
        sop_instance: instance_uid(1, 1, 2),
        ..announced.clone()
    };
    let error = block_on(store(&pacs, (other, bytes.clone()))).expect_err("is refused");
    assert_eq!(
        (error.kind(), error.tags()),
        (ErrorKind::Mismatch, &[tags::SOP_INSTANCE_UID][..])
    );
    let other = Announced {
        sop_class: Uid::constant(uids::MR_IMAGE_STORAGE),
        ..announced
    };
    let error = block_on(store(&pacs, (other, bytes))).expect_err("is refused");
    assert_eq!(
        (error.kind(), error.tags()),
        (ErrorKind::Mismatch, &[tags::SOP_CLASS_UID][..])
    );
}

/// See its name.
pub fn an_instance_without_a_study_is_invalid_and_names_the_attribute(place: &dyn Place) {
    let pacs = open(place, DuplicatePolicy::default());
    let mut set = data_set(1, 1, 1, 0);
    set.remove(tags::STUDY_INSTANCE_UID);
    let error = block_on(store(&pacs, (instance(1, 1, 1, 0).0, explicit(&set)))).expect_err("is refused");
    assert_eq!(
        (error.kind(), error.tags()),
        (ErrorKind::Invalid, &[tags::STUDY_INSTANCE_UID][..])
    );
}

/// See its name.
pub fn a_removed_instance_is_gone_also_after_reopening(place: &dyn Place) {
    let pacs = open(place, DuplicatePolicy::Replace);
    keep(&pacs, instance(1, 1, 1, 0));
    let newer = keep(&pacs, instance(1, 1, 1, 9));
    keep(&pacs, instance(1, 1, 2, 0));
    assert!(block_on(pacs.remove(&instance_uid(1, 1, 1))).expect("is removed"));
    assert!(!block_on(pacs.remove(&instance_uid(1, 1, 1))).expect("is not there any more"));
    let gone = block_on(pacs.read(&newer.record).next())
        .expect("answers")
        .expect_err("is gone");
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    drop(pacs);
    let pacs = open(place, DuplicatePolicy::Replace);
    assert_eq!(
        block_on(pacs.lookup(&instance_uid(1, 1, 1))).expect("is looked up"),
        None
    );
    assert_eq!(block_on(pacs.totals()).expect("totals").instances, 1);
}

/// See its name.
pub fn an_instance_is_removed_only_while_it_is_the_version_that_is_meant(place: &dyn Place) {
    let pacs = open(place, DuplicatePolicy::Replace);
    let older = keep(&pacs, instance(1, 1, 1, 0));
    let newer = keep(&pacs, instance(1, 1, 1, 9));
    assert!(!block_on(pacs.remove_version(&older.record)).expect("is asked"));
    assert_eq!(block_on(pacs.totals()).expect("totals").instances, 1);
    assert!(block_on(pacs.remove_version(&newer.record)).expect("is removed"));
    assert!(!block_on(pacs.remove_version(&newer.record)).expect("is not there any more"));
    assert_eq!(block_on(pacs.totals()).expect("totals").instances, 0);
}

/// See its name.
pub fn a_commit_goes_on_when_nobody_waits_for_it(place: &dyn Place) {
    let pacs = open(place, DuplicatePolicy::default());
    let (announced, bytes) = instance(1, 1, 1, 0);
    block_on(async {
        let mut receipt = pacs.receive(announced).await.expect("begins");
        receipt.write(bytes).await.expect("is written");
        // Polled once, then dropped, as when an association ends in between.
        let _ = receipt.commit().now_or_never();
    });
    pacs.close().expect("closes");
    drop(pacs);
    let pacs = open(place, DuplicatePolicy::default());
    assert!(
        block_on(pacs.lookup(&instance_uid(1, 1, 1)))
            .expect("is looked up")
            .is_some()
    );
}

fn fill(pacs: &Pacs) {
    for study in 0..5 {
        for number in 0..6 {
            keep(pacs, instance(study, number % 2, number, 0));
        }
    }
    keep(pacs, instance(2, 0, 2, 5));
    block_on(pacs.remove(&instance_uid(3, 1, 3))).expect("is removed");
}

/// See its name.
pub fn an_index_that_was_lost_is_made_again_from_the_archive(place: &dyn Place) {
    let pacs = open(place, DuplicatePolicy::default());
    fill(&pacs);
    let before = answers(&pacs);
    pacs.close().expect("closes");
    drop(pacs);
    block_on(place.index().clear()).expect("is cleared");
    let pacs = open(place, DuplicatePolicy::default());
    assert_eq!(answers(&pacs), before);
}

/// See its name.
pub fn a_rebuilt_index_answers_like_the_old_one(place: &dyn Place) {
    let pacs = open(place, DuplicatePolicy::default());
    fill(&pacs);
    let (before, totals) = (answers(&pacs), block_on(pacs.totals()).expect("totals"));
    pacs.close().expect("closes");
    drop(pacs);
    {
        let (archive, index) = (place.archive(), place.index());
        block_on(Pacs::rebuild_index(&*archive, &*index, &AttributeSet::default())).expect("is rebuilt");
    }
    let pacs = open(place, DuplicatePolicy::default());
    assert_eq!(answers(&pacs), before);
    assert_eq!(block_on(pacs.totals()).expect("totals"), totals);
}

/// See its name.
pub fn a_reindex_changes_no_answer(place: &dyn Place) {
    let pacs = open(place, DuplicatePolicy::default());
    fill(&pacs);
    let before = answers(&pacs);
    assert_eq!(block_on(pacs.reindex(|_| ())).expect("is indexed again"), 29);
    assert_eq!(answers(&pacs), before);
}

/// See its name.
pub fn a_closed_engine_refuses_and_what_it_kept_is_there_after_reopening(place: &dyn Place) {
    let pacs = open(place, DuplicatePolicy::default());
    let kept = keep(&pacs, instance(1, 1, 1, 0));
    pacs.close().expect("closes");
    let error = block_on(store(&pacs, instance(1, 1, 2, 0))).expect_err("is refused");
    assert_eq!(error.kind(), ErrorKind::Closed);
    drop(pacs);
    let pacs = open(place, DuplicatePolicy::default());
    assert_eq!(read(&pacs, &kept), instance(1, 1, 1, 0).1);
    assert_eq!(block_on(pacs.instances(Scope::All).count()), 1);
}

/// See its name.
pub fn every_kept_instance_passes_verification(place: &dyn Place) {
    let pacs = open(place, DuplicatePolicy::default());
    fill(&pacs);
    let verified = block_on(pacs.verify(|_| ())).expect("is verified");
    assert_eq!((verified.whole, verified.damaged.len()), (30, 0));
}

/// See its name.
pub fn a_file_with_a_header_and_one_without_are_imported_alike(place: &dyn Place) {
    let pacs = open(place, DuplicatePolicy::default());
    let (announced, bytes) = instance(1, 1, 1, 0);
    let stream = pieces(vec![bytes.slice(..100), bytes.slice(100..)]);
    let bare = block_on(pacs.import(Source::default(), stream)).expect("is imported");
    assert_eq!(bare.outcome, StoreOutcome::New);
    assert_eq!(read(&pacs, &bare), bytes);
    let file = part10::write_meta(&Meta::new(
        announced.sop_class,
        announced.sop_instance,
        announced.transfer_syntax,
    ));
    let again = block_on(pacs.import(Source::default(), pieces(vec![file, bytes]))).expect("is imported");
    assert_eq!(again.outcome, StoreOutcome::AlreadyKept);
}

/// See its name.
pub fn a_dicomdir_is_refused_with_a_reason(place: &dyn Place) {
    let pacs = open(place, DuplicatePolicy::default());
    let file = part10::write_meta(&Meta {
        sop_class: part10::MEDIA_STORAGE_DIRECTORY,
        sop_instance: instance_uid(1, 1, 1),
        transfer_syntax: Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN),
        source: None,
        sending: None,
        receiving: None,
    });
    let refused = block_on(pacs.import(Source::default(), pieces(vec![file]))).expect_err("is refused");
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert!(refused.context().contains("DICOMDIR"));
}

fn pieces(pieces: Vec<Bytes>) -> impl futures::Stream<Item = Result<Bytes>> + Unpin {
    futures::stream::iter(pieces.into_iter().map(Ok))
}

/// See its name.
pub fn observers_are_told_in_order_what_was_kept_routed_and_removed(place: &dyn Place) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&told);
    let observer = move |event: &Event| {
        let note = match event {
            Event::Received { record, outcome, .. } => format!("{outcome:?} {}", record.key.instance),
            Event::Routed { deliveries, .. } => deliveries
                .iter()
                .map(|delivery| format!("to {}", delivery.destination))
                .collect(),
            Event::Amended { record, .. } => format!("amended {}", record.key.instance),
            Event::Removed { key } => format!("removed {}", key.instance),
        };
        notes.lock().expect("nobody panics").push(note);
        Ok(())
    };
    let mut keys = DataSet::new();
    keys.put_text(tags::MODALITY, VR::CS, "CT");
    let to_reader = || Rule::new("to the reader").when(keys.clone()).send_to("READER");
    let rules = Rules::new(vec![to_reader(), to_reader()]).expect("they mean something");
    let options = Options {
        router: Some(Arc::new(rules)),
        observers: vec![Arc::new(observer)],
        ..Options::default()
    };
    let pacs = block_on(Pacs::open(place.archive(), place.index(), options)).expect("opens");
    keep(&pacs, instance(1, 2, 1, 0));
    keep(&pacs, instance(1, 1, 2, 0));
    keep(&pacs, instance(1, 1, 2, 0));
    block_on(pacs.remove(&instance_uid(1, 2, 1))).expect("is removed");
    pacs.close().expect("closes");
    let (ct, mr) = (instance_uid(1, 2, 1), instance_uid(1, 1, 2));
    let mut told = told.lock().expect("nobody panics").clone();
    // The router is asked on a thread of its own, behind the commit.
    let routed = told
        .iter()
        .position(|note| note == "to READER")
        .expect("it was routed");
    assert!(routed > 0);
    told.remove(routed);
    let expected = [
        format!("New {ct}"),
        format!("New {mr}"),
        format!("AlreadyKept {mr}"),
        format!("removed {ct}"),
    ];
    assert_eq!(told, expected);
}

/// See its name.
pub fn a_decider_refuses_with_its_own_error(place: &dyn Place) {
    struct NoMr;
    impl Decider for NoMr {
        fn before_store(&self, arriving: &Arriving<'_>) -> Result<()> {
            match arriving.header.string(tags::MODALITY) {
                Some("MR") => Err(Error::new(ErrorKind::Refused, "test.decide", "no MR here")),
                _ => Ok(()),
            }
        }
    }
    let options = Options {
        decider: Arc::new(NoMr),
        ..Options::default()
    };
    let pacs = block_on(Pacs::open(place.archive(), place.index(), options)).expect("opens");
    let refused = block_on(store(&pacs, instance(1, 1, 1, 0))).expect_err("is refused");
    assert_eq!(
        (refused.kind(), refused.context()),
        (ErrorKind::Refused, "no MR here")
    );
    keep(&pacs, instance(1, 2, 1, 0));
    assert_eq!(block_on(pacs.totals()).expect("totals").instances, 1);
}
