//! The secondary keys: for each value that people query by, an entry that leads to the study or the
//! patient that has it.
//!
//! One table holds them all: a byte that names the attribute, the value in a form whose order is the
//! value's order, then the study's number or the patient's key. So an exact value, a prefix and a range
//! are each one range of the table. An entry only proposes a candidate; matching decides on the record.

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use pacs_core::dataset::DataSet;
use pacs_core::query::{fold_person_name, folded_groups};

use super::record::{Patient, Study};

/// Ends a value of text. No value holds it.
const END: u8 = 0;
/// Ends the modality in the entry of modality and date. No value holds it.
const MODALITY_END: u8 = 1;
/// A longer value is cut: its entry then proposes the record to every value with the same start.
const TEXT_LENGTH_MAX_BYTES: usize = 96;
/// Stands for a date that isn't written as YYYYMMDD: it is proposed to every range of dates.
const IRREGULAR_DATE: u32 = u32::MAX;

/// How the values of an attribute are written in its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Trimmed text.
    Text,
    /// Each component group of a person name, folded.
    Person,
    /// A date as the number yyyymmdd.
    Date,
    /// Modality, then study date.
    ModalityDate,
}

/// One kind of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// First byte of its entries; part of the format.
    pub(super) code: u8,
    pub(super) tag: Tag,
    pub(super) form: Form,
}

const fn kind(code: u8, tag: Tag, form: Form) -> Kind {
    Kind { code, tag, form }
}

/// Entries that lead to a study.
pub(super) const STUDY_KINDS: &[Kind] = &[
    kind(1, tags::PATIENT_ID, Form::Text),
    kind(2, tags::PATIENT_NAME, Form::Person),
    kind(3, tags::ACCESSION_NUMBER, Form::Text),
    kind(4, tags::STUDY_DATE, Form::Date),
    kind(5, tags::MODALITIES_IN_STUDY, Form::ModalityDate),
    kind(6, tags::STUDY_ID, Form::Text),
    kind(7, tags::REFERRING_PHYSICIAN_NAME, Form::Person),
    kind(8, tags::PATIENT_BIRTH_DATE, Form::Date),
    kind(9, tags::STUDY_DESCRIPTION, Form::Text),
];

/// Entries that lead to a patient.
pub(super) const PATIENT_KINDS: &[Kind] = &[
    kind(33, tags::PATIENT_NAME, Form::Person),
    kind(34, tags::PATIENT_BIRTH_DATE, Form::Date),
];

/// The kinds, a bit for each code, whose attribute stands where the entries don't look for it.
pub(super) fn kinds_below_study(series: &DataSet, instance: &DataSet) -> u64 {
    let below = |kind: &&Kind| {
        series.contains(kind.tag)
            || instance.contains(kind.tag)
            || kind.form == Form::ModalityDate && instance.contains(tags::MODALITY)
    };
    let kinds = STUDY_KINDS.iter().filter(below);
    kinds.fold(0, |bits, kind| bits | 1 << kind.code)
}

/// Appends text as it stands in an entry: cut, and without the bytes that end a value.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let bytes = &bytes[..bytes.len().min(TEXT_LENGTH_MAX_BYTES)];
    out.extend(bytes.iter().map(|&byte| byte.max(MODALITY_END + 1)));
}

/// Whether an entry of text is cut, so that it doesn't show the whole value.
pub(super) fn is_cut(text: &[u8]) -> bool {
    text.len() >= TEXT_LENGTH_MAX_BYTES
}

/// A date of form YYYYMMDD as a number.
pub(super) fn date_number(text: &str) -> u32 {
    let regular = text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit());
    if regular {
        text.parse().unwrap_or(IRREGULAR_DATE)
    } else {
        IRREGULAR_DATE
    }
}

fn text_entry(code: u8, text: &str, to: &[u8]) -> Vec<u8> {
    let mut entry = Vec::with_capacity(text.len() + to.len() + 2);
    entry.push(code);
    put_text(&mut entry, text);
    entry.push(END);
    entry.extend_from_slice(to);
    entry
}

fn date_entry(code: u8, text: &str, to: &[u8]) -> Vec<u8> {
    [&[code][..], &date_number(text).to_be_bytes(), to].concat()
}

/// The value of an entry of text or person name: between the kind and the end of the value.
pub(super) fn text_of_entry(entry: &[u8]) -> &[u8] {
    let value = entry.get(1..).unwrap_or_default();
    let end = value.iter().position(|&b| b == END).unwrap_or(value.len());
    &value[..end]
}

/// What an entry leads to: a study's number or a patient's key.
pub(super) fn target_of_entry(entry: &[u8], form: Form) -> &[u8] {
    match form {
        Form::Date => entry.get(5..),
        Form::Text | Form::Person => entry.get(text_of_entry(entry).len() + 2..),
        Form::ModalityDate => entry.len().checked_sub(4).and_then(|at| entry.get(at..)),
    }
    .unwrap_or_default()
}

fn put_entries(out: &mut Vec<Vec<u8>>, kind: &Kind, set: &DataSet, to: &[u8]) {
    match kind.form {
        Form::Text => out.extend(
            set.strings(kind.tag)
                .filter(|text| !text.is_empty())
                .map(|text| text_entry(kind.code, text, to)),
        ),
        Form::Person => {
            for name in set.strings(kind.tag) {
                let folded = fold_person_name(name);
                out.extend(folded_groups(&folded).map(|group| text_entry(kind.code, group, to)));
            }
        }
        Form::Date => out.extend(
            set.strings(kind.tag)
                .filter(|text| !text.is_empty())
                .map(|text| date_entry(kind.code, text, to)),
        ),
        Form::ModalityDate => {}
    }
}

/// The entries of a study, in ascending order.
pub(super) fn study_entries(study: &Study, number: u32) -> Vec<Vec<u8>> {
    let to = number.to_be_bytes();
    let mut out = Vec::with_capacity(12);
    for kind in STUDY_KINDS {
        put_entries(&mut out, kind, &study.patient, &to);
        put_entries(&mut out, kind, &study.study, &to);
        if kind.form == Form::ModalityDate {
            let mut dates = study.study.strings(tags::STUDY_DATE);
            let date = match (dates.next(), dates.next()) {
                (None | Some(""), None) => 0,
                (Some(date), None) => date_number(date),
                _ => IRREGULAR_DATE,
            };
            for (modality, _) in &study.modalities.0 {
                let mut entry = modality_prefix(kind.code, modality);
                entry.extend_from_slice(&date.to_be_bytes());
                entry.extend_from_slice(&to);
                out.push(entry);
            }
        }
    }
    out.sort_unstable();
    out.dedup();
    out
}

/// The entries of a patient, in ascending order.
pub(super) fn patient_entries(patient: &Patient, key: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::with_capacity(4);
    for kind in PATIENT_KINDS {
        put_entries(&mut out, kind, &patient.attributes, key);
    }
    out.sort_unstable();
    out.dedup();
    out
}

/// What the entries of one modality begin with.
pub(super) fn modality_prefix(code: u8, modality: &str) -> Vec<u8> {
    let mut prefix = vec![code];
    put_text(&mut prefix, modality);
    prefix.push(MODALITY_END);
    prefix
}

/// The key of a patient: its Patient ID, of which a very long one is cut and told apart by a hash.
pub(super) fn patient_key(id: &str) -> Vec<u8> {
    const KEPT: usize = 128;
    let bytes = id.as_bytes();
    if bytes.len() <= KEPT {
        return bytes.to_vec();
    }
    let hash = twox_hash::XxHash3_128::oneshot(bytes);
    [&bytes[..KEPT - 15], &hash.to_be_bytes()[..]].concat()
}

/// A range of keys.
#[derive(Clone)]
pub(super) struct KeyRange {
    /// None is before this.
    pub(super) from: Vec<u8>,
    /// All are before this.
    pub(super) to: Vec<u8>,
}

impl KeyRange {
    /// Every entry that begins with `prefix`.
    pub(super) fn prefix(prefix: Vec<u8>) -> Self {
        Self {
            to: after(&prefix),
            from: prefix,
        }
    }

    /// The entries of one text.
    pub(super) fn text(code: u8, text: &str) -> Self {
        let mut prefix = vec![code];
        put_text(&mut prefix, text);
        // A cut value: every value with this start.
        if text.len() < TEXT_LENGTH_MAX_BYTES {
            prefix.push(END);
        }
        Self::prefix(prefix)
    }

    /// The entries of texts with this start.
    pub(super) fn text_prefix(code: u8, text: &str) -> Self {
        let mut prefix = vec![code];
        put_text(&mut prefix, text);
        Self::prefix(prefix)
    }

    /// Regular dates from `first` to `last`, behind `prefix`.
    pub(super) fn dates(prefix: &[u8], first: u32, last: u32) -> Self {
        let last = last.min(IRREGULAR_DATE - 1);
        Self {
            from: [prefix, &first.to_be_bytes()[..]].concat(),
            to: after(&[prefix, &last.to_be_bytes()[..]].concat()),
        }
    }

    /// Dates that are not written regularly, behind `prefix`.
    pub(super) fn irregular_dates(prefix: &[u8]) -> Self {
        Self::prefix([prefix, &IRREGULAR_DATE.to_be_bytes()[..]].concat())
    }

    /// Whether an entry is inside.
    pub(super) fn contains(&self, entry: &[u8]) -> bool {
        self.from.as_slice() <= entry && entry < self.to.as_slice()
    }
}

/// The least key after all that begin with `prefix`. A prefix begins with a kind's code, which is never
/// 255, so there is one.
fn after(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end
}
