//! The Store Instances Response Module (PS3.18 annex I).

use axum::response::{IntoResponse, Response};
use dicom_core::VR;
use dicom_dictionary_std::tags;
use http::{StatusCode, header};
use pacs_core::dataset::{json, xml};
use pacs_core::{Announced, DataSet, DimseService, Error, Received, Uid};

use super::super::http::media_type::MediaType;
use super::super::http::problem::Problem;
use super::super::resource::Resource;

/// Instances that one response tells of, stored or not: each is held, at some 500 bytes, until the request ends.
const INSTANCES_MAX: usize = 100_000;

/// What became of each instance.
pub(super) struct Report {
    base: String,
    /// The study whose URL stands at the top: the one that the request names, or of all instances.
    study: Option<Uid>,
    several_studies: bool,
    stored: Vec<DataSet>,
    failed: Vec<DataSet>,
    /// Of those of which it is not known which they are.
    others: Vec<DataSet>,
    warned: bool,
    /// HTTP status of the first failure; whether all have the same.
    failure: Option<u16>,
    same_failures: bool,
}

impl Report {
    pub(super) fn new(base: &str, study: Option<Uid>) -> Self {
        Self {
            base: base.to_owned(),
            study,
            several_studies: false,
            stored: Vec::new(),
            failed: Vec::new(),
            others: Vec::new(),
            warned: false,
            failure: None,
            same_failures: true,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.stored.is_empty() && self.failed.is_empty() && self.others.is_empty()
    }

    /// Whether there is no more to be told of.
    pub(super) fn is_full(&self) -> bool {
        self.stored.len() + self.failed.len() + self.others.len() >= INSTANCES_MAX
    }

    pub(super) fn stored(&mut self, received: &Received) {
        let record = &received.record;
        let study = *self.study.get_or_insert(record.key.study);
        self.several_studies |= study != record.key.study;
        let mut item = reference(&record.sop_class, &record.key.instance);
        let url = format!("{}{}", self.base, Resource::of(record).path());
        item.put_text(tags::RETRIEVE_URL, VR::UR, url);
        if let Some(warning) = received.warning() {
            self.warned = true;
            item.put_u16(tags::WARNING_REASON, warning);
        }
        self.stored.push(item);
    }

    pub(super) fn failed(&mut self, announced: Option<&Announced>, error: &Error) {
        tracing::info!(operation = error.operation(), %error, "an instance was not stored");
        let status = error.http_status();
        self.same_failures &= *self.failure.get_or_insert(status) == status;
        let reason = error.dimse_status(DimseService::Store);
        match announced {
            Some(announced) => {
                let mut item = reference(&announced.sop_class, &announced.sop_instance);
                item.put_u16(tags::FAILURE_REASON, reason);
                self.failed.push(item);
            }
            None => {
                let mut item = DataSet::new();
                item.put_u16(tags::FAILURE_REASON, reason);
                self.others.push(item);
            }
        }
    }

    /// 200 when all is stored as it came, 202 when some is, 409 when nothing is (table 10.5.3-1); 503 when that is
    /// for now alone.
    fn status(&self) -> StatusCode {
        let failures = !self.failed.is_empty() || !self.others.is_empty();
        match (self.stored.is_empty(), failures || self.warned) {
            (false, false) => StatusCode::OK,
            (false, true) => StatusCode::ACCEPTED,
            (true, _) => match self.failure.filter(|_| self.same_failures) {
                Some(503) => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::CONFLICT,
            },
        }
    }

    pub(super) fn respond(self, media_type: &MediaType) -> Response {
        let status = self.status();
        let mut module = DataSet::new();
        module.put_text(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192");
        if let Some(study) = self.study.filter(|_| !self.several_studies) {
            module.put_text(
                tags::RETRIEVE_URL,
                VR::UR,
                format!("{}/studies/{study}", self.base),
            );
        }
        let sequences = [
            (tags::REFERENCED_SOP_SEQUENCE, self.stored),
            (tags::FAILED_SOP_SEQUENCE, self.failed),
            (tags::OTHER_FAILURES_SEQUENCE, self.others),
        ];
        for (tag, items) in sequences {
            if !items.is_empty() {
                module.put_items(tag, items);
            }
        }
        let mut out = Vec::new();
        let no_bulk = |_: &_| String::new();
        if media_type.is(&MediaType::DICOM_XML) {
            xml::write(&module, &[], &no_bulk, &mut out);
        } else {
            json::write(&module, &[], &no_bulk, &mut out);
        }
        let content_type = [(header::CONTENT_TYPE, media_type.header_value())];
        let mut response = (status, content_type, out).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let again = Problem::unavailable("").into_response();
            if let Some(after) = again.headers().get(header::RETRY_AFTER) {
                response.headers_mut().insert(header::RETRY_AFTER, after.clone());
            }
        }
        response
    }
}

fn reference(sop_class: &Uid, sop_instance: &Uid) -> DataSet {
    let mut item = DataSet::new();
    item.put_uid(tags::REFERENCED_SOP_CLASS_UID, sop_class);
    item.put_uid(tags::REFERENCED_SOP_INSTANCE_UID, sop_instance);
    item
}
