//! What HL7 messages do to an engine.
#![allow(clippy::print_stderr)]

use std::collections::BTreeMap;
use std::ops::Range;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use dicom_dictionary_std::{tags, uids};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use pacs_core::access::{self, Permission, Role};
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::encode::encode;
use pacs_core::dataset::{Element, base64, part10, scan};
use pacs_core::query::{Model, Query, QueryOptions};
use pacs_core::workflow::Worklist;
use pacs_core::workflow::report::is_final;
use pacs_core::{
    DataSet, Error, ErrorKind, Ledger, LedgerCapability, Level, Options, Pacs, Result, Scope, Source, Step,
    Tag, Uid, VR,
};
use pacs_net::hl7::ack::Condition;
use pacs_net::hl7::report::{Parties, oru_of};
use pacs_net::hl7::{AckCode, Charset, Fault, Handler, Incoming, Receiver, ReceiverOptions};
use pacs_store::{MemoryArchive, MemoryIndex, MemoryLedger};

/// A ledger that fails or panics where the worklist is written and that is asked for.
struct Troubled {
    ledger: MemoryLedger,
    trouble: Arc<AtomicU8>,
}

const PANIC: u8 = 1;
const NO_ROOM: u8 = 2;

impl Ledger for Troubled {
    fn capability(&self) -> LedgerCapability {
        self.ledger.capability()
    }

    fn get(&self, key: &[u8]) -> BoxFuture<'_, Result<Option<Bytes>>> {
        self.ledger.get(key)
    }

    fn range(&self, range: Range<Bytes>, limit: usize) -> BoxFuture<'_, Result<Vec<(Bytes, Bytes)>>> {
        self.ledger.range(range, limit)
    }

    fn apply(&self, steps: Vec<Step>) -> BoxFuture<'_, Result<bool>> {
        let is_worklist = |step: &Step| matches!(step, Step::Put(key, _) if key.starts_with(b"worklist"));
        match (
            steps.iter().any(is_worklist),
            self.trouble.load(Ordering::Relaxed),
        ) {
            (true, PANIC) => panic!("as asked for"),
            (true, NO_ROOM) => {
                async { Err(Error::new(ErrorKind::OutOfResources, "test.apply", "no room")) }.boxed()
            }
            _ => self.ledger.apply(steps),
        }
    }
}

fn step(item: &DataSet, tag: Tag) -> Option<&str> {
    item.items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE)[0].string(tag)
}

struct World {
    pacs: Pacs,
    worklist: Worklist,
    receiver: Receiver,
    trouble: Arc<AtomicU8>,
}

impl World {
    async fn new() -> Self {
        Self::with(Options::default()).await
    }

    async fn with(options: Options) -> Self {
        let (archive, index) = (Arc::new(MemoryArchive::new()), Arc::new(MemoryIndex::new()));
        let trouble = Arc::new(AtomicU8::new(0));
        let ledger: Arc<dyn Ledger> = Arc::new(Troubled {
            ledger: MemoryLedger::new(),
            trouble: Arc::clone(&trouble),
        });
        let options = Options {
            ledger: Some(Arc::clone(&ledger)),
            ..options
        };
        let pacs = Pacs::open(archive, index, options).await.unwrap();
        let receiver = Receiver::new(pacs.clone(), ReceiverOptions::default()).unwrap();
        Self {
            pacs,
            worklist: Worklist::new(ledger),
            receiver,
            trouble,
        }
    }

    /// The one item of an order.
    async fn item(&self, accession: &str) -> DataSet {
        let items = self.worklist.of_order(accession).await.unwrap();
        assert_eq!(items.len(), 1);
        items.into_iter().next().unwrap()
    }

    async fn send(&self, message: &str) -> Result<(), Fault> {
        let bytes = Bytes::from(message.to_owned());
        self.receiver
            .handle(Incoming::new(bytes, &Charset::default(), None))
            .await
    }

    /// Keeps an instance of this patient and study.
    async fn keep(&self, instance: &str, study: &str, patient: &str, name: &str) {
        self.keep_but(0, instance, study, patient, name).await;
    }

    /// The same of one that came cut off by so many bytes.
    async fn keep_but(&self, cut: usize, instance: &str, study: &str, patient: &str, name: &str) {
        let mut set = DataSet::new();
        for (tag, vr, text) in [
            (tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE),
            (tags::SOP_INSTANCE_UID, VR::UI, instance),
            (tags::ACCESSION_NUMBER, VR::SH, "ACC1"),
            (tags::STUDY_DATE, VR::DA, "20240229"),
            (tags::PATIENT_NAME, VR::PN, name),
            (tags::PATIENT_ID, VR::LO, patient),
            (tags::STUDY_INSTANCE_UID, VR::UI, study),
            (tags::SERIES_INSTANCE_UID, VR::UI, "1.2.3"),
        ] {
            set.put_text(tag, vr, text);
        }
        if study != "1.2" {
            set.put_text(tags::SERIES_INSTANCE_UID, VR::UI, format!("{study}.3"));
        }
        if cut > 0 {
            set.put_text(tags::IMAGE_COMMENTS, VR::LT, "cut off");
        }
        let mut bytes = encode(&set, uids::EXPLICIT_VR_LITTLE_ENDIAN, &CharacterSet::utf8()).unwrap();
        bytes.truncate(bytes.len() - cut);
        let meta = part10::Meta::new(
            Uid::constant(uids::CT_IMAGE_STORAGE),
            Uid::parse(instance).unwrap(),
            Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN),
        );
        let file = [part10::write_meta(&meta), bytes.into()].map(Ok);
        self.pacs
            .import(Source::default(), stream::iter(file))
            .await
            .unwrap();
    }

    /// The value of an attribute in each study of a patient.
    async fn studies(&self, patient: &str, tag: Tag, vr: VR) -> Vec<String> {
        let mut keys = DataSet::new();
        keys.put_text(tags::PATIENT_ID, VR::LO, patient);
        keys.put_text(tag, vr, "");
        let query = Query::new(Model::StudyRoot, Level::Study, keys, QueryOptions::default());
        let found: Vec<DataSet> = self
            .pacs
            .find(&Source::default(), query)
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        let mut found: Vec<String> = found
            .iter()
            .map(|set| set.string(tag).unwrap_or_default().to_owned())
            .collect();
        found.sort();
        found
    }

    /// Every instance of a study that is kept, read whole.
    async fn instances(&self, study: &str) -> Vec<DataSet> {
        let mut found = Vec::new();
        let mut records = self.pacs.instances(Scope::Study(Uid::parse(study).unwrap()));
        while let Some(record) = records.next().await {
            let bytes: Vec<Bytes> = self
                .pacs
                .outgoing_file(&record.unwrap())
                .try_collect()
                .await
                .unwrap();
            let bytes = bytes.concat();
            let meta = part10::read_meta(&bytes, true).unwrap().unwrap();
            found.push(scan::parse(&bytes[meta.data_set_offset as usize..], &meta.transfer_syntax).unwrap());
        }
        found
    }
}

fn message(kind: &str, id: &str, rest: &str) -> String {
    format!("MSH|^~\\&|RIS|HOSP|PACS|RAD|20240301101530||{kind}|{id}|P|2.5||||||UNICODE UTF-8\r{rest}")
}

fn adt(event: &str, id: &str, patient: &str, name: &str) -> String {
    let rest = format!("EVN|{event}\rPID|||{patient}^^^HOSP||{name}||19700131|F\r");
    message(&format!("ADT^{event}"), id, &rest)
}

fn order(id: &str, control: &str, procedure: &str) -> String {
    let rest = format!(
        "PID|||4711^^^HOSP||Doe^Jane||19700131|F\rPV1||O\rORC|{control}|P1|F1||||^^^20240302083000^^S\r\
         OBR|1|P1|F1|CT^{procedure}^L||||||||||||||ACC1|RP1|SPS1||||CT\rZDS|1.2\r"
    );
    message("ORM^O01", id, &rest)
}

#[tokio::test]
async fn what_is_kept_of_a_patient_is_corrected_and_the_same_message_does_nothing_twice() {
    let world = World::new().await;
    world.keep("1.2.3.4", "1.2", "4711", "Do^Jane").await;
    world.send(&order("1", "NW", "CT")).await.unwrap();
    for (at, event) in ["A01", "A04", "A08", "A28", "A31"].into_iter().enumerate() {
        let name = format!("Doe{at}^Jane");
        world
            .send(&adt(event, &format!("A{at}"), "4711", &name))
            .await
            .unwrap();
        assert_eq!(
            world.studies("4711", tags::PATIENT_NAME, VR::PN).await,
            [name.as_str()]
        );
        assert_eq!(
            world.item("ACC1").await.string(tags::PATIENT_NAME),
            Some(name.as_str())
        );
    }
    // The first of them once more: it is answered, and what came after it stays.
    world.send(&adt("A01", "A0", "4711", "Doe0^Jane")).await.unwrap();
    assert_eq!(
        world.studies("4711", tags::PATIENT_NAME, VR::PN).await,
        ["Doe4^Jane"]
    );
    // The same number for another message is another message.
    world.send(&adt("A01", "A0", "4711", "Doe9^Jane")).await.unwrap();
    assert_eq!(
        world.studies("4711", tags::PATIENT_NAME, VR::PN).await,
        ["Doe9^Jane"]
    );
    // Nothing is kept of this one.
    world.send(&adt("A08", "B", "9", "New^Nina")).await.unwrap();
    let instance = &world.instances("1.2").await[0];
    assert_eq!(instance.string(tags::PATIENT_BIRTH_DATE), Some("19700131"));
    assert!(!instance.items(tags::ORIGINAL_ATTRIBUTES_SEQUENCE).is_empty());
}

#[tokio::test]
async fn messages_that_do_not_count_are_told_apart_by_when_they_were_sent_or_not_taken() {
    let world = World::new().await;
    world.keep("1.2.3.4", "1.2", "4711", "Do^Jane").await;
    for (name, second) in [("X^Jane", "1"), ("Y^Jane", "2"), ("X^Jane", "3")] {
        let message =
            adt("A08", "1", "4711", name).replace("20240301101530", &format!("2024030110153{second}"));
        world.send(&message).await.unwrap();
        assert_eq!(world.studies("4711", tags::PATIENT_NAME, VR::PN).await, [name]);
    }
    let fault = world.send(&adt("A08", "", "4711", "Z^Jane")).await.unwrap_err();
    assert_eq!(
        (fault.code, fault.condition),
        (AckCode::Error, Condition::RequiredFieldMissing)
    );
}

#[tokio::test]
async fn what_is_said_of_a_patient_is_not_of_another_with_the_same_id_by_another_authority() {
    let world = World::new().await;
    world.send(&order("1", "NW", "CT")).await.unwrap();
    // Of the other authority nothing is kept but the same ID.
    let other = |message: String| message.replace("4711^^^HOSP", "4711^^^CLINIC");
    let names = || async {
        let item = world.item("ACC1").await;
        item.string(tags::PATIENT_NAME).unwrap().to_owned()
    };
    let fault = world
        .send(&other(adt("A08", "2", "4711", "Other^Otto")))
        .await
        .unwrap_err();
    assert_eq!(
        (fault.code, fault.condition),
        (AckCode::Error, Condition::UnknownKey)
    );
    let merge = "EVN|A40\rPID|||99^^^CLINIC||Other^Otto\rMRG|4711^^^CLINIC\r";
    let fault = world.send(&message("ADT^A40", "3", merge)).await.unwrap_err();
    assert_eq!(fault.condition, Condition::UnknownKey);
    // One that is registered there is new.
    world
        .send(&other(adt("A04", "4", "4711", "Other^Otto")))
        .await
        .unwrap();
    assert_eq!(names().await, "Doe^Jane");
    // Instances of whom the issuer isn't said may be either's.
    world.keep("1.2.3.4", "1.2", "4711", "Do^Jane").await;
    world.send(&adt("A08", "5", "4711", "Doe^Janet")).await.unwrap();
    assert_eq!(names().await, "Doe^Janet");
    assert_eq!(
        world.studies("4711", tags::PATIENT_NAME, VR::PN).await,
        ["Doe^Janet"]
    );
    // Both are one after all.
    let merge = "EVN|A40\rPID|||4711^^^CLINIC||Other^Otto\rMRG|4711^^^HOSP\r";
    world.send(&message("ADT^A40", "6", merge)).await.unwrap();
    let item = world.item("ACC1").await;
    assert_eq!(item.string(tags::ISSUER_OF_PATIENT_ID), Some("CLINIC"));
    assert_eq!(names().await, "Other^Otto");
}

#[tokio::test]
async fn an_instance_that_has_all_that_a_message_says_is_not_kept_anew() {
    let world = World::new().await;
    world.keep("1.2.3.4", "1.2", "4711", "Doe^Jane^^").await;
    let message = message("ADT^A08", "1", "PID|||4711^^^HOSP||Doe^Jane\r");
    world.send(&message).await.unwrap();
    assert!(
        world.instances("1.2").await[0]
            .items(tags::ORIGINAL_ATTRIBUTES_SEQUENCE)
            .is_empty()
    );
}

#[tokio::test]
async fn the_prior_patients_are_the_surviving_ones_after_a_merge() {
    let world = World::new().await;
    world.keep("1.2.3.4", "1.2", "4711", "Doe^Jane").await;
    world.keep("1.4.3.4", "1.4", "0815", "Doe^J").await;
    world.keep("1.5.3.4", "1.5", "0816", "Do^J").await;
    world.send(&order("1", "NW", "CT")).await.unwrap();
    // Two at once; of the second surviving one nothing is kept.
    let merge = "EVN|A40\rPID|||0815^^^HOSP||Doe^Jane\rMRG|4711^^^HOSP\rPID|||99||Do^Joe\rMRG|0816\r";
    world.send(&message("ADT^A40^ADT_A39", "2", merge)).await.unwrap();
    assert_eq!(
        world.studies("4711", tags::STUDY_INSTANCE_UID, VR::UI).await,
        [""; 0]
    );
    assert_eq!(
        world.studies("0815", tags::STUDY_INSTANCE_UID, VR::UI).await,
        ["1.2", "1.4"]
    );
    assert_eq!(
        world.studies("0815", tags::PATIENT_NAME, VR::PN).await,
        ["Doe^Jane", "Doe^Jane"]
    );
    assert_eq!(world.studies("99", tags::PATIENT_NAME, VR::PN).await, ["Do^Joe"]);
    assert_eq!(world.item("ACC1").await.string(tags::PATIENT_ID), Some("0815"));
    for (id, (rest, condition)) in [
        ("PID|||1\r", Condition::SegmentSequence),
        ("PID|||1\rMRG|1\r", Condition::DataType),
        ("PID|||1\rMRG|\r", Condition::RequiredFieldMissing),
        ("PID|||\rMRG|1\r", Condition::RequiredFieldMissing),
    ]
    .into_iter()
    .enumerate()
    {
        let fault = world
            .send(&message("ADT^A40", &id.to_string(), rest))
            .await
            .unwrap_err();
        assert_eq!(
            (fault.code, fault.condition),
            (AckCode::Error, condition),
            "{rest}"
        );
    }
}

#[tokio::test]
async fn a_merge_that_fails_for_one_instance_does_all_else_and_is_done_again() {
    let world = World::new().await;
    world.keep_but(3, "1.6.3.4", "1.6", "4711", "Doe^Jane").await;
    world.keep("1.4.3.4", "1.4", "0815", "Doe^J").await;
    world.keep("1.5.3.4", "1.5", "0816", "Do^J").await;
    world.send(&order("1", "NW", "CT")).await.unwrap();
    let merge = "EVN|A40\rPID|||0815^^^HOSP||Doe^Jane\rMRG|4711^^^HOSP\rPID|||99||Do^Joe\rMRG|0816\r";
    let merge = message("ADT^A40^ADT_A39", "2", merge);
    for of_first in [&["1.4"][..], &["1.2", "1.4"]] {
        let fault = world.send(&merge).await.unwrap_err();
        assert_eq!(
            (fault.code, fault.condition),
            (AckCode::Error, Condition::Internal)
        );
        assert_eq!(
            world.studies("0815", tags::STUDY_INSTANCE_UID, VR::UI).await,
            of_first
        );
        assert_eq!(world.studies("99", tags::PATIENT_NAME, VR::PN).await, ["Do^Joe"]);
        assert_eq!(world.item("ACC1").await.string(tags::PATIENT_ID), Some("0815"));
        world.keep("1.2.3.4", "1.2", "4711", "Doe^Jane").await;
    }
}

#[tokio::test]
async fn orders_are_new_changed_and_cancelled_on_the_worklist() {
    let world = World::new().await;
    world.send(&order("1", "NW", "CT of the head")).await.unwrap();
    let item = world.item("ACC1").await;
    assert_eq!(item.string(tags::ACCESSION_NUMBER), Some("ACC1"));
    assert_eq!(item.string(tags::PATIENT_NAME), Some("Doe^Jane"));
    assert_eq!(item.string(tags::REQUESTED_PROCEDURE_PRIORITY), Some("STAT"));
    assert_eq!(
        step(&item, tags::SCHEDULED_PROCEDURE_STEP_START_DATE),
        Some("20240302")
    );
    world.send(&order("2", "XO", "CT of the knee")).await.unwrap();
    let item = world.item("ACC1").await;
    assert_eq!(
        item.string(tags::REQUESTED_PROCEDURE_DESCRIPTION),
        Some("CT of the knee")
    );
    world.send(&order("3", "CA", "")).await.unwrap();
    let item = world.item("ACC1").await;
    assert_eq!(
        step(&item, tags::SCHEDULED_PROCEDURE_STEP_STATUS),
        Some("CANCELLED")
    );
    for (id, control, status) in [
        ("3a", "XO", "SCHEDULED"),
        ("3b", "OC", "CANCELLED"),
        ("3c", "NW", "SCHEDULED"),
    ] {
        world.send(&order(id, control, "CT")).await.unwrap();
        let item = world.item("ACC1").await;
        assert_eq!(
            step(&item, tags::SCHEDULED_PROCEDURE_STEP_STATUS),
            Some(status),
            "{id}"
        );
    }
    world.send(&order("3d", "CA", "")).await.unwrap();
    let scheduled = order("3e", "SC", "").replace("|P1|F1||||^^^", "|P1|F1||SC||^^^");
    world.send(&scheduled).await.unwrap();
    let item = world.item("ACC1").await;
    assert_eq!(
        step(&item, tags::SCHEDULED_PROCEDURE_STEP_STATUS),
        Some("SCHEDULED")
    );
    // As IHE has it.
    let omi = "PID|||4711||Doe^Jane\rORC|NW|P2\rTQ1|||||||20240303||S\rOBR|1|P2|F2|MR\rIPC|ACC2|RP2|1.3|SPS2|MR|P^Protocol^L||||AE1\r\
        IPC|ACC2|RP2|1.3|SPS3|MR\r";
    world.send(&message("OMI^O23^OMI_O23", "4", omi)).await.unwrap();
    let items = world.worklist.of_order("ACC2").await.unwrap();
    let steps: Vec<_> = items
        .iter()
        .map(|item| step(item, tags::SCHEDULED_PROCEDURE_STEP_ID).unwrap())
        .collect();
    assert_eq!(steps, ["SPS2", "SPS3"]);
    assert_eq!(items[1].string(tags::STUDY_INSTANCE_UID), Some("1.3"));
    // What was begun is discontinued, and what was done stays done.
    for (status, becomes, is_told) in [
        ("STARTED", "DISCONTINUED", false),
        ("COMPLETED", "COMPLETED", true),
    ] {
        world.worklist.set_status("ACC1", None, status).await.unwrap();
        let told = world.send(&order(status, "DC", "")).await;
        assert_eq!(told.is_err(), is_told, "{status}");
        let item = world.item("ACC1").await;
        assert_eq!(step(&item, tags::SCHEDULED_PROCEDURE_STEP_STATUS), Some(becomes));
    }
    for (id, text, code, condition) in [
        (
            "5",
            order("5", "CA", "").replace("ACC1", "ACC9"),
            AckCode::Error,
            Condition::UnknownKey,
        ),
        ("6", order("6", "ZZ", ""), AckCode::Reject, Condition::TableValue),
        (
            "7",
            order("7", "NW", "").replace("ACC1", "").replace("F1", ""),
            AckCode::Error,
            Condition::RequiredFieldMissing,
        ),
        (
            "8",
            order("8", "NW", "").replace("4711", ""),
            AckCode::Error,
            Condition::RequiredFieldMissing,
        ),
        (
            "9",
            order("9", "NW", "").replace("ACC1", "AN-ACCESSION-NUMBER"),
            AckCode::Error,
            Condition::DataType,
        ),
        (
            "10",
            order("10", "NW", "").replace("O01", "O02"),
            AckCode::Reject,
            Condition::UnsupportedEvent,
        ),
        (
            "11",
            order("11", "NW", "").replace("ORM", "BAR"),
            AckCode::Reject,
            Condition::UnsupportedMessageType,
        ),
    ] {
        let fault = world.send(&text).await.unwrap_err();
        assert_eq!((fault.code, fault.condition), (code, condition), "{id}: {fault}");
    }
    assert_eq!(world.worklist.of_order("ACC1").await.unwrap().len(), 1);
}

#[tokio::test]
async fn each_kind_of_message_needs_its_permission_and_what_is_refused_is_not_kept() {
    let address = "192.0.2.7:2575".parse().unwrap();
    for permission in Permission::ALL {
        let role = Role {
            name: "one".to_owned(),
            allow: vec![permission],
            only: BTreeMap::new(),
        };
        let peer = access::Peer {
            addresses: vec!["192.0.2.0/24".parse().unwrap()],
            roles: vec!["one".to_owned()],
            ..access::Peer::default()
        };
        let policy = access::Policy::new(Vec::new(), vec![role], vec![peer]).unwrap();
        let options = Options {
            access: Arc::new(policy),
            ..Options::default()
        };
        let world = World::with(options).await;
        world.keep("1.2.3.4", "1.2", "4711", "Do^Jane").await;
        world.send(&order("1", "NW", "CT")).await.unwrap();
        for (number, (message, needed)) in [
            (adt("A08", "2", "4711", "Doe^Jane"), Permission::Amend),
            (order("3", "XO", "CT"), Permission::Work),
            (report("4", "4711"), Permission::Store),
        ]
        .into_iter()
        .enumerate()
        {
            let incoming = Incoming::new(Bytes::from(message), &Charset::default(), Some(address));
            let answer = world.receiver.handle(incoming).await;
            assert_eq!(
                answer.is_ok(),
                permission == needed,
                "{number} with {permission:?}: {answer:?}"
            );
            if let Err(fault) = answer {
                assert_eq!(fault.code, AckCode::Reject);
            }
        }
        assert!(world.receiver.failed().list(None, 10).await.unwrap().is_empty());
    }
}

fn report(id: &str, patient: &str) -> String {
    let mut pdf = Vec::new();
    base64::encode(b"%PDF-1.7 a document", &mut pdf);
    let pdf = String::from_utf8(pdf).unwrap();
    let rest = format!(
        "PID|||{patient}||Doe^Jane\rORC|RE|P1|F1\rOBR|1|P1|F1|CT^CT of the head^L|||20240301|||||||||||ACC1||||20240301120000|||F|||||||7&Read&Rita&&&Dr.\r\
         OBX|1|TX|F^Findings^99X||No fracture.||||||F\rOBX|2|TX|F^Findings^99X||Ünd \\T\\ nothing else.||||||F\r\
         OBX|3|NM|S^Size^99X||12|mm|||||F\rOBX|4|ED|PDF||^application^pdf^Base64^{pdf}||||||F\rOBX|5|TX|D||deleted||||||D\r"
    );
    message("ORU^R01", id, &rest)
}

/// Holds instances against the Standard, with dciodvfy where it is installed.
async fn verified(world: &World, instances: &[&DataSet]) {
    let folder = tempfile::tempdir().unwrap();
    for instance in instances {
        let uid = instance.uid(tags::SOP_INSTANCE_UID).unwrap();
        let record = world.pacs.lookup(&uid).await.unwrap().unwrap();
        let bytes: Vec<Bytes> = world.pacs.outgoing_file(&record).try_collect().await.unwrap();
        let file = folder.path().join(uid.as_str());
        std::fs::write(&file, bytes.concat()).unwrap();
        let Ok(output) = Command::new("dciodvfy").arg(&file).output() else {
            assert!(
                std::env::var_os("PACS_REQUIRE_PEERS").is_none_or(|value| value != "1"),
                "dciodvfy is required and not installed"
            );
            eprintln!("skipped: dciodvfy is not installed (Debian package dicom3tools)");
            return;
        };
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("Error")).collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }
}

#[tokio::test]
async fn a_report_is_kept_in_the_study_of_its_order_and_goes_out_again_as_it_came() {
    let world = World::new().await;
    world.keep("1.2.3.4", "1.2", "4711", "Doe^Jane").await;
    for _ in 0..2 {
        world.send(&report("1", "4711")).await.unwrap();
        assert_eq!(world.instances("1.2").await.len(), 3);
    }
    let instances = world.instances("1.2").await;
    let of = |class| {
        instances
            .iter()
            .find(|set| set.string(tags::SOP_CLASS_UID) == Some(class))
            .unwrap()
    };
    let document = of(uids::ENCAPSULATED_PDF_STORAGE);
    let bytes = document
        .get(tags::ENCAPSULATED_DOCUMENT)
        .map(Element::bytes)
        .unwrap();
    assert!(bytes.starts_with(b"%PDF-1.7 a document"));
    let text = of(uids::BASIC_TEXT_SR_STORAGE);
    assert_eq!(text.string(tags::PATIENT_NAME), Some("Doe^Jane"));
    assert_eq!(text.string(tags::COMPLETION_FLAG), Some("COMPLETE"));
    let [observer] = text.items(tags::VERIFYING_OBSERVER_SEQUENCE) else {
        panic!()
    };
    assert_eq!(
        observer.string(tags::VERIFYING_OBSERVER_NAME),
        Some("Read^Rita^^Dr.")
    );
    for report in [document, text] {
        assert!(is_final(&report.uid(tags::SOP_CLASS_UID).unwrap(), report));
    }
    let said: Vec<_> = text
        .items(tags::CONTENT_SEQUENCE)
        .iter()
        .map(|item| item.string(tags::TEXT_VALUE).unwrap())
        .collect();
    assert_eq!(said, ["No fracture.\r\nÜnd & nothing else.", "12 mm"]);
    verified(&world, &[document, text]).await;
    // Out again.
    let instance = text.uid(tags::SOP_INSTANCE_UID).unwrap();
    let record = world.pacs.lookup(&instance).await.unwrap().unwrap();
    let message = oru_of(&world.pacs, &record, None, &Parties::default())
        .await
        .unwrap();
    assert_eq!(message.get("OBR-18").as_deref(), Some("ACC1"));
    assert_eq!(message.get("ORC-2").as_deref(), Some("P1"));
    assert_eq!(
        message.get("OBX[3]-5").as_deref(),
        Some("No fracture.\nÜnd & nothing else.")
    );
    let instance = document.uid(tags::SOP_INSTANCE_UID).unwrap();
    let record = world.pacs.lookup(&instance).await.unwrap().unwrap();
    let message = oru_of(&world.pacs, &record, None, &Parties::default())
        .await
        .unwrap();
    let sent = base64::decode(&message.get("OBX[3]-5.5").unwrap()).unwrap();
    assert_eq!(sent, b"%PDF-1.7 a document");
    // What is not final is not told to be, of the message or of one of its rows.
    let not_final = [
        report("P", "4711").replace("|||F|||||||7&Read", "|||P|||||||7&Read"),
        report("I", "4711").replace("12|mm|||||F", "12|mm|||||P"),
    ];
    for message in not_final {
        world.send(&message).await.unwrap();
    }
    let kept = world.instances("1.2").await;
    let is_report = |set: &&DataSet| is_final(&set.uid(tags::SOP_CLASS_UID).unwrap(), set);
    assert_eq!((kept.len(), kept.iter().filter(is_report).count()), (7, 2));
    let reports: Vec<&DataSet> = kept.iter().filter(|set| set.contains(tags::MODALITY)).collect();
    verified(&world, &reports).await;
    // The study is somebody else's.
    let fault = world.send(&report("2", "0815")).await.unwrap_err();
    assert_eq!(
        (fault.code, fault.condition),
        (AckCode::Error, Condition::UnknownKey)
    );
}

#[tokio::test]
async fn a_report_before_any_image_is_kept_in_the_study_of_the_worklist() {
    let world = World::new().await;
    world.send(&order("1", "NW", "CT")).await.unwrap();
    world.send(&report("2", "4711")).await.unwrap();
    assert_eq!(world.instances("1.2").await.len(), 2);
    let bad = report("3", "4711").replace("Base64^", "Base64^!");
    let fault = world.send(&bad).await.unwrap_err();
    assert_eq!(
        (fault.code, fault.condition),
        (AckCode::Error, Condition::DataType)
    );
    assert_eq!(world.instances("1.2").await.len(), 2);
}

#[tokio::test]
async fn a_message_that_fails_is_kept_and_listed_and_may_be_processed_again_or_discarded() {
    let world = World::new().await;
    let failed = world.receiver.failed();
    let cancel = order("C", "CA", "");
    let fault = world.send(&cancel).await.unwrap_err();
    // Sent again it is answered as before, and there is still one.
    assert_eq!(world.send(&cancel).await.unwrap_err(), fault);
    let garbage = "MSH|^~\\&|RIS||||||ADT^A08|G|P|2.5\rSecret\r";
    world.send(garbage).await.unwrap_err();
    let listed = failed.list(None, 10).await.unwrap();
    let told: Vec<_> = listed
        .iter()
        .map(|it| (it.kind.as_str(), it.control_id.as_str(), it.attempts))
        .collect();
    assert_eq!(told.len(), 2);
    assert!(
        told.contains(&("ORM^O01", "C", 1)) && told.contains(&("ADT^A08", "G", 1)),
        "{told:?}"
    );
    assert!(!format!("{listed:?}").contains("Secret"));
    assert_eq!(failed.count().await.unwrap(), 2);
    assert_eq!(failed.list(None, 1).await.unwrap(), listed[..1]);
    assert_eq!(failed.list(Some(listed[0].id), 10).await.unwrap(), listed[1..]);
    let one = listed.iter().find(|it| it.control_id == "C").unwrap();
    assert_eq!(one.fault, fault);
    assert_eq!(failed.get(one.id).await.unwrap().unwrap(), cancel.as_bytes());
    assert_eq!(
        one.id
            .to_string()
            .parse::<pacs_net::hl7::receive::FailedId>()
            .unwrap(),
        one.id
    );
    // There is no such order still, and then there is.
    assert_eq!(
        failed.retry(one.id, &world.receiver).await.unwrap().unwrap_err(),
        fault
    );
    let attempts = failed
        .list(None, 10)
        .await
        .unwrap()
        .iter()
        .map(|it| it.attempts)
        .sum::<u64>();
    assert_eq!(attempts, 3);
    world.send(&order("N", "NW", "CT")).await.unwrap();
    failed.retry(one.id, &world.receiver).await.unwrap().unwrap();
    assert_eq!(world.send(&cancel).await, Ok(()));
    let other = failed.list(None, 10).await.unwrap();
    assert_eq!(other.len(), 1);
    assert!(failed.discard(other[0].id).await.unwrap());
    assert!(!failed.discard(other[0].id).await.unwrap());
    assert_eq!(failed.count().await.unwrap(), 0);
    let gone = failed.retry(one.id, &world.receiver).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn what_fails_for_now_is_tried_again_when_it_is_sent_again_and_a_panic_costs_its_message_alone() {
    let world = World::new().await;
    let message = order("1", "NW", "CT");
    world.trouble.store(NO_ROOM, Ordering::Relaxed);
    for _ in 0..2 {
        let fault = world.send(&message).await.unwrap_err();
        assert_eq!(
            (fault.code, fault.condition),
            (AckCode::Reject, Condition::Internal)
        );
    }
    assert_eq!(
        world.receiver.failed().list(None, 10).await.unwrap()[0].attempts,
        2
    );
    world.trouble.store(0, Ordering::Relaxed);
    world.send(&message).await.unwrap();
    assert_eq!(world.receiver.failed().count().await.unwrap(), 0);
    world.trouble.store(PANIC, Ordering::Relaxed);
    let fault = world.send(&order("2", "NW", "Another CT")).await.unwrap_err();
    assert_eq!(fault.code, AckCode::Reject);
    world.trouble.store(0, Ordering::Relaxed);
    world.send(&order("3", "NW", "CT")).await.unwrap();
    assert_eq!(world.receiver.failed().count().await.unwrap(), 1);
}
