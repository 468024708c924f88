//! [`FetchPriors`]: earlier studies of the patient, out of another archive.
//!
//! Told of a study (by an occasion of it, or by its order), it asks the other archive for studies of the same patient
//! (PS3.4 C.6.2), chooses among the answers, and fetches each that isn't whole here ([`Source`]).
//!
//! - The same patient has the same Patient ID, and the same issuer of it and the same birth date as far as both sides
//!   tell them. Without a Patient ID nothing is asked. What the archive answers is held against that, whatever it
//!   makes of the question.
//! - A prior isn't newer than the study; one without a Study Date isn't known to be older.
//! - Modalities in Study is optional, and Body Part Examined at the level of series too (PS3.4 C.6.2.1): where the
//!   archive, or the study, doesn't tell them, nothing speaks against a prior.
//!
//! What comes counts as fetched ([`Pacs::fetching`]): rules for new images don't see it, it opens no reading step, and
//! its priors are not fetched in turn.

mod choose;

use std::collections::BTreeSet;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use pacs_core::route::{Line, Waiting, What};
use pacs_core::workflow::Worklist;
use pacs_core::workflow::worklist::status;
use pacs_core::{DataSet, Error, ErrorKind, Level, Pacs, Result, Retry, Scope, Uid};

use self::choose::{Candidate, Current, acquired, codes};
use super::{Destination, Recipient, Tried, in_order};
use crate::fetch::{AWAY, Fetched, Source};

/// Answers to one question. A patient has some hundred studies, a study some hundred series.
const ANSWERS_MAX: usize = 10_000;

/// Which priors are fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Only those with a modality of the study; reports, presentation states and the like don't count.
    pub same_modality: bool,
    /// Only those with a body part of the study.
    pub same_body_part: bool,
    /// At most so many, the newest.
    pub at_most: usize,
    /// At most so many years older than the study.
    pub years: Option<u32>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            same_modality: false,
            same_body_part: false,
            at_most: 3,
            years: None,
        }
    }
}

/// Fetches the priors of studies that it is told of.
#[derive(Clone, Debug)]
pub struct FetchPriors {
    pacs: Pacs,
    archive: Source,
    wanted: Wanted,
}

/// Why there is nothing to record but this.
enum Ended {
    Tried(Tried),
    /// Of the archive.
    Theirs(Error),
    /// Of index, ledger and archive here.
    Ours(Error),
}

impl FetchPriors {
    /// Out of this archive.
    pub fn new(pacs: Pacs, archive: Source, wanted: Wanted) -> Self {
        Self {
            pacs,
            archive,
            wanted,
        }
    }

    /// What the archive answers to these keys, all of it.
    async fn find(&self, level: Level, keys: &DataSet) -> Result<Vec<DataSet>> {
        let mut finder = self.archive.finder(self.pacs.audit());
        let found = finder.find(level, keys, ANSWERS_MAX + 1).await?;
        let answers: Vec<_> = found.try_collect().await?;
        if answers.len() > ANSWERS_MAX {
            let why = format!("the archive answers more than {ANSWERS_MAX} for one patient or study");
            return Err(Error::new(ErrorKind::Invalid, "priors.find", why));
        }
        finder.close().await;
        Ok(answers)
    }

    async fn tried(&self, study: &Uid) -> Tried {
        match self.fetch_priors(study).await {
            Ok(said) => Tried::Delivered(said),
            Err(Ended::Tried(tried)) => tried,
            Err(Ended::Theirs(error)) if error.operation() == AWAY => Tried::Away(error.context().to_owned()),
            Err(Ended::Theirs(error)) => match error.kind() {
                // It says no, or what nobody understands.
                ErrorKind::Refused | ErrorKind::Unsupported | ErrorKind::Invalid => {
                    Tried::Failed(error.context().to_owned())
                }
                _ => Tried::Broken(error.context().to_owned()),
            },
            Err(Ended::Ours(error)) if error.retry() == Retry::Later => Tried::Busy(error.to_string()),
            Err(Ended::Ours(error)) => Tried::Failed(error.context().to_owned()),
        }
    }

    /// Fetches the priors of a study; answers how many.
    async fn fetch_priors(&self, study: &Uid) -> Result<String, Ended> {
        let Some(current) = self.current(study).await.map_err(Ended::Ours)? else {
            // It was removed, or the order is over.
            return Err(Ended::Tried(Tried::Gone));
        };
        if current.patient_id.is_empty() {
            let why = "without a Patient ID there is nothing to ask for";
            return Err(Ended::Tried(Tried::Delivered(why.to_owned())));
        }
        let keys = current.keys(&self.wanted);
        let answers = self.find(Level::Study, &keys).await;
        let answers = answers.map_err(Ended::Theirs)?;
        let mut chosen = Vec::new();
        for candidate in current.candidates(study, &self.wanted, &answers) {
            if chosen.len() == self.wanted.at_most {
                break;
            }
            if self.suits(&current, &candidate).await.map_err(Ended::Theirs)? {
                chosen.push(candidate.study);
            }
        }
        let (mut fetched, mut kept, mut failed) = (0, 0, None);
        for prior in &chosen {
            let told = self.pacs.fetching(prior, &self.archive.brings()).await;
            let _fetching = told.map_err(Ended::Ours)?;
            match self.archive.fetch_study(&self.pacs, prior, false).await {
                Ok(all) => match whole(&all) {
                    Ok(true) => fetched += 1,
                    Ok(false) => kept += 1,
                    Err(why) => failed = failed.or(Some(Ended::Tried(Tried::Failed(why)))),
                },
                Err(error) if error.operation() == AWAY => return Err(Ended::Theirs(error)),
                // Another one may be whole.
                Err(error) => failed = failed.or(Some(Ended::Theirs(error))),
            }
        }
        match failed {
            Some(failed) => Err(failed),
            None => Ok(told(fetched, kept)),
        }
    }

    /// What is known of a study: by its instances, or where there is none by its orders.
    async fn current(&self, study: &Uid) -> Result<Option<Current>> {
        const TOLD: [dicom_core::Tag; 7] = [
            tags::PATIENT_ID,
            tags::ISSUER_OF_PATIENT_ID,
            tags::PATIENT_BIRTH_DATE,
            tags::STUDY_DATE,
            tags::STUDY_TIME,
            tags::MODALITY,
            tags::BODY_PART_EXAMINED,
        ];
        let attributes = self.pacs.attributes();
        let indexed = TOLD.iter().all(|tag| attributes.level_of(*tag).is_some());
        let mut current = Current::default();
        let mut series = BTreeSet::new();
        let mut records = self.pacs.instances(Scope::Study(*study));
        while let Some(record) = records.try_next().await? {
            // Those of one series say the same.
            if !series.insert(record.key.series) {
                continue;
            }
            match indexed {
                true => current.add_instance(&record.attributes.together()),
                false => current.add_instance(&self.pacs.metadata(&record).await?.header),
            }
        }
        if !series.is_empty() {
            return Ok(Some(current));
        }
        let worklist = Worklist::new(std::sync::Arc::clone(self.pacs.ledger()?));
        let mut orders = worklist.of_study(study).await?;
        orders.retain(|item| !status::is_over(status::of(item)));
        orders.iter().for_each(|item| current.add_order(item));
        Ok((!orders.is_empty()).then_some(current))
    }

    /// Whether a study is of the modality and the body part that are wanted. Its series are asked for where they tell.
    async fn suits(&self, current: &Current, candidate: &Candidate) -> Result<bool> {
        let Wanted {
            same_modality,
            same_body_part,
            ..
        } = self.wanted;
        if same_modality && !current.same_modality(&candidate.modalities) {
            return Ok(false);
        }
        if !same_body_part && (!same_modality || candidate.says_modalities) {
            return Ok(true);
        }
        let mut keys = DataSet::new();
        keys.put_uid(tags::STUDY_INSTANCE_UID, &candidate.study);
        for (tag, vr) in [
            (tags::SERIES_INSTANCE_UID, VR::UI),
            (tags::MODALITY, VR::CS),
            (tags::BODY_PART_EXAMINED, VR::CS),
        ] {
            keys.put_text(tag, vr, "");
        }
        let series = self.find(Level::Series, &keys).await?;
        let (mut modalities, mut body_parts) = (BTreeSet::new(), BTreeSet::new());
        for one in &series {
            modalities.extend(acquired(one, tags::MODALITY));
            body_parts.extend(codes(one, tags::BODY_PART_EXAMINED));
        }
        let modality = !same_modality || current.same_modality(&modalities);
        Ok(modality && (!same_body_part || current.same_body_part(&body_parts)))
    }
}

/// Whether a prior had to be fetched; or what is missing of it.
fn whole(all: &Fetched) -> Result<bool, String> {
    if all.instances == 0 {
        return Err("the archive lists no instance of a prior".to_owned());
    }
    if all.missing.is_empty() {
        return Ok(all.asked > 0);
    }
    let (missing, of) = (all.missing.len(), all.instances);
    let said = all.said.as_deref().unwrap_or("nothing of it");
    Err(format!(
        "{missing} of {of} instances of a prior did not come; the archive said {said}"
    ))
}

fn told(fetched: usize, kept: usize) -> String {
    let priors = |count| if count == 1 { "prior" } else { "priors" };
    let were = |count| if count == 1 { "was" } else { "were" };
    match (fetched, kept) {
        (0, 0) => "no prior".to_owned(),
        (0, kept) => format!("{kept} {} {} here already", priors(kept), were(kept)),
        (fetched, 0) => format!("{fetched} {} fetched", priors(fetched)),
        (fetched, kept) => format!(
            "{fetched} {} fetched, {kept} {} here already",
            priors(fetched),
            were(kept)
        ),
    }
}

impl Destination for FetchPriors {
    /// What it fetches is recorded as it comes.
    fn recipient(&self) -> Recipient {
        Recipient::Nobody
    }

    fn deliver<'a>(&'a self, line: &'a Line, batch: Vec<Waiting>) -> BoxStream<'a, (Waiting, Tried)> {
        // What waits of one study is answered by one look.
        let looked = tokio::sync::OnceCell::new();
        let looked = std::sync::Arc::new(looked);
        let each = stream::iter(batch).then(move |waiting| {
            let looked = std::sync::Arc::clone(&looked);
            async move {
                let tried = match waiting.what {
                    What::Instance(_) => {
                        Tried::Refused("the destination is told of studies: tell it".to_owned())
                    }
                    What::Occasion(..) => looked.get_or_init(|| self.tried(line.study())).await.clone(),
                };
                (waiting, tried)
            }
        });
        in_order(each).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_counts_in_words() {
        assert_eq!(told(0, 0), "no prior");
        assert_eq!(told(1, 0), "1 prior fetched");
        assert_eq!(told(2, 1), "2 priors fetched, 1 was here already");
        assert_eq!(told(0, 2), "2 priors were here already");
    }

    #[test]
    fn a_prior_of_which_something_is_missing_is_not_whole() {
        let all = |instances, asked, missing: &[&'static str]| Fetched {
            instances,
            asked,
            missing: missing.iter().map(|uid| Uid::constant(uid)).collect(),
            ..Fetched::default()
        };
        assert_eq!(whole(&all(2, 0, &[])), Ok(false));
        assert_eq!(whole(&all(2, 1, &[])), Ok(true));
        assert!(whole(&all(2, 2, &["1.2"])).is_err());
        assert!(whole(&all(0, 0, &[])).is_err());
    }
}
