//! What leaves of an instance: its stored bytes, what is coerced, what is transcoded.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use dicom_dictionary_std::tags;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use super::recovery::read_header;
use super::{Pacs, coerce};
use crate::archive::Archive;
use crate::dataset::charset::CharacterSet;
use crate::dataset::part10::{self, Meta};
use crate::dataset::{Element, FrameTable, Value, coercion, encode, syntax};
use crate::error::{Error, ErrorKind, Result};
use crate::index::InstanceRecord;
#[cfg(feature = "pixel")]
use crate::pixel::{self, Target};
use crate::route::Changes;
use crate::uid::Uid;

impl Pacs {
    /// The record of an instance as it leaves for one receiver, with these changes: whatever makes of it what leaves
    /// ([`outgoing_data_set`](Self::outgoing_data_set), [`outgoing_file`](Self::outgoing_file),
    /// [`transcode`](Self::transcode)) applies them. It is not for the index.
    ///
    /// # Errors
    /// `Invalid` when the character set of the instance can't say a value, or an attribute may not be changed
    /// ([`Changes::check`]); what the archive says.
    pub async fn changed_on_the_way(
        &self,
        record: &InstanceRecord,
        changes: &Changes,
    ) -> Result<InstanceRecord> {
        changes.check()?;
        let beyond_ascii = |element: &Element| match &element.value {
            Value::Items(_) => true,
            Value::Bytes(bytes) => !bytes.is_ascii(),
        };
        let mut charset = None;
        if changes.set.iter().any(beyond_ascii) {
            let known = record
                .coerced
                .as_ref()
                .and_then(|coerced| coerced.get(tags::SPECIFIC_CHARACTER_SET));
            let own = match known {
                Some(named) => coerce::charset_of(named),
                None => {
                    let (_, scan) = read_header(&*self.inner.archive, &record.locator).await?;
                    let named = scan.header.get(tags::SPECIFIC_CHARACTER_SET);
                    match named {
                        Some(named) => coerce::charset_of(named),
                        // What is plain ASCII is the same in UTF-8, which can say everything.
                        None if coerce::is_ascii(&scan.header) => CharacterSet::utf8(),
                        None => CharacterSet::default(),
                    }
                }
            };
            let encoding = syntax::Encoding::of(&record.transfer_syntax);
            for element in changes.set.iter() {
                encode::element(element, encoding, &own).map_err(|error| error.with_tag(element.tag))?;
            }
            charset = Some(own);
        }
        let coerced = coercion::changed(
            record.coerced.as_ref(),
            &changes.set,
            &changes.remove,
            charset.as_ref(),
        );
        Ok(InstanceRecord {
            coerced: Some(coerced),
            ..record.clone()
        })
    }

    /// The whole Part 10 stream of an instance, in pieces of bounded size.
    pub fn read(&self, record: &InstanceRecord) -> BoxStream<'static, Result<Bytes>> {
        whole(&*self.inner.archive, record)
    }

    /// A part of the Part 10 stream of an instance, in pieces of bounded size; of a part that reaches past the end
    /// what there is. An archive holds no checksum against a part of an instance, as a rule.
    pub fn read_range(&self, record: &InstanceRecord, part: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        let part = part.start.min(record.length)..part.end.min(record.length);
        range(&*self.inner.archive, record, part)
    }

    /// The data set of an instance, byte for byte as it was received, in pieces of bounded size: also where it
    /// was coerced. See [`outgoing_data_set`](Self::outgoing_data_set) for what a receiver is to get.
    pub fn read_data_set(&self, record: &InstanceRecord) -> BoxStream<'static, Result<Bytes>> {
        data_set(&*self.inner.archive, record)
    }

    /// The data set of an instance as it leaves: where it was coerced, with what took the place of what came
    /// and with the original values in Original Attributes Sequence (PS3.3 C.12.1.1.9). Else byte for byte as
    /// it was received.
    pub fn outgoing_data_set(&self, record: &InstanceRecord) -> BoxStream<'static, Result<Bytes>> {
        Self::outgoing(record, self.read_data_set(record))
    }

    /// Makes what leaves of an instance's stored data set, for who has begun to read that already.
    pub fn outgoing(
        record: &InstanceRecord,
        stored: BoxStream<'static, Result<Bytes>>,
    ) -> BoxStream<'static, Result<Bytes>> {
        let Some(coerced) = &record.coerced else {
            return stored;
        };
        let length = record.length.saturating_sub(record.data_set_offset);
        let applied = coercion::apply(coerced, &record.transfer_syntax, length, stored);
        let pieces = applied.unwrap_or_else(|error| futures::stream::iter([Err(error)]).boxed());
        pieces.map_err(Error::about_kept).boxed()
    }

    /// The whole Part 10 stream of an instance as it leaves: see
    /// [`outgoing_data_set`](Self::outgoing_data_set). Where nothing was coerced these are the stored bytes.
    pub fn outgoing_file(&self, record: &InstanceRecord) -> BoxStream<'static, Result<Bytes>> {
        if record.coerced.is_none() {
            return self.read(record);
        }
        file(record, record.transfer_syntax, self.outgoing_data_set(record))
    }

    /// The same in another transfer syntax.
    ///
    /// # Errors
    /// As for [`transcode`](Self::transcode).
    #[cfg(feature = "pixel")]
    pub async fn transcoded_file(
        &self,
        record: &InstanceRecord,
        target: Target,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let data_set = self.transcode(record, self.read_data_set(record), target).await?;
        Ok(file(record, target.uid(), data_set))
    }

    /// Where the frames of encapsulated pixel data lie, from the start of the data set: known of what was
    /// received since the index was made, where memory sufficed.
    ///
    /// # Errors
    /// What the index says.
    pub async fn frames(&self, record: &InstanceRecord) -> Result<Option<Arc<FrameTable>>> {
        let index = &self.inner.index;
        index.frames(&record.key.instance, &record.locator).await
    }

    /// What leaves of an instance in another transfer syntax, made of its stored data set, for who has begun to
    /// read that already: see [`pixel::transcode`]. All that one engine transcodes at once, and
    /// all that it decodes at once, shares
    /// [`DECODING_LENGTH_MAX_BYTES`](crate::limits::DECODING_LENGTH_MAX_BYTES): this waits while that is used up.
    ///
    /// # Errors
    /// Those of [`pixel::transcode`], before the first byte where that is possible: `Mismatch` in place of `Invalid`,
    /// since the bytes are those that are kept. What the index says.
    #[cfg(feature = "pixel")]
    pub async fn transcode(
        &self,
        record: &InstanceRecord,
        stored: BoxStream<'static, Result<Bytes>>,
        target: Target,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let from = &record.transfer_syntax;
        let frames = self.frames(record).await?;
        let overrides = record
            .coerced
            .as_ref()
            .map(coercion::overrides)
            .unwrap_or_default();
        let made = pixel::transcode(from, stored, frames, target, overrides, &self.inner.decoding).await;
        let pieces = made.map_err(Error::about_kept)?;
        Ok(pieces.map_err(Error::about_kept).boxed())
    }
}

/// Puts a File Meta Information in front of a data set.
fn file(
    record: &InstanceRecord,
    transfer_syntax: Uid,
    data_set: BoxStream<'static, Result<Bytes>>,
) -> BoxStream<'static, Result<Bytes>> {
    let meta = part10::write_meta(&Meta::new(record.sop_class, record.key.instance, transfer_syntax));
    futures::stream::iter([Ok(meta)]).chain(data_set).boxed()
}

/// The stored data set. The whole stream is read and its header passed over, because an archive can
/// hold a checksum only against the whole: damaged bytes must not go out as good ones.
pub(super) fn data_set(archive: &dyn Archive, record: &InstanceRecord) -> BoxStream<'static, Result<Bytes>> {
    let mut header = record.data_set_offset;
    let pieces = whole(archive, record).map_ok(move |mut piece| {
        let passed = header.min(piece.len() as u64);
        header -= passed;
        piece.advance(passed as usize);
        piece
    });
    pieces
        .try_filter(|piece| futures::future::ready(!piece.is_empty()))
        .boxed()
}

/// The stored Part 10 stream, to its last byte.
fn whole(archive: &dyn Archive, record: &InstanceRecord) -> BoxStream<'static, Result<Bytes>> {
    range(archive, record, 0..record.length)
}

/// A range of the stored data set, counted from its start, to the last byte of the range. An archive holds no
/// checksum against a part of an instance, as a rule.
pub(super) fn data_set_range(
    archive: &dyn Archive,
    record: &InstanceRecord,
    part: Range<u64>,
) -> BoxStream<'static, Result<Bytes>> {
    let at = |offset: u64| record.data_set_offset.saturating_add(offset).min(record.length);
    range(archive, record, at(part.start)..at(part.end))
}

/// A range of the stored Part 10 stream, which reaches to its end at most: where an archive without checksums
/// has less than was stored, what is left must not pass for all.
fn range(
    archive: &dyn Archive,
    record: &InstanceRecord,
    range: Range<u64>,
) -> BoxStream<'static, Result<Bytes>> {
    let length = range.end.saturating_sub(range.start);
    let pieces = archive.read(&record.locator, range);
    stream::unfold(Some((pieces, length)), |state| async {
        let (mut pieces, left) = state?;
        match pieces.next().await {
            Some(Ok(piece)) => {
                let left = left.saturating_sub(piece.len() as u64);
                Some((Ok(piece), Some((pieces, left))))
            }
            Some(Err(error)) => Some((Err(error), None)),
            None if left > 0 => Some((Err(shorter()), None)),
            None => None,
        }
    })
    // Who has read all of it may ask again.
    .fuse()
    .boxed()
}

/// Whether the archive has the instance up to its last byte.
pub(super) async fn has_last_byte(archive: &dyn Archive, record: &InstanceRecord) -> Result<()> {
    let last = record.length.saturating_sub(1)..record.length;
    match archive.read(&record.locator, last).next().await {
        Some(piece) => piece.map(|_| ()),
        None => Err(shorter()),
    }
}

pub(super) fn shorter() -> Error {
    let why = "the archive has less of the instance than was stored";
    Error::new(ErrorKind::Corrupt, "archive.read", why)
}
