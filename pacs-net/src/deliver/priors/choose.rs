//! Which studies are priors of another one: held against what the peer answers, whatever it was asked.

use std::collections::BTreeSet;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use pacs_core::{DataSet, Timestamp, Uid};

use super::Wanted;

/// Modalities of what is made of images, and not of a patient: that two studies have one of them in common says
/// nothing (the usual ones of PS3.16 CID 32).
const NOT_ACQUIRED: [&str; 20] = [
    "ANN",
    "ASMT",
    "DOC",
    "FID",
    "KO",
    "M3D",
    "PLAN",
    "PR",
    "REG",
    "RTDOSE",
    "RTINTENT",
    "RTPLAN",
    "RTRAD",
    "RTRECORD",
    "RTSEGANN",
    "RTSTRUCT",
    "SEG",
    "SMR",
    "SR",
    "TEXTUREMAP",
];

/// What is known of the study whose priors are looked for. No `Debug`: it tells who the patient is.
#[derive(Clone, Default)]
pub(super) struct Current {
    pub(super) patient_id: String,
    issuer: String,
    birth_date: String,
    date: String,
    time: String,
    modalities: BTreeSet<String>,
    body_parts: BTreeSet<String>,
}

fn text(set: &DataSet, tag: dicom_core::Tag) -> String {
    set.string(tag).unwrap_or_default().trim().to_owned()
}

/// The values of a code string, of which case tells nothing.
pub(super) fn codes(set: &DataSet, tag: dicom_core::Tag) -> impl Iterator<Item = String> + '_ {
    let values = set.strings(tag).map(|value| value.trim().to_ascii_uppercase());
    values.filter(|value| !value.is_empty())
}

pub(super) fn acquired(set: &DataSet, tag: dicom_core::Tag) -> impl Iterator<Item = String> + '_ {
    codes(set, tag).filter(|modality| !NOT_ACQUIRED.contains(&modality.as_str()))
}

fn is_date(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|it| it.is_ascii_digit())
}

impl Current {
    /// Takes in what one of its instances says.
    pub(super) fn add_instance(&mut self, header: &DataSet) {
        self.add_patient(header);
        self.add_date(&text(header, tags::STUDY_DATE), &text(header, tags::STUDY_TIME));
        self.modalities.extend(acquired(header, tags::MODALITY));
        self.body_parts.extend(codes(header, tags::BODY_PART_EXAMINED));
    }

    /// Takes in what an item of the worklist says. The Standard has no body part there (PS3.4 table K.6-1); one that
    /// is there all the same counts.
    pub(super) fn add_order(&mut self, item: &DataSet) {
        self.add_patient(item);
        self.body_parts.extend(codes(item, tags::BODY_PART_EXAMINED));
        for step in item.items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE) {
            self.add_date(
                &text(step, tags::SCHEDULED_PROCEDURE_STEP_START_DATE),
                &text(step, tags::SCHEDULED_PROCEDURE_STEP_START_TIME),
            );
            self.modalities.extend(acquired(step, tags::MODALITY));
            self.body_parts.extend(codes(step, tags::BODY_PART_EXAMINED));
        }
    }

    /// The same of all instances of a study, and of all its orders.
    fn add_patient(&mut self, set: &DataSet) {
        if self.patient_id.is_empty() {
            self.patient_id = text(set, tags::PATIENT_ID);
            self.issuer = text(set, tags::ISSUER_OF_PATIENT_ID);
            self.birth_date = text(set, tags::PATIENT_BIRTH_DATE);
        }
    }

    fn add_date(&mut self, date: &str, time: &str) {
        if is_date(date) && self.date.is_empty() {
            (self.date, self.time) = (date.to_owned(), time.to_owned());
        }
    }

    /// When it was made or is to be made; today where it doesn't say.
    fn date(&self) -> String {
        match self.date.is_empty() {
            false => self.date.clone(),
            true => Timestamp::now().date_time()[..8].to_owned(),
        }
    }

    /// The days of its priors: the first, if there is one, and the last.
    fn days(&self, wanted: &Wanted) -> (Option<String>, String) {
        let last = self.date();
        let first = wanted.years.map(|years| {
            let (year, day) = last.split_at(4);
            let year = year.parse::<u32>().unwrap_or_default().saturating_sub(years);
            // Not every year has that day.
            let day = if day == "0229" { "0228" } else { day };
            format!("{year:04}{day}")
        });
        (first, last)
    }

    /// What is asked for at the level of studies (PS3.4 C.6.2.1.2).
    pub(super) fn keys(&self, wanted: &Wanted) -> DataSet {
        let mut keys = DataSet::new();
        let (first, last) = self.days(wanted);
        let days = format!("{}-{last}", first.unwrap_or_default());
        keys.put_text(tags::PATIENT_ID, VR::LO, self.patient_id.as_str());
        keys.put_text(tags::STUDY_DATE, VR::DA, days);
        for (tag, vr) in [
            (tags::ISSUER_OF_PATIENT_ID, VR::LO),
            (tags::PATIENT_BIRTH_DATE, VR::DA),
            (tags::STUDY_INSTANCE_UID, VR::UI),
            (tags::STUDY_TIME, VR::TM),
            (tags::MODALITIES_IN_STUDY, VR::CS),
        ] {
            keys.put_text(tag, vr, "");
        }
        keys
    }

    /// Whether an answer is of the same patient: the same Patient ID; the same issuer of it and the same birth date, as
    /// far as both are told.
    fn is_of_patient(&self, answer: &DataSet) -> bool {
        let same = |ours: &str, theirs: &str| ours.is_empty() || theirs.is_empty() || ours == theirs;
        !self.patient_id.is_empty()
            && self.patient_id == text(answer, tags::PATIENT_ID)
            && same(&self.issuer, &text(answer, tags::ISSUER_OF_PATIENT_ID))
            && same(&self.birth_date, &text(answer, tags::PATIENT_BIRTH_DATE))
    }

    /// The studies among the answers that are priors as far as they tell, the newest first, each once.
    pub(super) fn candidates(&self, study: &Uid, wanted: &Wanted, answers: &[DataSet]) -> Vec<Candidate> {
        let (first, last) = self.days(wanted);
        let mut seen = BTreeSet::from([*study]);
        let mut candidates = Vec::new();
        for answer in answers.iter().filter(|answer| self.is_of_patient(answer)) {
            let (date, time) = (text(answer, tags::STUDY_DATE), text(answer, tags::STUDY_TIME));
            let Ok(uid) = answer.uid(tags::STUDY_INSTANCE_UID) else {
                continue;
            };
            // One without a date is not known to be older.
            let in_days = is_date(&date) && date <= last && first.as_ref().is_none_or(|first| *first <= date);
            if !in_days || (date == last && is_later(&time, &self.time)) || !seen.insert(uid) {
                continue;
            }
            candidates.push(Candidate {
                study: uid,
                when: (date, time),
                modalities: acquired(answer, tags::MODALITIES_IN_STUDY).collect(),
                says_modalities: answer.string(tags::MODALITIES_IN_STUDY).is_some(),
            });
        }
        candidates.sort_by(|a, b| (&b.when, &b.study).cmp(&(&a.when, &a.study)));
        candidates
    }

    pub(super) fn same_modality(&self, theirs: &BTreeSet<String>) -> bool {
        share(&self.modalities, theirs)
    }

    pub(super) fn same_body_part(&self, theirs: &BTreeSet<String>) -> bool {
        share(&self.body_parts, theirs)
    }
}

/// Whether they have one in common. Where one side says nothing, nothing speaks against it: a prior too many costs a
/// transfer, one too few perhaps a diagnosis.
fn share(ours: &BTreeSet<String>, theirs: &BTreeSet<String>) -> bool {
    ours.is_empty() || theirs.is_empty() || !ours.is_disjoint(theirs)
}

/// Whether a time of the day is later than another one, as far as both are told (PS3.5 6.2, VR TM).
fn is_later(time: &str, than: &str) -> bool {
    let both = time.len().min(than.len());
    time.as_bytes()[..both] > than.as_bytes()[..both]
}

/// A study that may be a prior.
#[derive(Clone)]
pub(super) struct Candidate {
    pub(super) study: Uid,
    when: (String, String),
    pub(super) modalities: BTreeSet<String>,
    /// The peer says which there are.
    pub(super) says_modalities: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(values: &[(dicom_core::Tag, VR, &str)]) -> DataSet {
        let mut set = DataSet::new();
        for (tag, vr, text) in values {
            set.put_text(*tag, *vr, *text);
        }
        set
    }

    fn answer(study: &str, patient: &str, date: &str, more: &[(dicom_core::Tag, VR, &str)]) -> DataSet {
        let mut set = set(more);
        set.put_text(tags::STUDY_INSTANCE_UID, VR::UI, study);
        set.put_text(tags::PATIENT_ID, VR::LO, patient);
        set.put_text(tags::STUDY_DATE, VR::DA, date);
        set
    }

    fn current(more: &[(dicom_core::Tag, VR, &str)]) -> Current {
        let mut header = set(more);
        header.put_text(tags::PATIENT_ID, VR::LO, "P1");
        header.put_text(tags::STUDY_DATE, VR::DA, "20240229");
        header.put_text(tags::STUDY_TIME, VR::TM, "1200");
        let mut current = Current::default();
        current.add_instance(&header);
        current
    }

    fn chosen(current: &Current, years: Option<u32>, answers: &[DataSet]) -> Vec<String> {
        let wanted = Wanted {
            years,
            ..Wanted::default()
        };
        let found = current.candidates(&Uid::constant("1.9"), &wanted, answers);
        found.iter().map(|it| it.study.as_str().to_owned()).collect()
    }

    #[test]
    fn priors_are_older_studies_of_the_same_patient_whatever_the_peer_answers() {
        let time = |text| [(tags::STUDY_TIME, VR::TM, text)];
        let answers = [
            answer("1.1", "P1", "20190227", &[]),
            answer("1.2", "P1", "20190228", &[]),
            answer("1.3", "P1 ", "20231231", &[]),
            answer("1.3", "P1", "20231231", &[]),
            answer("1.4", "P1", "20240229", &time("115959.5")),
            answer("1.5", "P1", "20240229", &time("120100")),
            answer("1.6", "P1", "20240301", &[]),
            answer("1.7", "P1", "", &[]),
            answer("1.9", "P1", "20200101", &[]),
            answer("1.10", "P11", "20200101", &[]),
            answer("1.11", "p1", "20200101", &[]),
            answer("1.12", "", "20200101", &[]),
            answer("no uid", "P1", "20200101", &[]),
        ];
        let current = current(&[]);
        assert_eq!(chosen(&current, None, &answers), ["1.4", "1.3", "1.2", "1.1"]);
        assert_eq!(chosen(&current, Some(5), &answers), ["1.4", "1.3", "1.2"]);
        assert_eq!(chosen(&current, Some(9999), &answers).len(), 4);
        assert_eq!(chosen(&Current::default(), None, &answers), Vec::<String>::new());
    }

    #[test]
    fn another_issuer_or_birth_date_is_another_patient_and_an_unknown_one_is_not() {
        let issuer = |text| (tags::ISSUER_OF_PATIENT_ID, VR::LO, text);
        let born = |text| (tags::PATIENT_BIRTH_DATE, VR::DA, text);
        let answers = [
            answer("1.1", "P1", "20200101", &[issuer("HERE"), born("19500101")]),
            answer("1.2", "P1", "20200102", &[issuer("THERE"), born("19500101")]),
            answer("1.3", "P1", "20200103", &[issuer("HERE"), born("19500102")]),
            answer("1.4", "P1", "20200104", &[]),
        ];
        let known = current(&[issuer("HERE"), born("19500101")]);
        assert_eq!(chosen(&known, None, &answers), ["1.4", "1.1"]);
        assert_eq!(chosen(&current(&[]), None, &answers).len(), 4);
    }

    #[test]
    fn what_is_asked_has_days_that_there_are() {
        let wanted = Wanted {
            years: Some(1),
            ..Wanted::default()
        };
        let current = current(&[]);
        let days = |wanted: &Wanted| current.keys(wanted).string(tags::STUDY_DATE).map(str::to_owned);
        assert_eq!(days(&wanted).as_deref(), Some("20230228-20240229"));
        assert_eq!(days(&Wanted::default()).as_deref(), Some("-20240229"));
    }

    #[test]
    fn what_one_side_does_not_say_speaks_against_nothing() {
        let current = current(&[(tags::MODALITY, VR::CS, "CT")]);
        let all = |codes: &[&str]| codes.iter().map(|code| (*code).to_owned()).collect();
        assert!(current.same_modality(&all(&["MR", "CT"])) && current.same_modality(&all(&[])));
        assert!(!current.same_modality(&all(&["MR"])));
        assert!(current.same_body_part(&all(&["HEAD"])));
        // A report is of no modality.
        let header = set(&[(tags::MODALITIES_IN_STUDY, VR::CS, "MR\\SR\\ct ")]);
        assert_eq!(
            acquired(&header, tags::MODALITIES_IN_STUDY).collect::<Vec<_>>(),
            ["MR", "CT"]
        );
    }
}
