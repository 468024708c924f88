//! DICOMweb: this server beside Orthanc with its plugin, as Debian has them, both with their defaults.

mod client;
mod multiframe;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use client::{Answer, Client};

use crate::disk;
use crate::profile;
use crate::servers::{Kind, Server};
use crate::set::{self, Set, Shape};
use crate::table::{Row, Sample, Table, Target, median};
use crate::{PACS, chosen};

const STOW: &str = "STOW-RS, 10 slices a request";
const STUDY: &str = "WADO-RS, a study of 1,000 slices";
const METADATA_FIRST: &str = "series metadata of 1,000 instances, first after start";
const METADATA: &str = "series metadata of 1,000 instances, again";
const FRAME: &str = "one frame of 100 in JPEG, as stored, one by one";
const RENDERED: &str = "one frame of 100 in JPEG, rendered as JPEG";
const SEARCH: &str = "QIDO-RS, 1,000 searches for studies";

/// All of them, in the order in which they are asked.
const CASES: [&str; 7] = [STOW, METADATA_FIRST, METADATA, STUDY, FRAME, RENDERED, SEARCH];

/// Behind the cases of DIMSE in the table.
const FIRST_CASE: usize = 100;
const ORTHANC: &str = "Orthanc";

const fn target(meaning: &'static str, what: &'static str, at_least: f64) -> Target {
    Target {
        meaning,
        ours: (what, PACS),
        theirs: (what, ORTHANC),
        at_least,
    }
}

/// What must be reached.
pub(crate) const TARGETS: &[Target] = &[
    target("a whole study by WADO-RS, times Orthanc", STUDY, 2.0),
    target(
        "series metadata, first after start, times Orthanc",
        METADATA_FIRST,
        5.0,
    ),
    target("series metadata, times Orthanc", METADATA, 5.0),
    target("a single frame of 100, times Orthanc", FRAME, 10.0),
    target("1,000 searches for studies, times Orthanc", SEARCH, 5.0),
];
/// Orthanc's peak memory is so many times this server's, or more.
const MEMORY_AT_LEAST: f64 = 5.0;

/// A series that the metadata is asked for, the frames, and the studies that are searched among.
pub(crate) struct Sets {
    series: Set,
    many: Set,
    frames: Vec<u8>,
    frame_count: u16,
    searches: usize,
}

impl Sets {
    pub(crate) fn generate(directory: &Path, quick: bool) -> Result<Self, Box<dyn Error>> {
        let (instances, side, studies, frame_count, frame_side, searches) = match quick {
            true => (12, 64, 5, 5, 64, 20),
            false => (1000, 512, 200, 100, 1024, 1000),
        };
        let shape = Shape {
            studies: 1,
            instances_per_study: instances,
            instances_per_series: instances,
            rows: side,
            columns: side,
        };
        let many = Shape {
            studies,
            instances_per_study: 2,
            instances_per_series: 1,
            rows: 72,
            columns: 64,
        };
        Ok(Self {
            series: set::generate(&directory.join("series"), shape, 2027)?,
            many: set::generate(&directory.join("many"), many, 2028)?,
            frames: multiframe::generate(frame_count, frame_side)?,
            frame_count,
            searches,
        })
    }

    /// Whether a case of these is wanted.
    pub(crate) fn wanted(only: &[String]) -> bool {
        CASES.iter().any(|what| chosen(only, what))
    }
}

/// Peak memory of each server, in bytes, round by round.
#[derive(Default)]
pub(crate) struct Memory(BTreeMap<&'static str, Vec<u64>>);

impl Memory {
    /// One line for each server, one for the ratio, and whether that holds.
    pub(crate) fn judge(&self) -> (String, bool) {
        let mut text = String::new();
        let of = |who: &str| -> Option<f64> {
            let peaks = self.0.get(who)?.iter();
            Some(median(
                peaks.map(|peak| *peak as f64 / f64::from(1 << 20)).collect(),
            ))
        };
        for who in self.0.keys() {
            // Writing to a String can't fail.
            let _ = writeln!(
                text,
                "peak memory over all of DICOMweb: {who} {:.0} MiB",
                of(who).unwrap_or(f64::NAN)
            );
        }
        let (Some(ours), Some(theirs)) = (of(PACS), of(ORTHANC)) else {
            return (text, true);
        };
        let ratio = theirs / ours;
        let holds = ratio >= MEMORY_AT_LEAST;
        let verdict = if holds { "holds " } else { "MISSED" };
        let _ = writeln!(
            text,
            "{verdict}  peak memory, Orthanc's times ours: {ratio:.2} (at least {MEMORY_AT_LEAST})"
        );
        (text, holds)
    }
}

/// A server that is asked, and what it held before it was started again.
struct Asked {
    server: Server,
    client: Client,
    peak: u64,
}

/// All cases of both servers, once; in each case one server after the other.
pub(crate) fn round(
    kinds: &[Kind],
    only: &[String],
    sets: &Sets,
    room: &Path,
    (table, memory, profiles): (&mut Table, &mut Memory, &mut String),
) -> Result<(), Box<dyn Error>> {
    let mut asked = Vec::new();
    for kind in kinds
        .iter()
        .filter(|kind| matches!(kind, Kind::Pacs | Kind::Orthanc))
    {
        let server = Server::start_web(*kind, room)?;
        let client = Client::new(server.http);
        asked.push(Asked {
            server,
            client,
            peak: 0,
        });
    }
    for (number, what) in CASES.iter().enumerate() {
        // Nothing can be asked of servers that hold nothing.
        if *what != STOW && !chosen(only, what) {
            continue;
        }
        for asked in &mut asked {
            let who = asked.server.kind.name();
            if *what == METADATA_FIRST {
                asked.start_again()?;
            }
            disk::settle(room)?;
            let before = profile::threads(asked.server.process.id())?;
            let (objects, bytes, took) = asked
                .case(what, sets)
                .map_err(|error| format!("{what} of {who}: {error}\nits log:\n{}", asked.server.log()))?;
            if asked.server.kind == Kind::Pacs {
                let after = profile::threads(asked.server.process.id())?;
                profiles.push_str(&profile::render(what, took, &before, &after));
            }
            if chosen(only, what) {
                let sample = Sample { objects, bytes, took };
                let case = FIRST_CASE + number;
                table.add(Row { case, what, who }, sample);
            }
            if *what == STOW {
                asked.fill(sets)?;
            }
        }
    }
    for asked in asked {
        let peak = asked.peak.max(asked.server.process.peak_memory()?);
        memory.0.entry(asked.server.kind.name()).or_default().push(peak);
    }
    Ok(())
}

/// How many objects and bytes came or went, and how long that took.
type Measured = (usize, u64, Duration);

const DICOM: &str = "multipart/related; type=\"application/dicom\"; transfer-syntax=*";
const JSON: &str = "application/dicom+json";

impl Asked {
    fn start_again(&mut self) -> io::Result<()> {
        self.peak = self.peak.max(self.server.process.peak_memory()?);
        self.server.start_again()?;
        self.client = Client::new(self.server.http);
        Ok(())
    }

    /// What is neither measured nor in the measured set: the frames, and the studies to search among.
    fn fill(&mut self, sets: &Sets) -> io::Result<()> {
        self.store(&[&sets.frames])?;
        self.store_set(&sets.many, 20)?;
        Ok(())
    }

    fn case(&mut self, what: &str, sets: &Sets) -> io::Result<Measured> {
        let study = &sets.series.studies[0].uid;
        let begin = Instant::now();
        let (objects, bytes) = match what {
            STOW => (sets.series.instances, self.store_set(&sets.series, 10)?),
            STUDY => {
                let answer = self.get(&format!("studies/{study}"), DICOM, b"\r\nContent-Type:")?;
                if answer.bytes < sets.series.bytes {
                    return Err(wrong(&answer));
                }
                (sets.series.instances, answer.bytes)
            }
            METADATA_FIRST | METADATA => {
                let path = format!("studies/{study}/series/{study}.1/metadata");
                let answer = self.get(&path, JSON, b"\"00080018\"")?;
                if answer.count != sets.series.instances {
                    return Err(wrong(&answer));
                }
                (answer.count, answer.bytes)
            }
            FRAME => {
                let accept = format!(
                    "multipart/related; type=\"image/jpeg\"; transfer-syntax={}",
                    multiframe::JPEG_BASELINE
                );
                self.frames(sets, "", &accept)?
            }
            RENDERED => self.frames(sets, "/rendered", "image/jpeg")?,
            SEARCH => {
                let mut bytes = 0;
                for number in 0..sets.searches {
                    let answer = self.get(&search(sets, number), JSON, b"\"0020000D\"")?;
                    if answer.count != 1 {
                        return Err(wrong(&answer));
                    }
                    bytes += answer.bytes;
                }
                (sets.searches, bytes)
            }
            other => unreachable!("{other} is none of the cases"),
        };
        Ok((objects, bytes, begin.elapsed()))
    }

    /// Every frame, each in a request of its own.
    fn frames(&mut self, sets: &Sets, suffix: &str, accept: &str) -> io::Result<(usize, u64)> {
        let (study, series, instance) = (multiframe::STUDY, multiframe::SERIES, multiframe::INSTANCE);
        let mut bytes = 0;
        for number in 1..=sets.frame_count {
            let path =
                format!("studies/{study}/series/{series}/instances/{instance}/frames/{number}{suffix}");
            let answer = self.get(&path, accept, b"\xFF\xD8\xFF")?;
            if answer.count != 1 {
                return Err(wrong(&answer));
            }
            bytes += answer.bytes;
        }
        Ok((sets.frame_count.into(), bytes))
    }

    fn get(&mut self, path: &str, accept: &str, counted: &[u8]) -> io::Result<Answer> {
        let answer = self.client.get(&format!("/dicom-web/{path}"), accept, counted)?;
        match answer.status {
            200 => Ok(answer),
            _ => Err(wrong(&answer)),
        }
    }

    /// Stores all files of a set, so many in a request; answers how many bytes went.
    fn store_set(&mut self, set: &Set, at_once: usize) -> io::Result<u64> {
        for study in &set.studies {
            let mut paths: Vec<_> = fs::read_dir(&study.directory)?
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<io::Result<_>>()?;
            paths.sort();
            for paths in paths.chunks(at_once) {
                let files: Vec<Vec<u8>> = paths.iter().map(fs::read).collect::<io::Result<_>>()?;
                let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
                self.store(&files)?;
            }
        }
        Ok(set.bytes)
    }

    fn store(&mut self, files: &[&[u8]]) -> io::Result<()> {
        const MEDIA_TYPE: &str = "multipart/related; type=\"application/dicom\"; boundary=peers-bench";
        let mut body: Vec<&[u8]> = Vec::new();
        for file in files {
            body.push(b"--peers-bench\r\nContent-Type: application/dicom\r\n\r\n");
            body.push(file);
            body.push(b"\r\n");
        }
        body.push(b"--peers-bench--\r\n");
        let answer = self.client.post("/dicom-web/studies", MEDIA_TYPE, &body)?;
        match answer.status {
            200 => Ok(()),
            _ => Err(wrong(&answer)),
        }
    }
}

/// Each finds one study: by its UID, by patient, by accession number, by the beginning of a name.
fn search(sets: &Sets, number: usize) -> String {
    // The first has the patient and the accession number of the set that is measured.
    let at = number % (sets.many.studies.len() - 1) + 1;
    let study = at + 1;
    match number % 4 {
        0 => format!("studies?StudyInstanceUID={}", sets.many.studies[at].uid),
        1 => format!(
            "studies?PatientID=PAT{study:05}&StudyDate=20260101-20260131&includefield=StudyDescription"
        ),
        2 => format!(
            "studies?00080050=ACC{study:05}&StudyInstanceUID={}",
            sets.many.studies[at].uid
        ),
        _ => format!("studies?PatientName=Generated^Patient{study:03}*&PatientID=PAT{study:05}&limit=10"),
    }
}

fn wrong(answer: &Answer) -> io::Error {
    io::Error::other(format!("a wrong answer: {answer:?}"))
}
