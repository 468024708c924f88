//! What the engine promises of metadata and bulk data.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use bytes::Bytes;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{tags, uids};
use futures::executor::block_on;
use futures::stream;
use futures::{FutureExt, StreamExt, TryStreamExt};

use super::{Place, all, data_set, explicit, instance, instance_uid, keep};
use crate::dataset::charset::CharacterSet;
use crate::dataset::metadata::{BulkValue, Metadata};
use crate::dataset::scan::parse;
use crate::dataset::{DataSet, Element, Value, encode};
use crate::engine::{Announced, Options, Pacs};
use crate::error::{ErrorKind, Result};
use crate::hooks::{Arriving, Coercer};
use crate::index::{InstanceRecord, Scope};
use crate::testkit::around::Around;
use crate::uid::Uid;

/// An engine, and how much is read of its archive from now on.
fn open(place: &dyn Place) -> (Pacs, Arc<AtomicU64>) {
    open_with(place, Options::default())
}

fn open_with(place: &dyn Place, options: Options) -> (Pacs, Arc<AtomicU64>) {
    let read = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&read);
    // Nothing comes at once.
    let archive = Around::new(place.archive()).reading(move |_, pieces| {
        let counter = Arc::clone(&counter);
        let count = move |piece: &Bytes| {
            counter.fetch_add(piece.len() as u64, Ordering::Relaxed);
        };
        let mut waited = false;
        let later = stream::poll_fn(move |context| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(None);
            }
            context.waker().wake_by_ref();
            Poll::Pending
        });
        later.chain(pieces.inspect_ok(count)).boxed()
    });
    let pacs = block_on(Pacs::open(Arc::new(archive), place.index(), options)).expect("opens");
    read.store(0, Ordering::Relaxed);
    (pacs, read)
}

fn metadata(pacs: &Pacs, record: &InstanceRecord) -> Arc<Metadata> {
    block_on(pacs.metadata(record)).expect("is made")
}

fn metadata_in(pacs: &Pacs, scope: Scope) -> Vec<(InstanceRecord, Arc<Metadata>)> {
    block_on(pacs.metadata_in(scope).try_collect()).expect("is made")
}

fn bulk(pacs: &Pacs, record: &InstanceRecord, value: &BulkValue, range: Range<u64>) -> Vec<u8> {
    all(pacs.read_bulk(record, value, range))
}

fn put(set: &mut DataSet, tag: Tag, vr: VR, bytes: Vec<u8>) {
    let value = Value::Bytes(bytes.into());
    set.put(Element { tag, vr, value });
}

/// See its name; made at first, and then known.
pub fn the_metadata_of_an_instance_is_all_of_it_but_bulk_data_and_tells_where_that_lies(place: &dyn Place) {
    let (pacs, _) = open(place);
    let (announced, bytes) = instance(1, 1, 3, 7);
    let record = keep(&pacs, (announced, bytes.clone())).record;
    for _ in 0..2 {
        let metadata = metadata(&pacs, &record);
        let whole = parse(&bytes, uids::EXPLICIT_VR_LITTLE_ENDIAN).expect("is a data set");
        assert_eq!(metadata.header, whole);
        let [value] = metadata.bulk.as_slice() else {
            panic!("the pixel data alone is bulk data");
        };
        assert_eq!(value.path.tag(), tags::PIXEL_DATA);
        assert_eq!(bulk(&pacs, &record, value, 0..u64::MAX), [7; 506]);
        let pixel_data = metadata.pixel_data.expect("it has some");
        assert_eq!((pixel_data.offset, pixel_data.length), (value.offset, Some(506)));
    }
}

/// See its name.
pub fn metadata_that_was_made_is_known_also_after_reopening_without_reading_the_instance(place: &dyn Place) {
    let (pacs, read) = open(place);
    for number in 0..12 {
        keep(&pacs, instance(1, number % 3, number, 0));
    }
    // Some are known before.
    let first = block_on(pacs.lookup(&instance_uid(1, 1, 4))).expect("is looked up");
    metadata(&pacs, &first.expect("is kept"));
    let made = metadata_in(&pacs, Scope::All);
    assert!(read.load(Ordering::Relaxed) > 0);
    let records: Vec<InstanceRecord> =
        block_on(pacs.instances(Scope::All).try_collect()).expect("are listed");
    assert_eq!(
        made.iter().map(|(record, _)| record.clone()).collect::<Vec<_>>(),
        records
    );
    for (record, metadata) in &made {
        let instance = metadata.header.uid(tags::SOP_INSTANCE_UID).expect("has one");
        assert_eq!(instance, record.key.instance);
    }
    pacs.close().expect("closes");
    drop(pacs);

    let (pacs, read) = open(place);
    assert!(metadata_in(&pacs, Scope::All) == made);
    let series = made[0].0.key.series;
    assert_eq!(metadata_in(&pacs, Scope::Series(series)).len(), 4);
    assert!(metadata(&pacs, &made[0].0) == made[0].1);
    assert_eq!(read.load(Ordering::Relaxed), 0);
}

/// See its name.
pub fn metadata_of_what_was_received_lately_is_made_ahead(place: &dyn Place) {
    let (pacs, read) = open(place);
    let received: Vec<_> = (0..5)
        .map(|number| keep(&pacs, instance(1, number % 2, number, 0)))
        .collect();
    let made = || block_on(pacs.describe_recent()).expect("is made");
    assert_eq!(made(), 5);
    assert_eq!(made(), 0);
    read.store(0, Ordering::Relaxed);
    assert_eq!(metadata_in(&pacs, Scope::All).len(), 5);
    assert_eq!(read.load(Ordering::Relaxed), 0);
    // What is known already is not made again.
    keep(&pacs, instance(1, 1, 9, 0));
    assert_eq!(made(), 1);
    block_on(pacs.remove(&received[0].record.key.instance)).expect("is removed");
    assert_eq!(metadata_in(&pacs, Scope::All).len(), 5);
}

/// See its name.
pub fn who_asks_for_metadata_and_then_does_not_look_keeps_nobody_from_it(place: &dyn Place) {
    let (pacs, _) = open(place);
    for number in 0..8 {
        keep(&pacs, instance(1, 1, number, 0));
    }
    let mut unseen: Vec<_> = (0..8).map(|_| pacs.metadata_in(Scope::All)).collect();
    for stream in &mut unseen {
        let _ = stream.next().now_or_never();
    }
    assert_eq!(metadata_in(&pacs, Scope::All).len(), 8);
    drop(unseen);
}

/// See its name; read, and then known.
pub fn who_asks_for_the_same_large_metadata_has_the_same(place: &dyn Place) {
    let (pacs, _) = open(place);
    let item = |number: u32| {
        let mut item = DataSet::new();
        item.put_text(tags::CODE_VALUE, VR::SH, format!("{number:06}"));
        item.put_text(tags::CODE_MEANING, VR::LO, format!("{number:06}"));
        item
    };
    let mut set = data_set(1, 1, 1, 0);
    set.put_items(tags::CONTENT_SEQUENCE, (0..40_000).map(item).collect());
    let record = keep(&pacs, (instance(1, 1, 1, 0).0, explicit(&set))).record;
    let first = metadata(&pacs, &record);
    assert_eq!(
        first.header.items(tags::CONTENT_SEQUENCE),
        set.items(tags::CONTENT_SEQUENCE)
    );
    let [(_, second)] = &metadata_in(&pacs, Scope::All)[..] else {
        panic!("one is kept");
    };
    assert!(Arc::ptr_eq(&first, second));
    let first = Metadata::clone(&first);
    pacs.close().expect("closes");
    drop(pacs);
    let (pacs, read) = open(place);
    assert!(*metadata(&pacs, &record) == first);
    assert_eq!(read.load(Ordering::Relaxed), 0);
}

/// See its name.
pub fn metadata_is_that_of_the_version_that_is_asked_for(place: &dyn Place) {
    let (pacs, _) = open(place);
    let versions = ["first", "second"].map(|comments| {
        let mut set = data_set(1, 1, 1, 0);
        set.put_text(tags::IMAGE_COMMENTS, VR::LT, comments);
        let record = keep(&pacs, (instance(1, 1, 1, 0).0, explicit(&set))).record;
        assert_eq!(
            metadata(&pacs, &record).header.string(tags::IMAGE_COMMENTS),
            Some(comments)
        );
        (record, comments)
    });
    for (record, comments) in &versions {
        assert_eq!(
            metadata(&pacs, record).header.string(tags::IMAGE_COMMENTS),
            Some(*comments)
        );
    }
    let now = metadata_in(&pacs, Scope::All);
    assert_eq!(now.len(), 1);
    assert_eq!(now[0].1.header.string(tags::IMAGE_COMMENTS), Some("second"));
}

/// See its name; made at first, and then known.
pub fn the_metadata_of_a_coerced_instance_has_the_coercion_applied(place: &dyn Place) {
    struct Rename;
    impl Coercer for Rename {
        fn coerce(&self, _: &Arriving<'_>) -> Result<DataSet> {
            let mut set = DataSet::new();
            set.put_text(tags::PATIENT_ID, VR::LO, "4711");
            Ok(set)
        }
    }
    let options = Options {
        coercer: Some(Arc::new(Rename)),
        ..Options::default()
    };
    let (pacs, _) = open_with(place, options);
    let record = keep(&pacs, instance(1, 1, 1, 0)).record;
    let leaving = all(pacs.outgoing_data_set(&record));
    for _ in 0..2 {
        let metadata = metadata(&pacs, &record);
        assert_eq!(metadata.header.string(tags::PATIENT_ID), Some("4711"));
        assert_eq!(metadata.header.items(tags::ORIGINAL_ATTRIBUTES_SEQUENCE).len(), 1);
        let texts = |set: &DataSet| -> Vec<(Tag, Vec<String>)> {
            let of = |element: &Element| (element.tag, element.strings().map(str::to_owned).collect());
            set.iter().map(of).collect()
        };
        let whole = parse(&leaving, &record.transfer_syntax).expect("is a data set");
        assert_eq!(texts(&metadata.header), texts(&whole));
        // The stored bytes are where they were.
        assert_eq!(bulk(&pacs, &record, &metadata.bulk[0], 0..4), [0; 4]);
    }
}

/// See its name.
pub fn bulk_data_comes_in_little_endian_and_in_any_range_whatever_the_transfer_syntax(place: &dyn Place) {
    let (pacs, _) = open(place);
    let bytes = |length: usize| -> Vec<u8> { (0..length).map(|at| (at / 3 % 251) as u8).collect() };
    let mut item = DataSet::new();
    put(
        &mut item,
        tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        VR::OW,
        bytes(3_000),
    );
    let mut set = data_set(1, 1, 1, 0);
    set.put_items(tags::ICON_IMAGE_SEQUENCE, vec![DataSet::new(), item]);
    put(&mut set, tags::DOUBLE_FLOAT_PIXEL_DATA, VR::OD, bytes(80_000));
    // Very much becomes of little when it is inflated.
    put(&mut set, tags::PIXEL_DATA, VR::OW, vec![5; 1_000_000]);
    for (number, syntax) in (1..).zip([
        uids::EXPLICIT_VR_LITTLE_ENDIAN,
        uids::IMPLICIT_VR_LITTLE_ENDIAN,
        // Explicit VR Big Endian, which is retired.
        "1.2.840.10008.1.2.2",
        uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    ]) {
        set.put_uid(tags::SOP_INSTANCE_UID, &instance_uid(1, 1, number));
        let data = encode::encode(&set, syntax, &CharacterSet::utf8()).expect("is encoded");
        let announced = Announced {
            transfer_syntax: Uid::parse(syntax).expect("is a UID"),
            ..instance(1, 1, number, 0).0
        };
        let record = keep(&pacs, (announced, data.into())).record;
        let metadata = metadata(&pacs, &record);
        let expected = [
            ("00880200/2/00281201", bytes(3_000)),
            ("7FE00009", bytes(80_000)),
            ("7FE00010", vec![5; 1_000_000]),
        ];
        assert_eq!(metadata.bulk.len(), expected.len());
        for (path, expected) in expected {
            let path = path.parse().expect("is a path");
            let value = metadata.bulk_value(&path).expect("is bulk data");
            let length = expected.len();
            assert_eq!(value.length, Some(length as u64));
            for (from, to) in [
                (0, length),
                (1, 10),
                (3, 4),
                (1_001, 2_999),
                (length - 3, length),
                (7, 7),
            ] {
                let found = bulk(&pacs, &record, value, from as u64..to as u64);
                assert!(found == expected[from..to], "{syntax} {path} {from}..{to}");
            }
            let last = bulk(&pacs, &record, value, length as u64 - 2..u64::MAX);
            assert_eq!(last, expected[length - 2..]);
            assert!(bulk(&pacs, &record, value, u64::MAX - 1..u64::MAX).is_empty());
        }
    }
}

/// See its name; words of OW in other values have 16 bits.
pub fn large_cells_of_big_endian_pixel_data_are_turned_whole(place: &dyn Place) {
    let (pacs, _) = open(place);
    let mut set = data_set(1, 1, 1, 0);
    set.put_u16(tags::BITS_ALLOCATED, 32);
    let header = encode::encode(&set, "1.2.840.10008.1.2.2", &CharacterSet::utf8()).expect("is encoded");
    let at = header
        .windows(6)
        .position(|bytes| bytes == b"\x7F\xE0\x00\x10OW")
        .expect("it has pixel data");
    let value: Vec<u8> = (0..40).collect();
    let bytes = [&header[..at], b"\x7F\xE0\x00\x10OW\0\0\0\0\0\x28", &value].concat();
    let announced = Announced {
        transfer_syntax: Uid::constant("1.2.840.10008.1.2.2"),
        ..instance(1, 1, 1, 0).0
    };
    let record = keep(&pacs, (announced, bytes.into())).record;
    let turned: Vec<u8> = value
        .chunks(4)
        .flat_map(|cell| cell.iter().rev().copied())
        .collect();
    for _ in 0..2 {
        let metadata = metadata(&pacs, &record);
        let found = bulk(&pacs, &record, &metadata.bulk[0], 0..u64::MAX);
        assert_eq!(found, turned);
        assert_eq!(bulk(&pacs, &record, &metadata.bulk[0], 3..6), turned[3..6]);
    }
}

/// See its name.
pub fn pixel_data_is_passed_over_where_metadata_is_made_and_what_follows_it_is_not_missed(place: &dyn Place) {
    const LENGTH: u64 = 3_000_000;
    let (pacs, read) = open(place);
    let behind = b"\xFA\xFF\xFA\xFFSQ\0\0\0\0\0\0";
    let mut set = data_set(1, 1, 1, 0);
    set.remove(tags::PIXEL_DATA);
    let header = explicit(&set);
    let native = [
        &header[..],
        b"\xE0\x7F\x10\x00OW\0\0",
        &(LENGTH as u32).to_le_bytes(),
        &[9; LENGTH as usize],
        behind,
    ]
    .concat();
    // Two frames, of a hundred fragments.
    let mut fragments = b"\xFE\xFF\x00\xE0\x08\0\0\0\0\0\0\0".to_vec();
    fragments.extend((LENGTH as u32 / 2 + 50 * 8).to_le_bytes());
    for _ in 0..100 {
        fragments.extend(b"\xFE\xFF\x00\xE0");
        fragments.extend((LENGTH as u32 / 100).to_le_bytes());
        fragments.extend([9; LENGTH as usize / 100]);
    }
    let opened = b"\xE0\x7F\x10\x00OB\0\0\xFF\xFF\xFF\xFF";
    let encapsulated = [
        &header[..],
        opened,
        &fragments,
        b"\xFE\xFF\xDD\xE0\0\0\0\0",
        behind,
    ]
    .concat();
    for (number, syntax, bytes) in [
        (1, uids::EXPLICIT_VR_LITTLE_ENDIAN, native),
        (2, uids::JPEG_BASELINE8_BIT, encapsulated),
    ] {
        let from = instance_uid(1, 1, 1);
        let to = instance_uid(1, 1, number);
        let at = bytes
            .windows(from.len())
            .position(|window| window == from.as_bytes());
        let mut bytes = bytes;
        let at = at.expect("it is there");
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        let announced = Announced {
            transfer_syntax: Uid::parse(syntax).expect("is a UID"),
            ..instance(1, 1, number, 0).0
        };
        let record = keep(&pacs, (announced, bytes.into())).record;
        read.store(0, Ordering::Relaxed);
        let metadata = metadata(&pacs, &record);
        assert!(
            metadata.header.contains(tags::DIGITAL_SIGNATURES_SEQUENCE),
            "{syntax}"
        );
        let read = read.load(Ordering::Relaxed);
        assert!(read < LENGTH / 10, "{read} bytes were read of {syntax}");
        let [value] = metadata.bulk.as_slice() else {
            panic!("the pixel data alone is bulk data");
        };
        let all = bulk(&pacs, &record, value, 0..u64::MAX);
        match value.length {
            Some(length) => assert_eq!((length, all.len() as u64), (LENGTH, LENGTH)),
            None => assert!(all == fragments),
        }
        assert_eq!(bulk(&pacs, &record, value, 20..30), all[20..30]);
    }
}

/// See its name.
pub fn metadata_that_can_not_be_made_is_an_error_of_its_instance_alone(place: &dyn Place) {
    let (pacs, _) = open(place);
    let gone = keep(&pacs, instance(1, 1, 1, 0)).record;
    let kept = keep(&pacs, instance(1, 1, 2, 0)).record;
    block_on(pacs.remove(&gone.key.instance)).expect("is removed");
    let error = block_on(pacs.metadata(&gone)).expect_err("is gone");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let value = metadata(&pacs, &kept).bulk[0].clone();
    let first = block_on(pacs.read_bulk(&gone, &value, 0..4).next()).expect("answers");
    assert_eq!(first.expect_err("is gone").kind(), ErrorKind::NotFound);
    // A value that reaches past the end is no value.
    let beyond = BulkValue {
        length: Some(1 << 40),
        ..value
    };
    let read: Result<Vec<Bytes>> = block_on(pacs.read_bulk(&kept, &beyond, 0..1 << 40).try_collect());
    assert_eq!(read.expect_err("is not there").kind(), ErrorKind::Mismatch);
    assert_eq!(metadata_in(&pacs, Scope::All).len(), 1);
}
