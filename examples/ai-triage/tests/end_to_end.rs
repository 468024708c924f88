//! Over real associations: a sender, the service, and a PACS that takes what comes back.

mod phantom;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use ai_triage::{Priority, Settings, Triage, Workitems};
use dicom_dictionary_std::{tags, uids};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use pacs_core::dataset::scan;
use pacs_core::hooks::Arriving;
use pacs_core::query::AttributeSet;
use pacs_core::route::{Rule, Rules};
use pacs_core::{
    AeTitle, DataSet, Decider, Error, ErrorKind, Event, InstanceRecord, Level, Options, Pacs, Result, Uid, VR,
};
use pacs_net::dimse::Status;
use pacs_net::scp::{Limits, ScpOptions, Server};
use pacs_net::scu::{Outgoing, Pieces, Remote, Sending, Supply};
use pacs_store::{MemoryArchive, MemoryIndex};
use phantom::Instance;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(60);
const CT: Uid = Uid::constant(uids::CT_IMAGE_STORAGE);
const SR: &str = uids::COMPREHENSIVE_SR_STORAGE;
const PICTURE: &str = uids::SECONDARY_CAPTURE_IMAGE_STORAGE;
/// Where the code of a finding is, seen from the report.
const FINDING: &str = "ContentSequence.ContentSequence.ConceptCodeSequence.CodeValue";

fn title(text: &str) -> AeTitle {
    AeTitle::parse(text).unwrap()
}

/// Has no room for so many instances first.
struct Full(AtomicI64);

impl Decider for Full {
    fn before_store(&self, _: &Arriving<'_>) -> Result<()> {
        if self.0.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Err(Error::new(ErrorKind::OutOfResources, "test.store", "no room now"));
        }
        Ok(())
    }
}

/// A PACS that tells what it received, and what a rule for findings decided.
struct PacsServer {
    pacs: Pacs,
    remote: Remote,
    received: UnboundedReceiver<Arc<InstanceRecord>>,
    routed: UnboundedReceiver<Uid>,
    _stop: oneshot::Sender<()>,
}

async fn pacs(refusals: i64) -> PacsServer {
    let (told, received) = unbounded_channel();
    let (tell_routed, routed) = unbounded_channel();
    let observe = move |event: &Event| {
        match event {
            Event::Received { record, .. } => drop(told.send(Arc::clone(record))),
            Event::Routed { record, .. } => drop(tell_routed.send(record.key.instance)),
            _ => {}
        }
        Ok(())
    };
    let attributes = AttributeSet::default().keep(Level::Instance, &FINDING.parse().unwrap());
    let mut options = Options {
        attributes: Arc::new(attributes.unwrap()),
        decider: Arc::new(Full(AtomicI64::new(refusals))),
        router: Some(Arc::new(Rules::new(vec![rule()]).unwrap())),
        ..Options::default()
    };
    options.observers.push(Arc::new(observe));
    let (archive, index) = (Arc::new(MemoryArchive::new()), Arc::new(MemoryIndex::new()));
    let pacs = Pacs::open(archive, index, options).await.unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = Server::bind(
        any,
        pacs.clone(),
        ScpOptions::new(title("PACS")),
        Limits::default(),
    );
    let server = server.await.unwrap();
    let port = server.address().unwrap().port();
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(server.run(stopped.map(drop), Duration::ZERO));
    PacsServer {
        pacs,
        remote: Remote::new("127.0.0.1", port, title("PACS"), title("AI-TRIAGE")),
        received,
        routed,
        _stop: stop,
    }
}

/// Reports in which a bleeding is suspected go to whoever is on call.
fn rule() -> Rule {
    let mut value = DataSet::new();
    value.put_text(tags::CODE_VALUE, VR::SH, "1386000");
    let within = |tag, item: DataSet| {
        let mut set = DataSet::new();
        set.put_items(tag, vec![item]);
        set
    };
    let finding = within(tags::CONTENT_SEQUENCE, within(tags::CONCEPT_CODE_SEQUENCE, value));
    Rule::new("suspected bleedings")
        .when(within(tags::CONTENT_SEQUENCE, finding))
        .send_to("ON-CALL")
}

impl PacsServer {
    /// The next that comes, of the study it must be of, by class.
    async fn next(&mut self, study: u32, class: &str) -> DataSet {
        let record = timeout(LONG, self.received.recv())
            .await
            .expect("a result comes")
            .unwrap();
        assert_eq!(record.key.study, phantom::study_uid(study));
        assert_eq!(record.sop_class.as_str(), class);
        let bytes: Vec<_> = self.pacs.read_data_set(&record).try_collect().await.unwrap();
        scan::parse(&bytes.concat(), &record.transfer_syntax).unwrap()
    }
}

struct InMemory;

impl Supply<Instance> for InMemory {
    fn outgoing(&self, (instance, syntax, _): &Instance) -> Outgoing {
        Outgoing {
            sop_class: CT,
            sop_instance: *instance,
            transfer_syntax: *syntax,
        }
    }

    fn open<'a>(&'a self, (.., bytes): &'a Instance) -> BoxFuture<'a, Result<Pieces>> {
        async move { Ok(stream::iter([Ok(bytes.clone())]).boxed()) }.boxed()
    }
}

/// The statuses of all.
async fn send(to: SocketAddr, instances: Vec<Instance>) -> Vec<Status> {
    let remote = Remote::new(to.ip().to_string(), to.port(), title("AI-TRIAGE"), title("PACS"));
    let kinds: BTreeSet<(Uid, Uid)> = instances.iter().map(|(_, syntax, _)| (CT, *syntax)).collect();
    let sent = Sending::to(remote).send(&kinds, Arc::new(InMemory), stream::iter(instances));
    sent.map(|(_, sent)| sent.unwrap().0).collect().await
}

async fn send_all(to: SocketAddr, instances: Vec<Instance>) {
    let statuses = send(to, instances).await;
    assert!(statuses.len() == phantom::SLICES && statuses.iter().all(|status| *status == Status::SUCCESS));
}

fn settings(pacs: &Remote, data: &Path) -> Settings {
    Settings {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        ae_title: title("AI-TRIAGE"),
        pacs: pacs.clone(),
        quiet: Duration::from_millis(300),
        data: data.to_owned(),
        room_bytes: 1 << 30,
        workitems: None,
    }
}

/// Runs until the sender is dropped or used.
async fn started(
    settings: Settings,
) -> (
    SocketAddr,
    oneshot::Sender<()>,
    tokio::task::JoinHandle<Result<()>>,
) {
    let triage = Triage::open(settings).await.unwrap();
    let address = triage.address().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(triage.run(stopped.map(drop), Duration::ZERO));
    (address, stop, running)
}

fn volume(report: &DataSet) -> Option<f64> {
    let named = |item: &&DataSet| {
        let name = item.items(tags::CONCEPT_NAME_CODE_SEQUENCE).first();
        name.is_some_and(|name| name.string(tags::CODE_MEANING) == Some("Volume"))
    };
    let mut waiting = vec![report];
    while let Some(set) = waiting.pop() {
        let items = set.items(tags::CONTENT_SEQUENCE);
        if let Some(found) = items.iter().find(named) {
            let value = &found.items(tags::MEASURED_VALUE_SEQUENCE)[0];
            return value.string(tags::NUMERIC_VALUE)?.parse().ok();
        }
        waiting.extend(items);
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn studies_go_out_and_findings_come_back_once_also_of_compressed_images() {
    let (mut pacs, data) = (pacs(0).await, tempfile::tempdir().unwrap());
    let (address, stop, running) = started(settings(&pacs.remote, data.path())).await;

    send_all(address, phantom::explicit(&phantom::slices(1, true))).await;
    let report = pacs.next(1, SR).await;
    let (told, expected) = (volume(&report).unwrap(), phantom::volume_ml());
    assert!(
        (told - expected).abs() < 0.07 * expected,
        "{told} of {expected} ml"
    );
    pacs.next(1, PICTURE).await;
    let routed = timeout(LONG, pacs.routed.recv()).await.unwrap().unwrap();
    assert_eq!(routed, report.uid(tags::SOP_INSTANCE_UID).unwrap());

    send_all(address, phantom::run_length_encoded(&phantom::slices(2, true))).await;
    assert_eq!(volume(&pacs.next(2, SR).await), Some(told));
    pacs.next(2, PICTURE).await;
    // One after the other: so of the first one nothing is left.
    assert!(!data.path().join(phantom::study_uid(1).as_str()).exists());

    // The same again brings nothing, what is quiet one report, and no rule fires for that: the next that comes is of
    // the study behind them.
    send_all(address, phantom::explicit(&phantom::slices(1, true))).await;
    send_all(address, phantom::explicit(&phantom::slices(3, false))).await;
    assert_eq!(volume(&pacs.next(3, SR).await), None);
    send_all(address, phantom::explicit(&phantom::slices(4, true))).await;
    let report = pacs.next(4, SR).await;
    pacs.next(4, PICTURE).await;
    timeout(LONG, pacs.routed.recv()).await.unwrap().unwrap();
    let routed = timeout(LONG, pacs.routed.recv()).await.unwrap().unwrap();
    assert_eq!(routed, report.uid(tags::SOP_INSTANCE_UID).unwrap());

    drop(stop);
    timeout(LONG, running).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pacs_without_room_gets_the_results_later_and_a_finding_makes_the_reading_step_urgent() {
    let (mut pacs, data) = (pacs(2).await, tempfile::tempdir().unwrap());
    let (told, mut updated) = unbounded_channel();
    let search = async || r#"[{"00080018": {"vr": "UI", "Value": ["1.2.77"]}}]"#;
    let update =
        async move |uri: axum::http::Uri, body: String| drop(told.send((uri.path().to_owned(), body)));
    let service = axum::Router::new()
        .route("/dicom-web/workitems", axum::routing::get(search))
        .route("/dicom-web/workitems/{step}", axum::routing::post(update));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/dicom-web", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, service).await });
    let settings = Settings {
        workitems: Some(Workitems::at(&url, Priority::Stat).unwrap()),
        ..settings(&pacs.remote, data.path())
    };
    let (address, _stop, _running) = started(settings).await;
    send_all(address, phantom::explicit(&phantom::slices(5, true))).await;
    pacs.next(5, SR).await;
    pacs.next(5, PICTURE).await;
    let (path, body) = timeout(LONG, updated.recv()).await.unwrap().unwrap();
    assert_eq!(path, "/dicom-web/workitems/1.2.77");
    assert!(body.contains("STAT"), "{body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_done_before_a_stop_is_done_after_the_next_start_and_a_full_service_refuses() {
    let (mut pacs, data) = (pacs(0).await, tempfile::tempdir().unwrap());
    let patient = Settings {
        quiet: LONG * 60,
        room_bytes: 1,
        ..settings(&pacs.remote, data.path())
    };
    let (address, stop, running) = started(patient).await;
    let mut instances = phantom::explicit(&phantom::slices(6, true));
    let statuses = send(address, instances.split_off(instances.len() - 2)).await;
    // The first one takes all the room.
    assert_eq!(statuses, [Status::SUCCESS, Status::OUT_OF_RESOURCES]);
    drop(stop);
    timeout(LONG, running).await.unwrap().unwrap().unwrap();

    let (_address, _stop, _running) = started(settings(&pacs.remote, data.path())).await;
    let report = pacs.next(6, SR).await;
    let evidence = &report.items(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE)[0];
    let series = &evidence.items(tags::REFERENCED_SERIES_SEQUENCE)[0];
    assert_eq!(series.items(tags::REFERENCED_SOP_SEQUENCE).len(), 1);
}
