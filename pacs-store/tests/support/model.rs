//! A simple model of an archive on disks that fail, and random operations on both.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::executor::block_on;
use futures::future::join_all;
use pacs_core::testkit::archive::{begin, key};
use pacs_core::testkit::random::Random;
use pacs_core::{Archive, Entry, ErrorKind, InstanceKey, Locator, Result, Sequence, Stored};
use pacs_store::medium::{Faults, FaultyMedium, Loss};

use super::{any_faults, filling, read, scan};

/// An archive on disks that fail.
pub(crate) trait Subject {
    type Opened: Archive;

    fn new(random: &mut Random) -> Self;

    fn open(&self) -> Result<Self::Opened>;

    fn media(&mut self) -> Vec<&mut FaultyMedium>;

    fn compact(&self, _archive: &Self::Opened) {}

    /// What else holds after an opening on sound disks, where this is kept.
    fn check(&self, _archive: &Self::Opened, _kept: &Kept) {}
}

/// What was acknowledged and not removed.
pub(crate) type Kept = BTreeMap<Locator, (InstanceKey, Bytes, Sequence)>;

const LIVES: u64 = 4;
const STEPS_PER_LIFE: u64 = 14;

/// What the archive has promised.
#[derive(Default)]
struct Model {
    next: u64,
    /// Acknowledged and not removed.
    kept: Kept,
    /// Begun to be removed without an answer that counts: may be there or not.
    leaving: BTreeMap<Locator, (InstanceKey, Bytes)>,
    /// Committed without an answer that counts: may be there or not, but only whole.
    unsure: BTreeMap<InstanceKey, Bytes>,
    /// Must not be there, and why.
    gone: BTreeMap<InstanceKey, &'static str>,
    /// Refused since the last commit that succeeded. The archive may not have been able to note it.
    refused: BTreeMap<InstanceKey, Bytes>,
    /// What a durable index knows, and up to where.
    index: BTreeMap<Locator, InstanceKey>,
    low_water: Sequence,
    /// The greatest sequence that was acknowledged.
    last: Sequence,
}

pub(crate) struct Run<S> {
    random: Random,
    pub(crate) subject: S,
    model: Model,
}

impl<S: Subject> Run<S> {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        Self {
            subject: S::new(&mut random),
            random,
            model: Model::default(),
        }
    }

    fn open(&self) -> Result<S::Opened> {
        self.subject.open()
    }

    fn is_stopped(&mut self) -> bool {
        self.subject.media().iter().any(|medium| medium.is_stopped())
    }

    fn set_faults(&mut self) {
        for medium in self.subject.media() {
            medium.set_faults(any_faults(&mut self.random));
        }
    }

    fn crash(&mut self, loss: Loss) {
        for medium in self.subject.media() {
            *medium = medium.crash(loss);
        }
    }

    pub(crate) fn run(&mut self) {
        for _ in 0..LIVES {
            let archive = self.open().expect("opens on a sound medium");
            self.check(&archive);
            self.set_faults();
            for _ in 0..1 + self.random.below(STEPS_PER_LIFE) {
                self.step(&archive);
                if self.is_stopped() {
                    break;
                }
            }
            self.die(archive);
        }
        let archive = self.open().expect("opens on a sound medium");
        self.check(&archive);
    }

    /// What is kept now.
    pub(crate) fn kept(&self) -> &Kept {
        &self.model.kept
    }

    /// Ends a life: the machine or the process dies, or the archive is closed in peace.
    fn die(&mut self, archive: S::Opened) {
        let loss = *self.random.pick(&[Loss::Machine, Loss::Machine, Loss::Process]);
        if self.random.chance(3) && !self.is_stopped() {
            drop(archive);
            self.crash(loss);
        } else {
            self.crash(loss);
            drop(archive);
        }
        // Refused by a medium that then died: nothing could be noted.
        self.model.unsure.append(&mut self.model.refused);
        // Now and then it dies again while it opens.
        while self.random.chance(3) {
            for medium in self.subject.media() {
                medium.set_faults(Faults {
                    stop_after: Some(self.random.below(20)),
                    ..any_faults(&mut self.random)
                });
            }
            drop(self.open());
            self.crash(loss);
        }
    }

    fn step(&mut self, archive: &S::Opened) {
        match self.random.below(12) {
            0..=5 => self.commit(archive),
            6 => self.abort(archive),
            7 => self.remove(archive),
            8 => self.read(archive),
            9 => self.index(archive),
            10 => self.subject.compact(archive),
            _ => {
                if let Ok(entries) = scan(archive, Sequence(0)) {
                    self.check_entries(archive, &entries);
                }
            }
        }
    }

    fn new_instance(&mut self) -> (InstanceKey, Bytes) {
        self.model.next += 1;
        let length = *self.random.pick(&[0, 1, 200, 2_999, 9_000, 40_000]);
        let length = length + self.random.index(300);
        (key(self.model.next), filling(&mut self.random, length))
    }

    fn commit(&mut self, archive: &S::Opened) {
        let count = 1 + self.random.index(4);
        let chunk = *self.random.pick(&[100, 1_500, 1 << 20]);
        let wanted: Vec<_> = (0..count).map(|_| self.new_instance()).collect();
        let mut begun = Vec::new();
        for (key, bytes) in wanted {
            match block_on(begin(archive, &bytes, chunk)) {
                Ok(writer) => begun.push((key, bytes, writer)),
                Err(_) => drop(self.model.gone.insert(key, "never begun")),
            }
        }
        let mut sent = Vec::new();
        let mut commits = Vec::new();
        for (key, bytes, writer) in begun {
            commits.push(writer.commit(key));
            sent.push((key, bytes));
        }
        let results = block_on(join_all(commits));
        if results.iter().any(Result::is_ok) {
            let refused = std::mem::take(&mut self.model.refused);
            let noted = refused.into_keys().map(|key| (key, "refused"));
            self.model.gone.extend(noted);
        }
        let mut sequences: Vec<_> = results.iter().flatten().map(|stored| stored.sequence).collect();
        for ((key, bytes), result) in sent.into_iter().zip(results) {
            match result {
                Ok(stored) => self.keep(key, bytes, stored),
                Err(_) => drop(self.model.refused.insert(key, bytes)),
            }
        }
        sequences.sort();
        for sequence in sequences {
            assert!(sequence > self.model.last, "sequences grow");
            self.model.last = sequence;
        }
    }

    fn keep(&mut self, key: InstanceKey, bytes: Bytes, stored: Stored) {
        assert_eq!(stored.length, bytes.len() as u64);
        let before = self
            .model
            .kept
            .insert(stored.locator, (key, bytes, stored.sequence));
        assert!(before.is_none(), "two instances at one place");
    }

    fn abort(&mut self, archive: &S::Opened) {
        let (key, bytes) = self.new_instance();
        if let Ok(writer) = block_on(begin(archive, &bytes, 1_500)) {
            let _ = block_on(writer.abort());
        }
        self.model.gone.insert(key, "aborted");
    }

    fn choose(&mut self) -> Option<(Locator, InstanceKey, Bytes)> {
        let at = self.random.index(self.model.kept.len());
        let (locator, (key, bytes, _)) = self.model.kept.iter().nth(at)?;
        Some((locator.clone(), *key, bytes.clone()))
    }

    fn remove(&mut self, archive: &S::Opened) {
        let Some((locator, key, bytes)) = self.choose() else {
            return;
        };
        let result = block_on(archive.remove(&key.instance, &locator));
        self.model.kept.remove(&locator);
        match result {
            Ok(sequence) => {
                self.model.last = self.model.last.max(sequence);
                self.model.gone.insert(key, "removed");
                match read(archive, &locator) {
                    Ok(_) => panic!("a removed instance is read"),
                    Err(error) => assert!(matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Io)),
                }
            }
            Err(_) => drop(self.model.leaving.insert(locator, (key, bytes))),
        }
    }

    fn read(&mut self, archive: &S::Opened) {
        let Some((locator, _, bytes)) = self.choose() else {
            return;
        };
        match read(archive, &locator) {
            Ok(read) => assert_eq!(read, bytes),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Io, "{error}"),
        }
    }

    /// An index applies what came since its low water, makes it durable and tells.
    fn index(&mut self, archive: &S::Opened) {
        let Ok(entries) = scan(archive, self.model.low_water) else {
            return;
        };
        for entry in entries {
            self.model.low_water = entry.sequence();
            apply(&mut self.model.index, entry);
        }
        let hint = *self.random.pick(&[
            self.model.low_water,
            Sequence(self.random.clone().below(self.model.low_water.0 + 1)),
        ]);
        let _ = block_on(archive.indexed(hint));
    }

    /// After a reopening on a sound medium.
    fn check(&mut self, archive: &S::Opened) {
        self.compare(archive);
        self.subject.check(archive, &self.model.kept);
    }

    fn compare(&mut self, archive: &S::Opened) {
        let entries = scan(archive, Sequence(0)).expect("is scanned");
        self.check_entries(archive, &entries);
        let model = &mut self.model;
        let mut found = BTreeMap::new();
        for entry in &entries {
            let Entry::Stored(key, stored) = entry else {
                continue;
            };
            found.insert(stored.locator.clone(), *key);
            // From now on it must stay.
            if let Some(bytes) = model.unsure.remove(key) {
                model
                    .kept
                    .insert(stored.locator.clone(), (*key, bytes, stored.sequence));
            }
            if let Some((key, bytes)) = model.leaving.remove(&stored.locator) {
                model
                    .kept
                    .insert(stored.locator.clone(), (key, bytes, stored.sequence));
            }
            model.last = model.last.max(stored.sequence);
        }
        // What an opening did not find must never come back.
        let unsure = std::mem::take(&mut model.unsure);
        let leaving = std::mem::take(&mut model.leaving);
        let lost = unsure
            .into_keys()
            .chain(leaving.into_values().map(|(key, _)| key));
        model
            .gone
            .extend(lost.map(|key| (key, "not found by an opening")));

        // An index that was durable up to its low water becomes equal to the archive.
        let mut index = model.index.clone();
        for entry in scan(archive, model.low_water).expect("is scanned") {
            apply(&mut index, entry);
        }
        assert_eq!(index, found, "the index equals the archive");
        if let Some(after) = entries.get(self.random.index(entries.len())) {
            let after = after.sequence();
            let rest = scan(archive, after).expect("is scanned");
            let expected: Vec<_> = entries.iter().filter(|entry| entry.sequence() > after).collect();
            assert!(
                rest.iter().eq(expected),
                "a scan after {after:?} is the rest of the scan"
            );
        }
    }

    fn check_entries(&self, archive: &S::Opened, entries: &[Entry]) {
        let model = &self.model;
        let mut last = Sequence(0);
        let mut seen = BTreeSet::new();
        for entry in entries {
            assert!(entry.sequence() > last, "a scan is in ascending order");
            last = entry.sequence();
            let Entry::Stored(key, stored) = entry else {
                continue;
            };
            assert!(seen.insert(stored.locator.clone()), "a place is yielded twice");
            let gone = model.gone.get(key);
            assert_eq!(gone, None, "{key:?} must not be there");
            let expected = match model.kept.get(&stored.locator) {
                Some((expected, bytes, sequence)) => {
                    assert_eq!((expected, *sequence), (key, stored.sequence));
                    bytes
                }
                None => match model.leaving.get(&stored.locator) {
                    Some((_, bytes)) => bytes,
                    None => model
                        .unsure
                        .get(key)
                        .or_else(|| model.refused.get(key))
                        .expect("what is found was committed"),
                },
            };
            match read(archive, &stored.locator) {
                Ok(bytes) => assert_eq!(bytes, *expected, "{key:?} is whole"),
                // What was to be removed, and may still be, goes at any time.
                Err(error) if model.leaving.contains_key(&stored.locator) => {
                    assert!(
                        matches!(error.kind(), ErrorKind::Io | ErrorKind::NotFound),
                        "{error}"
                    );
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Io, "{error}"),
            }
        }
        for (locator, (key, ..)) in &model.kept {
            assert!(seen.contains(locator), "{key:?} was acknowledged and is lost");
        }
    }
}

fn apply(index: &mut BTreeMap<Locator, InstanceKey>, entry: Entry) {
    match entry {
        Entry::Stored(key, stored) => drop(index.insert(stored.locator, key)),
        Entry::Removed { locator, .. } => drop(index.remove(&locator)),
    }
}
