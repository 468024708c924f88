//! [`Shares`]: tokens of our own, for somebody who is to see some studies for some time.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use argon2::password_hash::rand_core::{OsRng, RngCore as _};
use dicom_core::VR;
use dicom_dictionary_std::tags;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, encode};
use pacs_core::access::{Identity, Part, Permission, Restriction};
use pacs_core::{DataSet, Error, ErrorKind, Result, Retry, Uid};
use serde::{Deserialize, Serialize};

use super::files::{Stamp, stamp, write_private};
use super::{not_believed, token};

/// Who issues them (`iss`): no other issuer has a URN for its name.
pub(super) const ISSUER: &str = "urn:pacs:share";

/// Studies in one share: their token must fit a header of HTTP.
const STUDIES_MAX: usize = 100;

const OPERATION: &str = "identity.share";

/// What is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// With whom, or what for: it stands in the audit trail and in the log.
    pub name: String,
    /// What may be found and fetched.
    pub studies: Vec<Uid>,
    /// Until when.
    pub until: SystemTime,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    /// When it was made, with parts of a second (RFC 7519 2); one without is as old as can be.
    #[serde(default)]
    iat: f64,
    exp: u64,
    studies: Vec<String>,
}

/// Makes tokens for shares, and believes them. They are signed by a key in a file (HMAC with SHA-256): without the file, or
/// with another one in its place, no share that was made before is good any more. Beside it stands a file with those that were
/// [taken back](Self::revoke), which is read again when it has changed.
pub struct Shares {
    key: [u8; 32],
    revoked_file: PathBuf,
    revoked: Mutex<(Stamp, Revoked)>,
}

/// For each name, since when no share of it is good that was made before.
type Revoked = HashMap<String, f64>;

impl Shares {
    /// With the key in a file, its owner's alone; one is made where there is none.
    ///
    /// # Errors
    /// `Io` or `Invalid` when it can't be read or made.
    pub fn open(file: &Path) -> Result<Self> {
        let failed = |error| {
            Error::io(
                OPERATION,
                format!("the key {} can't be read", file.display()),
                error,
            )
        };
        let mut key = [0; 32];
        match fs::File::open(file) {
            Ok(mut opened) => {
                let length = opened.metadata().map_err(failed)?.len();
                if length != key.len() as u64 {
                    let why = format!("{}: the key of shares has 32 bytes", file.display());
                    return Err(Error::new(ErrorKind::Invalid, OPERATION, why));
                }
                opened.read_exact(&mut key).map_err(failed)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                OsRng.fill_bytes(&mut key);
                let mut new = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(file)
                    .map_err(failed)?;
                new.write_all(&key)
                    .and_then(|()| new.sync_all())
                    .map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        let revoked_file = revoked_file(file);
        let revoked = (stamp(&revoked_file), read_revoked(&revoked_file)?);
        Ok(Self {
            key,
            revoked_file,
            revoked: Mutex::new(revoked),
        })
    }

    /// Takes back all shares of this name that were made until now, for the key in this file. Whether there is one of this
    /// name isn't known. What was taken back is good again without the file beside the key, `KEY.revoked`.
    ///
    /// # Errors
    /// `Io` or `Invalid` when that can't be kept.
    pub fn revoke(file: &Path, name: &str) -> Result<()> {
        let file = revoked_file(file);
        let mut revoked = read_revoked(&file)?;
        // A clock that was set back gives nothing back.
        let since = revoked.entry(name.to_owned()).or_default();
        *since = now().max(*since);
        let text = serde_json::to_vec(&revoked).map_err(|error| {
            Error::new(ErrorKind::Internal, OPERATION, "names can't be written").with_source(error)
        })?;
        write_private(&file, &text)
    }

    /// Whether a share was taken back.
    ///
    /// # Errors
    /// When it can't be told: then nobody is believed.
    fn is_revoked(&self, claims: &Claims) -> Result<bool> {
        let now = stamp(&self.revoked_file);
        let mut revoked = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        if revoked.0 != now {
            let read = read_revoked(&self.revoked_file).map_err(|error| {
                tracing::error!(%error, "no share is believed");
                let why = "it can't be told now whether the share was taken back";
                Error::new(ErrorKind::Internal, OPERATION, why).with_retry(Retry::Later)
            })?;
            *revoked = (now, read);
        }
        let since = revoked.1.get(&claims.sub);
        Ok(since.is_some_and(|since| claims.iat <= *since))
    }

    /// A token for a share.
    ///
    /// # Errors
    /// `Invalid` when it is over already, or holds no study or more than 100.
    pub fn token(&self, share: &Share) -> Result<String> {
        let invalid = |why| Error::new(ErrorKind::Invalid, OPERATION, why);
        if share.studies.is_empty() || share.studies.len() > STUDIES_MAX {
            return Err(invalid("1 to 100 studies can be shared at once"));
        }
        if share.until <= SystemTime::now() {
            return Err(invalid("the share would be over already"));
        }
        let until = share.until.duration_since(UNIX_EPOCH);
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: share.name.clone(),
            iat: now(),
            exp: until.map_or(0, |until| until.as_secs()),
            studies: share.studies.iter().map(ToString::to_string).collect(),
        };
        super::token::choose_cryptography();
        let token = encode(
            &Header::new(Algorithm::HS256),
            &claims,
            &EncodingKey::from_secret(&self.key),
        );
        token.map_err(|error| invalid("no token can be made of it").with_source(error))
    }

    /// Who comes with a token.
    ///
    /// # Errors
    /// `Refused` when it isn't one of these, or is over.
    pub(super) fn believe(&self, token: &str) -> Result<Arc<Identity>> {
        if token::header(token)?.alg != Algorithm::HS256 {
            return Err(not_believed("the token is not signed as it must be"));
        }
        let key = DecodingKey::from_secret(&self.key);
        let claims: Claims = token::claims(token, &key, Algorithm::HS256, ISSUER, None)?;
        if self.is_revoked(&claims)? {
            return Err(not_believed("the share was taken back"));
        }
        let mut keys = DataSet::new();
        keys.put_text(tags::STUDY_INSTANCE_UID, VR::UI, claims.studies.join("\\"));
        let part = Part::Only([Restriction::new(keys)?].into());
        Ok(Arc::new(Identity {
            name: format!("share: {}", claims.sub),
            roles: Vec::new(),
            granted: vec![(Permission::Find, part.clone()), (Permission::Retrieve, part)],
            until: Some(token::moment(claims.exp)),
        }))
    }
}

/// In seconds since 1970.
fn now() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0.0, |now| now.as_secs_f64())
}

fn revoked_file(key: &Path) -> PathBuf {
    let mut name = key.as_os_str().to_owned();
    name.push(".revoked");
    name.into()
}

/// None where there is no file.
fn read_revoked(file: &Path) -> Result<Revoked> {
    let unreadable = || format!("{} can't be read", file.display());
    match fs::read(file) {
        Ok(text) => serde_json::from_slice(&text)
            .map_err(|error| Error::new(ErrorKind::Invalid, OPERATION, unreadable()).with_source(error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Revoked::new()),
        Err(error) => Err(Error::io(OPERATION, unreadable(), error)),
    }
}

impl fmt::Debug for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shares")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_share_is_believed_until_its_end_and_by_its_own_key_alone() {
        let directory = tempfile::tempdir().unwrap();
        let shares = Shares::open(&directory.path().join("key")).unwrap();
        let mut share = Share {
            name: "referring practice".to_owned(),
            studies: vec![Uid::constant("1.2.3"), Uid::constant("1.2.4")],
            until: SystemTime::now() + Duration::from_secs(60),
        };
        let token = shares.token(&share).unwrap();
        let identity = Shares::open(&directory.path().join("key"))
            .unwrap()
            .believe(&token)
            .unwrap();
        let mut study = DataSet::new();
        for (uid, is_shared) in [("1.2.3", true), ("1.2.4", true), ("1.2.5", false)] {
            study.put_text(tags::STUDY_INSTANCE_UID, VR::UI, uid);
            let (_, part) = &identity.granted[0];
            assert_eq!(part.holds(&study), is_shared, "{uid}");
        }
        assert!(identity.until.is_some());
        let other = Shares::open(&directory.path().join("other")).unwrap();
        assert!(other.believe(&token).unwrap_err().context().contains("signature"));
        let mut changed = token.clone().into_bytes();
        let at = token.find('.').unwrap() + 10;
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        assert!(shares.believe(std::str::from_utf8(&changed).unwrap()).is_err());
        // An algorithm that anybody could sign by is none: `{"alg":"none","typ":"JWT"}`.
        let (_, rest) = token.split_once('.').unwrap();
        for signed in [rest, &rest[..=rest.find('.').unwrap()]] {
            assert!(
                shares
                    .believe(&format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{signed}"))
                    .is_err()
            );
        }
        let expired = encode(
            &Header::new(Algorithm::HS256),
            &Claims {
                iss: ISSUER.to_owned(),
                sub: String::new(),
                iat: 0.0,
                exp: 1_000_000_000,
                studies: vec!["1.2".to_owned()],
            },
            &EncodingKey::from_secret(&shares.key),
        );
        assert!(
            shares
                .believe(&expired.unwrap())
                .unwrap_err()
                .context()
                .contains("expired")
        );
        // Taken back by its name, and by no other.
        let file = directory.path().join("key");
        Shares::revoke(&file, "another practice").unwrap();
        assert!(shares.believe(&token).is_ok());
        Shares::revoke(&file, "referring practice").unwrap();
        let told = shares.believe(&token).unwrap_err();
        assert!(told.context().contains("taken back"), "{told}");
        // Who gets a new one at once has it.
        assert!(shares.believe(&shares.token(&share).unwrap()).is_ok());
        fs::write(revoked_file(&file), "no longer what it was").unwrap();
        assert!(shares.believe(&token).is_err());
        share.studies.clear();
        assert!(shares.token(&share).is_err());
        fs::write(directory.path().join("key"), "short").unwrap();
        assert!(Shares::open(&directory.path().join("key")).is_err());
    }
}
