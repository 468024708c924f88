//! Who asks: findscu, pynetdicom, and our own SCU; and what they are answered, in one form.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::process::Command;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::{tags, uids};
use futures::StreamExt as _;
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::{Element, part10, scan};
use pacs_core::query::{Model, QueryOptions};
use pacs_core::testkit::reference::name_of_answer;
use pacs_core::{AeTitle, DataSet, ErrorKind, Level, Uid};
use pacs_net::dimse::Client;
use pacs_net::scu::{self, Remote};
use serde_json::{Map, Value, json};

use crate::cases::Case;
use crate::common::{dcmtk, python, script, succeed};

/// A server that is asked.
pub(crate) struct Asked<'a> {
    pub(crate) port: u16,
    pub(crate) title: &'a str,
}

/// An answered entity: by tag (GGGGEEEE), text with `\` between values or the items of a sequence.
pub(crate) type Answer = Map<String, Value>;

/// What came of a question.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// By the name that [`name_of_answer`] gives the entity.
    Answers(BTreeMap<String, Answer>),
    /// A failure.
    Refused,
}

impl Outcome {
    /// Of answers in one form. One entity that is answered twice fails the test.
    pub(crate) fn of(level: Level, answers: impl IntoIterator<Item = Answer>) -> Self {
        let mut named = BTreeMap::new();
        for answer in answers {
            let name = name(level, &answer);
            let twice = named.insert(name.clone(), answer);
            assert!(twice.is_none(), "{name} is answered twice");
        }
        Self::Answers(named)
    }
}

/// As a key of JSON.
pub(crate) fn key(tag: Tag) -> String {
    format!("{:04X}{:04X}", tag.group(), tag.element())
}

/// A data set as tests/python/query_matrix.py reads it.
pub(crate) fn described(set: &DataSet) -> Value {
    let described = |element: &Element| {
        let value = match element.vr {
            VR::SQ => set.items(element.tag).iter().map(described).collect(),
            _ => text(element, "\\"),
        };
        json!([key(element.tag), element.vr.to_string(), value])
    };
    set.iter().map(described).collect()
}

fn text(element: &Element, between: &str) -> Value {
    if element.vr == VR::US {
        let bytes = element.bytes().first_chunk();
        return bytes
            .map(|bytes| u16::from_le_bytes(*bytes).to_string())
            .unwrap_or_default()
            .into();
    }
    let values: Vec<&str> = element.strings().collect();
    values.join(between).trim().into()
}

/// A data set in the one form. The set that its text was encoded in is left out.
pub(crate) fn in_one_form(set: &DataSet) -> Answer {
    let mut out = Answer::new();
    for element in set.iter().filter(|e| e.tag != tags::SPECIFIC_CHARACTER_SET) {
        let value = match element.vr {
            VR::SQ => set.items(element.tag).iter().map(in_one_form).collect(),
            _ => text(element, "\\"),
        };
        out.insert(key(element.tag), value);
    }
    out
}

fn name(level: Level, answer: &Answer) -> String {
    let mut set = DataSet::new();
    for tag in [
        tags::PATIENT_ID,
        tags::STUDY_INSTANCE_UID,
        tags::SERIES_INSTANCE_UID,
        tags::SOP_INSTANCE_UID,
    ] {
        let value = answer.get(&key(tag)).and_then(Value::as_str);
        set.put_text(tag, VR::LO, value.unwrap_or_default());
    }
    name_of_answer(level, &set)
}

fn find_class(model: Model) -> Uid {
    Uid::constant(match model {
        Model::PatientRoot => uids::PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND,
        Model::StudyRoot => uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND,
    })
}

/// The bytes of SOP class extended negotiation (PS3.4 C.5.1.1).
fn negotiation(options: QueryOptions) -> [u8; 7] {
    [
        options.relational.into(),
        options.combined_date_time.into(),
        options.fuzzy_person_names.into(),
        0,
        0,
        0,
        options.multiple_values.into(),
    ]
}

/// Asks by our own SCU, each question with what it negotiates.
pub(crate) fn ours(asked: &Asked<'_>, cases: &[&Case]) -> Vec<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime can be made");
    runtime.block_on(async {
        let title = |text| AeTitle::parse(text).expect("is a title");
        let remote = Remote::new("127.0.0.1", asked.port, title(asked.title), title("MATRIX"));
        let mut out = Vec::new();
        let mut client: Option<(Model, QueryOptions, Client)> = None;
        for case in cases {
            let reuse = client
                .take()
                .filter(|(model, options, _)| (*model, *options) == (case.model, case.options));
            let (.., now) = match reuse {
                Some(same) => client.insert(same),
                None => {
                    let class = find_class(case.model);
                    let mut proposal = remote.proposal().with_context(class, scu::NATIVE.iter());
                    if !case.is_baseline() {
                        let information = negotiation(case.options).to_vec();
                        proposal = proposal.with_extended(class, information.into());
                    }
                    let new = remote.client(&proposal).await.expect("the server associates");
                    client.insert((case.model, case.options, new))
                }
            };
            out.push(ours_once(now, case).await);
        }
        out
    })
}

async fn ours_once(client: &Client, case: &Case) -> Outcome {
    let identifier = scu::identifier(case.level, &case.keys);
    let found = scu::find(client, case.model, &identifier).await;
    let mut found = found.expect("the request is sent");
    let mut answers = Vec::new();
    while let Some(answer) = found.next().await {
        match answer {
            Ok(answer) => answers.push(in_one_form(&answer)),
            Err(error) if error.kind() == ErrorKind::Refused => return Outcome::Refused,
            Err(error) => panic!("{}: {error}", case.name()),
        }
    }
    Outcome::of(case.level, answers)
}

/// Asks by findscu, which negotiates nothing. `number` chooses the transfer syntaxes that it proposes.
pub(crate) fn findscu(asked: &Asked<'_>, case: &Case, number: usize, room: &Path) -> Outcome {
    let room = tempfile::tempdir_in(room).expect("a directory can be made");
    let mut findscu = dcmtk("findscu");
    findscu.args([
        "-v",
        "-X",
        "-aec",
        asked.title,
        ["-x=", "-xi", "-xb"][number % 3],
        match case.model {
            Model::PatientRoot => "-P",
            Model::StudyRoot => "-S",
        },
        "-od",
    ]);
    findscu.arg(room.path());
    findscu_key(
        &mut findscu,
        format!("(0008,0052)={}", case.level.as_str()).into_bytes(),
    );
    let charset = CharacterSet::parse(case.charset);
    findscu_key(
        &mut findscu,
        format!("(0008,0005)={}", charset.value()).into_bytes(),
    );
    findscu_keys(&mut findscu, "", &case.keys, &charset);
    findscu.args(["127.0.0.1", &asked.port.to_string()]);
    let output = findscu.output().expect("findscu starts");
    let log = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let (_, status) = log
        .split_once("Received Final Find Response (")
        .unwrap_or_else(|| panic!("{}: {log}", case.name()));
    if !status.starts_with("Success") {
        assert!(status.starts_with("Error") || status.starts_with("Fail"), "{log}");
        return Outcome::Refused;
    }
    let files = fs::read_dir(room.path()).expect("can be listed");
    let answers = files.map(|file| {
        let bytes = fs::read(file.expect("can be listed").path()).expect("can be read");
        let meta = part10::read_meta(&bytes, true)
            .expect("is a DICOM file")
            .expect("is whole");
        let data_set = bytes.get(meta.data_set_offset as usize..).expect("is whole");
        in_one_form(&scan::parse(data_set, &meta.transfer_syntax).expect("is a data set"))
    });
    Outcome::of(case.level, answers)
}

fn findscu_key(findscu: &mut Command, key: Vec<u8>) {
    findscu.arg("-k").arg(OsString::from_vec(key));
}

fn findscu_keys(findscu: &mut Command, above: &str, keys: &DataSet, charset: &CharacterSet) {
    for element in keys.iter() {
        let path = format!("{above}{}", element.tag);
        if element.vr == VR::SQ {
            if keys.items(element.tag).is_empty() {
                findscu_key(findscu, path.clone().into_bytes());
            }
            for (at, item) in keys.items(element.tag).iter().enumerate() {
                findscu_keys(findscu, &format!("{path}[{at}]."), item, charset);
            }
            continue;
        }
        let text = text(element, "\\");
        let text = text.as_str().unwrap_or_default();
        let mut key = format!("{path}=").into_bytes();
        key.extend(charset.encode(text).expect("the set can say the key"));
        findscu_key(findscu, key);
    }
}

/// Asks by pynetdicom, each question with what it negotiates. Also answers the statuses of the pending
/// responses.
pub(crate) fn pynetdicom(asked: &Asked<'_>, cases: &[&Case], room: &Path) -> Vec<(Outcome, Vec<u64>)> {
    let described = cases.iter().map(|case| {
        let mut keys = case.keys.clone();
        keys.put_text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, case.level.as_str());
        json!({
            "class": find_class(case.model).as_str(),
            "negotiation": (!case.is_baseline()).then(|| negotiation(case.options).to_vec()),
            "charset": case.charset,
            "elements": described(&keys),
        })
    });
    let questions = room.join("questions.json");
    fs::write(&questions, described.collect::<Value>().to_string()).expect("is written");
    let mut python = python().expect("it was there before");
    python.arg(script("query_matrix.py")).arg("ask");
    python
        .args([asked.title, &asked.port.to_string()])
        .arg(&questions);
    let printed = succeed(python);
    let rows = printed.lines().filter(|line| line.starts_with('{'));
    let rows: Vec<Value> = rows
        .map(|row| serde_json::from_str(row).expect("a row is JSON"))
        .collect();
    assert_eq!(rows.len(), cases.len(), "{printed}");
    let outcomes = cases.iter().zip(&rows).map(|(case, row)| {
        let numbers = row["pending"].as_array().into_iter().flatten();
        let pending = numbers.filter_map(Value::as_u64).collect();
        if row["status"] != 0 {
            return (Outcome::Refused, pending);
        }
        let answers = row["answers"].as_array().into_iter().flatten();
        let answers = answers.map(|answer| answer.as_object().expect("an answer is an object").clone());
        (Outcome::of(case.level, answers), pending)
    });
    outcomes.collect()
}

/// Writes the instances into files, by pydicom.
pub(crate) fn write_files(instances: &Value, directory: &Path) {
    let spec = directory.with_extension("json");
    fs::write(&spec, instances.to_string()).expect("is written");
    let mut python = python().expect("it was there before");
    python
        .arg(script("query_matrix.py"))
        .arg("write")
        .arg(spec)
        .arg(directory);
    succeed(python);
}

/// Sends all files of a directory.
pub(crate) fn store(asked: &Asked<'_>, directory: &Path) {
    let mut dcmsend = dcmtk("dcmsend");
    dcmsend.args(["+sd", "-aec", asked.title, "127.0.0.1", &asked.port.to_string()]);
    dcmsend.arg(directory);
    succeed(dcmsend);
}
