//! The DICOM upper layer (PS3.8 section 9) without sockets and clocks: bytes become PDUs, states and
//! events become actions, proposals become answers.
//!
//! - [`pdu`]: the association PDUs and their user information, read and written.
//! - [`decoder`]: the stream of bytes that arrives, cut into PDUs and P-DATA fragments without copies.
//! - [`cutter`]: a message that leaves, cut into presentation data values without copies.
//! - [`state`]: the state machine of PS3.8 9.2, its table as data.
//! - [`negotiate`]: what an acceptor answers to a proposal, as a pure function.

pub mod codec;
pub mod cutter;
pub mod decoder;
pub mod negotiate;
pub mod pdu;
pub mod state;
pub mod user;

/// The variable field of an A-ASSOCIATE-RQ or -AC. 128 contexts of 40 transfer syntaxes each and a
/// user identity of 64 KiB stay below; a longer PDU is refused before memory is taken.
pub const ASSOCIATE_LENGTH_MAX_BYTES: u32 = 256 * 1024;

/// Presentation contexts in one proposal: their IDs are the odd numbers of one byte (PS3.8 9.3.2.2).
pub const PRESENTATION_CONTEXTS_MAX: usize = 128;

/// The smallest maximum length of a peer we can send to: a PDV's header takes 6 bytes, and fragments
/// are cut at even lengths.
pub const PEER_MAXIMUM_LENGTH_MIN_BYTES: u32 = 8;

/// The one application context name of DICOM (PS3.7 A.2.1).
pub const DICOM_APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";
