//! The state of a [`FaultyMedium`](super::FaultyMedium): what is read, what is durable, and what a death
//! takes away.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::Faults;

/// What survives or is lost as one.
pub(super) const PIECE_BYTES: u64 = 512;

pub(super) struct Disk {
    pub(super) random: u64,
    pub(super) faults: Faults,
    /// Calls that changed something.
    pub(super) changes: u64,
    pub(super) dead: bool,
    pub(super) files: BTreeMap<u64, FileState>,
    pub(super) next_file: u64,
    pub(super) names: BTreeMap<PathBuf, u64>,
    pub(super) directories: BTreeSet<PathBuf>,
    /// Changes of names that are not synced yet, by directory, oldest first.
    pub(super) unsynced_names: BTreeMap<PathBuf, Vec<NameChange>>,
    pub(super) durable_names: BTreeMap<PathBuf, u64>,
    pub(super) locked: BTreeSet<PathBuf>,
}

#[derive(Clone)]
pub(super) enum NameChange {
    Put(PathBuf, u64),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, u64),
}

#[derive(Clone, Default)]
pub(super) struct FileState {
    /// What a read sees.
    pub(super) current: Vec<u8>,
    /// What is on the medium for sure.
    pub(super) durable: Vec<u8>,
    /// Numbers of the pieces that changed since the last sync.
    pub(super) dirty: BTreeSet<u64>,
    /// Lengths that were set since the last sync. Each is taken on as a whole or not at all, while a
    /// file that grows by writing may end anywhere.
    pub(super) set_lengths: Vec<usize>,
}

impl Disk {
    pub(super) fn next_random(&mut self) -> u64 {
        // splitmix64
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next_random() % bound.max(1)
    }

    pub(super) fn alive(&self) -> io::Result<()> {
        if self.dead {
            return Err(io::Error::other("the medium is gone"));
        }
        Ok(())
    }

    /// Counts a call that changes something, and decides whether it fails.
    pub(super) fn change(&mut self, per_thousand: u32) -> io::Result<()> {
        self.alive()?;
        self.changes += 1;
        if let Some(left) = &mut self.faults.stop_after {
            if *left == 0 {
                self.dead = true;
                self.alive()?;
            } else {
                *left -= 1;
            }
        }
        match &mut self.faults.fail_after {
            Some(0) => {
                self.faults.fail_after = None;
                return Err(io::Error::other("injected fault"));
            }
            Some(left) => *left -= 1,
            None => {}
        }
        self.fail(per_thousand)
    }

    pub(super) fn fail(&mut self, per_thousand: u32) -> io::Result<()> {
        if per_thousand > 0 && self.below(1000) < u64::from(per_thousand) {
            return Err(io::Error::other("injected fault"));
        }
        Ok(())
    }

    pub(super) fn change_name(&mut self, directory: &Path, change: NameChange) {
        apply_name(&mut self.names, &change);
        self.unsynced_names
            .entry(directory.to_owned())
            .or_default()
            .push(change);
    }

    pub(super) fn used(&self) -> u64 {
        self.files.values().map(|file| file.current.len() as u64).sum()
    }

    /// Takes away a random part of what was not synced.
    pub(super) fn lose(&mut self) {
        // Of the changes of names in one directory, a random number of the first ones survives: file
        // systems with a journal keep their order.
        for (_, changes) in std::mem::take(&mut self.unsynced_names) {
            let kept = self.below(changes.len() as u64 + 1) as usize;
            for change in &changes[..kept] {
                apply_name(&mut self.durable_names, change);
            }
        }
        self.names = self.durable_names.clone();
        let reachable: BTreeSet<u64> = self.names.values().copied().collect();
        self.files.retain(|id, _| reachable.contains(id));
        // Mostly half of the pieces, sometimes nearly none or nearly all.
        let survives = [50, 500, 950][self.below(3) as usize];
        let ids: Vec<u64> = self.files.keys().copied().collect();
        for id in ids {
            let Some(mut file) = self.files.remove(&id) else {
                continue;
            };
            let (short, long) = {
                let (a, b) = (file.current.len(), file.durable.len());
                (a.min(b), a.max(b))
            };
            let length = match self.below(3) {
                0 => file.durable.len(),
                1 => file.current.len(),
                _ if !file.set_lengths.is_empty() => {
                    file.set_lengths[self.below(file.set_lengths.len() as u64) as usize]
                }
                _ => short + self.below((long - short) as u64 + 1) as usize,
            };
            let mut content = file.durable.clone();
            content.resize(length, 0);
            for piece in std::mem::take(&mut file.dirty) {
                if self.below(1000) < survives {
                    let start = ((piece * PIECE_BYTES) as usize).min(length);
                    let mut end = (start + PIECE_BYTES as usize).min(length).min(file.current.len());
                    // Now and then the last piece that was being written is torn.
                    if self.below(20) == 0 && end > start {
                        end = start + self.below(((end - start) / 8) as u64 + 1) as usize * 8;
                    }
                    if start < end {
                        content[start..end].copy_from_slice(&file.current[start..end]);
                    }
                }
            }
            let state = FileState {
                current: content.clone(),
                durable: content,
                dirty: BTreeSet::new(),
                set_lengths: Vec::new(),
            };
            self.files.insert(id, state);
        }
    }
}

pub(super) fn apply_name(names: &mut BTreeMap<PathBuf, u64>, change: &NameChange) {
    match change {
        NameChange::Put(path, id) => {
            names.insert(path.clone(), *id);
        }
        NameChange::Remove(path) => {
            names.remove(path);
        }
        NameChange::Rename(from, to, id) => {
            names.remove(from);
            names.insert(to.clone(), *id);
        }
    }
}
