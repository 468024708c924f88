//! [`Users`]: names and passwords in a file.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use argon2::password_hash::rand_core::{OsRng, RngCore as _};
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Argon2, Params};
use hmac::{Hmac, Mac as _};
use pacs_core::access::Identity;
use pacs_core::{Error, ErrorKind, Result, Retry};
use sha2::Sha256;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::files::{Stamp, stamp, write_private};
use super::not_believed;

/// Passwords that are looked at at once. Each takes 19 MiB and some tens of milliseconds of a processor.
const AT_ONCE: usize = 2;
/// How many wait for their turn; a further one is to come again.
const WAITING_MAX: usize = 32;
/// How long a password that was right is known to be, so that each request of a client doesn't cost as much.
const REMEMBERED: Duration = Duration::from_secs(300);
/// How many of them.
const REMEMBERED_MAX: usize = 1000;
/// A longer password is none.
const PASSWORD_LENGTH_MAX_BYTES: usize = 1024;
/// Memory for a hash that a file names, in KiB, and passes over it: more would let a file take the server's memory.
const COST_MAX: (u32, u32) = (256 * 1024, 16);

/// A user, as a line of the file has them: `NAME:ROLE,ROLE:HASH`.
#[derive(Clone)]
pub struct User {
    /// What the user is called; without a colon, as with HTTP (RFC 7617 2).
    pub name: String,
    /// The roles that they have.
    pub roles: Vec<String>,
    /// Their password as Argon2id makes it, in the PHC string format: `$argon2id$v=19$m=19456,t=2,p=1$…`.
    pub hash: String,
}

/// The hash is a secret too.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .field("roles", &self.roles)
            .finish_non_exhaustive()
    }
}

/// As a line of the file.
impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.name, self.roles.join(","), self.hash)
    }
}

impl FromStr for User {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self> {
        let mut parts = line.splitn(3, ':').map(str::trim);
        let (Some(name), Some(roles), Some(hash)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(invalid("a line is NAME:ROLE,ROLE:HASH"));
        };
        let roles = roles.split(',').map(str::trim).filter(|role| !role.is_empty());
        let user = Self {
            name: name.to_owned(),
            roles: roles.map(str::to_owned).collect(),
            hash: hash.to_owned(),
        };
        user.check()?;
        Ok(user)
    }
}

impl User {
    /// A user with this password.
    ///
    /// # Errors
    /// `Invalid` when the name or a role can't be one, or the password is empty or longer than 1,024 bytes.
    pub fn new(name: &str, roles: Vec<String>, password: &[u8]) -> Result<Self> {
        if password.is_empty() || password.len() > PASSWORD_LENGTH_MAX_BYTES {
            return Err(invalid("a password has 1 to 1024 bytes"));
        }
        let salt = SaltString::generate(&mut OsRng);
        let hash = Argon2::default().hash_password(password, &salt);
        let hash =
            hash.map_err(|error| invalid("the password can't be hashed").with_source(error.to_string()))?;
        let user = Self {
            name: name.to_owned(),
            roles,
            hash: hash.to_string(),
        };
        user.check()?;
        Ok(user)
    }

    fn check(&self) -> Result<()> {
        let is_name = |text: &str| {
            let is_plain = |c: char| !c.is_control() && !matches!(c, ':' | ',');
            !text.is_empty() && text.len() <= 255 && text.trim() == text && text.chars().all(is_plain)
        };
        if !is_name(&self.name) || self.name.starts_with('#') {
            return Err(invalid(
                "a user's name has 1 to 255 bytes, no colon, no comma, and no blank or # in front",
            ));
        }
        if !self.roles.iter().all(|role| is_name(role)) {
            return Err(invalid("a role's name has no colon and no comma"));
        }
        let hash = PasswordHash::new(&self.hash)
            .ok()
            .filter(|hash| hash.algorithm.as_str() == "argon2id");
        let params = hash.and_then(|hash| Params::try_from(&hash).ok());
        let params = params.ok_or_else(|| invalid("the password is no hash of argon2id"))?;
        if params.m_cost() > COST_MAX.0 || params.t_cost() > COST_MAX.1 {
            return Err(invalid("looking at the password would cost too much"));
        }
        Ok(())
    }
}

/// The users of a file, which is read again when it has changed.
pub struct Users {
    file: PathBuf,
    kept: Mutex<Kept>,
    looking: Semaphore,
    waiting: Semaphore,
    /// Under which passwords are remembered: in this process alone.
    secret: [u8; 32],
}

struct Kept {
    stamp: Stamp,
    users: Arc<HashMap<String, User>>,
    /// Passwords that were right, and since when that is known.
    right: HashMap<[u8; 32], Instant>,
}

impl Users {
    /// Those of a file.
    ///
    /// # Errors
    /// `Io` or `Invalid`, with the file's name, when it can't be read.
    pub fn open(file: &Path) -> Result<Self> {
        let stamp = stamp(file);
        let users = Arc::new(by_name(file)?);
        let mut secret = [0; 32];
        OsRng.fill_bytes(&mut secret);
        Ok(Self {
            file: file.to_owned(),
            kept: Mutex::new(Kept {
                stamp,
                users,
                right: HashMap::new(),
            }),
            looking: Semaphore::new(AT_ONCE),
            waiting: Semaphore::new(WAITING_MAX),
            secret,
        })
    }

    /// Whether there is any user.
    pub fn is_empty(&self) -> bool {
        self.now().is_empty()
    }

    /// The roles that its users have, for who checks them.
    pub fn roles(&self) -> Vec<String> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let roles = kept.users.values().flat_map(|user| user.roles.iter().cloned());
        roles.collect()
    }

    /// Who this is.
    ///
    /// # Errors
    /// `Refused` when there is no such user, or the password is another one.
    pub(super) async fn password(&self, name: &str, password: &[u8]) -> Result<Arc<Identity>> {
        let wrong = || not_believed("the name or the password is wrong");
        if password.len() > PASSWORD_LENGTH_MAX_BYTES {
            return Err(wrong());
        }
        let Ok(_waiting) = self.waiting.try_acquire() else {
            let why = "too many passwords are being looked at: try again later";
            return Err(not_believed(why).with_retry(Retry::Later));
        };
        // Closed never.
        let Ok(_looking) = self.looking.acquire().await else {
            return Err(wrong());
        };
        let user = self.now().get(name).cloned();
        let hash = user
            .as_ref()
            .map_or_else(|| nobodys().to_owned(), |user| user.hash.clone());
        let mark = self.mark(name, password, &hash);
        let password = password.to_vec();
        let looked = tokio::task::spawn_blocking(move || is_right(&hash, &password)).await;
        // As long for somebody who isn't there.
        let user = user.filter(|_| looked.unwrap_or(false)).ok_or_else(wrong)?;
        self.remember(mark);
        Ok(identity(user))
    }

    /// Who this is, where it was known lately.
    pub(super) fn remembered(&self, name: &str, password: &[u8]) -> Option<Arc<Identity>> {
        let user = self.now().get(name).cloned()?;
        let mark = self.mark(name, password, &user.hash);
        self.is_remembered(&mark).then(|| identity(user))
    }

    /// As the file is now.
    fn now(&self) -> Arc<HashMap<String, User>> {
        let now = stamp(&self.file);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if now != kept.stamp {
            kept.stamp = now;
            kept.right.clear();
            match by_name(&self.file) {
                Ok(users) => {
                    tracing::info!(users = users.len(), "the file of users has changed");
                    kept.users = Arc::new(users);
                }
                Err(error) => {
                    tracing::error!(%error, "the file of users has changed and can't be used: those of before stay");
                }
            }
        }
        Arc::clone(&kept.users)
    }

    /// By what a password that was right is known again, as long as it is the user's.
    fn mark(&self, name: &str, password: &[u8], hash: &str) -> [u8; 32] {
        let Ok(mut mark) = <Hmac<Sha256>>::new_from_slice(&self.secret) else {
            // A key of any length is one.
            return [0; 32];
        };
        for part in [name.as_bytes(), hash.as_bytes(), password] {
            mark.update(&(part.len() as u64).to_le_bytes());
            mark.update(part);
        }
        mark.finalize().into_bytes().into()
    }

    fn is_remembered(&self, mark: &[u8; 32]) -> bool {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let since = kept.right.get(mark);
        since.is_some_and(|since| since.elapsed() < REMEMBERED)
    }

    fn remember(&self, mark: [u8; 32]) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.right.len() >= REMEMBERED_MAX {
            kept.right.retain(|_, since| since.elapsed() < REMEMBERED);
            if kept.right.len() >= REMEMBERED_MAX {
                kept.right.clear();
            }
        }
        kept.right.insert(mark, Instant::now());
    }

    /// The users that a file has, in its order; none where there is no file.
    ///
    /// # Errors
    /// `Io` or `Invalid`, with the file's name and the number of the line, when it can't be read.
    pub fn list(file: &Path) -> Result<Vec<User>> {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                return Err(Error::io(
                    OPERATION,
                    format!("{} can't be read", file.display()),
                    error,
                ));
            }
        };
        let mut users: Vec<User> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let at = |error: &Error| {
                let why = format!("{}, line {}: {}", file.display(), number + 1, error.context());
                Error::new(ErrorKind::Invalid, OPERATION, why)
            };
            let user: User = line.parse().map_err(|error| at(&error))?;
            if users.iter().any(|known| known.name == user.name) {
                return Err(at(&invalid("a user of this name is there already")));
            }
            users.push(user);
        }
        Ok(users)
    }

    /// Writes a file with these users, which is its owner's alone, in place of what is there.
    ///
    /// # Errors
    /// `Io` when it can't be written.
    pub fn write(file: &Path, users: &[User]) -> Result<()> {
        let text: String = users.iter().map(|user| format!("{user}\n")).collect();
        write_private(file, text.as_bytes())
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Users").field(&self.file).finish()
    }
}

const OPERATION: &str = "identity.users";

fn invalid(why: &'static str) -> Error {
    Error::new(ErrorKind::Invalid, OPERATION, why)
}

fn by_name(file: &Path) -> Result<HashMap<String, User>> {
    let users = Users::list(file)?.into_iter();
    Ok(users.map(|user| (user.name.clone(), user)).collect())
}

fn identity(user: User) -> Arc<Identity> {
    Arc::new(Identity {
        name: user.name,
        roles: user.roles,
        ..Identity::default()
    })
}

/// What is looked at in place of the hash of a user who isn't there.
fn nobodys() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| {
        let user = User::new("nobody", Vec::new(), b"nobody");
        user.map(|user| user.hash).unwrap_or_default()
    })
}

fn is_right(hash: &str, password: &[u8]) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, roles: &[&str], password: &str) -> User {
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        User::new(name, roles, password.as_bytes()).unwrap()
    }

    #[tokio::test]
    async fn a_user_is_believed_by_their_own_password_alone() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("users");
        let list = [
            user("anna", &["reader", "writer"], "secret"),
            user("berta", &[], "other"),
        ];
        Users::write(&file, &list).unwrap();
        let users = Users::open(&file).unwrap();
        let anna = users.password("anna", b"secret").await.unwrap();
        assert_eq!((anna.name.as_str(), anna.roles.len()), ("anna", 2));
        // Known from before, and still not by another's.
        assert!(users.remembered("anna", b"secret").is_some());
        assert!(
            users.remembered("anna", b"other").is_none() && users.remembered("berta", b"secret").is_none()
        );
        let long = vec![b'x'; PASSWORD_LENGTH_MAX_BYTES + 1];
        let mut whys = Vec::new();
        for (name, password) in [
            ("anna", &b"other"[..]),
            ("anna", b""),
            ("Anna", b"secret"),
            ("nobody", b"nobody"),
            ("anna", &long),
        ] {
            whys.push(users.password(name, password).await.unwrap_err().to_string());
        }
        whys.dedup();
        assert_eq!(whys.len(), 1, "{whys:?}");
    }

    #[tokio::test]
    async fn a_file_that_changes_counts_at_once_and_one_that_can_not_be_read_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("users");
        Users::write(&file, &[user("anna", &["reader"], "secret")]).unwrap();
        let users = Users::open(&file).unwrap();
        users.password("anna", b"secret").await.unwrap();
        fs::write(&file, "nonsense\n").unwrap();
        users.password("anna", b"secret").await.unwrap();
        Users::write(&file, &[user("anna", &["reader", "second"], "changed")]).unwrap();
        assert!(users.password("anna", b"secret").await.is_err());
        users.password("anna", b"changed").await.unwrap();
        Users::write(&file, &[]).unwrap();
        assert!(users.password("anna", b"changed").await.is_err());
    }

    #[test]
    fn a_line_that_is_no_user_is_named_by_its_number_and_not_shown() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("users");
        let good = user("anna", &["reader"], "secret");
        for (bad, why) in [
            ("anna", "NAME:ROLE,ROLE:HASH"),
            ("berta:reader:plain-text", "no hash"),
            (":reader:x", "name"),
            (&good.to_string(), "there already"),
            (
                "berta::$argon2id$v=19$m=9999999,t=2,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                "too much",
            ),
            (
                "berta::$argon2i$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                "no hash",
            ),
        ] {
            fs::write(&file, format!("# users\n\n{good}\n{bad}\n")).unwrap();
            let error = Users::open(&file).unwrap_err().to_string();
            assert!(error.contains("line 4") && error.contains(why), "{error}");
            assert!(!error.contains("plain-text") && !error.contains('$'), "{error}");
        }
        assert!(Users::list(&directory.path().join("none")).unwrap().is_empty());
        assert!(!format!("{good:?}").contains('$'));
    }

    #[test]
    fn who_is_written_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("users");
        let list = [
            user("Änne Müller", &["reader", "on call"], "a:b"),
            user("b", &[], "x"),
        ];
        Users::write(&file, &list).unwrap();
        let read = Users::list(&file).unwrap();
        let lines = |users: &[User]| users.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(lines(&read), lines(&list));
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(User::new("a:b", Vec::new(), b"x").is_err());
        assert!(User::new("a", Vec::new(), b"").is_err());
    }
}
