//! Records that stay decoded between batches.

use std::collections::HashMap;
use std::hash::Hash;

use crate::index::bound;
use crate::index::keys::study_entries;
use crate::index::record::{Patient, Series, Study};

/// Decoded records that are kept between batches, of each level. A record is some 2 KiB.
const KEPT_RECORDS_MAX: usize = bound(256, 2);

/// A record that is kept, with its place in time.
struct Kept<T> {
    value: T,
    used: u64,
}

/// Decoded records by key.
pub(super) struct Cache<K, T> {
    map: HashMap<K, Kept<T>>,
    clock: u64,
}

impl<K: Hash + Eq + Clone, T> Cache<K, T> {
    pub(super) fn new() -> Self {
        Self {
            map: HashMap::new(),
            clock: 0,
        }
    }

    pub(super) fn get(&mut self, key: &K) -> Option<&mut T> {
        self.clock += 1;
        let kept = self.map.get_mut(key)?;
        kept.used = self.clock;
        Some(&mut kept.value)
    }

    pub(super) fn put(&mut self, key: K, value: T) -> &mut T {
        self.clock += 1;
        let used = self.clock;
        let kept = Kept { value, used };
        &mut self.map.entry(key).insert_entry(kept).into_mut().value
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<T> {
        self.map.remove(key).map(|kept| kept.value)
    }

    pub(super) fn values(&mut self) -> impl Iterator<Item = (&K, &mut T)> {
        self.map.iter_mut().map(|(key, kept)| (key, &mut kept.value))
    }

    /// Forgets the half that was used longest ago when there are too many.
    pub(super) fn trim(&mut self) {
        if self.map.len() > KEPT_RECORDS_MAX {
            let mut times: Vec<u64> = self.map.values().map(|kept| kept.used).collect();
            let (_, &mut oldest, _) = times.select_nth_unstable(self.map.len() - KEPT_RECORDS_MAX / 2);
            self.map.retain(|_, kept| kept.used >= oldest);
        }
    }
}

pub(super) struct StudyEntry {
    pub(super) study: Study,
    /// [`Study::encode_attributes`].
    pub(super) attributes: Vec<u8>,
    pub(super) dirty: bool,
    /// The secondary entries that stand in the table, once they may have to change.
    pub(super) entries: Option<Vec<Vec<u8>>>,
}

impl StudyEntry {
    /// To be called before attributes or modalities change.
    pub(super) fn entries_change(&mut self, number: u32) {
        if self.entries.is_none() {
            self.entries = Some(study_entries(&self.study, number));
        }
        self.dirty = true;
    }
}

pub(super) struct SeriesEntry {
    pub(super) series: Series,
    /// [`Series::encode_attributes`].
    pub(super) attributes: Vec<u8>,
    pub(super) dirty: bool,
}

pub(super) struct PatientEntry {
    pub(super) patient: Patient,
    pub(super) dirty: bool,
    /// As in [`StudyEntry`].
    pub(super) entries: Option<Vec<Vec<u8>>>,
}
