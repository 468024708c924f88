//! JPEG-LS (ISO/IEC 14495-1), lossless and near lossless.

mod coder;

use self::coder::{Coder, Parameters};
use super::codec::{corrupt, unsupported};
use super::codestream::{Jpeg, image_data, segment};
use super::image::Image;
use super::samples::{Order, cells, check_precision};
use crate::error::Result;

/// Decodes a frame; its colours come out as they were put in.
pub(super) fn decode(frame: &[u8], image: &Image) -> Result<Vec<u8>> {
    let header = Jpeg::parse(frame)?;
    if header.process != Jpeg::LS {
        return Err(corrupt("a frame is no JPEG-LS codestream"));
    }
    header.check(image)?;
    check_precision(header.precision, image)?;
    if !(2..=16).contains(&header.precision) {
        return Err(corrupt(
            "a JPEG-LS codestream of a precision that there is none of",
        ));
    }
    if header.subsampled() {
        return Err(unsupported("a JPEG-LS codestream with subsampled components"));
    }
    let samples = planes(frame, &header)?;
    let samples = samples.into_iter().map(i32::from);
    cells(samples, header.precision, Order::Planar, image)
}

/// Decodes all components, one after the other.
fn planes(frame: &[u8], header: &Jpeg) -> Result<Vec<u16>> {
    let damaged = || corrupt("a JPEG-LS codestream is damaged");
    // The caller has held them against the data set's, whose frame length is bounded.
    let (rows, columns, count) = (
        header.rows as usize,
        header.columns as usize,
        header.components.len(),
    );
    let mut planes = vec![0u16; rows * columns * count];
    let mut preset = [0u16; 5];
    let mut decoded = 0;
    let mut rest = image_data(frame)?;
    while decoded < count {
        match segment(&mut rest)? {
            // Preset coding parameters (C.2.4.1.1).
            (0xF8, [1, values @ ..]) => {
                let values = values.as_chunks::<2>().0;
                for (to, value) in preset.iter_mut().zip(values) {
                    *to = u16::from_be_bytes(*value);
                }
            }
            (0xF8, _) => {
                return Err(unsupported(
                    "a JPEG-LS codestream with mapping tables or extended dimensions",
                ));
            }
            // The colour transforms of CharLS and HP, which no standard has.
            (0xE8, [b'm', b'r', b'f', b'x', transform, ..]) if *transform != 0 => {
                return Err(unsupported("a JPEG-LS codestream with a colour transform"));
            }
            (0xDD, interval) if interval.iter().any(|&byte| byte != 0) => {
                return Err(unsupported("a JPEG-LS codestream with restarts"));
            }
            (0xDA, [components, .., near, interleave, _]) => {
                let components = usize::from(*components);
                if components == 0 || components > count - decoded || (components > 1) != (*interleave > 0) {
                    return Err(damaged());
                }
                let parameters = Parameters::new(header.precision, *near, preset).ok_or_else(damaged)?;
                let mut coder = Coder::new(parameters, rest);
                // Components come in the order of the frame header (B.2.3).
                let scan = &mut planes[decoded * rows * columns..][..components * rows * columns];
                match *interleave {
                    0 | 1 => by_line(&mut coder, scan, rows, columns, components)?,
                    2 => by_sample(&mut coder, scan, rows, columns, components)?,
                    _ => return Err(damaged()),
                }
                decoded += components;
                rest = coder.rest();
            }
            (0xD9, _) => return Err(damaged()),
            _ => {}
        }
    }
    Ok(planes)
}

/// A row of samples, with one beyond either end.
fn row(columns: usize) -> Vec<i32> {
    vec![0; columns + 2]
}

/// Makes the samples beyond the ends what the next row of `current` needs (A.2.1).
fn edges(current: &mut [i32], previous: &mut [i32]) {
    let columns = previous.len() - 2;
    previous[columns + 1] = previous[columns];
    current[0] = previous[1];
}

fn keep(row: &[i32], plane: &mut [u16], at: usize) {
    let columns = row.len() - 2;
    for (to, sample) in plane[at * columns..].iter_mut().zip(&row[1..=columns]) {
        // Between 0 and the largest sample of 16 bits.
        *to = *sample as u16;
    }
}

/// One row of each component in turn, or of the only one.
fn by_line(
    coder: &mut Coder<'_>,
    scan: &mut [u16],
    rows: usize,
    columns: usize,
    components: usize,
) -> Result<()> {
    let mut previous = vec![row(columns); components];
    let mut current = row(columns);
    let mut run_indices = vec![0; components];
    for at in 0..rows {
        for component in 0..components {
            let above = &mut previous[component];
            edges(&mut current, above);
            coder.row(&mut current, above, &mut run_indices[component])?;
            keep(&current, &mut scan[component * rows * columns..], at);
            std::mem::swap(&mut current, above);
        }
    }
    Ok(())
}

/// All components of a pixel in turn.
fn by_sample(
    coder: &mut Coder<'_>,
    scan: &mut [u16],
    rows: usize,
    columns: usize,
    components: usize,
) -> Result<()> {
    let mut previous = vec![row(columns); components];
    let mut current = vec![row(columns); components];
    let mut run_index = 0;
    for at in 0..rows {
        for (current, previous) in current.iter_mut().zip(&mut previous) {
            edges(current, previous);
        }
        coder.interleaved_row(&mut current, &previous, &mut run_index)?;
        for (component, current) in current.iter().enumerate() {
            keep(current, &mut scan[component * rows * columns..], at);
        }
        std::mem::swap(&mut current, &mut previous);
    }
    Ok(())
}
