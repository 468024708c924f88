//! Files where segments of an archive should be: records that are whole, damaged and invented. The archive opens and goes
//! on, or says why not; what it yields is what its checksums say; and what was kept stays kept when it opens again.
//!
//! Run with `cargo fuzz run -s none segment`.

#![no_main]

use std::path::Path;
use std::sync::Arc;

use arbitrary::Arbitrary;
use bytes::Bytes;
use futures::TryStreamExt;
use futures::executor::block_on;
use libfuzzer_sys::fuzz_target;
use pacs_core::{Archive, Entry, InstanceKey, Result, Sequence, Stored, Uid};
use pacs_store::medium::{FaultyMedium, Medium, write_all_at};
use pacs_store::{SegmentArchive, SegmentOptions};
use twox_hash::XxHash3_64;

const DIRECTORY: &str = "segments";
const KEY: u64 = 0x0123_4567_89AB_CDEF;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    files: Vec<File<'a>>,
    hint: Option<Hint>,
    hint_bytes: Option<&'a [u8]>,
}

#[derive(Arbitrary, Debug)]
struct File<'a> {
    name: u8,
    id: u8,
    is_stream: bool,
    records: Vec<Record<'a>>,
    /// Places in the file that are changed, and how.
    changes: Vec<(u16, u8)>,
    cut: Option<u16>,
}

#[derive(Arbitrary, Debug)]
enum Record<'a> {
    /// With checks that are right.
    Made(Made<'a>),
    Bytes(&'a [u8]),
    Zeros(u8),
}

#[derive(Arbitrary, Debug)]
struct Made<'a> {
    kind: Kind,
    is_removed: bool,
    sequence: u16,
    any_sequence: Option<u64>,
    durable: u16,
    instance: u8,
    payload: &'a [u8],
    /// A length that is not the payload's.
    length: Option<u64>,
    payload_is_damaged: bool,
}

#[derive(Arbitrary, Debug)]
enum Kind {
    Instance,
    Removal(u8, u16, u16),
    Seal(u8, u16),
    Other(u8),
}

#[derive(Arbitrary, Debug)]
struct Hint {
    sequence: u16,
    segments: Vec<(u8, u8, u16, u16, u16, u64, u64)>,
}

fn uid(number: u8) -> String {
    format!("1.2.{number}")
}

fn put(bytes: &mut [u8], at: usize, number: u64) {
    bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
}

impl Made<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        let instance = uid(self.instance);
        let number = |numbers: [u64; 3]| numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        let (kind, uids, payload): (u8, [&str; 3], Vec<u8>) = match &self.kind {
            Kind::Instance => (1, ["1.2", "1.2.0", &instance], self.payload.to_vec()),
            Kind::Removal(segment, offset, length) => {
                let locator = number([(*segment).into(), (*offset).into(), (*length).into()]);
                (2, ["", "", &instance], locator)
            }
            Kind::Seal(segment, end) => {
                let mut payload = vec![0; 16];
                put(&mut payload, 0, (*segment).into());
                put(&mut payload, 8, (*end).into());
                (3, [""; 3], payload)
            }
            Kind::Other(kind) => (*kind, ["9", "", &instance], self.payload.to_vec()),
        };
        let mut header = [0; 264];
        header[..8].copy_from_slice(b"PACSREC1");
        if self.is_removed {
            header[8..16].copy_from_slice(b"REMOVED!");
        }
        put(&mut header, 24, self.length.unwrap_or(payload.len() as u64));
        put(&mut header, 32, self.any_sequence.unwrap_or(self.sequence.into()));
        let checksum = XxHash3_64::oneshot(&payload) ^ u64::from(self.payload_is_damaged);
        put(&mut header, 48, checksum);
        put(&mut header, 56, self.durable.into());
        header[64] = kind;
        let mut at = 72;
        for (number, uid) in uids.into_iter().enumerate() {
            header[65 + number] = uid.len() as u8;
            header[at..at + uid.len()].copy_from_slice(uid.as_bytes());
            at += uid.len();
        }
        let check = XxHash3_64::oneshot_with_seed(KEY, &header[24..]);
        put(&mut header, 16, check);
        out.extend_from_slice(&header);
        out.extend_from_slice(&payload);
        out.resize(out.len().next_multiple_of(8), 0);
    }
}

impl File<'_> {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..8].copy_from_slice(b"PACSSEG1");
        bytes[8] = 1;
        bytes[12] = self.is_stream.into();
        put(&mut bytes, 16, self.id.into());
        put(&mut bytes, 24, KEY);
        let check = XxHash3_64::oneshot(&bytes[..48]);
        put(&mut bytes, 48, check);
        for record in &self.records {
            match record {
                Record::Made(made) => made.write(&mut bytes),
                Record::Bytes(any) => bytes.extend_from_slice(any),
                Record::Zeros(count) => bytes.resize(bytes.len() + usize::from(*count) * 8, 0),
            }
        }
        let length = bytes.len();
        for (at, change) in &self.changes {
            bytes[usize::from(*at) % length] ^= change;
        }
        bytes.truncate(self.cut.map_or(length, usize::from));
        bytes
    }
}

impl Hint {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"PACSHNT1".to_vec();
        let mut number = |number: u64| bytes.extend_from_slice(&number.to_le_bytes());
        number(self.sequence.into());
        number(self.segments.len() as u64);
        for (id, flags, position, end, dead, first, last) in &self.segments {
            let numbers = [
                u64::from(*id),
                KEY,
                u64::from(flags & 3),
                u64::from(*position),
                u64::from(*end),
                u64::from(*dead),
                *first,
                *last,
            ];
            numbers.into_iter().for_each(&mut number);
        }
        let check = XxHash3_64::oneshot(&bytes);
        bytes.extend_from_slice(&check.to_le_bytes());
        bytes
    }
}

fn write(medium: &FaultyMedium, path: &Path, bytes: &[u8]) {
    // Two may have one name: the first is there.
    if let Ok(file) = medium.create(path) {
        write_all_at(&*file, &[bytes], 0).expect("a disk without faults");
        file.sync_data().expect("a disk without faults");
    }
}

fn disk(input: &Input<'_>) -> FaultyMedium {
    let medium = FaultyMedium::new(1);
    medium
        .create_directory(Path::new(DIRECTORY))
        .expect("a disk without faults");
    for file in &input.files {
        let path = Path::new(DIRECTORY).join(format!("{:08}.seg", file.name));
        write(&medium, &path, &file.bytes());
    }
    let hint = input.hint.as_ref().map(Hint::bytes);
    if let Some(bytes) = hint.as_deref().or(input.hint_bytes) {
        write(&medium, Path::new("hint"), bytes);
    }
    for directory in [DIRECTORY, ""] {
        medium
            .sync_directory(Path::new(directory))
            .expect("a disk without faults");
    }
    medium
}

fn open(medium: &FaultyMedium) -> Result<SegmentArchive> {
    let options = SegmentOptions {
        segment_bytes: 1 << 16,
        inline_bytes: 1 << 12,
        reserve_bytes: 0,
        lanes: 2,
        write_threads: 1,
        read_threads: 1,
        ..SegmentOptions::default()
    };
    SegmentArchive::open_on(Arc::new(medium.clone()), options)
}

/// What it holds, with the bytes of what can be read.
fn kept(archive: &SegmentArchive) -> Result<Vec<(InstanceKey, Stored, Option<Vec<u8>>)>> {
    block_on(async {
        let entries: Vec<Entry> = archive.scan(Sequence(0)).try_collect().await?;
        let mut kept = Vec::new();
        for entry in entries {
            if let Entry::Stored(key, stored) = entry {
                let pieces: Result<Vec<Bytes>> =
                    archive.read(&stored.locator, 0..u64::MAX).try_collect().await;
                let bytes = pieces.ok().map(|pieces| pieces.concat());
                let verified = archive.verify(&stored.locator).await;
                assert_eq!(verified.is_ok(), bytes.is_some());
                assert!(
                    bytes
                        .as_ref()
                        .is_none_or(|bytes| bytes.len() as u64 == stored.length)
                );
                kept.push((key, stored, bytes));
            }
        }
        Ok(kept)
    })
}

/// Keeps one more.
fn keep(archive: &SegmentArchive) -> Result<Stored> {
    let uid = Uid::constant("1.2.999");
    let key = InstanceKey {
        study: uid,
        series: uid,
        instance: uid,
    };
    block_on(async {
        let mut writer = archive.begin().await?;
        writer.write(Bytes::from_static(b"one more")).await?;
        writer.commit(key).await
    })
}

fuzz_target!(|input: Input| {
    let medium = disk(&input);
    let Ok(archive) = open(&medium) else {
        return;
    };
    let Ok(before) = kept(&archive) else {
        return;
    };
    let Ok(stored) = keep(&archive) else {
        return;
    };
    assert!(
        before
            .iter()
            .all(|(_, other, _)| other.sequence < stored.sequence)
    );
    drop(archive);
    let archive = open(&medium).expect("what was open opens again");
    let after = kept(&archive).expect("what was read is read again");
    let one_more = after.iter().find(|(_, other, _)| *other == stored);
    assert_eq!(one_more.and_then(|one| one.2.as_deref()), Some(&b"one more"[..]));
    for one in &before {
        assert!(after.contains(one), "what was kept is gone");
    }
});
