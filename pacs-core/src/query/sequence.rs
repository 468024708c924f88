//! A question to a list that has no levels: worklists, procedure steps ([`Keys`]).

use dicom_core::Tag;

use super::answer::answer;
use super::identifier::check_size;
use super::{Key, KeyMatch, QueryOptions};
use crate::dataset::DataSet;
use crate::error::Result;

/// Matching and return keys of an identifier without Query/Retrieve Level (PS3.4 K.4.1.1.3, CC.2.8.1). Keys may be
/// nested in sequences; every one with a value restricts.
#[derive(Clone, Debug)]
pub struct Keys {
    identifier: DataSet,
    matching: Vec<Key>,
}

impl Keys {
    /// Reads an identifier in normal form, or the keys of a filter.
    ///
    /// # Errors
    /// `Invalid`, with the tag at fault, when a key is beyond
    /// [`KEY_TEXT_LENGTH_MAX_BYTES`](crate::limits::KEY_TEXT_LENGTH_MAX_BYTES) or
    /// [`KEY_VALUES_MAX`](crate::limits::KEY_VALUES_MAX).
    pub fn new(identifier: DataSet, options: QueryOptions) -> Result<Self> {
        identifier.iter().try_for_each(|key| check_size(key, key.tag))?;
        let mut matching = Key::parse_all(&identifier, options);
        matching.sort_by_key(Key::cost);
        Ok(Self { identifier, matching })
    }

    /// Matching and return keys as they were given.
    pub fn identifier(&self) -> &DataSet {
        &self.identifier
    }

    /// The keys that restrict; every one of them must match.
    pub fn matching(&self) -> &[Key] {
        &self.matching
    }

    /// What the key of this attribute asks, if it restricts.
    pub fn key(&self, tag: Tag) -> Option<&KeyMatch> {
        let key = self.matching.iter().find(|key| key.tag == tag)?;
        Some(&key.wanted)
    }

    /// Whether an entity matches all keys.
    pub fn matches(&self, record: &DataSet) -> bool {
        self.matching.iter().all(|key| key.matches(record))
    }

    /// The response identifier for an entity that matches: every key that was asked for, with the values of
    /// `record` or without one; of a sequence the items that match, with the nested keys only (PS3.4 C.2.2.2.6).
    pub fn answer(&self, record: &DataSet) -> DataSet {
        answer(&self.identifier, &self.matching, record)
    }
}

#[cfg(test)]
mod tests {
    use dicom_core::VR;
    use dicom_dictionary_std::tags;

    use super::*;

    fn code(value: &str) -> DataSet {
        let mut item = DataSet::new();
        item.put_text(tags::CODE_VALUE, VR::SH, value);
        item.put_text(tags::CODE_MEANING, VR::LO, "meaning");
        item
    }

    #[test]
    fn a_key_in_a_sequence_matches_one_of_its_items_and_returns_what_was_asked_of_it() {
        let mut record = DataSet::new();
        record.put_items(
            tags::SCHEDULED_STATION_NAME_CODE_SEQUENCE,
            vec![code("A"), code("B")],
        );
        let ask = |value: &str| {
            let mut item = DataSet::new();
            item.put_text(tags::CODE_VALUE, VR::SH, value);
            let mut set = DataSet::new();
            set.put_items(tags::SCHEDULED_STATION_NAME_CODE_SEQUENCE, vec![item]);
            Keys::new(set, QueryOptions::default()).unwrap()
        };
        assert!(!ask("C").matches(&record));
        let keys = ask("B");
        assert!(keys.matches(&record));
        let answer = keys.answer(&record);
        let items = answer.items(tags::SCHEDULED_STATION_NAME_CODE_SEQUENCE);
        assert_eq!(items.len(), 1);
        assert_eq!(items[0].string(tags::CODE_VALUE), Some("B"));
        assert!(!items[0].contains(tags::CODE_MEANING));
    }
}
