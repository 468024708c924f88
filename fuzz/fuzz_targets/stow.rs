//! Requests that store, and those of the other services with a body: what was sent is at fault or it is answered, and
//! what comes after it is kept as ever.
//!
//! Run with `cargo fuzz run -s none stow`.

#![no_main]

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use axum::body::{Body, to_bytes};
use http::{Method, Request, header};
use libfuzzer_sys::fuzz_target;
use pacs_core::{Pacs, Uid};
use pacs_fuzz::instance::{INSTANCE, SERIES, STUDY, engine, explicit, forget, meta, names};
use pacs_net::web::{self, WebOptions};
use tokio::runtime::Runtime;
use tower::ServiceExt;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    path: u8,
    kind: u8,
    /// A Content-Type of its own.
    content_type: Option<&'a str>,
    parts: Vec<Part<'a>>,
    behind: &'a [u8],
}

#[derive(Arbitrary, Debug)]
struct Part<'a> {
    kind: u8,
    header: Option<&'a str>,
    location: u8,
    body: Content<'a>,
}

#[derive(Arbitrary, Debug)]
enum Content<'a> {
    Bytes(&'a [u8]),
    /// An instance, with these bytes behind it.
    File(u8, &'a [u8]),
    /// Metadata of one, with a value of its own.
    Json(&'a str),
    Xml(&'a str),
}

const PATHS: [&str; 4] = [
    "/dicom-web/studies",
    "/dicom-web/studies/1.2.1",
    "/dicom-web/workitems",
    "/dicom-web/studies?accept=application/dicom%2Bxml",
];

const KINDS: [&str; 5] = [
    "multipart/related; type=\"application/dicom\"; boundary=B",
    "multipart/related; type=\"application/dicom+json\"; boundary=B",
    "multipart/related; type=\"application/dicom+xml\"; boundary=B",
    "application/dicom",
    "application/dicom+json",
];

const PART_KINDS: [&str; 6] = [
    "application/dicom",
    "application/dicom+json",
    "application/dicom+xml",
    "application/octet-stream",
    "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50",
    "text/plain",
];

const SYNTAXES: [&str; 4] = [
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2",
];

const JSON: &str = r#"[{"00080016":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.2"]},"00080018":{"vr":"UI","Value":["1.2.1.1.0"]},"00100010":{"vr":"PN","Value":[{"Alphabetic":"?"}]},"0020000D":{"vr":"UI","Value":["1.2.1"]},"0020000E":{"vr":"UI","Value":["1.2.1.1"]},"7FE00010":{"vr":"OW","BulkDataURI":"b0"}}]"#;

const XML: &str = r#"<NativeDicomModel><DicomAttribute tag="00080016" vr="UI"><Value number="1">1.2.840.10008.5.1.4.1.1.2</Value></DicomAttribute><DicomAttribute tag="00080018" vr="UI"><Value number="1">1.2.1.1.0</Value></DicomAttribute><DicomAttribute tag="0020000D" vr="UI"><Value number="1">1.2.1</Value></DicomAttribute><DicomAttribute tag="0020000E" vr="UI"><Value number="1">?</Value></DicomAttribute><DicomAttribute tag="7FE00010" vr="OW"><BulkData uri="b0"/></DicomAttribute></NativeDicomModel>"#;

static SERVED: LazyLock<(Pacs, axum::Router, Runtime)> = LazyLock::new(|| {
    let pacs = engine();
    let router = web::router(pacs.clone(), WebOptions::default());
    // Bulk data waits in a file, which a thread of the runtime writes.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    (pacs, router, runtime.expect("a runtime"))
});

impl Content<'_> {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.to_vec(),
            Self::File(syntax, behind) => {
                let syntax = SYNTAXES[usize::from(*syntax) % SYNTAXES.len()];
                let mut file = meta(INSTANCE, syntax);
                file.extend(explicit(&names(STUDY, SERIES, INSTANCE)));
                file.extend_from_slice(behind);
                file
            }
            Self::Json(text) => JSON.replacen('?', text, 1).into_bytes(),
            Self::Xml(text) => XML.replacen('?', text, 1).into_bytes(),
        }
    }
}

impl Input<'_> {
    fn body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let is_multipart = self.kind % KINDS.len() as u8 <= 2;
        for part in &self.parts {
            if is_multipart {
                let kind = PART_KINDS[usize::from(part.kind) % PART_KINDS.len()];
                body.extend_from_slice(format!("\r\n--B\r\nContent-Type: {kind}\r\n").as_bytes());
                body.extend_from_slice(format!("Content-Location: b{}\r\n", part.location % 3).as_bytes());
                if let Some(header) = part.header {
                    body.extend_from_slice(format!("{header}\r\n").as_bytes());
                }
                body.extend_from_slice(b"\r\n");
            }
            body.extend(part.body.bytes());
        }
        if is_multipart {
            body.extend_from_slice(b"\r\n--B--");
        }
        body.extend_from_slice(self.behind);
        body
    }
}

fuzz_target!(|input: Input| {
    let kind = input
        .content_type
        .unwrap_or(KINDS[usize::from(input.kind) % KINDS.len()]);
    let request = Request::builder()
        .method(Method::POST)
        .uri(PATHS[usize::from(input.path) % PATHS.len()])
        .header(header::HOST, "pacs.example")
        .header(header::CONTENT_TYPE, kind)
        .body(Body::from(input.body()));
    let Ok(request) = request else {
        return;
    };
    let (pacs, router, runtime) = &*SERVED;
    runtime.block_on(async {
        let response = router.clone().oneshot(request).await.expect("a router answers");
        let status = response.status();
        assert!(status != 500 && status != 503, "{status}");
        let body = to_bytes(response.into_body(), usize::MAX).await;
        body.expect("the body comes whole");
        let kept = pacs.lookup(&Uid::constant(INSTANCE)).await;
        if kept.expect("an index in memory").is_some() {
            forget(pacs);
        }
    });
});
