//! Metadata resources (PS3.18 10.4.1.1.2).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::IntoResponse;
use bytes::Bytes;
use dicom_core::VR;
use dicom_dictionary_std::tags;
use futures::{StreamExt, TryStreamExt, stream};
use http::header;
use pacs_core::dataset::metadata::{BulkValue, Metadata};
use pacs_core::dataset::{DataSet, json, xml};
use pacs_core::{InstanceRecord, Result};

use super::super::http::accept::Offer;
use super::super::http::body;
use super::super::http::media_type::MediaType;
use super::super::http::multipart::{Part, related};
use super::super::http::problem::WebResult;
use super::super::resource::{Resource, may_have};
use super::super::{Asking, Segments, Web};
use super::instances::ways;
use super::listing::Listing;

/// One piece of an answer: large enough that it costs little to send, small beside a series.
const PIECE_BYTES: usize = 128 * 1024;

/// `GET .../metadata` of a study, a series or an instance.
pub(crate) async fn retrieve(
    State(web): State<Arc<Web>>,
    Segments(uids): Segments,
    request: Request,
) -> WebResult {
    let asking = Asking::of(&web, &request)?;
    let resource = Resource::parse(&uids)?;
    let offers = [
        Offer::new(MediaType::DICOM_JSON),
        Offer::new(MediaType::related(&MediaType::DICOM_XML)),
    ];
    let (media_type, _) = ways(&asking, &offers)?.swap_remove(0);
    let listing = Listing::of(&web.pacs, &asking.source, &resource, |_| true).await?;
    // The URLs within depend on how the client names this server.
    let validators = listing.validators(&media_type, &asking.base);
    if let Err(response) = validators.check(&asking.method, &asking.headers) {
        return Ok(response);
    }
    let (pacs, source, base) = (web.pacs.clone(), asking.source.clone(), asking.base.clone());
    let described = web
        .pacs
        .metadata_in(resource.scope())
        .try_filter_map(move |(record, metadata)| {
            let (pacs, source) = (pacs.clone(), source.clone());
            async move {
                let is_theirs = resource.holds(&record) && may_have(&pacs, &source, &record).await?;
                Ok(is_theirs.then_some((record, metadata)))
            }
        });
    let mut response = if media_type.is_multipart() {
        let parts = described.map_ok(move |(record, metadata)| {
            let location = format!("{base}{}/metadata", Resource::of(&record).path());
            let mut document = Vec::new();
            write(&base, &record, &metadata, xml::write, &mut document);
            Part::whole(&MediaType::DICOM_XML, document).with_location(&location)
        });
        related(&MediaType::DICOM_XML, parts).into_response()
    } else {
        let items = described.map_ok(move |(record, metadata)| {
            let mut item = Vec::with_capacity(8 * 1024);
            write(&base, &record, &metadata, json::write, &mut item);
            item
        });
        let content_type = [(header::CONTENT_TYPE, MediaType::DICOM_JSON.header_value())];
        let pieces = body::begun(array(items.boxed())).await?;
        (content_type, body::from_stream(pieces)).into_response()
    };
    validators.put(response.headers_mut());
    Ok(response)
}

type Write = fn(&DataSet, &[BulkValue], &dyn Fn(&BulkValue) -> String, &mut Vec<u8>);

fn write(base: &str, record: &InstanceRecord, metadata: &Metadata, write: Write, out: &mut Vec<u8>) {
    let path = Resource::of(record).path();
    let uri = |value: &BulkValue| format!("{base}{path}/bulkdata/{}", value.path);
    let mut header = metadata.header.clone();
    // What a client may ask frames in without their being changed (PS3.18 10.4.3.3.2, C.12.1.1.? Available Transfer
    // Syntax UID).
    header.put_text(
        tags::AVAILABLE_TRANSFER_SYNTAX_UID,
        VR::UI,
        record.transfer_syntax.as_str(),
    );
    write(&header, &metadata.bulk, &uri, out);
}

/// A JSON array of these items, in pieces of some size.
pub(in crate::web) fn array(
    items: futures::stream::BoxStream<'static, Result<Vec<u8>>>,
) -> futures::stream::BoxStream<'static, Result<Bytes>> {
    enum State {
        Begin,
        Within,
        Ended,
    }
    let pieces = stream::try_unfold((items, State::Begin), |(mut items, state)| async move {
        let mut out = Vec::with_capacity(PIECE_BYTES + 16 * 1024);
        let mut separator = match state {
            State::Begin => b'[',
            State::Within => b',',
            State::Ended => return Ok(None),
        };
        while out.len() < PIECE_BYTES {
            let Some(item) = items.try_next().await? else {
                if separator == b'[' {
                    out.push(b'[');
                }
                out.push(b']');
                return Ok(Some((Bytes::from(out), (items, State::Ended))));
            };
            out.push(separator);
            out.extend_from_slice(&item);
            separator = b',';
        }
        Ok(Some((Bytes::from(out), (items, State::Within))))
    });
    pieces.boxed()
}
