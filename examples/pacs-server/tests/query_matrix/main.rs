//! The query matrix: each kind of matching of PS3.4 C.2.2.2, at each level, in each model, asked at the
//! wire, over the same instances.
//!
//! The questions go to a real server by findscu, by pynetdicom and by our own SCU. All three must be
//! answered what a naive reference says: the same entities, with the same values. findscu has no extended
//! negotiation, so what needs it is asked by the other two alone.
//!
//! Then dcmqrscp and Orthanc are filled with the same instances and asked the same. Where they answer
//! otherwise, one of the `explanations` must say why; the test prints them with how often each applied.

mod cases;
mod clients;
#[path = "../common/mod.rs"]
mod common;
mod data;
mod differences;
mod expected;
mod explanations;
mod keys;
mod peers;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::{fs, thread};

use cases::Case;
use clients::{Asked, Outcome};
use common::{Server, directory, peer, python, tell};
use differences::Explained;
use pacs_core::Level;
use pacs_core::query::Model;
use pacs_core::testkit::reference::Reference;
use peers::OtherServer;
use tempfile::TempDir;

/// A server that holds the instances.
struct Filled {
    room: TempDir,
    files: PathBuf,
    reference: Reference,
    server: Server,
}

impl Filled {
    fn new() -> Self {
        let room = directory();
        let files = room.path().join("files");
        fs::create_dir(&files).expect("can be made");
        let instances = data::instances();
        clients::write_files(&data::described(&instances), &files);
        let filled = Self {
            server: Server::start(&room.path().join("data"), &[]),
            reference: data::reference(&instances),
            files,
            room,
        };
        clients::store(&filled.asked(), &filled.files);
        filled
    }

    fn asked(&self) -> Asked<'static> {
        Asked {
            port: self.server.port,
            title: "PACS",
        }
    }
}

#[test]
fn every_client_is_answered_what_the_reference_says() {
    if peer("findscu").is_none() || python().is_none() {
        return;
    }
    let filled = Filled::new();
    let (asked, room) = (filled.asked(), filled.room.path());
    let cases = cases::cases();
    let all: Vec<&Case> = cases.iter().collect();
    let baseline = cases.iter().filter(|case| case.is_baseline()).enumerate();
    let (ours, pynetdicom, findscu) = thread::scope(|scope| {
        let ours = scope.spawn(|| clients::ours(&asked, &all));
        let pynetdicom = scope.spawn(|| clients::pynetdicom(&asked, &all, room));
        let findscu: Vec<Outcome> = baseline
            .map(|(number, case)| clients::findscu(&asked, case, number, room))
            .collect();
        let (ours, pynetdicom) = (ours.join(), pynetdicom.join());
        (
            ours.expect("our SCU asks"),
            pynetdicom.expect("pynetdicom asks"),
            findscu,
        )
    });

    let mut findscu = findscu.into_iter();
    let mut wrong = Vec::new();
    let mut table = Table::default();
    for ((case, ours), (pynetdicom, pending)) in cases.iter().zip(&ours).zip(&pynetdicom) {
        let expected = expected::expected(&filled.reference, case, asked.title);
        let mut outcomes = vec![("our SCU", ours), ("pynetdicom", pynetdicom)];
        let findscu = case.is_baseline().then(|| findscu.next().expect("one for each"));
        outcomes.extend(findscu.as_ref().map(|outcome| ("findscu", outcome)));
        for (client, outcome) in outcomes {
            if *outcome != expected {
                wrong.push(format!(
                    "{client}: {}\n{}",
                    case.name(),
                    unlike(outcome, &expected)
                ));
            }
        }
        // FF01 says that a key could not be matched (PS3.4 C.4.1.1.4).
        let status = if case.ignored.is_empty() { 0xFF00 } else { 0xFF01 };
        if pending.iter().any(|pending| *pending != status) {
            wrong.push(format!("{}: a pending status is not {status:04X}", case.name()));
        }
        table.add(case, &expected);
    }
    let baseline = cases.iter().filter(|case| case.is_baseline()).count();
    tell(&format!(
        "{} questions, {baseline} of them also by findscu",
        cases.len()
    ));
    tell(&table.to_string());
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    table.assert_whole();
    assert!(filled.server.stop().success());
}

#[test]
fn every_difference_from_other_servers_is_explained() {
    if peer("dcmqrscp").is_none() || python().is_none() {
        return;
    }
    let filled = Filled::new();
    let cases = cases::cases();
    let cases: Vec<&Case> = cases.iter().filter(|case| case.is_baseline()).collect();
    let ours = clients::ours(&filled.asked(), &cases);
    let others = [
        Some(OtherServer::dcmqrscp(filled.room.path())),
        OtherServer::orthanc(filled.room.path()),
    ];
    for other in others.iter().flatten() {
        clients::store(&other.asked(), &filled.files);
        let theirs = clients::ours(&other.asked(), &cases);
        let mut explained = Explained::new(other.name, &filled.reference);
        for ((case, ours), theirs) in cases.iter().zip(&ours).zip(&theirs) {
            explained.add(case, &differences::between(ours, theirs));
        }
        tell(&explained.to_string());
        let unexplained = &explained.unexplained;
        assert!(
            unexplained.is_empty(),
            "{} are not explained:\n{}",
            unexplained.len(),
            unexplained.join("\n")
        );
        let unused = explained.unused();
        assert!(unused.is_empty(), "{} no longer: {unused:#?}", other.name);
    }
}

/// What two outcomes don't have in common.
fn unlike(outcome: &Outcome, expected: &Outcome) -> String {
    let (Outcome::Answers(have), Outcome::Answers(want)) = (outcome, expected) else {
        return format!("  is {}, not {}", short(outcome), short(expected));
    };
    let names: BTreeSet<&String> = have.keys().chain(want.keys()).collect();
    let mut out = Vec::new();
    for name in names {
        match (have.get(name), want.get(name)) {
            (Some(_), None) => out.push(format!("  {name} is too much")),
            (None, Some(_)) => out.push(format!("  {name} is missing")),
            (Some(have), Some(want)) => {
                let keys: BTreeSet<&String> = have.keys().chain(want.keys()).collect();
                let unlike = keys.into_iter().filter(|key| have.get(*key) != want.get(*key));
                out.extend(
                    unlike.map(|key| format!("  {name} {key}: {:?}, not {:?}", have.get(key), want.get(key))),
                );
            }
            (None, None) => {}
        }
    }
    out.join("\n")
}

fn short(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Refused => "refused".to_owned(),
        Outcome::Answers(answers) => format!("{} answers", answers.len()),
    }
}

/// How often each kind of matching was asked in each cell, and how many answers came.
#[derive(Default)]
struct Table {
    rows: BTreeMap<&'static str, BTreeMap<String, (usize, usize)>>,
}

impl Table {
    fn add(&mut self, case: &Case, expected: &Outcome) {
        let cell = self
            .rows
            .entry(case.kind)
            .or_default()
            .entry(case.cell())
            .or_default();
        cell.0 += 1;
        if let Outcome::Answers(answers) = expected {
            cell.1 += answers.len();
        }
    }

    /// Every kind that every level can be asked was asked of it, in both models, and had answers.
    fn assert_whole(&self) {
        for kind in keys::EVERY_LEVEL {
            for model in [Model::PatientRoot, Model::StudyRoot] {
                for level in model.levels() {
                    // A patient has no UID.
                    if kind == keys::UIDS && *level == Level::Patient {
                        continue;
                    }
                    let cell = cases::cell(model, *level);
                    let answers = self.rows.get(kind).and_then(|row| row.get(&cell));
                    assert!(answers.is_some_and(|(_, answers)| *answers > 0), "{kind}: {cell}");
                }
            }
        }
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cells: BTreeSet<&String> = self.rows.values().flat_map(BTreeMap::keys).collect();
        writeln!(f, "questions/answers in each cell")?;
        write!(f, "{:<38}", "")?;
        for cell in &cells {
            write!(f, "{cell:>21}")?;
        }
        for (kind, row) in &self.rows {
            write!(f, "\n{kind:<38}")?;
            for cell in &cells {
                let (questions, answers) = row.get(*cell).copied().unwrap_or_default();
                let text = if questions == 0 {
                    "-".to_owned()
                } else {
                    format!("{questions}/{answers}")
                };
                write!(f, "{text:>21}")?;
            }
        }
        Ok(())
    }
}
