//! Providers whose keys are a list of lines: [`KeyFile`], [`KeyVariable`], [`KeyCommand`], [`KeyList`].
//!
//! A line is the name of a key and its 64 hexadecimal digits, with spaces between them. The first one is current, the
//! others are kept for what was written with them. Empty lines, and those that begin with `#`, say nothing.

mod command;
mod file;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read as _};

use pacs_core::{Error, ErrorKind, Result, Retry};
use zeroize::Zeroizing;

pub use command::KeyCommand;
pub use file::KeyFile;

use super::keys::{Key, KeyId, KeyProvider};

/// The longest list of keys: some 600 keys.
const LIST_LENGTH_MAX_BYTES: u64 = 64 * 1024;

/// Keys in memory, for programs that have them from elsewhere.
#[derive(Clone)]
pub struct KeyList(Vec<(KeyId, Key)>);

impl KeyList {
    /// The first one is current.
    pub fn new(keys: impl IntoIterator<Item = (KeyId, Key)>) -> Self {
        Self(keys.into_iter().collect())
    }

    /// Reads a list of lines.
    ///
    /// # Errors
    /// `Invalid` with the number of the line, when one is no key, or names one a second time.
    pub fn parse(text: &str) -> Result<Self> {
        let mut keys: Vec<(KeyId, Key)> = Vec::new();
        // An environment variable has its lines in one.
        for (number, line) in (1..).zip(text.split(['\n', ','])) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let refused = |why: &str| {
                // The line may be a key: it isn't shown.
                Error::new(ErrorKind::Invalid, "key.parse", format!("line {number}: {why}"))
            };
            let mut words = line.split_ascii_whitespace();
            let (Some(id), Some(key), None) = (words.next(), words.next(), words.next()) else {
                return Err(refused("not the name of a key and its 64 hexadecimal digits"));
            };
            let id = KeyId::parse(id).map_err(|error| refused(error.context()))?;
            let key = Key::from_hex(key).map_err(|error| refused(error.context()))?;
            if keys.iter().any(|(known, _)| *known == id) {
                return Err(refused("a key of this name stands before"));
            }
            keys.push((id, key));
        }
        Ok(Self(keys))
    }

    /// The names, the current one first.
    pub fn ids(&self) -> impl Iterator<Item = &KeyId> {
        self.0.iter().map(|(id, _)| id)
    }

    pub(super) fn first(&self, of: &dyn fmt::Display) -> Result<(KeyId, Key)> {
        let first = self.0.first().cloned();
        first.ok_or_else(|| refused(format!("there is no key in {of}")))
    }

    pub(super) fn find(&self, id: &KeyId) -> Option<Key> {
        let found = self.0.iter().find(|(known, _)| known == id);
        found.map(|(_, key)| key.clone())
    }
}

impl fmt::Debug for KeyList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

#[deny(clippy::missing_trait_methods)]
impl KeyProvider for KeyList {
    fn current(&self) -> Result<(KeyId, Key)> {
        self.first(&"the list")
    }

    fn key(&self, id: &KeyId) -> Result<Option<Key>> {
        Ok(self.find(id))
    }
}

fn refused(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Refused, "key.ask", why).with_retry(Retry::Later)
}

/// Where a list of keys is had from, each time it is asked; what it is called stands in errors.
trait Listed: fmt::Debug + fmt::Display + Send + Sync + 'static {
    /// The list as it is now.
    fn text(&self) -> Result<Zeroizing<String>>;

    /// The keys in it. `Refused` when there are none to be had, whatever it was: what is kept is not at fault.
    fn list(&self) -> Result<KeyList> {
        let read = self.text().and_then(|text| KeyList::parse(&text));
        read.map_err(|error| refused(format!("{self}: {error}")))
    }
}

#[deny(clippy::missing_trait_methods)]
impl<T: Listed> KeyProvider for T {
    fn current(&self) -> Result<(KeyId, Key)> {
        self.list()?.first(self)
    }

    fn key(&self, id: &KeyId) -> Result<Option<Key>> {
        Ok(self.list()?.find(id))
    }
}

fn text(bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<String>> {
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(Error::new(ErrorKind::Invalid, "key.parse", "it is not text")),
    }
}

/// At most as much as a list may be long.
fn read_list(from: impl io::Read) -> Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(LIST_LENGTH_MAX_BYTES as usize + 1));
    from.take(LIST_LENGTH_MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::io("key.ask", "it can't be read", error))?;
    if bytes.len() as u64 > LIST_LENGTH_MAX_BYTES {
        let why = "it is longer than a list of keys may be";
        return Err(Error::new(ErrorKind::Invalid, "key.parse", why));
    }
    Ok(bytes)
}

/// Keys in a variable of the environment; commas stand for line ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyVariable {
    name: OsString,
}

impl KeyVariable {
    /// The variable of this name.
    pub fn new(name: impl Into<OsString>) -> Self {
        Self { name: name.into() }
    }
}

impl Listed for KeyVariable {
    fn text(&self) -> Result<Zeroizing<String>> {
        let value = std::env::var_os(&self.name).ok_or_else(|| {
            let why = "it is not set";
            Error::new(ErrorKind::Refused, "key.ask", why)
        })?;
        text(Zeroizing::new(value.into_encoded_bytes()))
    }
}

impl fmt::Display for KeyVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the environment variable {}", self.name.to_string_lossy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn line(id: &str, digit: char) -> String {
        format!("{id} {}", digit.to_string().repeat(64))
    }

    pub(super) fn id(text: &str) -> KeyId {
        KeyId::parse(text).expect("a name")
    }

    #[test]
    fn the_first_line_is_current_and_the_others_are_kept() {
        let text = format!("# new\n{}\n\n  {}\r\n", line("b", '1'), line("a", '2'));
        let keys = KeyList::parse(&text).expect("a list");
        assert_eq!(keys.current().expect("a key").0, id("b"));
        assert!(keys.key(&id("a")).expect("is asked").is_some());
        assert!(keys.key(&id("c")).expect("is asked").is_none());
        assert_eq!(format!("{keys:?}"), "[KeyId(b), KeyId(a)]");
        let none = KeyList::parse("# none").expect("a list");
        assert_eq!(none.current().expect_err("none").kind(), ErrorKind::Refused);
    }

    #[test]
    fn a_line_that_is_no_key_is_named_by_its_number_and_not_shown() {
        let secret = "5ec7e7".repeat(10);
        for bad in [
            secret.clone(),
            format!("a {secret}"),
            format!("a {secret}abcd more"),
            format!("a:b {secret}abcd"),
            line("first", '2'),
        ] {
            let text = format!("{}\n{bad}", line("first", '1'));
            let error = KeyList::parse(&text).expect_err("is refused");
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().starts_with("line 2: "), "{error}");
            assert!(!format!("{error:?}").contains(&secret));
        }
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let error = KeyVariable::new("PACS_TEST_NO_SUCH_KEYS")
            .current()
            .expect_err("none");
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(
            error
                .to_string()
                .contains("PACS_TEST_NO_SUCH_KEYS: it is not set")
        );
        let lines = format!("{},{}", line("b", '1'), line("a", '2'));
        assert_eq!(KeyList::parse(&lines).expect("a list").ids().count(), 2);
    }
}
