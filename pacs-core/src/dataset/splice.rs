//! Puts elements in place of those of a data set as its bytes pass by; every other byte stays.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use dicom_core::Tag;
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use super::charset::CharacterSet;
use super::encode;
use super::model::{DataSet, Element};
use super::scan::boundaries::{Boundaries, END};
use crate::error::{Error, ErrorKind, Result};

/// Takes the bytes of a data set in pieces of any size and hands them out with elements of the top level
/// replaced, added or left out, in order of tag. What is held is a piece and the header of an element.
///
/// Group Length of the groups that change is left out: it would be wrong, and is retired (PS3.5 7.2).
pub(super) struct Splicer {
    boundaries: Boundaries,
    charset: CharacterSet,
    /// Where the source ends.
    length: u64,
    puts: VecDeque<Element>,
    /// What the source's elements of these tags have gives way.
    replaced: Vec<Tag>,
    /// Whether the source passes, or belongs to an element that gives way.
    passes: bool,
    held: VecDeque<Bytes>,
    held_at: u64,
    out: VecDeque<Bytes>,
}

impl Splicer {
    /// For a data set of `length` bytes that is not deflated and whose Specific Character Set is `charset`: puts `put`
    /// and leaves out what is of the tags `remove`.
    pub(super) fn new(
        transfer_syntax: &str,
        charset: CharacterSet,
        put: DataSet,
        remove: &[Tag],
        length: u64,
    ) -> Self {
        let puts: VecDeque<Element> = put.into_iter().collect();
        let tags = puts
            .iter()
            .map(|element| element.tag)
            .chain(remove.iter().copied());
        let mut replaced: Vec<Tag> = tags.flat_map(|tag| [Tag(tag.0, 0), tag]).collect();
        replaced.sort_unstable();
        replaced.dedup();
        Self {
            boundaries: Boundaries::new(transfer_syntax),
            charset,
            length,
            puts,
            replaced,
            passes: true,
            held: VecDeque::new(),
            held_at: 0,
            out: VecDeque::new(),
        }
    }

    /// Takes the next bytes.
    pub(super) fn push(&mut self, bytes: Bytes) -> Result<()> {
        self.boundaries.push(&bytes)?;
        self.held.push_back(bytes);
        for boundary in self.boundaries.take() {
            self.pass(boundary.start);
            // Behind an element that is cut off nothing can be put.
            let last = boundary.end.is_some_and(|end| end > self.length);
            self.put(if last { END } else { boundary.tag })?;
            self.passes = self.replaced.binary_search(&boundary.tag).is_err();
        }
        self.pass(self.boundaries.told());
        Ok(())
    }

    /// Says that nothing more comes.
    pub(super) fn finish(&mut self) -> Result<()> {
        if !self.puts.is_empty() {
            let delimiters = self.boundaries.delimiters().ok_or_else(|| {
                Error::new(
                    ErrorKind::Invalid,
                    "data_set.splice",
                    "the data set is cut off before the elements that are put into it",
                )
            })?;
            if self.passes && !delimiters.is_empty() {
                self.out.push_back(delimiters.freeze());
            }
            self.put(END)?;
        }
        self.pass(u64::MAX);
        Ok(())
    }

    pub(super) fn next_piece(&mut self) -> Option<Bytes> {
        self.out.pop_front()
    }

    /// Puts what stands before or in the place of `tag`.
    fn put(&mut self, tag: Tag) -> Result<()> {
        while let Some(element) = self.puts.front()
            && element.tag <= tag
        {
            let bytes = encode::element(element, self.boundaries.encoding(), &self.charset)?;
            self.out.push_back(bytes.into());
            self.puts.pop_front();
        }
        Ok(())
    }

    /// Lets the source pass, or give way, up to `end`.
    fn pass(&mut self, end: u64) {
        while self.held_at < end
            && let Some(front) = self.held.front_mut()
        {
            let take = usize::try_from(end - self.held_at)
                .unwrap_or(usize::MAX)
                .min(front.len());
            let piece = front.split_to(take);
            if !front.has_remaining() {
                self.held.pop_front();
            }
            self.held_at += take as u64;
            if self.passes && !piece.is_empty() {
                self.out.push_back(piece);
            }
        }
    }
}

/// The stream of a data set as `splicer` hands it out. After an error it ends.
pub(super) fn splice(
    splicer: Splicer,
    source: BoxStream<'static, Result<Bytes>>,
) -> BoxStream<'static, Result<Bytes>> {
    stream::try_unfold(
        (splicer, source.fuse(), false),
        |(mut splicer, mut source, mut finished)| async move {
            loop {
                if let Some(piece) = splicer.next_piece() {
                    return Ok(Some((piece, (splicer, source, finished))));
                }
                match source.next().await {
                    Some(bytes) => splicer.push(bytes?)?,
                    None if finished => return Ok(None),
                    None => {
                        splicer.finish()?;
                        finished = true;
                    }
                }
            }
        },
    )
    .boxed()
}

#[cfg(test)]
mod tests;
