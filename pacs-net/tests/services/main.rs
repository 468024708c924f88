//! A whole DICOM server on an engine in memory, used by our own SCUs over TCP.

mod coercion;
mod commitment;
mod migration;
mod monitoring;
mod retrieving;
mod ups;
mod workflow;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use pacs_core::query::Model;
use pacs_core::testkit::engine::{instance, instance_uid};
use pacs_core::{AeTitle, Announced, Archive, DataSet, Level, Options, Pacs, Result, Uid};
use pacs_net::dimse::{Client, CommandField, CommandSet, Operation, Reply, Services, Status, StoreRequest};
use pacs_net::scp::{Destination, Limits, ScpOptions, Server};
use pacs_net::scu::{self, Outgoing, Pieces, Progress, Remote, Sending, Supply};
use pacs_net::transport::Proposal;
use pacs_store::{MemoryArchive, MemoryIndex};
use tokio::sync::oneshot;

fn title(text: &str) -> AeTitle {
    AeTitle::parse(text).unwrap()
}

/// A running server; it stops when dropped.
struct Running {
    pacs: Pacs,
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl Running {
    async fn start(ae_title: &str, destinations: Vec<Destination>) -> Self {
        Self::start_with(ae_title, destinations, Options::default()).await
    }

    async fn start_with(ae_title: &str, destinations: Vec<Destination>, engine: Options) -> Self {
        let options = ScpOptions {
            destinations,
            ..ScpOptions::new(title(ae_title))
        };
        Self::start_as(options, engine, Limits::default()).await
    }

    async fn start_as(options: ScpOptions, engine: Options, limits: Limits) -> Self {
        Self::start_on(Arc::new(MemoryArchive::default()), options, engine, limits).await
    }

    async fn start_on(
        archive: Arc<dyn Archive>,
        options: ScpOptions,
        engine: Options,
        limits: Limits,
    ) -> Self {
        let index = Arc::new(MemoryIndex::default());
        let pacs = Pacs::open(archive, index, engine).await.unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = Server::bind(any, pacs.clone(), options, limits).await.unwrap();
        let address = server.address().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(server.run(stopped.map(drop), Duration::from_secs(5)));
        Self {
            pacs,
            address,
            _stop: stop,
        }
    }

    fn remote(&self, called: &str) -> Remote {
        Remote::new(
            self.address.ip().to_string(),
            self.address.port(),
            title(called),
            title("TESTER"),
        )
    }
}

/// Instances in memory.
struct InMemory;

impl Supply<(Announced, Bytes)> for InMemory {
    fn outgoing(&self, (announced, _): &(Announced, Bytes)) -> Outgoing {
        Outgoing {
            sop_class: announced.sop_class,
            sop_instance: announced.sop_instance,
            transfer_syntax: announced.transfer_syntax,
        }
    }

    fn open<'a>(&'a self, (_, bytes): &'a (Announced, Bytes)) -> BoxFuture<'a, Result<Pieces>> {
        let bytes = bytes.clone();
        async move { Ok(stream::iter([Ok(bytes)]).boxed()) }.boxed()
    }
}

async fn store(sending: Sending, instances: Vec<(Announced, Bytes)>) -> Vec<(Uid, Status, Option<String>)> {
    let kinds: BTreeSet<(Uid, Uid)> = instances
        .iter()
        .map(|(announced, _)| (announced.sop_class, announced.transfer_syntax))
        .collect();
    let sent = sending.send(&kinds, Arc::new(InMemory), stream::iter(instances));
    sent.map(|((announced, _), sent)| {
        let (status, comment) = sent.unwrap();
        (announced.sop_instance, status, comment)
    })
    .collect()
    .await
}

/// A few studies of two series.
fn some_instances() -> Vec<(Announced, Bytes)> {
    (0..3)
        .flat_map(|study| (0..10).map(move |number| instance(study, number % 2, number, 0)))
        .collect()
}

async fn fill(server: &Running) {
    let sending = Sending {
        associations: 2,
        window: 4,
        ..Sending::to(server.remote("PACS"))
    };
    let answers = store(sending, some_instances()).await;
    assert_eq!(answers.len(), 30);
    assert!(answers.iter().all(|(_, status, _)| *status == Status::SUCCESS));
}

async fn find(server: &Running, level: Level, keys: &[(dicom_core::Tag, VR, &str)]) -> Vec<DataSet> {
    let remote = server.remote("PACS");
    let proposal = scu::query_proposal(&remote, Model::StudyRoot, CommandField::C_FIND);
    let client = remote.client(&proposal).await.unwrap();
    let mut set = DataSet::new();
    for (tag, vr, value) in keys {
        set.put_text(*tag, *vr, *value);
    }
    let identifier = scu::identifier(level, &set);
    let found = scu::find(&client, Model::StudyRoot, &identifier)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    client.release().await.unwrap();
    found
}

/// Takes what a C-GET sends.
#[derive(Default)]
struct Taking(Mutex<BTreeMap<Uid, Vec<u8>>>);

impl Services for Taking {
    fn c_store(&self, mut operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            let instance = operation.command().sop_instance()?;
            let bytes = operation.gather_data_set().await?;
            self.0.lock().unwrap().insert(instance, bytes.to_vec());
            Ok(Reply::success())
        })
    }
}

/// With Data Set Trailing Padding (PS3.10 7.2).
fn padded((announced, bytes): (Announced, Bytes), length: u32) -> (Announced, Bytes) {
    let mut padded = bytes.to_vec();
    padded.extend_from_slice(b"\xFC\xFF\xFC\xFFOB\0\0");
    padded.extend_from_slice(&length.to_le_bytes());
    padded.resize(padded.len() + length as usize, 0);
    (announced, padded.into())
}

fn get_proposal(remote: &Remote) -> Proposal {
    let ct = Uid::constant(uids::CT_IMAGE_STORAGE);
    scu::query_proposal(remote, Model::StudyRoot, CommandField::C_GET)
        .with_context(ct, scu::NATIVE.iter())
        .with_role(ct, false, true)
}

fn study_identifier(study: u32) -> DataSet {
    let mut set = DataSet::new();
    set.put_text(
        tags::STUDY_INSTANCE_UID,
        VR::UI,
        format!("1.2.826.0.1.3680043.10.1.{study}"),
    );
    scu::identifier(Level::Study, &set)
}

/// The final response to a C-GET, and what it brings.
async fn get(
    remote: &Remote,
    model: Model,
    proposal: &Proposal,
    identifier: &DataSet,
) -> (Progress, BTreeMap<Uid, Vec<u8>>) {
    let taking = Arc::new(Taking::default());
    let client = Client::start(remote.connect(proposal).await.unwrap(), taking.clone());
    let progress = scu::retrieve(&client, model, identifier).await.unwrap();
    let mut progress: Vec<_> = progress.try_collect().await.unwrap();
    client.release().await.unwrap();
    let taken = std::mem::take(&mut *taking.0.lock().unwrap());
    (progress.pop().unwrap(), taken)
}

/// An association for C-MOVE.
async fn mover(server: &Running) -> Client {
    let remote = server.remote("PACS");
    let proposal = scu::query_proposal(&remote, Model::StudyRoot, CommandField::C_MOVE);
    remote.client(&proposal).await.unwrap()
}

/// The final response to a C-MOVE of a study.
async fn move_study(client: &Client, destination: &str, study: u32) -> Progress {
    let identifier = study_identifier(study);
    let progress = scu::move_to(client, Model::StudyRoot, &identifier, &title(destination)).await;
    let mut progress: Vec<_> = progress.unwrap().try_collect().await.unwrap();
    progress.pop().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_is_found_at_every_level_and_comes_back_byte_for_byte_by_c_get() {
    let server = Running::start("PACS", Vec::new()).await;
    assert_eq!(server.remote("PACS").echo().await.unwrap(), Status::SUCCESS);
    fill(&server).await;
    let studies = find(
        &server,
        Level::Study,
        &[
            (tags::PATIENT_NAME, VR::PN, "family1*"),
            (tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS, ""),
            (tags::MODALITIES_IN_STUDY, VR::CS, ""),
        ],
    )
    .await;
    assert_eq!(studies.len(), 1);
    assert_eq!(
        studies[0].string(tags::NUMBER_OF_STUDY_RELATED_INSTANCES),
        Some("10")
    );
    assert_eq!(
        studies[0].strings(tags::MODALITIES_IN_STUDY).collect::<Vec<_>>(),
        ["CT", "MR"]
    );
    assert_eq!(studies[0].string(tags::RETRIEVE_AE_TITLE), Some("PACS"));
    assert_eq!(
        find(&server, Level::Series, &[(tags::MODALITY, VR::CS, "MR")])
            .await
            .len(),
        3
    );
    assert_eq!(
        find(&server, Level::Instance, &[(tags::INSTANCE_NUMBER, VR::IS, "3")])
            .await
            .len(),
        3
    );

    let remote = server.remote("PACS");
    let (last, taken) = get(
        &remote,
        Model::StudyRoot,
        &get_proposal(&remote),
        &study_identifier(2),
    )
    .await;
    assert_eq!(
        (last.status, last.counts.completed, last.counts.failed),
        (Status::SUCCESS, 10, 0)
    );
    let sent: BTreeMap<Uid, Vec<u8>> = some_instances()
        .into_iter()
        .filter(|(announced, _)| announced.sop_instance.starts_with("1.2.826.0.1.3680043.10.1.2."))
        .map(|(announced, bytes)| (announced.sop_instance, bytes.to_vec()))
        .collect();
    assert_eq!(taken, sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_takes_fewer_associations_than_configured_gets_everything() {
    let one_association = Limits {
        associations_max: 1,
        ..Limits::default()
    };
    let workstation = Running::start_as(
        ScpOptions::new(title("WORKSTATION")),
        Options::default(),
        one_association,
    )
    .await;
    let destination = Destination {
        ae_title: title("WORKSTATION"),
        host: workstation.address.ip().to_string(),
        port: workstation.address.port(),
        associations: 3,
        tls: None,
    };
    let server = Running::start("PACS", vec![destination]).await;
    let sending = Sending::to(server.remote("PACS"));
    store(sending, (0..60).map(|number| instance(1, 0, number, 0)).collect()).await;
    let client = mover(&server).await;
    let last = move_study(&client, "WORKSTATION", 1).await;
    client.release().await.unwrap();
    assert_eq!(
        (last.status, last.counts.completed, last.counts.failed),
        (Status::SUCCESS, 60, 0)
    );
}

/// What a server makes of a C-STORE on the first context of a proposal.
async fn stored(proposal: impl Fn(Proposal) -> Proposal, sop_class: &str) -> (Status, usize) {
    let server = Running::start("PACS", Vec::new()).await;
    let remote = server.remote("PACS");
    let client = remote.client(&proposal(remote.proposal())).await.unwrap();
    let (announced, bytes) = instance(0, 0, 0, 0);
    let request = StoreRequest::new(1, Uid::parse(sop_class).unwrap(), announced.sop_instance);
    let response = client.store(request, stream::iter([Ok(bytes)])).await.unwrap();
    client.release().await.unwrap();
    (
        response.status(),
        server.pacs.totals().await.unwrap().instances as usize,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_on_a_context_that_is_not_for_storing_it_is_refused() {
    let explicit = Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let (verification, ct) = (
        Uid::constant(uids::VERIFICATION),
        Uid::constant(uids::CT_IMAGE_STORAGE),
    );
    let refused = (Status::SOP_CLASS_NOT_SUPPORTED, 0);
    let on_verification = |p: Proposal| p.with_context(verification, [&explicit]);
    assert_eq!(stored(on_verification, uids::VERIFICATION).await, refused);
    let as_scp_alone = |p: Proposal| p.with_context(ct, [&explicit]).with_role(ct, false, true);
    assert_eq!(stored(as_scp_alone, uids::CT_IMAGE_STORAGE).await, refused);
    let as_both = |p: Proposal| p.with_context(ct, [&explicit]).with_role(ct, true, true);
    assert_eq!(
        stored(as_both, uids::CT_IMAGE_STORAGE).await,
        (Status::SUCCESS, 1)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_sop_class_accepts_what_is_unknown_and_no_other_service() {
    let mut options = ScpOptions::new(title("PACS"));
    options.any_sop_class = true;
    let server = Running::start_as(options, Options::default(), Limits::default()).await;
    let remote = server.remote("PACS");
    let implicit = Uid::constant(uids::IMPLICIT_VR_LITTLE_ENDIAN);
    let mut proposal = remote.proposal();
    for proposed in [
        uids::STORAGE_COMMITMENT_PUSH_MODEL,
        uids::MODALITY_WORKLIST_INFORMATION_MODEL_FIND,
        uids::HANGING_PROTOCOL_STORAGE,
        uids::CT_IMAGE_STORAGE,
        "1.2.3.4",
    ] {
        proposal = proposal.with_context(Uid::constant(proposed), [&implicit]);
    }
    let client = remote.client(&proposal).await.unwrap();
    let accepted: Vec<_> = client.negotiated().contexts.iter().map(|c| c.id).collect();
    assert_eq!(accepted, [7, 9]);
    client.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_set_that_is_not_what_was_announced_is_answered_a900_and_the_association_goes_on() {
    let server = Running::start("PACS", Vec::new()).await;
    let (announced, bytes) = instance(1, 1, 1, 0);
    let other = Announced {
        sop_instance: instance_uid(9, 9, 9),
        ..announced.clone()
    };
    let cut = bytes.slice(..bytes.len() - 7);
    let (second, _) = instance(1, 1, 1, 0);
    let answers = store(
        Sending::to(server.remote("PACS")),
        vec![
            (other, bytes.clone()),
            (second, Bytes::from_static(b"no data set at all")),
            (announced.clone(), cut),
            (announced, bytes),
        ],
    )
    .await;
    let statuses: Vec<u16> = answers.iter().map(|(_, status, _)| status.0).collect();
    assert_eq!(statuses[0], 0xA900);
    assert!((0xC000..=0xCFFF).contains(&statuses[1]), "{:04X}", statuses[1]);
    assert_eq!(statuses[2], 0xB007, "kept as it came, and said so");
    assert_eq!(statuses[3], 0x0000, "the whole one replaces it");
    assert!(answers[..3].iter().all(|(_, _, comment)| comment.is_some()));
}
