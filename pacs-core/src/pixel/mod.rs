//! Decoding of compressed pixel data, with labels that say what came out (feature `pixel`).
//!
//! - [`can_transcode`]: which transfer syntax an instance can be handed out in when the receiver does
//!   not take the stored one.
//! - [`transcode`]: hands it out so, frame by frame, within bounded memory.
//!
//! | transfer syntax | decoded by |
//! | --- | --- |
//! | Implicit, Explicit, Big Endian, Deflated | [`Recoder`](crate::dataset::recode::Recoder) |
//! | RLE Lossless, Deflated Image Frame, Encapsulated Uncompressed | this module |
//! | JPEG Baseline and Extended (8 bit), JPEG Lossless | `jpeg-decoder` |
//! | JPEG-LS | CharLS, with feature `charls` |
//! | JPEG 2000, HTJ2K (not part 2 multi-component) | openjp2, with feature `jpeg2000` |
//!
//! Every decode runs on a thread of its own, after the dimensions in the codestream were held against
//! the data set's, and a panic in it becomes an error.

mod codec;
mod codestream;
mod frames;
mod image;
mod jpeg;
#[cfg(feature = "jpeg2000")]
mod jpeg2000;
#[cfg(feature = "charls")]
mod jpeg_ls;
mod rle;
mod samples;
mod transcode;
mod worker;

pub use self::codec::can_transcode;
pub use self::transcode::transcode;
pub use crate::dataset::recode::Target;
