//! The worklist and performed procedure steps, from an engine with a ledger.

use dicom_core::Tag;
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::{encode, scan};
use pacs_core::workflow::performed::begun;
use pacs_core::workflow::{PerformedStatus, Worklist};
use pacs_net::scp::PerformedHook;
use pacs_store::MemoryLedger;
use tokio::sync::mpsc::unbounded_channel;

use super::*;

const WORKLIST: Uid = Uid::constant(uids::MODALITY_WORKLIST_INFORMATION_MODEL_FIND);

fn item(number: u32) -> DataSet {
    let mut step = DataSet::new();
    step.put_text(tags::MODALITY, VR::CS, "CT");
    step.put_text(
        tags::SCHEDULED_STATION_AE_TITLE,
        VR::AE,
        format!("CT{}", number % 2),
    );
    step.put_text(tags::SCHEDULED_PROCEDURE_STEP_START_DATE, VR::DA, "20260310");
    step.put_text(tags::SCHEDULED_PROCEDURE_STEP_ID, VR::SH, "S1");
    let mut item = DataSet::new();
    item.put_text(tags::ACCESSION_NUMBER, VR::SH, format!("A{number}"));
    item.put_text(tags::PATIENT_NAME, VR::PN, format!("Müller{number}^Anna"));
    item.put_text(tags::PATIENT_ID, VR::LO, format!("P{number}"));
    item.put_text(tags::STUDY_INSTANCE_UID, VR::UI, format!("2.25.7.{number}"));
    item.put_items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE, vec![step]);
    item
}

async fn server(performed: Option<PerformedHook>, items: u32) -> (Running, Worklist) {
    let ledger: Arc<dyn pacs_core::Ledger> = Arc::new(MemoryLedger::new());
    let engine = Options {
        ledger: Some(Arc::clone(&ledger)),
        ..Options::default()
    };
    let options = ScpOptions {
        performed,
        ..ScpOptions::new(title("PACS"))
    };
    let worklist = Worklist::new(ledger);
    for number in 0..items {
        worklist.put(item(number)).await.unwrap();
    }
    (
        Running::start_as(options, engine, Limits::default()).await,
        worklist,
    )
}

/// An identifier that asks for names and accession numbers, with this key of the step.
fn identifier(tag: Tag, vr: VR, value: &str) -> DataSet {
    let mut step = DataSet::new();
    step.put_text(tag, vr, value);
    let mut set = DataSet::new();
    set.put_text(tags::PATIENT_NAME, VR::PN, "");
    set.put_text(tags::ACCESSION_NUMBER, VR::SH, "");
    set.put_items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE, vec![step]);
    set
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_modality_asks_for_its_work_and_says_what_it_does() {
    let (told, mut changes) = unbounded_channel();
    let hook = PerformedHook(Arc::new(move |change| {
        // The test may have seen enough.
        let _ = told.send((change.before, change.status, change.studies.clone()));
    }));
    let (server, _) = server(Some(hook), 4).await;
    let remote = server.remote("PACS");
    let ct1 = identifier(tags::SCHEDULED_STATION_AE_TITLE, VR::AE, "CT1");
    let client = remote.client(&scu::worklist_proposal(&remote)).await.unwrap();
    let work = || async {
        let found = scu::find_worklist(&client, &ct1).await.unwrap();
        found.try_collect::<Vec<_>>().await.unwrap()
    };
    let found = work().await;
    let names: Vec<_> = found.iter().map(|item| item.string(tags::PATIENT_NAME)).collect();
    assert_eq!(names, [Some("Müller1^Anna"), Some("Müller3^Anna")]);

    let modality = remote.client(&scu::performed_proposal(&remote)).await.unwrap();
    let instance = Uid::random();
    let mut step = begun(&item(1));
    for (tag, vr, text) in [
        (tags::PERFORMED_PROCEDURE_STEP_ID, VR::SH, "1"),
        (tags::PERFORMED_STATION_AE_TITLE, VR::AE, "CT1"),
        (tags::PERFORMED_PROCEDURE_STEP_START_DATE, VR::DA, "20260310"),
        (tags::PERFORMED_PROCEDURE_STEP_START_TIME, VR::TM, "1031"),
    ] {
        step.put_text(tag, vr, text);
    }
    let response = scu::create_performed(&modality, &instance, &step).await.unwrap();
    assert_eq!(response.status(), Status::SUCCESS);
    assert_eq!(response.command.sop_instance().unwrap(), instance);
    let study = Uid::constant("2.25.7.1");
    let change = changes.recv().await.unwrap();
    assert_eq!(change, (None, PerformedStatus::InProgress, vec![study]));
    assert_eq!(work().await.len(), 2, "what was started is still to be done");

    let mut series = DataSet::new();
    series.put_text(tags::PROTOCOL_NAME, VR::LO, "Schädel");
    series.put_text(tags::SERIES_INSTANCE_UID, VR::UI, "2.25.8");
    let mut end = DataSet::new();
    end.put_text(tags::PERFORMED_PROCEDURE_STEP_STATUS, VR::CS, "COMPLETED");
    end.put_text(tags::PERFORMED_PROCEDURE_STEP_END_DATE, VR::DA, "20260310");
    end.put_text(tags::PERFORMED_PROCEDURE_STEP_END_TIME, VR::TM, "1040");
    end.put_items(tags::PERFORMED_SERIES_SEQUENCE, vec![series]);
    let response = scu::set_performed(&modality, &instance, &end).await.unwrap();
    assert_eq!(response.status(), Status::SUCCESS);
    assert_eq!(changes.recv().await.unwrap().1, PerformedStatus::Completed);
    let left = work().await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].string(tags::ACCESSION_NUMBER), Some("A3"));

    let response = scu::set_performed(&modality, &instance, &end).await.unwrap();
    assert_eq!(response.status(), Status::PROCESSING_FAILURE);
    assert_eq!(response.command.error_id(), Some(0xA710));
    assert_eq!(
        response.command.error_comment(),
        Some("Performed Procedure Step Object may no longer be updated")
    );
    let (response, all) = scu::get_performed(&modality, &instance, &[]).await.unwrap();
    assert_eq!(response.status(), Status::SUCCESS);
    let all = all.unwrap();
    let series = &all.items(tags::PERFORMED_SERIES_SEQUENCE)[0];
    assert_eq!(series.string(tags::PROTOCOL_NAME), Some("Schädel"));
    let some = [tags::PERFORMED_PROCEDURE_STEP_STATUS, tags::ROWS];
    let (response, some) = scu::get_performed(&modality, &instance, &some).await.unwrap();
    assert_eq!(response.status(), Status(0x0001));
    let some = some.unwrap();
    assert_eq!(
        some.string(tags::PERFORMED_PROCEDURE_STEP_STATUS),
        Some("COMPLETED")
    );
    assert!(!some.contains(tags::PATIENT_ID));
    modality.release().await.unwrap();
    client.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_is_created_done_is_refused_with_the_value_at_fault() {
    let (server, _) = server(None, 1).await;
    let remote = server.remote("PACS");
    let modality = remote.client(&scu::performed_proposal(&remote)).await.unwrap();
    let instance = Uid::random();
    let mut step = begun(&item(0));
    let response = scu::create_performed(&modality, &instance, &step).await.unwrap();
    assert_eq!(response.status(), Status(0x0120));
    assert_eq!(
        response.command.offending_elements(),
        [
            tags::PERFORMED_STATION_AE_TITLE,
            tags::PERFORMED_PROCEDURE_STEP_START_DATE,
            tags::PERFORMED_PROCEDURE_STEP_START_TIME,
            tags::PERFORMED_PROCEDURE_STEP_ID,
        ]
    );
    for (tag, vr, text) in [
        (tags::PERFORMED_PROCEDURE_STEP_ID, VR::SH, "1"),
        (tags::PERFORMED_STATION_AE_TITLE, VR::AE, "CT1"),
        (tags::PERFORMED_PROCEDURE_STEP_START_DATE, VR::DA, "20260310"),
        (tags::PERFORMED_PROCEDURE_STEP_START_TIME, VR::TM, "1031"),
        (tags::PERFORMED_PROCEDURE_STEP_STATUS, VR::CS, "COMPLETED"),
    ] {
        step.put_text(tag, vr, text);
    }
    let response = scu::create_performed(&modality, &instance, &step).await.unwrap();
    assert_eq!(response.status(), Status(0x0106));
    let values = response.data_set.unwrap();
    let values = scan::parse(&values, uids::EXPLICIT_VR_LITTLE_ENDIAN).unwrap();
    assert_eq!(values.len(), 1);
    assert_eq!(
        values.string(tags::PERFORMED_PROCEDURE_STEP_STATUS),
        Some("COMPLETED")
    );
    let (response, _) = scu::get_performed(&modality, &instance, &[]).await.unwrap();
    assert_eq!(response.status(), Status::NO_SUCH_SOP_INSTANCE);
    modality.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_come_in_the_character_set_of_the_question_and_unsupported_keys_are_told() {
    let (server, _) = server(None, 1).await;
    let remote = server.remote("PACS");
    let client = remote.client(&scu::worklist_proposal(&remote)).await.unwrap();
    let context = client.context_for(&WORKLIST).unwrap();
    let latin1 = CharacterSet::parse("ISO_IR 100");
    let mut asked = identifier(tags::MODALITY, VR::CS, "");
    asked.put_text(tags::PATIENT_NAME, VR::PN, "müller*");
    asked.put_text(tags::STUDY_DESCRIPTION, VR::LO, "");
    let bytes = encode::encode(&asked, &context.transfer_syntax, &latin1).unwrap();
    let responses = client.find(context, bytes.into()).await.unwrap();
    let responses: Vec<_> = responses.try_collect().await.unwrap();
    assert_eq!(responses.len(), 2);
    assert_eq!(responses[0].status(), Status::PENDING_OPTIONAL_KEYS);
    let raw = responses[0].data_set.clone().unwrap();
    let latin1_name = b"M\xFCller0^Anna";
    assert!(raw.windows(latin1_name.len()).any(|window| window == latin1_name));
    assert_eq!(responses[1].status(), Status::SUCCESS);
    client.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_of_the_worklist_is_cancelled() {
    let (server, worklist) = server(None, 0).await;
    // 20 MB: more than sockets hold, so that the server can't be done before it is cancelled.
    for number in 0..2_000 {
        let mut item = item(number);
        item.put_text(tags::PATIENT_COMMENTS, VR::LT, "x".repeat(10_000));
        worklist.put(item).await.unwrap();
    }
    let remote = server.remote("PACS");
    let client = remote.client(&scu::worklist_proposal(&remote)).await.unwrap();
    let (cancel, cancelled) = oneshot::channel::<()>();
    let mut asked = identifier(tags::MODALITY, VR::CS, "CT");
    asked.put_text(tags::PATIENT_COMMENTS, VR::LT, "");
    let found = scu::find_worklist_until(&client, &asked, cancelled.map(drop)).await;
    let mut found = found.unwrap();
    found.next().await.unwrap().unwrap();
    cancel.send(()).unwrap();
    let mut more = 0;
    let last = loop {
        match found.next().await {
            Some(Ok(_)) => more += 1,
            last => break last,
        }
    };
    let error = last.unwrap().unwrap_err();
    assert_eq!(error.kind(), pacs_core::ErrorKind::Cancelled);
    assert!(more < 1_999, "{more} more were answered");
    assert_eq!(remote.echo().await.unwrap(), Status::SUCCESS);
    client.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_ledger_no_worklist_is_offered() {
    let server = Running::start("PACS", Vec::new()).await;
    let remote = server.remote("PACS");
    let performed = scu::performed_proposal(&remote);
    for proposal in [scu::worklist_proposal(&remote), performed] {
        let proposal = proposal.with_context(Uid::constant(uids::VERIFICATION), scu::NATIVE.iter());
        let client = remote.client(&proposal).await.unwrap();
        assert_eq!(client.negotiated().contexts.len(), 1);
        client.release().await.unwrap();
    }
}
