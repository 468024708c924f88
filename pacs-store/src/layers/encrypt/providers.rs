//! Providers whose keys are a list of lines: [`KeyFile`], [`KeyVariable`], [`KeyCommand`], [`KeyList`].
//!
//! A line is the name of a key and its 64 hexadecimal digits, with spaces between them. The first one is current, the
//! others are kept for what was written with them. Empty lines, and those that begin with `#`, say nothing.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use pacs_core::{Error, ErrorKind, Result, Retry};
use zeroize::Zeroizing;

use super::keys::{Key, KeyId, KeyProvider};

/// The longest list of keys: some 600 keys.
const LIST_LENGTH_MAX_BYTES: u64 = 64 * 1024;
/// How long a command may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is looked whether a command that said everything has ended.
const COMMAND_LOOK: Duration = Duration::from_millis(5);

/// Keys in memory, for programs that have them from elsewhere.
#[derive(Clone)]
pub struct KeyList(Vec<(KeyId, Key)>);

impl KeyList {
    /// The first one is current.
    pub fn new(keys: impl IntoIterator<Item = (KeyId, Key)>) -> Self {
        Self(keys.into_iter().collect())
    }

    /// Reads a list of lines.
    ///
    /// # Errors
    /// `Invalid` with the number of the line, when one is no key, or names one a second time.
    pub fn parse(text: &str) -> Result<Self> {
        let mut keys: Vec<(KeyId, Key)> = Vec::new();
        // An environment variable has its lines in one.
        for (number, line) in (1..).zip(text.split(['\n', ','])) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let refused = |why: &str| {
                // The line may be a key: it isn't shown.
                Error::new(ErrorKind::Invalid, "key.parse", format!("line {number}: {why}"))
            };
            let mut words = line.split_ascii_whitespace();
            let (Some(id), Some(key), None) = (words.next(), words.next(), words.next()) else {
                return Err(refused("not the name of a key and its 64 hexadecimal digits"));
            };
            let id = KeyId::parse(id).map_err(|error| refused(error.context()))?;
            let key = Key::from_hex(key).map_err(|error| refused(error.context()))?;
            if keys.iter().any(|(known, _)| *known == id) {
                return Err(refused("a key of this name stands before"));
            }
            keys.push((id, key));
        }
        Ok(Self(keys))
    }

    /// The names, the current one first.
    pub fn ids(&self) -> impl Iterator<Item = &KeyId> {
        self.0.iter().map(|(id, _)| id)
    }

    fn first(&self, of: &dyn fmt::Display) -> Result<(KeyId, Key)> {
        let first = self.0.first().cloned();
        first.ok_or_else(|| refused(format!("there is no key in {of}")))
    }

    fn find(&self, id: &KeyId) -> Option<Key> {
        let found = self.0.iter().find(|(known, _)| known == id);
        found.map(|(_, key)| key.clone())
    }
}

impl fmt::Debug for KeyList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

#[deny(clippy::missing_trait_methods)]
impl KeyProvider for KeyList {
    fn current(&self) -> Result<(KeyId, Key)> {
        self.first(&"the list")
    }

    fn key(&self, id: &KeyId) -> Result<Option<Key>> {
        Ok(self.find(id))
    }
}

fn refused(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Refused, "key.ask", why).with_retry(Retry::Later)
}

/// Says of where a list that can't be read comes. `Refused`, whatever it was: what is kept is not at fault.
fn list(of: &dyn fmt::Display, text: Result<Zeroizing<String>>) -> Result<KeyList> {
    text.and_then(|text| KeyList::parse(&text))
        .map_err(|error| refused(format!("{of}: {error}")))
}

fn text(bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<String>> {
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(Error::new(ErrorKind::Invalid, "key.parse", "it is not text")),
    }
}

/// At most as much as a list may be long.
fn read_list(from: impl io::Read) -> Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(LIST_LENGTH_MAX_BYTES as usize + 1));
    from.take(LIST_LENGTH_MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::io("key.ask", "it can't be read", error))?;
    if bytes.len() as u64 > LIST_LENGTH_MAX_BYTES {
        let why = "it is longer than a list of keys may be";
        return Err(Error::new(ErrorKind::Invalid, "key.parse", why));
    }
    Ok(bytes)
}

/// Keys in a file, which is read each time that it is asked for one. It must be its owner's alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    path: PathBuf,
}

impl KeyFile {
    /// The file at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Puts a new key before the others, and makes the file where there is none. What is written from the next opening
    /// on is written with it. Gives its name.
    ///
    /// - Broken off at any instant, the file is what it was or what it is to be.
    ///
    /// # Errors
    /// `Refused` when the file is no list of keys or not its owner's alone, `Io` when it can't be written.
    pub fn add(&self) -> Result<KeyId> {
        let failed = |error| {
            let what = format!("{} can't be written", self.path.display());
            Error::io("key.add", what, error)
        };
        // Where a link leads, the file is.
        let path = match fs::canonicalize(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.path.clone(),
            path => path.map_err(failed)?,
        };
        let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
        let directory = fs::File::open(directory.unwrap_or(Path::new("."))).map_err(failed)?;
        // One at a time, so that none leaves out another's key. The lock goes with the handle.
        rustix::fs::flock(&directory, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|error| failed(error.into()))?;
        let (before, owner) = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Zeroizing::new(String::new()), None),
            found => {
                let found = found.map_err(failed)?;
                let text = self.text().map_err(|error| self.refused(&error))?;
                (text, Some((found.uid(), found.gid())))
            }
        };
        let known = KeyList::parse(&before).map_err(|error| self.refused(&error))?;
        let mut ids = (1..).map(|number| KeyId::parse(&format!("key-{number}")));
        let id = ids.find(|id| id.as_ref().is_ok_and(|id| known.find(id).is_none()));
        // The names don't come to an end.
        let id = id.unwrap_or_else(|| KeyId::parse("key"))?;
        let hex = Key::random()?.to_hex();
        // One that was left is in the way.
        let mut new_path = path.clone().into_os_string();
        new_path.push(".new");
        let new_path = PathBuf::from(new_path);
        match fs::remove_file(&new_path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let mut new = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new_path)
            .map_err(failed)?;
        // Who reads it may be another than who makes the key.
        if let Some((user, group)) = owner {
            std::os::unix::fs::fchown(&new, Some(user), Some(group)).map_err(failed)?;
        }
        let written = [id.as_str(), " ", &hex, "\n", &before]
            .iter()
            .try_for_each(|part| new.write_all(part.as_bytes()))
            .and_then(|()| new.sync_all())
            .and_then(|()| fs::rename(&new_path, &path));
        written.map_err(failed)?;
        directory.sync_all().map_err(failed)?;
        Ok(id)
    }

    fn text(&self) -> Result<Zeroizing<String>> {
        let failed = |error| Error::io("key.ask", "it can't be read", error);
        let file = fs::File::open(&self.path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode();
        if mode & 0o077 != 0 {
            let why = format!(
                "it is not its owner's alone: its mode is {:03o}, make it 600",
                mode & 0o777
            );
            return Err(Error::new(ErrorKind::Refused, "key.ask", why));
        }
        text(read_list(file)?)
    }

    fn refused(&self, error: &Error) -> Error {
        refused(format!("the key file {}: {error}", self.path.display()))
    }

    fn list(&self) -> Result<KeyList> {
        list(&self, self.text())
    }
}

impl fmt::Display for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the key file {}", self.path.display())
    }
}

#[deny(clippy::missing_trait_methods)]
impl KeyProvider for KeyFile {
    fn current(&self) -> Result<(KeyId, Key)> {
        self.list()?.first(self)
    }

    fn key(&self, id: &KeyId) -> Result<Option<Key>> {
        Ok(self.list()?.find(id))
    }
}

/// Keys in a variable of the environment; commas stand for line ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyVariable {
    name: OsString,
}

impl KeyVariable {
    /// The variable of this name.
    pub fn new(name: impl Into<OsString>) -> Self {
        Self { name: name.into() }
    }

    fn list(&self) -> Result<KeyList> {
        let value = std::env::var_os(&self.name).ok_or_else(|| {
            let why = "it is not set";
            Error::new(ErrorKind::Refused, "key.ask", why)
        });
        list(
            &self,
            value.and_then(|value| text(Zeroizing::new(value.into_encoded_bytes()))),
        )
    }
}

impl fmt::Display for KeyVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the environment variable {}", self.name.to_string_lossy())
    }
}

#[deny(clippy::missing_trait_methods)]
impl KeyProvider for KeyVariable {
    fn current(&self) -> Result<(KeyId, Key)> {
        self.list()?.first(self)
    }

    fn key(&self, id: &KeyId) -> Result<Option<Key>> {
        Ok(self.list()?.find(id))
    }
}

/// Keys from what a command writes on its standard output: of a key service, of a hardware module. It is run without
/// a shell, each time that it is asked for a key, and killed after 30 seconds.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyCommand {
    program: OsString,
    arguments: Vec<OsString>,
    timeout: Duration,
}

impl KeyCommand {
    /// This program, with these arguments.
    pub fn new(
        program: impl Into<OsString>,
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Self {
        Self {
            program: program.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            timeout: COMMAND_TIMEOUT,
        }
    }

    /// Kills it after this time instead.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn list(&self) -> Result<KeyList> {
        list(&self, self.output().and_then(text))
    }

    fn output(&self) -> Result<Zeroizing<Vec<u8>>> {
        let failed = |error| Error::io("key.ask", "it can't be run", error);
        let until = Instant::now() + self.timeout;
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let output = self.read(&mut child, until);
        let ended = match output {
            Ok(_) => self.ended(&mut child, until),
            Err(_) => Ok(()),
        };
        // It has ended, or is not waited for any more.
        let _ = child.kill();
        let _ = child.wait();
        ended.and(output)
    }

    fn read(&self, child: &mut Child, until: Instant) -> Result<Zeroizing<Vec<u8>>> {
        let Some(stdout) = child.stdout.take() else {
            return Err(Error::new(
                ErrorKind::Internal,
                "key.ask",
                "it has no standard output",
            ));
        };
        let (sender, receiver) = mpsc::sync_channel(1);
        // Ends with the command's standard output, which may be held by what it began.
        thread::Builder::new()
            .name("key-command".to_owned())
            .spawn(move || {
                let _ = sender.send(read_list(stdout));
            })
            .map_err(|error| Error::io("key.ask", "it can't be read", error))?;
        let left = until.saturating_duration_since(Instant::now());
        receiver.recv_timeout(left).map_err(|_| self.late())?
    }

    fn ended(&self, child: &mut Child, until: Instant) -> Result<()> {
        loop {
            let ended = child
                .try_wait()
                .map_err(|error| Error::io("key.ask", "it can't be waited for", error))?;
            match ended {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    let why = format!("it failed: {status}");
                    return Err(Error::new(ErrorKind::Refused, "key.ask", why));
                }
                None if Instant::now() >= until => return Err(self.late()),
                None => thread::sleep(COMMAND_LOOK),
            }
        }
    }

    fn late(&self) -> Error {
        let why = format!("it did not end within {:?}", self.timeout);
        Error::new(ErrorKind::TimedOut, "key.ask", why)
    }
}

/// Arguments may be secrets: they are not shown.
impl fmt::Debug for KeyCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyCommand({self})")
    }
}

impl fmt::Display for KeyCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the key command {}", self.program.to_string_lossy())
    }
}

#[deny(clippy::missing_trait_methods)]
impl KeyProvider for KeyCommand {
    fn current(&self) -> Result<(KeyId, Key)> {
        self.list()?.first(self)
    }

    fn key(&self, id: &KeyId) -> Result<Option<Key>> {
        Ok(self.list()?.find(id))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn line(id: &str, digit: char) -> String {
        format!("{id} {}", digit.to_string().repeat(64))
    }

    fn id(text: &str) -> KeyId {
        KeyId::parse(text).expect("a name")
    }

    #[test]
    fn the_first_line_is_current_and_the_others_are_kept() {
        let text = format!("# new\n{}\n\n  {}\r\n", line("b", '1'), line("a", '2'));
        let keys = KeyList::parse(&text).expect("a list");
        assert_eq!(keys.current().expect("a key").0, id("b"));
        assert!(keys.key(&id("a")).expect("is asked").is_some());
        assert!(keys.key(&id("c")).expect("is asked").is_none());
        assert_eq!(format!("{keys:?}"), "[KeyId(b), KeyId(a)]");
        let none = KeyList::parse("# none").expect("a list");
        assert_eq!(none.current().expect_err("none").kind(), ErrorKind::Refused);
    }

    #[test]
    fn a_line_that_is_no_key_is_named_by_its_number_and_not_shown() {
        let secret = "5ec7e7".repeat(10);
        for bad in [
            secret.clone(),
            format!("a {secret}"),
            format!("a {secret}abcd more"),
            format!("a:b {secret}abcd"),
            line("first", '2'),
        ] {
            let text = format!("{}\n{bad}", line("first", '1'));
            let error = KeyList::parse(&text).expect_err("is refused");
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().starts_with("line 2: "), "{error}");
            assert!(!format!("{error:?}").contains(&secret));
        }
    }

    #[test]
    fn keys_that_are_added_at_once_are_all_there_where_a_link_leads() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, link) = (directory.path().join("keys"), directory.path().join("link"));
        KeyFile::new(&path).add().expect("is added");
        std::os::unix::fs::symlink(&path, &link).expect("is linked");
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| KeyFile::new(&link).add().expect("is added"));
            }
        });
        assert!(fs::symlink_metadata(&link).expect("is there").is_symlink());
        let list = KeyFile::new(&path).list().expect("is read");
        assert_eq!(list.ids().count(), 9);
    }

    #[test]
    fn a_key_is_added_before_the_others_in_a_file_of_its_owner_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("keys");
        let file = KeyFile::new(&path);
        assert_eq!(file.current().expect_err("none").kind(), ErrorKind::Refused);
        let first = file.add().expect("is added");
        let second = file.add().expect("is added");
        assert_eq!((first.as_str(), second.as_str()), ("key-1", "key-2"));
        assert_eq!(file.current().expect("a key").0, second);
        assert!(file.key(&first).expect("is asked").is_some());
        let mode = fs::metadata(&path).expect("is there").mode();
        assert_eq!(mode & 0o777, 0o600);
        for mode in [0o640, 0o604, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("is set");
            let refused = file.current().expect_err("is refused");
            assert_eq!(refused.kind(), ErrorKind::Refused);
            assert!(refused.to_string().contains("make it 600"), "{refused}");
            assert!(file.add().is_err());
        }
    }

    #[test]
    fn what_is_no_list_of_keys_is_not_overwritten() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("keys");
        fs::write(&path, "something else").expect("is written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("is set");
        let refused = KeyFile::new(&path).add().expect_err("is refused");
        assert_eq!(refused.kind(), ErrorKind::Refused);
        assert_eq!(fs::read(&path).expect("is read"), b"something else");
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let error = KeyVariable::new("PACS_TEST_NO_SUCH_KEYS")
            .current()
            .expect_err("none");
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(
            error
                .to_string()
                .contains("PACS_TEST_NO_SUCH_KEYS: it is not set")
        );
        let lines = format!("{},{}", line("b", '1'), line("a", '2'));
        assert_eq!(KeyList::parse(&lines).expect("a list").ids().count(), 2);
    }

    #[test]
    fn a_command_gives_keys_and_is_told_when_it_fails_or_does_not_end() {
        let shell = |script: &str| KeyCommand::new("sh", ["-c", script]);
        let good = shell(&format!("echo '{}'; echo '{}'", line("b", '1'), line("a", '2')));
        assert_eq!(good.current().expect("a key").0, id("b"));
        assert!(good.key(&id("a")).expect("is asked").is_some());
        let secret = "0123456789abcdef".repeat(4);
        let bad = [
            shell(&format!("echo 'b {secret}'; exit 3")),
            shell("cat /dev/zero"),
            KeyCommand::new("/no/such/program", [""; 0]),
            shell("exec sleep 1000").timeout(Duration::from_millis(50)),
            shell("exec >&-; exec sleep 1000").timeout(Duration::from_millis(50)),
            // The standard output is held open by what it leaves.
            shell("sleep 2 & exit 0").timeout(Duration::from_millis(50)),
        ];
        for command in bad {
            let error = command.current().expect_err("is told");
            assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
            assert!(error.to_string().starts_with("the key command "), "{error}");
            assert!(!format!("{error:?} {command:?}").contains(&secret));
        }
    }
}
