//! Which studies a peer has: asked in slices of dates, so that no answer is longer than what a peer gives.

use std::sync::atomic::Ordering;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use futures::TryStreamExt;
use pacs_core::{DataSet, Error, ErrorKind, Level, Result, Uid};
use tokio::sync::mpsc;

use super::days::Day;
use super::{Migration, Shared};
use crate::fetch::Finder;
use crate::util::Seen;

/// The last second of a day.
const LAST_SECOND: i32 = 86_399;

/// Asks for all studies, and hands each on once.
pub(super) struct Discovery<'a> {
    migration: &'a Migration,
    shared: &'a Shared,
    found: mpsc::Sender<Uid>,
    finder: Finder,
    seen: Seen,
}

/// Of days or of seconds. The earlier half is asked for first.
fn halve(slices: &mut Vec<(i32, i32)>, first: i32, last: i32) {
    let middle = first + (last - first) / 2;
    slices.extend([(middle + 1, last), (first, middle)]);
}

/// Times of a day from one second to another, as a key of a query (PS3.4 C.2.2.2.5). In fractions the last second goes
/// on.
fn times(first: i32, last: i32) -> String {
    let clock = |at: i32| format!("{:02}{:02}{:02}", at / 3600, at / 60 % 60, at % 60);
    format!("{}-{}.999999", clock(first), clock(last))
}

/// Which of the studies of an answer are wanted.
enum Want<'a> {
    /// As many as a slice may have.
    Few,
    All,
    /// Those without a date. Those of all that were found before are noted.
    Undated(&'a mut Seen),
}

/// An answer to one question.
#[derive(Default)]
struct Answer {
    /// Those that are wanted, and whether that is known.
    studies: Vec<(Uid, bool)>,
    /// How many were answered, as far as they were read.
    count: usize,
    /// Of which have no time.
    untimed: usize,
    /// The peer ended it before all was listed.
    is_cut: bool,
}

impl Answer {
    /// Nothing was listed: it is too much.
    fn cut() -> Self {
        Self {
            is_cut: true,
            ..Self::default()
        }
    }

    /// Whether it has all that there is, where a peer lists more than `most` at once only if it says so.
    fn is_whole(&self, most: usize) -> bool {
        !self.is_cut && self.count < most
    }
}

impl<'a> Discovery<'a> {
    pub(super) fn new(migration: &'a Migration, shared: &'a Shared, found: mpsc::Sender<Uid>) -> Self {
        Self {
            migration,
            shared,
            found,
            finder: migration.source.finder(migration.pacs.audit()),
            seen: Seen::default(),
        }
    }

    /// Until all are handed on, or nobody wants more.
    pub(super) async fn run(mut self) {
        let Migration { from, to, .. } = *self.migration;
        let mut slices = vec![(from.unwrap_or(Day::FIRST).0, to.unwrap_or(Day::LAST).0)];
        while let Some((first, last)) = slices.pop() {
            if first > last || self.shared.has_stopped() {
                continue;
            }
            let date = format!("{}-{}", Day(first), Day(last));
            let is_one = first == last;
            let answer = self
                .ask_patiently(
                    &[(tags::STUDY_DATE, VR::DA, &date)],
                    if is_one { Want::All } else { Want::Few },
                )
                .await;
            match answer {
                Ok(answer) if answer.is_whole(self.migration.slice_max) => self.hand_on(answer).await,
                // Too many, or the peer won't answer that much.
                Ok(_) if !is_one => halve(&mut slices, first, last),
                Err(error) if !is_one && error.kind() == ErrorKind::Refused => {
                    halve(&mut slices, first, last);
                }
                Ok(answer) => self.day(&date, answer).await,
                Err(error) if error.kind() == ErrorKind::Refused => self.day(&date, Answer::cut()).await,
                Err(error) => self.not_listed(date, &error),
            }
        }
        if from.is_none() && to.is_none() && !self.shared.has_stopped() {
            self.undated().await;
        }
        self.finder.close().await;
    }

    /// A day with so many studies that `answer` may not have all: with a cap of the peer some may be lacking. Those
    /// without a time are in it alone; the others are asked for in slices of times.
    async fn day(&mut self, date: &str, answer: Answer) {
        let slice_max = self.migration.slice_max;
        let (most, untimed, mut is_cut) = (answer.count, answer.untimed, answer.is_cut);
        self.hand_on(answer).await;
        // A time that hardly a study has: who answers as much to it doesn't look at times.
        match self.times(date, "235959.999999-235959.999999", Want::Few).await {
            Ok(answer) if answer.is_whole(slice_max) => {}
            Ok(_) => {
                return self.not_all(
                    date,
                    "the peer doesn't look at times, so that no less can be asked for",
                );
            }
            Err(error) => return self.not_listed(date.to_owned(), &error),
        }
        let (mut count, mut full, mut slices) = (0, Vec::new(), Vec::new());
        halve(&mut slices, 0, LAST_SECOND);
        while let Some((first, last)) = slices.pop() {
            if self.shared.has_stopped() {
                return;
            }
            let is_one = first == last;
            let time = times(first, last);
            let want = if is_one { Want::All } else { Want::Few };
            match self.times(date, &time, want).await {
                Ok(answer) if is_one || answer.is_whole(slice_max) => {
                    if !answer.is_whole(slice_max) {
                        full.push((time, answer.is_cut));
                    }
                    // Combined matching of date and time may find one without a time at any (PS3.4 C.2.2.2.5).
                    count += answer.count - answer.untimed;
                    self.hand_on(answer).await;
                }
                Err(error) if is_one || error.kind() != ErrorKind::Refused => {
                    self.not_listed(format!("{date} {time}"), &error);
                }
                _ => halve(&mut slices, first, last),
            }
        }
        is_cut |= count + untimed > most;
        for (time, is_cut_itself) in full {
            if is_cut || is_cut_itself {
                self.not_all(
                    &format!("{date} {time}"),
                    "the peer may list less of this second than it has",
                );
            }
        }
        if is_cut && untimed > 0 {
            self.not_all(
                date,
                "the peer doesn't list all at once, and some have no time to ask for",
            );
        }
    }

    /// Notes of what more may be than was listed.
    fn not_all(&self, what: &str, why: &'static str) {
        let error = Error::new(ErrorKind::Refused, "migration.list", why);
        self.not_listed(what.to_owned(), &error);
    }

    async fn times(&mut self, date: &str, time: &str, want: Want<'_>) -> Result<Answer> {
        let keys = [(tags::STUDY_DATE, VR::DA, date), (tags::STUDY_TIME, VR::TM, time)];
        self.ask_patiently(&keys, want).await
    }

    /// No range of dates finds those without one, so everything is asked for; where the peer doesn't answer all, by
    /// the first letter of the Patient ID. It has answered all when all that are known were among it.
    async fn undated(&mut self) {
        let known = self.seen.len();
        let mut again = Seen::default();
        match self.ask_patiently(&[], Want::Undated(&mut again)).await {
            Ok(answer) => self.hand_on(answer).await,
            Err(error) => tracing::warn!(%error, "the peer does not list all its studies at once"),
        }
        for letter in ('0'..='9').chain('A'..='Z').chain('a'..='z') {
            if again.len() >= known || self.shared.has_stopped() {
                return;
            }
            let key = format!("{letter}*");
            let keys = [(tags::PATIENT_ID, VR::LO, key.as_str())];
            match self.ask_patiently(&keys, Want::Undated(&mut again)).await {
                Ok(answer) => self.hand_on(answer).await,
                Err(error) => self.not_listed(format!("without a date, Patient ID {key}"), &error),
            }
        }
        if again.len() < known {
            self.not_all("without a date", "the peer does not answer all at once");
        }
    }

    fn not_listed(&self, what: String, error: &Error) {
        if error.kind() != ErrorKind::Refused {
            tracing::error!(%error, "the peer can't be asked any more: the migration stops");
            self.shared.stopped.store(true, Ordering::Relaxed);
        }
        self.shared.report().not_listed.push(format!("{what}: {error}"));
    }

    async fn hand_on(&mut self, answer: Answer) {
        for (study, is_known) in answer.studies {
            if !self.seen.insert(&study) || !(is_known || self.has_modality(&study).await) {
                continue;
            }
            if self.found.send(study).await.is_err() {
                return;
            }
        }
    }

    /// Whether a study has the modality, of a peer that does not say it of studies (it need not, PS3.4 C.6.2.1.2).
    async fn has_modality(&mut self, study: &Uid) -> bool {
        let asked = async {
            let mut keys = DataSet::new();
            keys.put_text(tags::MODALITY, VR::CS, "");
            keys.put_uid(tags::STUDY_INSTANCE_UID, study);
            keys.put_text(tags::SERIES_INSTANCE_UID, VR::UI, "");
            let series = self.finder.find(Level::Series, &keys, usize::MAX).await?;
            let modalities = series.map_ok(|set| set.string(tags::MODALITY).map(str::to_owned));
            modalities.try_collect::<Vec<_>>().await
        };
        match asked.await {
            Ok(modalities) => modalities.contains(&self.migration.modality),
            Err(error) => {
                // Rather one too many than one too few.
                tracing::warn!(%study, %error, "it is not known which modalities it has");
                true
            }
        }
    }

    /// The same question again when the association fails.
    async fn ask_patiently(
        &mut self,
        keys: &[(dicom_core::Tag, VR, &str)],
        mut want: Want<'_>,
    ) -> Result<Answer> {
        let mut tries = self.shared.tries();
        loop {
            let error = match self.ask(keys, &mut want).await {
                Ok(answer) => return Ok(answer),
                // It answered: it will answer so again.
                Err(error) if error.kind() == ErrorKind::Refused => return Err(error),
                Err(error) => error,
            };
            self.finder = self.migration.source.finder(self.migration.pacs.audit());
            if !tries.again(&error).await {
                return Err(error);
            }
        }
    }

    async fn ask(&mut self, keys: &[(dicom_core::Tag, VR, &str)], want: &mut Want<'_>) -> Result<Answer> {
        let mut set = DataSet::new();
        set.put_text(tags::STUDY_INSTANCE_UID, VR::UI, "");
        set.put_text(tags::STUDY_DATE, VR::DA, "");
        set.put_text(tags::STUDY_TIME, VR::TM, "");
        let migration = self.migration;
        let modality = migration.modality.as_deref().unwrap_or_default();
        set.put_text(tags::MODALITIES_IN_STUDY, VR::CS, modality);
        for (tag, vr, value) in keys {
            set.put_text(*tag, *vr, *value);
        }
        let limit = match want {
            Want::Few => self.migration.slice_max,
            Want::All | Want::Undated(_) => usize::MAX,
        };
        let mut matches = self.finder.find(Level::Study, &set, limit).await?;
        let mut answer = Answer::default();
        loop {
            let set = match matches.try_next().await {
                Ok(Some(set)) => set,
                Ok(None) => return Ok(answer),
                Err(error) if error.kind() == ErrorKind::Refused && answer.count > 0 => {
                    answer.is_cut = true;
                    return Ok(answer);
                }
                Err(error) => return Err(error),
            };
            answer.count += 1;
            answer.untimed += usize::from(set.string(tags::STUDY_TIME).is_none());
            let study = set.uid(tags::STUDY_INSTANCE_UID);
            let is_undated = set.string(tags::STUDY_DATE).is_none();
            if let (Want::Undated(again), Ok(study)) = (&mut *want, &study)
                && self.seen.contains(study)
            {
                again.insert(study);
            }
            let mut modalities = set.strings(tags::MODALITIES_IN_STUDY).peekable();
            // A peer that doesn't match by modality may say it all the same.
            let is_known = modality.is_empty() || modalities.peek().is_some();
            let is_other =
                !modality.is_empty() && modalities.peek().is_some() && !modalities.any(|it| it == modality);
            let is_passed_over = matches!(want, Want::Undated(_)) && !is_undated;
            if is_other || is_passed_over {
                continue;
            }
            match study {
                Ok(study) => answer.studies.push((study, is_known)),
                // It can't be asked for; the others can.
                Err(_) => self.shared.report().without_uid = true,
            }
        }
    }
}
