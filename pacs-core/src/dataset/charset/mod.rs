//! Specific Character Set (0008,0005), to and from UTF-8 (PS3.3 C.12.1.1.2, PS3.5 section 6.1).
//!
//! ```
//! use dicom_core::VR;
//! use pacs_core::dataset::charset::CharacterSet;
//!
//! let set = CharacterSet::parse("\\ISO 2022 IR 87");
//! let bytes = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B";
//! assert_eq!(set.decode(VR::PN, bytes), "Yamada^Tarou=山田^太郎");
//! assert_eq!(set.encode("Yamada^Tarou=山田^太郎").as_deref(), Some(&bytes[..]));
//! ```

mod iso2022;
mod repertoire;

use dicom_core::VR;

use self::repertoire::Repertoire;
use super::syntax;

/// The character sets that a data set says its text is in.
///
/// Every defined term of PS3.3 C.12.1.1.2 is known, with the spellings that real senders give them.
/// A term that is not known counts as the default repertoire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CharacterSet {
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing but the default repertoire, ISO IR 6.
    Default,
    /// ISO_IR 192.
    Utf8,
    /// GB18030, and GBK which is a part of it.
    Gb18030 { only_gbk: bool },
    /// One or several sets of ISO 2022 form. The first is active at the beginning of each value;
    /// others are switched to by escape sequences (PS3.5 6.1.2.5).
    Iso2022(Vec<Repertoire>),
}

impl Default for CharacterSet {
    /// The default repertoire, ISO IR 6.
    fn default() -> Self {
        Self { kind: Kind::Default }
    }
}

impl CharacterSet {
    /// UTF-8 (ISO_IR 192).
    pub fn utf8() -> Self {
        Self { kind: Kind::Utf8 }
    }

    /// Reads the value of Specific Character Set, with `\` between its values.
    pub fn parse(value: &str) -> Self {
        let mut sets = Vec::new();
        for (at, term) in value.split('\\').enumerate().take(repertoire::TERMS_MAX) {
            match Term::parse(term) {
                // UTF-8, GB18030 and GBK stand alone (PS3.3 C.12.1.1.2); behind others they mean nothing.
                Some(Term::Whole(kind)) if at == 0 => return Self { kind },
                Some(Term::Part(set)) if !sets.contains(&set) => sets.push(set),
                None if at == 0 => sets.push(Repertoire::IR6),
                _ => {}
            }
        }
        if sets.iter().all(|&set| set == Repertoire::IR6) {
            return Self::default();
        }
        if sets[0].is_multi_byte() {
            // No such set can be active at the beginning of a value (PS3.3 C.12.1.1.2): who names one
            // first means that escape sequences switch to it.
            sets.insert(0, Repertoire::IR6);
        }
        Self {
            kind: Kind::Iso2022(sets),
        }
    }

    /// Decodes a text value, with `\` between its values if there are several.
    ///
    /// Never fails: what can't be decoded becomes U+FFFD. Bytes beyond ASCII where no set is declared
    /// that has them are taken for UTF-8 when that is valid, else for Latin alphabet No. 1, which is
    /// what senders who forget to declare mostly mean.
    pub fn decode(&self, vr: VR, bytes: &[u8]) -> String {
        let escapes = bytes.contains(&iso2022::ESC);
        if !syntax::has_character_set(vr) || bytes.is_ascii() && !escapes && !self.has_own_ascii() {
            return undeclared(bytes);
        }
        match &self.kind {
            Kind::Default if escapes => iso2022::decode(&[Repertoire::IR6], vr, bytes),
            Kind::Default => undeclared(bytes),
            Kind::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
            Kind::Gb18030 { .. } => encoding_rs::GB18030
                .decode_without_bom_handling(bytes)
                .0
                .into_owned(),
            Kind::Iso2022(sets) => iso2022::decode(sets, vr, bytes),
        }
    }

    /// Encodes text of a VR that the set governs, with `\` between values; `None` when the set can't
    /// say it.
    pub fn encode(&self, text: &str) -> Option<Vec<u8>> {
        if text.is_ascii() && !text.contains(char::from(iso2022::ESC)) && !self.has_own_ascii() {
            return Some(text.as_bytes().to_vec());
        }
        match &self.kind {
            Kind::Default => None,
            Kind::Utf8 => Some(text.as_bytes().to_vec()),
            Kind::Gb18030 { only_gbk } => {
                let encoding = if *only_gbk {
                    encoding_rs::GBK
                } else {
                    encoding_rs::GB18030
                };
                let (bytes, _, lost) = encoding.encode(text);
                (!lost).then(|| bytes.into_owned())
            }
            Kind::Iso2022(sets) => iso2022::encode(sets, text),
        }
    }

    /// The value of Specific Character Set that names this set, in the Standard's spelling; empty for
    /// the default repertoire.
    pub fn value(&self) -> String {
        match &self.kind {
            Kind::Default => String::new(),
            Kind::Utf8 => "ISO_IR 192".into(),
            Kind::Gb18030 { only_gbk: true } => "GBK".into(),
            Kind::Gb18030 { only_gbk: false } => "GB18030".into(),
            Kind::Iso2022(sets) => match sets.as_slice() {
                [one] if !one.is_multi_byte() => format!("ISO_IR {}", one.registration()),
                sets => {
                    let names = sets.iter().enumerate().map(|(at, &set)| match set {
                        Repertoire::IR6 if at == 0 => String::new(),
                        set => format!("ISO 2022 IR {}", set.registration()),
                    });
                    names.collect::<Vec<_>>().join("\\")
                }
            },
        }
    }

    /// Whether the codes of ASCII may mean something else: ISO IR 14, the Roman half of ISO_IR 13.
    fn has_own_ascii(&self) -> bool {
        matches!(&self.kind, Kind::Iso2022(sets) if sets.first() == Some(&Repertoire::IR13))
    }
}

/// Text of no declared set.
fn undeclared(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
    }
}

enum Term {
    Whole(Kind),
    Part(Repertoire),
}

impl Term {
    /// Reads one value, whatever stands between its letters and digits: "ISO-IR 100", "iso_ir_100".
    fn parse(term: &str) -> Option<Self> {
        let letters: String = term
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|c| c.to_ascii_uppercase())
            .collect();
        let name = letters.strip_prefix("ISO2022").or(letters.strip_prefix("ISO"));
        let name = name.unwrap_or(&letters);
        let name = name.strip_prefix("IR").unwrap_or(name);
        let part = match name {
            "192" | "UTF8" | "UNICODE11UTF8" => return Some(Term::Whole(Kind::Utf8)),
            "GB18030" => return Some(Term::Whole(Kind::Gb18030 { only_gbk: false })),
            "GBK" => return Some(Term::Whole(Kind::Gb18030 { only_gbk: true })),
            "88591" | "LATIN1" => Repertoire::of(100),
            "88592" => Repertoire::of(101),
            "88593" => Repertoire::of(109),
            "88594" => Repertoire::of(110),
            "88595" => Repertoire::of(144),
            "88596" => Repertoire::of(127),
            "88597" => Repertoire::of(126),
            "88598" => Repertoire::of(138),
            "88599" => Repertoire::of(148),
            "885915" => Repertoire::of(203),
            number => Repertoire::of(number.parse().ok()?),
        };
        part.map(Term::Part)
    }
}

#[cfg(test)]
mod tests;
