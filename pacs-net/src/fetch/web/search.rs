//! Searching: page after page, until there is nothing more (PS3.18 10.6).

use dicom_dictionary_std::tags;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http::{HeaderMap, StatusCode, header};
use pacs_core::dataset::json;
use pacs_core::dataset::part10::IMPLEMENTATION_CLASS_UID;
use pacs_core::{DataSet, Error, ErrorKind, Level, Result};

use super::WebService;
use super::objects::Objects;
use super::question::Question;
use crate::fetch::AWAY;
use crate::util::Seen;

/// Answers asked for at once.
const PAGE_MAX: usize = 1000;

const ACCEPT: &str = "application/dicom+json";

/// What matches `keys` at a level.
///
/// A service may answer less than it was asked for, and need not say so everywhere: so it is asked on until a page
/// brings nothing new.
pub(in crate::fetch) fn find(
    service: &WebService,
    level: Level,
    keys: &DataSet,
    at_most: usize,
) -> Result<BoxStream<'static, Result<DataSet>>> {
    let search = Search {
        service: service.clone(),
        question: Question::new(level, keys)?,
        left: at_most,
        answered: 0,
        seen: Seen::default(),
        page: None,
        is_over: false,
    };
    let matches = stream::try_unfold(search, |mut search| async move {
        Ok(search.next().await?.map(|set| (set, search)))
    });
    Ok(matches.boxed())
}

/// Looks whether a service is there and can be searched. One that fails at all it has is asked for what it can't have.
pub(in crate::fetch) async fn reach(service: &WebService) -> Result<()> {
    let first = |keys: DataSet| async move {
        let mut matches = find(service, Level::Study, &keys, 1)?;
        matches.next().await.transpose().map(drop)
    };
    let Err(error) = first(DataSet::new()).await else {
        return Ok(());
    };
    let mut keys = DataSet::new();
    keys.put_uid(tags::STUDY_INSTANCE_UID, &IMPLEMENTATION_CLASS_UID);
    match error.kind() == ErrorKind::Refused && first(keys).await.is_ok() {
        true => Ok(()),
        false => Err(error),
    }
}

struct Search {
    service: WebService,
    question: Question,
    /// How many are wanted still.
    left: usize,
    /// Answers of all pages so far.
    answered: usize,
    seen: Seen,
    page: Option<Page>,
    is_over: bool,
}

struct Page {
    objects: Objects,
    limit: usize,
    count: usize,
    /// Of which were not in another page.
    new: usize,
    /// The service says that there are more.
    says_more: bool,
}

impl Search {
    async fn next(&mut self) -> Result<Option<DataSet>> {
        while self.left > 0 && !self.is_over {
            let Some(page) = &mut self.page else {
                self.page = self.ask().await?;
                self.is_over = self.page.is_none();
                continue;
            };
            let Some(object) = page.objects.next().await? else {
                let (limit, count, new, says_more) = (page.limit, page.count, page.new, page.says_more);
                self.page = None;
                self.is_over = self.was_last(limit, count, new, says_more)?;
                continue;
            };
            page.count += 1;
            self.answered += 1;
            let set = read(&object)?;
            // Who asked decides about one without a UID.
            match set.uid(self.question.unique) {
                Ok(uid) if !self.seen.insert(&uid) => continue,
                Ok(_) => page.new += 1,
                Err(_) => {}
            }
            self.left -= 1;
            return Ok(Some(set));
        }
        Ok(None)
    }

    /// Whether a page that is read was the last.
    fn was_last(&self, limit: usize, count: usize, new: usize, says_more: bool) -> Result<bool> {
        if count == 0 || (count > limit && !says_more) {
            // Where the limit isn't heeded, it was all there is.
            return Ok(true);
        }
        if new > 0 {
            return Ok(false);
        }
        if !says_more && count < limit {
            return Ok(true);
        }
        let why = format!("the service lists {count} at most, and there are more that it doesn't give");
        Err(Error::new(ErrorKind::Refused, "fetch.search", why))
    }

    /// The next page; none where there is none.
    async fn ask(&mut self) -> Result<Option<Page>> {
        let limit = self.left.min(PAGE_MAX);
        let path = self.question.page(limit, self.answered);
        let answer = self
            .service
            .get(&path, ACCEPT)
            .await
            .map_err(|none| none.error(AWAY))?;
        match answer.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => {}
            StatusCode::NO_CONTENT => return Ok(None),
            // Nothing behind what there is; or what it is searched in isn't there.
            StatusCode::NOT_FOUND if self.answered > 0 || self.question.level != Level::Study => {
                return Ok(None);
            }
            status => return Err(self.service.failed(status)),
        }
        let says_more = says_more(answer.headers());
        let body = self.service.caller.pieces(answer.into_body());
        Ok(Some(Page {
            objects: Objects::new(body),
            limit,
            count: 0,
            new: 0,
            says_more,
        }))
    }
}

/// Warning 299 (10.6.3.1): there are more results than the service gives at once.
fn says_more(headers: &HeaderMap) -> bool {
    let mut warnings = headers.get_all(header::WARNING).iter();
    warnings.any(|warning| warning.as_bytes().trim_ascii_start().starts_with(b"299"))
}

fn read(object: &[u8]) -> Result<DataSet> {
    let mut read = json::read(object).map_err(unreadable)?;
    read.pop()
        .map(|described| described.header)
        .ok_or_else(|| Error::new(ErrorKind::Refused, "fetch.search", "an object is missing"))
}

/// It answered: it will answer so again.
fn unreadable(error: Error) -> Error {
    let why = "what the service answers to a search can't be read";
    Error::new(ErrorKind::Refused, "fetch.search", why).with_source(error)
}
