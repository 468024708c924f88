//! The archive's promises, run on any archive.

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
                two_commits_of_one_instance_are_both_yielded,
                a_scan_can_begin_after_any_sequence_whatever_was_hinted,
                a_whole_instance_verifies,
                verifying_what_is_not_kept_is_not_found,
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
        $(#[test] fn $sentence() { $crate::testkit::archive::$sentence(&$place); })*
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
    let meta = part10::Meta {
        sop_class: Uid::constant(uids::SECONDARY_CAPTURE_IMAGE_STORAGE),
        sop_instance: key.instance,
        transfer_syntax: Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN),
        source: None,
        sending: None,
        receiving: None,
    };
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

/// See its name.
pub fn nothing_of_an_instance_is_seen_before_its_commit(place: &dyn ArchivePlace) {
    let archive = place.open();
    for (n, filling) in (1..).zip(FILLINGS) {
        let bytes = part10(&key(n), filling, n);
        let writer = block_on(begin(&*archive, &bytes, 10_000)).expect("is written");
        assert!(
            !instances(&*archive, Sequence(0))
                .iter()
                .any(|(found, _)| *found == key(n))
        );
        let stored = block_on(writer.commit(key(n))).expect("is kept");
        assert_eq!(read_all(&*archive, &stored), bytes);
    }
}

/// See its name.
pub fn a_committed_instance_is_read_back_byte_for_byte(place: &dyn ArchivePlace) {
    let archive = place.open();
    // Chunks as senders make them: a byte, a fragment, a PDU, all at once.
    for (n, chunk) in (0..).zip([1, 100, 16_378, 131_072, usize::MAX >> 1]) {
        for (m, filling) in (0..).zip(FILLINGS) {
            if chunk == 1 && filling > 10_000 {
                continue;
            }
            let key = key(n * 10 + m);
            let bytes = part10(&key, filling, n);
            let stored = block_on(async { begin(&*archive, &bytes, chunk).await?.commit(key).await })
                .expect("is kept");
            assert_eq!(stored.length, bytes.len() as u64);
            assert_eq!(read_all(&*archive, &stored), bytes);
        }
    }
}

/// See its name.
pub fn the_pieces_of_a_range_joined_are_exactly_that_range(place: &dyn ArchivePlace) {
    let archive = place.open();
    for (n, filling) in (1..).zip([5_000, 1_200_000]) {
        let (_, bytes, stored) = keep(&*archive, n, filling);
        let length = bytes.len();
        let chunk = READ_CHUNK_BYTES.min(length - 1);
        for (start, end) in [
            (0, 1),
            (1, 2),
            (0, chunk),
            (chunk, length),
            (chunk - 1, chunk + 1),
            (length - 1, length),
            (0, length - 1),
            (1, length),
        ] {
            let part = read(&*archive, &stored.locator, start as u64..end as u64).expect("is read");
            assert_eq!(part, bytes[start..end]);
        }
    }
}

/// See its name.
pub fn a_range_that_reaches_past_the_end_yields_what_there_is(place: &dyn ArchivePlace) {
    let archive = place.open();
    let (_, bytes, stored) = keep(&*archive, 1, 700_000);
    let part = read(&*archive, &stored.locator, 100..u64::MAX).expect("is read");
    assert_eq!(part, bytes[100..]);
    let part = read(&*archive, &stored.locator, stored.length..stored.length + 9).expect("is read");
    assert!(part.is_empty());
    let part = read(&*archive, &stored.locator, u64::MAX - 1..u64::MAX).expect("is read");
    assert!(part.is_empty());
}

/// See its name.
pub fn an_empty_range_yields_nothing(place: &dyn ArchivePlace) {
    let archive = place.open();
    let (_, _, stored) = keep(&*archive, 1, 5_000);
    for at in [0, 17, stored.length] {
        let items = block_on(archive.read(&stored.locator, at..at).collect::<Vec<_>>());
        assert!(items.is_empty());
    }
}

/// See its name.
pub fn pieces_are_of_bounded_size(place: &dyn ArchivePlace) {
    let archive = place.open();
    let (_, bytes, stored) = keep(&*archive, 1, 3_000_000);
    let pieces: Vec<Bytes> =
        block_on(archive.read(&stored.locator, 0..stored.length).try_collect()).expect("is read");
    assert!(
        pieces
            .iter()
            .all(|piece| !piece.is_empty() && piece.len() <= READ_CHUNK_BYTES)
    );
    assert_eq!(pieces.concat(), bytes);
}

/// See its name.
pub fn an_instance_of_no_bytes_is_kept_like_any_other(place: &dyn ArchivePlace) {
    let archive = place.open();
    let writer = block_on(archive.begin()).expect("begins");
    let stored = block_on(writer.commit(key(1))).expect("is kept");
    assert_eq!(stored.length, 0);
    assert!(read_all(&*archive, &stored).is_empty());
    assert_eq!(kind_of(block_on(archive.verify(&stored.locator))), None);
}

/// See its name.
pub fn reading_what_is_not_kept_is_not_found_as_the_first_item(place: &dyn ArchivePlace) {
    let archive = place.open();
    let (key, _, stored) = keep(&*archive, 1, 5_000);
    block_on(archive.remove(&key.instance, &stored.locator)).expect("is removed");
    let items = block_on(
        archive
            .read(&stored.locator, 0..stored.length)
            .collect::<Vec<_>>(),
    );
    assert_eq!(items.len(), 1);
    assert_eq!(
        items.into_iter().map(kind_of).next(),
        Some(Some(ErrorKind::NotFound))
    );
}

/// See its name.
pub fn a_locator_of_somebody_else_is_not_found(place: &dyn ArchivePlace) {
    let archive = place.open();
    let (_, _, stored) = keep(&*archive, 1, 5_000);
    let mut strange = vec![Vec::new(), b"x".to_vec(), vec![0xFF; LOCATOR_LENGTH_MAX_BYTES]];
    for length in [8, 16, 24, 32] {
        strange.push(vec![0xFF; length]);
        strange.push(vec![0; length]);
    }
    for path in ["../../../../etc/passwd", "/etc/passwd", "..", "."] {
        strange.push(path.as_bytes().to_vec());
    }
    // One's own, too short or too long.
    strange.push(stored.locator.as_bytes()[1..].to_vec());
    strange.push([stored.locator.as_bytes(), b"/"].concat());
    for bytes in strange {
        let locator = Locator::new(&bytes);
        let found = kind_of(read(&*archive, &locator, 0..10));
        assert_eq!(found, Some(ErrorKind::NotFound), "{locator:?}");
        let found = kind_of(block_on(archive.verify(&locator)));
        assert_eq!(found, Some(ErrorKind::NotFound), "{locator:?}");
        block_on(archive.remove(&key(1).instance, &locator)).expect("removing it succeeds");
    }
    assert_eq!(kind_of(block_on(archive.verify(&stored.locator))), None);
}

/// See its name.
pub fn a_locator_is_short(place: &dyn ArchivePlace) {
    let archive = place.open();
    let longest = Uid::parse(&"1".repeat(64)).expect("64 digits");
    let key = InstanceKey {
        study: longest,
        series: longest,
        instance: longest,
    };
    let bytes = part10(&key, 100, 1);
    let stored = block_on(async { begin(&*archive, &bytes, 1000).await?.commit(key).await });
    let stored = stored.expect("is kept");
    assert!(stored.locator.as_bytes().len() <= LOCATOR_LENGTH_MAX_BYTES);
    assert_eq!(read_all(&*archive, &stored), bytes);
}

/// See its name.
pub fn dropping_a_stream_stops_reading(place: &dyn ArchivePlace) {
    let archive = place.open();
    let (_, bytes, stored) = keep(&*archive, 1, 3_000_000);
    for _ in 0..20 {
        let mut stream = archive.read(&stored.locator, 0..stored.length);
        let first = block_on(stream.next()).expect("a piece").expect("is read");
        assert!(bytes.starts_with(&first));
        let mut never_polled_to_its_end = archive.read(&stored.locator, 0..stored.length);
        let _ = poll_immediate(never_polled_to_its_end.next()).now_or_never();
    }
    assert_eq!(read_all(&*archive, &stored), bytes);
}

/// See its name.
pub fn an_aborted_instance_leaves_nothing(place: &dyn ArchivePlace) {
    let archive = place.open();
    for filling in FILLINGS {
        let bytes = part10(&key(1), filling, 1);
        let writer = block_on(begin(&*archive, &bytes, 16_000)).expect("is written");
        block_on(writer.abort()).expect("aborts");
    }
    assert_eq!(scan(&*archive, Sequence(0)), []);
    let (_, bytes, stored) = keep(&*archive, 2, 400_000);
    assert_eq!(read_all(&*archive, &stored), bytes);
    let found = instances(&*archive, Sequence(0));
    assert_eq!(
        keys_and_lengths(&found),
        [(key(2), stored.locator, stored.length)]
    );
}

/// See its name.
pub fn a_writer_dropped_without_commit_leaves_nothing(place: &dyn ArchivePlace) {
    let archive = place.open();
    for filling in FILLINGS {
        let bytes = part10(&key(1), filling, 1);
        drop(block_on(begin(&*archive, &bytes, 16_000)).expect("is written"));
    }
    assert_eq!(scan(&*archive, Sequence(0)), []);
    let (_, bytes, stored) = keep(&*archive, 2, 400_000);
    assert_eq!(read_all(&*archive, &stored), bytes);
}

/// See its name.
pub fn a_commit_that_was_never_polled_leaves_nothing(place: &dyn ArchivePlace) {
    let archive = place.open();
    for filling in FILLINGS {
        let bytes = part10(&key(1), filling, 1);
        let writer = block_on(begin(&*archive, &bytes, 16_000)).expect("is written");
        drop(writer.commit(key(1)));
    }
    assert_eq!(scan(&*archive, Sequence(0)), []);
}

/// See its name.
pub fn a_commit_goes_on_when_its_future_is_dropped_after_its_first_poll(place: &dyn ArchivePlace) {
    let archive = place.open();
    for (n, filling) in (1..).zip(FILLINGS) {
        let bytes = part10(&key(n), filling, n);
        let writer = block_on(begin(&*archive, &bytes, 16_000)).expect("is written");
        let mut commit = writer.commit(key(n));
        let _ = commit.as_mut().poll(&mut Context::from_waker(&noop_waker()));
        drop(commit);
        // A commit that was begun later returns later.
        keep(&*archive, 100 + n, 10);
        let found = instances(&*archive, Sequence(0));
        let stored = found.iter().find(|(found, _)| *found == key(n));
        let (_, stored) = stored.expect("the dropped commit went on");
        assert_eq!(read_all(&*archive, stored), bytes);
    }
}

/// See its name.
pub fn sequences_grow_with_every_commit_and_removal(place: &dyn ArchivePlace) {
    let archive = place.open();
    let mut last = Sequence(0);
    for n in 0..20 {
        let (key, _, stored) = keep(&*archive, n, if n % 3 == 0 { 1_200_000 } else { 100 });
        assert!(stored.sequence > last);
        last = stored.sequence;
        if n % 4 == 0 {
            let sequence = block_on(archive.remove(&key.instance, &stored.locator)).expect("is removed");
            assert!(sequence > last);
            last = sequence;
        }
    }
}

/// See its name.
pub fn commits_at_the_same_time_are_all_kept(place: &dyn ArchivePlace) {
    let archive = place.open();
    let expected: Vec<_> = (0..40)
        .map(|n| (key(n), part10(&key(n), FILLINGS[n as usize % 5], n)))
        .collect();
    let stored = block_on(async {
        let mut commits = Vec::new();
        for (key, bytes) in &expected {
            commits.push(begin(&*archive, bytes, 50_000).await?.commit(*key));
        }
        join_all(commits).await.into_iter().collect::<Result<Vec<_>>>()
    })
    .expect("all are kept");
    for ((_, bytes), stored) in expected.iter().zip(&stored) {
        assert_eq!(read_all(&*archive, stored), bytes);
    }
    let mut sequences: Vec<_> = stored.iter().map(|stored| stored.sequence).collect();
    sequences.sort();
    sequences.dedup();
    assert_eq!(sequences.len(), expected.len());
    assert_eq!(instances(&*archive, Sequence(0)).len(), expected.len());
}

/// See its name.
pub fn a_removed_instance_is_not_found(place: &dyn ArchivePlace) {
    let archive = place.open();
    for (n, filling) in (1..).zip(FILLINGS) {
        let (key, bytes, stored) = keep(&*archive, n, filling);
        // A stream that was begun before ends with the removal, or yields what was written.
        let mut stream = archive.read(&stored.locator, 0..stored.length);
        let first = block_on(stream.next());
        block_on(archive.remove(&key.instance, &stored.locator)).expect("is removed");
        let rest = block_on(stream.try_collect::<Vec<_>>());
        if let (Some(Ok(first)), Ok(rest)) = (first, &rest) {
            assert_eq!([&[first], rest.as_slice()].concat().concat(), bytes);
        } else {
            assert_eq!(kind_of(rest), Some(ErrorKind::NotFound));
        }
        let found = kind_of(read(&*archive, &stored.locator, 0..stored.length));
        assert_eq!(found, Some(ErrorKind::NotFound));
        let found = kind_of(block_on(archive.verify(&stored.locator)));
        assert_eq!(found, Some(ErrorKind::NotFound));
    }
    assert_eq!(instances(&*archive, Sequence(0)), []);
}

/// See its name.
pub fn removing_what_is_not_there_succeeds(place: &dyn ArchivePlace) {
    let archive = place.open();
    let (key, _, stored) = keep(&*archive, 1, 5_000);
    for _ in 0..3 {
        block_on(archive.remove(&key.instance, &stored.locator)).expect("is removed");
    }
    let twice = [&key.instance; 2].map(|instance| archive.remove(instance, &stored.locator));
    assert!(block_on(join_all(twice)).iter().all(Result::is_ok));
}

/// See its name.
pub fn removing_one_instance_leaves_the_others(place: &dyn ArchivePlace) {
    let archive = place.open();
    let kept: Vec<_> = (0..12)
        .map(|n| keep(&*archive, n, FILLINGS[n as usize % 6]))
        .collect();
    for (key, _, stored) in kept.iter().step_by(2) {
        block_on(archive.remove(&key.instance, &stored.locator)).expect("is removed");
    }
    for (_, bytes, stored) in kept.iter().skip(1).step_by(2) {
        assert_eq!(read_all(&*archive, stored), bytes);
    }
    let left: Vec<_> = kept
        .iter()
        .skip(1)
        .step_by(2)
        .map(|(key, _, stored)| (*key, stored.clone()))
        .collect();
    let mut found = instances(&*archive, Sequence(0));
    found.sort_by_key(|(key, _)| *key);
    let mut left = left;
    left.sort_by_key(|(key, _)| *key);
    assert_eq!(keys_and_lengths(&found), keys_and_lengths(&left));
}

fn keys_and_lengths(found: &[(InstanceKey, Stored)]) -> Vec<(InstanceKey, Locator, u64)> {
    found
        .iter()
        .map(|(key, stored)| (*key, stored.locator.clone(), stored.length))
        .collect()
}

/// See its name.
pub fn a_scan_from_zero_yields_every_instance_that_is_kept(place: &dyn ArchivePlace) {
    let archive = place.open();
    let mut kept: Vec<_> = (0..300)
        .map(|n| keep(&*archive, n, if n % 50 == 0 { 1_200_000 } else { 200 }))
        .map(|(key, _, stored)| (key, stored))
        .collect();
    let mut found = instances(&*archive, Sequence(0));
    if archive.capability().ordered_scan {
        assert_eq!(found, kept);
    }
    found.sort_by_key(|(key, _)| *key);
    kept.sort_by_key(|(key, _)| *key);
    assert_eq!(keys_and_lengths(&found), keys_and_lengths(&kept));
}

/// See its name.
pub fn a_scan_yields_what_came_after_a_sequence_in_ascending_order(place: &dyn ArchivePlace) {
    let archive = place.open();
    if !ordered(
        &*archive,
        "a scan yields what came after a sequence in ascending order",
    ) {
        return;
    }
    let kept: Vec<_> = (0..60)
        .map(|n| keep(&*archive, n, FILLINGS[n as usize % 5]))
        .map(|(key, _, stored)| (key, stored))
        .collect();
    for skip in 0..=kept.len() {
        let after = match skip {
            0 => Sequence(0),
            skip => kept[skip - 1].1.sequence,
        };
        assert_eq!(instances(&*archive, after), kept[skip..]);
    }
    assert_eq!(scan(&*archive, Sequence(u64::MAX)), []);
}

/// See its name.
pub fn a_scan_yields_removals_after_a_sequence(place: &dyn ArchivePlace) {
    let archive = place.open();
    if !ordered(&*archive, "a scan yields removals after a sequence") {
        return;
    }
    let (one, _, first) = keep(&*archive, 1, 1_200_000);
    let (_, _, second) = keep(&*archive, 2, 100);
    let sequence = block_on(archive.remove(&one.instance, &first.locator)).expect("is removed");
    let removed = Entry::Removed {
        instance: one.instance,
        locator: first.locator,
        sequence,
    };
    let kept = Entry::Stored(key(2), second.clone());
    assert_eq!(scan(&*archive, Sequence(0)), [kept, removed.clone()]);
    assert_eq!(scan(&*archive, second.sequence), [removed]);
    assert_eq!(scan(&*archive, sequence), []);
}

/// See its name.
pub fn two_commits_of_one_instance_are_both_yielded(place: &dyn ArchivePlace) {
    let archive = place.open();
    let (first, second) = (part10(&key(1), 1000, 1), part10(&key(1), 2000, 2));
    let stored = [&first, &second].map(|bytes| {
        block_on(async { begin(&*archive, bytes, 16_000).await?.commit(key(1)).await }).expect("is kept")
    });
    assert_ne!(stored[0].locator, stored[1].locator);
    assert_eq!(read_all(&*archive, &stored[0]), first);
    assert_eq!(read_all(&*archive, &stored[1]), second);
    let found = instances(&*archive, Sequence(0));
    assert!(found.iter().all(|(found, _)| *found == key(1)));
    let lengths: Vec<_> = found.iter().map(|(_, stored)| stored.length).collect();
    assert_eq!(lengths.len(), 2);
    assert!(lengths.contains(&stored[0].length) && lengths.contains(&stored[1].length));
    // Removing one leaves the other.
    block_on(archive.remove(&key(1).instance, &stored[0].locator)).expect("is removed");
    assert_eq!(read_all(&*archive, &stored[1]), second);
    assert_eq!(instances(&*archive, Sequence(0)).len(), 1);
}

/// See its name.
pub fn a_scan_can_begin_after_any_sequence_whatever_was_hinted(place: &dyn ArchivePlace) {
    let archive = place.open();
    if !ordered(
        &*archive,
        "a scan can begin after any sequence, whatever was hinted",
    ) {
        return;
    }
    let mut kept = Vec::new();
    for n in 0..10 {
        let (key, _, stored) = keep(&*archive, n, FILLINGS[n as usize % 6]);
        kept.push((key, stored));
        let hint = kept[kept.len() / 2].1.sequence;
        block_on(archive.indexed(hint)).expect("takes the hint");
        for (skip, (_, stored)) in kept.iter().enumerate() {
            assert_eq!(instances(&*archive, stored.sequence), kept[skip + 1..]);
        }
        assert_eq!(instances(&*archive, Sequence(0)), kept);
    }
}

/// See its name.
pub fn a_whole_instance_verifies(place: &dyn ArchivePlace) {
    let archive = place.open();
    for (n, filling) in (1..).zip(FILLINGS) {
        let (_, _, stored) = keep(&*archive, n, filling);
        block_on(archive.verify(&stored.locator)).expect("is whole");
    }
}

/// See its name.
pub fn verifying_what_is_not_kept_is_not_found(place: &dyn ArchivePlace) {
    let archive = place.open();
    let (key, _, stored) = keep(&*archive, 1, 1_200_000);
    block_on(archive.remove(&key.instance, &stored.locator)).expect("is removed");
    let found = kind_of(block_on(archive.verify(&stored.locator)));
    assert_eq!(found, Some(ErrorKind::NotFound));
}

/// See its name.
pub fn many_writers_and_readers_at_once_see_whole_instances(place: &dyn ArchivePlace) {
    let archive = place.open();
    std::thread::scope(|threads| {
        for thread in 0..6_u64 {
            let archive = &*archive;
            threads.spawn(move || {
                for i in 0..12 {
                    let n = thread * 100 + i;
                    let (key, bytes, stored) = keep(archive, n, FILLINGS[(thread + i) as usize % 6]);
                    assert_eq!(read_all(archive, &stored), bytes);
                    if i % 3 == 0 {
                        block_on(archive.remove(&key.instance, &stored.locator)).expect("is removed");
                    }
                    if i % 5 == 0 {
                        for (_, stored) in instances(archive, Sequence(0)) {
                            let found = kind_of(block_on(archive.verify(&stored.locator)));
                            // Another thread may have removed it meanwhile.
                            assert!(matches!(found, None | Some(ErrorKind::NotFound)));
                        }
                    }
                }
            });
        }
    });
    assert_eq!(instances(&*archive, Sequence(0)).len(), 6 * 8);
}

/// See its name.
pub fn a_writer_outlives_its_archive_without_harm(place: &dyn ArchivePlace) {
    let archive = place.open();
    let (_, _, stored) = keep(&*archive, 1, 3_000_000);
    let mut stream = archive.read(&stored.locator, 0..stored.length);
    let _ = block_on(stream.next());
    let mut small = block_on(begin(&*archive, &part10(&key(2), 100, 2), 100)).expect("is written");
    let large = block_on(begin(&*archive, &part10(&key(3), 3_000_000, 3), 16_000)).expect("is written");
    drop(archive);
    // Each ends, one way or the other.
    let _ = block_on(stream.collect::<Vec<_>>());
    let _ = block_on(small.write(Bytes::from_static(&[0; 100])));
    let _ = block_on(small.commit(key(2)));
    let _ = block_on(large.abort());
}

/// See its name.
pub fn what_was_committed_is_there_after_reopening(place: &dyn ArchivePlace) {
    let mut archive = place.open();
    if !durable(&*archive, "what was committed is there after reopening") {
        return;
    }
    let mut kept = Vec::new();
    for round in 0..4_u64 {
        for (n, filling) in (0..).zip(FILLINGS) {
            let (key, bytes, stored) = keep(&*archive, round * 10 + n, filling);
            kept.push((key, bytes, stored));
        }
        if round == 2 {
            let hint = kept[kept.len() - 3].2.sequence;
            block_on(archive.indexed(hint)).expect("takes the hint");
        }
        drop(archive);
        archive = place.open();
        for (_, bytes, stored) in &kept {
            assert_eq!(read_all(&*archive, stored), bytes);
            block_on(archive.verify(&stored.locator)).expect("is whole");
        }
        let mut found = keys_and_lengths(&instances(&*archive, Sequence(0)));
        found.sort();
        let mut expected: Vec<_> = kept
            .iter()
            .map(|(key, _, stored)| (*key, stored.locator.clone(), stored.length))
            .collect();
        expected.sort();
        assert_eq!(found, expected);
    }
}

/// See its name.
pub fn what_was_removed_is_gone_after_reopening(place: &dyn ArchivePlace) {
    let archive = place.open();
    if !durable(&*archive, "what was removed is gone after reopening") {
        return;
    }
    let kept: Vec<_> = (0..6).map(|n| keep(&*archive, n, FILLINGS[n as usize])).collect();
    for (key, _, stored) in &kept[..3] {
        block_on(archive.remove(&key.instance, &stored.locator)).expect("is removed");
    }
    block_on(archive.indexed(kept[5].2.sequence)).expect("takes the hint");
    for (key, _, stored) in &kept[3..] {
        block_on(archive.remove(&key.instance, &stored.locator)).expect("is removed");
    }
    drop(archive);
    let archive = place.open();
    assert_eq!(instances(&*archive, Sequence(0)), []);
    for (_, _, stored) in &kept {
        let found = kind_of(read(&*archive, &stored.locator, 0..1));
        assert_eq!(found, Some(ErrorKind::NotFound));
    }
}

/// See its name.
pub fn sequences_go_on_after_reopening(place: &dyn ArchivePlace) {
    let mut archive = place.open();
    if !durable(&*archive, "sequences go on after reopening")
        || !ordered(&*archive, "sequences go on after reopening")
    {
        return;
    }
    let mut last = Sequence(0);
    for n in 0..6 {
        let (key, _, stored) = keep(&*archive, n, FILLINGS[n as usize % 6]);
        assert!(stored.sequence > last);
        last = stored.sequence;
        if n % 2 == 0 {
            last = block_on(archive.remove(&key.instance, &stored.locator)).expect("is removed");
        }
        if n % 3 == 0 {
            block_on(archive.indexed(last)).expect("takes the hint");
        }
        drop(archive);
        archive = place.open();
        assert_eq!(scan(&*archive, last), []);
    }
}

/// See its name.
pub fn what_was_not_committed_is_not_there_after_reopening(place: &dyn ArchivePlace) {
    let archive = place.open();
    if !durable(&*archive, "what was not committed is not there after reopening") {
        return;
    }
    let (_, bytes, stored) = keep(&*archive, 1, 5_000);
    let open: Vec<_> = FILLINGS
        .map(|filling| block_on(begin(&*archive, &part10(&key(2), filling, 2), 16_000)).expect("is written"))
        .into();
    drop(archive);
    drop(open);
    let archive = place.open();
    assert_eq!(keys_and_lengths(&instances(&*archive, Sequence(0))).len(), 1);
    assert_eq!(read_all(&*archive, &stored), bytes);
    let (_, bytes, stored) = keep(&*archive, 3, 1_200_000);
    assert_eq!(read_all(&*archive, &stored), bytes);
}
