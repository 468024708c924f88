//! How many messages the log of audit takes a second, by how many callers there are.
//!
//! Run with
//!
//! ```text
//! cargo run --release -p pacs-store --example audit_rate -- DIRECTORY
//! ```
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use pacs_core::audit::{AuditSource, AuditTrail as _, Message, Participant};
use pacs_store::audit::{Durability, Known, verify};
use pacs_store::{AuditLog, AuditLogOptions};

const SECONDS: u64 = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let root = std::env::args_os().nth(1).map(PathBuf::from);
    let root = root.ok_or("the directory to write to is missing")?;
    for durability in [Durability::Synced, Durability::Written] {
        for callers in [1, 4, 16, 64] {
            let directory = root.join(format!("audit-{durability:?}-{callers}"));
            let options = AuditLogOptions {
                durability,
                ..AuditLogOptions::default()
            };
            let log = AuditLog::open(&directory, AuditSource::new("PACS"), options)?;
            let begin = Instant::now();
            let call = || {
                let mut count = 0_u64;
                while begin.elapsed() < Duration::from_secs(SECONDS) {
                    let who = Participant::person(format!("user {count}"));
                    log.record(&Message::network_entry(true, who))?;
                    count += 1;
                }
                pacs_core::Result::Ok(count)
            };
            let counts = thread::scope(|scope| {
                let threads: Vec<_> = (0..callers).map(|_| scope.spawn(call)).collect();
                let joined = threads
                    .into_iter()
                    .map(|thread| thread.join().map_err(|_| "a caller panicked"));
                joined.collect::<Result<Vec<_>, _>>()
            })?;
            let total: u64 = counts.into_iter().sum::<pacs_core::Result<u64>>()?;
            log.close();
            let begin = Instant::now();
            let verified = verify(&directory, &Known::default())?;
            println!(
                "{durability:?}, {callers} callers: {} messages a second; verified {} in {} ms, {} findings",
                total / SECONDS,
                verified.records,
                begin.elapsed().as_millis(),
                verified.findings_count
            );
        }
    }
    Ok(())
}
