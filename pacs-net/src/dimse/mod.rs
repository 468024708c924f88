//! DIMSE (PS3.7): messages on an association, as SCP and as SCU.
//!
//! - [`CommandSet`], [`Status`]: the words.
//! - [`Services`], [`serve`]: answer a peer's requests. Each runs as an [`Operation`] of its own, and
//!   answers with a [`Reply`].
//! - [`Client`]: make requests, several at a time where the window allows; a response stream each.
//! - [`DataSetStream`]: a data set that is pulled off the wire piece by piece.

mod client;
mod command;
mod data_set;
mod driver;
mod field;
mod link;
mod reader;
mod reply;
mod services;
mod status;

pub use client::{Client, MoveOriginator, Response, Responses, StoreRequest};
pub(crate) use client::{NO_DATA_SET, whole};
pub use command::CommandSet;
pub use data_set::DataSetStream;
pub use driver::{Ended, serve};
pub use field::{CommandField, Priority, SubOperations};
pub use reply::Reply;
pub(crate) use services::unrecognized;
pub use services::{NoServices, Operation, Services};
pub use status::{Category, Status};

/// A command set. The longest real one is an N-GET request with a long Attribute Identifier List;
/// beyond this the association is aborted.
pub const COMMAND_SET_LENGTH_MAX_BYTES: usize = 64 * 1024;

/// A data set that is gathered in memory: an identifier, a response's attribute list. Instances are
/// streamed and have no limit here.
pub const GATHERED_DATA_SET_LENGTH_MAX_BYTES: usize = 16 * 1024 * 1024;

/// The identifier of a C-FIND, C-MOVE or C-GET request, which is read before the operation starts. A
/// list of 10,000 instance UIDs stays below.
pub const IDENTIFIER_LENGTH_MAX_BYTES: usize = 1024 * 1024;

/// Operations at a time where the negotiated window is "without limit".
pub const OPERATIONS_MAX: usize = 64;

/// Responses that wait for whoever asked. Then no more is read from the peer.
pub const RESPONSES_WAITING_MAX: usize = 32;
