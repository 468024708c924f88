//! DICOMweb (PS3.18): what HTTP peers ask of an engine.

pub mod http;
