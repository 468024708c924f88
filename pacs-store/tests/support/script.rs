//! A server that a script runs for the tests.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;

/// A script that runs. It ends when nobody tells it anything any more, however who started it ends.
pub(crate) struct Script(Mutex<(Child, BufReader<ChildStdout>)>);

impl Script {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut script = command
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let answers = BufReader::new(script.stdout.take().expect("is piped"));
        Self(Mutex::new((script, answers)))
    }

    /// The next line that it says.
    pub(crate) fn says(&self) -> String {
        let mut line = String::new();
        let mut script = self.0.lock().expect("nobody panicked");
        script.1.read_line(&mut line).expect("the shell runs");
        line.trim().to_owned()
    }

    /// Tells it something, and waits until it is done.
    pub(crate) fn ask(&self, what: &str, done: &str) {
        let mut script = self.0.lock().expect("nobody panicked");
        writeln!(script.0.stdin.as_mut().expect("is piped"), "{what}").expect("the shell runs");
        drop(script);
        assert_eq!(self.says(), done);
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        if let Ok(script) = self.0.get_mut() {
            drop(script.0.stdin.take());
            let _ = script.0.wait();
        }
    }
}

/// Whether something is installed. Where it isn't, nothing is tested, with a word about it; with `PACS_REQUIRE_PEERS` that is a
/// failure.
pub(crate) fn is_installed(what: &str, there: bool) -> bool {
    assert!(
        there || std::env::var_os("PACS_REQUIRE_PEERS").is_none(),
        "{what} is missing, and PACS_REQUIRE_PEERS is set; .ci/peers installs it"
    );
    if !there {
        #[allow(clippy::print_stderr, reason = "the test's output is where it belongs")]
        {
            eprintln!("skipped: {what} is not installed; .ci/peers installs it");
        }
    }
    there
}
