//! The ledger keeps what the archive can't tell again: [`Ledger`], [`Step`].
//!
//! Deliveries that wait, worklist items, procedure steps, messages that failed: none of it can be derived from
//! instances, so none of it belongs in the index, which may be made anew at any time.
//!
//! It is one ordered map from keys to values, changed by small atomic steps. Everything above it (which keys there are,
//! what a value means, how two who work at once stay out of each other's way) is written once, on this trait: so a
//! ledger in memory, in a file and in a shared database differ in nothing but where they keep it.
//!
//! - [`Key`] makes keys of parts, so that what belongs together lies together.
//! - [`LedgerExt`] has what callers want: reading all below a key, changing one value whoever else does.

use std::ops::Range;

use bytes::Bytes;
use dicom_dictionary_std::uids;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use crate::dataset::charset::CharacterSet;
use crate::dataset::{DataSet, encode, scan};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// What a ledger says of itself; the conformance suite takes from it what to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerCapability {
    /// What was applied survives the death of the process and of the machine.
    pub durable: bool,
}

/// One step of what a ledger applies.
#[derive(Clone, PartialEq, Eq)]
pub enum Step {
    /// Have this value under this key, in place of one that is there.
    Put(Bytes, Bytes),
    /// Have nothing under this key.
    Delete(Bytes),
    /// Apply nothing at all unless this is the value under this key; `None` for no value.
    Expect(Bytes, Option<Bytes>),
}

impl Step {
    /// That keys and values which steps put are no longer than a ledger keeps: what every ledger asks before it applies any.
    ///
    /// # Errors
    /// `Invalid` when one is longer.
    pub fn check_lengths(steps: &[Self]) -> Result<()> {
        let fits = steps.iter().all(|step| match step {
            Self::Put(key, value) => {
                key.len() <= limits::LEDGER_KEY_LENGTH_MAX_BYTES
                    && value.len() <= limits::LEDGER_VALUE_LENGTH_MAX_BYTES
            }
            _ => true,
        });
        match fits {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Invalid,
                "ledger.apply",
                "a key or a value is longer than the ledger keeps",
            )),
        }
    }
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Keys and values may hold patient data.
        f.write_str(match self {
            Step::Put(..) => "Put(..)",
            Step::Delete(_) => "Delete(..)",
            Step::Expect(..) => "Expect(..)",
        })
    }
}

/// An ordered map that is changed atomically and durably.
///
/// Every method may be called from any thread, and many at once. Keys are at most
/// [`limits::LEDGER_KEY_LENGTH_MAX_BYTES`] long, values [`limits::LEDGER_VALUE_LENGTH_MAX_BYTES`].
pub trait Ledger: Send + Sync + 'static {
    /// What this ledger can do.
    fn capability(&self) -> LedgerCapability;

    /// The value under `key`.
    fn get(&self, key: &[u8]) -> BoxFuture<'_, Result<Option<Bytes>>>;

    /// The value under each of `keys`, in their order: what [`get`](Self::get) answers for each, at less cost where a
    /// ledger can do that.
    fn get_all<'a>(&'a self, keys: &'a [Bytes]) -> BoxFuture<'a, Result<Vec<Option<Bytes>>>> {
        Box::pin(async move {
            let mut values = Vec::with_capacity(keys.len());
            for key in keys {
                values.push(self.get(key).await?);
            }
            Ok(values)
        })
    }

    /// Keys and values of `range`, in ascending order of key (byte by byte), the first `limit` of them.
    ///
    /// - All of them are of one moment.
    /// - An empty or inverted range yields nothing.
    fn range(&self, range: Range<Bytes>, limit: usize) -> BoxFuture<'_, Result<Vec<(Bytes, Bytes)>>>;

    /// Applies `steps`, all or none, and answers whether they were applied: false when an expectation did not hold.
    ///
    /// - Expectations are of the moment before the first step, wherever they stand among the steps.
    /// - Of several steps with one key, the last counts.
    /// - When it returns true, every later [`get`](Self::get) and [`range`](Self::range) sees all of them, also
    ///   after the process or the machine dies at any later instant (where the capability says `durable`).
    /// - When it returns false or an error, none is seen, unless the error is one of the medium: then all or none.
    /// - The steps of two calls never mix, and who waits at the same time shares one flush of the medium.
    /// - It goes on when the future is dropped after its first poll.
    fn apply(&self, steps: Vec<Step>) -> BoxFuture<'_, Result<bool>>;
}

/// Entries that [`LedgerExt::below`] reads at a time.
const PAGE_ENTRIES: usize = 256;

/// What callers of a [`Ledger`] want of it.
pub trait LedgerExt: Ledger {
    /// Everything whose key begins with `prefix`, in ascending order, a page at a time: what is changed meanwhile may
    /// or may not be yielded.
    fn below(&self, prefix: &Key) -> BoxStream<'_, Result<(Bytes, Bytes)>> {
        self.within(prefix.range())
    }

    /// The same for any range.
    fn within(&self, range: Range<Bytes>) -> BoxStream<'_, Result<(Bytes, Bytes)>> {
        let pages = stream::try_unfold(Some(range), move |range| async move {
            let Some(range) = range else { return Ok(None) };
            let page = self.range(range.clone(), PAGE_ENTRIES).await?;
            let next = match page.last() {
                Some((last, _)) if page.len() == PAGE_ENTRIES => Some(after(last)..range.end),
                _ => None,
            };
            Ok::<_, Error>(Some((stream::iter(page).map(Ok), next)))
        });
        pages.try_flatten().boxed()
    }

    /// Changes the value under `key` to what `change` makes of it, however many change it at once: `change` is asked
    /// again when another one came between. With `None` there is no value any more. Further steps that `change` gives
    /// are applied with it. Answers what `change` answered last.
    ///
    /// # Errors
    /// What `change` says, then nothing is changed; what the ledger says.
    fn update<T: Send>(
        &self,
        key: Bytes,
        mut change: impl FnMut(Option<&Bytes>) -> Result<(Option<Bytes>, Vec<Step>, T)> + Send,
    ) -> impl Future<Output = Result<T>> + Send {
        async move {
            loop {
                let old = self.get(&key).await?;
                let (new, mut steps, answer) = change(old.as_ref())?;
                if new == old && steps.is_empty() {
                    return Ok(answer);
                }
                steps.push(Step::Expect(key.clone(), old));
                steps.push(match new {
                    Some(new) => Step::Put(key.clone(), new),
                    None => Step::Delete(key.clone()),
                });
                if self.apply(steps).await? {
                    return Ok(answer);
                }
            }
        }
    }
}

impl<L: Ledger + ?Sized> LedgerExt for L {}

/// The smallest key after this one.
pub(crate) fn after(key: &Bytes) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

/// A key made of parts: keys with the same first parts lie together, in the order of the part that follows.
///
/// Values made of parts are written the same way. Text ends with a byte 0, and holds none; numbers are big endian, so that their order is that of the keys.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Vec<u8>);

impl Key {
    /// Begins with the name of what is kept: one name for one kind of record.
    pub fn of(kind: &'static str) -> Self {
        Self(Vec::with_capacity(96)).text(kind)
    }

    /// Adds text. A byte 0 in it, which no text of DICOM has, is left out.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        self.0.extend(text.bytes().filter(|byte| *byte != 0));
        self.0.push(0);
        self
    }

    /// Adds the beginning of a text: what begins so lies below.
    #[must_use]
    pub fn beginning(mut self, text: &str) -> Self {
        self.0.extend(text.bytes().filter(|byte| *byte != 0));
        self
    }

    /// Adds a number.
    #[must_use]
    pub fn number(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// The key.
    pub fn bytes(&self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }

    /// Everything that begins with this key.
    pub fn range(&self) -> Range<Bytes> {
        // A kind's name ends with a 0, so something before the end of the key can be counted up.
        let mut end = self.0.clone();
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last + 1);
                break;
            }
        }
        self.bytes()..end.into()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Parts may be patient data.
        f.debug_tuple("Key").field(&self.0.len()).finish()
    }
}

/// Reads a key part by part, in the order they were added.
#[derive(Clone, Copy)]
pub struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    /// Of a key; its kind is the first part.
    pub fn of(key: &'a [u8]) -> Self {
        Self(key)
    }

    /// Whether there is no further part.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next part, a text.
    ///
    /// # Errors
    /// `Corrupt` when there is none.
    pub fn text(&mut self) -> Result<&'a str> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or_else(damaged)?;
        let text = std::str::from_utf8(&self.0[..end]).map_err(|_| damaged())?;
        self.0 = &self.0[end + 1..];
        Ok(text)
    }

    /// The next part, a number.
    ///
    /// # Errors
    /// `Corrupt` when there is none.
    pub fn number(&mut self) -> Result<u64> {
        let (number, rest) = self.0.split_first_chunk::<8>().ok_or_else(damaged)?;
        self.0 = rest;
        Ok(u64::from_be_bytes(*number))
    }
}

fn damaged() -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "ledger.read",
        "a record of the ledger can't be read",
    )
}

/// A data set as a value.
///
/// # Errors
/// `Invalid` when it holds a value that is too long, `OutOfResources` when it is longer than a value may be.
pub fn data_set_to_value(set: &DataSet) -> Result<Bytes> {
    let value = encode::encode(set, uids::EXPLICIT_VR_LITTLE_ENDIAN, &CharacterSet::utf8())?;
    if value.len() > limits::LEDGER_VALUE_LENGTH_MAX_BYTES {
        let why = "it is longer than what the ledger keeps";
        return Err(Error::new(ErrorKind::OutOfResources, "ledger.write", why));
    }
    Ok(value.into())
}

/// A data set from a value.
///
/// # Errors
/// `Corrupt` when it is none.
pub fn data_set_from_value(value: &[u8]) -> Result<DataSet> {
    scan::parse(value, uids::EXPLICIT_VR_LITTLE_ENDIAN).map_err(|error| damaged().with_source(error))
}

#[cfg(test)]
mod tests {
    use dicom_core::VR;
    use dicom_dictionary_std::tags;

    use super::*;

    #[test]
    fn the_parts_of_a_key_are_read_back_in_order() {
        let key = Key::of("kind").text("a text").number(u64::MAX).text("").bytes();
        let mut parts = Parts::of(&key);
        assert_eq!(parts.text().unwrap(), "kind");
        assert_eq!(parts.text().unwrap(), "a text");
        assert_eq!(parts.number().unwrap(), u64::MAX);
        assert_eq!(parts.text().unwrap(), "");
        assert_eq!(parts.text().unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn the_range_of_a_key_holds_what_begins_with_it_and_nothing_else() {
        let key = Key::of("kind").text("a");
        let range = key.range();
        for inside in [
            key.bytes(),
            key.clone().number(u64::MAX).bytes(),
            key.clone().text("z").bytes(),
        ] {
            assert!(range.contains(&inside));
        }
        for outside in [
            Key::of("kind"),
            Key::of("kind").text("b"),
            Key::of("kind").text("aa"),
            Key::of("kine"),
        ] {
            assert!(!range.contains(&outside.bytes()));
        }
        let full = Key::of("kind").number(u64::MAX);
        assert!(full.range().contains(&full.clone().number(u64::MAX).bytes()));
    }

    #[test]
    fn a_data_set_with_text_beyond_ascii_comes_back_as_it_was() {
        let mut set = DataSet::new();
        set.put_text(tags::PATIENT_NAME, VR::PN, "山田^太郎");
        let mut item = DataSet::new();
        item.put_text(tags::SCHEDULED_PROCEDURE_STEP_ID, VR::SH, "Schädel");
        set.put_items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE, vec![item]);
        let back = data_set_from_value(&data_set_to_value(&set).unwrap()).unwrap();
        assert_eq!(back.string(tags::PATIENT_NAME), Some("山田^太郎"));
        let items = back.items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE);
        assert_eq!(
            items[0].string(tags::SCHEDULED_PROCEDURE_STEP_ID),
            Some("Schädel")
        );
    }
}
