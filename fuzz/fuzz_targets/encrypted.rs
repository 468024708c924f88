//! Lists of keys, and what an encrypted archive finds where instances were kept: any bytes, or what was kept with some of
//! them changed. It is refused, or it is what was written.
//!
//! Run with `cargo fuzz run -s none encrypted`.

#![no_main]

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use arbitrary::Arbitrary;
use bytes::Bytes;
use futures::TryStreamExt;
use futures::executor::block_on;
use libfuzzer_sys::fuzz_target;
use pacs_core::{Archive, InstanceKey, Locator, Result, Stored, Uid};
use pacs_store::layers::encrypt::{Key, KeyId, KeyList, KeyProvider};
use pacs_store::{EncryptOptions, EncryptedArchive, MemoryArchive};

/// Of an instance that is kept: more than a chunk, so that there are two.
const LENGTH: usize = 70_000;

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Keys(&'a str),
    Kept(&'a [u8]),
    Changed {
        /// Places and bytes that are changed, and to what length it is cut.
        changes: Vec<(u32, u8)>,
        length: Option<u32>,
        from: u32,
        to: u32,
    },
}

fn keys() -> KeyList {
    let id = |text| KeyId::parse(text).expect("a name");
    KeyList::new([(id("new"), Key::new([1; 32])), (id("old"), Key::new([2; 32]))])
}

fn put(archive: &dyn Archive, bytes: &[u8]) -> Stored {
    let uid = Uid::constant("1.2.3");
    let key = InstanceKey {
        study: uid,
        series: uid,
        instance: uid,
    };
    block_on(async {
        let mut writer = archive.begin().await?;
        writer.write(Bytes::copy_from_slice(bytes)).await?;
        writer.commit(key).await
    })
    .expect("is kept in memory")
}

fn read(archive: &dyn Archive, locator: &Locator, range: Range<u64>) -> Result<Vec<u8>> {
    let pieces: Vec<Bytes> = block_on(archive.read(locator, range).try_collect())?;
    Ok(pieces.concat())
}

/// What is kept, and what was written.
static KEPT: LazyLock<(Vec<u8>, Vec<u8>)> = LazyLock::new(|| {
    let plain: Vec<u8> = (0..LENGTH).map(|at| (at % 251) as u8).collect();
    let inside: Arc<dyn Archive> = Arc::new(MemoryArchive::new());
    let archive = EncryptedArchive::open(Arc::clone(&inside), Arc::new(keys()), EncryptOptions::default());
    let stored = put(&archive.expect("opens"), &plain);
    (
        read(&*inside, &stored.locator, 0..u64::MAX).expect("is kept"),
        plain,
    )
});

struct Opened {
    inside: Arc<dyn Archive>,
    archive: EncryptedArchive,
}

/// It starts threads, so all inputs share it; none leaves anything behind.
static OPENED: LazyLock<Opened> = LazyLock::new(|| {
    let inside: Arc<dyn Archive> = Arc::new(MemoryArchive::new());
    let archive = EncryptedArchive::open(Arc::clone(&inside), Arc::new(keys()), EncryptOptions::default());
    Opened {
        inside,
        archive: archive.expect("opens"),
    }
});

fn look(bytes: &[u8], range: Range<u64>) -> (Result<Vec<u8>>, Result<Vec<u8>>) {
    let Opened { inside, archive } = &*OPENED;
    let stored = put(&**inside, bytes);
    let part = read(archive, &stored.locator, range);
    let whole = read(archive, &stored.locator, 0..u64::MAX);
    let verified = block_on(archive.verify(&stored.locator));
    assert!(verified.is_err() || whole.is_ok());
    block_on(async {
        let removed = inside.remove(&Uid::constant("1.2.3"), &stored.locator).await?;
        inside.indexed(removed).await
    })
    .expect("is removed from memory");
    (part, whole)
}

fuzz_target!(|input: Input| {
    match input {
        Input::Keys(text) => match KeyList::parse(text) {
            Ok(keys) => {
                assert_eq!(keys.current().is_ok(), keys.ids().next().is_some());
                for id in keys.ids() {
                    assert!(keys.key(id).is_ok_and(|key| key.is_some()));
                }
            }
            Err(error) => assert!(error.to_string().starts_with("line ")),
        },
        Input::Kept(bytes) => {
            // Nobody makes one without a key, and what isn't one isn't taken for one.
            let (part, whole) = look(bytes, 3..100);
            assert!(part.is_err() || bytes.is_empty());
            assert!(whole.is_err() || bytes.is_empty());
        }
        Input::Changed {
            changes,
            length,
            from,
            to,
        } => {
            let (kept, plain) = &*KEPT;
            let mut bytes = kept.clone();
            let all = bytes.len();
            for (at, change) in changes {
                bytes[at as usize % all] ^= change;
            }
            bytes.truncate(length.map_or(all, |length| length as usize));
            let range = u64::from(from % 100_000)..u64::from(to % 100_000);
            let (part, whole) = look(&bytes, range.clone());
            if let Ok(part) = part {
                let end = range.end.min(plain.len() as u64) as usize;
                let start = (range.start as usize).min(end);
                assert!(part == plain[start..end], "not what was written");
            }
            if let Ok(whole) = whole {
                assert!(whole == *plain, "not what was written");
            }
        }
    }
});
