//! [`KeyCommand`]: keys that a program gives.

use std::ffi::OsString;
use std::fmt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use pacs_core::{Error, ErrorKind, Result};
use zeroize::Zeroizing;

use super::{Listed, read_list, text};

/// How long a command may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is looked whether a command that said everything has ended.
const COMMAND_LOOK: Duration = Duration::from_millis(5);

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

impl Listed for KeyCommand {
    fn text(&self) -> Result<Zeroizing<String>> {
        text(self.output()?)
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

#[cfg(test)]
mod tests {
    use super::super::super::keys::KeyProvider as _;
    use super::super::tests::{id, line};
    use super::*;

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
