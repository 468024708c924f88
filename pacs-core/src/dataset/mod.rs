//! What DICOM bytes mean.
//!
//! - [`DataSet`]: a small data set in memory, in one normal form.
//! - [`scan`]: walks a data set of any size as its bytes pass by, within fixed memory.
//! - [`part10`]: the File Meta Information that stands before a stored data set.
//! - [`charset`]: Specific Character Set, to and from UTF-8.
//! - [`FrameTable`]: where the frames of encapsulated pixel data lie.
//! - [`encode`]: writes a [`DataSet`] in a transfer syntax.
//! - [`recode`]: writes a data set of any size in another transfer syntax as it passes by.
//! - [`coercion`]: what takes the place of attributes of a stored instance on its way out.
//! - [`metadata`]: all of an instance but its bulk data, and where that lies.
//! - [`json`], [`xml`]: the DICOM JSON Model and the Native DICOM Model, to and from a [`DataSet`].
//! - [`base64`]: bytes as text, as JSON, XML and other messages carry them.
//! - [`compact`]: writes a [`DataSet`] for ourselves, fast to read back.

pub mod charset;
pub mod coercion;
pub mod compact;
pub(crate) mod conform;
mod described;
pub mod encode;
mod frames;
pub(crate) mod inflate;
pub mod json;
mod layout;
pub mod metadata;
mod model;
mod normal;
pub mod part10;
pub mod recode;
pub mod scan;
mod splice;
pub(crate) mod syntax;
mod text;
pub mod xml;

pub use described::base64;
pub use model::{DataSet, Element, FrameExtent, FrameTable, Value};
pub use text::{is_private_creator, standard_vr};
