//! Writes a data set of any size in another transfer syntax as its bytes pass by: [`Recoder`].
//!
//! ```
//! use bytes::Bytes;
//! use pacs_core::dataset::recode::{Overrides, Recoder, Target};
//! use pacs_core::uid::Uid;
//! # fn main() -> pacs_core::Result<()> {
//! let implicit = Uid::constant("1.2.840.10008.1.2");
//! let mut recoder = Recoder::new(&implicit, Target::ExplicitLittleEndian, Overrides::default())?;
//! let mut recoded = Vec::new();
//! recoder.push(Bytes::from_static(b"\x10\x00\x20\x00\x04\x00\x00\x004711"));
//! while let Some(piece) = recoder.next_piece()? {
//!     recoded.extend_from_slice(&piece);
//! }
//! recoder.finish()?;
//! while let Some(piece) = recoder.next_piece()? {
//!     recoded.extend_from_slice(&piece);
//! }
//! assert_eq!(recoded, b"\x10\x00\x20\x00LO\x04\x004711");
//! # Ok(())
//! # }
//! ```

pub(crate) mod inflate;
mod output;
mod structure;
mod walk;

use std::fmt;

use bytes::Bytes;
use dicom_core::Tag;
use futures::StreamExt;
use futures::stream::{self, BoxStream};

#[cfg(feature = "pixel")]
pub(crate) use self::walk::PixelEvent;
pub(crate) use self::walk::{Event, Walk};
use super::charset::CharacterSet;
use super::encode;
use super::model::DataSet;
use super::syntax::{self, Encoding};
use crate::error::{Error, ErrorKind, Result};
use crate::uid::Uid;

/// A transfer syntax that data sets are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Explicit VR Little Endian (PS3.5 A.2).
    ExplicitLittleEndian,
    /// Implicit VR Little Endian (PS3.5 A.1).
    ImplicitLittleEndian,
}

impl Target {
    /// Its UID.
    pub const fn uid(self) -> Uid {
        match self {
            Target::ExplicitLittleEndian => Uid::constant(syntax::EXPLICIT_LITTLE),
            Target::ImplicitLittleEndian => Uid::constant(syntax::IMPLICIT_LITTLE),
        }
    }

    /// The target of this UID, if it is one.
    pub fn of(transfer_syntax: &str) -> Option<Self> {
        match transfer_syntax {
            syntax::EXPLICIT_LITTLE => Some(Target::ExplicitLittleEndian),
            syntax::IMPLICIT_LITTLE => Some(Target::ImplicitLittleEndian),
            _ => None,
        }
    }

    fn explicit(self) -> bool {
        self == Target::ExplicitLittleEndian
    }
}

/// What a recoded data set has otherwise than its source, at the top level.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Elements that take the place of the source's, or are added.
    pub put: DataSet,
    /// What text that is put is written in: the Specific Character Set of the source, or the one that is put. Where it
    /// is not known, the default repertoire: then what is put is ASCII.
    pub charset: CharacterSet,
    /// Elements that are left out.
    pub remove: Vec<Tag>,
}

impl Overrides {
    /// The elements as they are written, in order of tag.
    fn encoded(&self, target: Target) -> Result<Vec<(Tag, Option<Bytes>)>> {
        let mut all = Vec::with_capacity(self.put.len() + self.remove.len());
        for element in self.put.iter() {
            let bytes = encode::element(element, Encoding::of(&target.uid()), &self.charset)?;
            all.push((element.tag, Some(Bytes::from(bytes))));
        }
        all.extend(self.remove.iter().map(|&tag| (tag, None)));
        all.sort_by_key(|(tag, _)| *tag);
        Ok(all)
    }
}

/// Whether a [`Recoder`] understands this transfer syntax: Implicit VR Little Endian, Explicit VR
/// Little Endian, Explicit VR Big Endian, Deflated Explicit VR Little Endian.
pub fn is_native(transfer_syntax: &str) -> bool {
    matches!(
        transfer_syntax,
        syntax::IMPLICIT_LITTLE | syntax::EXPLICIT_LITTLE | syntax::EXPLICIT_BIG | syntax::DEFLATED
    )
}

/// Takes the bytes of a data set in pieces of any size and hands it out in another transfer syntax.
///
/// Memory is bounded whatever the data set's size and whatever any length in it says: a value passes
/// through, it is never held. What is written differently beside the layout:
/// - Sequences and items have undefined length, unless they are empty. Group Length, which is retired
///   (PS3.5 7.2), is left out.
/// - Where the source has no VR, the dictionary gives it. What the dictionary does not know is UN,
///   Private Creators are LO (PS3.5 6.2.2, 7.8.1); US or SS is decided by Pixel Representation
///   (0028,0103), and OW stands for OB or OW (PS3.5 A.1).
/// - UN of undefined length is a sequence in Implicit VR Little Endian (PS3.5 6.2.2) and is written as SQ.
/// - A value that is longer than its VR's length field can say is UN (PS3.5 6.2.2).
/// - Values of odd length are padded. Text is otherwise left as it is, in the character set it came in.
///
/// It is as lenient as the scanner that took the data set in: layouts that are not the transfer
/// syntax's, missing and stray delimiters and lengths beyond their parent are understood.
pub struct Recoder {
    walk: Walk,
}

impl Recoder {
    /// From a native transfer syntax to `target`.
    ///
    /// # Errors
    /// `Unsupported` when `from` is not one of [`is_native`], `Invalid` when an override can't be said
    /// in its character set.
    pub fn new(from: &Uid, target: Target, overrides: Overrides) -> Result<Self> {
        if !is_native(from) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "data_set.recode",
                format!("without its pixel data, this can't be recoded: {from}"),
            ));
        }
        Self::open(from, target, overrides, false)
    }

    /// From an encapsulated transfer syntax, whose pixel data comes out as [`Event::Pixel`].
    #[cfg(feature = "pixel")]
    pub(crate) fn capturing(from: &Uid, target: Target, overrides: Overrides) -> Result<Self> {
        Self::open(from, target, overrides, true)
    }

    fn open(from: &Uid, target: Target, overrides: Overrides, capture: bool) -> Result<Self> {
        let walk = Walk::new(
            Encoding::of(from),
            syntax::is_deflated(from),
            target,
            overrides.encoded(target)?,
            capture,
        );
        Ok(Self { walk })
    }

    /// Gives the next bytes of the source. Call [`next_piece`](Self::next_piece) until it answers
    /// `None` before the next bytes: then no more than one piece is held.
    pub fn push(&mut self, bytes: Bytes) {
        self.walk.push(bytes);
    }

    /// The next piece of the recoded data set; `None` when more of the source is needed, or, after
    /// [`finish`](Self::finish), when there is nothing more.
    ///
    /// # Errors
    /// `Invalid` when the structure of the source can't be followed or is nested too deep,
    /// `OutOfResources` when a deflated source is larger than
    /// [`limits::INFLATED_LENGTH_MAX_BYTES`](crate::limits::INFLATED_LENGTH_MAX_BYTES), `Unsupported`
    /// when something in it can't be said in the target.
    pub fn next_piece(&mut self) -> Result<Option<Bytes>> {
        loop {
            match self.walk.step()? {
                Event::Output | Event::Starved => return Ok(self.walk.out.pop()),
                // Only a capturing walk has them; its fragments are passed over here.
                Event::Pixel(_) => {}
            }
        }
    }

    /// Says that nothing more comes. The last pieces are still to be taken.
    ///
    /// # Errors
    /// `Invalid` when the source ends inside an element.
    pub fn finish(&mut self) -> Result<()> {
        self.walk.finish()
    }

    #[cfg(feature = "pixel")]
    pub(crate) fn walk(&mut self) -> &mut Walk {
        &mut self.walk
    }
}

impl fmt::Debug for Recoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recoder").finish_non_exhaustive()
    }
}

/// The stream of a data set, recoded by `recoder`. After an error it ends.
pub fn recode(
    recoder: Recoder,
    source: BoxStream<'static, Result<Bytes>>,
) -> BoxStream<'static, Result<Bytes>> {
    enum State {
        Running(Recoder, BoxStream<'static, Result<Bytes>>),
        Finished(Recoder),
        Done,
    }
    let start = State::Running(recoder, source);
    stream::try_unfold(start, |mut state| async move {
        loop {
            state = match state {
                State::Running(mut recoder, mut source) => {
                    if let Some(piece) = recoder.next_piece()? {
                        return Ok(Some((piece, State::Running(recoder, source))));
                    }
                    match source.next().await {
                        Some(bytes) => {
                            recoder.push(bytes?);
                            State::Running(recoder, source)
                        }
                        None => {
                            recoder.finish()?;
                            State::Finished(recoder)
                        }
                    }
                }
                State::Finished(mut recoder) => match recoder.next_piece()? {
                    Some(piece) => return Ok(Some((piece, State::Finished(recoder)))),
                    None => State::Done,
                },
                State::Done => return Ok(None),
            }
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests;
