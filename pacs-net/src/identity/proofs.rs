//! [`Proofs`]: all ways to prove who somebody is.

use std::net::IpAddr;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _};
use pacs_core::access::Identity;
use pacs_core::{Result, Retry};

use super::throttle::Throttle;
use super::{Identify, Issuer, Shares, Users, not_believed, share, token};

/// Users of a file, tokens of providers and shares, as far as there are any. Who fails too often with a password waits:
/// first some seconds, then longer.
#[derive(Debug, Default)]
pub struct Proofs {
    users: Option<Users>,
    issuers: Vec<Issuer>,
    shares: Option<Shares>,
    throttle: Throttle,
}

impl Proofs {
    /// Believes these; without any, nobody.
    pub fn new(users: Option<Users>, issuers: Vec<Issuer>, shares: Option<Shares>) -> Self {
        Self {
            users,
            issuers,
            shares,
            throttle: Throttle::default(),
        }
    }

    async fn by_password(
        &self,
        name: &str,
        password: &[u8],
        address: Option<IpAddr>,
    ) -> Result<Arc<Identity>> {
        let Some(users) = &self.users else {
            return Err(not_believed("nobody is believed by a password here"));
        };
        // Whom it is known of lately costs nothing, and isn't kept out by others who guess.
        if let Some(user) = users.remembered(name, password) {
            return Ok(user);
        }
        self.throttle.begin(name, address)?;
        let believed = users.password(name, password).await;
        match &believed {
            Err(error) if error.retry() == Retry::Never => tracing::warn!(?address, "a password was wrong"),
            // Also who was not looked at.
            _ => self.throttle.succeeded(name, address),
        }
        believed
    }

    async fn by_token(&self, token: &str, address: Option<IpAddr>) -> Result<Arc<Identity>> {
        // So that nothing of it is looked into that is no token.
        token::header(token)?;
        let issuer = token::claimed_issuer(token);
        let believed = match (issuer.as_deref(), &self.shares) {
            (Some(share::ISSUER), Some(shares)) => shares.believe(token),
            (claimed, _) => {
                let mut issuers = self.issuers.iter();
                match issuers.find(|issuer| Some(issuer.url()) == claimed) {
                    Some(issuer) => issuer.believe(token).await,
                    None => Err(not_believed("the token is of somebody who is not trusted")),
                }
            }
        };
        believed.inspect_err(|error| tracing::warn!(?address, %error, "a token was not believed"))
    }
}

impl Identify for Proofs {
    fn password<'a>(
        &'a self,
        name: &'a str,
        password: &'a [u8],
        address: Option<IpAddr>,
    ) -> BoxFuture<'a, Result<Arc<Identity>>> {
        self.by_password(name, password, address).boxed()
    }

    fn token<'a>(&'a self, token: &'a str, address: Option<IpAddr>) -> BoxFuture<'a, Result<Arc<Identity>>> {
        self.by_token(token, address).boxed()
    }

    fn has_passwords(&self) -> bool {
        self.users.as_ref().is_some_and(|users| !users.is_empty())
    }
}
