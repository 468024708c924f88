//! Priors out of Orthanc and dcmqrscp: of this patient, the right ones, whole; when a study comes, and when it is
//! ordered. Here they are no new studies: no rule for new images sees them, and nobody is to read them.

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::encode;
use pacs_core::dataset::part10::{Meta, write_meta};
use pacs_core::{DataSet, Uid};
use serde_json::Value;

use common::old::{Old, TITLE};
use common::{Server, directory, environment, free_port, peer, python, succeed};

/// Longer than anything may take; what never happens must end the test.
const LONG: Duration = Duration::from_secs(120);

const ROOT: &str = "1.2.826.0.1.3680043.10.1.91";

/// A Patient ID that a peer takes for one with a wild card: the next patient matches it.
const PATIENT: &str = "P*1";
const OTHER: &str = "P 11";

/// Number of the study, patient, date, modality, body part.
type Study = (u32, &'static str, &'static str, &'static str, &'static str);

const CURRENT: Study = (1, PATIENT, "20240101", "CT", "HEAD");
const PRIOR: Study = (2, PATIENT, "20230101", "CT", "HEAD");
/// Here already when the study comes.
const KEPT: Study = (3, PATIENT, "20220101", "CT", "HEAD");
const OLDER: Study = (4, PATIENT, "20210101", "CT", "HEAD");
const CHEST: Study = (7, PATIENT, "20230701", "CT", "CHEST");
const ARCHIVED: [Study; 11] = [
    PRIOR,
    KEPT,
    OLDER,
    // One more than are wanted.
    (5, PATIENT, "20200601", "CT", "HEAD"),
    // Of another modality, of another body part, newer, too old.
    (6, PATIENT, "20230601", "MR", "HEAD"),
    CHEST,
    (8, PATIENT, "20240601", "CT", "HEAD"),
    (9, PATIENT, "20100101", "CT", "HEAD"),
    // Other patients.
    (10, OTHER, "20230301", "CT", "HEAD"),
    (11, "P1", "20230302", "CT", "HEAD"),
    (12, "XP*1", "20230303", "CT", "HEAD"),
];

/// In each of two series.
const INSTANCES: u32 = 2;

fn uid(study: Study) -> String {
    format!("{ROOT}.{}", study.0)
}

/// Files of a study in a directory of its own, with another series that has no body part.
fn write(room: &Path, study: Study) {
    let (number, patient, date, modality, body_part) = study;
    let directory = room.join(number.to_string());
    std::fs::create_dir_all(&directory).expect("can be made");
    let class = match modality {
        "CT" => uids::CT_IMAGE_STORAGE,
        _ => uids::MR_IMAGE_STORAGE,
    };
    for (series, instance) in (1..=2).flat_map(|series| (1..=INSTANCES).map(move |one| (series, one))) {
        let mut set = DataSet::new();
        let instance_uid = format!("{}.{series}.{instance}", uid(study));
        for (tag, vr, text) in [
            (tags::SOP_CLASS_UID, VR::UI, class),
            (tags::SOP_INSTANCE_UID, VR::UI, &instance_uid),
            (tags::STUDY_DATE, VR::DA, date),
            (tags::STUDY_TIME, VR::TM, "101112"),
            (tags::MODALITY, VR::CS, modality),
            (tags::PATIENT_NAME, VR::PN, "Prior^Test"),
            (tags::PATIENT_ID, VR::LO, patient),
            (tags::PATIENT_BIRTH_DATE, VR::DA, "19500101"),
            (tags::STUDY_INSTANCE_UID, VR::UI, &uid(study)),
            (
                tags::SERIES_INSTANCE_UID,
                VR::UI,
                &format!("{}.{series}", uid(study)),
            ),
            (tags::STUDY_ID, VR::SH, "1"),
            (tags::SERIES_NUMBER, VR::IS, "1"),
            (tags::INSTANCE_NUMBER, VR::IS, "1"),
        ] {
            set.put_text(tag, vr, text);
        }
        if series == 1 {
            set.put_text(tags::BODY_PART_EXAMINED, VR::CS, body_part);
        }
        let data_set = encode::encode(&set, uids::EXPLICIT_VR_LITTLE_ENDIAN, &CharacterSet::utf8());
        let meta = Meta::new(
            Uid::constant(class),
            Uid::parse(&instance_uid).expect("is a UID"),
            Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN),
        );
        let file = [&write_meta(&meta)[..], &data_set.expect("can be written")].concat();
        std::fs::write(directory.join(format!("{series}-{instance}")), file).expect("is written");
    }
}

fn storescu(files: &Path, title: &str, port: u16) {
    let mut storescu = peer("storescu").expect("DCMTK was found before");
    storescu
        .args(["-aec", title, "+sd", "+r", "127.0.0.1", &port.to_string()])
        .arg(files);
    succeed(storescu);
}

/// Asks again until the answer is one. Each question is a request to the server.
fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < LONG, "{what} did not happen");
    }
}

fn get(url: &str) -> Value {
    let mut command = Command::new("curl");
    command.args([
        "-sS",
        "-H",
        "Accept: application/dicom+json, application/json",
        url,
    ]);
    serde_json::from_str(&succeed(command)).unwrap_or(Value::Null)
}

/// A server beside an old archive.
struct Place {
    room: tempfile::TempDir,
    archive: u16,
    /// Where the archive listens for HTTP, if it does.
    web: u16,
    hl7: u16,
    server: Server,
}

impl Place {
    /// One that fetches by this service of a peer, or from a DICOMweb service.
    fn start(by: &str) -> Self {
        let room = directory();
        let [archive, web, hl7] = std::array::from_fn(|_| free_port());
        let priors = match by {
            "web" => format!("\"http://127.0.0.1:{web}/dicom-web\""),
            by => format!("\"{TITLE}\"\nby = \"{by}\""),
        };
        let configuration = format!(
            "stable-after-seconds = 1\n[hl7]\nport = {hl7}\n[[peer]]\nae-title = \"{TITLE}\"\nhost = \"127.0.0.1\"\nport = {archive}\n"
        );
        let folder = |name: &str| room.path().join(name).display().to_string();
        let routes = format!(
            r#"
[[destination]]
name = "PRIORS"
priors = {priors}
same = ["modality", "body-part"]
at-most = 3
years = 5
[[destination]]
name = "NEW"
folder = "{}"
[[destination]]
name = "OLD"
folder = "{}"
[[route]]
name = "priors of what comes"
on = "study-stable"
when = {{ StudyInstanceUID = "{}" }}
tell = ["PRIORS"]
[[route]]
name = "priors of what is ordered"
on = "order-placed"
when = {{ "ScheduledProcedureStepSequence.Modality" = "CT" }}
tell = ["PRIORS"]
[[route]]
name = "new images"
send-to = ["NEW"]
[[route]]
name = "what was fetched"
on = "study-stable"
fetched = true
send-to = ["OLD"]
"#,
            folder("new"),
            folder("old"),
            uid(CURRENT),
        );
        let write = |name: &str, text: &str| {
            let path = room.path().join(name);
            std::fs::write(&path, text).expect("is written");
            path.to_str().expect("a temporary path is plain").to_owned()
        };
        let (configuration, routes) = (
            write("configuration.toml", &configuration),
            write("routes.toml", &routes),
        );
        let server = Server::start(
            &room.path().join("data"),
            &["--config", &configuration, "--routes", &routes],
        );
        Self {
            room,
            archive,
            web,
            hl7,
            server,
        }
    }

    fn send(&self, study: Study) {
        let files = self.room.path().join("files");
        write(&files, study);
        storescu(&files.join(study.0.to_string()), "PACS", self.server.port);
    }

    fn fill(&self) {
        let files = self.room.path().join("archived");
        ARCHIVED.iter().for_each(|study| write(&files, *study));
        storescu(&files, TITLE, self.archive);
    }

    /// What became of what a destination was to get of this UID.
    fn recorded(&self, destination: &str, uid: &str) -> Vec<Value> {
        let found = get(&format!("{}outbox/{destination}/of/{uid}", self.server.http));
        found.as_array().cloned().expect("a list")
    }

    /// What is recorded of the one delivery of it, when it was made.
    fn delivered(&self, destination: &str, uid: &str) -> String {
        until(&format!("the delivery of {uid} to {destination}"), || {
            let all = self.recorded(destination, uid);
            assert!(all.len() <= 1, "{all:?}");
            let one = all.first()?;
            assert_ne!(one["progress"], "refused", "{one}");
            (one["progress"] == "delivered").then(|| one["why"].as_str().expect("a text").to_owned())
        })
    }

    /// Waits until a study that was fetched is stable and has its deliveries.
    fn settled(&self, study: Study) {
        for (series, instance) in (1..=2).flat_map(|series| (1..=INSTANCES).map(move |one| (series, one))) {
            self.delivered("OLD", &format!("{}.{series}.{instance}", uid(study)));
        }
    }

    /// The studies that are here, by C-FIND of DCMTK.
    fn studies(&self) -> BTreeSet<String> {
        let mut findscu = peer("findscu").expect("DCMTK was found before");
        findscu.args([
            "-aec",
            "PACS",
            "-S",
            "-k",
            "QueryRetrieveLevel=STUDY",
            "-k",
            "NumberOfStudyRelatedInstances",
        ]);
        findscu.args([
            "-k",
            "StudyInstanceUID",
            "127.0.0.1",
            &self.server.port.to_string(),
        ]);
        let said = succeed(findscu);
        let each = said.lines().filter(|line| line.contains("(0020,1208)"));
        let whole = format!("[{} ]", 2 * INSTANCES);
        each.for_each(|line| assert!(line.contains(&whole), "{line}"));
        let uids = said.split(['[', ']']).filter(|text| text.starts_with(ROOT));
        uids.map(|text| text.trim_end_matches('\0').to_owned()).collect()
    }

    /// The studies that somebody is to read.
    fn to_read(&self) -> BTreeSet<String> {
        let found = get(&format!("{}/workitems?includefield=all", self.server.dicomweb()));
        let steps = found.as_array().cloned().unwrap_or_default();
        let study = |step: &Value| {
            step["00404021"]["Value"][0]["0020000D"]["Value"][0]
                .as_str()
                .map(str::to_owned)
        };
        steps.iter().filter_map(study).collect()
    }

    /// Instances that were delivered as new.
    fn new_files(&self) -> usize {
        fn below(directory: &Path) -> usize {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            entries
                .map(|entry| match entry.path().is_dir() {
                    true => below(&entry.path()),
                    false => 1,
                })
                .sum()
        }
        below(&self.room.path().join("new"))
    }

    /// An order of a study, which is sent twice; its second message is another one.
    fn order(&self, study: Study) {
        for message in ["ORDER1", "ORDER2"] {
            let segments = [
                format!("MSH|^~\\&|RIS|DEP|PACS|DEP|20231231030000||ORM^O01|{message}|P|2.3.1"),
                format!("PID|1||{PATIENT}||Prior^Test||19500101|O"),
                "ORC|NW|A 7|A 7||SC".to_owned(),
                format!(
                    "OBR|1|A 7|A 7|HEAD^CT of the head^99X||||||||||||||A 7|RP7|SPS7||||CT|||1^^^{}030405^^R",
                    study.2
                ),
                format!("ZDS|{}^RIS^Application^DICOM", uid(study)),
            ];
            let file = self.room.path().join(message);
            std::fs::write(&file, segments.join("\r") + "\r").expect("is written");
            let mut command = Command::new(environment().join("bin/mllp_send"));
            command.args(["--loose", "--port", &self.hl7.to_string(), "--file"]);
            command.arg(file).arg("127.0.0.1");
            let answer = succeed(command);
            assert!(answer.contains("MSA|AA"), "{answer}");
        }
    }
}

fn all(studies: &[Study]) -> BTreeSet<String> {
    studies.iter().map(|study| uid(*study)).collect()
}

struct Archive {
    start: fn(&Place) -> Option<Old>,
    /// Whether it tells Body Part Examined of a series.
    tells_body_part: bool,
}

const ORTHANC: Archive = Archive {
    start: |place| Old::orthanc(place.room.path(), place.archive, place.server.port),
    tells_body_part: true,
};
const ORTHANC_WEB: Archive = Archive {
    start: |place| Old::orthanc_web(place.room.path(), place.archive, place.web),
    tells_body_part: true,
};
const DCMQRSCP: Archive = Archive {
    start: |place| Old::dcmqrscp(place.room.path(), place.archive, place.server.port),
    tells_body_part: false,
};

impl Archive {
    /// The newest of the same body part, as far as it tells.
    fn priors(&self) -> [Study; 3] {
        match self.tells_body_part {
            true => [PRIOR, KEPT, OLDER],
            false => [CHEST, PRIOR, KEPT],
        }
    }
}

/// A study comes while one of its priors is here: the others are fetched.
fn a_study_comes(archive: &Archive, by: &str, is_down: bool) {
    if peer("storescu").is_none() {
        return;
    }
    let place = Place::start(by);
    let start = || (archive.start)(&place);
    let Some(mut running) = start() else { return };
    place.fill();
    place.send(KEPT);
    if is_down {
        drop(running);
        place.send(CURRENT);
        until("the archive is missed", || {
            let status = get(&format!("{}outbox", place.server.http));
            let status = status.as_array().cloned()?;
            let priors = status.iter().find(|one| one["destination"] == "PRIORS")?;
            (priors["waiting"] == 1 && !priors["away"].is_null()).then_some(())
        });
        running = start().expect("it was there before");
    } else {
        place.send(CURRENT);
    }
    let said = place.delivered("PRIORS", &uid(CURRENT));
    assert_eq!(said, "2 priors fetched, 1 was here already");
    let priors = archive.priors();
    for prior in priors.into_iter().filter(|prior| *prior != KEPT) {
        place.settled(prior);
        assert!(place.recorded("PRIORS", &uid(prior)).is_empty());
    }
    assert_eq!(place.studies(), &all(&priors) | &all(&[CURRENT]));
    let to_read = all(&[CURRENT, KEPT]);
    until("both studies that came are to be read", || {
        (place.to_read() == to_read).then_some(())
    });
    // What came by itself, and nothing else, was sent on as new.
    assert_eq!(place.new_files(), 2 * 2 * INSTANCES as usize);
    drop(running);
    assert!(place.server.stop().success());
}

#[test]
fn a_study_comes_and_orthanc_moves_its_priors_once_it_is_there() {
    a_study_comes(&ORTHANC, "move", true);
}

#[test]
fn a_study_comes_and_its_priors_are_got_from_dcmqrscp() {
    a_study_comes(&DCMQRSCP, "get", false);
}

#[test]
fn a_study_comes_and_its_priors_are_got_from_the_dicomweb_of_orthanc() {
    a_study_comes(&ORTHANC_WEB, "web", true);
}

/// An order comes, twice: its priors are there before the patient.
fn an_order_comes(archive: &Archive, by: &str) {
    if peer("findscu").is_none() || python().is_none() {
        return;
    }
    let place = Place::start(by);
    let Some(running) = (archive.start)(&place) else {
        return;
    };
    place.fill();
    place.order(CURRENT);
    // An order says no body part: none speaks against a prior.
    let priors = [CHEST, PRIOR, KEPT];
    assert_eq!(place.delivered("PRIORS", &uid(CURRENT)), "3 priors fetched");
    priors.into_iter().for_each(|prior| place.settled(prior));
    assert_eq!(place.studies(), all(&priors));
    // The patient comes. Where the body part can be told, the third is another one.
    place.send(CURRENT);
    let ended = until("the study is stable and has its priors", || {
        let told = place.recorded("PRIORS", &uid(CURRENT));
        assert!(told.len() <= 2, "{told:?}");
        let stable = told.into_iter().find(|one| one["what"] == "study-stable")?;
        (stable["progress"] == "delivered").then_some(stable)
    });
    let said = match archive.tells_body_part {
        true => "1 prior fetched, 2 were here already",
        false => "3 priors were here already",
    };
    assert_eq!(ended["why"], said);
    archive
        .priors()
        .into_iter()
        .for_each(|prior| place.settled(prior));
    let here = &all(&priors) | &all(&archive.priors());
    assert_eq!(place.studies(), &here | &all(&[CURRENT]));
    let to_read = all(&[CURRENT]);
    until("the study is to be read", || {
        (place.to_read() == to_read).then_some(())
    });
    assert_eq!(place.new_files(), 2 * INSTANCES as usize);
    drop(running);
    assert!(place.server.stop().success());
}

#[test]
fn an_order_comes_and_dcmqrscp_moves_its_priors() {
    an_order_comes(&DCMQRSCP, "move");
}

#[test]
fn an_order_comes_and_its_priors_are_got_from_orthanc() {
    an_order_comes(&ORTHANC, "get");
}
