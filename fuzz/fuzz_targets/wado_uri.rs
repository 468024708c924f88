//! Parameters of WADO-URI, and the paths of rendered instances and frames: what was sent is at fault or it is answered.
//!
//! Run with `cargo fuzz run -s none wado_uri`.

#![no_main]

use std::sync::LazyLock;

use axum::body::{Body, to_bytes};
use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use futures::executor::block_on;
use http::{Request, header};
use libfuzzer_sys::fuzz_target;
use pacs_core::dataset::{Element, Value};
use pacs_fuzz::instance::{INSTANCE, SERIES, STUDY, engine, explicit, keep, meta, names};
use pacs_fuzz::query::query;
use pacs_net::web::{self, WebOptions};
use tower::ServiceExt;

const PATHS: [&str; 5] = [
    "/wado",
    "/dicom-web/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.0/rendered",
    "/dicom-web/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.0/thumbnail",
    "/dicom-web/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.0/frames/1/rendered",
    "/dicom-web/studies/1.2.1/rendered",
];

const WORDS: [&str; 40] = [
    "requestType=WADO&studyUID=1.2.1&seriesUID=1.2.1.1&objectUID=1.2.1.1.0",
    "&",
    "contentType=",
    "image/jpeg",
    "image/png",
    "image/gif",
    "application/dicom",
    "transferSyntax=",
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "charset=",
    "anonymize=yes",
    "annotation=",
    "patient",
    "technique",
    "rows=",
    "columns=",
    "region=",
    "0.25,0.25,0.75,0.75",
    "windowCenter=",
    "windowWidth=",
    "window=",
    "40,400,linear",
    "imageQuality=",
    "frameNumber=",
    "presentationUID=",
    "presentationSeriesUID=",
    "viewport=",
    "64,64",
    "quality=",
    "accept=",
    "iccprofile=",
    "1e308",
    "-0.0",
    "NaN",
    "4294967295",
    "0.0000001",
    ",",
    "sigmoid",
    "linear-exact",
];

static ROUTER: LazyLock<axum::Router> = LazyLock::new(|| {
    let pacs = engine();
    let mut set = names(STUDY, SERIES, INSTANCE);
    set.put_u16(tags::SAMPLES_PER_PIXEL, 1);
    set.put_text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2");
    set.put_text(tags::NUMBER_OF_FRAMES, VR::IS, "2");
    set.put_text(tags::PIXEL_SPACING, VR::DS, "0.5\\0.7");
    for (tag, number) in [
        (tags::ROWS, 8),
        (tags::COLUMNS, 6),
        (tags::BITS_ALLOCATED, 8),
        (tags::BITS_STORED, 8),
        (tags::HIGH_BIT, 7),
        (tags::PIXEL_REPRESENTATION, 0),
    ] {
        set.put_u16(tag, number);
    }
    let pixels: Vec<u8> = (0..96).collect();
    set.put(Element {
        tag: tags::PIXEL_DATA,
        vr: VR::OB,
        value: Value::Bytes(pixels.into()),
    });
    let mut file = meta(INSTANCE, uids::EXPLICIT_VR_LITTLE_ENDIAN);
    file.extend(explicit(&set));
    let record = keep(&pacs, file).expect("an instance is kept");
    assert!(record.is_some());
    let options = WebOptions::default();
    web::router(pacs.clone(), options.clone()).merge(web::wado_uri(pacs, options, web::WADO_URI))
});

fuzz_target!(|bytes: &[u8]| {
    let [path, bytes @ ..] = bytes else {
        return;
    };
    let path = PATHS[usize::from(*path) % PATHS.len()];
    let request = Request::get(format!("{path}?{}", query(bytes, &WORDS)))
        .header(header::HOST, "pacs.example")
        .body(Body::empty());
    // Longer than a URI may be.
    let Ok(request) = request else {
        return;
    };
    let router = ROUTER.clone();
    block_on(async {
        let response = router.oneshot(request).await.expect("a router answers");
        let status = response.status();
        assert!(status != 500 && status != 503, "{status}");
        let body = to_bytes(response.into_body(), usize::MAX).await;
        let body = body.expect("the body comes whole");
        assert!(!body.is_empty(), "{status} without a body");
    });
});
