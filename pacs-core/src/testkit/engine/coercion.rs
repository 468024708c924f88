//! What the engine promises of attributes that are coerced.

use std::sync::Arc;

use bytes::Bytes;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{tags, uids};
use futures::TryStreamExt;
use futures::executor::block_on;

use super::{Place, all, data_set, explicit, instance, keep, read, store};
use crate::dataset::charset::CharacterSet;
use crate::dataset::scan::parse;
use crate::dataset::{DataSet, Element, Value, encode};
use crate::engine::{Options, Pacs, StoreOutcome};
use crate::error::{ErrorKind, Result};
use crate::hooks::{Arriving, Coercer, Source};
use crate::index::{InstanceRecord, Scope};
use crate::limits;
use crate::query::{AttributeSet, Model, Query, QueryOptions};
use crate::uid::{AeTitle, Level, Uid};

/// Coerces every instance to the same elements.
struct Coerce(DataSet);

impl Coercer for Coerce {
    fn coerce(&self, _: &Arriving<'_>) -> Result<DataSet> {
        Ok(self.0.clone())
    }
}

fn open(place: &dyn Place, coerced: DataSet) -> Pacs {
    let options = Options {
        coercer: Some(Arc::new(Coerce(coerced))),
        ..Options::default()
    };
    block_on(Pacs::open(place.archive(), place.index(), options)).expect("opens")
}

/// Of which one is in the instance, one not, and one is in it as it is.
fn identity() -> DataSet {
    let mut set = DataSet::new();
    set.put_text(tags::ACCESSION_NUMBER, VR::SH, "A1");
    set.put_text(tags::PATIENT_ID, VR::LO, "4711");
    set.put_text(tags::ISSUER_OF_PATIENT_ID, VR::LO, "HOSPITAL");
    set
}

fn found(pacs: &Pacs, patient_id: &str) -> Vec<DataSet> {
    let mut keys = DataSet::new();
    keys.put_text(tags::PATIENT_ID, VR::LO, patient_id);
    keys.put_text(tags::ISSUER_OF_PATIENT_ID, VR::LO, "");
    keys.put_text(tags::STUDY_INSTANCE_UID, VR::UI, "");
    let query = Query::new(Model::StudyRoot, Level::Study, keys, QueryOptions::default());
    let stream = pacs.find(&Source::default(), query).expect("is admitted");
    block_on(stream.try_collect()).expect("is answered")
}

fn only(pacs: &Pacs) -> InstanceRecord {
    let mut all: Vec<_> = block_on(pacs.instances(Scope::All).try_collect()).expect("are listed");
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn leaving(pacs: &Pacs, record: &InstanceRecord) -> DataSet {
    let bytes = all(pacs.outgoing_data_set(record));
    parse(&bytes, &record.transfer_syntax).expect("is a data set")
}

/// See its name.
pub fn a_coerced_attribute_is_found_by_its_new_value_and_not_by_its_old_one(place: &dyn Place) {
    let pacs = open(place, identity());
    keep(&pacs, instance(1, 1, 1, 0));
    assert_eq!(found(&pacs, "P1").len(), 0);
    let answers = found(&pacs, "4711");
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].string(tags::ISSUER_OF_PATIENT_ID), Some("HOSPITAL"));
}

/// See its name.
pub fn the_stored_bytes_of_a_coerced_instance_are_those_that_came(place: &dyn Place) {
    let pacs = open(place, identity());
    let (announced, small) = instance(1, 1, 1, 0);
    let received = keep(&pacs, (announced, small.clone()));
    assert_eq!(read(&pacs, &received), small);
    assert_eq!(received.record.coerced, only(&pacs).coerced);
    assert!(received.record.coerced.is_some());
    // One that is longer than what is held back, without pixel data and with.
    for (number, far) in [(2, tags::ENCAPSULATED_DOCUMENT), (3, tags::PIXEL_DATA)] {
        let mut set = data_set(1, 1, number, 0);
        set.remove(tags::PIXEL_DATA);
        let value = vec![b'x'; 2 * limits::HELD_LENGTH_MAX_BYTES];
        set.put(Element {
            tag: far,
            vr: VR::OB,
            value: Value::Bytes(value.into()),
        });
        let bytes = explicit(&set);
        let received = keep(&pacs, (instance(1, 1, number, 0).0, bytes.clone()));
        assert_eq!(read(&pacs, &received), bytes);
        assert!(received.record.coerced.is_some());
    }
    let verified = block_on(pacs.verify(|_| ())).expect("is verified");
    assert_eq!((verified.whole, verified.damaged.len()), (3, 0));
}

/// See its name.
pub fn a_coerced_instance_leaves_with_its_new_values_and_the_original_ones(place: &dyn Place) {
    let mut wanted = identity();
    wanted.put_text(tags::PATIENT_NAME, VR::PN, "M\u{fc}ller");
    let pacs = open(place, wanted);
    let (mut announced, _) = instance(1, 1, 1, 0);
    announced.source.calling_ae = AeTitle::parse("SCANNER").ok();
    announced.source.called_ae = AeTitle::parse("ARCHIVE").ok();
    let mut earlier = DataSet::new();
    earlier.put_text(tags::MODIFYING_SYSTEM, VR::LO, "EARLIER");
    let latin = CharacterSet::parse("ISO_IR 100");
    for syntax in [
        uids::EXPLICIT_VR_LITTLE_ENDIAN,
        uids::IMPLICIT_VR_LITTLE_ENDIAN,
        "1.2.840.10008.1.2.2",
    ] {
        let mut set = data_set(1, 1, 1, 0);
        set.put_text(tags::STUDY_DESCRIPTION, VR::LO, "Sch\u{e4}del");
        set.put_items(tags::ORIGINAL_ATTRIBUTES_SEQUENCE, vec![earlier.clone()]);
        let bytes = Bytes::from(encode::encode(&set, syntax, &latin).expect("is encoded"));
        announced.transfer_syntax = Uid::constant(syntax);
        let received = keep(&pacs, (announced.clone(), bytes.clone()));
        let came = parse(&bytes, syntax).expect("is a data set");
        let mut left = leaving(&pacs, &received.record);
        let items = left.items(tags::ORIGINAL_ATTRIBUTES_SEQUENCE).to_vec();
        assert_eq!(items.len(), 2);
        assert_eq!(items[0].string(tags::MODIFYING_SYSTEM), Some("EARLIER"));
        let item = &items[1];
        assert_eq!(
            item.string(tags::REASON_FOR_THE_ATTRIBUTE_MODIFICATION),
            Some("COERCE")
        );
        assert_eq!(item.string(tags::MODIFYING_SYSTEM), Some("ARCHIVE"));
        assert_eq!(item.string(tags::SOURCE_OF_PREVIOUS_VALUES), Some("SCANNER"));
        let when = item
            .string(tags::ATTRIBUTE_MODIFICATION_DATE_TIME)
            .expect("tells when");
        assert!(when.starts_with("20") && when.ends_with("+0000"));
        let [original] = item.items(tags::MODIFIED_ATTRIBUTES_SEQUENCE) else {
            panic!("a single item");
        };
        let tags_of = |set: &DataSet| set.iter().map(|element| element.tag).collect::<Vec<_>>();
        // Accession Number came with that value.
        let changed = [tags::PATIENT_NAME, tags::PATIENT_ID, tags::ISSUER_OF_PATIENT_ID];
        assert_eq!(tags_of(original), changed);
        assert_eq!(original.string(tags::PATIENT_ID), Some("P1"));
        assert_eq!(original.string(tags::PATIENT_NAME), Some("Family1^Given"));
        assert!(
            original
                .get(tags::ISSUER_OF_PATIENT_ID)
                .is_some_and(Element::is_empty)
        );
        assert_eq!(left.string(tags::PATIENT_NAME), Some("M\u{fc}ller"));
        assert_eq!(left.string(tags::PATIENT_ID), Some("4711"));
        // Nothing else changes.
        for tag in changed {
            left.remove(tag);
            if let Some(came) = came.get(tag) {
                left.put(came.clone());
            }
        }
        left.put_items(tags::ORIGINAL_ATTRIBUTES_SEQUENCE, vec![items[0].clone()]);
        assert_eq!(left, came);
    }
}

/// See its name.
pub fn a_rebuilt_index_knows_every_coercion(place: &dyn Place) {
    // Of a length that is odd, and one that is even, in the meta.
    for issuer in ["ISSUER", "ISSUERS"] {
        let mut wanted = identity();
        wanted.put_text(tags::ISSUER_OF_PATIENT_ID, VR::LO, issuer);
        let pacs = open(place, wanted);
        block_on(pacs.remove(&super::instance_uid(1, 1, 1))).expect("is removed");
        keep(&pacs, instance(1, 1, 1, 0));
        let (before, answers) = (only(&pacs), found(&pacs, "4711"));
        assert_eq!(answers.len(), 1);
        block_on(pacs.reindex(|_| ())).expect("is indexed again");
        assert_eq!(only(&pacs).coerced, before.coerced);
        drop(pacs);
        {
            let (archive, index) = (place.archive(), place.index());
            block_on(Pacs::rebuild_index(&*archive, &*index, &AttributeSet::default())).expect("is rebuilt");
        }
        let pacs = super::open(place, super::DuplicatePolicy::default());
        assert_eq!(only(&pacs).coerced, before.coerced);
        assert_eq!(found(&pacs, "4711"), answers);
        assert_eq!(found(&pacs, "P1").len(), 0);
        assert_eq!(
            leaving(&pacs, &only(&pacs)).string(tags::PATIENT_ID),
            Some("4711")
        );
    }
}

/// See its name.
pub fn a_coerced_instance_that_comes_again_is_kept_already_and_stays_coerced(place: &dyn Place) {
    let pacs = open(place, identity());
    let first = keep(&pacs, instance(1, 1, 1, 0));
    let again = keep(&pacs, instance(1, 1, 1, 0));
    assert_eq!(again.outcome, StoreOutcome::AlreadyKept);
    assert_eq!(again.record, first.record);
    assert!(again.record.coerced.is_some());
    // With other bytes it is coerced anew.
    let other = keep(&pacs, instance(1, 1, 1, 9));
    assert_eq!(other.outcome, StoreOutcome::Replaced);
    assert_eq!(
        leaving(&pacs, &other.record).string(tags::PATIENT_ID),
        Some("4711")
    );
}

/// See its name.
pub fn what_has_its_value_already_is_not_coerced(place: &dyn Place) {
    let mut same = DataSet::new();
    same.put_text(tags::ACCESSION_NUMBER, VR::SH, "A1 ");
    same.put_text(tags::PATIENT_ID, VR::LO, "P1");
    let pacs = open(place, same);
    let (announced, bytes) = instance(1, 1, 1, 0);
    let received = keep(&pacs, (announced, bytes.clone()));
    assert_eq!(received.record.coerced, None);
    assert_eq!(all(pacs.outgoing_data_set(&received.record)), bytes);
}

/// See its name.
pub fn what_may_not_be_coerced_is_invalid_and_nothing_is_kept(place: &dyn Place) {
    // In a character set that has no umlaut, nor anything beyond its own letters.
    let hebrew = CharacterSet::parse("ISO_IR 138");
    let mut set = data_set(1, 1, 1, 0);
    set.put_text(tags::STUDY_DESCRIPTION, VR::LO, "\u{5d0}");
    let bytes = encode::encode(&set, uids::EXPLICIT_VR_LITTLE_ENDIAN, &hebrew).expect("is encoded");
    let refused = |tag: Tag, vr: VR, value: &str, kind: ErrorKind| {
        let mut wanted = DataSet::new();
        wanted.put_text(tag, vr, value);
        let pacs = open(place, wanted);
        let arriving = (instance(1, 1, 1, 0).0, bytes.clone().into());
        let error = block_on(store(&pacs, arriving)).expect_err("is refused");
        assert_eq!(error.kind(), kind, "{tag}");
        assert_eq!(block_on(pacs.totals()).expect("totals").instances, 0);
    };
    for (tag, vr) in [
        (tags::SPECIFIC_CHARACTER_SET, VR::CS),
        (tags::SOP_CLASS_UID, VR::UI),
        (tags::SOP_INSTANCE_UID, VR::UI),
        (tags::STUDY_INSTANCE_UID, VR::UI),
        (tags::SERIES_INSTANCE_UID, VR::UI),
        (tags::TRANSFER_SYNTAX_UID, VR::UI),
        (tags::ROWS, VR::US),
        (tags::PIXEL_DATA, VR::OW),
        (Tag(0x0009, 0x0010), VR::LO),
        // A VR that is not its own.
        (tags::PATIENT_ID, VR::PN),
    ] {
        refused(tag, vr, "12", ErrorKind::Invalid);
    }
    // What the character set of the instance can't say, and its VR neither.
    refused(tags::PATIENT_ID, VR::LO, "\u{5c71}", ErrorKind::Invalid);
    refused(tags::PATIENT_SEX, VR::CS, "\u{e4}", ErrorKind::Invalid);
    let long = "x".repeat(limits::FILE_META_LENGTH_MAX_BYTES);
    refused(tags::PATIENT_COMMENTS, VR::LT, &long, ErrorKind::Invalid);
}

/// See its name.
pub fn an_instance_that_is_known_too_late_is_not_kept_without_its_coercion(place: &dyn Place) {
    let pacs = open(place, identity());
    let with = |tag, length| {
        let mut set = data_set(1, 1, 1, 0);
        set.put(Element {
            tag,
            vr: VR::UT,
            value: Value::Bytes(vec![b'x'; length].into()),
        });
        (instance(1, 1, 1, 0).0, explicit(&set))
    };
    // Before its UIDs, and before the Original Attributes Sequence that it may have.
    for (tag, length) in [
        (tags::PATIENT_COMMENTS, 2 * limits::HELD_LENGTH_MAX_BYTES),
        (tags::TEXT_VALUE, 2 * limits::COERCED_HELD_LENGTH_MAX_BYTES),
    ] {
        let error = block_on(store(&pacs, with(tag, length))).expect_err("is refused");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{tag}");
        assert_eq!(block_on(pacs.totals()).expect("totals").instances, 0);
    }
    // One that is worth waiting for.
    let (announced, bytes) = with(tags::TEXT_VALUE, 3 * limits::HELD_LENGTH_MAX_BYTES);
    let received = keep(&pacs, (announced, bytes.clone()));
    assert!(received.record.coerced.is_some());
    assert_eq!(read(&pacs, &received), bytes);
}
