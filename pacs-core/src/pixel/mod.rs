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
//! | JPEG Baseline, Extended | `jpeg-decoder`; this module where it has 12 bits |
//! | JPEG Lossless | this module |
//! | JPEG-LS | this module |
//! | JPEG 2000, HTJ2K; of part 2 what openjp2 knows, and one frame in a codestream | openjp2, with feature `jpeg2000` |
//! | JPEG XL | jxl-oxide, with feature `jpegxl` |
//!
//! What has decoders here has none elsewhere that is right about it and needs Rust alone.
//!
//! Every decode runs on a thread of its own, after the dimensions in the codestream were held against
//! the data set's, and a panic in it becomes an error.

mod codec;
mod codestream;
mod decoder;
mod frames;
mod image;
mod jpeg;
#[cfg(feature = "jpeg2000")]
mod jpeg2000;
mod jpeg_ls;
#[cfg(feature = "jpegxl")]
mod jpeg_xl;
#[cfg(feature = "render")]
pub mod render;
mod rle;
mod room;
mod samples;
mod transcode;
mod ybr;

pub use self::codec::can_transcode;
pub(crate) use self::decoder::FrameDecoder;
pub use self::room::DecodingRoom;
pub use self::transcode::transcode;
pub use crate::dataset::recode::{Overrides, Target};
