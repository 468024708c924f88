//! The character set of a message: MSH-18, HL7 table 0211.

use pacs_core::dataset::charset::CharacterSet;
use pacs_core::{Error, ErrorKind, Result, VR};

/// What the text of a message is in (MSH-18).
///
/// A set of several bytes may have bytes in a character that look like a delimiter; so a message is decoded before it is
/// split.
#[derive(Clone, Debug)]
pub struct Charset {
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Nothing was said: ASCII, and what lies beyond is taken for UTF-8 where it is that, else for Latin alphabet No. 1.
    Undeclared,
    /// One that DICOM has, too.
    Dicom(CharacterSet),
    Other(&'static encoding_rs::Encoding),
}

impl Default for Charset {
    /// ASCII, as HL7 has it where nothing is said. Bytes beyond it are taken for UTF-8 where they are that, else for
    /// Latin alphabet No. 1.
    fn default() -> Self {
        Self {
            kind: Kind::Undeclared,
        }
    }
}

impl Charset {
    /// Reads MSH-18, with `~` between several: the first is the one that a field begins in, others are switched to by
    /// the escape sequences of ISO 2022.
    ///
    /// # Errors
    /// `Unsupported` for one that is not known here.
    pub fn parse(msh_18: &str) -> Result<Self> {
        Self::of(msh_18.split('~'))
    }

    pub(super) fn of<'a>(names: impl Iterator<Item = &'a str>) -> Result<Self> {
        let mut sets: Vec<&str> = Vec::new();
        for (at, name) in names.map(str::trim).enumerate() {
            let set = dicom_name(name).ok_or_else(unknown)?;
            match set {
                "" if at == 0 => sets.push(""),
                "" => {}
                // These stand alone: nothing switches to or from them.
                "BIG5" if at == 0 => return Ok(Self::other(encoding_rs::BIG5)),
                "ISO_IR 192" | "GB18030" if at == 0 => return Ok(Self::dicom(set)),
                // Alone it is what Koreans write: hangul in the upper half, with no escape sequence before it.
                "ISO 2022 IR 149" if at == 0 => return Ok(Self::other(encoding_rs::EUC_KR)),
                "BIG5" | "ISO_IR 192" | "GB18030" => return Err(unknown()),
                set => sets.push(set),
            }
        }
        match sets.as_slice() {
            [] | [""] => Ok(Self::default()),
            [one] if !one.starts_with("ISO 2022") => Ok(Self::dicom(one)),
            sets => Ok(Self::dicom(&sets.join("\\").replace("ISO_IR ", "ISO 2022 IR "))),
        }
    }

    fn dicom(value: &str) -> Self {
        Self {
            kind: Kind::Dicom(CharacterSet::parse(value)),
        }
    }

    fn other(encoding: &'static encoding_rs::Encoding) -> Self {
        Self {
            kind: Kind::Other(encoding),
        }
    }

    /// The text that bytes say.
    ///
    /// # Errors
    /// `Invalid` when they say none in this set: a name that is read wrong is worse than none.
    pub fn decode(&self, bytes: &[u8]) -> Result<String> {
        let text = match &self.kind {
            Kind::Undeclared => Some(CharacterSet::default().decode(VR::UT, bytes)),
            Kind::Dicom(set) if *set == CharacterSet::utf8() => {
                std::str::from_utf8(bytes).ok().map(str::to_owned)
            }
            Kind::Dicom(set) => {
                Some(set.decode(VR::UT, bytes)).filter(|text| !text.contains(char::REPLACEMENT_CHARACTER))
            }
            Kind::Other(encoding) => encoding
                .decode_without_bom_handling_and_without_replacement(bytes)
                .map(std::borrow::Cow::into_owned),
        };
        text.ok_or_else(|| {
            let why = "the text is not in the character set that MSH-18 names";
            Error::new(ErrorKind::Invalid, "hl7.parse", why)
        })
    }

    /// The bytes of a text.
    ///
    /// # Errors
    /// `Invalid` when the set can't say it.
    pub fn encode(&self, text: &str) -> Result<Vec<u8>> {
        let bytes = match &self.kind {
            Kind::Undeclared => text.is_ascii().then(|| text.as_bytes().to_vec()),
            Kind::Dicom(set) => set.encode(text),
            Kind::Other(encoding) => {
                let (bytes, _, lost) = encoding.encode(text);
                (!lost).then(|| bytes.into_owned())
            }
        };
        bytes.ok_or_else(|| {
            let why = "the character set that MSH-18 names can't say the text";
            Error::new(ErrorKind::Invalid, "hl7.write", why)
        })
    }
}

/// What DICOM calls a set of table 0211; `None` for one that is not known.
fn dicom_name(name: &str) -> Option<&'static str> {
    let letters: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_uppercase())
        .collect();
    Some(match letters.as_str() {
        "" | "ASCII" | "ISOIR6" => "",
        "88591" | "ISO88591" => "ISO_IR 100",
        "88592" | "ISO88592" => "ISO_IR 101",
        "88593" | "ISO88593" => "ISO_IR 109",
        "88594" | "ISO88594" => "ISO_IR 110",
        "88595" | "ISO88595" => "ISO_IR 144",
        "88596" | "ISO88596" => "ISO_IR 127",
        "88597" | "ISO88597" => "ISO_IR 126",
        "88598" | "ISO88598" => "ISO_IR 138",
        "88599" | "ISO88599" => "ISO_IR 148",
        "885915" | "ISO885915" => "ISO_IR 203",
        "ISOIR13" | "ISOIR14" => "ISO_IR 13",
        "ISOIR87" => "ISO 2022 IR 87",
        "ISOIR159" => "ISO 2022 IR 159",
        "ISOIR149" | "KSX1001" => "ISO 2022 IR 149",
        "GB180302000" | "GB18030" => "GB18030",
        "BIG5" => "BIG5",
        // "UNICODE" alone is retired, and was never said to be anything else.
        "UNICODEUTF8" | "UTF8" | "UNICODE" => "ISO_IR 192",
        _ => return None,
    })
}

fn unknown() -> Error {
    let why = "MSH-18 names a character set, or a combination, that is not known here";
    Error::new(ErrorKind::Unsupported, "hl7.parse", why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_set_of_the_table_says_its_text_and_reads_it_back() {
        for (name, text) in [
            ("", "Plain"),
            ("ASCII", "Plain"),
            ("8859/1", "Müller"),
            ("8859/2", "Łódź"),
            ("8859/5", "Иванов"),
            ("8859/7", "Διονυσιος"),
            ("8859/9", "Çavuşoğlu"),
            ("8859/15", "Œuvre €"),
            ("UNICODE UTF-8", "山田 Müller"),
            ("UTF-8", "山田"),
            ("~ISO IR87", "山田^太郎|x"),
            ("ASCII~ISO IR87~ISO IR159", "山田|丂"),
            ("ISO IR14~ISO IR87", "ﾔﾏﾀﾞ^山田"),
            ("GB 18030-2000", "王^小东|李"),
            ("BIG-5", "王^小東|功"),
            ("KS X 1001", "김희중|洪^吉洞"),
        ] {
            let set = Charset::parse(name).unwrap();
            let bytes = set.encode(text).unwrap();
            assert_eq!(set.decode(&bytes).unwrap(), text, "{name}");
        }
    }

    #[test]
    fn a_set_that_is_unknown_and_text_that_is_not_of_its_set_are_refused() {
        for name in ["EBCDIC", "UNICODE UTF-16", "ASCII~BIG-5", "8859/99"] {
            assert_eq!(
                Charset::parse(name).unwrap_err().kind(),
                ErrorKind::Unsupported,
                "{name}"
            );
        }
        let utf8 = Charset::parse("UNICODE UTF-8").unwrap();
        assert_eq!(utf8.decode(b"M\xFCller").unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(
            Charset::default().encode("Müller").unwrap_err().kind(),
            ErrorKind::Invalid
        );
        // Who says nothing of it is guessed.
        assert_eq!(Charset::default().decode(b"M\xFCller").unwrap(), "Müller");
        assert_eq!(Charset::default().decode("Müller".as_bytes()).unwrap(), "Müller");
    }
}
