//! A bit that was flipped anywhere in what is stored is refused when it is read, and nothing else is ever yielded than
//! what was written.
//!
//! `PACS_SEED` sets the seed of the bits that are drawn, `PACS_DAMAGE_RUNS` how many there are.

mod sealed;

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::executor::block_on;
use pacs_core::testkit::archive::{begin, key, part10};
use pacs_core::testkit::random::Random;
use pacs_core::{Archive, ErrorKind, Locator, Result, Stored};
use pacs_store::{EncryptedArchive, MemoryArchive};
use sealed::{Kind, keys, open_with, stored_files};
use tempfile::TempDir;

fn keep(archive: &dyn Archive, n: u64, filling: usize) -> (Bytes, Stored) {
    let bytes = part10(&key(n), filling, n);
    let stored = block_on(async { begin(archive, &bytes, 50_000).await?.commit(key(n)).await });
    (bytes, stored.expect("is kept"))
}

fn read(archive: &dyn Archive, locator: &Locator, range: std::ops::Range<u64>) -> Result<Vec<u8>> {
    let pieces: Vec<Bytes> = block_on(archive.read(locator, range).try_collect())?;
    Ok(pieces.concat())
}

/// Reads all of each instance and a part of it. What is yielded is what was written. Gives how often it was refused.
fn refusals(archive: &dyn Archive, kept: &[(Bytes, Stored)], what: &str) -> usize {
    let mut refused = 0;
    for (bytes, stored) in kept {
        let length = bytes.len();
        for range in [0..length, length / 2..length / 2 + 10, length - 1..length] {
            match read(archive, &stored.locator, range.start as u64..range.end as u64) {
                Ok(found) => assert_eq!(found, bytes[range], "{what}"),
                Err(error) => {
                    let kind = error.kind();
                    // A record of the segment archive says that it was removed, or isn't an instance.
                    let expected = matches!(kind, ErrorKind::Corrupt | ErrorKind::NotFound);
                    assert!(expected, "{what}: {error:?}");
                    refused += 1;
                }
            }
        }
        let verified = block_on(archive.verify(&stored.locator));
        let whole = read(archive, &stored.locator, 0..u64::MAX);
        assert_eq!(verified.is_ok(), whole.is_ok(), "{what}");
    }
    refused
}

/// An archive in memory that holds these bytes as an instance, and it encrypted.
fn holding(sealed: &[u8]) -> (EncryptedArchive, Locator) {
    let inside: Arc<dyn Archive> = Arc::new(MemoryArchive::new());
    let (_, stored) = {
        let bytes = Bytes::copy_from_slice(sealed);
        let stored = block_on(async { begin(&*inside, &bytes, 1 << 20).await?.commit(key(1)).await });
        (bytes, stored.expect("is kept"))
    };
    let archive = open_with(&inside, keys("k", 7)).expect("opens");
    (archive, stored.locator)
}

/// What is stored of an instance, and the instance.
fn sealed(filling: usize) -> (Bytes, Vec<u8>) {
    let inside: Arc<dyn Archive> = Arc::new(MemoryArchive::new());
    let archive = open_with(&inside, keys("k", 7)).expect("opens");
    let (bytes, stored) = keep(&archive, 1, filling);
    (
        bytes,
        read(&*inside, &stored.locator, 0..u64::MAX).expect("is read"),
    )
}

#[test]
fn each_bit_of_a_small_instance_is_refused_when_it_is_flipped() {
    let (_, mut stored) = sealed(40);
    for bit in 0..stored.len() * 8 {
        stored[bit / 8] ^= 1 << (bit % 8);
        let (archive, locator) = holding(&stored);
        for range in [0..1, 0..u64::MAX] {
            let refused = read(&archive, &locator, range).expect_err("is refused");
            assert_eq!(refused.kind(), ErrorKind::Corrupt, "bit {bit}");
        }
        let refused = block_on(archive.verify(&locator)).expect_err("is refused");
        assert_eq!(refused.kind(), ErrorKind::Corrupt, "bit {bit}");
        stored[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn an_instance_that_was_cut_off_anywhere_is_refused() {
    let (bytes, stored) = sealed(200_000);
    let chunk = 65_552;
    let around = |at: usize| at.saturating_sub(17)..at + 18;
    let lengths = [128, 128 + chunk, 128 + 2 * chunk, 128 + 3 * chunk, stored.len()];
    for length in lengths.into_iter().flat_map(around).chain(0..128) {
        if length >= stored.len() {
            continue;
        }
        let (archive, locator) = holding(&stored[..length]);
        // All of it, its end, and what lies behind what is left.
        for range in [
            0..u64::MAX,
            bytes.len() as u64 - 1..u64::MAX,
            0..bytes.len() as u64,
            1_000_000..1_000_001,
        ] {
            let refused = read(&archive, &locator, range.clone()).expect_err("is refused");
            assert_eq!(refused.kind(), ErrorKind::Corrupt, "{length} bytes, {range:?}");
        }
        // What lies before is what was written, or refused.
        for at in [0, 100_000, 150_000] {
            if let Ok(found) = read(&archive, &locator, at as u64..at as u64 + 10) {
                assert_eq!(found, bytes[at..at + 10]);
            }
        }
    }
}

#[test]
fn chunks_in_another_order_doubled_or_of_another_instance_are_refused() {
    let (_, stored) = sealed(300_000);
    let (_, other) = sealed(300_000);
    let (header, sealed) = stored.split_at(128);
    let chunks: Vec<&[u8]> = sealed.chunks(65_552).collect();
    let strange: Vec<&[u8]> = other[128..].chunks(65_552).collect();
    let of = |chunks: &[&[u8]]| [header, &chunks.concat()].concat();
    let whole = of(&chunks);
    assert_eq!(whole, stored);
    for changed in [
        of(&[chunks[1], chunks[0], chunks[2], chunks[3], chunks[4]]),
        of(&[chunks[0], chunks[2], chunks[3], chunks[4]]),
        of(&[chunks[0], chunks[0], chunks[1], chunks[2], chunks[3], chunks[4]]),
        of(&[chunks[0], chunks[1], chunks[2], chunks[3], chunks[4], chunks[4]]),
        of(&[strange[0], chunks[1], chunks[2], chunks[3], chunks[4]]),
        [&other[..128], sealed].concat(),
        [&stored[..], &[0]].concat(),
    ] {
        let (archive, locator) = holding(&changed);
        let refused = read(&archive, &locator, 0..u64::MAX).expect_err("is refused");
        assert_eq!(refused.kind(), ErrorKind::Corrupt);
    }
    let (archive, locator) = holding(&whole);
    read(&archive, &locator, 0..u64::MAX).expect("is whole");
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Flips bits of the files of an archive, one at a time, while it is open and before it is opened.
#[allow(clippy::print_stderr)]
fn flip_everywhere(kind: Kind) {
    let seed = number("PACS_SEED").unwrap_or_else(|| {
        let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        since.as_nanos() as u64
    });
    let runs = number("PACS_DAMAGE_RUNS").unwrap_or(400);
    eprintln!("repeat with PACS_SEED={seed}");
    let mut random = Random::new(seed);
    let original = TempDir::new().expect("a temporary directory");
    let open = |path: &Path| open_with(&kind.open(path), keys("k", 7));
    let kept: Vec<_> = {
        let archive = open(original.path()).expect("opens");
        let fillings = (1..).zip([10, 3_000, 70_000, 200_000]);
        fillings.map(|(n, filling)| keep(&archive, n, filling)).collect()
    };
    let files = stored_files(original.path());
    let mut refused = 0;
    for run in 0..runs {
        // An opening of what is damaged may set something aside.
        let directory = TempDir::new().expect("a temporary directory");
        copy(original.path(), directory.path());
        let path = random.pick(&files);
        let name = path.strip_prefix(original.path()).expect("is below");
        let path = directory.path().join(name);
        let length = std::fs::metadata(&path).expect("is there").len();
        // What is at the beginning of a file is most of what is not an instance.
        let within = if random.chance(2) { length.min(400) } else { length };
        if within == 0 {
            continue;
        }
        let (at, bit) = (random.below(within), random.below(8));
        let what = format!("run {run}, bit {bit} of byte {at} of {}", name.display());
        // What was damaged before the opening may keep the archive from being opened; that is refused too.
        let before = random.chance(2).then(|| open(directory.path()).expect("opens"));
        flip(&path, at, bit);
        match before.map_or_else(|| open(directory.path()), Ok) {
            Ok(archive) => refused += refusals(&archive, &kept, &what),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 0, "what is flipped is refused");
}

fn flip(path: &Path, at: u64, bit: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path);
    let file = file.expect("is opened");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("is read");
    file.write_all_at(&[byte[0] ^ (1 << bit)], at)
        .expect("is written");
}

fn copy(from: &Path, to: &Path) {
    for path in stored_files(from) {
        let to = to.join(path.strip_prefix(from).expect("is below"));
        std::fs::create_dir_all(to.parent().expect("has one")).expect("is made");
        std::fs::copy(path, to).expect("is copied");
    }
}

#[test]
fn a_bit_that_is_flipped_in_a_folder_is_refused_or_is_no_instances() {
    flip_everywhere(Kind::Folder);
}

#[test]
fn a_bit_that_is_flipped_in_segments_is_refused_or_is_no_instances() {
    flip_everywhere(Kind::Segment);
}
