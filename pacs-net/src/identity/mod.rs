//! Who asks: users, proven by a password or a token. What they may is [`pacs_core::access`]'s to say.
//!
//! [`Identify`] believes or doesn't, for every door. With the feature `web` there are
//!
//! - `Users`: names and passwords in a file, for a small site;
//! - `Issuer`: tokens of an OpenID Connect provider;
//! - `Shares`: tokens of our own, for somebody who is to see some studies for some time;
//! - `Proofs`: all of them together, and who fails too often waits.

#[cfg(feature = "web")]
mod files;
#[cfg(feature = "web")]
mod issuer;
#[cfg(feature = "web")]
mod proofs;
#[cfg(feature = "web")]
mod share;
#[cfg(feature = "web")]
mod throttle;
#[cfg(feature = "web")]
mod token;
#[cfg(feature = "web")]
mod users;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use futures::future::BoxFuture;
use pacs_core::access::Identity;
use pacs_core::{Error, ErrorKind, Result};

#[cfg(feature = "web")]
pub use issuer::{Issuer, IssuerSettings};
#[cfg(feature = "web")]
pub use proofs::Proofs;
#[cfg(feature = "web")]
pub use share::{Share, Shares};
#[cfg(feature = "web")]
pub use users::{User, Users};

/// Believes users, or doesn't.
pub trait Identify: Send + Sync + 'static {
    /// Who this is, by a name and a password; `address` is where they are.
    ///
    /// # Errors
    /// `Refused` when it isn't believed, with [`Retry::Later`](pacs_core::Retry) where it isn't even looked at for now;
    /// what else stands in the way.
    fn password<'a>(
        &'a self,
        name: &'a str,
        password: &'a [u8],
        address: Option<IpAddr>,
    ) -> BoxFuture<'a, Result<Arc<Identity>>>;

    /// Who this is, by a JSON web token (RFC 7519).
    ///
    /// # Errors
    /// As [`password`](Self::password).
    fn token<'a>(&'a self, token: &'a str, address: Option<IpAddr>) -> BoxFuture<'a, Result<Arc<Identity>>>;

    /// Whether anybody is believed by a password, so that one may be asked for.
    fn has_passwords(&self) -> bool {
        true
    }
}

/// Who believes users, to be shared by all doors.
#[derive(Clone)]
pub struct Identities(pub Arc<dyn Identify>);

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identities")
    }
}

/// That somebody isn't believed, and why. It names nobody, and says as much whether there is such a user or not.
pub fn not_believed(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Refused, "identity.prove", why)
}
