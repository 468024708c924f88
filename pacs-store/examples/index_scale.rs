//! How the redb index behaves as it grows: applies made-up instances, and says at checkpoints how fast
//! that went, how long queries take, how large the file is and how long it takes to open.
//!
//! Run with `cargo run --release -p pacs-store --example index_scale -- --instances 1000000`.
//! Further options: `--batch N` (instances in one apply, 100), `--flush N` (instances between flushes,
//! 20000), `--cache-mib N` (64), `--data FILE` (a temporary one), `--rounds N` (queries of each kind, 300).
//!
//! The instances: 100 to a study in 4 series, from 40 devices whose UIDs share long prefixes, 8 studies
//! arriving at a time, 27 studies a day, 2.5 studies a patient, 64,000 family names.

// A program that prints its findings.
#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use futures::StreamExt;
use futures::executor::block_on;
use pacs_core::archive::{Locator, Sequence, Timestamp};
use pacs_core::dataset::DataSet;
use pacs_core::index::{Change, Index, InstanceRecord, Scope};
use pacs_core::query::{AttributeSet, Model, Query, QueryOptions};
use pacs_core::uid::{InstanceKey, Level, Uid};
use pacs_core::{Error, Result};
use pacs_store::{RedbIndex, RedbIndexOptions};

const INSTANCES_PER_STUDY: u64 = 100;
const SERIES_PER_STUDY: u64 = 4;
const STUDIES_AT_A_TIME: u64 = 8;
const STUDIES_PER_DAY: u64 = 27;
const SYLLABLES: [&str; 40] = [
    "AN", "BER", "CAR", "DEN", "EL", "FOR", "GAR", "HAL", "IS", "JO", "KAR", "LIN", "MAR", "NOR", "OS",
    "PET", "QUI", "ROS", "SAN", "TOR", "UL", "VAN", "WIL", "XA", "YOR", "ZEL", "BAU", "CLA", "DOR", "ERN",
    "FEL", "GRU", "HOF", "KLE", "LAN", "MUL", "NEU", "RICH", "SCH", "TRA",
];
const GIVEN: [&str; 20] = [
    "JOHN", "MARY", "ANNA", "PETER", "LUIS", "CHEN", "FATIMA", "OLGA", "RAVI", "JOSÉ", "EMMA", "NOAH", "MIA",
    "LIAM", "SOFIA", "HANS", "YUKI", "AHMED", "INGRID", "PAULO",
];
const MODALITIES: [(&str, &str); 4] = [
    ("CT", uids::CT_IMAGE_STORAGE),
    ("MR", uids::MR_IMAGE_STORAGE),
    ("US", uids::ULTRASOUND_IMAGE_STORAGE),
    ("CR", uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE),
];

/// A number that depends on `of` alone and looks random (splitmix64).
fn scatter(of: u64) -> u64 {
    let mut z = of.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn pick<'t>(of: u64, list: &[&'t str]) -> &'t str {
    list[(scatter(of) % list.len() as u64) as usize]
}

/// The day so many days after 2015-01-01, with months of 28 days.
fn day(number: u64) -> String {
    let (year, rest) = (number / 336, number % 336);
    format!("{:04}{:02}{:02}", 2015 + year, rest / 28 + 1, rest % 28 + 1)
}

struct Made {
    study: u64,
}

impl Made {
    fn patient(&self) -> u64 {
        scatter(self.study) % (self.study * 2 / 5 + 1)
    }

    fn name(&self) -> String {
        let patient = self.patient() << 8;
        let family = [0, 1, 2].map(|part| pick(patient + part, &SYLLABLES)).concat();
        format!("{family}^{}", pick(patient + 3, &GIVEN))
    }

    fn patient_id(&self) -> String {
        format!("{:08}", self.patient() * 37 % 100_000_000)
    }

    fn accession(&self) -> String {
        format!("A{:09}", self.study)
    }

    fn date(&self) -> String {
        day(self.study / STUDIES_PER_DAY)
    }

    fn modality(&self) -> (&'static str, &'static str) {
        MODALITIES[(scatter(self.study << 4) % 4) as usize]
    }

    fn uid(&self, below: &str) -> Uid {
        let device = scatter(self.study << 5) % 40;
        let root = format!(
            "1.2.840.113619.2.{}.3.{}",
            50 + device,
            2_831_000_000 + device * 7_919
        );
        let text = format!(
            "{root}.{}.{}{below}",
            100 + self.study % 900,
            1_170_318_765 + self.study * 311
        );
        Uid::parse(&text).unwrap_or(Uid::constant("2.25.0"))
    }

    fn key(&self, instance: u64) -> InstanceKey {
        let (series, number) = (instance % SERIES_PER_STUDY + 1, instance / SERIES_PER_STUDY + 1);
        InstanceKey {
            study: self.uid(""),
            series: self.uid(&format!(".{series}")),
            instance: self.uid(&format!(".{series}.{number}")),
        }
    }

    fn record(&self, set: &AttributeSet, instance: u64, sequence: u64) -> InstanceRecord {
        let key = self.key(instance);
        let (modality, class) = self.modality();
        let series = instance % SERIES_PER_STUDY + 1;
        let number = instance / SERIES_PER_STUDY + 1;
        let date = self.date();
        let time = format!("{:06}.{:03}", 80_000 + self.study % 90_000, instance * 7);
        let mut header = DataSet::new();
        header.put_text(tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY\\AXIAL");
        header.put_text(tags::SOP_CLASS_UID, VR::UI, class);
        header.put_uid(tags::SOP_INSTANCE_UID, &key.instance);
        for tag in [
            tags::STUDY_DATE,
            tags::SERIES_DATE,
            tags::ACQUISITION_DATE,
            tags::CONTENT_DATE,
        ] {
            header.put_text(tag, VR::DA, date.as_str());
        }
        for tag in [
            tags::STUDY_TIME,
            tags::SERIES_TIME,
            tags::ACQUISITION_TIME,
            tags::CONTENT_TIME,
        ] {
            header.put_text(tag, VR::TM, time.as_str());
        }
        header.put_text(tags::ACCESSION_NUMBER, VR::SH, self.accession());
        header.put_text(tags::MODALITY, VR::CS, modality);
        header.put_text(tags::MANUFACTURER, VR::LO, "MADE UP SYSTEMS");
        header.put_text(tags::INSTITUTION_NAME, VR::LO, "General Hospital");
        header.put_text(tags::REFERRING_PHYSICIAN_NAME, VR::PN, "HOUSE^GREG");
        header.put_text(tags::STATION_NAME, VR::SH, format!("ST{}", self.study % 40));
        header.put_text(tags::STUDY_DESCRIPTION, VR::LO, "CHEST WITH CONTRAST");
        header.put_text(tags::SERIES_DESCRIPTION, VR::LO, format!("AXIAL {series}.0 mm"));
        header.put_text(tags::MANUFACTURER_MODEL_NAME, VR::LO, "Scanner 5000");
        header.put_text(tags::PATIENT_NAME, VR::PN, self.name());
        header.put_text(tags::PATIENT_ID, VR::LO, self.patient_id());
        header.put_text(
            tags::PATIENT_BIRTH_DATE,
            VR::DA,
            format!(
                "19{:02}0{:01}1{:01}",
                self.patient() % 100,
                self.patient() % 9 + 1,
                self.patient() % 10
            ),
        );
        header.put_text(tags::PATIENT_SEX, VR::CS, pick(self.patient(), &["M", "F"]));
        header.put_text(tags::PATIENT_AGE, VR::AS, "054Y");
        header.put_text(tags::BODY_PART_EXAMINED, VR::CS, "CHEST");
        header.put_text(tags::PROTOCOL_NAME, VR::LO, "CHEST ROUTINE");
        header.put_uid(tags::STUDY_INSTANCE_UID, &key.study);
        header.put_uid(tags::SERIES_INSTANCE_UID, &key.series);
        header.put_text(tags::STUDY_ID, VR::SH, (self.study % 100_000).to_string());
        header.put_text(tags::SERIES_NUMBER, VR::IS, series.to_string());
        header.put_text(tags::ACQUISITION_NUMBER, VR::IS, "1");
        header.put_text(tags::INSTANCE_NUMBER, VR::IS, number.to_string());
        header.put_text(
            tags::IMAGE_POSITION_PATIENT,
            VR::DS,
            format!("-174.6\\-170.1\\-{number}.25"),
        );
        header.put_text(tags::IMAGE_ORIENTATION_PATIENT, VR::DS, "1\\0\\0\\0\\1\\0");
        header.put_text(tags::SLICE_LOCATION, VR::DS, format!("-{number}.25"));
        header.put_u16(tags::ROWS, 512);
        header.put_u16(tags::COLUMNS, 512);
        header.put_text(tags::PIXEL_SPACING, VR::DS, "0.68\\0.68");
        header.put_u16(tags::BITS_ALLOCATED, 16);
        header.put_u16(tags::BITS_STORED, 12);
        let offset = sequence * 530_000;
        InstanceRecord {
            key,
            sop_class: Uid::constant(class),
            transfer_syntax: Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN),
            locator: Locator::new(&[&offset.to_le_bytes()[..], &530_000_u32.to_le_bytes()].concat()),
            length: 529_000 + instance,
            data_set_offset: 334,
            sequence: Sequence(sequence),
            received: Timestamp(1_700_000_000_000 + sequence),
            attributes: set.extract(&header),
            frames: None,
            superseded: Vec::new(),
        }
    }
}

/// The instance that comes as number `at`: some studies arrive side by side.
fn arriving(at: u64) -> (u64, u64) {
    let block = STUDIES_AT_A_TIME * INSTANCES_PER_STUDY;
    let (group, within) = (at / block, at % block);
    (
        group * STUDIES_AT_A_TIME + within % STUDIES_AT_A_TIME,
        within / STUDIES_AT_A_TIME,
    )
}

struct Options {
    instances: u64,
    batch: u64,
    flush: u64,
    cache_mib: usize,
    rounds: u64,
    data: Option<PathBuf>,
    /// Of the child that is to be killed: the number of instances that are there.
    die_after: Option<u64>,
}

fn options() -> Result<Options> {
    let mut options = Options {
        instances: 1_000_000,
        batch: 100,
        flush: 20_000,
        cache_mib: 64,
        rounds: 300,
        data: None,
        die_after: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        let number = || {
            value.parse::<u64>().map_err(|_| {
                Error::new(
                    pacs_core::ErrorKind::Invalid,
                    "index_scale.options",
                    format!("{name} needs a number"),
                )
            })
        };
        match name.as_str() {
            "--instances" => options.instances = number()?,
            "--batch" => options.batch = number()?.max(1),
            "--flush" => options.flush = number()?.max(1),
            "--cache-mib" => options.cache_mib = number()? as usize,
            "--rounds" => options.rounds = number()?.max(1),
            "--data" => options.data = Some(value.into()),
            "--die-after" => options.die_after = Some(number()?),
            _ => {
                let why = format!("unknown option {name}");
                return Err(Error::new(
                    pacs_core::ErrorKind::Invalid,
                    "index_scale.options",
                    why,
                ));
            }
        }
    }
    Ok(options)
}

fn main() -> Result<()> {
    let options = options()?;
    let directory =
        tempfile::tempdir().map_err(|e| Error::io("index_scale.data", "no temporary directory", e))?;
    let path = options
        .data
        .clone()
        .unwrap_or_else(|| directory.path().join("index.redb"));
    if let Some(from) = options.die_after {
        return die(&options, &path, from);
    }
    grow(&options, &path)?;
    reopen(&options, &path)
}

fn open(options: &Options, path: &Path) -> Result<RedbIndex> {
    let mut settings = RedbIndexOptions::default();
    settings.cache_max_bytes = options.cache_mib << 20;
    RedbIndex::open(path, settings)
}

/// Time that something took.
#[derive(Clone, Copy, Default)]
struct Took {
    applying: Duration,
    /// Of `applying`, while the thread had a processor: on a machine that does other things too, this is
    /// what can be compared.
    on_processor: Duration,
    flushing: Duration,
}

/// How long this thread has had a processor.
fn on_processor() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or_default())
}

/// Applies instances from number `from` up to `to`.
fn apply(options: &Options, index: &RedbIndex, from: u64, to: u64) -> Result<Took> {
    let set = AttributeSet::default();
    let mut took = Took::default();
    let mut at = from;
    while at < to {
        let end = (at + options.batch).min(to);
        let changes = (at..end)
            .map(|at| {
                let (study, instance) = arriving(at);
                Change::Store(Box::new(Made { study }.record(&set, instance, at + 1)))
            })
            .collect();
        let (start, processor) = (Instant::now(), on_processor());
        block_on(index.apply(changes, Sequence(end)))?;
        took.applying += start.elapsed();
        took.on_processor += on_processor() - processor;
        if end / options.flush > at / options.flush {
            let start = Instant::now();
            block_on(index.flush())?;
            took.flushing += start.elapsed();
        }
        at = end;
    }
    Ok(took)
}

fn grow(options: &Options, path: &Path) -> Result<()> {
    let index = open(options, path)?;
    println!(
        "batch {}, flush every {}, cache {} MiB",
        options.batch, options.flush, options.cache_mib
    );
    let mut at = block_on(index.totals())?.instances;
    let (mut since, mut took) = (at, Took::default());
    while at < options.instances {
        let step = if at < 100_000 { 100_000 } else { 1_000_000 };
        let end = ((at / step + 1) * step).min(options.instances);
        let now = apply(options, &index, at, end)?;
        took.applying += now.applying;
        took.on_processor += now.on_processor;
        took.flushing += now.flushing;
        at = end;
        if at % 1_000_000 == 0 || at == 100_000 || at == options.instances {
            let count = (at - since) as f64;
            let seconds = (took.applying + took.flushing).as_secs_f64();
            let each = |time: Duration| time.as_secs_f64() * 1e6 / count;
            println!(
                "{at:>9} instances: {:>7.0}/s; an instance takes {:.1} us to apply ({:.1} on the processor), {:.1} to flush; {}; memory {} MiB",
                count / seconds,
                each(took.applying),
                each(took.on_processor),
                each(took.flushing),
                size(path, at),
                peak_memory_mib(),
            );
            (since, took) = (at, Took::default());
        }
        if at == 100_000 || at == 1_000_000 || at == options.instances {
            ask(options, &index, at)?;
        }
    }
    let start = Instant::now();
    drop(index);
    println!("clean stop {:.2?}; {}", start.elapsed(), size(path, at));
    Ok(())
}

/// Length of the file, and what of it is on the disk, both also by instance.
fn size(path: &Path, instances: u64) -> String {
    use std::os::unix::fs::MetadataExt;
    let Ok(file) = std::fs::metadata(path) else {
        return String::new();
    };
    let taken = file.blocks() * 512;
    format!(
        "file {} MiB ({} B an instance), on disk {} MiB ({} B)",
        file.len() >> 20,
        file.len() / instances.max(1),
        taken >> 20,
        taken / instances.max(1),
    )
}

fn peak_memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|text| text.trim().split(' ').next()?.parse::<u64>().ok())
        .unwrap_or_default()
        / 1024
}

/// Queries of each kind, and how long they took.
fn ask(options: &Options, index: &RedbIndex, instances: u64) -> Result<()> {
    let studies = instances / INSTANCES_PER_STUDY;
    type Keys = Vec<(dicom_core::Tag, VR, String)>;
    let text = |tag, vr, value: String| (tag, vr, value);
    type Ask = Box<dyn Fn(&Made) -> Keys>;
    let kinds: Vec<(&str, Level, Ask)> = vec![
        (
            "patient id",
            Level::Study,
            Box::new(move |m| vec![text(tags::PATIENT_ID, VR::LO, m.patient_id())]),
        ),
        (
            "accession number",
            Level::Study,
            Box::new(move |m| vec![text(tags::ACCESSION_NUMBER, VR::SH, m.accession())]),
        ),
        (
            "day and modality",
            Level::Study,
            Box::new(move |m| {
                vec![
                    text(tags::STUDY_DATE, VR::DA, m.date()),
                    text(tags::MODALITIES_IN_STUDY, VR::CS, m.modality().0.to_owned()),
                ]
            }),
        ),
        (
            "5 days and modality",
            Level::Study,
            Box::new(move |m| {
                let first = m.study / STUDIES_PER_DAY;
                vec![
                    text(
                        tags::STUDY_DATE,
                        VR::DA,
                        format!("{}-{}", day(first), day(first + 4)),
                    ),
                    text(tags::MODALITIES_IN_STUDY, VR::CS, m.modality().0.to_owned()),
                ]
            }),
        ),
        (
            "name prefix",
            Level::Study,
            Box::new(move |m| {
                let name = m.name();
                let (family, given) = name.split_once('^').unwrap_or((&name, ""));
                let initial: String = given.chars().take(1).collect();
                vec![text(tags::PATIENT_NAME, VR::PN, format!("{family}^{initial}*"))]
            }),
        ),
        (
            "name *part*",
            Level::Study,
            Box::new(move |m| {
                let name: Vec<char> = m.name().chars().collect();
                let part: String = name[2..name.len() - 2].iter().collect();
                vec![text(tags::PATIENT_NAME, VR::PN, format!("*{part}*"))]
            }),
        ),
        (
            "patients by name",
            Level::Patient,
            Box::new(move |m| vec![text(tags::PATIENT_NAME, VR::PN, m.name())]),
        ),
        (
            "study uid",
            Level::Study,
            Box::new(move |m| vec![text(tags::STUDY_INSTANCE_UID, VR::UI, m.uid("").to_string())]),
        ),
        (
            "series of a study",
            Level::Series,
            Box::new(move |m| vec![text(tags::STUDY_INSTANCE_UID, VR::UI, m.uid("").to_string())]),
        ),
        (
            "instances of a series",
            Level::Instance,
            Box::new(move |m| {
                vec![
                    text(tags::STUDY_INSTANCE_UID, VR::UI, m.uid("").to_string()),
                    text(tags::SERIES_INSTANCE_UID, VR::UI, m.key(1).series.to_string()),
                ]
            }),
        ),
        (
            "instance, relational",
            Level::Instance,
            Box::new(move |m| {
                vec![text(
                    tags::SOP_INSTANCE_UID,
                    VR::UI,
                    m.key(57).instance.to_string(),
                )]
            }),
        ),
        (
            "series by accession, rel.",
            Level::Series,
            Box::new(move |m| vec![text(tags::ACCESSION_NUMBER, VR::SH, m.accession())]),
        ),
    ];
    println!(
        "    {:<26} {:>9} {:>9} {:>9}  answers",
        "query", "p50", "p99", "max"
    );
    for (name, level, keys) in &kinds {
        let mut times = Vec::new();
        let mut answers = 0;
        for round in 0..options.rounds {
            let made = Made {
                study: scatter(round ^ instances) % studies,
            };
            let mut set = DataSet::new();
            for (tag, vr, value) in keys(&made) {
                set.put_text(tag, vr, value);
            }
            let query = Query::new(Model::StudyRoot, *level, set, QueryOptions::default());
            let start = Instant::now();
            answers += block_on(index.query(query).count());
            times.push(start.elapsed());
        }
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        println!(
            "    {name:<26} {:>9.1?} {:>9.1?} {:>9.1?}  {:.1}",
            at(0.5),
            at(0.99),
            at(1.0),
            answers as f64 / options.rounds as f64
        );
    }
    let everything = Query::new(
        Model::StudyRoot,
        Level::Study,
        DataSet::new(),
        QueryOptions::default(),
    );
    let start = Instant::now();
    let mut stream = index.query(everything);
    block_on(stream.next());
    let first = start.elapsed();
    let count = 1 + block_on(stream.count());
    println!(
        "    every study: first after {first:.1?}, all {count} after {:.1?}",
        start.elapsed()
    );
    let start = Instant::now();
    let mut looked_up = 0;
    for round in 0..options.rounds {
        let made = Made {
            study: scatter(round) % studies,
        };
        looked_up += usize::from(block_on(index.lookup(&made.key(round % 100).instance))?.is_some());
    }
    println!(
        "    look-up of an instance: {:.1?} ({looked_up} of {} found)",
        start.elapsed() / options.rounds as u32,
        options.rounds
    );
    Ok(())
}

fn reopen(options: &Options, path: &Path) -> Result<()> {
    let timed = |what: &str| -> Result<u64> {
        let start = Instant::now();
        let index = open(options, path)?;
        let opened = start.elapsed();
        let totals = block_on(index.totals())?;
        block_on(index.instances(Scope::All).next());
        let water = block_on(index.low_water())?;
        println!(
            "open after {what}: {opened:.2?}, with a first read {:.2?}; {} instances, low water {}",
            start.elapsed(),
            totals.instances,
            water.0
        );
        Ok(totals.instances)
    };
    let instances = timed("a clean stop")?;
    // A process of its own applies some more and is gone without a word.
    let program = std::env::current_exe().map_err(|e| Error::io("index_scale.child", "no program", e))?;
    let status = Command::new(program)
        .args(["--die-after", &instances.to_string(), "--data"])
        .arg(path)
        .args(["--cache-mib", &options.cache_mib.to_string()])
        .status()
        .map_err(|e| Error::io("index_scale.child", "the child did not run", e))?;
    println!("a child applied 50000 more, the last 10000 without flush, and died: {status}");
    timed("a kill")?;
    Ok(())
}

/// Applies more and ends as if killed.
fn die(options: &Options, path: &Path, from: u64) -> Result<()> {
    let index = open(options, path)?;
    apply(options, &index, from, from + 40_000)?;
    block_on(index.flush())?;
    let unflushed = Options {
        flush: u64::MAX,
        instances: 0,
        batch: options.batch,
        cache_mib: options.cache_mib,
        rounds: 1,
        data: None,
        die_after: None,
    };
    apply(&unflushed, &index, from + 40_000, from + 50_000)?;
    std::process::abort()
}
