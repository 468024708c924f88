//! What the index on redb costs, in memory: applying instances in batches of several sizes, and queries
//! by each of the usual keys. How it behaves on a disk and as it grows: `load-bench scale`.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use futures::StreamExt;
use futures::executor::block_on;
use pacs_benches::slice;
use pacs_core::index::{Change, Index, InstanceRecord};
use pacs_core::query::{AttributeSet, Model, QueryOptions};
use pacs_core::{DataSet, InstanceKey, Level, Locator, Query, Sequence, Timestamp, Uid};
use pacs_store::{RedbIndex, RedbIndexOptions};
use redb::backends::InMemoryBackend;

const STUDIES: usize = 500;
const INSTANCES_PER_STUDY: usize = 20;

fn records(studies: usize) -> Vec<Change> {
    let attributes = AttributeSet::default();
    (0..studies * INSTANCES_PER_STUDY)
        .map(|at| {
            let header = slice(at / INSTANCES_PER_STUDY, 1, at % INSTANCES_PER_STUDY, 0);
            let uid = |tag| header.uid(tag).expect("a slice has its UIDs");
            let key = InstanceKey {
                study: uid(tags::STUDY_INSTANCE_UID),
                series: uid(tags::SERIES_INSTANCE_UID),
                instance: uid(tags::SOP_INSTANCE_UID),
            };
            Change::Store(Box::new(InstanceRecord {
                key,
                sop_class: uid(tags::SOP_CLASS_UID),
                transfer_syntax: Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN),
                locator: Locator::new(&(at as u64).to_le_bytes()),
                length: 530_000,
                data_set_offset: 334,
                sequence: Sequence(at as u64 + 1),
                received: Timestamp(1_700_000_000_000),
                attributes: attributes.extract(&header),
                coerced: None,
                superseded: Vec::new(),
            }))
        })
        .collect()
}

fn filled(changes: &[Change]) -> RedbIndex {
    let index = RedbIndex::with_backend(InMemoryBackend::new(), RedbIndexOptions::default());
    let index = index.expect("an index in memory");
    for batch in changes.chunks(1_000) {
        block_on(index.apply(batch.to_vec(), Sequence(1))).expect("applied");
    }
    index
}

fn apply(criterion: &mut Criterion) {
    let before = records(STUDIES);
    let new = &records(STUDIES + 50)[before.len()..];
    let mut group = criterion.benchmark_group("apply 1,000 instances");
    group.throughput(Throughput::Elements(new.len() as u64));
    group.sample_size(10);
    for batch in [1, 4, 100] {
        group.bench_with_input(
            BenchmarkId::new("in batches of", batch),
            &batch,
            |bencher, &batch| {
                bencher.iter_batched(
                    || filled(&before),
                    |index| {
                        for changes in new.chunks(batch) {
                            block_on(index.apply(changes.to_vec(), Sequence(2))).expect("applied");
                        }
                        index
                    },
                    BatchSize::PerIteration,
                );
            },
        );
    }
    group.finish();
}

fn query(criterion: &mut Criterion) {
    let changes = records(STUDIES);
    let index = filled(&changes);
    let header = slice(STUDIES / 2, 1, 0, 0);
    let name = header.string(tags::PATIENT_NAME).unwrap_or_default();
    let part: String = name.chars().skip(2).take(6).collect();
    let text = |tag| header.string(tag).unwrap_or_default().to_owned();
    let cases = [
        (
            "patient id",
            Level::Study,
            tags::PATIENT_ID,
            VR::LO,
            text(tags::PATIENT_ID),
        ),
        (
            "accession number",
            Level::Study,
            tags::ACCESSION_NUMBER,
            VR::SH,
            text(tags::ACCESSION_NUMBER),
        ),
        ("name", Level::Study, tags::PATIENT_NAME, VR::PN, name.to_owned()),
        (
            "name *part*",
            Level::Study,
            tags::PATIENT_NAME,
            VR::PN,
            format!("*{part}*"),
        ),
        (
            "series of a study",
            Level::Series,
            tags::STUDY_INSTANCE_UID,
            VR::UI,
            text(tags::STUDY_INSTANCE_UID),
        ),
        (
            "instances of a study",
            Level::Instance,
            tags::STUDY_INSTANCE_UID,
            VR::UI,
            text(tags::STUDY_INSTANCE_UID),
        ),
        (
            "everything",
            Level::Study,
            tags::PATIENT_ID,
            VR::LO,
            String::new(),
        ),
    ];
    let mut group = criterion.benchmark_group("query 500 studies");
    for (case, level, tag, vr, value) in cases {
        let mut keys = DataSet::new();
        keys.put_text(tag, vr, value);
        let query = Query::new(Model::StudyRoot, level, keys, QueryOptions::default());
        group.bench_with_input(BenchmarkId::from_parameter(case), &query, |bencher, query| {
            bencher.iter(|| block_on(index.query(black_box(query).clone()).count()));
        });
    }
    group.finish();
}

criterion_group!(benches, apply, query);
criterion_main!(benches);
