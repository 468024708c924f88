//! What encryption costs: instances a second that an engine takes in and gives back, on an encrypted segment archive
//! beside a plain one, turn by turn in one run.
//!
//! Run with
//! ```text
//! cargo run --release -p pacs-store --example encrypt_rate -- DIRECTORY [TURNS [BYTES]]
//! ```
//! DIRECTORY should lie on the disk in question; what is made in it is removed again. BYTES: only instances of one of the lengths. "from disk" is read after the
//! system was told to forget it, the rest from the system's memory: nothing is waited for there, so that it shows what
//! decrypting costs a processor, beside nothing but a copy. Exit code 3 when ingest or reading from disk is below 85 % of
//! the plain one. On a machine that does other work the figures say nothing.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::executor::block_on;
use futures::{TryStreamExt, stream};
use pacs_core::testkit::archive::{key, part10};
use pacs_core::{Archive, InstanceRecord, Options, Pacs, Result, Source};
use pacs_store::layers::encrypt::{Key, KeyId, KeyList};
use pacs_store::{
    EncryptOptions, EncryptedArchive, RedbIndex, RedbIndexOptions, SegmentArchive, SegmentOptions,
};

/// What a PDU of 128 KiB carries.
const CHUNK_BYTES: usize = 131_060;
/// What is held to the target.
const JUDGED: [&str; 2] = ["ingest (engine)", "read from disk (engine)"];
/// Of the rate of the plain one.
const TARGET: f64 = 0.85;
/// What an instance may be long, and how many there are in a turn.
const SIZES: [(usize, u64); 3] = [(10_000, 400), (530_000, 120), (20_000_000, 6)];
const WHAT: [&str; 5] = [
    "ingest (engine)",
    "read from disk (engine)",
    "read whole (engine)",
    "read whole (archive)",
    "read 32 KiB (archive)",
];

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let directory = PathBuf::from(arguments.next().unwrap_or_else(|| "encrypt-rate".into()));
    let turns = arguments.next().and_then(|text| text.to_str()?.parse().ok());
    let only = arguments.next().and_then(|text| text.to_str()?.parse().ok());
    match run(&directory, turns.unwrap_or(9), only) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) => {
            print(&format!("{error}"));
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stdout)]
fn print(line: &str) {
    println!("{line}");
}

/// Has the system give up what it holds of the files in memory.
fn forget(directory: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let file = std::fs::File::open(entry?.path())?;
        file.sync_all()?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    Ok(())
}

struct Side {
    segments: PathBuf,
    archive: Arc<dyn Archive>,
    pacs: Pacs,
}

impl Side {
    fn open(directory: &Path, encrypted: bool) -> Result<Self> {
        let inside = SegmentArchive::open(directory.join("archive"), SegmentOptions::default())?;
        let mut archive: Arc<dyn Archive> = Arc::new(inside);
        if encrypted {
            let keys = KeyList::new([(KeyId::parse("bench")?, Key::random()?)]);
            let layer = EncryptedArchive::open(archive, Arc::new(keys), EncryptOptions::default())?;
            archive = Arc::new(layer);
        }
        let index = RedbIndex::open(directory.join("index.redb"), RedbIndexOptions::default())?;
        let pacs = block_on(Pacs::open(
            Arc::clone(&archive),
            Arc::new(index),
            Options::default(),
        ))?;
        Ok(Self {
            segments: directory.join("archive").join("segments"),
            archive,
            pacs,
        })
    }

    fn ingest(&self, file: &Bytes) -> Result<Arc<InstanceRecord>> {
        let pieces = (0..file.len())
            .step_by(CHUNK_BYTES)
            .map(|at| Ok(file.slice(at..file.len().min(at + CHUNK_BYTES))));
        let received = block_on(self.pacs.import(Source::default(), stream::iter(pieces)))?;
        Ok(received.record)
    }

    fn read(&self, record: &InstanceRecord) -> Result<u64> {
        count(self.pacs.read(record))
    }

    fn read_inside(&self, record: &InstanceRecord, range: std::ops::Range<u64>) -> Result<u64> {
        count(self.archive.read(&record.locator, range))
    }
}

fn count(pieces: impl futures::Stream<Item = Result<Bytes>>) -> Result<u64> {
    block_on(pieces.try_fold(0, |length, piece| {
        std::future::ready(Ok(length + std::hint::black_box(piece).len() as u64))
    }))
}

/// Does `work` on each of `of`, on so many threads, and says how long all of it took.
fn timed<T: Sync, R: Send>(
    threads: usize,
    of: &[T],
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<(Vec<R>, Duration)> {
    let begun = Instant::now();
    let done: Result<Vec<Vec<R>>> = std::thread::scope(|scope| {
        let parts = of.chunks(of.len().div_ceil(threads).max(1));
        let work = &work;
        let running: Vec<_> = parts
            .map(|part| scope.spawn(move || part.iter().map(work).collect::<Result<Vec<R>>>()))
            .collect();
        let joined = running.into_iter().map(|thread| thread.join());
        joined
            .map(|done| done.unwrap_or_else(|_| Ok(Vec::new())))
            .collect()
    });
    Ok((done?.into_iter().flatten().collect(), begun.elapsed()))
}

fn run(directory: &Path, turns: u64, only: Option<usize>) -> std::result::Result<bool, Box<dyn Error>> {
    std::fs::create_dir_all(directory)?;
    let mut held = true;
    print("instance   threads   what                     plain/s  encrypted/s  encrypted MB/s   ratio");
    let sizes = SIZES
        .into_iter()
        .filter(|(length, _)| only.is_none_or(|only| only == *length));
    for (length, instances) in sizes {
        for threads in [1, 8] {
            let place = directory.join("stores");
            let sides = [
                Side::open(&place.join("plain"), false)?,
                Side::open(&place.join("encrypted"), true)?,
            ];
            let mut times: [[Vec<Duration>; 2]; 5] = Default::default();
            for turn in 0..turns {
                let files: Vec<Bytes> = (0..instances)
                    .map(|at| turn * instances + at)
                    .map(|n| part10(&key(n), length, n))
                    .collect();
                // Who begins is another one each time.
                for at in if turn % 2 == 0 { [0, 1] } else { [1, 0] } {
                    let side = &sides[at];
                    let (records, time) = timed(threads, &files, |file| side.ingest(file))?;
                    times[0][at].push(time);
                    forget(&side.segments)?;
                    for what in [1, 2] {
                        let (read, time) = timed(threads, &records, |record| side.read(record))?;
                        assert!(read.iter().all(|read| *read >= length as u64));
                        times[what][at].push(time);
                    }
                    let (_, time) = timed(threads, &records, |record| {
                        side.read_inside(record, 0..record.length)
                    })?;
                    times[3][at].push(time);
                    let (_, time) = timed(threads, &records, |record| {
                        let middle = record.length / 2;
                        side.read_inside(record, middle..middle + 32_768)
                    })?;
                    times[4][at].push(time);
                }
            }
            for (what, [plain, encrypted]) in WHAT.iter().zip(times) {
                // Turn by turn, since what else the machine does comes and goes.
                let ratios = plain.iter().zip(&encrypted);
                let ratio =
                    median(ratios.map(|(plain, encrypted)| plain.as_secs_f64() / encrypted.as_secs_f64()));
                let rate = |times: Vec<Duration>| {
                    instances as f64 / median(times.into_iter().map(|time| time.as_secs_f64()))
                };
                let (plain, encrypted) = (rate(plain), rate(encrypted));
                held &= !JUDGED.contains(what) || ratio >= TARGET;
                let megabytes = encrypted * length as f64 / 1e6;
                print(&format!(
                    "{length:>10} {threads:>7}   {what:<23} {plain:>8.0} {encrypted:>12.0} {megabytes:>15.0} {ratio:>7.2}"
                ));
            }
            for side in sides {
                side.pacs.close()?;
            }
            std::fs::remove_dir_all(place)?;
        }
    }
    std::fs::remove_dir_all(directory)?;
    Ok(held)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
