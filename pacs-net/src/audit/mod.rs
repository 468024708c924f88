//! Sending the audit trail to an audit repository: syslog over UDP, TCP and TLS (PS3.15 A.6, A.7; IHE ATNA).
//!
//! A [`Sender`] takes the messages of an [`AuditQueue`](pacs_core::audit::AuditQueue), which is a log on the disk, and sends them in
//! their order, as soon as they are there. While the repository is away they stay in the log, and the sender tries again, less and less
//! often. The log knows how far it came, so nothing is lost when this process dies.
//!
//! # When a message counts as sent
//!
//! Syslog has no acknowledgement: what was written to a connection may be lost with whoever should read it. Over TCP and TLS
//! therefore a connection is closed in order after some messages or when there are no more, and what went over it counts as
//! sent when the other side, having read it to its end, closes too. If the connection ends otherwise, all that went over it is sent
//! again: **each message arrives at least once, in order**; a repository may get some of them twice. A receiver that doesn't close
//! its side in time is believed, and that is logged.
//!
//! Over UDP nobody knows what arrives. It is for networks and repositories that offer nothing else.
//!
//! # What a receiver must take
//!
//! Messages are up to 32,768 bytes long. rsyslog takes 8,192 by default, and cuts what is longer: `global(maxMessageSize="64k")`.

mod link;
mod repository;
mod sender;
mod syslog;

pub use repository::{Repository, Transport};
pub use sender::{Sender, SenderOptions};
pub use syslog::Origin;
