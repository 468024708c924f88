//! Large metadata: one is made after the other, who asks for the same gets the same, and all that somebody has is
//! bounded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

use crate::archive::Locator;
use crate::budget::{Budget, Share};
use crate::dataset::metadata::Metadata;
use crate::dataset::{DataSet, coercion};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// What metadata takes in memory up to which it is not large, in bytes. What is not large is not counted: most is
/// below a tenth of it.
pub(super) const SMALL_MAX_BYTES: usize = 2 * 1024 * 1024;
/// The same of a record, inflated: small elements take about so many times more in memory.
pub(super) const SMALL_RECORD_MAX_BYTES: usize = SMALL_MAX_BYTES / IN_MEMORY;
const IN_MEMORY: usize = 8;

/// See the module's text.
#[derive(Clone)]
pub(super) struct Large {
    /// What somebody has now. Locked while one is made.
    live: Arc<Mutex<HashMap<Locator, Live>>>,
    room: Budget,
}

/// The metadata, and the coercion that is applied.
type Live = (Weak<Metadata>, Option<DataSet>);

/// An inflated record, whose bytes the values of a header are: it counts until the last of them is gone.
struct Counted {
    record: Vec<u8>,
    _room: Share,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.record
    }
}

impl Large {
    /// With room for so many bytes of metadata.
    pub(super) fn new(room: usize) -> Self {
        Self {
            live: Arc::default(),
            room: Budget::new(room),
        }
    }

    /// Whoever makes large metadata holds this meanwhile.
    pub(super) fn one_at_a_time(&self) -> MutexGuard<'_, HashMap<Locator, Live>> {
        // An entry is put in whole.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens what [`Metadata::to_bytes`] wrote of an instance, with its coercion applied.
    ///
    /// # Errors
    /// `Corrupt` when it is anything else, `OutOfResources` when too much is held by others now.
    pub(super) fn open(
        &self,
        version: &Locator,
        coerced: Option<&DataSet>,
        bytes: &[u8],
    ) -> Result<Arc<Metadata>> {
        let mut live = self.one_at_a_time();
        let known = live.get(version);
        let known = known.filter(|(_, with)| with.as_ref() == coerced);
        if let Some(metadata) = known.and_then(|(metadata, _)| metadata.upgrade()) {
            return Ok(metadata);
        }
        let inflated = Metadata::inflate(bytes, limits::METADATA_LENGTH_MAX_BYTES)?;
        let inflated = inflated.ok_or_else(|| {
            let what = "the metadata of the instance is larger than what is held";
            Error::new(ErrorKind::Corrupt, "metadata.open", what)
        })?;
        let length = inflated.len().saturating_mul(IN_MEMORY);
        let room = self.room.try_take(length.min(limits::METADATA_LENGTH_MAX_BYTES));
        let room = room.ok_or_else(|| {
            let what = "there is no room now for metadata of this size";
            Error::new(ErrorKind::OutOfResources, "metadata.open", what)
        })?;
        let mut metadata = Metadata::parse(Bytes::from_owner(Counted {
            record: inflated,
            _room: room,
        }))?;
        if let Some(coerced) = coerced {
            metadata.replace(&coercion::replaced(coerced));
        }
        let metadata = Arc::new(metadata);
        live.retain(|_, (metadata, _)| metadata.strong_count() > 0);
        live.insert(version.clone(), (Arc::downgrade(&metadata), coerced.cloned()));
        Ok(metadata)
    }
}

#[cfg(test)]
mod tests {
    use dicom_core::VR;
    use dicom_dictionary_std::tags;

    use super::*;
    use crate::error::Retry;

    #[test]
    fn who_asks_for_the_same_has_the_same_and_where_no_room_is_left_more_is_refused_for_now() {
        let record = |text: &str| {
            let mut metadata = Metadata::default();
            metadata.header.put_text(tags::IMAGE_COMMENTS, VR::LT, text);
            metadata.to_bytes()
        };
        let texts = ["a", "b", "c"].map(|text| text.repeat(1000));
        let large = Large::new(2 * IN_MEMORY * 1020);
        let open = |number: u8, coerced: Option<&DataSet>| {
            let bytes = record(&texts[usize::from(number)]);
            large.open(&Locator::new(&[number]), coerced, &bytes)
        };
        let (first, second) = (open(0, None).unwrap(), open(1, None).unwrap());
        assert_eq!(first.header.string(tags::IMAGE_COMMENTS), Some(&*texts[0]));
        let refused = open(2, None).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::OutOfResources);
        assert_eq!(refused.retry(), Retry::Later);
        assert!(Arc::ptr_eq(&first, &open(0, None).unwrap()));
        // A value that outlives its metadata counts on.
        let value = first.header.get(tags::IMAGE_COMMENTS).cloned();
        drop(first);
        assert!(open(2, None).is_err());
        drop(value);
        assert!(open(2, None).is_ok());
        let coerced = DataSet::new();
        assert!(!Arc::ptr_eq(&second, &open(1, Some(&coerced)).unwrap()));
        assert_eq!(large.room.free(), IN_MEMORY * 1020 * 2 - large_of(&second));
        drop(second);
        let damaged = large.open(&Locator::new(b"d"), None, b"\x01\xFF").unwrap_err();
        assert_eq!(damaged.kind(), ErrorKind::Corrupt);
        assert_eq!(large.room.free(), 2 * IN_MEMORY * 1020);
    }

    fn large_of(metadata: &Metadata) -> usize {
        let record = Metadata::inflate(&metadata.to_bytes(), usize::MAX >> 1);
        record.unwrap().unwrap().len() * IN_MEMORY
    }
}
