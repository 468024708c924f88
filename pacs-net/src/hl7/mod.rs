//! HL7 v2 over MLLP: what hospital and radiology information systems say.
//!
//! | room | what it does | begin at |
//! | --- | --- | --- |
//! | [`message`] | a message: parse, read and set by path, write; its character set | [`Message`], [`Path`] |
//! | [`ack`] | the answer to a message, in original and enhanced mode | [`Fault`], [`ack::answers`] |
//! | [`mapping`] | which attribute is had from which field, as data | [`Mapping`] |
//! | [`receive`] | does what messages say on an engine; keeps those that fail | [`Receiver`] |
//! | [`report`] | writes a report that is kept as a message | [`report::oru`] |
//! | [`Server`] | listens for messages over MLLP and answers them | [`Server::bind`], [`Handler`] |
//! | [`Sender`] | sends messages over MLLP, each until it is acknowledged | [`Sender::send`] |
//!
//! Text of a message in memory is UTF-8, whatever MSH-18 says of it on the wire.

pub mod ack;
mod charset;
mod escape;
pub mod mapping;
pub mod message;
mod mllp;
mod path;
pub mod receive;
pub mod report;
mod sender;
mod server;
mod time;

pub use ack::{AckCode, Fault};
pub use charset::Charset;
pub use mapping::Mapping;
pub use message::{Delimiters, Message, Segment};
pub use path::Path;
pub use receive::{FailedMessages, Receiver, ReceiverOptions};
pub use sender::{Sender, SenderOptions};
pub use server::{Handler, Incoming, Server, ServerOptions};
