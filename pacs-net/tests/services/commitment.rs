//! Storage commitment and Instance Availability Notification, our SCU against our SCP.

use std::sync::atomic::{AtomicUsize, Ordering};

use pacs_core::{ErrorKind, Ledger};
use pacs_net::scp::{AvailabilityObserver, Available};
use pacs_net::scu::{Commitment, CommitmentRequest, Commitments, Reference};
use pacs_store::MemoryLedger;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;

const CT: Uid = Uid::constant(uids::CT_IMAGE_STORAGE);
const PUSH_MODEL: Uid = Uid::constant(uids::STORAGE_COMMITMENT_PUSH_MODEL);
const WELL_KNOWN: Uid = Uid::constant(uids::STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE);

fn reference(number: u32) -> Reference {
    Reference {
        sop_class: CT,
        sop_instance: instance_uid(1, 0, number),
    }
}

async fn start(ledger: &Arc<MemoryLedger>, options: ScpOptions) -> Running {
    let engine = Options {
        ledger: Some(Arc::clone(ledger) as Arc<dyn Ledger>),
        ..Options::default()
    };
    Running::start_as(options, engine, Limits::default()).await
}

/// Keeps the instances of study 1 with the numbers 0 to 2; number 3 comes cut off.
async fn fill(server: &Running) {
    let mut instances: Vec<_> = (0..4).map(|number| instance(1, 0, number, 0)).collect();
    let cut = &mut instances[3].1;
    *cut = cut.slice(..cut.len() - 7);
    let answers = store(Sending::to(server.remote("PACS")), instances).await;
    assert!(answers.iter().all(|(_, status, _)| status.is_done()));
}

/// A listener for reports to TESTER, and how a server knows it.
async fn listener() -> (TcpListener, Destination) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let destination = Destination {
        ae_title: title("TESTER"),
        host: Ipv4Addr::LOCALHOST.to_string(),
        port: listener.local_addr().unwrap().port(),
        associations: 1,
        tls: None,
    };
    (listener, destination)
}

async fn nothing_is_left(ledger: &MemoryLedger) {
    let all = Bytes::from_static(b"commitment")..Bytes::from_static(b"commitmenu");
    // What was answered is forgotten right behind the answer.
    let forgotten = async {
        while !ledger.range(all.clone(), 1).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let forgotten = tokio::time::timeout(Duration::from_secs(60), forgotten).await;
    forgotten.expect("what was answered is forgotten");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_kept_whole_under_its_class_is_committed_and_the_report_comes_on_the_same_association() {
    let ledger = Arc::new(MemoryLedger::new());
    let server = start(&ledger, ScpOptions::new(title("PACS"))).await;
    fill(&server).await;
    let other_class = Reference {
        sop_class: Uid::constant(uids::MR_IMAGE_STORAGE),
        ..reference(1)
    };
    let other_service = Reference {
        sop_class: Uid::constant(uids::HANGING_PROTOCOL_STORAGE),
        ..reference(8)
    };
    let asked = [
        reference(0),
        reference(0),
        reference(1),
        other_class,
        reference(3),
        reference(9),
        other_service,
    ];
    let commitments = Arc::new(Commitments::new());
    let request = CommitmentRequest::default();
    let report = request
        .ask(&server.remote("PACS"), &asked, &commitments)
        .await
        .unwrap();
    assert_eq!(report.committed, [reference(0), reference(1)]);
    let failed = [
        (other_class, 0x0119),
        (reference(3), 0x0110),
        (reference(9), 0x0112),
        (other_service, 0x0122),
    ];
    assert_eq!(report.failed, failed);
    assert_eq!(report.retrieve_ae, Some(title("PACS")));

    let all_kept = [reference(0), reference(1), reference(2)];
    let report = request
        .ask(&server.remote("PACS"), &all_kept, &commitments)
        .await
        .unwrap();
    assert_eq!(
        (report.committed.as_slice(), report.failed.len()),
        (&all_kept[..], 0)
    );
    nothing_is_left(&ledger).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_association_has_ended_the_report_comes_on_another_one_once_somebody_listens() {
    let (listener, destination) = listener().await;
    let address = listener.local_addr().unwrap();
    // Nobody takes the first report.
    drop(listener);
    let options = ScpOptions {
        destinations: vec![destination],
        ..ScpOptions::new(title("PACS"))
    };
    let ledger = Arc::new(MemoryLedger::new());
    let server = start(&ledger, options).await;
    fill(&server).await;
    let commitments = Arc::new(Commitments::new());
    let request = CommitmentRequest {
        hold: Duration::ZERO,
        ..CommitmentRequest::default()
    };
    let (remote, all) = (server.remote("PACS"), [reference(0), reference(9)]);
    let asking = request.ask(&remote, &all, &commitments);
    let listening = async {
        let listener = TcpListener::bind(address).await.unwrap();
        Arc::clone(&commitments).listen(listener, title("TESTER")).await;
    };
    let report = tokio::select! {
        report = asking => report.unwrap(),
        () = listening => unreachable!("it listens for ever"),
    };
    assert_eq!(report.committed, [reference(0)]);
    assert_eq!(report.failed, [(reference(9), 0x0112)]);
    nothing_is_left(&ledger).await;
}

/// Asks for instance 0, and takes no report on the association.
async fn ask_and_go(server: &Running, change: impl FnOnce(&mut DataSet)) {
    let remote = server.remote("PACS");
    let proposal = remote.proposal().with_context(PUSH_MODEL, scu::NATIVE.iter());
    let client = remote.client(&proposal).await.unwrap();
    let status = action(&client, |command, mut set| {
        change(&mut set);
        (command, Some(set))
    });
    assert_eq!(status.await, Status::SUCCESS);
    client.release().await.unwrap();
}

/// Takes every report on any association, after so many that it has no room for.
struct Reports(mpsc::UnboundedSender<(u16, Commitment)>, AtomicUsize);

impl Services for Reports {
    fn n_event_report(&self, mut operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        async move {
            let bytes = operation.gather_data_set().await?;
            let set = pacs_core::dataset::scan::parse(&bytes, &operation.context().transfer_syntax)?;
            let references = |tag| {
                let items = set.items(tag).iter();
                let item = |item: &DataSet| Reference {
                    sop_class: item.uid(tags::REFERENCED_SOP_CLASS_UID).unwrap(),
                    sop_instance: item.uid(tags::REFERENCED_SOP_INSTANCE_UID).unwrap(),
                };
                items.map(move |it| (item(it), it.u16(tags::FAILURE_REASON)))
            };
            let report = Commitment {
                transaction: set.uid(tags::TRANSACTION_UID)?,
                retrieve_ae: None,
                committed: references(tags::REFERENCED_SOP_SEQUENCE)
                    .map(|(it, _)| it)
                    .collect(),
                failed: references(tags::FAILED_SOP_SEQUENCE)
                    .map(|(it, reason)| (it, reason.unwrap()))
                    .collect(),
            };
            let event = operation.command().event_type_id().unwrap();
            self.0.send((event, report)).unwrap();
            let refuse = |left: usize| left.checked_sub(1);
            match self.1.fetch_update(Ordering::Relaxed, Ordering::Relaxed, refuse) {
                Ok(_) => Ok(Reply::new(Status::RESOURCE_LIMITATION)),
                Err(_) => Ok(Reply::success()),
            }
        }
        .boxed()
    }
}

/// Takes associations on which a peer reports.
async fn take_reports(listener: TcpListener) -> mpsc::UnboundedReceiver<(u16, Commitment)> {
    take_reports_after(0, listener).await
}

/// The same after so many are answered that there is no room (0213H).
async fn take_reports_after(
    refused: usize,
    listener: TcpListener,
) -> mpsc::UnboundedReceiver<(u16, Commitment)> {
    use pacs_net::transport::{Acceptor, Connection, accept};
    use pacs_net::ul::negotiate::{AcceptPolicy, ContextRule};
    let (sender, reports) = mpsc::unbounded_channel();
    let services = Arc::new(Reports(sender, AtomicUsize::new(refused)));
    let rule = ContextRule::preferred(scu::NATIVE).with_requestor_scp();
    let acceptor = Acceptor::new(AcceptPolicy::new().with_context(PUSH_MODEL, rule));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let association = accept(Connection::tcp(stream), &acceptor).await.unwrap();
            let context = &association.negotiated().contexts[0];
            // It is the acceptor who is SCU of the service (PS3.4 J.3.3).
            assert!(context.requestor_scp && !context.requestor_scu);
            tokio::spawn(pacs_net::dimse::serve(association, Arc::clone(&services) as _));
        }
    });
    reports
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_waits_is_delivered_after_a_restart_and_never_again() {
    let ledger = Arc::new(MemoryLedger::new());
    let stopped = start(&ledger, ScpOptions::new(title("PACS"))).await;
    fill(&stopped).await;
    ask_and_go(&stopped, |_| {}).await;
    drop(stopped);
    let (listener, destination) = listener().await;
    let mut reports = take_reports(listener).await;
    let options = || ScpOptions {
        destinations: vec![destination.clone()],
        ..ScpOptions::new(title("PACS"))
    };
    let server = start(&ledger, options()).await;
    let (event, report) = reports.recv().await.unwrap();
    // Unless it was checked before, the new engine in memory has none of it.
    assert_eq!(report.committed.len() + report.failed.len(), 1);
    assert_eq!(event, if report.failed.is_empty() { 1 } else { 2 });
    nothing_is_left(&ledger).await;
    drop(server);

    let server = start(&ledger, options()).await;
    fill(&server).await;
    ask_and_go(&server, |set| {
        set.put_text(tags::TRANSACTION_UID, VR::UI, "1.2.3.5")
    })
    .await;
    let (event, next) = reports.recv().await.unwrap();
    assert_eq!(
        (event, next.committed.as_slice()),
        (1, &[reference(0)][..]),
        "the first one does not come again"
    );
    assert_ne!(next.transaction, report.transaction);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_the_requester_has_no_room_for_comes_again() {
    let ledger = Arc::new(MemoryLedger::new());
    let (listener, destination) = listener().await;
    let mut reports = take_reports_after(1, listener).await;
    let options = ScpOptions {
        destinations: vec![destination],
        ..ScpOptions::new(title("PACS"))
    };
    let server = start(&ledger, options).await;
    fill(&server).await;
    ask_and_go(&server, |_| {}).await;
    let first = reports.recv().await.unwrap();
    assert_eq!(reports.recv().await.unwrap(), first);
    nothing_is_left(&ledger).await;
    drop(server);
}

/// An N-ACTION, and the status of its response.
async fn action(
    client: &Client,
    change: impl FnOnce(CommandSet, DataSet) -> (CommandSet, Option<DataSet>),
) -> Status {
    let context = client.context_for(&PUSH_MODEL).unwrap();
    let mut set = DataSet::new();
    set.put_text(tags::TRANSACTION_UID, VR::UI, "1.2.3.4");
    let mut item = DataSet::new();
    item.put_uid(tags::REFERENCED_SOP_CLASS_UID, &CT);
    item.put_uid(tags::REFERENCED_SOP_INSTANCE_UID, &instance_uid(1, 0, 0));
    set.put_items(tags::REFERENCED_SOP_SEQUENCE, vec![item]);
    let command = CommandSet::request(CommandField::N_ACTION)
        .with_requested_sop_class(&PUSH_MODEL)
        .with_requested_sop_instance(&WELL_KNOWN)
        .with_action_type_id(1);
    let (command, set) = change(command, set);
    let data_set = set.map(|set| {
        let charset = pacs_core::dataset::charset::CharacterSet::utf8();
        let bytes = pacs_core::dataset::encode::encode(&set, &context.transfer_syntax, &charset);
        stream::iter([Ok(Bytes::from(bytes.unwrap()))])
    });
    let responses = client.request(context.id, command, data_set).await.unwrap();
    responses.single().await.unwrap().status()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_wrong_is_refused_with_its_status_and_leaves_nothing() {
    let ledger = Arc::new(MemoryLedger::new());
    let server = start(&ledger, ScpOptions::new(title("PACS"))).await;
    let remote = server.remote("PACS");
    let proposal = remote.proposal().with_context(PUSH_MODEL, scu::NATIVE.iter());
    let client = remote.client(&proposal).await.unwrap();
    let other = Uid::constant("1.2.3");
    let without = |tag| {
        move |command, mut set: DataSet| {
            set.remove(tag);
            (command, Some(set))
        }
    };
    assert_eq!(action(&client, without(tags::TRANSACTION_UID)).await.0, 0x0115);
    assert_eq!(
        action(&client, without(tags::REFERENCED_SOP_SEQUENCE)).await.0,
        0x0115
    );
    assert_eq!(action(&client, |command, _| (command, None)).await.0, 0x0115);
    let of_instance = |command: CommandSet, set| (command.with_requested_sop_instance(&other), Some(set));
    assert_eq!(action(&client, of_instance).await.0, 0x0112);
    let of_class = |command: CommandSet, set| (command.with_requested_sop_class(&other), Some(set));
    assert_eq!(action(&client, of_class).await.0, 0x0118);
    let of_type = |command: CommandSet, set| (command.with_action_type_id(2), Some(set));
    assert_eq!(action(&client, of_type).await.0, 0x0123);
    let without_class = |command, mut set: DataSet| {
        let mut item = DataSet::new();
        item.put_uid(tags::REFERENCED_SOP_INSTANCE_UID, &other);
        set.put_items(tags::REFERENCED_SOP_SEQUENCE, vec![item]);
        (command, Some(set))
    };
    assert_eq!(action(&client, without_class).await.0, 0x0115);
    nothing_is_left(&ledger).await;
    client.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_request_again_is_reported_once_and_another_one_of_its_transaction_is_not_committed() {
    let ledger = Arc::new(MemoryLedger::new());
    // Nobody is told where TESTER is, so nothing is reported.
    let server = start(&ledger, ScpOptions::new(title("PACS"))).await;
    fill(&server).await;
    ask_and_go(&server, |_| {}).await;
    ask_and_go(&server, |_| {}).await;
    ask_and_go(&server, |set| {
        let items = [reference(1), reference(2)].map(|it| {
            let mut item = DataSet::new();
            item.put_uid(tags::REFERENCED_SOP_CLASS_UID, &it.sop_class);
            item.put_uid(tags::REFERENCED_SOP_INSTANCE_UID, &it.sop_instance);
            item
        });
        set.put_items(tags::REFERENCED_SOP_SEQUENCE, items.to_vec());
    })
    .await;
    drop(server);

    let (listener, destination) = listener().await;
    let mut reports = take_reports(listener).await;
    let options = ScpOptions {
        destinations: vec![destination],
        ..ScpOptions::new(title("PACS"))
    };
    let server = start(&ledger, options).await;
    let mut refused = 0;
    let mut events = vec![reports.recv().await.unwrap(), reports.recv().await.unwrap()];
    nothing_is_left(&ledger).await;
    while let Ok(event) = reports.try_recv() {
        events.push(event);
    }
    assert_eq!(events.len(), 2);
    for (_, report) in &events {
        refused += report
            .failed
            .iter()
            .filter(|(_, reason)| *reason == 0x0131)
            .count();
    }
    assert_eq!(refused, 2, "both instances of the second request");
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_ledger_storage_commitment_is_not_offered() {
    let server = Running::start("PACS", Vec::new()).await;
    let asked = CommitmentRequest::default()
        .ask(
            &server.remote("PACS"),
            &[reference(0)],
            &Arc::new(Commitments::new()),
        )
        .await;
    assert_eq!(asked.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[derive(Debug, Default)]
struct Told(Mutex<Vec<Available>>, AtomicUsize);

impl AvailabilityObserver for Told {
    fn available(&self, source: Option<AeTitle>, instances: &[Available]) -> Result<()> {
        assert_eq!(source, Some(title("TESTER")));
        self.0.lock().unwrap().extend_from_slice(instances);
        self.1.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_one_is_told_of_every_instance_of_a_study_that_is_available() {
    let server = Running::start("PACS", Vec::new()).await;
    super::fill(&server).await;
    let told = Arc::new(Told::default());
    let options = ScpOptions {
        availability: Some(told.clone()),
        ..ScpOptions::new(title("RIS"))
    };
    let ris = Running::start_as(options, Options::default(), Limits::default()).await;
    let study = Uid::constant("1.2.826.0.1.3680043.10.1.2");
    let count = scu::notify_availability(&ris.remote("RIS"), &server.pacs, study, title("PACS"), None).await;
    assert_eq!(count.unwrap(), 10);
    let told = told.0.lock().unwrap();
    let instances: BTreeSet<Uid> = told.iter().map(|it| it.instance.sop_instance).collect();
    assert_eq!(instances.len(), 10);
    for it in told.iter() {
        assert_eq!((it.study, it.retrieve_ae), (study, title("PACS")));
        assert_eq!(it.availability, "ONLINE");
        assert!(it.instance.sop_instance.starts_with(it.series.as_str()));
    }
}
