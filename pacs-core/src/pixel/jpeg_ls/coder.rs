//! The decoding process of JPEG-LS: contexts, regular and run mode (ISO/IEC 14495-1 annex A).

use super::super::codec::corrupt;
use crate::error::Result;

/// Order of the run lengths (A.2.1, table A.7.1.1).
const RUN_ORDER: [u32; 32] = [
    0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13, 14, 15,
];

/// What a scan is coded with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameters {
    maximum: i32,
    near: i32,
    /// Steps of quantized errors.
    range: i32,
    quantized_bits: u32,
    limit: u32,
    thresholds: [i32; 3],
    reset: i32,
}

impl Parameters {
    /// `preset` are MAXVAL, T1, T2, T3 and RESET, 0 for the default (C.2.4.1.1). `None` when they
    /// contradict each other.
    pub(super) fn new(precision: u8, near: u8, preset: [u16; 5]) -> Option<Self> {
        let largest = (1i32 << precision) - 1;
        let [maximum, t1, t2, t3, reset] = preset.map(i32::from);
        let maximum = if maximum == 0 { largest } else { maximum };
        let near = i32::from(near);
        if maximum > largest || near > 255.min(maximum / 2) {
            return None;
        }
        // C.2.4.1.1.1
        let clamp = |value: i32, lowest: i32| {
            if value > maximum || value < lowest {
                lowest
            } else {
                value
            }
        };
        let [d1, d2, d3] = if maximum >= 128 {
            let factor = (maximum.min(4095) + 128) / 256;
            [
                factor + 2 + 3 * near,
                factor * 4 + 3 + 5 * near,
                factor * 17 + 4 + 7 * near,
            ]
        } else {
            let factor = 256 / (maximum + 1);
            [
                (3 / factor + 3 * near).max(2),
                (7 / factor + 5 * near).max(3),
                (21 / factor + 7 * near).max(4),
            ]
        };
        let t1 = if t1 == 0 { clamp(d1, near + 1) } else { t1 };
        let t2 = if t2 == 0 { clamp(d2, t1) } else { t2 };
        let t3 = if t3 == 0 { clamp(d3, t2) } else { t3 };
        if t1 <= near || t2 < t1 || t3 < t2 || t3 > maximum {
            return None;
        }
        let range = (maximum + 2 * near) / (2 * near + 1) + 1;
        let bits = |steps: i32| 32 - (steps - 1).leading_zeros();
        let sample_bits = bits(maximum + 1).max(2);
        let reset = if reset == 0 { 64 } else { reset };
        (reset >= 3).then_some(Self {
            maximum,
            near,
            range,
            quantized_bits: bits(range),
            limit: 2 * (sample_bits + sample_bits.max(8)),
            thresholds: [t1, t2, t3],
            reset,
        })
    }

    /// A difference of neighbours, quantized to -4 to 4 (A.3.3).
    fn quantize(&self, difference: i32) -> i32 {
        let [t1, t2, t3] = self.thresholds;
        let step = match difference.abs() {
            size if size <= self.near => 0,
            size if size < t1 => 1,
            size if size < t2 => 2,
            size if size < t3 => 3,
            _ => 4,
        };
        step * difference.signum()
    }

    /// The sample at `error` from `predicted` (A.4.4, A.4.5).
    fn reconstruct(&self, predicted: i32, error: i32) -> i32 {
        let step = 2 * self.near + 1;
        let mut sample = predicted + error * step;
        if sample < -self.near {
            sample += self.range * step;
        } else if sample > self.maximum + self.near {
            sample -= self.range * step;
        }
        sample.clamp(0, self.maximum)
    }
}

/// What is known of errors in one surrounding (A.2.1).
#[derive(Clone, Copy, Debug)]
struct Context {
    /// Sum of the sizes of errors.
    sizes: i32,
    /// What predictions are off by.
    bias: i32,
    correction: i32,
    count: i32,
}

/// The same for samples that end a run; of type 0 and 1.
#[derive(Clone, Copy, Debug)]
struct RunContext {
    kind: i32,
    sizes: i32,
    count: i32,
    negative: i32,
}

/// Decodes the rows of a scan.
pub(super) struct Coder<'a> {
    parameters: Parameters,
    contexts: Vec<Context>,
    run_contexts: [RunContext; 2],
    bits: Bits<'a>,
}

/// The samples around one that is decoded: left, above, above left, above right.
type Around = [i32; 4];

impl<'a> Coder<'a> {
    pub(super) fn new(parameters: Parameters, coded: &'a [u8]) -> Self {
        let sizes = ((parameters.range + 32) / 64).max(2);
        let context = Context {
            sizes,
            bias: 0,
            correction: 0,
            count: 1,
        };
        let run = |kind| RunContext {
            kind,
            sizes,
            count: 1,
            negative: 0,
        };
        Self {
            parameters,
            contexts: vec![context; 365],
            run_contexts: [run(0), run(1)],
            bits: Bits::new(coded),
        }
    }

    /// What follows the scan.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bits.rest
    }

    /// Decodes a row of one component. Both have one sample beyond either end.
    pub(super) fn row(&mut self, current: &mut [i32], above: &[i32], run_index: &mut usize) -> Result<()> {
        let end = current.len() - 1;
        let mut at = 1;
        while at < end {
            let around = [current[at - 1], above[at], above[at - 1], above[at + 1]];
            let surrounding = self.surrounding(around);
            if surrounding != 0 {
                current[at] = self.regular(around, surrounding)?;
                at += 1;
                continue;
            }
            let [left, ..] = around;
            let length = self.run_length(end - at, run_index)?;
            current[at..at + length].fill(left);
            at += length;
            if at < end {
                let near = (left - above[at]).abs() <= self.parameters.near;
                current[at] = self.interruption(left, above[at], near, *run_index)?;
                *run_index = run_index.saturating_sub(1);
                at += 1;
            }
        }
        Ok(())
    }

    /// Decodes a row of all components, sample by sample.
    pub(super) fn interleaved_row(
        &mut self,
        current: &mut [Vec<i32>],
        above: &[Vec<i32>],
        run_index: &mut usize,
    ) -> Result<()> {
        let end = current[0].len() - 1;
        let mut at = 1;
        while at < end {
            let around =
                |current: &[i32], above: &[i32]| [current[at - 1], above[at], above[at - 1], above[at + 1]];
            let components = current.iter().zip(above);
            let run = components
                .clone()
                .all(|(c, a)| self.surrounding(around(c, a)) == 0);
            if !run {
                for (current, above) in current.iter_mut().zip(above) {
                    let around = around(current, above);
                    current[at] = self.regular(around, self.surrounding(around))?;
                }
                at += 1;
                continue;
            }
            let length = self.run_length(end - at, run_index)?;
            for current in current.iter_mut() {
                let left = current[at - 1];
                current[at..at + length].fill(left);
            }
            at += length;
            if at < end {
                for (current, above) in current.iter_mut().zip(above) {
                    current[at] = self.interruption(current[at - 1], above[at], false, *run_index)?;
                }
                *run_index = run_index.saturating_sub(1);
                at += 1;
            }
        }
        Ok(())
    }

    /// The surrounding's number, negative when it is the mirror of that one (A.3.4).
    fn surrounding(&self, [left, above, above_left, above_right]: Around) -> i32 {
        let quantize = |difference| self.parameters.quantize(difference);
        81 * quantize(above_right - above) + 9 * quantize(above - above_left) + quantize(above_left - left)
    }

    /// A sample in regular mode (A.4 to A.6).
    fn regular(&mut self, [left, above, above_left, _]: Around, surrounding: i32) -> Result<i32> {
        let Parameters {
            maximum,
            near,
            quantized_bits,
            limit,
            reset,
            ..
        } = self.parameters;
        let sign = if surrounding < 0 { -1 } else { 1 };
        // At most 81 * 4 + 9 * 4 + 4.
        let context = &mut self.contexts[surrounding.unsigned_abs() as usize];
        let predicted = if above_left >= left.max(above) {
            left.min(above)
        } else if above_left <= left.min(above) {
            left.max(above)
        } else {
            left + above - above_left
        };
        let predicted = (predicted + sign * context.correction).clamp(0, maximum);
        let order = golomb_order(context.count, context.sizes);
        let mapped = self.bits.golomb(order, limit, quantized_bits)?;
        let mut error = if mapped % 2 == 0 {
            mapped / 2
        } else {
            -(mapped + 1) / 2
        };
        if order == 0 && near == 0 && 2 * context.bias <= -context.count {
            error = -error - 1;
        }
        context.bias = context.bias.saturating_add(error * (2 * near + 1));
        context.sizes = context.sizes.saturating_add(error.abs());
        if context.count == reset {
            context.sizes >>= 1;
            context.bias >>= 1;
            context.count >>= 1;
        }
        context.count += 1;
        if context.bias <= -context.count {
            context.correction = (context.correction - 1).max(-128);
            context.bias = (context.bias + context.count).max(1 - context.count);
        } else if context.bias > 0 {
            context.correction = (context.correction + 1).min(127);
            context.bias = (context.bias - context.count).min(0);
        }
        Ok(self.parameters.reconstruct(predicted, sign * error))
    }

    /// How many samples, at most `room`, are as the one before (A.7.1).
    fn run_length(&mut self, room: usize, run_index: &mut usize) -> Result<usize> {
        let mut length = 0;
        while self.bits.read(1)? == 1 {
            let block = 1 << RUN_ORDER[*run_index];
            if room - length >= block {
                *run_index = (*run_index + 1).min(31);
                length += block;
            } else {
                length = room;
            }
            if length == room {
                return Ok(room);
            }
        }
        // At most 15 bits.
        length += self.bits.read(RUN_ORDER[*run_index])? as usize;
        if length >= room {
            return Err(corrupt("a run of a JPEG-LS codestream is longer than its row"));
        }
        Ok(length)
    }

    /// The sample that ends a run (A.7.2). `near` says that its neighbours are alike.
    fn interruption(&mut self, left: i32, above: i32, near: bool, run_index: usize) -> Result<i32> {
        let Parameters {
            quantized_bits,
            limit,
            reset,
            ..
        } = self.parameters;
        let context = &mut self.run_contexts[usize::from(near)];
        let sum = context.sizes + context.kind * (context.count >> 1);
        let order = golomb_order(context.count, sum);
        let coded = self
            .bits
            .golomb(order, limit - RUN_ORDER[run_index] - 1, quantized_bits)?;
        let mapped = coded + context.kind;
        let odd = mapped % 2 == 1;
        let size = (mapped + i32::from(odd)) / 2;
        let negative = (order != 0 || 2 * context.negative >= context.count) == odd;
        let error = if negative { -size } else { size };
        if error < 0 {
            context.negative += 1;
        }
        context.sizes = context.sizes.saturating_add((coded + 1 - context.kind) >> 1);
        if context.count == reset {
            context.sizes >>= 1;
            context.count >>= 1;
            context.negative >>= 1;
        }
        context.count += 1;
        let (predicted, sign) = match near {
            true => (left, 1),
            false => (above, if left > above { -1 } else { 1 }),
        };
        Ok(self.parameters.reconstruct(predicted, sign * error))
    }
}

/// The order of the Golomb code for errors of this average size (A.5.1).
fn golomb_order(count: i32, sizes: i32) -> u32 {
    (0..24)
        .find(|&order| i64::from(count) << order >= i64::from(sizes))
        .unwrap_or(24)
}

/// Reads bits; behind a byte of ones stands a zero bit (annex A.1).
struct Bits<'a> {
    rest: &'a [u8],
    held: u64,
    count: u32,
    /// Bits that were made up behind the end.
    missing: u32,
    after_ones: bool,
}

impl<'a> Bits<'a> {
    fn new(rest: &'a [u8]) -> Self {
        Self {
            rest,
            held: 0,
            count: 0,
            missing: 0,
            after_ones: false,
        }
    }

    fn fill(&mut self) {
        while self.count <= 56 {
            let (byte, bits) = match *self.rest {
                // A marker, or nothing.
                [0xFF, 0x80..=0xFF, ..] | [0xFF] | [] => {
                    self.missing += 8;
                    (0, 8)
                }
                [byte, ..] => {
                    self.rest = &self.rest[1..];
                    (byte, if self.after_ones { 7 } else { 8 })
                }
            };
            self.after_ones = byte == 0xFF;
            self.held |= u64::from(byte) << (64 - bits - self.count);
            self.count += bits;
        }
    }

    fn skip(&mut self, bits: u32) -> Result<()> {
        self.held = self.held.checked_shl(bits).unwrap_or(0);
        self.count -= bits;
        if self.count < self.missing {
            return Err(corrupt("the data of a JPEG-LS codestream ends early"));
        }
        Ok(())
    }

    /// The next `bits`, at most 24.
    fn read(&mut self, bits: u32) -> Result<u32> {
        if bits == 0 {
            return Ok(0);
        }
        self.fill();
        let value = (self.held >> (64 - bits)) as u32;
        self.skip(bits)?;
        Ok(value)
    }

    /// A number in a Golomb code whose length is limited (A.5.3).
    fn golomb(&mut self, order: u32, limit: u32, quantized_bits: u32) -> Result<i32> {
        let long = limit.saturating_sub(quantized_bits + 1);
        let mut zeros = 0;
        loop {
            self.fill();
            let now = self.held.leading_zeros().min(self.count);
            zeros += now;
            if zeros > long {
                return Err(corrupt("a code of a JPEG-LS codestream is too long"));
            }
            if now < self.count {
                self.skip(now + 1)?;
                break;
            }
            self.skip(now)?;
        }
        let value = if zeros < long {
            // Below 64 and at most 24 bits.
            zeros << order | self.read(order)?
        } else {
            self.read(quantized_bits)? + 1
        };
        // An error is half of it, and at most half of 2^16 steps.
        if value > 1 << 17 {
            return Err(corrupt("a code of a JPEG-LS codestream is too long"));
        }
        Ok(value as i32)
    }
}
