//! Bytes that rot in the store are never handed out as good ones, and a good copy takes their place.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::executor::block_on;
use pacs_core::testkit::engine::instance;
use pacs_core::{
    Announced, DuplicatePolicy, ErrorKind, InstanceRecord, Options, Pacs, Received, Result, StoreOutcome,
};
use pacs_store::{MemoryIndex, SegmentArchive, SegmentOptions};
use tempfile::TempDir;

/// The pixels of the instance that is damaged: nothing else in the store looks like them.
const PIXELS: u8 = 0xA7;

async fn store(pacs: &Pacs, (announced, bytes): (Announced, Bytes)) -> Result<Received> {
    let mut receipt = pacs.receive(announced).await?;
    receipt.write(bytes).await?;
    receipt.commit().await
}

fn read(pacs: &Pacs, record: &InstanceRecord) -> Result<Vec<u8>> {
    let pieces: Vec<Bytes> = block_on(pacs.read_data_set(record).try_collect())?;
    Ok(pieces.concat())
}

/// Changes one byte of the pixels where they lie.
fn rot(directory: &Path) {
    for entry in std::fs::read_dir(directory.join("segments")).expect("a directory") {
        let path = entry.expect("an entry").path();
        let mut bytes = std::fs::read(&path).expect("a segment");
        if let Some(at) = bytes.windows(64).position(|window| window == [PIXELS; 64]) {
            bytes[at + 13] ^= 0x10;
            std::fs::write(&path, bytes).expect("is written");
            return;
        }
    }
    panic!("the pixels are in no segment");
}

#[test]
fn a_flipped_bit_is_never_handed_out_and_the_copy_that_arrives_next_takes_its_place() {
    let directory = TempDir::new().expect("a temporary directory");
    // Room on the machine that tests is not what is tested.
    let options = SegmentOptions {
        reserve_bytes: 0,
        ..SegmentOptions::default()
    };
    let archive = SegmentArchive::open(directory.path(), options).expect("opens");
    let options = Options {
        duplicates: DuplicatePolicy::KeepFirst,
        ..Options::default()
    };
    let pacs = block_on(Pacs::open(
        Arc::new(archive),
        Arc::new(MemoryIndex::new()),
        options,
    ))
    .expect("opens");
    let sent = instance(1, 1, 1, u32::from(PIXELS));
    let kept = block_on(store(&pacs, sent.clone())).expect("is kept");
    block_on(store(&pacs, instance(1, 1, 2, 0))).expect("is kept");
    assert_eq!(read(&pacs, &kept.record).expect("is read"), sent.1);

    rot(directory.path());
    assert_eq!(
        read(&pacs, &kept.record).expect_err("is damaged").kind(),
        ErrorKind::Corrupt
    );
    let verified = block_on(pacs.verify(|_| ())).expect("is verified");
    assert_eq!((verified.whole, verified.damaged.len()), (1, 1));

    let again = block_on(store(&pacs, sent.clone())).expect("is kept");
    assert_eq!(
        again.outcome,
        StoreOutcome::Replaced,
        "the first is not worth keeping"
    );
    assert_eq!(read(&pacs, &again.record).expect("is read"), sent.1);
}
