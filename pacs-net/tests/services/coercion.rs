//! Attributes that are coerced, as a peer sees it.
#![allow(clippy::print_stderr)]

#[path = "../support/mod.rs"]
mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dicom_core::VR;
use dicom_dictionary_std::tags;
use futures::{FutureExt, TryStreamExt, stream};
use pacs_core::dataset::part10::{Meta, write_meta};
use pacs_core::dataset::scan::parse;
use pacs_core::hooks::Arriving;
use pacs_core::query::Model;
use pacs_core::testkit::engine::{instance, instance_uid};
use pacs_core::{Announced, Coercer, DataSet, Level, Options, Pacs, Result, Uid};
use pacs_net::dimse::{Client, CommandField, NoServices, Response, Status, StoreRequest};
use pacs_net::scp::{Limits, ScpOptions, Server};
use pacs_net::scu::{self, Remote};
use pacs_store::{MemoryArchive, MemoryIndex};
use support::*;
use tokio::sync::oneshot;

const COERCED: Status = Status(0xB000);
const DATA_SET_ODD: Status = Status(0xB007);

/// Gives every patient an ID of the house.
struct Reconcile;

impl Coercer for Reconcile {
    fn coerce(&self, arriving: &Arriving<'_>) -> Result<DataSet> {
        let mut coerced = DataSet::new();
        if let Some(id) = arriving.header.string(tags::PATIENT_ID) {
            coerced.put_text(tags::PATIENT_ID, VR::LO, format!("HOUSE-{id}"));
            coerced.put_text(tags::ISSUER_OF_PATIENT_ID, VR::LO, "HOUSE");
        }
        Ok(coerced)
    }
}

struct Running {
    remote: Remote,
    _stop: oneshot::Sender<()>,
}

async fn start() -> Running {
    let options = Options {
        coercer: Some(Arc::new(Reconcile)),
        ..Options::default()
    };
    let (archive, index) = (
        Arc::new(MemoryArchive::default()),
        Arc::new(MemoryIndex::default()),
    );
    let pacs = Pacs::open(archive, index, options).await.unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let options = ScpOptions::new(title("PACS"));
    let server = Server::bind(any, pacs, options, Limits::default()).await.unwrap();
    let address = server.address().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(server.run(stopped.map(drop), Duration::from_secs(5)));
    Running {
        remote: Remote::new(
            address.ip().to_string(),
            address.port(),
            title("PACS"),
            title("SCANNER"),
        ),
        _stop: stop,
    }
}

async fn store(server: &Running, instances: Vec<(Announced, Bytes)>) -> Vec<Response> {
    let proposal = server.remote.proposal().with_context(CT, [&EXPLICIT]);
    let client = Client::start(
        server.remote.connect(&proposal).await.unwrap(),
        Arc::new(NoServices),
    );
    let mut answers = Vec::new();
    for (announced, bytes) in instances {
        let request = StoreRequest::new(client.context_for(&CT).unwrap().id, CT, announced.sop_instance);
        answers.push(client.store(request, stream::iter([Ok(bytes)])).await.unwrap());
    }
    client.release().await.unwrap();
    answers
}

/// What C-GET brings to a receiver that takes only this transfer syntax.
async fn get(server: &Running, syntax: Uid) -> Bytes {
    let proposal = scu::query_proposal(&server.remote, Model::StudyRoot, CommandField::C_GET)
        .with_context(CT, [&syntax])
        .with_role(CT, false, true);
    let keeper = Arc::new(Keeper::default());
    let client = Client::start(server.remote.connect(&proposal).await.unwrap(), keeper.clone());
    let mut set = DataSet::new();
    set.put_text(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.826.0.1.3680043.10.1.1");
    let identifier = scu::identifier(Level::Study, &set);
    let progress = scu::retrieve(&client, Model::StudyRoot, &identifier)
        .await
        .unwrap();
    let progress: Vec<_> = progress.try_collect().await.unwrap();
    assert_eq!(progress.last().unwrap().status, Status::SUCCESS);
    client.release().await.unwrap();
    let mut taken = keeper.taken();
    assert_eq!(taken.len(), 1);
    taken.remove(0).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coerced_instance_is_answered_b000_with_the_attributes_each_time_it_is_sent() {
    let server = start().await;
    for answer in store(&server, vec![instance(1, 1, 1, 0), instance(1, 1, 1, 0)]).await {
        assert_eq!(answer.status(), COERCED);
        assert_eq!(
            answer.command.offending_elements(),
            [tags::PATIENT_ID, tags::ISSUER_OF_PATIENT_ID]
        );
        let comment = answer.command.error_comment();
        assert_eq!(comment, Some("coerced PatientID and 1 more"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_cut_off_too_is_answered_b007_and_the_comment_names_both() {
    let server = start().await;
    let (announced, bytes) = instance(1, 1, 1, 0);
    let cut = bytes.slice(..bytes.len() - 7);
    let answers = store(&server, vec![(announced, cut)]).await;
    assert_eq!(answers[0].status(), DATA_SET_ODD);
    let comment = answers[0].command.error_comment().unwrap();
    assert_eq!(
        comment,
        "coerced PatientID and 1 more; truncated: ends inside an element"
    );
    assert_eq!(
        answers[0].command.offending_elements(),
        [tags::PIXEL_DATA, tags::PATIENT_ID, tags::ISSUER_OF_PATIENT_ID]
    );
}

fn check(bytes: &Bytes, syntax: &Uid) {
    let left = parse(bytes, syntax).unwrap();
    assert_eq!(left.string(tags::PATIENT_ID), Some("HOUSE-P1"));
    let items = left.items(tags::ORIGINAL_ATTRIBUTES_SEQUENCE);
    assert_eq!(items.len(), 1);
    assert_eq!(items[0].string(tags::MODIFYING_SYSTEM), Some("PACS"));
    assert_eq!(items[0].string(tags::SOURCE_OF_PREVIOUS_VALUES), Some("SCANNER"));
    let original = &items[0].items(tags::MODIFIED_ATTRIBUTES_SEQUENCE)[0];
    assert_eq!(original.string(tags::PATIENT_ID), Some("P1"));
    let came = parse(&instance(1, 1, 1, 0).1, &EXPLICIT).unwrap();
    assert_eq!(left.get(tags::PIXEL_DATA), came.get(tags::PIXEL_DATA));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c_get_brings_the_coerced_values_and_the_original_ones() {
    let server = start().await;
    store(&server, vec![instance(1, 1, 1, 0)]).await;
    check(&get(&server, EXPLICIT).await, &EXPLICIT);
    // Converted on the way.
    #[cfg(feature = "pixel")]
    check(&get(&server, IMPLICIT).await, &IMPLICIT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dcmdump_reads_the_sequence_of_original_attributes() {
    if Command::new("dcmdump").arg("--version").output().is_err() {
        assert!(
            std::env::var_os("PACS_REQUIRE_PEERS").is_none_or(|value| value != "1"),
            "dcmdump is required and not installed"
        );
        eprintln!("skipped: dcmdump is not installed (Debian package dcmtk)");
        return;
    }
    let server = start().await;
    store(&server, vec![instance(1, 1, 1, 0)]).await;
    let meta = write_meta(&Meta {
        sop_class: CT,
        sop_instance: instance_uid(1, 1, 1),
        transfer_syntax: EXPLICIT,
        source: None,
        sending: None,
        receiving: None,
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("coerced.dcm");
    std::fs::write(&path, [&meta[..], &get(&server, EXPLICIT).await].concat()).unwrap();
    let output = Command::new("dcmdump")
        .args(["+P", "0010,0020", "+P", "0400,0565"])
        .arg(&path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && output.stderr.is_empty(), "{text}");
    for said in ["[HOUSE-P1]", "[P1]", "[COERCE]"] {
        assert!(text.contains(said), "{text}");
    }
}
