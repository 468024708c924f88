//! Validated names: [`Uid`], [`AeTitle`], [`Level`], [`InstanceKey`].

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::ops::Deref;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use twox_hash::XxHash3_128;

use crate::error::{Error, ErrorKind, Result};

/// Text of at most `N` bytes kept in place, so that keys need no allocation.
#[derive(Clone, Copy)]
struct Inline<const N: usize> {
    length: u8,
    bytes: [u8; N],
}

impl<const N: usize> Inline<N> {
    /// `text` must be ASCII and at most `N` (and 255) bytes long.
    const fn new(text: &[u8]) -> Self {
        let mut bytes = [0; N];
        let mut at = 0;
        while at < text.len() {
            bytes[at] = text[at];
            at += 1;
        }
        Self {
            length: text.len() as u8,
            bytes,
        }
    }

    fn as_str(&self) -> &str {
        // Only ASCII is ever put in, which is always valid UTF-8.
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

macro_rules! text_newtype {
    ($name:ident) => {
        impl $name {
            /// The text, without padding.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }
        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                self.as_str()
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.as_str() == other.as_str()
            }
        }
        impl Eq for $name {}
        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                self.as_str().cmp(other.as_str())
            }
        }
        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.as_str().hash(state);
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.as_str())
            }
        }
        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                Self::parse(text)
            }
        }
        impl TryFrom<&str> for $name {
            type Error = Error;
            fn try_from(text: &str) -> Result<Self> {
                Self::parse(text)
            }
        }
    };
}

/// A unique identifier (PS3.5 section 9): 1 to 64 digits and dots.
///
/// Leading zeros in a component, which the Standard forbids and real senders write, are accepted and
/// kept: the text is an identity, and changing it would make another one.
#[derive(Clone, Copy)]
pub struct Uid(Inline<64>);
text_newtype!(Uid);

impl Uid {
    /// Takes the text without its padding of NUL or spaces.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when it is empty, longer than 64, or holds anything but digits and dots.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim_matches(|c| c == '\0' || c == ' ');
        let valid =
            !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if !valid {
            return Err(Error::new(
                ErrorKind::Invalid,
                "uid.parse",
                "not a UID: 1 to 64 digits and dots (PS3.5 9.1)",
            ));
        }
        Ok(Self(Inline::new(text.as_bytes())))
    }

    /// The UID that is made of a UUID (PS3.5 B.2): `2.25.` and the number in decimal.
    #[must_use]
    pub fn of_uuid(uuid: u128) -> Self {
        let text = format!("2.25.{uuid}");
        Self(Inline::new(text.as_bytes()))
    }

    /// A UID that nobody has yet: of a random UUID.
    #[must_use]
    pub fn random() -> Self {
        // Version 4, variant 10 (RFC 9562 5.4).
        let random = random() & !(0xF << 76) & !(0x3 << 62);
        Self::of_uuid(random | 0x4 << 76 | 0x2 << 62)
    }

    /// The UID of what these parts name: the same for the same parts, and another one for others. So what is made
    /// again gets the UID that it had.
    #[must_use]
    pub fn named<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hash = XxHash3_128::new();
        for part in parts {
            hash.write(&(part.len() as u64).to_be_bytes());
            hash.write(part);
        }
        // Version 8, variant 10: a UUID made in one's own way (RFC 9562 5.8).
        let hash = hash.finish_128() & !(0xF << 76) & !(0x3 << 62);
        Self::of_uuid(hash | 0x8 << 76 | 0x2 << 62)
    }

    /// It as a name of a file or a directory. Digits and dots are safe there, unless a dot stands first, as peers
    /// may send it: `..` means something else. Then `_` stands before it.
    #[must_use]
    pub fn file_name(&self) -> String {
        match self.starts_with('.') {
            true => format!("_{self}"),
            false => self.to_string(),
        }
    }

    /// A UID known to be valid, for constants of the Standard.
    ///
    /// # Panics
    /// When `text` is not 1 to 64 bytes long.
    #[must_use]
    pub const fn constant(text: &str) -> Self {
        assert!(!text.is_empty() && text.len() <= 64);
        Self(Inline::new(text.as_bytes()))
    }
}

/// 128 bits that nobody can guess or will meet again: the standard library keys its hashers with the system's
/// randomness.
pub(crate) fn random() -> u128 {
    let half = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u128::from(RandomState::new().hash_one(now.as_nanos()))
    };
    half() << 64 | half()
}

/// An application entity title (PS3.5 6.2, VR AE): 1 to 16 characters of the default repertoire,
/// without backslash and control characters; leading and trailing spaces mean nothing.
#[derive(Clone, Copy)]
pub struct AeTitle(Inline<16>);
text_newtype!(AeTitle);

impl AeTitle {
    /// Takes the title without its surrounding spaces and trailing NULs.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when it is empty, longer than 16, or holds a forbidden character.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim_matches(|c| c == '\0' || c == ' ');
        let valid = !text.is_empty()
            && text.len() <= 16
            && text.bytes().all(|b| (0x20..0x7F).contains(&b) && b != b'\\');
        if !valid {
            return Err(Error::new(
                ErrorKind::Invalid,
                "ae_title.parse",
                "not an AE title: 1 to 16 printable ASCII characters without backslash (PS3.5 6.2)",
            ));
        }
        Ok(Self(Inline::new(text.as_bytes())))
    }
}

/// The four levels of the Query/Retrieve information models (PS3.4 C.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// A patient.
    Patient,
    /// A study.
    Study,
    /// A series.
    Series,
    /// An instance; the Standard's value is "IMAGE".
    Instance,
}

impl Level {
    /// All four, from the top.
    pub const ALL: [Level; 4] = [Level::Patient, Level::Study, Level::Series, Level::Instance];

    /// Query/Retrieve Level (0008,0052), as the Standard spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Patient => "PATIENT",
            Level::Study => "STUDY",
            Level::Series => "SERIES",
            Level::Instance => "IMAGE",
        }
    }

    /// Reads a value of Query/Retrieve Level (0008,0052).
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim_matches(|c| c == '\0' || c == ' ') {
            "PATIENT" => Some(Level::Patient),
            "STUDY" => Some(Level::Study),
            "SERIES" => Some(Level::Series),
            "IMAGE" => Some(Level::Instance),
            _ => None,
        }
    }
}

/// Where an instance belongs: its study, its series, itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceKey {
    /// Study Instance UID (0020,000D).
    pub study: Uid,
    /// Series Instance UID (0020,000E).
    pub series: Uid,
    /// SOP Instance UID (0008,0018): by itself the identity of the instance.
    pub instance: Uid,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_loses_its_padding_and_nothing_else() {
        assert_eq!(Uid::parse("1.2.840\0").unwrap().as_str(), "1.2.840");
        assert_eq!(Uid::parse(" 1.02.3 ").unwrap().as_str(), "1.02.3");
        assert_eq!(Uid::parse(&"1".repeat(64)).unwrap().len(), 64);
        for bad in ["", "1.2.x", &"1".repeat(65), "1 2"] {
            assert_eq!(Uid::parse(bad).unwrap_err().kind(), ErrorKind::Invalid);
        }
    }

    #[test]
    fn no_uid_is_a_name_that_leads_elsewhere() {
        for (uid, name) in [("1.2.3", "1.2.3"), ("..", "_.."), (".", "_."), (".1", "_.1")] {
            assert_eq!(Uid::parse(uid).unwrap().file_name(), name);
        }
    }

    #[test]
    fn the_same_parts_name_the_same_uid_and_others_another() {
        let named = |parts: &[&str]| Uid::named(parts.iter().map(|part| part.as_bytes()));
        assert_eq!(named(&["a", "bc"]), named(&["a", "bc"]));
        assert_ne!(named(&["a", "bc"]), named(&["ab", "c"]));
        assert!(Uid::parse(named(&[]).as_str()).is_ok());
    }

    #[test]
    fn a_uid_of_a_uuid_is_its_number_and_random_ones_differ() {
        assert_eq!(Uid::of_uuid(0).as_str(), "2.25.0");
        assert_eq!(Uid::of_uuid(u128::MAX).len(), 5 + 39);
        let made: std::collections::BTreeSet<Uid> = (0..1000).map(|_| Uid::random()).collect();
        assert_eq!(made.len(), 1000);
        assert!(made.iter().all(|uid| Uid::parse(uid).is_ok()));
    }

    #[test]
    fn an_ae_title_is_1_to_16_printable_characters() {
        assert_eq!(AeTitle::parse("  MY PACS  ").unwrap().as_str(), "MY PACS");
        for bad in ["", "    ", "A\\B", "SEVENTEEN-LETTERS", "A\nB", "Ä"] {
            assert!(AeTitle::parse(bad).is_err());
        }
    }
}
