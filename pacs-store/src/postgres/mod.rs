//! Where many machines share what they know: a database that speaks PostgreSQL's protocol.
//!
//! [`Postgres`] is the way to it: a pool of connections, the tables, and what is done when it is away. [`PostgresLedger`]
//! keeps a ledger there, [`PostgresIndex`] an index.
//!
//! The statements are plain SQL of tables, keys and `ON CONFLICT`: nothing of one product alone. All is done in
//! transactions that take their locks on rows, so `READ COMMITTED` suffices for what
//! writes, and stronger isolation does no harm.
//!
//! # Over which line
//! A URL with `sslmode=require` speaks TLS and believes a server whose certificate is for its host and comes from an
//! authority that is known; every other one speaks without. There is no half of it: what is called `prefer` elsewhere
//! protects from nobody.
//!
//! # When it is away
//! What fails because a connection broke, a server restarts or another transaction came between is done again, at
//! growing intervals, until [`PostgresOptions::patience`] is over; so is what waits for a lock of another one, who may be
//! gone. A database that is silent is given up after some seconds, and one that only answers questions isn't taken. What was
//! under way to be committed when a connection broke is not done again by itself, as nobody knows whether it was.

mod connection;
mod failure;
mod index;
mod ledger;
mod tables;
mod tls;

use std::path::PathBuf;
use std::time::Duration;

pub use connection::Postgres;
pub use index::PostgresIndex;
pub use ledger::PostgresLedger;

/// How a [`Postgres`] is used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PostgresOptions {
    /// The schema that holds the tables: a letter and then letters, digits and `_`, in lower case. Two with schemas of
    /// their own in one database know nothing of each other. It is made when it is missing.
    pub schema: String,
    /// A file that holds the password, where the URL has none; the end of its line is no part of it.
    pub password_file: Option<PathBuf>,
    /// Connections at once for those who ask, at most; some are there for what must not wait behind them.
    pub connections: usize,
    /// For how long what fails for the moment is tried again.
    pub patience: Duration,
    /// The authorities, in PEM, that the certificate of a server must come from to which the URL says `sslmode=require`;
    /// where it is not said, those that the operating system knows. The certificate must be for the host of the URL.
    pub authorities: Option<PathBuf>,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            schema: "pacs".to_owned(),
            password_file: None,
            connections: 16,
            patience: Duration::from_secs(10),
            authorities: None,
        }
    }
}
