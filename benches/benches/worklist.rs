//! What a query of the worklist costs: 100,000 items in a ledger, some 45 for each of twenty stations a day, and the
//! queries of a modality. As a test, with fewer items.

use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use futures::TryStreamExt;
use futures::executor::block_on;
use futures::future::try_join_all;
use pacs_core::workflow::{Worklist, WorklistQuery};
use pacs_core::{DataSet, Ledger};
use pacs_store::{MemoryLedger, RedbLedger};

const STATIONS: usize = 20;
const DAYS: usize = 112;

fn date(day: usize) -> String {
    format!("2026{:02}{:02}", day / 28 + 1, day % 28 + 1)
}

fn item(number: usize) -> DataSet {
    let (station, day) = (number % STATIONS, number / STATIONS % DAYS);
    let mut code = DataSet::new();
    code.put_text(tags::CODE_VALUE, VR::SH, format!("RPID{station}"));
    code.put_text(tags::CODING_SCHEME_DESIGNATOR, VR::SH, "RADLEX");
    code.put_text(tags::CODE_MEANING, VR::LO, "CT Chest");
    let mut step = DataSet::new();
    let modality = if station.is_multiple_of(3) { "MR" } else { "CT" };
    for (tag, vr, text) in [
        (tags::MODALITY, VR::CS, modality.to_owned()),
        (
            tags::SCHEDULED_STATION_AE_TITLE,
            VR::AE,
            format!("STATION{station}"),
        ),
        (tags::SCHEDULED_PROCEDURE_STEP_START_DATE, VR::DA, date(day)),
        (
            tags::SCHEDULED_PROCEDURE_STEP_START_TIME,
            VR::TM,
            format!("{:02}{:02}", number % 24, number % 60),
        ),
        (
            tags::SCHEDULED_PERFORMING_PHYSICIAN_NAME,
            VR::PN,
            format!("Doctor{}^Given", number % 50),
        ),
        (
            tags::SCHEDULED_PROCEDURE_STEP_DESCRIPTION,
            VR::LO,
            "Thorax and abdomen".to_owned(),
        ),
        (tags::SCHEDULED_PROCEDURE_STEP_ID, VR::SH, format!("SPS{number}")),
        (
            tags::SCHEDULED_PROCEDURE_STEP_STATUS,
            VR::CS,
            "SCHEDULED".to_owned(),
        ),
    ] {
        step.put_text(tag, vr, text);
    }
    step.put_items(tags::SCHEDULED_PROTOCOL_CODE_SEQUENCE, vec![code.clone()]);
    let mut item = DataSet::new();
    for (tag, vr, text) in [
        (tags::ACCESSION_NUMBER, VR::SH, format!("ACC{number:08}")),
        (
            tags::REFERRING_PHYSICIAN_NAME,
            VR::PN,
            format!("Referrer{}^Given", number % 90),
        ),
        (
            tags::PATIENT_NAME,
            VR::PN,
            format!("Family{:05}^Given", number / 2),
        ),
        (tags::PATIENT_ID, VR::LO, format!("PID{:07}", number / 2)),
        (tags::PATIENT_BIRTH_DATE, VR::DA, "19700131".to_owned()),
        (tags::PATIENT_SEX, VR::CS, "F".to_owned()),
        (
            tags::STUDY_INSTANCE_UID,
            VR::UI,
            format!("2.25.20260114.{number}"),
        ),
        (
            tags::REQUESTED_PROCEDURE_DESCRIPTION,
            VR::LO,
            "CT of the chest".to_owned(),
        ),
        (tags::REQUESTED_PROCEDURE_ID, VR::SH, format!("RP{number}")),
    ] {
        item.put_text(tag, vr, text);
    }
    item.put_items(tags::REQUESTED_PROCEDURE_CODE_SEQUENCE, vec![code]);
    item.put_items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE, vec![step]);
    item
}

fn filled(ledger: Arc<dyn Ledger>, items: usize) -> Worklist {
    let worklist = Worklist::new(ledger);
    let numbers: Vec<usize> = (0..items).collect();
    // Many at once share a flush.
    for some in numbers.chunks(1000) {
        let put = some.iter().map(|number| worklist.put(item(*number)));
        block_on(try_join_all(put)).expect("is kept");
    }
    worklist
}

/// What modalities ask for, with what they want to know.
fn query(of_step: &[(Tag, VR, &str)], of_item: &[(Tag, VR, &str)]) -> WorklistQuery {
    let mut step = DataSet::new();
    for tag in [tags::SCHEDULED_PROCEDURE_STEP_ID, tags::SCHEDULED_STATION_NAME] {
        step.put_text(tag, VR::SH, "");
    }
    of_step
        .iter()
        .for_each(|(tag, vr, text)| step.put_text(*tag, *vr, *text));
    let mut keys = DataSet::new();
    keys.put_text(tags::PATIENT_NAME, VR::PN, "");
    keys.put_text(tags::PATIENT_ID, VR::LO, "");
    keys.put_text(tags::ACCESSION_NUMBER, VR::SH, "");
    keys.put_text(tags::STUDY_INSTANCE_UID, VR::UI, "");
    of_item
        .iter()
        .for_each(|(tag, vr, text)| keys.put_text(*tag, *vr, *text));
    keys.put_items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE, vec![step]);
    WorklistQuery::from_identifier(&keys).expect("can be asked")
}

fn worklist(criterion: &mut Criterion) {
    // Filling is most of what a test of this bench would do.
    let items = if std::env::args().any(|argument| argument == "--bench") {
        100_000
    } else {
        2_000
    };
    let day = date(50);
    let days = format!("{}-{}", date(50), date(51));
    const DATE: Tag = tags::SCHEDULED_PROCEDURE_STEP_START_DATE;
    const STATION: Tag = tags::SCHEDULED_STATION_AE_TITLE;
    let queries = [
        (
            "day and station",
            query(&[(DATE, VR::DA, &day), (STATION, VR::AE, "STATION7")], &[]),
        ),
        (
            "day and modality",
            query(&[(DATE, VR::DA, &day), (tags::MODALITY, VR::CS, "MR")], &[]),
        ),
        ("two days, one physician", {
            let physician = (tags::SCHEDULED_PERFORMING_PHYSICIAN_NAME, VR::PN, "doctor7^*");
            query(&[(DATE, VR::DA, &days), physician], &[])
        }),
        (
            "patient ID",
            query(&[], &[(tags::PATIENT_ID, VR::LO, "PID0000500")]),
        ),
        (
            "accession number",
            query(&[], &[(tags::ACCESSION_NUMBER, VR::SH, "ACC00001000")]),
        ),
        (
            "name prefix",
            query(&[], &[(tags::PATIENT_NAME, VR::PN, "family0050*")]),
        ),
    ];
    let directory = tempfile::tempdir().expect("a temporary directory");
    let redb = RedbLedger::open(directory.path().join("ledger.redb")).expect("opens");
    let ledgers: [(&str, Arc<dyn Ledger>); 2] = [
        ("memory", Arc::new(MemoryLedger::new())),
        ("redb", Arc::new(redb)),
    ];
    for (kind, ledger) in ledgers {
        let worklist = filled(ledger, items);
        let mut group = criterion.benchmark_group(format!("worklist of {items} items, {kind}"));
        for (name, query) in &queries {
            let ask = || -> Vec<DataSet> {
                block_on(worklist.find(query.clone()).try_collect()).expect("is answered")
            };
            assert!(!ask().is_empty(), "{name} finds something");
            group.bench_with_input(BenchmarkId::from_parameter(name), query, |bencher, _| {
                bencher.iter(ask);
            });
        }
        group.finish();
    }
}

criterion_group!(benches, worklist);
criterion_main!(benches);
