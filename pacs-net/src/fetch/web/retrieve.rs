//! Retrieving: a study, a series or an instance as a multipart body, each part straight into the engine (PS3.18 10.4).

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::Stream;
use http::{Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpInfo;
use pacs_core::{Error, ErrorKind, Pacs, Result, Retry, Uid};

use super::WebService;
use crate::audited::Brought;
use crate::fetch::{AWAY, Listed, over_http};
use crate::pace::paced;
use crate::web::commits::{Commits, Committed};
use crate::web::http::client::{NoAnswer, may_pass};
use crate::web::http::media_type::MediaType;
use crate::web::http::multipart::MultipartReader;
use crate::web::resource::Resource;

/// As it is kept there (PS3.18 8.7.3.5.2); and as services want it that know no `*`, and give what they think best.
const ACCEPTS: [&str; 2] = [
    "multipart/related; type=\"application/dicom\"; transfer-syntax=*",
    "multipart/related; type=\"application/dicom\"",
];

/// Gets what is missing of a study: all at once where all is, whole series where all of theirs is, else instances
/// alone. What doesn't come with the others is asked for alone: one that the service can't give may be what breaks a
/// transfer off. Answers what was said that was not all success.
pub(in crate::fetch) async fn fetch(
    pacs: &Pacs,
    service: &WebService,
    study: &Uid,
    listed: &[Listed],
    missing: &[&Listed],
) -> Result<Option<String>> {
    let mut fetching = Fetching {
        pacs,
        service,
        study: *study,
        said: None,
        brought: Brought::default(),
    };
    for (series, wanted) in plan(listed, missing) {
        let resource = Resource {
            study: *study,
            series,
            instance: None,
        };
        let is_together = wanted.len() > 1 && is_whole(listed, series, wanted.len());
        if is_together && fetching.get(resource).await? == Got::Refused {
            continue;
        }
        for it in wanted {
            if is_together && pacs.lookup(&it.instance).await?.is_some() {
                continue;
            }
            let resource = Resource {
                study: *study,
                series: Some(it.series),
                instance: Some(it.instance),
            };
            fetching.get(resource).await?;
        }
    }
    Ok(fetching.said)
}

/// What is missing by what it may be asked for with: the study (no series) where all of it is, else series.
fn plan<'a>(listed: &[Listed], missing: &[&'a Listed]) -> BTreeMap<Option<Uid>, Vec<&'a Listed>> {
    let mut plan: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let is_all = missing.len() == listed.len();
    for it in missing {
        plan.entry((!is_all).then_some(it.series)).or_default().push(*it);
    }
    plan
}

/// Whether so many are all of the series, or of the study.
fn is_whole(listed: &[Listed], series: Option<Uid>, count: usize) -> bool {
    let among = |it: &&Listed| series.is_none_or(|series| series == it.series);
    listed.iter().filter(among).count() == count
}

struct Fetching<'a> {
    pacs: &'a Pacs,
    service: &'a WebService,
    study: Uid,
    said: Option<String>,
    brought: Brought,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Got {
    /// Something came, or what was under way broke.
    Some,
    /// The service won't give it.
    Refused,
}

impl Fetching<'_> {
    /// Takes in what a resource has.
    ///
    /// # Errors
    /// When the service isn't there, or not now; or when nothing can be kept here.
    async fn get(&mut self, resource: Resource) -> Result<Got> {
        let answer = match self.ask(resource).await {
            Ok(answer) => answer,
            Err(NoAnswer::Broken(why)) => {
                self.said = Some(why);
                return Ok(Got::Some);
            }
            Err(none) => return Err(none.error(AWAY)),
        };
        match answer.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => self.take(answer).await,
            status if may_pass(status) => Err(self.service.failed(status)),
            status => {
                self.said = Some(format!("HTTP status {status}"));
                // It may have failed at one of them.
                Ok(match status.is_server_error() {
                    true => Got::Some,
                    false => Got::Refused,
                })
            }
        }
    }

    async fn ask(&self, resource: Resource) -> Result<Response<Incoming>, NoAnswer> {
        let [kept, any] = ACCEPTS;
        let path = resource.path();
        let answer = self.service.get(&path, kept).await?;
        // Some call it a bad request.
        match answer.status() {
            StatusCode::NOT_ACCEPTABLE | StatusCode::BAD_REQUEST => self.service.get(&path, any).await,
            _ => Ok(answer),
        }
    }

    /// Takes in the instances of a body.
    async fn take(&mut self, answer: Response<Incoming>) -> Result<Got> {
        let from = answer.extensions().get::<HttpInfo>();
        let source = pacs_core::Source {
            address: from.map(HttpInfo::remote_addr),
            // Its files say who sent them there: this says that they are fetched.
            move_originator: over_http(),
            ..pacs_core::Source::default()
        };
        let content_type = answer.headers().get(header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok()?.parse::<MediaType>().ok());
        let Some(content_type) = content_type else {
            self.said = Some("an answer without a media type".to_owned());
            return Ok(Got::Refused);
        };
        let pieces = self.service.caller.pieces(answer.into_body());
        let mut commits = Commits::default();
        let taken = if content_type.is(&MediaType::MULTIPART_RELATED) {
            self.parts(&content_type, &source, pieces, &mut commits).await
        } else if content_type.is(&MediaType::DICOM) {
            self.instance(&source, pieces, &mut commits).await
        } else {
            self.said = Some(format!(
                "an answer of another media type, {}",
                content_type.essence()
            ));
            return Ok(Got::Refused);
        };
        // Also where the rest won't come.
        let mut ended = taken;
        while let Some(committed) = commits.next().await {
            let noted = self.note(&source, committed).await;
            ended = ended.and(noted);
        }
        let told = self.brought.tell(self.pacs, &source).await;
        ended = ended.and(told);
        ended.map(|()| Got::Some)
    }

    async fn parts(
        &mut self,
        content_type: &MediaType,
        source: &pacs_core::Source,
        pieces: impl Stream<Item = Result<Bytes>> + Send + Unpin,
        commits: &mut Commits,
    ) -> Result<()> {
        let mut parts = match MultipartReader::new(content_type, pieces) {
            Ok(parts) => parts,
            Err(error) => return self.failed(error),
        };
        loop {
            match parts.next_part().await {
                Ok(Some(part)) => match part.media_type() {
                    Some(other) if !other.is(&MediaType::DICOM) => {
                        self.said = Some(format!("a part of another media type, {}", other.essence()));
                    }
                    // A part that doesn't say what it is is what the whole says.
                    _ => self.instance(source, part, commits).await?,
                },
                Ok(None) => return Ok(()),
                Err(error) => return self.failed(error),
            }
        }
    }

    /// One Part 10 stream: kept as it comes, or passed over.
    async fn instance(
        &mut self,
        source: &pacs_core::Source,
        pieces: impl Stream<Item = Result<Bytes>> + Send + Unpin,
        commits: &mut Commits,
    ) -> Result<()> {
        let paced = std::pin::pin!(paced(pieces, self.pacs.clone(), source.clone()));
        match self.pacs.receive_file(source.clone(), paced).await {
            Ok(mut receipt) => {
                receipt.require_study(self.study);
                while let Some(ended) = commits.full().await {
                    self.note(source, ended).await?;
                }
                commits.begin(receipt);
                Ok(())
            }
            Err(error) => self.failed(error),
        }
    }

    async fn note(&mut self, source: &pacs_core::Source, (_, ended): Committed) -> Result<()> {
        match ended {
            Ok(received) => self.brought.add(self.pacs, source, &received.record).await,
            Err(error) => self.failed(error),
        }
    }

    /// What failed with one instance may go well with another.
    ///
    /// # Errors
    /// What can't: there is no room here, or nothing comes any more.
    fn failed(&mut self, error: Error) -> Result<()> {
        let is_final = match error.kind() {
            ErrorKind::Closed | ErrorKind::TimedOut => true,
            ErrorKind::OutOfResources => error.retry() == Retry::Later,
            _ => false,
        };
        if is_final {
            return Err(error);
        }
        tracing::debug!(study = %self.study, %error, "an instance was not fetched");
        self.said = Some(error.to_string());
        Ok(())
    }
}
