//! Instance resources (PS3.18 10.4.1.1.1): a study, a series or an instance as Part 10 streams.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use http::{StatusCode, header};
use pacs_core::pixel::Target;
use pacs_core::{InstanceRecord, Pacs, Result, Retry, Uid};

use super::super::http::accept::{Offer, Wanted};
use super::super::http::body;
use super::super::http::media_type::MediaType;
use super::super::http::multipart::{Part, related};
use super::super::http::problem::{Problem, WebResult};
use super::super::resource::Resource;
use super::super::{Asking, Segments, Web};
use super::listing::Listing;
use super::syntax::{HandedOut, choose};
use super::zip;

/// `GET` of a study, a series or an instance.
pub(crate) async fn retrieve(
    State(web): State<Arc<Web>>,
    Segments(uids): Segments,
    request: Request,
) -> WebResult {
    let asking = Asking::of(&web, &request)?;
    let resource = Resource::parse(&uids)?;
    let mut offers = vec![
        Offer::of_any(MediaType::related(&MediaType::DICOM)),
        Offer::of_any(MediaType::ZIP),
    ];
    if resource.instance.is_some() {
        offers.push(Offer::of_any(MediaType::DICOM));
    }
    for (media_type, wanted) in ways(&asking, &offers)? {
        let is_acceptable = |record: &InstanceRecord| choose(&record.transfer_syntax, &wanted).is_some();
        let listing = Listing::of(&web.pacs, &asking.source, &resource, is_acceptable).await?;
        if listing.acceptable == 0 {
            continue;
        }
        let validators = listing.validators(&media_type, &wanted);
        if let Err(response) = validators.check(&asking.method, &asking.headers) {
            return Ok(response);
        }
        let outgoing = Outgoing {
            pacs: web.pacs.clone(),
            wanted,
            base: asking.base.clone(),
        };
        let mut response = match resource.instance {
            Some(_) if media_type.is(&MediaType::DICOM) => {
                outgoing
                    .single(resource.instance(&web.pacs, &asking.source).await?)
                    .await?
            }
            _ if media_type.is(&MediaType::ZIP) => {
                outgoing.zip(&resource, resource.instances(&web.pacs, &asking.source))
            }
            _ => outgoing.multipart(resource.instances(&web.pacs, &asking.source)),
        };
        if listing.acceptable < listing.count {
            // Some of it can't be had in what the client accepts (PS3.18 8.5).
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        validators.put(response.headers_mut());
        return Ok(response);
    }
    Err(Problem::not_acceptable(
        offers.iter().map(|offer| &offer.media_type),
    ))
}

/// The media types that the client accepts, best first, each with the transfer syntaxes that it takes in it.
pub(super) fn ways(asking: &Asking, offers: &[Offer]) -> WebResult<Vec<(MediaType, Vec<Wanted>)>> {
    let mut ways: Vec<(usize, Vec<Wanted>)> = Vec::new();
    for choice in asking.accept.rank(offers) {
        match ways.iter_mut().find(|way| way.0 == choice.index) {
            Some(way) => way.1.push(choice.transfer_syntax),
            None => ways.push((choice.index, vec![choice.transfer_syntax])),
        }
    }
    if ways.is_empty() {
        return Err(Problem::not_acceptable(
            offers.iter().map(|offer| &offer.media_type),
        ));
    }
    let media_type = |index: usize| offers.get(index).map(|offer| offer.media_type.clone());
    let ways = ways
        .into_iter()
        .filter_map(|(index, wanted)| Some((media_type(index)?, wanted)));
    Ok(ways.collect())
}

type Pieces = BoxStream<'static, Result<Bytes>>;

/// How instances leave.
#[derive(Clone)]
pub(crate) struct Outgoing {
    pub(crate) pacs: Pacs,
    pub(crate) wanted: Vec<Wanted>,
    /// What URLs begin with.
    pub(crate) base: String,
}

impl Outgoing {
    pub(crate) fn can(&self, record: &InstanceRecord) -> bool {
        choose(&record.transfer_syntax, &self.wanted).is_some()
    }

    /// The Part 10 stream, the transfer syntax that it is in, and its length where that is known.
    async fn file(&self, record: &InstanceRecord) -> Result<(Pieces, Uid, Option<u64>)> {
        let kept = record.transfer_syntax;
        let as_kept = || {
            let length = record.coerced.is_none().then_some(record.length);
            (self.pacs.outgoing_file(record), kept, length)
        };
        match choose(&kept, &self.wanted) {
            Some(HandedOut::Explicit { else_as_kept }) => {
                let target = Target::ExplicitLittleEndian;
                let transcoded =
                    async { body::begun(self.pacs.transcoded_file(record, target).await?).await };
                match transcoded.await {
                    Ok(pieces) => Ok((pieces, target.uid(), None)),
                    Err(error) if else_as_kept && error.retry() == Retry::Never => Ok(as_kept()),
                    Err(error) => Err(error),
                }
            }
            _ => Ok(as_kept()),
        }
    }

    pub(crate) async fn single(&self, record: InstanceRecord) -> WebResult {
        let (pieces, syntax, length) = self.file(&record).await?;
        let pieces = body::begun(pieces).await?;
        let media_type = MediaType::DICOM.with_transfer_syntax(&syntax);
        let content_type = [(header::CONTENT_TYPE, media_type.header_value())];
        let mut response = (content_type, body::from_stream(pieces)).into_response();
        if let Some(length) = length {
            response
                .headers_mut()
                .insert(header::CONTENT_LENGTH, length.into());
        }
        Ok(response)
    }

    fn multipart(self, records: BoxStream<'static, Result<InstanceRecord>>) -> Response {
        let parts = records.try_filter_map(move |record| {
            let outgoing = self.clone();
            async move {
                if !outgoing.can(&record) {
                    return Ok(None);
                }
                let (pieces, syntax, _) = outgoing.file(&record).await?;
                let location = format!("{}{}", outgoing.base, Resource::of(&record).path());
                let media_type = MediaType::DICOM.with_transfer_syntax(&syntax);
                Ok(Some(Part::new(&media_type, pieces).with_location(&location)))
            }
        });
        related(&MediaType::DICOM, parts).into_response()
    }

    /// Files named by series and instance.
    fn zip(self, resource: &Resource, records: BoxStream<'static, Result<InstanceRecord>>) -> Response {
        let files = records.try_filter_map(move |record| {
            let outgoing = self.clone();
            async move {
                if !outgoing.can(&record) {
                    return Ok(None);
                }
                let (pieces, ..) = outgoing.file(&record).await?;
                let name = format!(
                    "{}/{}.dcm",
                    record.key.series.file_name(),
                    record.key.instance.file_name()
                );
                Ok(Some(zip::File { name, pieces }))
            }
        });
        let last = resource.instance.or(resource.series).unwrap_or(resource.study);
        let headers = [
            (header::CONTENT_TYPE, MediaType::ZIP.header_value()),
            (header::CONTENT_DISPOSITION, zip::disposition(&last)),
        ];
        let body: Body = body::from_stream(zip::write(files.boxed()));
        (headers, body).into_response()
    }
}
