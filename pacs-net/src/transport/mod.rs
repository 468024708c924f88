//! Associations over real streams: the only place of this crate that awaits a socket or reads a clock.
//!
//! [`accept`] and [`connect`] turn a [`Connection`] (TCP, TLS, an in-memory pipe) into an
//! [`Association`], which splits into a [`Receiver`] and a [`Sender`]. What PS3.8 says they do is
//! decided in [`crate::ul`].

mod accept;
mod association;
mod connect;
mod connection;
mod negotiated;
mod receiver;
mod sender;
mod shared;
mod write_half;

use std::time::Duration;

pub use accept::{Acceptor, Admission, Admitted, AnyoneAdmitted, Peer, accept};
pub use association::Association;
pub use connect::{Proposal, connect, connect_tcp, connect_tls};
pub use connection::Connection;
pub use negotiated::{Negotiated, PresentationContext};
pub use receiver::{Event, Receiver};
pub use sender::Sender;
pub(crate) use write_half::WriteHalf;

/// How long is waited for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// The ARTIM timer (PS3.8 9.1.5): for a request on a new connection, for the connection to be
    /// closed after a rejection, release or abort.
    pub artim: Duration,
    /// For the answer to our association request.
    pub associate: Duration,
    /// For the answer to our release request.
    pub release: Duration,
    /// For the next request, or while nothing is under way.
    pub idle: Duration,
    /// For the next byte of a message that has begun.
    pub receive: Duration,
    /// For a write to make progress against a slow reader.
    pub send: Duration,
}

impl Default for Timeouts {
    /// 30 s; 10 minutes when idle, since devices keep associations open between images.
    fn default() -> Self {
        let short = Duration::from_secs(30);
        Self {
            artim: short,
            associate: short,
            release: short,
            idle: Duration::from_secs(600),
            receive: short * 2,
            send: short * 2,
        }
    }
}
