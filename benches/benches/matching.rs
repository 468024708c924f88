//! What it costs to decide whether an entity matches a query: the walk that an index falls back to.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dicom_core::VR;
use dicom_dictionary_std::tags;
use pacs_benches::slice;
use pacs_core::query::{AttributeSet, Model, QueryOptions};
use pacs_core::{DataSet, Level, Query};

/// Entities that are looked at in one iteration.
const ENTITIES: usize = 1000;

fn matching(criterion: &mut Criterion) {
    let attributes = AttributeSet::default();
    let entities: Vec<DataSet> = (0..ENTITIES)
        .map(|study| {
            let levels = attributes.extract(&slice(study, 1, 1, 0));
            let mut entity = levels.study;
            entity.add_from(&levels.patient);
            entity
        })
        .collect();
    let fuzzy = QueryOptions {
        fuzzy_person_names: true,
        ..QueryOptions::default()
    };
    let plain = QueryOptions::default();
    let cases = [
        (
            "single value",
            tags::ACCESSION_NUMBER,
            VR::SH,
            "ACC00000500",
            plain,
        ),
        ("name prefix", tags::PATIENT_NAME, VR::PN, "family0012*", plain),
        ("name *part*", tags::PATIENT_NAME, VR::PN, "*ly0012*", plain),
        ("name, fuzzy", tags::PATIENT_NAME, VR::PN, "Famili00120", fuzzy),
        ("date range", tags::STUDY_DATE, VR::DA, "20260301-20260331", plain),
    ];
    let mut group = criterion.benchmark_group("match 1,000 studies");
    group.throughput(Throughput::Elements(ENTITIES as u64));
    for (name, tag, vr, value, options) in cases {
        let mut keys = DataSet::new();
        keys.put_text(tag, vr, value);
        let query = Query::new(Model::StudyRoot, Level::Study, keys, options);
        group.bench_with_input(BenchmarkId::from_parameter(name), &query, |bencher, query| {
            bencher.iter(|| {
                entities
                    .iter()
                    .filter(|entity| query.matches(black_box(entity)))
                    .count()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, matching);
criterion_main!(benches);
