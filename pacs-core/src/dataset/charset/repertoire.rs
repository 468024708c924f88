//! The coded character sets of PS3.3 tables C.12-2 to C.12-4, each as it is switched to and coded.

use std::collections::HashMap;
use std::sync::OnceLock;

use encoding_rs::Encoding;

/// Values of Specific Character Set that are looked at: more than there are sets.
pub(super) const TERMS_MAX: usize = 32;

/// One of the sets that can be combined by ISO 2022.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repertoire {
    /// ISO IR 6: ASCII.
    IR6,
    /// ISO IR 13 and 14: JIS X 0201, half-width katakana and Roman.
    IR13,
    /// Half of an ISO 8859 part, or TIS 620, in G1, with ASCII in G0.
    Single(&'static Single),
    /// ISO IR 87: JIS X 0208, kanji.
    IR87,
    /// ISO IR 159: JIS X 0212, supplementary kanji.
    IR159,
    /// ISO IR 149: KS X 1001, hangul and hanja.
    IR149,
    /// ISO IR 58: GB 2312, hanzi.
    IR58,
}

/// A set of 96 (or 94) characters in G1.
#[derive(Debug)]
pub(super) struct Single {
    registration: u16,
    /// The last byte of `ESC - F`, which designates it to G1.
    last: u8,
    /// Says the same from 0xA0 on; below that some of these have characters that the set has not.
    encoding: &'static Encoding,
}

impl PartialEq for Single {
    fn eq(&self, other: &Self) -> bool {
        self.registration == other.registration
    }
}

impl Eq for Single {}

static SINGLES: [Single; 11] = [
    single(100, b'A', encoding_rs::WINDOWS_1252),
    single(101, b'B', encoding_rs::ISO_8859_2),
    single(109, b'C', encoding_rs::ISO_8859_3),
    single(110, b'D', encoding_rs::ISO_8859_4),
    single(126, b'F', encoding_rs::ISO_8859_7),
    single(127, b'G', encoding_rs::ISO_8859_6),
    single(138, b'H', encoding_rs::ISO_8859_8),
    single(144, b'L', encoding_rs::ISO_8859_5),
    single(148, b'M', encoding_rs::WINDOWS_1254),
    single(166, b'T', encoding_rs::WINDOWS_874),
    single(203, b'b', encoding_rs::ISO_8859_15),
];

const fn single(registration: u16, last: u8, encoding: &'static Encoding) -> Single {
    Single {
        registration,
        last,
        encoding,
    }
}

impl Repertoire {
    /// The set with this number in the International Register.
    pub(super) fn of(registration: u16) -> Option<Self> {
        Some(match registration {
            6 => Self::IR6,
            13 | 14 => Self::IR13,
            87 => Self::IR87,
            159 => Self::IR159,
            149 => Self::IR149,
            58 => Self::IR58,
            _ => Self::Single(
                SINGLES
                    .iter()
                    .find(|single| single.registration == registration)?,
            ),
        })
    }

    /// Its number in the International Register.
    pub(super) fn registration(self) -> u16 {
        match self {
            Self::IR6 => 6,
            Self::IR13 => 13,
            Self::Single(single) => single.registration,
            Self::IR87 => 87,
            Self::IR159 => 159,
            Self::IR149 => 149,
            Self::IR58 => 58,
        }
    }

    pub(super) fn is_multi_byte(self) -> bool {
        matches!(self, Self::IR87 | Self::IR159 | Self::IR149 | Self::IR58)
    }

    /// What it puts into G0 and G1.
    pub(super) fn halves(self) -> (Option<G0>, Option<G1>) {
        match self {
            Self::IR6 => (Some(G0::Ascii), None),
            Self::IR13 => (Some(G0::Roman), Some(G1::Katakana)),
            Self::Single(single) => (Some(G0::Ascii), Some(G1::Single(single))),
            Self::IR87 => (Some(G0::Jis0208), None),
            Self::IR159 => (Some(G0::Jis0212), None),
            Self::IR149 => (None, Some(G1::Ksx1001)),
            Self::IR58 => (None, Some(G1::Gb2312)),
        }
    }
}

/// What codes 0x21 to 0x7E mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum G0 {
    Ascii,
    /// ISO IR 14: the Roman half of JIS X 0201.
    Roman,
    /// Half-width katakana, by a sequence that DICOM has not and some senders use.
    Katakana,
    Jis0208,
    Jis0212,
}

/// What codes 0xA0 to 0xFF mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum G1 {
    Single(&'static Single),
    /// ISO IR 13: the katakana half of JIS X 0201.
    Katakana,
    Ksx1001,
    Gb2312,
}

/// What an escape sequence designates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Designation {
    G0(G0),
    G1(G1),
}

impl Designation {
    /// Reads what stands behind ESC; answers its length too.
    pub(super) fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        Some(match bytes {
            [b'(', b'B', ..] => (Self::G0(G0::Ascii), 2),
            [b'(', b'J', ..] => (Self::G0(G0::Roman), 2),
            [b'(', b'I', ..] => (Self::G0(G0::Katakana), 2),
            [b')', b'I', ..] => (Self::G1(G1::Katakana), 2),
            // '@' is the edition of 1978.
            [b'$', b'B' | b'@', ..] => (Self::G0(G0::Jis0208), 2),
            [b'$', b'(', b'D', ..] => (Self::G0(G0::Jis0212), 3),
            [b'$', b')', b'C', ..] => (Self::G1(G1::Ksx1001), 3),
            [b'$', b')', b'A', ..] => (Self::G1(G1::Gb2312), 3),
            [b'-', last, ..] => {
                let single = SINGLES.iter().find(|single| single.last == *last)?;
                (Self::G1(G1::Single(single)), 2)
            }
            _ => return None,
        })
    }

    /// Writes the escape sequence.
    pub(super) fn write(self, out: &mut Vec<u8>) {
        let sequence: &[u8] = match self {
            Self::G0(G0::Ascii) => b"\x1b(B",
            Self::G0(G0::Roman) => b"\x1b(J",
            Self::G0(G0::Katakana) => b"\x1b(I",
            Self::G0(G0::Jis0208) => b"\x1b$B",
            Self::G0(G0::Jis0212) => b"\x1b$(D",
            Self::G1(G1::Katakana) => b"\x1b)I",
            Self::G1(G1::Ksx1001) => b"\x1b$)C",
            Self::G1(G1::Gb2312) => b"\x1b$)A",
            Self::G1(G1::Single(single)) => {
                out.extend_from_slice(&[0x1B, b'-', single.last]);
                return;
            }
        };
        out.extend_from_slice(sequence);
    }
}

/// The half-width katakana of the code 0xA1 to 0xDF.
pub(super) fn katakana(code: u8) -> Option<char> {
    match code {
        0xA1..=0xDF => char::from_u32(0xFF61 + u32::from(code - 0xA1)),
        _ => None,
    }
}

impl G0 {
    pub(super) fn is_double(self) -> bool {
        matches!(self, G0::Jis0208 | G0::Jis0212)
    }

    /// The character of a code below 0x80, for a set of single bytes.
    pub(super) fn single(self, code: u8) -> char {
        match (self, code) {
            // The code of the delimiter stays the delimiter, though Roman has a yen sign there
            // (PS3.5 6.1.2.3 note).
            (G0::Roman, 0x7E) => '\u{203E}',
            (G0::Katakana, 0x21..=0x5F) => katakana(code | 0x80).unwrap_or(char::REPLACEMENT_CHARACTER),
            _ => char::from(code),
        }
    }

    /// Appends the characters of pairs of codes.
    pub(super) fn decode_pairs(self, pairs: &[u8], out: &mut String) {
        // Both are parts of EUC-JP, in G1 there; behind 0x8F in the case of JIS X 0212.
        let mut euc = Vec::with_capacity(pairs.len() * 3 / 2);
        for pair in pairs.chunks(2) {
            if self == G0::Jis0212 {
                euc.push(0x8F);
            }
            euc.extend(pair.iter().map(|code| code | 0x80));
        }
        out.push_str(&encoding_rs::EUC_JP.decode_without_bom_handling(&euc).0);
    }

    /// Writes `c` if the set has it.
    pub(super) fn encode(self, c: char, out: &mut Vec<u8>) -> bool {
        match self {
            G0::Ascii => push_if(out, c.is_ascii().then_some(c as u8)),
            G0::Roman => push_if(
                out,
                match c {
                    '\u{203E}' => Some(0x7E),
                    '\u{A5}' | '~' => None,
                    c => c.is_ascii().then_some(c as u8),
                },
            ),
            G0::Katakana => false,
            G0::Jis0208 => match double(encoding_rs::EUC_JP, c) {
                // 0x8E would be half-width katakana.
                Some([a @ 0xA1..=0xFE, b @ 0xA1..=0xFE]) => {
                    out.extend_from_slice(&[a & 0x7F, b & 0x7F]);
                    true
                }
                _ => false,
            },
            G0::Jis0212 => match jis0212().get(&c) {
                Some(pair) => {
                    out.extend_from_slice(pair);
                    true
                }
                None => false,
            },
        }
    }
}

impl G1 {
    /// Appends the characters of codes from 0xA0 on.
    pub(super) fn decode(self, codes: &[u8], out: &mut String) {
        let encoding = match self {
            G1::Katakana => {
                out.extend(
                    codes
                        .iter()
                        .map(|&code| katakana(code).unwrap_or(char::REPLACEMENT_CHARACTER)),
                );
                return;
            }
            G1::Single(single) => single.encoding,
            G1::Ksx1001 => encoding_rs::EUC_KR,
            G1::Gb2312 => encoding_rs::GBK,
        };
        out.push_str(&encoding.decode_without_bom_handling(codes).0);
    }

    /// Writes `c` if the set has it.
    pub(super) fn encode(self, c: char, out: &mut Vec<u8>) -> bool {
        match self {
            G1::Katakana => {
                let code = u32::from(c).wrapping_sub(0xFF61).wrapping_add(0xA1);
                push_if(
                    out,
                    u8::try_from(code).ok().filter(|&code| katakana(code) == Some(c)),
                )
            }
            G1::Single(single) => {
                let mut buffer = [0; 4];
                let (bytes, _, lost) = single.encoding.encode(c.encode_utf8(&mut buffer));
                match *bytes {
                    [code @ 0xA0..=0xFF] if !lost => push_if(out, Some(code)),
                    _ => false,
                }
            }
            G1::Ksx1001 => match double(encoding_rs::EUC_KR, c) {
                // Anything else is an extension by Microsoft.
                Some(pair @ [0xA1..=0xFE, 0xA1..=0xFE]) => {
                    out.extend_from_slice(&pair);
                    true
                }
                _ => false,
            },
            G1::Gb2312 => match double(encoding_rs::GBK, c) {
                // What GBK added among the codes of GB 2312.
                Some([0xA2, 0xA1..=0xAA] | [0xA6, 0xE0..=0xF5] | [0xA8, 0xBB..=0xC0]) => false,
                Some(pair @ [0xA1..=0xA9 | 0xB0..=0xF7, 0xA1..=0xFE]) => {
                    out.extend_from_slice(&pair);
                    true
                }
                _ => false,
            },
        }
    }
}

fn push_if(out: &mut Vec<u8>, code: Option<u8>) -> bool {
    out.extend(code);
    code.is_some()
}

/// The two bytes of `c`, if it has two.
fn double(encoding: &'static Encoding, c: char) -> Option<[u8; 2]> {
    let mut buffer = [0; 4];
    let (bytes, _, lost) = encoding.encode(c.encode_utf8(&mut buffer));
    <[u8; 2]>::try_from(&*bytes).ok().filter(|_| !lost)
}

/// JIS X 0212, which `encoding_rs` decodes but does not encode, turned around.
fn jis0212() -> &'static HashMap<char, [u8; 2]> {
    static TABLE: OnceLock<HashMap<char, [u8; 2]>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = HashMap::new();
        for row in 0x21..=0x7E_u8 {
            for cell in 0x21..=0x7E_u8 {
                let mut text = String::new();
                G0::Jis0212.decode_pairs(&[row, cell], &mut text);
                let mut chars = text.chars();
                if let (Some(c), None) = (chars.next(), chars.next())
                    && c != char::REPLACEMENT_CHARACTER
                {
                    table.insert(c, [row, cell]);
                }
            }
        }
        table
    })
}
