//! Any bytes in any transfer syntax: no panic, bounded memory, the same in pieces of any size, and
//! what was understood can be written and read again.
//!
//! Run with `cargo fuzz run -s none data_set_scan -- -rss_limit_mb=256`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pacs_core::Result;
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::compact;
use pacs_core::dataset::encode::encode;
use pacs_core::dataset::scan::{ProblemKind, Scan, Scanner, parse};
use pacs_core::uid::Uid;

const SYNTAXES: [Uid; 6] = [
    Uid::constant("1.2.840.10008.1.2"),
    Uid::constant("1.2.840.10008.1.2.1"),
    Uid::constant("1.2.840.10008.1.2.2"),
    Uid::constant("1.2.840.10008.1.2.1.99"),
    Uid::constant("1.2.840.10008.1.2.4.50"),
    Uid::constant("1.2.840.10008.1.2.4.102"),
];

fn scan(bytes: &[u8], syntax: &Uid, piece: usize) -> Result<Scan> {
    let mut scanner = Scanner::new(syntax);
    for piece in bytes.chunks(piece) {
        scanner.push(piece)?;
    }
    let _ = scanner.header_so_far();
    scanner.finish()
}

fn is_damaged(scan: &Scan) -> bool {
    scan.problems
        .iter()
        .any(|problem| problem.kind == ProblemKind::NotInflatable)
}

fuzz_target!(|input: &[u8]| {
    let [choice, piece, bytes @ ..] = input else {
        return;
    };
    let syntax = &SYNTAXES[usize::from(*choice) % SYNTAXES.len()];
    let whole = scan(bytes, syntax, usize::MAX);
    let pieces = scan(bytes, syntax, usize::from(*piece).max(1));
    match (whole, pieces) {
        // How much comes out of a deflated stream before the place where it is damaged, the decoder doesn't promise.
        (Ok(whole), Ok(pieces)) if is_damaged(&whole) || is_damaged(&pieces) => {
            assert!(
                !whole.complete && !pieces.complete,
                "damage that one of them does not know"
            );
        }
        (Ok(whole), Ok(pieces)) => {
            assert!(whole == pieces, "pieces of {piece} bytes give another scan");
            let compact = compact::to_bytes(&whole.header).into();
            assert!(compact::from_bytes(&compact).expect("our own bytes") == whole.header);
            for syntax in ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"] {
                let written = encode(&whole.header, syntax, &CharacterSet::utf8()).expect("small enough");
                // Tags of delimiters and zeros can't be told from structure when written again.
                let _ = parse(&written, syntax);
            }
        }
        (Ok(one), Err(_)) | (Err(_), Ok(one)) if is_damaged(&one) => {}
        (Err(_), Err(_)) => {}
        _ => panic!("pieces of {piece} bytes give another answer"),
    }
    let _ = parse(bytes, syntax);
    let _ = compact::from_bytes(&bytes.to_vec().into());
});
