//! [`Shares`]: tokens of our own, for somebody who is to see some studies for some time.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use argon2::password_hash::rand_core::{OsRng, RngCore as _};
use dicom_core::VR;
use dicom_dictionary_std::tags;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, encode};
use pacs_core::access::{Identity, Part, Permission, Restriction};
use pacs_core::{DataSet, Error, ErrorKind, Result, Uid};
use serde::{Deserialize, Serialize};

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
    exp: u64,
    studies: Vec<String>,
}

/// Makes tokens for shares, and believes them. They are signed by a key in a file (HMAC with SHA-256): without the file, or
/// with another one in its place, no share that was made before is good any more.
pub struct Shares {
    key: [u8; 32],
}

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
        Ok(Self { key })
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
            exp: until.map_or(0, |until| until.as_secs()),
            studies: share.studies.iter().map(ToString::to_string).collect(),
        };
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
        share.studies.clear();
        assert!(shares.token(&share).is_err());
        fs::write(directory.path().join("key"), "short").unwrap();
        assert!(Shares::open(&directory.path().join("key")).is_err());
    }
}
