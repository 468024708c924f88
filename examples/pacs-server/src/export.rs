//! `export`: writes what is kept into a folder, as it is or de-identified.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use futures::executor::block_on;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use pacs_core::audit::{Media, Message, Outcome, OutcomeIndicator, Subject, file_uri};
use pacs_core::dataset::Element;
use pacs_core::deid::{Deidentifier, Settings};
use pacs_core::query::{Model, Query, QueryOptions};
use pacs_core::{DataSet, InstanceKey, InstanceRecord, Level, Pacs, Scope, Source, Uid, VR, tags};

use crate::config::Config;
use crate::maintain::{NAMED_MAX, say};
use crate::store;
use crate::{amend, audit};

/// What is written, and how.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The folder; files become PATIENT/STUDY/SERIES/INSTANCE.dcm in it, by their UIDs
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// What a study must match, as in a query: wild cards, ranges of dates, several UIDs with a backslash between
    /// them. More than once: all must match
    #[arg(short = 'k', long = "key", value_name = "KEYWORD=VALUE", required = true, value_parser = amend::element)]
    keys: Vec<Element>,
    /// De-identify by PS3.15 annex E, as this TOML file says: a project, its secret, and the options of its profile
    #[arg(long, value_name = "FILE")]
    deidentify: Option<PathBuf>,
}

impl Export {
    /// What de-identifies, if anything is to. The error is fit to be shown.
    pub(crate) fn deidentifier(&self) -> Result<Option<Deidentifier>, String> {
        let Some(path) = &self.deidentify else {
            return Ok(None);
        };
        let named = |error: String| format!("the profile {}: {error}", path.display());
        let text = fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
        let settings: Settings = toml::from_str(&text).map_err(|error| named(unread(&text, &error)))?;
        let made = settings.deidentifier();
        made.map(Some).map_err(|error| named(error.context().to_owned()))
    }
}

/// Why a profile can't be read. What the reader says of a value may show the secret: of that only the line is said, and
/// what was expected there.
fn unread(text: &str, error: &toml::de::Error) -> String {
    let message = error.message();
    let before = error
        .span()
        .and_then(|span| text.get(..span.start))
        .unwrap_or_default();
    let line = before.lines().count().max(1);
    // The secret is neither a name nor one of a few words.
    match ["unknown field", "missing field", "unknown variant"]
        .iter()
        .any(|known| message.starts_with(known))
    {
        true => format!("line {line}: {message}"),
        false => match message.rsplit_once(", expected ") {
            Some((_, expected)) => format!("line {line} can't be read: expected {expected}"),
            None => format!("line {line} can't be read"),
        },
    }
}

#[derive(Default)]
struct Count {
    written: u64,
    failed: u64,
    first_failed: Vec<(InstanceKey, String)>,
}

/// Answers whether all that matches was written.
pub(crate) fn run(
    config: &Config,
    pacs: &Pacs,
    wanted: &Export,
    by: Option<&Deidentifier>,
) -> Result<bool, String> {
    let mut keys = DataSet::new();
    for key in &wanted.keys {
        keys.put(key.clone());
    }
    if !keys.contains(tags::STUDY_INSTANCE_UID) {
        keys.put_text(tags::STUDY_INSTANCE_UID, VR::UI, "");
    }
    let explained = |error| store::explained(config, &error);
    let query = Query::new(Model::StudyRoot, Level::Study, keys, QueryOptions::default());
    let mut count = Count::default();
    block_on(async {
        let mut studies = pacs.find(&Source::default(), query).map_err(explained)?;
        while let Some(study) = studies.try_next().await.map_err(explained)? {
            let study = study.uid(tags::STUDY_INSTANCE_UID).map_err(explained)?;
            let leaving = Leaving::of(pacs, study, wanted, by.is_some())
                .await
                .map_err(explained)?;
            leaving.tell(pacs, Outcome::SUCCESS).await.map_err(explained)?;
            let failed_before = count.failed;
            let mut instances = pacs.instances(Scope::Study(study));
            while let Some(record) = instances.try_next().await.map_err(explained)? {
                match instance(pacs, &record, &wanted.directory, by).await {
                    Ok(()) => count.written += 1,
                    Err(Failed::Folder(why)) => {
                        leaving.failed(pacs, &why).await.map_err(explained)?;
                        return Err(why);
                    }
                    Err(Failed::Instance(why)) => {
                        count.failed += 1;
                        if count.first_failed.len() < NAMED_MAX {
                            count.first_failed.push((record.key, why));
                        }
                    }
                }
            }
            if count.failed > failed_before {
                let why = format!("{} instances were not written", count.failed - failed_before);
                leaving.failed(pacs, &why).await.map_err(explained)?;
            }
        }
        Ok(())
    })?;
    let Count {
        written,
        failed,
        first_failed,
    } = count;
    let mut text = format!("{written:>10} instances written\n{failed:>10} can't be written\n");
    for (key, why) in &first_failed {
        let _ = writeln!(text, "\n{}\n    {why}", key.instance);
    }
    if failed > NAMED_MAX as u64 {
        let _ = writeln!(text, "\nand {} more", failed - NAMED_MAX as u64);
    }
    say(&text)?;
    Ok(failed == 0)
}

/// A study that leaves, as it is recorded (PS3.15 A.5.3.4): before it does, and where it did not.
struct Leaving {
    media: Media,
    subjects: Vec<Subject>,
}

impl Leaving {
    async fn of(pacs: &Pacs, study: Uid, wanted: &Export, anonymized: bool) -> pacs_core::Result<Self> {
        let subjects = match pacs.audit().is_on() {
            true => audit::subjects(pacs, Scope::Study(study)).await?,
            false => Vec::new(),
        };
        let subjects = subjects.into_iter().map(|subject| subject.anonymized(anonymized));
        Ok(Self {
            media: Media::uri(file_uri(&wanted.directory)),
            subjects: subjects.collect(),
        })
    }

    async fn tell(&self, pacs: &Pacs, outcome: Outcome) -> pacs_core::Result<()> {
        let exported = |us| {
            let (media, subjects) = (self.media.clone(), self.subjects.clone());
            Message::data_export([audit::launcher(), us], [], media, subjects).with_outcome(outcome)
        };
        pacs.audit().submit(exported).await
    }

    async fn failed(&self, pacs: &Pacs, why: &str) -> pacs_core::Result<()> {
        self.tell(pacs, Outcome::failure(OutcomeIndicator::MinorFailure, why))
            .await
    }
}

enum Failed {
    /// Nothing more can be written.
    Folder(String),
    /// This one can't leave.
    Instance(String),
}

async fn instance(
    pacs: &Pacs,
    record: &InstanceRecord,
    directory: &Path,
    by: Option<&Deidentifier>,
) -> Result<(), Failed> {
    let (key, patient, pieces) = match by {
        None => {
            let patient = record
                .attributes
                .patient
                .string(tags::PATIENT_ID)
                .unwrap_or_default();
            (record.key, patient.to_owned(), pacs.outgoing_file(record))
        }
        Some(by) => {
            let made = pacs.deidentified(record, by).await;
            let made = made.map_err(|error| Failed::Instance(error.to_string()))?;
            (made.key, made.patient.clone(), made.into_file())
        }
    };
    let [study, series, instance] = [key.study, key.series, key.instance].map(|uid| uid.file_name());
    let folder = directory.join(folder_name(&patient)).join(study).join(series);
    let failed = |error: io::Error| Failed::Folder(format!("{}: {error}", directory.display()));
    fs::create_dir_all(&folder).map_err(failed)?;
    let unfinished = folder.join(format!(".{instance}.{}.part", Uid::random()));
    let path = folder.join(format!("{instance}.dcm"));
    let written = match write(&unfinished, pieces).await {
        Ok(()) => fs::rename(&unfinished, &path).map_err(failed),
        Err(Written::File(error)) => Err(failed(error)),
        Err(Written::Instance(why)) => Err(Failed::Instance(why)),
    };
    if written.is_err() {
        // Nothing is lost with it, and there may be none.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

enum Written {
    File(io::Error),
    Instance(String),
}

async fn write(path: &Path, mut pieces: BoxStream<'static, pacs_core::Result<Bytes>>) -> Result<(), Written> {
    let mut file = File::create(path).map_err(Written::File)?;
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| Written::Instance(error.to_string()))?;
        file.write_all(&piece).map_err(Written::File)?;
    }
    file.sync_all().map_err(Written::File)
}

/// A Patient ID as the name of a folder: whatever may mean something there is `_`.
fn folder_name(patient: &str) -> String {
    let is_safe = |c: char| c.is_alphanumeric() || "-_".contains(c);
    let name: String = patient
        .chars()
        .take(64)
        .map(|c| if is_safe(c) { c } else { '_' })
        .collect();
    if name.is_empty() { "_".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patient_id_leads_to_no_other_folder() {
        assert_eq!(folder_name("4711-A"), "4711-A");
        assert_eq!(folder_name("../etc/x"), "___etc_x");
        assert_eq!(folder_name(""), "_");
    }
}
