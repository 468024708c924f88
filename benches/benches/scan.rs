//! What it costs to look into an instance as its bytes pass by.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dicom_dictionary_std::uids;
use pacs_benches::{explicit, slice};
use pacs_core::Uid;
use pacs_core::dataset::scan::Scanner;
use pacs_core::query::AttributeSet;

/// What a P-DATA fragment of a sender with a large maximum length brings at once.
const PIECE_BYTES: usize = 128 * 1024;

fn scan(criterion: &mut Criterion) {
    let syntax = Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let mut group = criterion.benchmark_group("scan");
    for (name, pixel_bytes) in [("header alone", 0), ("slice of 512 KiB", 512 * 1024)] {
        let bytes = explicit(&slice(1, 1, 1, pixel_bytes));
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), &bytes, |bencher, bytes| {
            bencher.iter(|| {
                let mut scanner = Scanner::new(&syntax);
                for piece in bytes.chunks(PIECE_BYTES) {
                    scanner.push(black_box(piece)).expect("the set is well formed");
                }
                scanner.finish().expect("the set is well formed")
            });
        });
    }
    group.finish();

    let mut scanner = Scanner::new(&syntax);
    scanner
        .push(&explicit(&slice(1, 1, 1, 0)))
        .expect("the set is well formed");
    let header = scanner.finish().expect("the set is well formed").header;
    let attributes = AttributeSet::default();
    criterion.bench_function("extract the searched attributes", |bencher| {
        bencher.iter(|| attributes.extract(black_box(&header)));
    });
}

criterion_group!(benches, scan);
criterion_main!(benches);
