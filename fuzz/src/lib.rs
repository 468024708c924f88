//! What several fuzz targets share.

pub mod codec;
pub mod instance;
pub mod query;
