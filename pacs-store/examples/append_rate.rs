//! How close the segment archive comes to the disk: durable commits a second, beside the disk's own
//! rate of append and fdatasync, measured in the same run.
//!
//! Run with
//! ```text
//! cargo run --release -p pacs-store --example append_rate -- DIRECTORY [SECONDS]
//! ```
//! DIRECTORY should lie on the disk in question; what is made in it is removed again. Each writer
//! stores one instance after the other and waits for each commit, as a sender without an asynchronous
//! window does. Compare figures of one run only: a disk's rate moves from minute to minute.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::executor::block_on;
use pacs_core::{Archive, InstanceKey, Result, Uid};
use pacs_store::{SegmentArchive, SegmentOptions};

/// What a PDU of 128 KiB carries.
const CHUNK_BYTES: usize = 131_060;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let directory = PathBuf::from(arguments.next().unwrap_or_else(|| "append-rate".into()));
    let seconds = arguments
        .next()
        .and_then(|text| text.to_str()?.parse().ok())
        .unwrap_or(2.0);
    match run(&directory, Duration::from_secs_f64(seconds)) {
        Ok(()) => ExitCode::SUCCESS,
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

fn run(directory: &Path, time: Duration) -> std::result::Result<(), Box<dyn std::error::Error>> {
    std::fs::create_dir_all(directory)?;
    print("instance      writers   what                       a second     MB/s   to the disk");
    for length in [530_000, 10_000] {
        let disk = append(directory, length, 1, time)?;
        row(length, 1, "disk: append, fdatasync", disk, disk);
        let grouped = append(directory, length, 16, time)?;
        row(length, 16, "disk: fdatasync per 16", grouped, disk);
        for (name, inline_bytes) in [
            ("archive, inline 256 KiB", 256 << 10),
            ("archive, inline 1 MiB", 1 << 20),
        ] {
            if length < 256 << 10 && inline_bytes > 256 << 10 {
                continue;
            }
            for writers in [1, 4, 16] {
                let options = SegmentOptions {
                    inline_bytes,
                    ..SegmentOptions::default()
                };
                let rate = archive(directory, options, length, writers, time)?;
                row(length, writers, name, rate, disk);
            }
        }
    }
    std::fs::remove_dir_all(directory)?;
    Ok(())
}

fn row(length: usize, writers: usize, what: &str, rate: f64, disk: f64) {
    let megabytes = rate * length as f64 / 1e6;
    let ratio = rate / disk;
    print(&format!(
        "{length:>8} B {writers:>10}   {what:<25} {rate:>9.0} {megabytes:>8.0} {ratio:>13.2}"
    ));
}

/// Instances a second that one thread appends to a plain file, with a sync after each `group`.
fn append(directory: &Path, length: usize, group: usize, time: Duration) -> std::io::Result<f64> {
    let path = directory.join("plain");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)?;
    let bytes = vec![7; length];
    let started = Instant::now();
    let mut count = 0;
    while started.elapsed() < time {
        for _ in 0..group {
            rustix::io::pwrite(&file, &bytes, count * length as u64)?;
            count += 1;
        }
        file.sync_data()?;
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(rate)
}

/// Instances a second that `writers` store, each waiting for its own commits.
fn archive(
    directory: &Path,
    options: SegmentOptions,
    length: usize,
    writers: usize,
    time: Duration,
) -> Result<f64> {
    let path = directory.join("archive");
    let archive = SegmentArchive::open(&path, options)?;
    let bytes = Bytes::from(vec![7; length]);
    let started = Instant::now();
    let counts: Result<Vec<u64>> = std::thread::scope(|scope| {
        let writer = |writer| {
            let (archive, bytes) = (&archive, &bytes);
            move || {
                let mut count = 0;
                while started.elapsed() < time {
                    block_on(store(archive, bytes, writer, count))?;
                    count += 1;
                }
                Ok(count)
            }
        };
        let threads: Vec<_> = (0..writers).map(|at| scope.spawn(writer(at))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or(Ok(0)))
            .collect()
    });
    let rate = counts?.iter().sum::<u64>() as f64 / started.elapsed().as_secs_f64();
    drop(archive);
    // What is not removed is measured with the next one.
    let _ = std::fs::remove_dir_all(path);
    Ok(rate)
}

async fn store(archive: &SegmentArchive, bytes: &Bytes, writer: usize, count: u64) -> Result<()> {
    let mut writing = archive.begin().await?;
    for at in (0..bytes.len()).step_by(CHUNK_BYTES) {
        let chunk = bytes.slice(at..bytes.len().min(at + CHUNK_BYTES));
        writing.write(chunk).await?;
    }
    let key = InstanceKey {
        study: Uid::constant("2.25.1"),
        series: Uid::parse(&format!("2.25.1.{writer}"))?,
        instance: Uid::parse(&format!("2.25.1.{writer}.{count}"))?,
    };
    writing.commit(key).await?;
    Ok(())
}
