//! JSON web tokens (RFC 7519), signed (RFC 7515).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::errors::ErrorKind as Cause;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use pacs_core::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::not_believed;

/// How far clocks may be apart.
const LEEWAY: Duration = Duration::from_secs(30);

/// A longer token is none: a header of HTTP has an end, and so has a user identity.
const TOKEN_LENGTH_MAX_BYTES: usize = 16 * 1024;

/// What a token says of how it is signed. One that isn't signed has none.
///
/// # Errors
/// `Refused` when it is no token.
pub(super) fn header(token: &str) -> Result<Header> {
    if token.len() > TOKEN_LENGTH_MAX_BYTES {
        return Err(not_believed("the token is too long"));
    }
    decode_header(token).map_err(|error| refused(&error))
}

/// Who says that they issued it (`iss`), which is believed when it is checked.
pub(super) fn claimed_issuer(token: &str) -> Option<String> {
    let claims: Value = insecure_decode_claims(token).ok()?;
    claims.get("iss")?.as_str().map(str::to_owned)
}

/// What a token claims, that is signed by `key` with one of these algorithms, by this issuer, for one of these audiences
/// where some are named, and is not over.
///
/// # Errors
/// `Refused` when it isn't so.
pub(super) fn claims<T: DeserializeOwned>(
    token: &str,
    key: &DecodingKey,
    algorithm: Algorithm,
    issuer: &str,
    audience: Option<&[String]>,
) -> Result<T> {
    choose_cryptography();
    let mut wanted = Validation::new(algorithm);
    wanted.leeway = LEEWAY.as_secs();
    wanted.validate_nbf = true;
    wanted.set_issuer(&[issuer]);
    wanted.set_required_spec_claims(&["exp", "iss"]);
    match audience {
        Some(audience) => {
            wanted.set_audience(audience);
            wanted.set_required_spec_claims(&["exp", "iss", "aud"]);
        }
        None => wanted.validate_aud = false,
    }
    let decoded = decode(token, key, &wanted);
    decoded
        .map(|decoded| decoded.claims)
        .map_err(|error| refused(&error))
}

/// Says who checks and makes signatures. Where other parts of the program have the library do so in another way, nobody
/// would know which one is meant.
pub(super) fn choose_cryptography() {
    // Whoever chose before may have had a reason.
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}

/// A number of seconds since 1970 as it stands in `exp`.
pub(super) fn moment(seconds: u64) -> SystemTime {
    // As long as it is believed at all.
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(seconds).saturating_add(LEEWAY));
    at.unwrap_or_else(SystemTime::now)
}

/// Nothing of the token is told.
fn refused(error: &jsonwebtoken::errors::Error) -> Error {
    not_believed(match error.kind() {
        Cause::ExpiredSignature => "the token has expired",
        Cause::ImmatureSignature => "the token is not valid yet",
        Cause::InvalidAudience => "the token is for somebody else",
        Cause::InvalidIssuer => "the token is of somebody who is not trusted",
        Cause::InvalidSignature => "the token's signature is not right",
        Cause::InvalidAlgorithm | Cause::InvalidAlgorithmName => "the token is not signed as it must be",
        Cause::MissingRequiredClaim(_) => "the token lacks a claim: exp, iss and aud must be there",
        _ => "this is no token that can be read",
    })
}
