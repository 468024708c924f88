//! What the tests of the real server share: starting it, finding the peers.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod old;
#[path = "../../../../pacs-net/tests/support/port.rs"]
mod port;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) use port::free_port;

/// A configuration that allows clients to delete over DICOMweb.
pub(crate) const DELETE_ALLOWED: &str = "[web]\ndelete = true\n";

/// A running pacs-server on a data directory.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    /// Where it listens for HTTP, with the slash at the end.
    pub(crate) http: String,
}

impl Server {
    /// Starts it and waits for the two lines that say where it listens.
    pub(crate) fn start(data: &Path, extra: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pacs-server"))
            .arg("--data")
            .arg(data)
            .args(["--dicom-port", "0", "--http-port", "0"])
            .args(extra)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // The log: no test reads it, and the output of the tests is long enough.
            .stderr(Stdio::null())
            .spawn()
            .expect("pacs-server starts");
        let mut out = BufReader::new(child.stdout.take().expect("its standard output is a pipe"));
        let mut next = || {
            let mut line = String::new();
            out.read_line(&mut line).expect("its standard output can be read");
            line
        };
        let mut line = next();
        if line.contains("listens for HL7 on ") {
            line = next();
        }
        let address = line
            .split_once("listens for DICOM on ")
            .and_then(|(_, rest)| rest.split_once(" as "))
            .map(|(address, _)| address)
            .unwrap_or_else(|| panic!("the server says {line:?}"));
        let port = address
            .rsplit(':')
            .next()
            .and_then(|port| port.parse().ok())
            .expect("a port");
        let line = next();
        let http = line
            .split_once("listens for HTTP on ")
            .map(|(_, address)| address.trim().to_owned())
            .unwrap_or_else(|| panic!("the server says {line:?}"));
        Self { child, port, http }
    }

    /// The base of its DICOMweb services (PS3.18 8.2), without a slash at the end.
    pub(crate) fn dicomweb(&self) -> String {
        format!("{}dicom-web", self.http)
    }

    /// Whether it runs still.
    pub(crate) fn runs(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("a child can be asked after")
            .is_none()
    }

    /// The peak of its resident memory so far, in bytes.
    #[cfg(target_os = "linux")]
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("the kernel tells about a child");
        let kibibytes: Option<u64> = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|text| text.trim().split(' ').next()?.parse().ok());
        kibibytes.expect("the kernel tells the peak") * 1024
    }

    /// Has the peak begin anew (proc(5), `clear_refs`).
    #[cfg(target_os = "linux")]
    pub(crate) fn forget_peak_memory(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")
            .expect("the kernel forgets the peak");
    }

    /// Kills it as `kill -9` does.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("a running process can be killed");
        self.child.wait().expect("its end can be waited for");
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let kill = Command::new("kill").args(["-s", name, &id]).status();
        assert!(kill.expect("kill runs").success());
    }

    /// Asks it to stop, as a service manager does, and waits for its end.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        self.child.wait().expect("its end can be waited for")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a subcommand to its end; answers its exit code and what it printed.
pub(crate) fn run(data: &Path, arguments: &[&str]) -> (i32, String) {
    let (code, printed, _) = run_all(data, arguments);
    (code, printed)
}

/// Runs a subcommand to its end; answers its exit code, what it printed, and what it said on standard error.
pub(crate) fn run_all(data: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_pacs-server"))
        .arg("--data")
        .arg(data)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("pacs-server starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().expect("it ends by itself");
    (code, text(&output.stdout), text(&output.stderr))
}

/// Runs a subcommand that reads this, and says how it ended.
pub(crate) fn run_with_input(data: &Path, arguments: &[&str], input: &str) -> i32 {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pacs-server"))
        .arg("--data")
        .arg(data)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("pacs-server starts");
    // What it doesn't read it doesn't take.
    let _ = child
        .stdin
        .take()
        .expect("it listens")
        .write_all(input.as_bytes());
    let status = child.wait().expect("it ends");
    status.code().expect("it ends by itself")
}

/// Starts a subcommand that nobody listens to.
pub(crate) fn start(data: &Path, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_pacs-server"))
        .arg("--data")
        .arg(data)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("pacs-server starts")
}

/// The number before `what` in what `stats` or `import` printed; 0 when it isn't there.
pub(crate) fn count(printed: &str, what: &str) -> u64 {
    printed
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .find(|(_, rest)| *rest == what)
        .and_then(|(number, _)| number.parse().ok())
        .unwrap_or(0)
}

/// An empty directory.
pub(crate) fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory can be made")
}

/// A program of a peer. `None`, with a word about it, when it isn't installed; a failure instead where
/// `PACS_REQUIRE_PEERS` is set.
pub(crate) fn peer(program: &str) -> Option<Command> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file());
    found_or_skipped(found, program).map(|path| {
        let mut command = Command::new(path);
        // Without it an answer of DCMTK waits for a delayed acknowledgement.
        command.env("TCP_NODELAY", "1").stdin(Stdio::null());
        command
    })
}

/// One of DCMTK's programs, where another one was found before.
pub(crate) fn dcmtk(program: &str) -> Command {
    peer(program).expect("one of DCMTK's programs is there, so all are")
}

/// A child of the test that ends with it.
pub(crate) struct Peer(pub(crate) Child);

impl Peer {
    /// Waits until it is `ready`; one that has ended never will be.
    pub(crate) fn until(&mut self, mut ready: impl FnMut() -> bool) {
        while !ready() {
            let ended = self.0.try_wait().expect("can be asked");
            assert!(ended.is_none(), "a peer ended at its start: {ended:?}");
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where `.ci/peers` puts what is not of Debian's packages.
pub(crate) fn environment() -> PathBuf {
    match std::env::var_os("PACS_PEERS_VENV") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers-venv"),
    }
}

/// The interpreter of the environment with pynetdicom, pydicom and their files.
pub(crate) fn python() -> Option<Command> {
    let python = environment().join("bin/python");
    found_or_skipped(
        python.is_file().then_some(python),
        "the Python environment of .ci/peers",
    )
    .map(|path| {
        let mut command = Command::new(path);
        command.stdin(Stdio::null());
        command
    })
}

/// A configuration that knows DESTINATION at `port`.
fn configuration(directory: &TempDir, port: u16) -> PathBuf {
    let path = directory.path().join("configuration.toml");
    let mut file = std::fs::File::create(&path).expect("can be made");
    writeln!(
        file,
        "[[peer]]\nae-title = \"DESTINATION\"\nhost = \"127.0.0.1\"\nport = {port}"
    )
    .expect("is written");
    path
}

/// A server that knows DESTINATION at `destination`, with its data below `directory`.
pub(crate) fn start_with_destination(directory: &TempDir, destination: u16) -> Server {
    let configuration = configuration(directory, destination);
    let configuration = configuration.to_str().expect("a temporary path is plain");
    Server::start(&directory.path().join("data"), &["--config", configuration])
}

/// Where pydicom keeps its test files.
pub(crate) fn pydicom_files() -> Option<PathBuf> {
    let mut python = python()?;
    python.args([
        "-c",
        "import pathlib, pydicom; print(pathlib.Path(pydicom.__file__).parent / 'data' / 'test_files')",
    ]);
    Some(PathBuf::from(succeed(python).trim()))
}

/// What a script printed: one JSON object a line.
pub(crate) fn rows(printed: &str) -> Vec<Value> {
    printed
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).expect("a row is JSON"))
        .collect()
}

/// A script of `tests/python`.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/python")
        .join(name)
}

/// `None`, with a word about it, when a peer isn't installed; a failure instead where `PACS_REQUIRE_PEERS` is set.
pub(crate) fn found_or_skipped(found: Option<PathBuf>, what: &str) -> Option<PathBuf> {
    if found.is_none() {
        assert!(
            std::env::var_os("PACS_REQUIRE_PEERS").is_none(),
            "{what} is missing, and PACS_REQUIRE_PEERS is set; .ci/peers installs it"
        );
        tell(&format!(
            "skipped: {what} is not installed; .ci/peers installs it"
        ));
    }
    found
}

/// Says something in the test's output.
#[allow(clippy::print_stdout, reason = "the test's output is where it belongs")]
pub(crate) fn tell(text: &str) {
    println!("{text}");
}

/// Runs a peer to its end and answers what it printed; fails the test when the peer says that it failed.
pub(crate) fn succeed(mut command: Command) -> String {
    let output = command.output().expect("the peer starts");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success(),
        "{command:?} ended with {}:\n{text}",
        output.status
    );
    text
}
