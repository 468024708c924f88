//! Specific Character Set (0008,0005), to and from UTF-8 (PS3.3 C.12.1.1.2, PS3.5 section 6.1).

use dicom_core::VR;
use encoding_rs::Encoding;

use super::syntax;

/// The character sets that a data set says its text is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CharacterSet {
    terms: Vec<Term>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Term {
    /// ISO IR 6, and whatever a sender puts there without saying so.
    Default,
    Latin1,
    Single(&'static Encoding),
    Utf8,
    Gb18030,
}

impl Default for CharacterSet {
    /// The default repertoire, ISO IR 6.
    fn default() -> Self {
        Self {
            terms: vec![Term::Default],
        }
    }
}

impl CharacterSet {
    /// UTF-8 (ISO_IR 192).
    pub fn utf8() -> Self {
        Self {
            terms: vec![Term::Utf8],
        }
    }

    /// Reads the value of Specific Character Set, with `\` between its values.
    pub fn parse(value: &str) -> Self {
        let terms: Vec<Term> = value.split('\\').map(term).collect();
        Self { terms }
    }

    /// Decodes a text value, with `\` between its values if there are several. Never fails: what can't
    /// be decoded becomes U+FFFD.
    pub fn decode(&self, vr: VR, bytes: &[u8]) -> String {
        if !syntax::has_character_set(vr) {
            return undeclared(bytes);
        }
        match self.terms.first() {
            None | Some(Term::Default) => undeclared(bytes),
            Some(Term::Latin1) => bytes.iter().map(|&byte| char::from(byte)).collect(),
            Some(Term::Utf8) => String::from_utf8_lossy(bytes).into_owned(),
            Some(Term::Gb18030) => encoding_rs::GB18030
                .decode_without_bom_handling(bytes)
                .0
                .into_owned(),
            Some(Term::Single(encoding)) => encoding.decode_without_bom_handling(bytes).0.into_owned(),
        }
    }

    /// Encodes text of a VR that the set governs; `None` when the set can't say it.
    pub fn encode(&self, text: &str) -> Option<Vec<u8>> {
        if text.is_ascii() {
            return Some(text.as_bytes().to_vec());
        }
        match self.terms.first()? {
            Term::Default => None,
            Term::Latin1 => text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect(),
            Term::Utf8 => Some(text.as_bytes().to_vec()),
            Term::Gb18030 => Some(encoding_rs::GB18030.encode(text).0.into_owned()),
            Term::Single(encoding) => {
                let (bytes, _, lost) = encoding.encode(text);
                (!lost).then(|| bytes.into_owned())
            }
        }
    }

    /// The value of Specific Character Set that names this set; empty for the default repertoire.
    pub fn value(&self) -> String {
        match self.terms.first() {
            Some(Term::Latin1) => "ISO_IR 100".into(),
            Some(Term::Utf8) => "ISO_IR 192".into(),
            Some(Term::Gb18030) => "GB18030".into(),
            _ => String::new(),
        }
    }
}

/// Text beyond ASCII in what is declared ASCII: UTF-8 when it is valid, else Latin alphabet No. 1.
fn undeclared(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
    }
}

fn term(name: &str) -> Term {
    match name.trim_matches([' ', '\0']) {
        "ISO_IR 100" | "ISO 2022 IR 100" => Term::Latin1,
        "ISO_IR 101" => Term::Single(encoding_rs::ISO_8859_2),
        "ISO_IR 144" => Term::Single(encoding_rs::ISO_8859_5),
        "ISO_IR 192" => Term::Utf8,
        "GB18030" | "GBK" => Term::Gb18030,
        _ => Term::Default,
    }
}
