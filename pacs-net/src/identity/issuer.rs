//! [`Issuer`]: an OpenID Connect provider whose tokens are believed.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use http::{Request, header};
use jsonwebtoken::jwk::{Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use pacs_core::access::Identity;
use pacs_core::{Error, ErrorKind, Result, Retry};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::{not_believed, token};
use crate::tls::Connector;
use crate::web::http::client::Caller;

/// How long keys are believed before they are fetched again: those that a provider has taken back are good no longer.
const KEYS_AGE_MAX: Duration = Duration::from_secs(3600);
/// How often they are fetched within a minute at most, whatever keys tokens name: a stranger can name any.
const FETCHES_PER_MINUTE_MAX: usize = 5;

/// How long a provider is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long old keys are good for where new ones can't be had, before it is tried again.
const AWAY: Duration = Duration::from_secs(60);

const OPERATION: &str = "identity.issuer";

/// An OpenID Connect provider. The keys of a file are the fields' names, with hyphens.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct IssuerSettings {
    /// Its URL, as it stands in `iss`; its keys are found by OpenID Connect Discovery 1.0.
    pub url: String,
    /// Whom its tokens must be for (`aud`).
    pub audience: String,
    /// The claim that says which roles a user has: a list, or a text with blanks between. Dots lead inwards.
    #[serde(default = "IssuerSettings::default_claim")]
    pub roles_claim: String,
    /// What is said there, and which roles of ours it means. Where it is empty, roles are called as there.
    #[serde(default)]
    pub roles: BTreeMap<String, Vec<String>>,
    /// The claim that says what a user is called; where it isn't there, `sub` does.
    #[serde(default = "IssuerSettings::default_name")]
    pub name_claim: String,
}

impl IssuerSettings {
    /// Where roles are looked for when nothing else is said.
    pub fn default_claim() -> String {
        "roles".to_owned()
    }

    /// Where names are looked for when nothing else is said.
    pub fn default_name() -> String {
        "preferred_username".to_owned()
    }
}

/// Believes the tokens of an OpenID Connect provider (OpenID Connect Core 1.0, RFC 7519), signed by one of the keys
/// that it publishes (RFC 7517). Keys are fetched when a token names one that isn't known, and every hour.
pub struct Issuer {
    settings: IssuerSettings,
    audience: [String; 1],
    connector: Connector,
    known: Mutex<Known>,
    /// One fetches, and the others wait for it.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    keys: Arc<Vec<Jwk>>,
    /// Until when they are good.
    until: Option<Instant>,
    /// When it was tried, within the last minute.
    tried: VecDeque<Instant>,
}

#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: String,
}

impl Issuer {
    /// By its settings; it is called by `connector`.
    ///
    /// # Errors
    /// `Invalid` when its URL is none, or one without TLS of another machine (OpenID Connect Discovery 1.0, 4.3): whoever
    /// stands between could give keys of their own.
    pub fn new(settings: IssuerSettings, connector: Connector) -> Result<Self> {
        if !is_secure(&Caller::new(&settings.url, &connector)?) {
            let why = format!("the issuer {} must be called over https", settings.url);
            return Err(Error::new(ErrorKind::Invalid, OPERATION, why));
        }
        Ok(Self {
            audience: [settings.audience.clone()],
            settings,
            connector,
            known: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        })
    }

    /// What it calls itself.
    pub(super) fn url(&self) -> &str {
        &self.settings.url
    }

    /// Who comes with a token of it.
    ///
    /// # Errors
    /// `Refused` when it isn't believed; `Io` and the like when its keys can't be had.
    pub(super) async fn believe(&self, token: &str) -> Result<Arc<Identity>> {
        let header = token::header(token)?;
        if !is_of_key_pairs(header.alg) {
            return Err(not_believed("the token is not signed as it must be"));
        }
        let key = self.key(header.kid.as_deref(), header.alg).await?;
        let key = DecodingKey::from_jwk(&key)
            .map_err(|error| not_believed("the issuer's key can't be used").with_source(error))?;
        let issuer = &self.settings.url;
        let claims: Value = token::claims(token, &key, header.alg, issuer, Some(&self.audience))?;
        self.identity(&claims)
    }

    fn identity(&self, claims: &Value) -> Result<Arc<Identity>> {
        let text = |name: &str| claim(claims, name).and_then(Value::as_str);
        let name = text(&self.settings.name_claim).or_else(|| text("sub"));
        let name = name.ok_or_else(|| not_believed("the token doesn't say who it is of"))?;
        let said: Vec<&str> = match claim(claims, &self.settings.roles_claim) {
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(text)) => text.split_ascii_whitespace().collect(),
            _ => Vec::new(),
        };
        let known = &self.settings.roles;
        let roles = said.into_iter().flat_map(|role| match known.get(role) {
            Some(ours) => ours.clone(),
            None if known.is_empty() => vec![role.to_owned()],
            None => Vec::new(),
        });
        let until = claims.get("exp").and_then(Value::as_f64);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it was checked to be later than now"
        )]
        let until = until.map(|until| token::moment(until as u64));
        Ok(Arc::new(Identity {
            name: name.to_owned(),
            roles: roles.collect(),
            granted: Vec::new(),
            until,
        }))
    }

    /// The key that a token names; where it names none, the only one that fits.
    async fn key(&self, id: Option<&str>, algorithm: Algorithm) -> Result<Jwk> {
        if let Some(key) = self.fresh(id, algorithm) {
            return Ok(key);
        }
        let _fetching = match (self.fetching.try_lock(), self.kept(id, algorithm)) {
            (Ok(fetching), _) => fetching,
            // Another one asks whether it is good still.
            (Err(_), Some(key)) => return Ok(key),
            (Err(_), None) => self.fetching.lock().await,
        };
        // Another one may have fetched it meanwhile.
        if let Some(key) = self.fresh(id, algorithm) {
            return Ok(key);
        }
        let fetched = match self.may_fetch() {
            true => tokio::time::timeout(PATIENCE, self.fetch())
                .await
                .unwrap_or_else(|_| Err(away("the issuer doesn't answer in time"))),
            false => Ok(()),
        };
        if fetched.is_err() {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.until = Some(Instant::now() + AWAY);
        }
        match (self.kept(id, algorithm), fetched) {
            (Some(key), fetched) => {
                // It was good an hour ago, and nobody says that it isn't.
                if let Err(error) = fetched {
                    tracing::warn!(issuer = self.url(), %error, "the keys of an issuer can't be fetched: those of before stay");
                }
                Ok(key)
            }
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Err(not_believed(
                "the token is signed by a key that its issuer doesn't have",
            )),
        }
    }

    fn fresh(&self, id: Option<&str>, algorithm: Algorithm) -> Option<Jwk> {
        let until = self.known.lock().unwrap_or_else(PoisonError::into_inner).until?;
        (Instant::now() < until)
            .then(|| self.kept(id, algorithm))
            .flatten()
    }

    fn kept(&self, id: Option<&str>, algorithm: Algorithm) -> Option<Jwk> {
        let keys = Arc::clone(&self.known.lock().unwrap_or_else(PoisonError::into_inner).keys);
        let mut fitting = keys.iter().filter(|key| fits(key, id, algorithm));
        let first = fitting.next()?;
        // Where none is named it must be clear which.
        (id.is_some() || fitting.next().is_none()).then(|| first.clone())
    }

    fn may_fetch(&self) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .tried
            .retain(|tried| tried.elapsed() < Duration::from_secs(60));
        let may = known.tried.len() < FETCHES_PER_MINUTE_MAX;
        if may {
            known.tried.push_back(Instant::now());
        }
        may
    }

    async fn fetch(&self) -> Result<()> {
        let url = self.settings.url.trim_end_matches('/');
        let found = self
            .get(&format!("{url}/.well-known/openid-configuration"))
            .await?;
        let found: Discovered = serde_json::from_slice(&found)
            .map_err(|error| away("the issuer doesn't say where its keys are").with_source(error))?;
        // OpenID Connect Discovery 1.0, 4.3: else one issuer could speak for another.
        if found.issuer != self.settings.url {
            return Err(away("what is found at the issuer's URL is another issuer's"));
        }
        let keys = self.get(&found.jwks_uri).await?;
        let keys = read_keys(&keys)?;
        tracing::info!(
            issuer = self.url(),
            keys = keys.len(),
            "the keys of an issuer were fetched"
        );
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.keys = Arc::new(keys);
        known.until = Some(Instant::now() + KEYS_AGE_MAX);
        Ok(())
    }

    async fn get(&self, url: &str) -> Result<bytes::Bytes> {
        let caller = Caller::new(url, &self.connector)?;
        if !is_secure(&caller) {
            return Err(away("the issuer's keys would come unprotected"));
        }
        let request = Request::get(caller.uri()).header(header::ACCEPT, "application/json");
        let request = request
            .body(Body::empty())
            .map_err(|error| away("the issuer's URL can't be asked").with_source(error))?;
        let (status, body) = caller.call(request).await.map_err(|none| none.error(OPERATION))?;
        match status.is_success() {
            true => Ok(body),
            false => Err(away(format!("the issuer answers {status}"))),
        }
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Issuer").field(&self.settings.url).finish()
    }
}

/// The keys of a set that can be read; one of a kind that nobody here knows costs no other.
fn read_keys(bytes: &[u8]) -> Result<Vec<Jwk>> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }
    let set: Set = serde_json::from_slice(bytes)
        .map_err(|error| away("the issuer's keys can't be read").with_source(error))?;
    let keys = set
        .keys
        .into_iter()
        .filter_map(|key| serde_json::from_value(key).ok());
    Ok(JwkSet { keys: keys.collect() }.keys)
}

/// Over TLS, or within this machine.
fn is_secure(caller: &Caller) -> bool {
    let host = caller.uri().host().unwrap_or_default().trim_matches(['[', ']']);
    let address = host.parse::<std::net::IpAddr>();
    let is_here =
        host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback());
    is_here || caller.uri().scheme_str() == Some("https")
}

/// With a secret that both have, whoever can check could sign.
fn is_of_key_pairs(algorithm: Algorithm) -> bool {
    !matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
}

fn fits(key: &Jwk, id: Option<&str>, algorithm: Algorithm) -> bool {
    let common = &key.common;
    let is_for = match common.key_algorithm {
        Some(named) => is_same(named, algorithm),
        None => true,
    };
    is_for
        && !matches!(common.public_key_use, Some(PublicKeyUse::Encryption))
        && id.is_none_or(|id| common.key_id.as_deref() == Some(id))
        && is_of_family(key, algorithm)
}

fn is_same(named: KeyAlgorithm, algorithm: Algorithm) -> bool {
    named.to_string() == format!("{algorithm:?}")
}

fn is_of_family(key: &Jwk, algorithm: Algorithm) -> bool {
    use jsonwebtoken::jwk::AlgorithmParameters as Kind;
    match (&key.algorithm, algorithm) {
        (Kind::EllipticCurve(_), Algorithm::ES256 | Algorithm::ES384)
        | (Kind::OctetKeyPair(_), Algorithm::EdDSA) => true,
        (Kind::RSA(_), algorithm) => matches!(
            algorithm,
            Algorithm::RS256
                | Algorithm::RS384
                | Algorithm::RS512
                | Algorithm::PS256
                | Algorithm::PS384
                | Algorithm::PS512
        ),
        _ => false,
    }
}

fn claim<'a>(claims: &'a Value, path: &str) -> Option<&'a Value> {
    // A name may hold dots itself, as a URL does.
    claims
        .get(path)
        .or_else(|| path.split('.').try_fold(claims, |value, name| value.get(name)))
}

fn away(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Io, OPERATION, why).with_retry(Retry::Later)
}
