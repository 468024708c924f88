//! Archive and index together on one disk that fails, through the engine, against a simple model: what
//! was acknowledged is there and found, what was not sent is not, and the index equals the archive.
//!
//! `PACS_FAULT_RUNS` sets the number of runs, `PACS_SEED` the first seed. A seed repeats what each
//! thread asks for; with several threads the order among them may differ.

mod history;
#[path = "../support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dicom_core::VR;
use dicom_dictionary_std::tags;
use futures::executor::block_on;
use futures::{FutureExt, TryStreamExt};
use history::{Answer, History, Name, Wish, judge, judge_amended};
use pacs_core::dataset::part10;
use pacs_core::query::{AttributeSet, Model as QueryModel, QueryOptions};
use pacs_core::testkit::engine;
use pacs_core::testkit::random::Random;
use pacs_core::{
    Announced, DataSet, DuplicatePolicy, ErrorKind, Index, InstanceRecord, Level, Options, Pacs, Query,
    Received, Result, Scope, StoreOutcome,
};
use pacs_store::layers::encrypt::{FileKeys, Key, KeyId, KeyList};
use pacs_store::medium::{Faults, FaultyMedium, Loss};
use pacs_store::{RedbIndex, RedbIndexOptions, SegmentArchive, SegmentOptions};
use support::{any_faults, any_options, filling, read, runs};

const LIVES: u64 = 4;
const STEPS_PER_THREAD: u64 = 12;
const STUDIES: u32 = 2;
const SERIES: u32 = 2;
const NUMBERS: u32 = 4;
const VARIANTS: u32 = 3;

/// An instance in one of its variants: the same UIDs, other bytes.
fn sent((study, series, number): Name, variant: u32) -> (Announced, Bytes) {
    let (announced, bytes) = engine::instance(study, series, number, variant);
    let seed = u64::from(study) << 24 | u64::from(series) << 16 | u64::from(number) << 8;
    // All variants of some instances are of one length.
    let mut random = Random::new(seed | if number % 2 == 0 { 0 } else { u64::from(variant) });
    let length = *random.pick(&[0, 200, 3_000, 9_000, 40_000]) + random.index(150) * 2;
    let padding = filling(&mut Random::new(seed | u64::from(variant)), length);
    let mut all = bytes.to_vec();
    // Data Set Trailing Padding (FFFC,FFFC).
    all.extend_from_slice(&[0xFC, 0xFF, 0xFC, 0xFF, b'O', b'B', 0, 0]);
    all.extend_from_slice(&(length as u32).to_le_bytes());
    all.extend_from_slice(&padding);
    (announced, all.into())
}

fn names() -> impl Iterator<Item = Name> {
    let numbers = |study, series| (0..NUMBERS).map(move |number| (study, series, number));
    (0..STUDIES).flat_map(move |study| (0..SERIES).flat_map(move |series| numbers(study, series)))
}

struct Run {
    random: Random,
    medium: FaultyMedium,
    segments: SegmentOptions,
    /// Of every second seed: the index is encrypted.
    keys: Option<Arc<FileKeys>>,
    duplicates: DuplicatePolicy,
    threads: u64,
    /// The variants of each instance that the last opening found, the current one first.
    kept: BTreeMap<Name, Vec<u32>>,
    /// Those whose current version was amended then.
    amended: BTreeSet<Name>,
}

/// An open engine and the two it stands on.
struct Opened {
    pacs: Pacs,
    archive: Arc<SegmentArchive>,
    index: Arc<RedbIndex>,
}

fn open(
    medium: &FaultyMedium,
    segments: SegmentOptions,
    keys: Option<&Arc<FileKeys>>,
    duplicates: DuplicatePolicy,
) -> Result<Opened> {
    let archive = Arc::new(SegmentArchive::open_on(Arc::new(medium.clone()), segments)?);
    assert_eq!(archive.statistics().damaged_segments, 0);
    let (file, index_medium) = ("index.redb", Arc::new(medium.clone()));
    let index = match keys {
        Some(keys) => RedbIndex::open_encrypted_on(index_medium, file, Arc::clone(keys), index_options()),
        None => RedbIndex::open_on(index_medium, file, index_options()),
    };
    let index = Arc::new(index?);
    let options = Options {
        duplicates,
        // Checkpoints come when a thread asks for one.
        checkpoint_interval: Duration::from_secs(3600),
        ..Options::default()
    };
    let pacs = block_on(Pacs::open(archive.clone(), index.clone(), options))?;
    Ok(Opened { pacs, archive, index })
}

fn file_keys() -> Arc<FileKeys> {
    let keys = KeyList::new([(KeyId::parse("k").expect("a name"), Key::new([7; 32]))]);
    Arc::new(FileKeys::new(Arc::new(keys), Default::default()).expect("there is a key"))
}

fn index_options() -> RedbIndexOptions {
    let mut options = RedbIndexOptions::default();
    // Small, so that pages are written before a flush too.
    options.cache_max_bytes = 96 * 1024;
    options
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        Self {
            medium: FaultyMedium::new(random.bits()),
            segments: any_options(&mut random),
            keys: seed.is_multiple_of(2).then(file_keys),
            duplicates: *random.pick(&[
                DuplicatePolicy::Replace,
                DuplicatePolicy::Replace,
                DuplicatePolicy::KeepFirst,
                DuplicatePolicy::Refuse,
            ]),
            threads: 1 + random.below(4),
            random,
            kept: BTreeMap::new(),
            amended: BTreeSet::new(),
        }
    }

    fn open(&self) -> Result<Opened> {
        open(&self.medium, self.segments, self.keys.as_ref(), self.duplicates)
    }

    fn run(&mut self) {
        let mut history = History::default();
        for _ in 0..LIVES {
            let opened = self.open().expect("opens on a sound medium");
            self.check(&opened, &history);
            history = self.live(&opened);
            self.die(opened);
        }
        let opened = self.open().expect("opens on a sound medium");
        self.check(&opened, &history);
    }

    fn live(&mut self, opened: &Opened) -> History {
        let mut faults = any_faults(&mut self.random);
        if let Some(calls) = &mut faults.stop_after {
            // The index writes a few pages for each instance.
            *calls *= 4;
        }
        self.medium.set_faults(faults);
        let history = Mutex::new(History::default());
        std::thread::scope(|scope| {
            for _ in 0..self.threads {
                let mut thread = Thread {
                    random: Random::new(self.random.bits()),
                    opened,
                    history: &history,
                };
                let medium = &self.medium;
                scope.spawn(move || {
                    for _ in 0..1 + thread.random.below(STEPS_PER_THREAD) {
                        thread.step();
                        if medium.is_stopped() {
                            break;
                        }
                    }
                });
            }
        });
        history.into_inner().expect("nobody panicked")
    }

    /// Ends a life: the machine or the process dies, or the engine is closed in peace.
    fn die(&mut self, opened: Opened) {
        let loss = *self.random.pick(&[Loss::Machine, Loss::Machine, Loss::Process]);
        if self.random.chance(3) && !self.medium.is_stopped() {
            let _ = opened.pacs.close();
            drop(opened);
            self.medium = self.medium.crash(loss);
        } else {
            self.medium = self.medium.crash(loss);
            drop(opened);
        }
        // Now and then it dies again while it opens.
        while self.random.chance(3) {
            let faults = Faults {
                stop_after: Some(self.random.below(40)),
                ..any_faults(&mut self.random)
            };
            self.medium.set_faults(faults);
            drop(self.open());
            self.medium = self.medium.crash(loss);
        }
    }

    /// After a reopening on a sound medium.
    fn check(&mut self, opened: &Opened, history: &History) {
        let before = std::mem::take(&mut self.kept);
        for name in names() {
            let found = found(opened, name);
            let known = before.get(&name).map_or(&[][..], Vec::as_slice);
            judge(name, known, history, &found);
            let amended = is_amended(opened, name);
            judge_amended(name, self.amended.contains(&name), history, amended);
            self.amended.remove(&name);
            self.amended.extend(amended.then_some(name));
            if !found.is_empty() {
                self.kept.insert(name, found);
            }
        }
        let records = records(&*opened.index);
        let versions: usize = self.kept.values().map(Vec::len).sum();
        assert_eq!(
            records.len(),
            self.kept.len(),
            "nothing is there that was not sent"
        );

        // Every place that the archive keeps is known, and every one that is known is whole.
        let verified = block_on(opened.pacs.verify(|_| ())).expect("is verified");
        assert_eq!((verified.whole, verified.damaged), (versions as u64, vec![]));

        assert_eq!(counts(opened), self.expected_counts());
        self.check_rebuilt(opened, &records);
        self.check_takes(opened);
    }

    /// An index that is made from the archive alone is the same.
    fn check_rebuilt(&self, opened: &Opened, known: &[InstanceRecord]) {
        // What the rebuilding tells the archive of the new index is then true of the old one too.
        block_on(opened.pacs.checkpoint()).expect("a checkpoint on a sound medium");
        let fresh = RedbIndex::with_backend(::redb::backends::InMemoryBackend::new(), index_options())
            .expect("an index in memory");
        let attributes = AttributeSet::default();
        let rebuilt = block_on(Pacs::rebuild_index(&*opened.archive, &fresh, &attributes));
        let rebuilt = rebuilt.expect("is rebuilt");
        assert_eq!(rebuilt.unreadable, 0);
        assert!(records(&fresh) == known, "the records of a rebuilt index");
        for level in Level::ALL {
            assert!(
                answers(&fresh, level) == answers(&*opened.index, level),
                "the answers of a rebuilt index at {level:?}"
            );
        }
        let totals = |index: &RedbIndex| block_on(index.totals()).expect("totals");
        assert_eq!(totals(&fresh), totals(&opened.index));
    }

    /// A reopened engine takes what comes.
    fn check_takes(&mut self, opened: &Opened) {
        let name = *self.random.pick(&names().collect::<Vec<_>>());
        let variant = self.random.below(VARIANTS.into()) as u32;
        let versions = self.kept.entry(name).or_default();
        let stored = block_on(store(&opened.pacs, sent(name, variant), 5_000));
        let outcome = stored
            .map(|received| received.outcome)
            .map_err(|error| error.kind());
        let expected = match self.duplicates {
            _ if versions.is_empty() => Ok(StoreOutcome::New),
            _ if versions.contains(&variant) => Ok(StoreOutcome::AlreadyKept),
            DuplicatePolicy::Replace => Ok(StoreOutcome::Replaced),
            DuplicatePolicy::KeepFirst => Ok(StoreOutcome::FirstKept),
            DuplicatePolicy::Refuse => Err(ErrorKind::AlreadyExists),
        };
        assert_eq!(outcome, expected);
        if matches!(outcome, Ok(StoreOutcome::New | StoreOutcome::Replaced)) {
            versions.insert(0, variant);
            self.amended.remove(&name);
        }
    }

    /// Of each series and study that has any, how many.
    fn expected_counts(&self) -> BTreeMap<String, String> {
        let mut studies = BTreeMap::<u32, BTreeMap<u32, usize>>::new();
        for (study, series, _) in self.kept.keys() {
            *studies.entry(*study).or_default().entry(*series).or_default() += 1;
        }
        let count = |(study, series): (u32, BTreeMap<u32, usize>)| {
            let instances: usize = series.values().sum();
            (
                format!("A{study}"),
                format!("{} series, {instances} instances", series.len()),
            )
        };
        studies.into_iter().map(count).collect()
    }
}

/// The variants of an instance that are there, the current one first; each is whole.
fn found(opened: &Opened, name: Name) -> Vec<u32> {
    let uid = sent(name, 0).0.sop_instance;
    let Some(record) = block_on(opened.pacs.lookup(&uid)).expect("is looked up") else {
        return Vec::new();
    };
    let data_set = block_on(opened.pacs.read_data_set(&record).try_collect::<Vec<_>>()).expect("is read");
    let current = variant_of(name, &data_set.concat()).expect("is what was sent");
    let earlier = record.superseded.iter().map(|locator| {
        let bytes = read(&*opened.archive, locator).expect("is read");
        let meta = part10::read_meta(&bytes, true)
            .expect("is whole")
            .expect("is Part 10");
        variant_of(name, &bytes[meta.data_set_offset as usize..]).expect("is what was sent")
    });
    std::iter::once(current).chain(earlier).collect()
}

/// Whether the current version of an instance leaves amended.
fn is_amended(opened: &Opened, name: Name) -> bool {
    let uid = sent(name, 0).0.sop_instance;
    let record = block_on(opened.pacs.lookup(&uid)).expect("is looked up");
    let coerced = record.and_then(|record| record.coerced);
    coerced.is_some_and(|coerced| coerced.string(tags::IMAGE_COMMENTS) == Some("amended"))
}

fn variant_of(name: Name, data_set: &[u8]) -> Option<u32> {
    (0..VARIANTS).find(|variant| sent(name, *variant).1 == data_set)
}

fn records(index: &dyn Index) -> Vec<InstanceRecord> {
    let mut all: Vec<InstanceRecord> = block_on(index.instances(Scope::All).try_collect()).expect("are read");
    all.sort_by_key(|record| record.key.instance.as_str().to_owned());
    all
}

fn query(level: Level) -> Query {
    let mut keys = DataSet::new();
    keys.put_text(tags::SOP_INSTANCE_UID, VR::UI, "");
    let options = QueryOptions {
        relational: true,
        ..QueryOptions::default()
    };
    Query::new(QueryModel::PatientRoot, level, keys, options)
}

/// All that the index knows of each entity at a level.
fn answers(index: &dyn Index, level: Level) -> Vec<DataSet> {
    let mut all: Vec<DataSet> = block_on(index.query(query(level)).try_collect()).expect("are found");
    all.sort_by_key(|answer| {
        let uid = |tag| answer.string(tag).unwrap_or_default().to_owned();
        [
            tags::PATIENT_ID,
            tags::STUDY_INSTANCE_UID,
            tags::SERIES_INSTANCE_UID,
            tags::SOP_INSTANCE_UID,
        ]
        .map(uid)
    });
    all
}

fn counts(opened: &Opened) -> BTreeMap<String, String> {
    let text = |answer: &DataSet, tag| answer.string(tag).unwrap_or_default().trim().to_owned();
    let studies = answers(&*opened.index, Level::Study);
    let count = |answer: &DataSet| {
        let series = text(answer, tags::NUMBER_OF_STUDY_RELATED_SERIES);
        let instances = text(answer, tags::NUMBER_OF_STUDY_RELATED_INSTANCES);
        (
            text(answer, tags::ACCESSION_NUMBER),
            format!("{series} series, {instances} instances"),
        )
    };
    let counted: BTreeMap<_, _> = studies.iter().map(count).collect();
    assert_eq!(counted.len(), studies.len(), "each study is found once");
    counted
}

async fn store(pacs: &Pacs, (announced, bytes): (Announced, Bytes), chunk: usize) -> Result<Received> {
    let mut receipt = pacs.receive(announced).await?;
    for at in (0..bytes.len()).step_by(chunk) {
        receipt
            .write(bytes.slice(at..bytes.len().min(at + chunk)))
            .await?;
    }
    receipt.commit().await
}

/// Somebody who uses the engine while others do.
struct Thread<'a> {
    random: Random,
    opened: &'a Opened,
    history: &'a Mutex<History>,
}

impl Thread<'_> {
    fn step(&mut self) {
        match self.random.below(16) {
            0..=6 => self.store(),
            7 => self.leave(),
            8 => self.abort(),
            9 | 10 => self.remove(),
            11 => drop(block_on(self.opened.pacs.checkpoint())),
            12 => self.look(),
            13 | 14 => self.amend(),
            _ => drop(block_on(self.opened.archive.compact())),
        }
    }

    fn begin(&self, name: Name, wish: Wish) -> usize {
        self.history.lock().expect("nobody panicked").begin(name, wish)
    }

    fn end(&self, deed: usize, answer: Answer) {
        self.history.lock().expect("nobody panicked").end(deed, answer);
    }

    fn name(&mut self) -> Name {
        let mut below = |end: u32| self.random.below(end.into()) as u32;
        (below(STUDIES), below(SERIES), below(NUMBERS))
    }

    fn variant(&mut self) -> u32 {
        self.random.below(VARIANTS.into()) as u32
    }

    fn chunk(&mut self) -> usize {
        *self.random.pick(&[700, 5_000, 1 << 20])
    }

    fn store(&mut self) {
        let (name, variant, chunk) = (self.name(), self.variant(), self.chunk());
        let deed = self.begin(name, Wish::Store(variant));
        match block_on(store(&self.opened.pacs, sent(name, variant), chunk)) {
            Ok(received) => {
                assert!(received.complete);
                self.end(deed, Answer::Kept(received.outcome));
                // Kept means found, at once.
                self.look_at(name);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => self.end(deed, Answer::Nothing),
            Err(error) => {
                assert_failed(&error);
                self.end(deed, Answer::Unsure);
            }
        }
    }

    /// Commits and does not wait for the answer.
    fn leave(&mut self) {
        let (name, variant, chunk) = (self.name(), self.variant(), self.chunk());
        let deed = self.begin(name, Wish::Store(variant));
        let (announced, bytes) = sent(name, variant);
        block_on(async {
            let Ok(mut receipt) = self.opened.pacs.receive(announced).await else {
                return;
            };
            for at in (0..bytes.len()).step_by(chunk) {
                let written = receipt.write(bytes.slice(at..bytes.len().min(at + chunk))).await;
                if written.is_err() {
                    return;
                }
            }
            let _ = receipt.commit().now_or_never();
        });
        self.end(deed, Answer::Unsure);
    }

    fn abort(&mut self) {
        let (name, variant) = (self.name(), self.variant());
        let (announced, bytes) = sent(name, variant);
        let end = 1 + self.random.index(bytes.len() - 1);
        let in_peace = self.random.chance(2);
        block_on(async {
            let Ok(mut receipt) = self.opened.pacs.receive(announced).await else {
                return;
            };
            if receipt.write(bytes.slice(..end)).await.is_ok() && in_peace {
                let _ = receipt.abort().await;
            }
        });
    }

    fn remove(&mut self) {
        let name = self.name();
        let deed = self.begin(name, Wish::Remove);
        match block_on(self.opened.pacs.remove(&sent(name, 0).0.sop_instance)) {
            Ok(removed) => self.end(deed, Answer::Removed(removed)),
            Err(error) => {
                assert_failed(&error);
                self.end(deed, Answer::Unsure);
            }
        }
    }

    fn amend(&mut self) {
        let name = self.name();
        let deed = self.begin(name, Wish::Amend);
        let mut wanted = DataSet::new();
        wanted.put_text(tags::IMAGE_COMMENTS, VR::LT, "amended");
        let scope = Scope::Instance(sent(name, 0).0.sop_instance);
        let source = pacs_core::Source::default();
        let amended = self.opened.pacs.amend(&source, scope, wanted);
        let answer = match block_on(amended) {
            Ok(done) if done.failed == 0 => Answer::Amended,
            Err(error) if error.kind() == ErrorKind::NotFound => Answer::Nothing,
            // It could not be read, or was removed meanwhile.
            Ok(done) => {
                let errors = done.first_failed.iter().map(|(_, error)| error);
                errors
                    .filter(|error| error.kind() != ErrorKind::NotFound)
                    .for_each(assert_failed);
                Answer::Nothing
            }
            Err(error) => {
                assert_failed(&error);
                Answer::Unsure
            }
        };
        self.end(deed, answer);
    }

    fn look(&mut self) {
        let name = self.name();
        self.look_at(name);
        let found = self
            .opened
            .pacs
            .find(&pacs_core::Source::default(), query(Level::Instance));
        let found: Result<Vec<DataSet>> = block_on(found.expect("is admitted").try_collect());
        if let Ok(found) = found {
            let uids: BTreeSet<_> = names().map(|name| sent(name, 0).0.sop_instance).collect();
            for answer in found {
                let uid = answer.uid(tags::SOP_INSTANCE_UID).expect("has a UID");
                assert!(uids.contains(&uid), "nothing is found that was not sent");
            }
        }
    }

    /// What is seen of an instance now is whole; it is there when it was acknowledged and nobody may
    /// have removed it.
    fn look_at(&self, name: Name) {
        let pacs = &self.opened.pacs;
        let acknowledged = {
            let history = self.history.lock().expect("nobody panicked");
            history.of(name).any(|deed| deed.has_stored().is_some())
        };
        let record = match block_on(pacs.lookup(&sent(name, 0).0.sop_instance)) {
            Ok(record) => record,
            Err(error) => return assert_failed(&error),
        };
        let bytes = record
            .map(|record| block_on(pacs.read_data_set(&record).try_collect::<Vec<_>>()))
            .transpose();
        let may_be_gone = {
            let history = self.history.lock().expect("nobody panicked");
            history.of(name).any(|deed| deed.wish == Wish::Remove)
        };
        match bytes {
            Ok(Some(bytes)) => assert!(variant_of(name, &bytes.concat()).is_some(), "half is seen"),
            Ok(None) => assert!(may_be_gone || !acknowledged, "what was acknowledged is not found"),
            Err(error) if error.kind() == ErrorKind::NotFound => assert!(may_be_gone),
            Err(error) => assert_failed(&error),
        }
    }
}

/// A failure of the medium is told as one.
fn assert_failed(error: &pacs_core::Error) {
    assert!(
        matches!(error.kind(), ErrorKind::Io | ErrorKind::OutOfResources),
        "{error:?}"
    );
}

#[test]
fn what_an_engine_acknowledged_is_there_and_found_whatever_its_medium_does() {
    runs(300, |seed| Run::new(seed).run());
}

#[test]
fn a_removal_that_fails_after_some_versions_leaves_an_index_that_knows_the_rest() {
    let segments = SegmentOptions {
        reserve_bytes: 0,
        ..SegmentOptions::default()
    };
    let mut failed = 0;
    for seed in 0..40 {
        let medium = FaultyMedium::new(seed);
        let opened = open(&medium, segments, None, DuplicatePolicy::Replace).expect("opens");
        let keep = |name, variant| {
            let stored = store(&opened.pacs, sent(name, variant), 1 << 20);
            block_on(stored).expect("is kept").record
        };
        let name = (0, 0, 0);
        for variant in 0..VARIANTS {
            keep(name, variant);
        }
        medium.set_faults(Faults {
            write: 400,
            ..Faults::default()
        });
        failed += u32::from(block_on(opened.pacs.remove(&sent(name, 0).0.sop_instance)).is_err());
        medium.set_faults(Faults::default());
        let check = |opened: &Opened| {
            let verified = block_on(opened.pacs.verify(|_| ())).expect("is verified");
            assert_eq!(verified.damaged, vec![], "seed {seed}");
        };
        // The low water passes the removals.
        while block_on(store(&opened.pacs, sent((0, 0, 1), 0), 1 << 20)).is_err() {}
        check(&opened);
        drop(opened);
        check(&open(&medium, segments, None, DuplicatePolicy::Replace).expect("opens"));
    }
    assert!(failed > 10);
}
