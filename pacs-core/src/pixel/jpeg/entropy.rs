//! Huffman coding (ISO/IEC 10918-1 annexes C and F), and what both processes here read of a codestream.

use super::super::codec::{corrupt, unsupported};
use super::super::codestream::{Jpeg, image_data, segment};
use crate::error::Result;

/// Codes up to this length are looked up at once.
const FAST_BITS: u32 = 9;

/// A Huffman table.
#[derive(Clone, Debug)]
pub(super) struct Huffman {
    /// By the next [`FAST_BITS`]: the symbol and the length of its code, 0 when it is longer.
    fast: Vec<(u8, u8)>,
    /// By length less one: the first code that is longer, left-aligned to 16 bits.
    limits: [u32; 16],
    /// By length less one: what is added to a code to find its symbol.
    offsets: [i32; 16],
    symbols: Vec<u8>,
}

impl Huffman {
    fn new(counts: &[u8; 16], symbols: &[u8]) -> Result<Self> {
        let mut table = Self {
            fast: vec![(0, 0); 1 << FAST_BITS],
            limits: [0; 16],
            offsets: [0; 16],
            symbols: symbols.to_vec(),
        };
        let (mut code, mut at) = (0u32, 0);
        for (length, &count) in (1u32..).zip(counts) {
            let index = length as usize - 1;
            table.offsets[index] = at - code as i32;
            for _ in 0..count {
                if code >= 1 << length {
                    return Err(corrupt("a Huffman table has more codes than there can be"));
                }
                if length <= FAST_BITS {
                    let spare = FAST_BITS - length;
                    let first = (code << spare) as usize;
                    // `symbols` has as many as all counts together.
                    table.fast[first..first + (1 << spare)].fill((symbols[at as usize], length as u8));
                }
                code += 1;
                at += 1;
            }
            table.limits[index] = code << (16 - length);
            code <<= 1;
        }
        Ok(table)
    }
}

/// Reads bits of entropy coded data, up to the next marker.
pub(super) struct Bits<'a> {
    rest: &'a [u8],
    held: u64,
    count: u32,
    /// Bits that were made up behind the end.
    missing: u32,
}

impl<'a> Bits<'a> {
    fn new(rest: &'a [u8]) -> Self {
        Self {
            rest,
            held: 0,
            count: 0,
            missing: 0,
        }
    }

    /// Makes at least 32 bits available, with zeros behind the end.
    fn fill(&mut self) {
        while self.count <= 56 {
            let byte = match *self.rest {
                [0xFF, 0x00, ..] => {
                    self.rest = &self.rest[2..];
                    0xFF
                }
                [0xFF, ..] | [] => {
                    self.missing += 8;
                    0
                }
                [byte, ..] => {
                    self.rest = &self.rest[1..];
                    byte
                }
            };
            self.held |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    fn peek(&mut self, bits: u32) -> u32 {
        if self.count < 32 {
            self.fill();
        }
        // At most 16 are asked for.
        (self.held >> (64 - bits)) as u32
    }

    fn take(&mut self, bits: u32) -> Result<()> {
        self.held <<= bits;
        self.count -= bits;
        if self.count < self.missing {
            return Err(corrupt("the entropy coded data of a JPEG codestream ends early"));
        }
        Ok(())
    }

    /// The next symbol.
    pub(super) fn symbol(&mut self, table: &Huffman) -> Result<u8> {
        let (symbol, length) = table.fast[self.peek(FAST_BITS) as usize];
        if length > 0 {
            self.take(length.into())?;
            return Ok(symbol);
        }
        let code = self.peek(16);
        let index = table.limits.iter().position(|&limit| code < limit);
        let index = index.ok_or_else(|| corrupt("a code is in no Huffman table"))?;
        let length = index as u32 + 1;
        self.take(length)?;
        let at = (code >> (16 - length)) as i32 + table.offsets[index];
        let symbol = usize::try_from(at).ok().and_then(|at| table.symbols.get(at));
        symbol
            .copied()
            .ok_or_else(|| corrupt("a code is in no Huffman table"))
    }

    /// The next number of `size` (at most 16) bits, with its sign (F.2.2.1).
    pub(super) fn number(&mut self, size: u32) -> Result<i32> {
        if size == 0 {
            return Ok(0);
        }
        let bits = self.peek(size) as i32;
        self.take(size)?;
        let positive = bits >> (size - 1) != 0;
        Ok(if positive { bits } else { bits - (1 << size) + 1 })
    }

    /// Goes on behind the restart marker that follows (F.2.1.3.1).
    pub(super) fn restart(&mut self) -> Result<()> {
        // What is held is at most 8 bytes before it, and holds no marker.
        let missing_marker = || corrupt("a restart marker of a JPEG codestream is missing");
        let at = self
            .rest
            .windows(2)
            .position(|pair| pair[0] == 0xFF && !matches!(pair[1], 0 | 0xFF));
        let at = at.ok_or_else(missing_marker)?;
        if !matches!(self.rest[at + 1], 0xD0..=0xD7) {
            return Err(missing_marker());
        }
        *self = Self::new(&self.rest[at + 2..]);
        Ok(())
    }
}

/// The tables of a codestream and the header of a scan.
pub(super) struct Scan<'a> {
    pub(super) quantization: [Option<[u16; 64]>; 4],
    pub(super) dc: [Option<Huffman>; 4],
    pub(super) ac: [Option<Huffman>; 4],
    /// Samples or blocks between restarts; 0 for none.
    pub(super) restart_interval: u32,
    /// Index of the component, DC table and AC table of each.
    pub(super) components: Vec<(usize, usize, usize)>,
    /// Start of spectral selection, or predictor.
    pub(super) selection: u8,
    /// Successive approximation low, or point transform.
    pub(super) low: u8,
    pub(super) bits: Bits<'a>,
}

impl Scan<'_> {
    /// The table that a component of the scan uses.
    pub(super) fn table(tables: &[Option<Huffman>; 4], index: usize) -> Result<&Huffman> {
        let table = tables.get(index).and_then(Option::as_ref);
        table.ok_or_else(|| corrupt("a scan uses a table that is not there"))
    }
}

/// Reads up to each scan of `frame` in turn and lets `decode` take it, until every component had one.
pub(super) fn scans(
    frame: &[u8],
    header: &Jpeg,
    mut decode: impl FnMut(&mut Scan<'_>) -> Result<()>,
) -> Result<()> {
    let mut rest = image_data(frame)?;
    let mut scan = Scan {
        quantization: [None; 4],
        dc: [const { None }; 4],
        ac: [const { None }; 4],
        restart_interval: 0,
        components: Vec::new(),
        selection: 0,
        low: 0,
        bits: Bits::new(&[]),
    };
    let mut left = header.components.len();
    while left > 0 {
        match segment(&mut rest)? {
            (0xC4, tables) => huffman_tables(tables, &mut scan)?,
            (0xDB, tables) => quantization_tables(tables, &mut scan)?,
            (0xDD, [high, low, ..]) => scan.restart_interval = u16::from_be_bytes([*high, *low]).into(),
            (0xDA, [count, components @ .., selection, _, low]) => {
                let pairs = components.as_chunks::<2>().0;
                if pairs.len() != usize::from(*count) || pairs.is_empty() || pairs.len() > left {
                    return Err(corrupt("a scan header of a JPEG codestream is damaged"));
                }
                scan.components.clear();
                for &[identifier, tables] in pairs {
                    let index = header
                        .components
                        .iter()
                        .position(|component| component[0] == identifier);
                    let index = index.ok_or_else(|| corrupt("a scan has a component that is not there"))?;
                    scan.components
                        .push((index, usize::from(tables >> 4), usize::from(tables & 0x0F)));
                }
                scan.selection = *selection;
                scan.low = low & 0x0F;
                scan.bits = Bits::new(rest);
                left -= pairs.len();
                decode(&mut scan)?;
                rest = behind(scan.bits.rest);
            }
            (0xD9, _) => return Err(corrupt("a JPEG codestream ends before all its components")),
            (0xCC, _) => return Err(unsupported("a JPEG codestream with arithmetic coding")),
            (0xDC, _) => return Err(unsupported("a JPEG codestream that says its rows at its end")),
            _ => {}
        }
    }
    Ok(())
}

/// The next marker that is none of the entropy coded data's own.
fn behind(rest: &[u8]) -> &[u8] {
    let marker = |pair: &[u8]| pair[0] == 0xFF && !matches!(pair[1], 0 | 0xD0..=0xD7 | 0xFF);
    let at = rest.windows(2).position(marker);
    &rest[at.unwrap_or(rest.len())..]
}

/// DHT (B.2.4.2).
fn huffman_tables<'a>(mut rest: &'a [u8], scan: &mut Scan<'_>) -> Result<()> {
    let damaged = || corrupt("a Huffman table of a JPEG codestream is damaged");
    while let Some((&kind, counts)) = rest.split_first() {
        let (counts, symbols): (&[u8; 16], &'a [u8]) = counts.split_first_chunk().ok_or_else(damaged)?;
        let total = counts.iter().map(|&count| usize::from(count)).sum();
        let (symbols, after) = symbols.split_at_checked(total).ok_or_else(damaged)?;
        let tables = if kind >> 4 == 0 {
            &mut scan.dc
        } else {
            &mut scan.ac
        };
        let table = tables.get_mut(usize::from(kind & 0x0F)).ok_or_else(damaged)?;
        *table = Some(Huffman::new(counts, symbols)?);
        rest = after;
    }
    Ok(())
}

/// DQT (B.2.4.1), in zig-zag order.
fn quantization_tables(mut rest: &[u8], scan: &mut Scan<'_>) -> Result<()> {
    let damaged = || corrupt("a quantization table of a JPEG codestream is damaged");
    while let Some((&kind, values)) = rest.split_first() {
        let width = if kind >> 4 == 0 { 1 } else { 2 };
        let (values, after) = values.split_at_checked(64 * width).ok_or_else(damaged)?;
        let mut table = [0; 64];
        for (to, value) in table.iter_mut().zip(values.chunks_exact(width)) {
            *to = value
                .iter()
                .fold(0, |number, &byte| number << 8 | u16::from(byte));
        }
        *scan
            .quantization
            .get_mut(usize::from(kind & 0x0F))
            .ok_or_else(damaged)? = Some(table);
        rest = after;
    }
    Ok(())
}
