//! Random worlds of instances, and random questions about them.

use std::ops::Range;
use std::sync::LazyLock;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::{tags, uids};

use super::random::Random;
use crate::archive::{Locator, Sequence, Timestamp};
use crate::dataset::DataSet;
use crate::index::InstanceRecord;
use crate::query::{AttributeSet, LevelAttributes, Model, Query, QueryOptions};
use crate::uid::{InstanceKey, Level, Uid};

/// Made once: random questions are asked by the million.
static ATTRIBUTES: LazyLock<AttributeSet> = LazyLock::new(AttributeSet::default);

const NAMES: &[&str] = &[
    "Doe^Jane",
    "DOE^JOHN^^DR",
    "Müller^Jürgen",
    "Muller^Jorg ",
    "Sørensen^Åse^^",
    "Weiß^Ana María",
    "Wałęsa",
    "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "=山田",
    "Smith",
    "Smith^A^B",
    "",
];
const DATES: &[&str] = &["19991231", "20230105", "20230131", "20240229", "2024.03.01", ""];
const TIMES: &[&str] = &[
    "000000",
    "0959",
    "100000.5",
    "10",
    "235959.999999",
    "18:30:00",
    "",
];
const MODALITIES: &[&str] = &["CT", "MR", "PT", "SR", ""];
const CLASSES: &[&str] = &[
    uids::CT_IMAGE_STORAGE,
    uids::MR_IMAGE_STORAGE,
    uids::BASIC_TEXT_SR_STORAGE,
];
const DESCRIPTIONS: &[&str] = &["CHEST PA", "Chest pa", "HEAD*NECK", "ABDOMEN", "A", ""];

/// How large a world may become.
const PATIENTS: u64 = 5;
const STUDIES_PER_PATIENT: u64 = 3;
const SERIES_PER_STUDY: u64 = 3;
const INSTANCES_PER_SERIES: u64 = 3;

fn uid(text: &str) -> Uid {
    // Only digits and dots, and short.
    Uid::parse(text).unwrap_or(Uid::constant("2.25.1"))
}

/// A record of the instance that these numbers name. What it says of patient, study and series depends
/// on their numbers and `world` alone, so that instances of one entity agree.
pub fn record(
    world: u64,
    patient: u64,
    study: u64,
    series: u64,
    instance: u64,
    version: u64,
) -> InstanceRecord {
    let root = format!("1.2.826.0.1.{world}");
    let key = InstanceKey {
        study: uid(&format!("{root}.{patient}.{study}")),
        series: uid(&format!("{root}.{patient}.{study}.{series}")),
        instance: uid(&format!("{root}.{patient}.{study}.{series}.{instance}")),
    };
    let seed = |level: u64| Random::new(world ^ level << 40 ^ patient << 30 ^ study << 20 ^ series << 10);
    let mut header = DataSet::new();

    let mut random = Random::new(world ^ patient << 30);
    header.put_text(tags::PATIENT_ID, VR::LO, format!("P{patient}"));
    header.put_text(tags::PATIENT_NAME, VR::PN, *random.pick(NAMES));
    header.put_text(tags::PATIENT_BIRTH_DATE, VR::DA, *random.pick(DATES));
    header.put_text(tags::PATIENT_SEX, VR::CS, *random.pick(&["M", "F", "O", ""]));

    let mut random = Random::new(world ^ 1 << 40 ^ patient << 30 ^ study << 20);
    header.put_uid(tags::STUDY_INSTANCE_UID, &key.study);
    header.put_text(tags::STUDY_DATE, VR::DA, *random.pick(DATES));
    header.put_text(tags::STUDY_TIME, VR::TM, *random.pick(TIMES));
    header.put_text(tags::ACCESSION_NUMBER, VR::SH, format!("A{}", random.below(6)));
    header.put_text(tags::STUDY_ID, VR::SH, random.below(3).to_string());
    header.put_text(tags::STUDY_DESCRIPTION, VR::LO, *random.pick(DESCRIPTIONS));
    header.put_text(tags::REFERRING_PHYSICIAN_NAME, VR::PN, *random.pick(NAMES));

    let mut random = seed(2);
    header.put_uid(tags::SERIES_INSTANCE_UID, &key.series);
    header.put_text(tags::MODALITY, VR::CS, *random.pick(MODALITIES));
    header.put_text(
        tags::SERIES_NUMBER,
        VR::IS,
        *random.pick(&["1", "+1", "01 ", "2", ""]),
    );
    header.put_text(tags::SERIES_DESCRIPTION, VR::LO, *random.pick(DESCRIPTIONS));
    header.put_text(
        tags::PERFORMED_PROCEDURE_STEP_START_DATE,
        VR::DA,
        *random.pick(DATES),
    );
    let items = (0..random.below(3)).map(|_| {
        let mut item = DataSet::new();
        item.put_text(
            tags::SCHEDULED_PROCEDURE_STEP_ID,
            VR::SH,
            format!("S{}", random.below(3)),
        );
        item.put_text(
            tags::REQUESTED_PROCEDURE_ID,
            VR::SH,
            format!("R{}", random.below(3)),
        );
        item
    });
    header.put_items(tags::REQUEST_ATTRIBUTES_SEQUENCE, items.collect());

    let mut random = Random::new(seed(3).bits() ^ instance << 8 ^ version);
    let sop_class = uid(CLASSES[random.index(CLASSES.len())]);
    header.put_uid(tags::SOP_CLASS_UID, &sop_class);
    header.put_uid(tags::SOP_INSTANCE_UID, &key.instance);
    header.put_text(tags::INSTANCE_NUMBER, VR::IS, instance.to_string());
    header.put_text(
        tags::IMAGE_TYPE,
        VR::CS,
        *random.pick(&["ORIGINAL\\PRIMARY", "DERIVED\\SECONDARY\\MIP"]),
    );
    header.put_text(tags::CONTENT_DATE, VR::DA, *random.pick(DATES));
    header.put_text(tags::CONTENT_TIME, VR::TM, *random.pick(TIMES));
    header.put_text(
        tags::SLICE_LOCATION,
        VR::DS,
        *random.pick(&["1.50", "-2", "15e-1", ""]),
    );
    header.put_u16(tags::ROWS, *random.pick(&[128, 512]));

    let offset = random.below(900);
    InstanceRecord {
        key,
        sop_class,
        transfer_syntax: Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN),
        locator: Locator::new(&random.bits().to_le_bytes()),
        length: 1_000 + random.below(1_000_000),
        data_set_offset: offset,
        sequence: Sequence(1 + random.below(1 << 40)),
        received: Timestamp(random.below(1 << 41)),
        attributes: ATTRIBUTES.extract(&header),
        coerced: random.chance(4).then(|| {
            let mut coerced = DataSet::new();
            coerced.put_text(tags::PATIENT_ID, VR::LO, *random.pick(DESCRIPTIONS));
            let mut item = DataSet::new();
            item.put_text(tags::PATIENT_ID, VR::LO, "x".repeat(random.index(600)));
            coerced.put_items(tags::ORIGINAL_ATTRIBUTES_SEQUENCE, vec![item]);
            coerced
        }),
        superseded: (0..random.below(3))
            .map(|n| Locator::new(&[n as u8, 7]))
            .collect(),
    }
}

/// Any instance of a world.
pub fn any_record(random: &mut Random, world: u64) -> InstanceRecord {
    let mut draw = |range: Range<u64>| range.start + random.below(range.end - range.start);
    let (patient, study) = (draw(0..PATIENTS), draw(0..STUDIES_PER_PATIENT));
    let (series, instance) = (draw(0..SERIES_PER_STUDY), draw(0..INSTANCES_PER_SERIES));
    record(world, patient, study, series, instance, draw(0..2))
}

/// Corrects what is known above an instance: the study is another patient's, or its and its series' values change.
pub fn any_correction(random: &mut Random, world: u64) -> LevelAttributes {
    let mut correction = LevelAttributes::default();
    if random.chance(2) {
        correction.patient = any_record(random, world).attributes.patient;
        // Nothing of the patient that it leaves.
        for (_, tag, vr) in KEYS.iter().filter(|(level, ..)| *level == Level::Patient) {
            if !correction.patient.contains(*tag) {
                correction.patient.put_text(*tag, *vr, "");
            }
        }
        return correction;
    }
    let accession = format!("A{}", random.below(6));
    correction
        .study
        .put_text(tags::ACCESSION_NUMBER, VR::SH, accession);
    let series = &mut correction.series;
    series.put_text(tags::MODALITY, VR::CS, *random.pick(MODALITIES));
    series.put_text(tags::SERIES_DESCRIPTION, VR::LO, *random.pick(DESCRIPTIONS));
    correction
}

/// The attributes that questions are asked about, with their level.
const KEYS: &[(Level, Tag, VR)] = &[
    (Level::Patient, tags::PATIENT_ID, VR::LO),
    (Level::Patient, tags::PATIENT_NAME, VR::PN),
    (Level::Patient, tags::PATIENT_BIRTH_DATE, VR::DA),
    (Level::Patient, tags::PATIENT_SEX, VR::CS),
    (Level::Study, tags::STUDY_INSTANCE_UID, VR::UI),
    (Level::Study, tags::STUDY_DATE, VR::DA),
    (Level::Study, tags::STUDY_TIME, VR::TM),
    (Level::Study, tags::ACCESSION_NUMBER, VR::SH),
    (Level::Study, tags::STUDY_ID, VR::SH),
    (Level::Study, tags::STUDY_DESCRIPTION, VR::LO),
    (Level::Study, tags::REFERRING_PHYSICIAN_NAME, VR::PN),
    (Level::Study, tags::MODALITIES_IN_STUDY, VR::CS),
    (Level::Study, tags::SOP_CLASSES_IN_STUDY, VR::UI),
    (Level::Study, tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS),
    (Level::Series, tags::SERIES_INSTANCE_UID, VR::UI),
    (Level::Series, tags::MODALITY, VR::CS),
    (Level::Series, tags::SERIES_NUMBER, VR::IS),
    (Level::Series, tags::SERIES_DESCRIPTION, VR::LO),
    (Level::Series, tags::PERFORMED_PROCEDURE_STEP_START_DATE, VR::DA),
    (Level::Series, tags::REQUEST_ATTRIBUTES_SEQUENCE, VR::SQ),
    (Level::Instance, tags::SOP_INSTANCE_UID, VR::UI),
    (Level::Instance, tags::SOP_CLASS_UID, VR::UI),
    (Level::Instance, tags::INSTANCE_NUMBER, VR::IS),
    (Level::Instance, tags::IMAGE_TYPE, VR::CS),
    (Level::Instance, tags::CONTENT_DATE, VR::DA),
    (Level::Instance, tags::CONTENT_TIME, VR::TM),
    (Level::Instance, tags::SLICE_LOCATION, VR::DS),
    (Level::Instance, tags::ROWS, VR::US),
];

/// A question in any model, at any level, with one to three keys of any kind of matching. Values are
/// taken from instances of the world, so that there is something to find.
pub fn any_query(random: &mut Random, world: u64) -> Query {
    let model = *random.pick(&[Model::PatientRoot, Model::StudyRoot]);
    let level = *random.pick(model.levels());
    let options = QueryOptions {
        relational: true,
        combined_date_time: random.chance(2),
        fuzzy_person_names: false,
        multiple_values: random.chance(4),
    };
    let mut keys = DataSet::new();
    keys.put_text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, level.as_str());
    let askable: Vec<_> = KEYS.iter().filter(|(of, ..)| *of <= level).collect();
    for _ in 0..1 + random.below(3) {
        let &&(_, tag, vr) = random.pick(&askable);
        put_key(random, world, &mut keys, tag, vr);
    }
    // The pair is asked for often enough to be combined, with the same form of range and with another.
    if level > Level::Patient && random.chance(4) {
        for (tag, vr) in [(tags::STUDY_DATE, VR::DA), (tags::STUDY_TIME, VR::TM)] {
            let (value, other) = (sample(random, world, tag), sample(random, world, tag));
            keys.put_text(tag, vr, any_range(random, &value, &other));
        }
    }
    Query::new(model, level, keys, options)
}

fn sample(random: &mut Random, world: u64, tag: Tag) -> String {
    let record = any_record(random, world);
    let LevelAttributes {
        patient,
        study,
        series,
        instance,
    } = &record.attributes;
    let values: Vec<&str> = [patient, study, series, instance]
        .into_iter()
        .flat_map(|set| set.strings(tag))
        .collect();
    match tag {
        tags::MODALITIES_IN_STUDY => (*random.pick(&["CT", "MR", "PT", "XA"])).to_owned(),
        tags::SOP_CLASSES_IN_STUDY => (*random.pick(CLASSES)).to_owned(),
        tags::NUMBER_OF_STUDY_RELATED_INSTANCES => random.below(5).to_string(),
        _ if values.is_empty() => String::new(),
        _ => (*random.pick(&values)).to_owned(),
    }
}

fn put_key(random: &mut Random, world: u64, keys: &mut DataSet, tag: Tag, vr: VR) {
    match vr {
        VR::US => return keys.put_u16(tag, *random.pick(&[128, 256, 512])),
        VR::SQ => {
            let mut item = DataSet::new();
            for (tag, letter) in [
                (tags::SCHEDULED_PROCEDURE_STEP_ID, "S"),
                (tags::REQUESTED_PROCEDURE_ID, "R"),
            ] {
                let text = match random.below(5) {
                    0 => String::new(),
                    1 => format!("{letter}*"),
                    2 => format!("?{}", random.below(3)),
                    _ => format!("{letter}{}", random.below(3)),
                };
                if !random.chance(4) {
                    item.put_text(tag, VR::SH, text);
                }
            }
            let items = if random.chance(8) { Vec::new() } else { vec![item] };
            return keys.put_items(tag, items);
        }
        _ => {}
    }
    let value = sample(random, world, tag);
    let other = sample(random, world, tag);
    let text = match random.below(10) {
        0 => String::new(),
        1 => "*".to_owned(),
        2 => "\"\"".to_owned(),
        3 => [value.as_str(), other.as_str()].join("\\"),
        // Alternatives that overlap.
        4 if !matches!(vr, VR::DA | VR::TM | VR::UI | VR::IS | VR::DS) => {
            [any_pattern(random, &value), any_pattern(random, &value)].join("\\")
        }
        _ => match vr {
            VR::DA | VR::TM => any_range(random, &value, &other),
            VR::PN => {
                let name = any_case(random, &value);
                any_pattern(random, &name)
            }
            VR::UI => value,
            VR::IS | VR::DS => value,
            _ => any_pattern(random, &value),
        },
    };
    keys.put_text(tag, vr, text);
}

fn any_range(random: &mut Random, value: &str, other: &str) -> String {
    let short = |text: &str, random: &mut Random| match text.get(..4) {
        Some(start) if text.is_ascii() && !text.contains([':', '.']) && random.chance(4) => start.to_owned(),
        _ => text.to_owned(),
    };
    let (value, other) = (short(value, random), short(other, random));
    if value.is_empty() || other.is_empty() {
        return value;
    }
    match random.below(4) {
        0 => format!("-{value}"),
        1 => format!("{value}-"),
        2 => format!("{value}-{other}"),
        _ => value,
    }
}

fn any_case(random: &mut Random, name: &str) -> String {
    match random.below(4) {
        0 => name.to_uppercase(),
        1 => name.to_lowercase(),
        2 => name.replace(['ü', 'å'], "u").replace('Å', "A"),
        // One group of several.
        _ => {
            let groups: Vec<&str> = name.split('=').collect();
            (*random.pick(&groups)).to_owned()
        }
    }
}

/// The text, or the text with a piece replaced by a wild card.
fn any_pattern(random: &mut Random, text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    if letters.is_empty() || random.chance(3) {
        return text.to_owned();
    }
    let from = random.index(letters.len());
    let mut to = from + random.index(letters.len() - from + 1);
    let wild = if random.chance(2) { '*' } else { '?' };
    if wild == '?' {
        to = from + 1;
    }
    let mut out: String = letters[..from].iter().collect();
    out.push(wild);
    out.extend(&letters[to..]);
    if random.chance(4) {
        out.push('*');
    }
    out
}
