//! DICOMweb (PS3.18) on an engine in memory, asked as a client asks it.

mod deleting;
mod embedding;
mod fetching;
mod fhir;
mod frames;
mod metadata;
mod rendered;
mod retrieving;
mod searching;
mod storing;
mod table;
mod uri;

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use axum::{Router, http};
use bytes::Bytes;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{tags, uids};
use futures::{TryStreamExt, stream};
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::encode::encode;
use pacs_core::dataset::part10::{Meta, write_meta};
use pacs_core::dataset::{Element, Value};
use pacs_core::{DataSet, Options, Pacs, Source, Uid};
use pacs_net::web::http::media_type::MediaType;
use pacs_net::web::http::multipart::MultipartReader;
use pacs_net::web::{self, WebOptions};
use pacs_store::{MemoryArchive, MemoryIndex};
use tower::ServiceExt;

/// An engine and what serves it.
struct Served {
    pacs: Pacs,
    router: Router,
}

/// A response, whole.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// One part of a multipart body.
struct Part {
    media_type: MediaType,
    location: Option<String>,
    body: Bytes,
}

impl Served {
    async fn empty() -> Self {
        Self::with(WebOptions::default(), Options::default()).await
    }

    async fn with(options: WebOptions, engine: Options) -> Self {
        let (archive, index) = (Arc::new(MemoryArchive::new()), Arc::new(MemoryIndex::new()));
        let pacs = Pacs::open(archive, index, engine).await.unwrap();
        let router = web::router(pacs.clone(), options.clone())
            .merge(web::wado_uri(pacs.clone(), options.clone(), "/wado"))
            .merge(web::fhir::router(pacs.clone(), options, web::fhir::FHIR));
        Self { pacs, router }
    }

    /// Keeps these instances.
    async fn keeping(files: impl IntoIterator<Item = Bytes>) -> Self {
        let served = Self::empty().await;
        for file in files {
            served.keep(file).await;
        }
        served
    }

    async fn keep(&self, file: Bytes) {
        let received = self
            .pacs
            .import(Source::default(), stream::iter([Ok(file)]))
            .await;
        received.unwrap();
    }

    async fn ask(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("the body comes whole");
        Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.get_as(path, "").await
    }

    /// Asks for a path below `/dicom-web` with an Accept field.
    async fn get_as(&self, path: &str, accept: &str) -> Answer {
        let mut request = get(path);
        if !accept.is_empty() {
            request = request.header(header::ACCEPT, accept);
        }
        self.ask(request.body(Body::empty()).unwrap()).await
    }
}

fn get(path: &str) -> http::request::Builder {
    let path = match path.starts_with("/wado") || path.starts_with("/fhir") {
        true => path.to_owned(),
        false => format!("/dicom-web{path}"),
    };
    Request::builder()
        .method(Method::GET)
        .uri(path)
        .header(header::HOST, "pacs.example")
}

impl Answer {
    fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> serde_json::Value {
        let json = serde_json::from_slice(&self.body);
        json.unwrap_or_else(|error| {
            panic!(
                "{}: {error}: {}",
                self.status,
                String::from_utf8_lossy(&self.body)
            )
        })
    }

    /// The items of an array.
    fn items(&self) -> Vec<serde_json::Value> {
        assert_eq!(
            self.status,
            StatusCode::OK,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        self.json().as_array().expect("an array").clone()
    }

    async fn parts(&self) -> Vec<Part> {
        let media_type: MediaType = self.header(header::CONTENT_TYPE).parse().unwrap();
        let mut reader = MultipartReader::new(&media_type, stream::iter([Ok(self.body.clone())])).unwrap();
        let mut parts = Vec::new();
        while let Some(part) = reader.next_part().await.unwrap() {
            let (media_type, location) = (part.media_type().unwrap(), part.location().map(str::to_owned));
            let body: Vec<Bytes> = part.try_collect().await.unwrap();
            parts.push(Part {
                media_type,
                location,
                body: body.concat().into(),
            });
        }
        parts
    }

    /// The members of the problem that it tells.
    fn problem(&self, status: StatusCode) -> serde_json::Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header(header::CONTENT_TYPE), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], status.as_u16());
        problem
    }
}

/// The value of an attribute in the DICOM JSON model.
fn value(item: &serde_json::Value, tag: Tag) -> &serde_json::Value {
    &item[format!("{:04X}{:04X}", tag.group(), tag.element())]["Value"][0]
}

/// What an instance is made of.
struct Image {
    study: u32,
    series: u32,
    instance: u32,
    frames: u32,
    rows: u16,
    columns: u16,
    syntax: &'static str,
}

impl Image {
    fn new(study: u32, series: u32, instance: u32) -> Self {
        Self {
            study,
            series,
            instance,
            frames: 1,
            rows: 4,
            columns: 6,
            syntax: uids::EXPLICIT_VR_LITTLE_ENDIAN,
        }
    }

    fn study_uid(&self) -> String {
        format!("1.2.{}", self.study)
    }

    fn series_uid(&self) -> String {
        format!("1.2.{}.{}", self.study, self.series)
    }

    fn instance_uid(&self) -> String {
        format!("1.2.{}.{}.{}", self.study, self.series, self.instance)
    }

    /// Its path below the service.
    fn path(&self) -> String {
        format!(
            "/studies/{}/series/{}/instances/{}",
            self.study_uid(),
            self.series_uid(),
            self.instance_uid()
        )
    }

    /// The sample at a place: another one for each instance, frame and pixel.
    fn sample(&self, frame: u32, at: u32) -> u16 {
        (self.instance * 1000 + frame * 100 + at) as u16
    }

    /// The native pixels of a frame, counted from 1.
    fn frame(&self, number: u32) -> Vec<u8> {
        let count = u32::from(self.rows) * u32::from(self.columns);
        let samples = (0..count).map(|at| self.sample(number - 1, at));
        samples.flat_map(u16::to_le_bytes).collect()
    }

    /// All but the pixels.
    fn header(&self) -> DataSet {
        let mut set = DataSet::new();
        set.put_text(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192");
        set.put_text(tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE);
        set.put_text(tags::SOP_INSTANCE_UID, VR::UI, self.instance_uid());
        set.put_text(tags::STUDY_DATE, VR::DA, format!("2024010{}", self.study));
        set.put_text(tags::STUDY_TIME, VR::TM, "101500");
        set.put_text(tags::ACCESSION_NUMBER, VR::SH, format!("A{}", self.study));
        set.put_text(tags::MODALITY, VR::CS, if self.series == 1 { "CT" } else { "MR" });
        set.put_text(tags::STUDY_DESCRIPTION, VR::LO, format!("Study {}", self.study));
        set.put_text(
            tags::SERIES_DESCRIPTION,
            VR::LO,
            format!("Series {}", self.series),
        );
        set.put_text(tags::REFERRING_PHYSICIAN_NAME, VR::PN, "Ref^Doctor");
        set.put_text(
            tags::PATIENT_NAME,
            VR::PN,
            format!("Müller^Patient{}", self.study),
        );
        set.put_text(tags::PATIENT_ID, VR::LO, format!("P{}", self.study));
        set.put_text(tags::STUDY_INSTANCE_UID, VR::UI, self.study_uid());
        set.put_text(tags::SERIES_INSTANCE_UID, VR::UI, self.series_uid());
        set.put_text(tags::SERIES_NUMBER, VR::IS, self.series.to_string());
        set.put_text(tags::INSTANCE_NUMBER, VR::IS, self.instance.to_string());
        let mut item = DataSet::new();
        item.put_text(
            tags::SCHEDULED_PROCEDURE_STEP_ID,
            VR::SH,
            format!("S{}", self.series),
        );
        item.put_text(tags::REQUESTED_PROCEDURE_ID, VR::SH, "R1");
        set.put_items(tags::REQUEST_ATTRIBUTES_SEQUENCE, vec![item]);
        set.put_u16(tags::SAMPLES_PER_PIXEL, 1);
        set.put_text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2");
        if self.frames > 1 {
            set.put_text(tags::NUMBER_OF_FRAMES, VR::IS, self.frames.to_string());
        }
        set.put_u16(tags::ROWS, self.rows);
        set.put_u16(tags::COLUMNS, self.columns);
        set.put_u16(tags::BITS_ALLOCATED, 16);
        set.put_u16(tags::BITS_STORED, 16);
        set.put_u16(tags::HIGH_BIT, 15);
        set.put_u16(tags::PIXEL_REPRESENTATION, 0);
        set
    }

    fn pixels(&self) -> Vec<u8> {
        (1..=self.frames).flat_map(|number| self.frame(number)).collect()
    }

    /// The data set, in its transfer syntax.
    fn data_set(&self) -> Vec<u8> {
        let mut set = self.header();
        let is_rle = self.syntax == uids::RLE_LOSSLESS;
        if !is_rle {
            put_binary(&mut set, tags::PIXEL_DATA, VR::OW, self.pixels());
            return encode(&set, self.syntax, &CharacterSet::utf8()).unwrap();
        }
        let mut bytes = encode(&set, uids::EXPLICIT_VR_LITTLE_ENDIAN, &CharacterSet::utf8()).unwrap();
        bytes.extend_from_slice(b"\xE0\x7F\x10\x00OB\0\0\xFF\xFF\xFF\xFF\xFE\xFF\x00\xE0\0\0\0\0");
        for number in 1..=self.frames {
            let frame = rle(&self.frame(number));
            bytes.extend_from_slice(b"\xFE\xFF\x00\xE0");
            bytes.extend_from_slice(&(frame.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&frame);
        }
        bytes.extend_from_slice(b"\xFE\xFF\xDD\xE0\0\0\0\0");
        bytes
    }

    /// The Part 10 stream.
    fn file(&self) -> Bytes {
        let meta = write_meta(&Meta::new(
            Uid::constant(uids::CT_IMAGE_STORAGE),
            Uid::parse(&self.instance_uid()).unwrap(),
            Uid::constant(self.syntax),
        ));
        [meta, self.data_set().into()].concat().into()
    }
}

fn put_binary(set: &mut DataSet, tag: Tag, vr: VR, bytes: impl Into<Bytes>) {
    set.put(Element {
        tag,
        vr,
        value: Value::Bytes(bytes.into()),
    });
}

/// A frame of 16-bit samples in RLE (PS3.5 annex G), by literal runs alone.
fn rle(frame: &[u8]) -> Vec<u8> {
    let segment = |offset: usize| {
        let bytes: Vec<u8> = frame.iter().skip(offset).step_by(2).copied().collect();
        let mut runs: Vec<u8> = bytes
            .chunks(128)
            .flat_map(|run| [&[run.len() as u8 - 1], run].concat())
            .collect();
        if runs.len() % 2 == 1 {
            runs.push(0x80);
        }
        runs
    };
    // The high bytes come first.
    let (high, low) = (segment(1), segment(0));
    let mut out = Vec::new();
    for number in [2, 64, 64 + high.len() as u32] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.resize(64, 0);
    [out, high, low].concat()
}

/// A multipart body of parts with these Content-Types, and its own.
fn multipart(root: &str, parts: &[(&str, Option<&str>, Bytes)]) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (content_type, location, bytes) in parts {
        body.extend_from_slice(format!("--the-boundary\r\nContent-Type: {content_type}\r\n").as_bytes());
        if let Some(location) = location {
            body.extend_from_slice(format!("Content-Location: {location}\r\n").as_bytes());
        }
        body.extend_from_slice(b"\r\n");
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--the-boundary--\r\n");
    (
        format!("multipart/related; type=\"{root}\"; boundary=the-boundary"),
        body,
    )
}
