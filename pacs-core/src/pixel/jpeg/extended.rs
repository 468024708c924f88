//! JPEG Extended with 12 bits, sequential, Huffman coded (ISO/IEC 10918-1 annexes A and F), of one
//! component: that is what modalities write.

use std::f32::consts::PI;

use super::super::codec::{corrupt, unsupported};
use super::super::codestream::Jpeg;
use super::entropy::{Scan, scans};
use crate::error::Result;

/// From zig-zag order to row by row (A.3.6).
const ZIG_ZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7,
    14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39,
    46, 53, 60, 61, 54, 47, 55, 62, 63,
];

pub(super) fn decode(frame: &[u8], header: &Jpeg) -> Result<Vec<u16>> {
    if header.components.len() != 1 {
        return Err(unsupported("a JPEG codestream of 12 bits and several components"));
    }
    // The caller has held both against the data set's, whose frame length is bounded.
    let (rows, columns) = (header.rows as usize, header.columns as usize);
    let mut samples = vec![0u16; rows * columns];
    let basis = basis();
    let (middle, highest) = (
        (1 << (header.precision - 1)) as f32,
        ((1u32 << header.precision) - 1) as f32,
    );
    scans(frame, header, |scan| {
        let [(_, dc, ac)] = scan.components[..] else {
            return Err(corrupt("a scan header of a JPEG codestream is damaged"));
        };
        let table = usize::from(header.components[0][2]);
        let quantization = scan.quantization.get(table).copied().flatten();
        let quantization = quantization.ok_or_else(|| corrupt("a scan uses a table that is not there"))?;
        let mut left = scan.restart_interval;
        let mut predicted = 0;
        // The blocks of a single component lie row by row, whatever its sampling factors (A.2.2).
        for top in (0..rows).step_by(8) {
            for start in (0..columns).step_by(8) {
                if scan.restart_interval > 0 {
                    if left == 0 {
                        scan.bits.restart()?;
                        left = scan.restart_interval;
                        predicted = 0;
                    }
                    left -= 1;
                }
                let coefficients = block(scan, dc, ac, &mut predicted, &quantization)?;
                let block = inverse(&coefficients, &basis);
                for (row, values) in (top..rows).zip(block.as_chunks::<8>().0) {
                    let to = &mut samples[row * columns..][start..columns];
                    for (sample, value) in to.iter_mut().zip(values) {
                        // Within 16 bits: it is clamped.
                        *sample = (value + middle).round().clamp(0.0, highest) as u16;
                    }
                }
            }
        }
        Ok(())
    })?;
    Ok(samples)
}

/// The coefficients of a block, dequantized, row by row (F.2.2).
fn block(
    scan: &mut Scan<'_>,
    dc: usize,
    ac: usize,
    predicted: &mut i32,
    quantization: &[u16; 64],
) -> Result<[f32; 64]> {
    let long = || corrupt("a coefficient of a JPEG codestream is too long");
    let mut coefficients = [0.0; 64];
    let size = scan.bits.symbol(Scan::table(&scan.dc, dc)?)?;
    if size > 15 {
        return Err(long());
    }
    *predicted = predicted.wrapping_add(scan.bits.number(size.into())?);
    coefficients[0] = *predicted as f32 * f32::from(quantization[0]);
    let mut at = 1;
    while at < 64 {
        let symbol = scan.bits.symbol(Scan::table(&scan.ac, ac)?)?;
        let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 0x0F));
        match (run, size) {
            (15, 0) => at += 16,
            (_, 0) => break,
            _ => {
                at += run;
                let value = scan.bits.number(size)? as f32;
                let place = ZIG_ZAG.get(at).ok_or_else(long)?;
                coefficients[usize::from(*place)] = value * f32::from(quantization[at]);
                at += 1;
            }
        }
    }
    Ok(coefficients)
}

/// The cosines of the transform by position and frequency (A.3.3).
fn basis() -> [[f32; 8]; 8] {
    std::array::from_fn(|x| {
        std::array::from_fn(|u| {
            let scale = if u == 0 { 0.125f32.sqrt() } else { 0.5 };
            scale * ((2 * x + 1) as f32 * u as f32 * PI / 16.0).cos()
        })
    })
}

fn inverse(coefficients: &[f32; 64], basis: &[[f32; 8]; 8]) -> [f32; 64] {
    let sum = |values: [f32; 8], x: usize| values.iter().zip(&basis[x]).map(|(v, b)| v * b).sum::<f32>();
    let rows: [f32; 64] = std::array::from_fn(|at| {
        let row = at / 8 * 8;
        sum(std::array::from_fn(|u| coefficients[row + u]), at % 8)
    });
    std::array::from_fn(|at| sum(std::array::from_fn(|v| rows[v * 8 + at % 8]), at / 8))
}
