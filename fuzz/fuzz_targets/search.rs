//! Query components of searches, at each path and in each form of answer: what was sent is at fault or it is
//! answered, and no answer has more matches than there are entities.
//!
//! Run with `cargo fuzz run -s none search`.

#![no_main]

use std::sync::{Arc, LazyLock};

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use futures::executor::block_on;
use futures::stream;
use http::{Request, header};
use libfuzzer_sys::fuzz_target;
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::encode::encode;
use pacs_core::dataset::part10::{Meta, write_meta};
use pacs_core::{DataSet, Options, Pacs, Source, Uid};
use pacs_fuzz::query::query;
use pacs_net::web::{self, WebOptions};
use pacs_store::{MemoryArchive, MemoryIndex};
use tower::ServiceExt;

const PATHS: [&str; 6] = [
    "/studies",
    "/series",
    "/instances",
    "/studies/1.2.1/series",
    "/studies/1.2.1/instances",
    "/studies/1.2.1/series/1.2.1.1/instances",
];

const ACCEPT: [&str; 3] = [
    "application/dicom+json",
    "multipart/related; type=\"application/dicom+xml\"",
    "*/*",
];

/// What a byte of 128 and above stands for: names that mutation alone would not find.
const WORDS: [&str; 32] = [
    "PatientName=",
    "PatientID=",
    "StudyDate=",
    "StudyTime=",
    "PatientBirthDate=",
    "ModalitiesInStudy=",
    "StudyInstanceUID=",
    "SeriesInstanceUID=",
    "SOPInstanceUID=",
    "SeriesNumber=",
    "RequestAttributesSequence.",
    "ScheduledProcedureStepID=",
    "OtherPatientIDsSequence.",
    "includefield=",
    "all",
    "limit=",
    "offset=",
    "fuzzymatching=",
    "emptyvaluematching=",
    "multiplevaluematching=",
    "true",
    "false",
    "accept=",
    "application/json",
    "charset=",
    "00080060=",
    "00091001=",
    "20240101",
    "101500.000000",
    "1.2.1",
    "M\u{fc}ller^Patient",
    "&",
];

const INSTANCES: [(u32, u32); 5] = [(1, 1), (1, 1), (1, 2), (2, 1), (3, 1)];

/// What all inputs search.
static ROUTER: LazyLock<axum::Router> = LazyLock::new(|| {
    block_on(async {
        let (archive, index) = (Arc::new(MemoryArchive::new()), Arc::new(MemoryIndex::new()));
        let pacs = Pacs::open(archive, index, Options::default()).await;
        let pacs = pacs.expect("an engine in memory opens");
        for (number, (study, series)) in INSTANCES.into_iter().enumerate() {
            let file = Ok(file(study, series, number));
            let received = pacs.import(Source::default(), stream::iter([file])).await;
            received.expect("an instance is kept");
        }
        web::router(pacs, WebOptions::default())
    })
});

fn file(study: u32, series: u32, number: usize) -> Bytes {
    let instance = format!("1.2.{study}.{series}.{number}");
    let mut item = DataSet::new();
    item.put_text(tags::SCHEDULED_PROCEDURE_STEP_ID, VR::SH, "STEP");
    let mut set = DataSet::new();
    set.put_text(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192");
    set.put_text(tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE);
    set.put_text(tags::SOP_INSTANCE_UID, VR::UI, instance.clone());
    set.put_text(tags::STUDY_DATE, VR::DA, format!("2024010{study}"));
    set.put_text(tags::STUDY_TIME, VR::TM, "101500");
    set.put_text(tags::MODALITY, VR::CS, "CT");
    set.put_text(tags::PATIENT_NAME, VR::PN, format!("Müller^Patient{study}"));
    set.put_text(tags::PATIENT_ID, VR::LO, format!("P{study}"));
    set.put_text(tags::STUDY_INSTANCE_UID, VR::UI, format!("1.2.{study}"));
    set.put_text(tags::SERIES_INSTANCE_UID, VR::UI, format!("1.2.{study}.{series}"));
    set.put_text(tags::SERIES_NUMBER, VR::IS, series.to_string());
    set.put_items(tags::REQUEST_ATTRIBUTES_SEQUENCE, vec![item]);
    let uid = |text: &str| Uid::parse(text).expect("a UID");
    let meta = Meta::new(
        uid(uids::CT_IMAGE_STORAGE),
        uid(&instance),
        uid(uids::EXPLICIT_VR_LITTLE_ENDIAN),
    );
    let mut file = write_meta(&meta).to_vec();
    let data_set = encode(&set, uids::EXPLICIT_VR_LITTLE_ENDIAN, &CharacterSet::utf8());
    file.extend(data_set.expect("a data set can be encoded"));
    file.into()
}

fuzz_target!(|bytes: &[u8]| {
    let [path, accept, bytes @ ..] = bytes else {
        return;
    };
    let path = PATHS[usize::from(*path) % PATHS.len()];
    let uri = format!("/dicom-web{path}?{}", query(bytes, &WORDS));
    let request = Request::get(uri)
        .header(header::HOST, "pacs.example")
        .header(header::ACCEPT, ACCEPT[usize::from(*accept) % ACCEPT.len()])
        .body(Body::empty());
    // Longer than a URI may be.
    let Ok(request) = request else {
        return;
    };
    let router = ROUTER.clone();
    block_on(async {
        let response = router.oneshot(request).await.expect("a router answers");
        let status = response.status();
        assert!(status.is_success() || status.is_client_error(), "{status}");
        let kind = response.headers().get(header::CONTENT_TYPE).cloned();
        let body = to_bytes(response.into_body(), usize::MAX)
            .await
            .expect("the body comes whole");
        if status == 200 && kind.is_some_and(|kind| kind.as_bytes().ends_with(b"json")) {
            let matches: Vec<serde_json::Value> = serde_json::from_slice(&body).expect("matches in JSON");
            assert!((1..=INSTANCES.len()).contains(&matches.len()));
        }
    });
});
