//! The Store transaction (PS3.18 10.5): STOW-RS.

mod described;
mod report;

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Request, State};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, TryStreamExt};
use http::header;
use pacs_core::audit::Subjects;
use pacs_core::budget::Budget;
use pacs_core::{Announced, Error, ErrorKind, Pacs, Receipt, Result, Retry, Source, Uid};

use self::described::Descriptions;
use self::report::Report;
use super::commits::{Commits, Committed};
use super::http::accept::Offer;
use super::http::body;
use super::http::media_type::MediaType;
use super::http::multipart::MultipartReader;
use super::http::problem::{Problem, WebResult};
use super::resource::Resource;
use super::{Asking, Segments, Web};
use crate::audited;
use crate::pace::paced;
use crate::scp::is_stored;

/// `POST /studies`
pub(super) async fn store(State(web): State<Arc<Web>>, request: Request) -> WebResult {
    take(&web, None, request).await
}

/// `POST /studies/{study}`
pub(super) async fn store_in_study(
    State(web): State<Arc<Web>>,
    Segments(path): Segments,
    request: Request,
) -> WebResult {
    let resource = Resource::parse(&path)?;
    take(&web, Some(resource.study), request).await
}

async fn take(web: &Web, study: Option<Uid>, request: Request) -> WebResult {
    let asking = Asking::of(web, &request)?;
    let offers = [
        Offer::new(MediaType::DICOM_JSON),
        Offer::new(MediaType::JSON),
        Offer::new(MediaType::DICOM_XML),
    ];
    let answered = asking.accept.select(&offers)?.offer.media_type.clone();
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok()?.parse::<MediaType>().ok());
    let content_type = content_type.ok_or_else(unsupported)?;
    let mut storing = Storing {
        pacs: web.pacs.clone(),
        any_sop_class: web.options.any_sop_class,
        source: asking.source.clone(),
        study,
        descriptions: web.descriptions.clone(),
        spool: web.options.spool.clone(),
        report: Report::new(&asking.base, study),
        commits: Commits::default(),
        kept: Subjects::default(),
    };
    let pieces = body::stream(request.into_body());
    let root = content_type.root();
    let failed = if content_type.is(&MediaType::MULTIPART_RELATED) {
        let mut parts = MultipartReader::new(&content_type, pieces)?;
        if root.is(&MediaType::DICOM) {
            storing.instances(&mut parts).await
        } else if root.is(&MediaType::DICOM_JSON) || root.is(&MediaType::DICOM_XML) {
            storing.described(&mut parts).await
        } else {
            return Err(unsupported());
        }
    } else if content_type.is(&MediaType::DICOM) {
        storing.instance(pieces).await;
        Ok(())
    } else {
        return Err(unsupported());
    };
    while let Some(ended) = storing.commits.next().await {
        storing.note(ended);
    }
    let kept = std::mem::take(&mut storing.kept).take();
    audited::taken_in(&storing.pacs, &asking.source, kept, false).await?;
    match failed {
        // What was kept before the body broke off stays kept, and the client is told of it.
        Err(error) if storing.report.is_empty() => Err(error.into()),
        Err(error) => {
            storing.report.failed(None, &error);
            Ok(storing.report.respond(&answered))
        }
        Ok(()) if storing.report.is_empty() => Err(Problem::bad_request("the request has no instance")),
        Ok(()) => Ok(storing.report.respond(&answered)),
    }
}

fn unsupported() -> Problem {
    Problem::unsupported_media_type(&[
        MediaType::related(&MediaType::DICOM),
        MediaType::related(&MediaType::DICOM_JSON),
        MediaType::related(&MediaType::DICOM_XML),
        MediaType::DICOM,
    ])
}

/// One transaction under way.
struct Storing {
    pacs: Pacs,
    any_sop_class: bool,
    source: Source,
    study: Option<Uid>,
    descriptions: Budget,
    spool: PathBuf,
    report: Report,
    commits: Commits,
    /// What was kept.
    kept: Subjects,
}

impl Storing {
    /// Instances as Part 10 streams, one in each part.
    async fn instances<S>(&mut self, parts: &mut MultipartReader<S>) -> Result<()>
    where
        S: Stream<Item = Result<Bytes>> + Send + Unpin,
    {
        while let Some(part) = parts.next_part().await? {
            if self.report.is_full() {
                return Err(too_many());
            }
            match part.media_type() {
                Some(other) if !other.is(&MediaType::DICOM) => {
                    let what = "a part is of another media type than the request says";
                    self.report
                        .failed(None, &Error::new(ErrorKind::Unsupported, "web.store", what));
                }
                // A part that doesn't say what it is is what the whole says.
                _ => self.instance(part).await,
            }
        }
        Ok(())
    }

    /// One Part 10 stream.
    async fn instance(&mut self, pieces: impl Stream<Item = Result<Bytes>> + Send + Unpin) {
        let paced = std::pin::pin!(paced(pieces, self.pacs.clone(), self.source.clone()));
        match self.pacs.receive_file(self.source.clone(), paced).await {
            Ok(receipt) => self.commit(receipt).await,
            Err(error) => self.report.failed(None, &error),
        }
    }

    /// Commits while what follows comes in.
    async fn commit(&mut self, mut receipt: Receipt) {
        let announced = receipt.announced();
        if !is_stored(&announced.sop_class, self.any_sop_class) {
            let why = "the SOP class is not one of storage";
            let error = Error::new(ErrorKind::Unsupported, "web.store", why);
            return self.report.failed(Some(announced), &error);
        }
        if let Some(study) = self.study {
            receipt.require_study(study);
        }
        while let Some(ended) = self.commits.full().await {
            self.note(ended);
        }
        self.commits.begin(receipt);
    }

    /// Notes what became of an instance.
    fn note(&mut self, (announced, ended): Committed) {
        match ended {
            Ok(received) => {
                if self.pacs.audit().is_on() {
                    self.kept.add(&received.record);
                }
                self.report.stored(&received);
            }
            Err(error) => self.report.failed(announced.as_ref(), &error),
        }
    }

    /// Instances as metadata, with their bulk data in parts of its own (10.5.2).
    async fn described<S>(&mut self, parts: &mut MultipartReader<S>) -> Result<()>
    where
        S: Stream<Item = Result<Bytes>> + Send + Unpin,
    {
        let mut descriptions = Descriptions::new(&self.descriptions, &self.spool)?;
        while let Some(part) = parts.next_part().await? {
            descriptions.take(part).await?;
        }
        for assembled in descriptions.assemble() {
            if self.report.is_full() {
                return Err(too_many());
            }
            let assembled = match assembled {
                Ok(assembled) => assembled,
                Err(error) => {
                    self.report.failed(None, &error);
                    continue;
                }
            };
            let announced = assembled.announced(self.source.clone());
            match self.receive(announced.clone(), assembled.pieces()).await {
                Ok(receipt) => self.commit(receipt).await,
                Err(error) => self.report.failed(Some(&announced), &error),
            }
        }
        Ok(())
    }

    async fn receive(
        &self,
        announced: Announced,
        mut pieces: BoxStream<'static, Result<Bytes>>,
    ) -> Result<Receipt> {
        let mut receipt = self.pacs.receive(announced).await?;
        while let Some(piece) = pieces.try_next().await? {
            receipt.write(piece).await?;
        }
        Ok(receipt)
    }
}

fn too_many() -> Error {
    let what = "a request brings more instances than are told of: what follows was not stored";
    Error::new(ErrorKind::OutOfResources, "web.store", what).with_retry(Retry::Never)
}
