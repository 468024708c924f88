//! Lossless JPEG, Huffman coded (ISO/IEC 10918-1 annex H).

use super::super::codec::{corrupt, unsupported};
use super::super::codestream::Jpeg;
use super::entropy::{Scan, scans};
use crate::error::Result;

/// Decodes all components; the samples of a pixel lie together.
pub(super) fn decode(frame: &[u8], header: &Jpeg) -> Result<Vec<u16>> {
    if header.subsampled() {
        return Err(unsupported(
            "a lossless JPEG codestream with subsampled components",
        ));
    }
    // The caller has held both against the data set's, whose frame length is bounded.
    let (rows, columns) = (header.rows as usize, header.columns as usize);
    let count = header.components.len();
    let mut samples = vec![0u16; rows * columns * count];
    scans(frame, header, |scan| {
        let predictor = scan.selection;
        if !(1..=7).contains(&predictor) || scan.low >= header.precision {
            return Err(corrupt("a lossless JPEG scan has no predictor that is known"));
        }
        // Predictions are made of samples without the bits that the point transform took (H.1.2.1).
        let first = 1i32 << (header.precision - scan.low - 1);
        let row_length = columns * count;
        let mut left = scan.restart_interval;
        // The row that predictions begin in: the image's first, and the first behind a restart.
        let mut fresh_row = 0;
        for row in 0..rows {
            for column in 0..columns {
                if scan.restart_interval > 0 {
                    if left == 0 {
                        scan.bits.restart()?;
                        left = scan.restart_interval;
                        fresh_row = row;
                        if column != 0 {
                            return Err(unsupported(
                                "a lossless JPEG codestream with restarts within a row",
                            ));
                        }
                    }
                    left -= 1;
                }
                for &(component, table, _) in &scan.components {
                    let at = row * row_length + column * count + component;
                    let before = |distance: usize| i32::from(samples[at - distance]);
                    let prediction = match (row == fresh_row, column == 0) {
                        (true, true) => first,
                        (true, false) => before(count),
                        (false, true) => before(row_length),
                        (false, false) => {
                            let (a, b, c) = (before(count), before(row_length), before(row_length + count));
                            match predictor {
                                1 => a,
                                2 => b,
                                3 => c,
                                4 => a + b - c,
                                5 => a + ((b - c) >> 1),
                                6 => b + ((a - c) >> 1),
                                _ => (a + b) >> 1,
                            }
                        }
                    };
                    let difference = match scan.bits.symbol(Scan::table(&scan.dc, table)?)? {
                        16 => 32768,
                        size @ 0..=15 => scan.bits.number(size.into())?,
                        _ => return Err(corrupt("a difference in a lossless JPEG scan is too long")),
                    };
                    // Modulo 2^16 (H.1.2.1).
                    samples[at] = (prediction + difference) as u16;
                }
            }
        }
        for &(component, ..) in &scan.components {
            for sample in samples[component..].iter_mut().step_by(count) {
                *sample <<= scan.low;
            }
        }
        Ok(())
    })?;
    Ok(samples)
}
