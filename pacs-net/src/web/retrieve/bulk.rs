//! Bulk data and pixel data resources (PS3.18 10.4.1.1.5, 10.4.1.1.6).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use dicom_dictionary_std::tags;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use http::{HeaderValue, header};
use pacs_core::dataset::metadata::{BulkValue, ElementPath, Metadata};
use pacs_core::dataset::recode::is_native;
use pacs_core::{InstanceRecord, Pacs, Result};

use super::super::http::accept::Offer;
use super::super::http::body;
use super::super::http::media_type::MediaType;
use super::super::http::multipart::{Part, related};
use super::super::http::problem::{Problem, WebResult};
use super::super::http::range::ByteRange;
use super::super::resource::Resource;
use super::super::{Asking, Segments, Web};
use super::frames::{Form, Forms, frames_in_parts, parts};
use super::instances::ways;
use super::listing::Listing;

/// `GET .../bulkdata/{element}` of an instance: what a BulkDataURI names.
pub(crate) async fn one(
    State(web): State<Arc<Web>>,
    Segments(path): Segments,
    request: Request,
) -> WebResult {
    let asking = Asking::of(&web, &request)?;
    let [uids @ .., element] = path.as_slice() else {
        return Err(Problem::not_found("no bulk data is named"));
    };
    let resource = Resource::parse(uids)?;
    let element: ElementPath = element.parse()?;
    let record = resource.instance(&web.pacs, &asking.source).await?;
    let metadata = web.pacs.metadata(&record).await?;
    let value = metadata.bulk.iter().find(|value| value.path == element).cloned();
    let value = value.ok_or_else(|| Problem::not_found("the instance has no such bulk data"))?;
    if is_encapsulated(&record, &metadata, &value) {
        return frames(&web, &asking, &resource, &record).await;
    }
    let mut offers = vec![Offer::new(MediaType::OCTET_STREAM)];
    offers.extend(document(&metadata, &value).map(Offer::new));
    offers.push(Offer::new(MediaType::related(&MediaType::OCTET_STREAM)));
    let (media_type, _) = ways(&asking, &offers)?.swap_remove(0);
    let listing = Listing::of_one(&record);
    let validators = listing.validators(&media_type, ());
    if let Err(response) = validators.check(&asking.method, &asking.headers) {
        return Ok(response);
    }
    let mut response = match value.length {
        Some(length) if !media_type.is_multipart() => {
            // Range requests (RFC 9110 14).
            let range = ByteRange::of_request(&asking.method, &asking.headers, length, &validators)?;
            let pieces = body::begun(web.pacs.read_bulk(&record, &value, range.bytes(length))).await?;
            let content_type = [(header::CONTENT_TYPE, media_type.header_value())];
            let mut response = (content_type, body::from_stream(pieces)).into_response();
            *response.status_mut() = range.put(length, response.headers_mut());
            response
        }
        _ => {
            let location = format!("{}{}/bulkdata/{element}", asking.base, resource.path());
            let length = value.length.unwrap_or(u64::MAX);
            let pieces = body::begun(web.pacs.read_bulk(&record, &value, 0..length)).await?;
            if media_type.is_multipart() {
                let part = Part::new(&MediaType::OCTET_STREAM, pieces).with_location(&location);
                related(&MediaType::OCTET_STREAM, stream::iter([Ok(part)])).into_response()
            } else {
                (
                    [(header::CONTENT_TYPE, media_type.header_value())],
                    body::from_stream(pieces),
                )
                    .into_response()
            }
        }
    };
    validators.put(response.headers_mut());
    if !media_type.is(&MediaType::PDF) {
        // Whoever stored the instance named the type: what it holds must not run as a page of this server.
        let policy = HeaderValue::from_static("sandbox; default-src 'none'");
        response
            .headers_mut()
            .insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    Ok(response)
}

/// Whether a value is pixel data in fragments.
fn is_encapsulated(record: &InstanceRecord, metadata: &Metadata, value: &BulkValue) -> bool {
    let pixels = metadata.pixel_data.map(|pixels| ElementPath::new(pixels.tag));
    pixels.is_some_and(|pixels| value.path == pixels) && !is_native(&record.transfer_syntax)
}

/// What an encapsulated document says that it is (PS3.3 C.24.2).
fn document(metadata: &Metadata, value: &BulkValue) -> Option<MediaType> {
    if value.path != ElementPath::new(tags::ENCAPSULATED_DOCUMENT) {
        return None;
    }
    let text = metadata.header.string(tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT)?;
    text.parse().ok()
}

/// All frames of an instance whose pixel data is encapsulated.
async fn frames(web: &Web, asking: &Asking, resource: &Resource, record: &InstanceRecord) -> WebResult {
    let forms = Forms::of(&record.transfer_syntax);
    let mut offers = forms.offers(false);
    // Uncompressed, all frames may also be one value, as they would be in a native transfer syntax.
    offers.insert(0, Offer::new(MediaType::OCTET_STREAM));
    let (media_type, form) = forms.select(asking, &offers)?;
    let reader = Arc::new(web.pacs.frame_reader(record).await?);
    let numbers = 1..=reader.count();
    let base = format!("{}{}", asking.base, resource.path());
    if media_type.is_multipart() && !media_type.root().is(&MediaType::OCTET_STREAM) {
        return frames_in_parts(reader, numbers, form, &media_type.root(), &base).await;
    }
    if form != Form::Decoded {
        return frames_in_parts(reader, numbers, form, &MediaType::OCTET_STREAM, &base).await;
    }
    let pieces = stream::iter(numbers).then(move |number| {
        let reader = Arc::clone(&reader);
        async move { Ok(reader.decoded(number).await?.pixels) }
    });
    let octets = MediaType::OCTET_STREAM.with_transfer_syntax(form.transfer_syntax());
    if media_type.is_multipart() {
        let location = format!("{base}/bulkdata/7FE00010");
        let part = Part::new(&octets, pieces).with_location(&location);
        return Ok(related(&octets, stream::iter([Ok(part)])).into_response());
    }
    Ok((
        [(header::CONTENT_TYPE, octets.header_value())],
        body::from_stream(pieces.boxed()),
    )
        .into_response())
}

/// `GET .../bulkdata` of a study, a series or an instance: all of it.
pub(crate) async fn all(
    State(web): State<Arc<Web>>,
    Segments(uids): Segments,
    request: Request,
) -> WebResult {
    every(&web, Asking::of(&web, &request)?, &uids, |_| true).await
}

/// `GET .../pixeldata` of a study, a series or an instance.
pub(crate) async fn pixel_data(
    State(web): State<Arc<Web>>,
    Segments(uids): Segments,
    request: Request,
) -> WebResult {
    every(&web, Asking::of(&web, &request)?, &uids, is_pixel_data).await
}

fn is_pixel_data(value: &BulkValue) -> bool {
    let pixels = [
        tags::PIXEL_DATA,
        tags::FLOAT_PIXEL_DATA,
        tags::DOUBLE_FLOAT_PIXEL_DATA,
    ];
    pixels.iter().any(|tag| value.path == ElementPath::new(*tag))
}

async fn every(
    web: &Web,
    asking: Asking,
    uids: &[String],
    is_asked_for: fn(&BulkValue) -> bool,
) -> WebResult {
    let resource = Resource::parse(uids)?;
    let offers = [Offer::of_any(MediaType::related(&MediaType::OCTET_STREAM))];
    ways(&asking, &offers)?;
    Listing::of(&web.pacs, &asking.source, &resource, |_| true).await?;
    let (pacs, base) = (web.pacs.clone(), asking.base.clone());
    let parts = resource
        .instances(&web.pacs, &asking.source)
        .and_then(move |record| {
            let (pacs, base) = (pacs.clone(), base.clone());
            async move { of_instance(pacs, base, record, is_asked_for).await }
        })
        .try_flatten();
    let response: Response = related(&MediaType::OCTET_STREAM, parts).into_response();
    Ok(response)
}

/// The bulk data of one instance, uncompressed where it can be.
async fn of_instance(
    pacs: Pacs,
    base: String,
    record: InstanceRecord,
    is_asked_for: fn(&BulkValue) -> bool,
) -> Result<BoxStream<'static, Result<Part>>> {
    let metadata = pacs.metadata(&record).await?;
    let base = format!("{base}{}", Resource::of(&record).path());
    let values: Vec<BulkValue> = metadata
        .bulk
        .iter()
        .filter(|value| is_asked_for(value))
        .cloned()
        .collect();
    let parts = stream::iter(values).then(move |value| {
        let (pacs, base, record, metadata) =
            (pacs.clone(), base.clone(), record.clone(), Arc::clone(&metadata));
        async move {
            if is_encapsulated(&record, &metadata, &value) {
                let reader = Arc::new(pacs.frame_reader(&record).await?);
                let numbers = 1..=reader.count();
                let form = Forms::of(&record.transfer_syntax).best();
                let media_type = MediaType::OCTET_STREAM.with_transfer_syntax(form.transfer_syntax());
                return Ok(parts(reader, numbers, form, media_type, base));
            }
            let location = format!("{base}/bulkdata/{}", value.path);
            let pieces = pacs.read_bulk(&record, &value, 0..value.length.unwrap_or(u64::MAX));
            let part = Part::new(&MediaType::OCTET_STREAM, pieces).with_location(&location);
            Ok(stream::iter([Ok(part)]).boxed())
        }
    });
    Ok(parts.try_flatten().boxed())
}
