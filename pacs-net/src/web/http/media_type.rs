//! [`MediaType`]: a media type with its parameters (RFC 9110 8.3.1), and those that DICOM knows (PS3.18 8.7.3).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use dicom_dictionary_std::uids;
use http::HeaderValue;
use pacs_core::{Error, ErrorKind, Result};

/// The longest media type that is read, in bytes, as it comes and as it is written. Those of DICOM stay below 200.
pub const MEDIA_TYPE_LENGTH_MAX_BYTES: usize = 1024;

/// The most parameters that are read of one media type. DICOM has five.
pub const PARAMETERS_MAX: usize = 16;

/// A media type with its parameters. Names are in lower case; values are as they came, without quotes.
///
/// It is written so that every value that is not a token is quoted.
#[derive(Clone, PartialEq, Eq)]
pub struct MediaType {
    main: Cow<'static, str>,
    sub: Cow<'static, str>,
    parameters: Vec<(Cow<'static, str>, Cow<'static, str>)>,
}

macro_rules! media_types {
    ($($(#[$doc:meta])* $name:ident = $main:literal / $sub:literal;)*) => {
        impl MediaType {
            $($(#[$doc])* pub const $name: Self = Self::constant($main, $sub);)*
        }
    };
}

media_types! {
    /// An instance as a Part 10 stream.
    DICOM = "application" / "dicom";
    /// Metadata in the DICOM JSON model (PS3.18 annex F).
    DICOM_JSON = "application" / "dicom+json";
    /// Metadata in the Native DICOM Model (PS3.19 A.1).
    DICOM_XML = "application" / "dicom+xml";
    /// Uncompressed bulk data, little endian.
    OCTET_STREAM = "application" / "octet-stream";
    /// JSON.
    JSON = "application" / "json";
    /// XML.
    XML = "application" / "xml";
    /// Instances in a zip archive.
    ZIP = "application" / "zip";
    /// Problem details (RFC 9457).
    PROBLEM_JSON = "application" / "problem+json";
    /// A document in PDF.
    PDF = "application" / "pdf";
    /// Several parts that belong together (RFC 2387); see [`MediaType::related`].
    MULTIPART_RELATED = "multipart" / "related";
    /// JPEG, of any process.
    JPEG = "image" / "jpeg";
    /// JPEG-LS.
    JLS = "image" / "jls";
    /// JPEG 2000.
    JP2 = "image" / "jp2";
    /// JPEG 2000 part 2.
    JPX = "image" / "jpx";
    /// High-throughput JPEG 2000.
    JPHC = "image" / "jphc";
    /// JPEG XL.
    JXL = "image" / "jxl";
    /// RLE as PS3.5 annex G defines it.
    DICOM_RLE = "image" / "dicom-rle";
    /// GIF.
    GIF = "image" / "gif";
    /// PNG.
    PNG = "image" / "png";
    /// MPEG-2.
    MPEG = "video" / "mpeg";
    /// MPEG-4.
    MP4 = "video" / "mp4";
    /// HEVC.
    H265 = "video" / "h265";
    /// HTML.
    HTML = "text" / "html";
    /// Text.
    PLAIN = "text" / "plain";
}

/// Media types of encapsulated transfer syntaxes (PS3.18 tables 8.7.3-4 and 8.7.3-5). The first row of a
/// media type is its default.
const ENCAPSULATED: &[(MediaType, &str)] = &[
    (MediaType::JPEG, uids::JPEG_LOSSLESS_SV1),
    (MediaType::JPEG, uids::JPEG_BASELINE8_BIT),
    (MediaType::JPEG, uids::JPEG_EXTENDED12_BIT),
    (MediaType::JPEG, uids::JPEG_LOSSLESS),
    (MediaType::DICOM_RLE, uids::RLE_LOSSLESS),
    (MediaType::JLS, uids::JPEGLS_LOSSLESS),
    (MediaType::JLS, uids::JPEGLS_NEAR_LOSSLESS),
    (MediaType::JP2, uids::JPEG2000_LOSSLESS),
    (MediaType::JP2, uids::JPEG2000),
    (MediaType::JPX, uids::JPEG2000MC_LOSSLESS),
    (MediaType::JPX, uids::JPEG2000MC),
    (MediaType::JPHC, uids::HTJ2K_LOSSLESS),
    (MediaType::JPHC, uids::HTJ2K_LOSSLESS_RPCL),
    (MediaType::JPHC, uids::HTJ2K),
    (MediaType::JXL, uids::JPEGXL_LOSSLESS),
    (MediaType::JXL, uids::JPEGXLJPEG_RECOMPRESSION),
    (MediaType::JXL, uids::JPEGXL),
    (MediaType::MPEG, uids::MPEG2MPML),
    (MediaType::MPEG, uids::MPEG2MPMLF),
    (MediaType::MPEG, uids::MPEG2MPHL),
    (MediaType::MPEG, uids::MPEG2MPHLF),
    (MediaType::MP4, uids::MPEG4HP41),
    (MediaType::MP4, uids::MPEG4HP41F),
    (MediaType::MP4, uids::MPEG4HP41BD),
    (MediaType::MP4, uids::MPEG4HP41BDF),
    (MediaType::MP4, uids::MPEG4HP422D),
    (MediaType::MP4, uids::MPEG4HP422DF),
    (MediaType::MP4, uids::MPEG4HP423D),
    (MediaType::MP4, uids::MPEG4HP423DF),
    (MediaType::MP4, uids::MPEG4HP42STEREO),
    (MediaType::MP4, uids::MPEG4HP42STEREOF),
    (MediaType::H265, uids::HEVCMP51),
    (MediaType::H265, uids::HEVCM10P51),
];

impl MediaType {
    /// A type that is known when the program is built: both names in lower case.
    pub const fn constant(main: &'static str, sub: &'static str) -> Self {
        Self {
            main: Cow::Borrowed(main),
            sub: Cow::Borrowed(sub),
            parameters: Vec::new(),
        }
    }

    /// `multipart/related; type="ROOT"` (PS3.18 8.7.3.5.1), without a boundary. Parameters of `root` other
    /// than `type` become parameters of the whole, as PS3.18 places `transfer-syntax`.
    pub fn related(root: &Self) -> Self {
        let mut whole = Self::MULTIPART_RELATED.with_parameter("type", root.essence());
        whole
            .parameters
            .extend(root.parameters.iter().filter(|p| p.0 != "type").cloned());
        whole
    }

    /// The media type of frames in an encapsulated transfer syntax (PS3.18 table 8.7.3-5); none for those that
    /// are not encapsulated.
    pub fn of_transfer_syntax(transfer_syntax: &str) -> Option<Self> {
        let row = ENCAPSULATED.iter().find(|row| row.1 == transfer_syntax)?;
        Some(row.0.clone())
    }

    /// The transfer syntax that is meant where none is named (PS3.18 tables 8.7.3-2, 8.7.3-4, 8.7.3-5); of a
    /// multipart type, that of its root. None where transfer syntaxes mean nothing.
    pub fn default_transfer_syntax(&self) -> Option<&'static str> {
        let root = self.root();
        if root.is(&Self::DICOM) || root.is(&Self::OCTET_STREAM) {
            return Some(uids::EXPLICIT_VR_LITTLE_ENDIAN);
        }
        Some(ENCAPSULATED.iter().find(|row| root.is(&row.0))?.1)
    }

    /// Adds a parameter, or replaces it. `name` is a token in lower case.
    #[must_use]
    pub fn with_parameter(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.parameters.retain(|parameter| parameter.0 != name);
        self.parameters.push((Cow::Borrowed(name), value.into()));
        self
    }

    /// Adds the `transfer-syntax` parameter (PS3.18 8.7.3.5.2).
    #[must_use]
    pub fn with_transfer_syntax(self, transfer_syntax: &str) -> Self {
        self.with_parameter("transfer-syntax", transfer_syntax.to_owned())
    }

    /// What stands before the slash, in lower case.
    pub fn main(&self) -> &str {
        &self.main
    }

    /// What stands behind the slash, in lower case.
    pub fn sub(&self) -> &str {
        &self.sub
    }

    /// Both names without parameters: `application/dicom`.
    pub fn essence(&self) -> String {
        format!("{}/{}", self.main, self.sub)
    }

    /// The value of a parameter; `name` in lower case.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let parameter = self.parameters.iter().find(|parameter| parameter.0 == name)?;
        Some(&parameter.1)
    }

    /// The `transfer-syntax` parameter: a UID or `*`. Many clients write it inside of `type`.
    pub fn transfer_syntax(&self) -> Option<Cow<'_, str>> {
        match self.parameter("transfer-syntax") {
            Some(value) => Some(Cow::Borrowed(value)),
            None if self.is_multipart() => {
                let root = self.parameter("type")?.parse::<Self>().ok()?;
                Some(Cow::Owned(root.parameter("transfer-syntax")?.to_owned()))
            }
            None => None,
        }
    }

    /// The `boundary` parameter.
    pub fn boundary(&self) -> Option<&str> {
        self.parameter("boundary")
    }

    /// A type of several parts.
    pub fn is_multipart(&self) -> bool {
        self.main == "multipart"
    }

    /// The type of the parts: of a multipart type what its `type` parameter says (`*/*` without one), of
    /// another itself.
    pub fn root(&self) -> Cow<'_, Self> {
        if !self.is_multipart() {
            return Cow::Borrowed(self);
        }
        let root = self.parameter("type").and_then(|text| text.parse().ok());
        Cow::Owned(root.unwrap_or(Self::constant("*", "*")))
    }

    /// The same type, whatever the parameters.
    pub fn is(&self, other: &Self) -> bool {
        self.main == other.main && self.sub == other.sub
    }

    /// Text in which gzip and zstd find something.
    pub fn is_text(&self) -> bool {
        let structured = ["json", "xml", "javascript"];
        let suffix = self.sub.rsplit_once('+').map_or(&*self.sub, |(_, suffix)| suffix);
        self.main == "text"
            || (self.main == "application" && structured.contains(&suffix))
            || (self.main == "image" && self.sub == "svg+xml")
    }

    /// As the value of Content-Type.
    pub fn header_value(&self) -> HeaderValue {
        // Names are tokens, and control characters in values are not written.
        let value = HeaderValue::from_bytes(self.to_string().as_bytes());
        value.unwrap_or(HeaderValue::from_static("application/octet-stream"))
    }
}

/// Characters of a token (RFC 9110 5.6.2).
pub(super) fn is_token_character(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_character)
}

impl FromStr for MediaType {
    type Err = Error;

    /// # Errors
    /// `Invalid` when it is no media type, or is longer than the limits of this module.
    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &'static str| Error::new(ErrorKind::Invalid, "media_type.parse", why);
        if text.len() > MEDIA_TYPE_LENGTH_MAX_BYTES {
            return Err(bad("a media type is too long"));
        }
        let mut rest = Rest(text);
        let names = rest.take_while(|byte| byte != b';').trim_matches([' ', '\t']);
        let (main, sub) = names.split_once('/').ok_or(bad("a media type without a slash"))?;
        if !is_token(main) || !is_token(sub) {
            return Err(bad("the names of a media type are not tokens"));
        }
        let mut media_type = Self {
            main: Cow::Owned(main.to_ascii_lowercase()),
            sub: Cow::Owned(sub.to_ascii_lowercase()),
            parameters: Vec::new(),
        };
        while rest.skip(b';') {
            rest.skip_white();
            // Nothing between two semicolons, or behind the last: RFC 9110 5.6.6 lets it pass.
            if rest.0.is_empty() || rest.0.starts_with(';') {
                continue;
            }
            let name = rest.take_while(is_token_character).to_ascii_lowercase();
            if !is_token(&name) || !rest.skip(b'=') {
                return Err(bad("a parameter of a media type without a name or a value"));
            }
            let value = rest
                .value()
                .ok_or(bad("a parameter of a media type with a bad value"))?;
            rest.skip_white();
            if !rest.0.is_empty() && !rest.0.starts_with(';') {
                return Err(bad("something behind the value of a media type's parameter"));
            }
            if media_type.parameters.len() == PARAMETERS_MAX {
                return Err(bad("a media type with too many parameters"));
            }
            // Of a name that comes twice the first counts: it is an error (RFC 6838 4.3) not worth a refusal.
            if media_type.parameter(&name).is_none() {
                media_type.parameters.push((Cow::Owned(name), Cow::Owned(value)));
            }
        }
        // With the quotes that it came without: what is answered with it is to be read by the same rule.
        if media_type.to_string().len() > MEDIA_TYPE_LENGTH_MAX_BYTES {
            return Err(bad("a media type is too long"));
        }
        Ok(media_type)
    }
}

/// What is left to read.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// Only whole characters are taken: `wanted` must not split one, which bytes below 80H don't.
    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a str {
        let end = self.0.bytes().position(|byte| byte.is_ascii() && !wanted(byte));
        let (taken, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest;
        taken
    }

    fn skip(&mut self, byte: u8) -> bool {
        match self.0.strip_prefix(char::from(byte)) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn skip_white(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }

    /// A token or a quoted string (RFC 9110 5.6.4). Without quotes also what is no token: `type=application/dicom`
    /// is what half of all clients write.
    fn value(&mut self) -> Option<String> {
        if !self.skip(b'"') {
            let value = self.take_while(|byte| byte.is_ascii_graphic() && !b";,\"".contains(&byte));
            let sound = !value.is_empty() && value.is_ascii();
            return sound.then(|| value.to_owned());
        }
        let mut value = String::new();
        let mut characters = self.0.chars();
        while let Some(character) = characters.next() {
            let character = match character {
                '"' => {
                    self.0 = characters.as_str();
                    return Some(value);
                }
                '\\' => characters.next()?,
                other => other,
            };
            if character.is_control() && character != '\t' {
                return None;
            }
            value.push(character);
        }
        None
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.main, self.sub)?;
        for (name, value) in &self.parameters {
            if is_token(value) {
                write!(f, "; {name}={value}")?;
                continue;
            }
            write!(f, "; {name}=\"")?;
            for character in value.chars().filter(|c| !c.is_control() || *c == '\t') {
                if matches!(character, '"' | '\\') {
                    f.write_str("\\")?;
                }
                write!(f, "{character}")?;
            }
            f.write_str("\"")?;
        }
        Ok(())
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
