//! Segment files: what is known of each in memory, and the handles to them.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use pacs_core::Sequence;

use super::record::{FILE_HEADER_LENGTH, FileHeader, LAST_GIVEN, SegmentKind, counted};
use crate::medium::{Medium, MediumFile, write_all_at};

/// The directory of the segment files.
pub(super) const DIRECTORY: &str = "segments";

/// A position is remembered about this often, in bytes, so that a scan can begin near a sequence.
const MARK_DISTANCE_BYTES: u64 = 4 << 20;

/// One segment file.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) id: u64,
    pub(super) kind: SegmentKind,
    /// Keys the checks of its record headers.
    pub(super) key: u64,
    state: Mutex<SegmentState>,
}

/// What changes about a segment.
#[derive(Clone, Debug)]
pub(super) struct SegmentState {
    /// Everything before is durable and counts; nothing behind does.
    pub(super) end: u64,
    /// The file ends here, before `end`: somebody shortened it. Nothing may ever be appended to it.
    pub(super) cut: Option<u64>,
    /// It does not end where it was left.
    pub(super) damaged: bool,
    /// Sequences of the first and last record; 0 while there is none.
    pub(super) first: Sequence,
    pub(super) last: Sequence,
    /// Some records' sequences and offsets, ascending.
    pub(super) marks: Vec<(Sequence, u64)>,
    /// Bytes of records that were removed and whose room was not given back.
    pub(super) dead_bytes: u64,
    /// A lane appends to it, or may.
    pub(super) open: bool,
    /// A sync of it failed since the archive was opened: what its file tells about later syncs can't be
    /// trusted.
    pub(super) poisoned: bool,
    /// A seal is on record for it, so nothing may ever be appended to it.
    pub(super) sealed: bool,
}

impl SegmentState {
    /// Takes note of a record that is durable and whole.
    pub(super) fn add(&mut self, sequence: Sequence, offset: u64, end: u64) {
        if self.first.0 == 0 || sequence < self.first {
            self.first = sequence;
        }
        self.last = self.last.max(sequence);
        self.end = self.end.max(end);
        if self
            .marks
            .last()
            .is_none_or(|(_, at)| offset >= at + MARK_DISTANCE_BYTES)
        {
            self.marks.push((sequence, offset));
        }
    }

    /// Where a walk can begin that must see every record after `after`.
    pub(super) fn start_after(&self, after: Sequence) -> u64 {
        let at = self.marks.partition_point(|(sequence, _)| *sequence <= after);
        match at {
            0 => FILE_HEADER_LENGTH,
            at => self.marks[at - 1].1,
        }
    }
}

impl Segment {
    pub(super) fn new(header: FileHeader) -> Self {
        Self {
            id: header.id,
            kind: header.kind,
            key: header.key,
            state: Mutex::new(SegmentState {
                end: FILE_HEADER_LENGTH,
                cut: None,
                damaged: false,
                first: Sequence(0),
                last: Sequence(0),
                marks: Vec::new(),
                dead_bytes: 0,
                open: false,
                poisoned: false,
                sealed: false,
            }),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, SegmentState> {
        // Nothing panics while it holds this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The path of a segment file.
pub(super) fn path(id: u64) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{id:08}.seg"))
}

/// The id in a file name, if it is that of a segment.
pub(super) fn parse_name(name: &str) -> Option<u64> {
    name.strip_suffix(".seg")?.parse().ok().and_then(counted)
}

/// All segments, and a bounded number of open files.
#[derive(Debug)]
pub(super) struct Segments {
    medium: Arc<dyn Medium>,
    map: RwLock<BTreeMap<u64, Arc<Segment>>>,
    next: AtomicU64,
    handles: Mutex<Handles>,
}

#[derive(Debug)]
struct Handles {
    capacity: usize,
    clock: u64,
    open: HashMap<u64, (u64, Arc<dyn MediumFile>)>,
}

impl Segments {
    pub(super) fn new(medium: Arc<dyn Medium>, open_files: usize) -> Self {
        Self {
            medium,
            map: RwLock::default(),
            next: AtomicU64::new(1),
            handles: Mutex::new(Handles {
                capacity: open_files.max(1),
                clock: 0,
                open: HashMap::new(),
            }),
        }
    }

    /// Adds one that is there.
    pub(super) fn insert(&self, segment: Arc<Segment>) {
        self.next.fetch_max(segment.id + 1, Ordering::Relaxed);
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        map.insert(segment.id, segment);
    }

    /// Never gives this id again. One that no archive comes to is passed over, so that a file that somebody named so
    /// takes no ids away.
    pub(super) fn skip(&self, id: u64) {
        if id < LAST_GIVEN {
            self.next.fetch_max(id + 1, Ordering::Relaxed);
        }
    }

    pub(super) fn get(&self, id: u64) -> Option<Arc<Segment>> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        map.get(&id).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Segment>> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        map.values().cloned().collect()
    }

    /// Makes a new segment; its name and header are durable.
    pub(super) fn create(&self, kind: SegmentKind) -> io::Result<(Arc<Segment>, Arc<dyn MediumFile>)> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        if id > LAST_GIVEN {
            return Err(io::Error::other("there are no numbers left for segments"));
        }
        let header = FileHeader {
            kind,
            id,
            // Random, so that nobody who sends bytes can make them look like a record: std seeds its
            // hasher from the system's entropy.
            key: RandomState::new().hash_one(id),
        };
        let file = self.medium.create(&path(id))?;
        let written = write_all_at(&*file, &[&header.encode()], 0)
            .and_then(|()| file.sync_data())
            .and_then(|()| self.medium.sync_directory(Path::new(DIRECTORY)));
        if let Err(error) = written {
            // Not used by anybody; if this fails too, the next opening removes it.
            let _ = self.medium.remove(&path(id));
            return Err(error);
        }
        let segment = Arc::new(Segment::new(header));
        segment.state().open = true;
        self.insert(Arc::clone(&segment));
        self.keep_handle(id, &file);
        Ok((segment, file))
    }

    /// Takes a segment and its file away.
    pub(super) fn remove(&self, id: u64) -> io::Result<()> {
        self.map
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id);
        self.handles().open.remove(&id);
        self.medium.remove(&path(id))?;
        self.medium.sync_directory(Path::new(DIRECTORY))
    }

    /// The open file of a segment.
    pub(super) fn file(&self, id: u64) -> io::Result<Arc<dyn MediumFile>> {
        if let Some(file) = self.file_if_open(id) {
            return Ok(file);
        }
        let file = self.medium.open(&path(id))?;
        self.keep_handle(id, &file);
        Ok(file)
    }

    /// The file of a segment, unless it would have to be opened.
    pub(super) fn file_if_open(&self, id: u64) -> Option<Arc<dyn MediumFile>> {
        let mut handles = self.handles();
        handles.clock += 1;
        let clock = handles.clock;
        let (used, file) = handles.open.get_mut(&id)?;
        *used = clock;
        Some(Arc::clone(file))
    }

    fn keep_handle(&self, id: u64, file: &Arc<dyn MediumFile>) {
        let mut handles = self.handles();
        if handles.open.len() >= handles.capacity {
            let oldest = handles.open.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                handles.open.remove(&oldest);
            }
        }
        let clock = handles.clock;
        handles.open.insert(id, (clock, Arc::clone(file)));
    }

    fn handles(&self) -> MutexGuard<'_, Handles> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
