//! `import DIR`: takes in every file below a directory, several at once.
//!
//! An import that was interrupted goes on where it was: what is kept already is recognized, and a
//! [journal] spares reading it again.

mod file;
mod journal;
mod report;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use indicatif::{ProgressBar, ProgressStyle};
use pacs_core::audit::{Media, Message, Subjects, file_uri};
use pacs_core::{Error, InstanceRecord, Pacs, Result as CoreResult};
use walkdir::WalkDir;

use journal::{Journal, Mark};
use report::Report;

use crate::audit::launcher;

/// Files that wait for a worker: enough to keep all of them busy.
const QUEUE: usize = 256;

/// A file to import.
struct Job {
    path: PathBuf,
    length: u64,
    mark: Mark,
}

/// Imports what lies below `directory` with `workers` threads. `journals` is a directory of our own.
/// Answers whether everything was taken in.
pub(crate) fn run(pacs: &Pacs, directory: &Path, workers: usize, journals: &Path) -> Result<bool, String> {
    let directory = fs::canonicalize(directory)
        .map_err(|error| format!("{} can't be imported: {error}", directory.display()))?;
    fs::create_dir_all(journals).map_err(|error| format!("{}: {error}", journals.display()))?;
    let journal = Journal::open(journals, &directory).map_err(|error| format!("the journal: {error}"))?;

    let bar = progress(&directory)?;
    let report = Mutex::new(Report::default());
    let journal = Mutex::new(journal);
    let (jobs, queue) = mpsc::sync_channel(QUEUE);
    // The workers' alone: when all have ended, nobody waits to hand on more.
    let queue = Arc::new(Mutex::new(queue));
    let media = Media::uri(file_uri(&directory));
    let unrecorded = AtomicBool::new(false);
    thread::scope(|scope| {
        for at in 0..workers {
            let queue = Arc::clone(&queue);
            let (report, bar, unrecorded) = (&report, &bar, &unrecorded);
            let mut taken = Taken::new(pacs, &media, &journal);
            // A thread that can't be started leaves the work to the others; the first one is needed.
            let started = thread::Builder::new()
                .name(format!("import-{at}"))
                .spawn_scoped(scope, move || {
                    work(pacs, &queue, &mut taken, (report, bar, unrecorded))
                });
            if let (0, Err(error)) = (at, started) {
                return Err(format!("a thread can't be started: {error}"));
            }
        }
        drop(queue);
        enqueue(&directory, jobs, &journal, &report, &bar);
        Ok(())
    })?;
    bar.finish_and_clear();

    let report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    let journal = journal.into_inner().unwrap_or_else(PoisonError::into_inner);
    // An engine that failed, a full disk: the same import is worth another call, which then goes on.
    let closed = if report.failed() {
        journal.keep()
    } else {
        journal.finish()
    };
    closed.map_err(|error| format!("the journal: {error}"))?;
    write!(io::stdout(), "{report}").map_err(|error| error.to_string())?;
    Ok(report.complete())
}

/// A bar that knows how much there is: the directory is walked twice, so that nothing is held for
/// each file.
fn progress(directory: &Path) -> Result<ProgressBar, String> {
    let (mut files, mut bytes) = (0u64, 0u64);
    for entry in WalkDir::new(directory).into_iter().filter_map(Result::ok) {
        if entry.file_type().is_file() {
            files += 1;
            bytes += entry.metadata().map_or(0, |metadata| metadata.len());
        }
    }
    let bar = ProgressBar::new(bytes);
    let style = "{bar:30} {bytes} of {total_bytes}, {msg}, {binary_bytes_per_sec}, {eta} remaining";
    bar.set_style(ProgressStyle::with_template(style).map_err(|error| error.to_string())?);
    bar.set_message(format!("{files} files"));
    Ok(bar)
}

/// Hands every file to the workers, but what the journal holds.
fn enqueue(
    directory: &Path,
    jobs: SyncSender<Job>,
    journal: &Mutex<Journal>,
    report: &Mutex<Report>,
    bar: &ProgressBar,
) {
    let report =
        |change: &dyn Fn(&mut Report)| change(&mut report.lock().unwrap_or_else(PoisonError::into_inner));
    for entry in WalkDir::new(directory).sort_by_file_name() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let path = error.path().unwrap_or(directory).to_owned();
                report(&|report| report.unreadable(&path, "can't be read"));
                continue;
            }
        };
        if !entry.file_type().is_file() {
            continue;
        }
        let Ok(metadata) = entry.metadata() else {
            report(&|report| report.unreadable(entry.path(), "can't be read"));
            continue;
        };
        let mark = Mark::of(entry.path(), &metadata);
        let known = journal.lock().unwrap_or_else(PoisonError::into_inner).holds(mark);
        if known {
            report(&Report::resumed);
            bar.inc(metadata.len());
            continue;
        }
        let job = Job {
            path: entry.into_path(),
            length: metadata.len(),
            mark,
        };
        if jobs.send(job).is_err() {
            // All workers are gone: what they take in can't be recorded, or they panicked, which the scope passes on.
            return;
        }
    }
}

fn work(
    pacs: &Pacs,
    queue: &Mutex<Receiver<Job>>,
    taken: &mut Taken<'_>,
    (report, bar, unrecorded): (&Mutex<Report>, &ProgressBar, &AtomicBool),
) {
    let report =
        |change: &dyn Fn(&mut Report)| change(&mut report.lock().unwrap_or_else(PoisonError::into_inner));
    let failed = |error: Error| {
        unrecorded.store(true, Ordering::Relaxed);
        report(&|report| report.unrecorded(&error));
    };
    // Where one can't record what it took in, no other one can.
    while !unrecorded.load(Ordering::Relaxed) {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let recorded = match next {
            Ok(job) => {
                let outcome = file::import(pacs, &job.path, |bytes| bar.inc(bytes));
                bar.inc(job.length.saturating_sub(outcome.bytes));
                report(&|report| report.add(&job.path, &outcome));
                match &outcome.result {
                    Ok(received) => taken.add(&received.record, job.mark),
                    Err(_) => Ok(()),
                }
            }
            Err(_) => return taken.tell().unwrap_or_else(failed),
        };
        if let Err(error) = recorded {
            return failed(error);
        }
    }
}

/// Files that one thread took in, and that nothing is told of yet: they stand in the journal when they are recorded for
/// audit.
struct Taken<'a> {
    pacs: &'a Pacs,
    media: &'a Media,
    journal: &'a Mutex<Journal>,
    subjects: Subjects,
    marks: Vec<Mark>,
}

/// So many are told of together.
const TOGETHER_MAX: usize = 256;

impl<'a> Taken<'a> {
    fn new(pacs: &'a Pacs, media: &'a Media, journal: &'a Mutex<Journal>) -> Self {
        Self {
            pacs,
            media,
            journal,
            subjects: Subjects::default(),
            marks: Vec::new(),
        }
    }

    fn add(&mut self, record: &InstanceRecord, mark: Mark) -> CoreResult<()> {
        if self.pacs.audit().is_on() {
            self.subjects.add(record);
        }
        self.marks.push(mark);
        match self.marks.len() < TOGETHER_MAX {
            true => Ok(()),
            false => self.tell(),
        }
    }

    /// Records them (PS3.15 A.5.3.5), and notes them in the journal.
    fn tell(&mut self) -> CoreResult<()> {
        let subjects = std::mem::take(&mut self.subjects).take();
        if !subjects.is_empty() {
            let imported = |us| Message::data_import([launcher(), us], [], self.media.clone(), subjects);
            self.pacs.audit().record(imported)?;
        }
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        for mark in self.marks.drain(..) {
            if let Err(error) = journal.add(mark) {
                tracing::warn!(%error, "the import's journal can't be written; an interrupted import reads all again");
            }
        }
        Ok(())
    }
}
