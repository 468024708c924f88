//! The archive's promises, run on any archive.

mod damage;
mod reading;
mod removing;
mod reopening;
mod scanning;
mod writing;

use std::sync::Arc;
use std::task::Context;

use bytes::Bytes;
use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use futures::executor::block_on;
use futures::future::{join_all, poll_immediate};
use futures::task::noop_waker;
use futures::{FutureExt, StreamExt, TryStreamExt};

use crate::archive::{Archive, ArchiveWriter, Entry, Locator, Sequence, Stored};
use crate::dataset::charset::CharacterSet;
use crate::dataset::{DataSet, Element, Value, encode, part10};
use crate::error::{ErrorKind, Result};
use crate::limits::{LOCATOR_LENGTH_MAX_BYTES, READ_CHUNK_BYTES};
use crate::uid::{InstanceKey, Uid};

pub use damage::*;
pub use reading::*;
pub use removing::*;
pub use reopening::*;
pub use scanning::*;
pub use writing::*;

/// A place that holds an archive. Opening it again, after what was opened is dropped, finds what was
/// kept there (where the archive is durable).
///
/// A closure that returns an archive is one:
/// ```
/// # use std::sync::Arc;
/// # use pacs_core::{Archive, testkit::archive::ArchivePlace};
/// fn is_a_place<A: Archive>(open: impl Fn() -> A) -> impl ArchivePlace {
///     open
/// }
/// ```
pub trait ArchivePlace {
    /// Opens the archive of this place.
    fn open(&self) -> Arc<dyn Archive>;

    /// Changes one byte inside these bytes, which are part of an instance that is kept, where they lie.
    ///
    /// Answers whether it did. `false`, which is what places say by themselves, skips what is promised of
    /// damage: the place can't, or the archive keeps no checksums.
    fn damage(&self, _bytes: &Bytes) -> bool {
        false
    }

    /// Whether there is such a place here: what an archive needs may be missing. Then nothing is tested.
    fn is_there(&self) -> bool {
        true
    }
}

impl<A: Archive, F: Fn() -> A> ArchivePlace for F {
    fn open(&self) -> Arc<dyn Archive> {
        Arc::new(self())
    }
}

/// Makes one `#[test]` of each promise of [`Archive`] and [`ArchiveWriter`], in a module `$name`;
/// `$place` is an expression for a new, empty [`ArchivePlace`].
#[macro_export]
macro_rules! archive_conformance {
    ($name:ident, $place:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $crate::archive_conformance!(@each $place,
                nothing_of_an_instance_is_seen_before_its_commit,
                a_committed_instance_is_read_back_byte_for_byte,
                the_pieces_of_a_range_joined_are_exactly_that_range,
                what_is_read_unchecked_is_what_is_read,
                a_range_that_reaches_past_the_end_yields_what_there_is,
                an_empty_range_yields_nothing,
                pieces_are_of_bounded_size,
                an_instance_of_no_bytes_is_kept_like_any_other,
                reading_what_is_not_kept_is_not_found_as_the_first_item,
                a_locator_of_somebody_else_is_not_found,
                a_locator_is_short,
                dropping_a_stream_stops_reading,
                an_aborted_instance_leaves_nothing,
                a_writer_dropped_without_commit_leaves_nothing,
                a_commit_that_was_never_polled_leaves_nothing,
                a_commit_goes_on_when_its_future_is_dropped_after_its_first_poll,
                sequences_grow_with_every_commit_and_removal,
                commits_at_the_same_time_are_all_kept,
                a_removed_instance_is_not_found,
                removing_what_is_not_there_succeeds,
                removing_one_instance_leaves_the_others,
                a_scan_from_zero_yields_every_instance_that_is_kept,
                a_scan_yields_what_came_after_a_sequence_in_ascending_order,
                a_scan_yields_removals_after_a_sequence,
                the_last_sequence_is_not_before_any_that_was_given_also_after_reopening,
                two_commits_of_one_instance_are_both_yielded,
                a_scan_can_begin_after_any_sequence_whatever_was_hinted,
                a_whole_instance_verifies,
                verifying_what_is_not_kept_is_not_found,
                verifying_finds_a_changed_byte_and_its_neighbours_whole,
                mending_what_is_whole_changes_nothing_and_what_is_not_kept_is_not_found,
                many_writers_and_readers_at_once_see_whole_instances,
                a_writer_outlives_its_archive_without_harm,
                what_was_committed_is_there_after_reopening,
                what_was_removed_is_gone_after_reopening,
                sequences_go_on_after_reopening,
                what_was_not_committed_is_not_there_after_reopening,
            );
        }
    };
    (@each $place:expr, $($sentence:ident),* $(,)?) => {
        $(#[test] fn $sentence() {
            let place = $place;
            if $crate::testkit::archive::ArchivePlace::is_there(&place) {
                $crate::testkit::archive::$sentence(&place);
            }
        })*
    };
}

/// Says in the test's output why a sentence was not tested.
#[allow(clippy::print_stderr)]
fn skip(sentence: &str, reason: &str) {
    eprintln!("skipped: {sentence}: {reason}");
}

/// The key of the `n`th instance of these tests; ten to a series, a hundred to a study.
pub fn key(n: u64) -> InstanceKey {
    let uid = |text: String| Uid::parse(&text).expect("digits and dots");
    InstanceKey {
        study: uid(format!("1.2.3.{}", n / 100)),
        series: uid(format!("1.2.3.{}.{}", n / 100, n / 10)),
        instance: uid(format!("1.2.3.{}.{}.{n}", n / 100, n / 10)),
    }
}

/// A Part 10 stream for `key` with `filling` bytes of Pixel Data (an even number) that follow from `seed`.
pub fn part10(key: &InstanceKey, filling: usize, seed: u64) -> Bytes {
    let mut set = DataSet::new();
    set.put_text(tags::SOP_CLASS_UID, VR::UI, uids::SECONDARY_CAPTURE_IMAGE_STORAGE);
    set.put_uid(tags::SOP_INSTANCE_UID, &key.instance);
    set.put_uid(tags::STUDY_INSTANCE_UID, &key.study);
    set.put_uid(tags::SERIES_INSTANCE_UID, &key.series);
    let mut state = seed;
    let mut bytes = Vec::with_capacity(filling + 8);
    while bytes.len() < filling {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state >> 16).to_le_bytes()[..6]);
    }
    bytes.truncate(filling / 2 * 2);
    set.put(Element {
        tag: tags::PIXEL_DATA,
        vr: VR::OW,
        value: Value::Bytes(bytes.into()),
    });
    let meta = part10::Meta::new(
        Uid::constant(uids::SECONDARY_CAPTURE_IMAGE_STORAGE),
        key.instance,
        Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN),
    );
    let mut stream = part10::write_meta(&meta).to_vec();
    let data_set = encode::encode(&set, uids::EXPLICIT_VR_LITTLE_ENDIAN, &CharacterSet::utf8());
    stream.extend_from_slice(&data_set.expect("UIDs and bytes are encoded"));
    stream.into()
}

/// Begins an instance, writes `bytes` in chunks of `chunk`, and gives the writer.
pub async fn begin(archive: &dyn Archive, bytes: &Bytes, chunk: usize) -> Result<Box<dyn ArchiveWriter>> {
    let mut writer = archive.begin().await?;
    for at in (0..bytes.len()).step_by(chunk.max(1)) {
        writer.write(bytes.slice(at..bytes.len().min(at + chunk))).await?;
    }
    Ok(writer)
}

/// Lengths around which archives change what they do.
const FILLINGS: [usize; 6] = [0, 10, 5_000, 300_000, 1_200_000, 3_000_000];

/// Keeps the `n`th instance and gives what it was.
fn keep(archive: &dyn Archive, n: u64, filling: usize) -> (InstanceKey, Bytes, Stored) {
    let key = key(n);
    let bytes = part10(&key, filling, n);
    let stored = block_on(async { begin(archive, &bytes, 16_000).await?.commit(key).await });
    (key, bytes, stored.expect("is kept"))
}

fn read(archive: &dyn Archive, locator: &Locator, range: std::ops::Range<u64>) -> Result<Vec<u8>> {
    block_on(
        archive
            .read(locator, range)
            .try_fold(Vec::new(), |mut all, piece| {
                all.extend_from_slice(&piece);
                std::future::ready(Ok(all))
            }),
    )
}

fn read_all(archive: &dyn Archive, stored: &Stored) -> Bytes {
    read(archive, &stored.locator, 0..stored.length)
        .expect("is read")
        .into()
}

fn scan(archive: &dyn Archive, after: Sequence) -> Vec<Entry> {
    block_on(archive.scan(after).try_collect()).expect("is scanned")
}

/// The instances of a scan.
fn instances(archive: &dyn Archive, after: Sequence) -> Vec<(InstanceKey, Stored)> {
    let stored = |entry| match entry {
        Entry::Stored(key, stored) => Some((key, stored)),
        Entry::Removed { .. } => None,
    };
    let mut found: Vec<_> = scan(archive, after).into_iter().filter_map(stored).collect();
    if !archive.capability().ordered_scan {
        found.sort_by_key(|(_, stored)| stored.sequence);
    }
    found
}

fn kind_of<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

/// Whether a sentence about durability can be tested here.
fn durable(archive: &dyn Archive, sentence: &str) -> bool {
    let durable = archive.capability().durable;
    if !durable {
        skip(sentence, "the archive says it is not durable");
    }
    durable
}

fn ordered(archive: &dyn Archive, sentence: &str) -> bool {
    let ordered = archive.capability().ordered_scan;
    if !ordered {
        skip(sentence, "the archive says its scan has no order");
    }
    ordered
}

fn keys_and_lengths(found: &[(InstanceKey, Stored)]) -> Vec<(InstanceKey, Locator, u64)> {
    found
        .iter()
        .map(|(key, stored)| (*key, stored.locator.clone(), stored.length))
        .collect()
}
