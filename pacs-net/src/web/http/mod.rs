//! HTTP for DICOMweb, without knowledge of DICOM's resources: what PS3.18 clause 8 says of every service.
//!
//! - [`media_type`], [`accept`]: media types and their negotiation (PS3.18 8.7, RFC 9110 12).
//! - [`multipart`]: multipart bodies as streams, written and read (RFC 2046, RFC 2387).
//! - [`problem`]: errors as problem details (RFC 9457).
//! - [`server`]: listens, serves a router, ends; with [`layers`] around it.
//! - [`origin`]: whose page asks.
//! - [`metrics`], [`health`]: what an operator watches.
//! - [`range`], [`conditional`]: range and conditional requests (RFC 9110 13, 14).

pub mod accept;
mod activity;
pub mod body;
pub(crate) mod client;
pub mod conditional;
mod connection;
mod exchange;
pub mod health;
pub mod layers;
pub mod media_type;
pub mod metrics;
pub mod multipart;
pub mod origin;
pub mod problem;
pub mod range;
mod received;
pub mod server;
