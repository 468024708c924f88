//! What comes in: an engine that keeps studies until they are done, on a disk and within a bound.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::TryStreamExt as _;
use pacs_core::hooks::Arriving;
use pacs_core::{
    Decider, DuplicatePolicy, Error, ErrorKind, Event, InstanceRecord, Observer, Options, Pacs, Result,
    Scope, StoreOutcome, Uid,
};
use pacs_store::{FolderArchive, FolderOptions, MemoryIndex};

use crate::quiet::Quiet;

/// The engine, and which of its studies are quiet.
pub(crate) struct Intake {
    pub(crate) pacs: Pacs,
    pub(crate) quiet: Arc<Quiet>,
    room: Arc<Room>,
    directory: PathBuf,
}

/// How much is kept, in bytes.
struct Room {
    used: AtomicU64,
    max: u64,
}

/// An instance that was kept when a study was given out.
pub(crate) struct Kept {
    instance: Uid,
    series: Uid,
    length: u64,
}

impl Intake {
    /// Opens `directory`, where what an earlier process did not finish still is: that is quiet after a while, too.
    pub(crate) async fn open(directory: &Path, max: u64, quiet: Duration) -> Result<Self> {
        let archive = FolderArchive::open(directory, FolderOptions::default())?;
        let quiet = Arc::new(Quiet::new(quiet));
        let room = Arc::new(Room {
            used: AtomicU64::new(0),
            max,
        });
        let arrival = Arrival(Arc::clone(&quiet), Arc::clone(&room));
        let options = Options {
            // What is searched does not change meanwhile.
            duplicates: DuplicatePolicy::KeepFirst,
            decider: Arc::clone(&room) as _,
            observers: vec![Arc::new(arrival)],
            ..Options::default()
        };
        // The index is made anew from the files with each start.
        let pacs = Pacs::open(Arc::new(archive), Arc::new(MemoryIndex::new()), options).await?;
        let mut left = pacs.instances(Scope::All);
        while let Some(record) = left.try_next().await? {
            room.used.fetch_add(record.length, Ordering::Relaxed);
            quiet.touch(record.key.study);
        }
        Ok(Self {
            pacs,
            quiet,
            room,
            directory: directory.to_owned(),
        })
    }

    /// All that is kept of a study now.
    pub(crate) async fn kept(&self, study: &Uid) -> Result<Vec<Kept>> {
        let kept = |record: InstanceRecord| Kept {
            instance: record.key.instance,
            series: record.key.series,
            length: record.length,
        };
        let instances = self.pacs.instances(Scope::Study(*study));
        instances.map_ok(kept).try_collect().await
    }

    /// Drops what was kept of a study; what arrived since stays.
    pub(crate) async fn drop_all(&self, study: &Uid, kept: &[Kept]) -> Result<()> {
        for one in kept {
            if self.pacs.remove(&one.instance).await? {
                self.room.used.fetch_sub(one.length, Ordering::Relaxed);
            }
        }
        // The folder archive leaves the directories. Only empty ones go; should something of the study arrive in this
        // moment, it is refused for now, and its sender tries again.
        let of_study = self.directory.join(study.file_name());
        for one in kept {
            let _ = std::fs::remove_dir(of_study.join(one.series.file_name()));
        }
        let _ = std::fs::remove_dir(of_study);
        Ok(())
    }
}

impl Decider for Room {
    /// Its sender is answered A700 and tries again later, as every outbox does.
    fn before_store(&self, _: &Arriving<'_>) -> Result<()> {
        if self.used.load(Ordering::Relaxed) < self.max {
            return Ok(());
        }
        let why = "studies that wait for their turn take all the room";
        Err(Error::new(ErrorKind::OutOfResources, "triage.receive", why))
    }
}

/// Notes what arrives.
struct Arrival(Arc<Quiet>, Arc<Room>);

impl Observer for Arrival {
    fn observe(&self, event: &Event) -> Result<()> {
        if let Event::Received { record, outcome, .. } = event {
            if *outcome == StoreOutcome::New {
                self.1.used.fetch_add(record.length, Ordering::Relaxed);
            }
            self.0.touch(record.key.study);
        }
        Ok(())
    }
}
