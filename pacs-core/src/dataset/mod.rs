//! What DICOM bytes mean.
//!
//! - [`DataSet`]: a small data set in memory, in one normal form.
//! - [`scan`]: walks a data set of any size as its bytes pass by, within fixed memory.
//! - [`part10`]: the File Meta Information that stands before a stored data set.
//! - [`charset`]: Specific Character Set, to and from UTF-8.
//! - [`frames`]: where the frames of encapsulated pixel data lie.
//! - [`encode`]: writes a [`DataSet`] in a transfer syntax.

mod model;

pub use model::{DataSet, Element, FrameExtent, FrameTable, Value};
