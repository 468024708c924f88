//! What it costs to cut a data set into PDUs, and to take it out of them again.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pacs_net::ul::cutter::Cutter;
use pacs_net::ul::decoder::{Decoder, Item};

const DATA_SET_BYTES: usize = 512 * 1024;
/// What is read from a file or socket at once.
const PIECE_BYTES: usize = 256 * 1024;

fn cut(data_set: &Bytes, pdu_bytes: u32) -> Vec<Bytes> {
    let mut cutter = Cutter::new(1, pdu_bytes);
    cutter.command(Bytes::from_static(&[0; 128]));
    let mut pdus = Vec::new();
    for at in (0..data_set.len()).step_by(PIECE_BYTES) {
        cutter.data(data_set.slice(at..data_set.len().min(at + PIECE_BYTES)));
        pdus.extend(cutter.take_ready());
    }
    cutter.end_data();
    pdus.extend(cutter.take_ready());
    pdus
}

fn take_out(stream: &[u8], pdu_bytes: u32) -> usize {
    let mut decoder = Decoder::new(pdu_bytes);
    let mut length = 0;
    for piece in stream.chunks(PIECE_BYTES) {
        decoder.buffer().extend_from_slice(piece);
        decoder.note_read(piece.len());
        while let Some(item) = decoder.next_item().expect("the stream is well formed") {
            if let Item::Fragment(fragment) = item {
                length += fragment.data.len();
            }
        }
    }
    length
}

fn p_data(criterion: &mut Criterion) {
    let data_set = Bytes::from((0..DATA_SET_BYTES).map(|at| at as u8).collect::<Vec<_>>());
    let mut group = criterion.benchmark_group("P-DATA");
    group.throughput(Throughput::Bytes(DATA_SET_BYTES as u64));
    for pdu_bytes in [16 * 1024, 128 * 1024] {
        group.bench_with_input(
            BenchmarkId::new("cut to PDUs of", pdu_bytes),
            &pdu_bytes,
            |bencher, pdu_bytes| {
                bencher.iter(|| cut(black_box(&data_set), *pdu_bytes));
            },
        );
        let stream = cut(&data_set, pdu_bytes).concat();
        group.bench_with_input(
            BenchmarkId::new("take out of PDUs of", pdu_bytes),
            &pdu_bytes,
            |bencher, pdu_bytes| {
                bencher.iter(|| take_out(black_box(&stream), *pdu_bytes));
            },
        );
    }
    group.finish();
}

criterion_group!(benches, p_data);
criterion_main!(benches);
