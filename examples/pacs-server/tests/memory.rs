//! Memory doesn't follow size: large instances come and go at once, and the server's peak stays small. How it
//! behaves with larger ones and with many associations: `cargo run --release -p load-bench -- memory`.
#![cfg(target_os = "linux")]

mod common;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use futures::future::{BoxFuture, try_join_all};
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _};
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::encode::encode;
use pacs_core::query::Model;
use pacs_core::{AeTitle, DataSet, Level, Result, Uid};
use pacs_net::dimse::{Client, CommandField, Operation, Reply, Services, Status, StoreRequest};
use pacs_net::scu::{Remote, identifier, query_proposal, retrieve};
use twox_hash::XxHash3_128;

use common::{Server, directory, tell};

const INSTANCES: u8 = 4;
const PIXEL_BYTES: usize = 200 * 1024 * 1024;
const PEAK_MAX_BYTES: u64 = 256 * 1024 * 1024;
const PIECE_BYTES: usize = 64 * 1024;

const SOP_CLASS: Uid = Uid::constant(uids::MULTI_FRAME_GRAYSCALE_BYTE_SECONDARY_CAPTURE_IMAGE_STORAGE);
const SYNTAX: Uid = Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN);

#[test]
fn instances_that_are_larger_than_memory_may_be_come_and_go_at_once() {
    let directory = directory();
    let server = Server::start(&directory.path().join("data"), &[]);
    let title = |text| AeTitle::parse(text).expect("is an AE title");
    let remote = Remote::new("127.0.0.1", server.port, title("PACS"), title("LARGE"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("the runtime starts");
    let sent = runtime.block_on(try_join_all((0..INSTANCES).map(|number| send(&remote, number))));
    let sent = sent.expect("all are sent");
    let after_store = server.peak_memory();
    let came = runtime.block_on(try_join_all((0..INSTANCES).map(|number| fetch(&remote, number))));
    assert!(
        sent == came.expect("all are fetched"),
        "they come back as they were sent"
    );
    let peak = server.peak_memory();
    let mebibytes = |bytes: u64| bytes / (1024 * 1024);
    tell(&format!(
        "{INSTANCES} instances of {} MiB at once: peak {} MiB when they were stored, {} MiB in the end",
        PIXEL_BYTES / (1024 * 1024),
        mebibytes(after_store),
        mebibytes(peak)
    ));
    assert!(peak < PEAK_MAX_BYTES, "the peak is {} MiB", mebibytes(peak));
    assert!(server.stop().success());
}

fn uid(number: u8, below: &str) -> Uid {
    Uid::parse(&format!("2.25.{}{below}", 1000 + u64::from(number))).expect("is a UID")
}

/// A data set that is made while it is sent.
fn data_set(number: u8) -> BoxStream<'static, Result<Bytes>> {
    let mut set = DataSet::new();
    set.put_uid(tags::SOP_CLASS_UID, &SOP_CLASS);
    set.put_uid(tags::SOP_INSTANCE_UID, &uid(number, ".1.1"));
    set.put_text(tags::PATIENT_ID, VR::LO, number.to_string());
    set.put_uid(tags::STUDY_INSTANCE_UID, &uid(number, ""));
    set.put_uid(tags::SERIES_INSTANCE_UID, &uid(number, ".1"));
    set.put_text(
        tags::NUMBER_OF_FRAMES,
        VR::IS,
        (PIXEL_BYTES / (1024 * 1024)).to_string(),
    );
    set.put_u16(tags::ROWS, 1024);
    set.put_u16(tags::COLUMNS, 1024);
    set.put_u16(tags::BITS_ALLOCATED, 8);
    let mut head = encode(&set, &SYNTAX, &CharacterSet::default()).expect("can be encoded");
    // (7FE0,0010) OW, two bytes reserved, length of 32 bits (PS3.5 7.1.2).
    head.extend_from_slice(&[0xE0, 0x7F, 0x10, 0x00, b'O', b'W', 0, 0]);
    head.extend_from_slice(&(PIXEL_BYTES as u32).to_le_bytes());
    let block: Bytes = (0..2 * PIECE_BYTES)
        .map(|at| (at * 31 / 7) as u8 ^ number)
        .collect();
    let pieces = (0..PIXEL_BYTES / PIECE_BYTES).map(move |at| {
        let from = at * 8191 % PIECE_BYTES;
        Ok(block.slice(from..from + PIECE_BYTES))
    });
    stream::iter([Ok(head.into())])
        .chain(stream::iter(pieces))
        .boxed()
}

/// Sends an instance; answers the checksum of its data set.
async fn send(remote: &Remote, number: u8) -> Result<u128> {
    let client = remote
        .client(&remote.proposal().with_context(SOP_CLASS, [&SYNTAX]))
        .await?;
    let request = StoreRequest::new(client.context_for(&SOP_CLASS)?.id, SOP_CLASS, uid(number, ".1.1"));
    let digest = Arc::new(Mutex::new(XxHash3_128::new()));
    let summed = Arc::clone(&digest);
    let pieces = data_set(number).inspect(move |piece| {
        let piece = piece.as_ref().expect("nothing fails here");
        summed.lock().expect("nobody panicked").write(piece);
    });
    let response = client.store(request, pieces).await?;
    assert_eq!(response.status(), Status::SUCCESS);
    client.release().await?;
    let digest = digest.lock().expect("nobody panicked").finish_128();
    Ok(digest)
}

/// Fetches an instance; answers the checksum of the data set that came.
async fn fetch(remote: &Remote, number: u8) -> Result<u128> {
    let proposal = query_proposal(remote, Model::StudyRoot, CommandField::C_GET)
        .with_role(SOP_CLASS, false, true)
        .with_context(SOP_CLASS, [&SYNTAX]);
    let received = Arc::new(Checksum::default());
    let services: Arc<dyn Services> = Arc::clone(&received) as _;
    let client = Client::start(remote.connect(&proposal).await?, services);
    let mut keys = DataSet::new();
    keys.put_uid(tags::STUDY_INSTANCE_UID, &uid(number, ""));
    let progress = retrieve(&client, Model::StudyRoot, &identifier(Level::Study, &keys)).await?;
    let last = progress
        .collect::<Vec<_>>()
        .await
        .pop()
        .expect("a final response")?;
    assert_eq!(last.status, Status::SUCCESS);
    client.release().await?;
    let came = received.0.lock().expect("nobody panicked").take();
    Ok(came.expect("one instance came"))
}

/// Takes the sub-operation of a C-GET, and keeps the checksum of what comes.
#[derive(Default)]
struct Checksum(Mutex<Option<u128>>);

impl Services for Checksum {
    fn c_store(&self, mut operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        async move {
            let mut digest = XxHash3_128::new();
            let mut pieces = operation.take_data_set().expect("a C-STORE has a data set");
            while let Some(piece) = pieces.next_piece().await? {
                digest.write(&piece);
            }
            *self.0.lock().expect("nobody panicked") = Some(digest.finish_128());
            Ok(Reply::success())
        }
        .boxed()
    }
}
