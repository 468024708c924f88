//! Master keys, and who gives them: [`Key`], [`KeyId`], [`KeyProvider`].

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use pacs_core::{Error, ErrorKind, Result, Retry};
use zeroize::Zeroizing;

/// Length of every key, in bytes.
pub const KEY_LENGTH_BYTES: usize = 32;
/// The longest name of a key, in bytes.
pub const KEY_ID_LENGTH_MAX_BYTES: usize = 32;
/// How long it is believed that there is no such key, so that a provider isn't asked anew for each instance.
const MISSED_FOR: Duration = Duration::from_secs(1);
/// Of the check value of a key, in bytes.
pub(super) const CHECK_LENGTH_BYTES: usize = 8;

/// The name of a master key: 1 to 32 ASCII letters, digits, dots, hyphens and underscores. It is no secret: it
/// stands in what is stored and in errors.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(Box<str>);

impl KeyId {
    /// Takes the name.
    ///
    /// # Errors
    /// `Invalid` when it is empty, too long or has other characters.
    pub fn parse(text: &str) -> Result<Self> {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || b".-_".contains(&c);
        if text.is_empty() || text.len() > KEY_ID_LENGTH_MAX_BYTES || !text.bytes().all(allowed) {
            let why = "not the name of a key: 1 to 32 letters, digits, dots, hyphens and underscores";
            return Err(Error::new(ErrorKind::Invalid, "key.parse", why));
        }
        Ok(Self(text.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// A master key of 256 bits: random bytes, no passphrase. Overwritten when it is dropped, and never shown.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; KEY_LENGTH_BYTES]>);

impl Key {
    /// Takes the bytes.
    pub fn new(bytes: [u8; KEY_LENGTH_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A key that nobody has yet.
    ///
    /// # Errors
    /// `Internal` when the system has no random bytes to give.
    pub fn random() -> Result<Self> {
        let mut bytes = Zeroizing::new([0; KEY_LENGTH_BYTES]);
        fill_random(&mut *bytes)?;
        Ok(Self(bytes))
    }

    /// Reads 64 hexadecimal digits.
    ///
    /// # Errors
    /// `Invalid` when it is anything else.
    pub fn from_hex(text: &str) -> Result<Self> {
        let mut bytes = Zeroizing::new([0; KEY_LENGTH_BYTES]);
        let digits = text.as_bytes();
        let digit = |at: usize| {
            let value = char::from(digits[at]).to_digit(16)?;
            u8::try_from(value).ok()
        };
        let whole = digits.len() == 2 * KEY_LENGTH_BYTES;
        let read = whole.then(|| {
            (0..KEY_LENGTH_BYTES).try_for_each(|at| {
                bytes[at] = digit(2 * at)? << 4 | digit(2 * at + 1)?;
                Some(())
            })
        });
        match read.flatten() {
            Some(()) => Ok(Self(bytes)),
            None => {
                let why = "not a key: 64 hexadecimal digits";
                Err(Error::new(ErrorKind::Invalid, "key.parse", why))
            }
        }
    }

    /// As 64 hexadecimal digits.
    pub fn to_hex(&self) -> Zeroizing<String> {
        // Long enough from the start: a text that grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(2 * KEY_LENGTH_BYTES));
        for byte in self.0.iter() {
            for half in [byte >> 4, byte & 15] {
                text.push(char::from_digit(half.into(), 16).unwrap_or('0'));
            }
        }
        text
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<()> {
    SystemRandom::new().fill(bytes).map_err(|_| {
        let why = "the system gives no random bytes";
        Error::new(ErrorKind::Internal, "key.random", why)
    })
}

/// A number that nobody else draws.
pub(crate) fn random_number() -> Result<u128> {
    let mut random = [0; 16];
    fill_random(&mut random)?;
    Ok(u128::from_be_bytes(random))
}

/// Gives master keys. Both methods may block: they are never called on a thread that polls futures, but for the
/// opening of the archive.
///
/// An implementation that asks a key service puts a limit on its waits.
pub trait KeyProvider: fmt::Debug + Send + Sync + 'static {
    /// The key for what is written from now on.
    ///
    /// # Errors
    /// `Refused` when there is none or it can't be had.
    fn current(&self) -> Result<(KeyId, Key)>;

    /// The key of this name; none where there is none.
    ///
    /// - One that was current at any time is given for as long as anything is kept that was written with it.
    ///
    /// # Errors
    /// `Refused` when it can't be had.
    fn key(&self, id: &KeyId) -> Result<Option<Key>>;
}

/// A master key in use.
pub(super) struct Master {
    pub(super) id: KeyId,
    /// Tells a wrong key from damage: it follows from the key, and the key not from it.
    pub(super) check: [u8; CHECK_LENGTH_BYTES],
    pub(super) cipher: LessSafeKey,
}

impl Master {
    fn new(id: KeyId, key: &Key) -> Result<Self> {
        let mac = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, &*key.0),
            b"check value of a master key",
        );
        let mut check = [0; CHECK_LENGTH_BYTES];
        check.copy_from_slice(&mac.as_ref()[..CHECK_LENGTH_BYTES]);
        Ok(Self {
            id,
            check,
            cipher: cipher(&key.0)?,
        })
    }
}

/// The cipher of a key.
pub(super) fn cipher(key: &[u8; KEY_LENGTH_BYTES]) -> Result<LessSafeKey> {
    // A key of this length is always taken.
    let key = UnboundKey::new(&AES_256_GCM, key)
        .map_err(|_| Error::new(ErrorKind::Internal, "key.use", "the cipher does not take the key"))?;
    Ok(LessSafeKey::new(key))
}

/// A key that follows from another one, for one use.
pub(super) fn derived(key: &[u8; KEY_LENGTH_BYTES], for_use: &[u8]) -> Zeroizing<[u8; KEY_LENGTH_BYTES]> {
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), for_use);
    let mut derived = Zeroizing::new([0; KEY_LENGTH_BYTES]);
    derived.copy_from_slice(mac.as_ref());
    derived
}

/// The master keys that were asked for so far.
pub(super) struct Keys {
    provider: Arc<dyn KeyProvider>,
    state: Mutex<State>,
}

struct State {
    current: Arc<Master>,
    known: HashMap<KeyId, Arc<Master>>,
    /// The last that there was none of, and when it was asked for.
    missed: Option<(KeyId, Instant)>,
}

impl Keys {
    /// Asks for the current key. Blocks.
    pub(super) fn new(provider: Arc<dyn KeyProvider>) -> Result<Self> {
        let current = current(&*provider)?;
        let state = State {
            known: HashMap::from([(current.id.clone(), Arc::clone(&current))]),
            current,
            missed: None,
        };
        Ok(Self {
            provider,
            state: Mutex::new(state),
        })
    }

    /// Asks for the current key again. Blocks.
    pub(super) fn renew(&self) -> Result<()> {
        let current = current(&*self.provider)?;
        let mut state = self.state();
        state.known.insert(current.id.clone(), Arc::clone(&current));
        state.current = current;
        Ok(())
    }

    pub(super) fn current(&self) -> Arc<Master> {
        Arc::clone(&self.state().current)
    }

    /// The key, where it was asked for before.
    pub(super) fn known(&self, id: &KeyId) -> Option<Arc<Master>> {
        self.state().known.get(id).cloned()
    }

    /// Asks for the key. Blocks.
    pub(super) fn ask(&self, id: &KeyId) -> Result<Arc<Master>> {
        // Whoever waited for this thread may have been answered by the one before.
        if let Some(known) = self.known(id) {
            return Ok(known);
        }
        let missed = |state: &State| {
            let missed = state.missed.as_ref();
            missed.is_some_and(|(missed, at)| missed == id && at.elapsed() < MISSED_FOR)
        };
        if missed(&self.state()) {
            return Err(missing(id));
        }
        let Some(key) = self.provider.key(id)? else {
            self.state().missed = Some((id.clone(), Instant::now()));
            return Err(missing(id));
        };
        let master = Arc::new(Master::new(id.clone(), &key)?);
        self.state().known.insert(id.clone(), Arc::clone(&master));
        Ok(master)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn current(provider: &dyn KeyProvider) -> Result<Arc<Master>> {
    let (id, key) = provider.current()?;
    Ok(Arc::new(Master::new(id, &key)?))
}

fn missing(id: &KeyId) -> Error {
    let why = format!("the key {id} is missing: what was written with it can't be read");
    // It may be put back.
    Error::new(ErrorKind::Refused, "key.ask", why).with_retry(Retry::Later)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_is_written_and_never_shown() {
        let key = Key::random().expect("is made");
        let text = key.to_hex();
        assert_eq!(*Key::from_hex(&text).expect("is read").0, *key.0);
        assert_eq!(*Key::from_hex(&text.to_uppercase()).expect("is read").0, *key.0);
        assert_eq!(format!("{key:?}"), "Key(..)");
        for bad in [
            "",
            &text[1..],
            &text.replace(|c: char| c.is_ascii_digit(), "x"),
            "é",
        ] {
            let error = Key::from_hex(bad).expect_err("is refused");
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(bad.is_empty() || !format!("{error:?}").contains(bad));
        }
        assert_ne!(*Key::random().expect("is made").0, *key.0);
    }

    #[test]
    fn the_name_of_a_key_is_short_and_plain() {
        assert_eq!(KeyId::parse("key-1.A_b").expect("is one").as_str(), "key-1.A_b");
        for bad in ["", "a b", "a,b", "é", &"x".repeat(33)] {
            assert_eq!(KeyId::parse(bad).expect_err("is none").kind(), ErrorKind::Invalid);
        }
    }
}
