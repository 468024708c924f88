//! rsyslog as an audit repository.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::{env, fs};

/// Takes messages on a port of this machine, and writes them as they came, one a line.
pub struct Rsyslog {
    directory: PathBuf,
    /// Where it listens.
    pub port: u16,
    child: Option<Child>,
    tail: Child,
    lines: BufReader<ChildStdout>,
}

/// By what it is reached.
#[derive(Clone, Copy, Debug)]
pub enum By<'a> {
    Udp,
    Tcp,
    /// With certificate, key and authorities of clients, as PEM files.
    Tls([&'a Path; 3]),
}

fn program() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let places = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = places
        .map(|place| place.join("rsyslogd"))
        .find(|path| path.is_file());
    if found.is_none() {
        let why = "rsyslogd is not installed; .ci/peers installs it";
        assert!(env::var_os("PACS_REQUIRE_PEERS").is_none(), "{why}");
        #[allow(clippy::print_stderr, reason = "the test's output is where it belongs")]
        {
            eprintln!("skipped: {why}");
        }
    }
    found
}

/// Lines of a file from its first on, and those that are to come: a program waits for them.
fn follow(messages: &Path) -> (Child, BufReader<ChildStdout>) {
    let mut tail = Command::new("tail")
        .args(["-n", "+1", "-f"])
        .arg(messages)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("tail starts");
    let lines = BufReader::new(tail.stdout.take().expect("its output is a pipe"));
    (tail, lines)
}

impl Rsyslog {
    /// In a directory, not yet running; none where it isn't installed.
    pub fn new(directory: &Path, by: By<'_>, port: u16) -> Option<Self> {
        program()?;
        let place = directory.display();
        let (driver, module) = match by {
            By::Udp => (String::new(), "module(load=\"imudp\")".to_owned()),
            By::Tcp => (String::new(), "module(load=\"imtcp\")".to_owned()),
            By::Tls([certificate, key, authorities]) => (
                format!(
                    "global(defaultNetstreamDriver=\"gtls\" defaultNetstreamDriverCertFile=\"{}\" \
                     defaultNetstreamDriverKeyFile=\"{}\" defaultNetstreamDriverCAFile=\"{}\")\n",
                    certificate.display(),
                    key.display(),
                    authorities.display()
                ),
                "module(load=\"imtcp\" streamDriver.name=\"gtls\" streamDriver.mode=\"1\" \
                 streamDriver.authMode=\"x509/certvalid\")"
                    .to_owned(),
            ),
        };
        let input = match by {
            By::Udp => "imudp",
            _ => "imtcp",
        };
        let configuration = format!(
            "global(workDirectory=\"{place}\" maxMessageSize=\"64k\")\n{driver}{module}\n\
             input(type=\"{input}\" address=\"127.0.0.1\" port=\"{port}\")\n\
             template(name=\"raw\" type=\"string\" string=\"%rawmsg%\\n\")\n\
             action(type=\"omfile\" file=\"{place}/messages\" template=\"raw\")\n"
        );
        fs::write(directory.join("rsyslog.conf"), configuration).expect("can be written");
        let messages = directory.join("messages");
        fs::write(&messages, "").expect("can be written");
        let (tail, lines) = follow(&messages);
        Some(Self {
            directory: directory.to_owned(),
            port,
            child: None,
            tail,
            lines,
        })
    }

    /// Starts it.
    pub fn start(&mut self) {
        let program = program().expect("it was there before");
        let child = Command::new(program)
            .args(["-n", "-C", "-i"])
            .arg(self.directory.join("rsyslogd.pid"))
            .arg("-f")
            .arg(self.directory.join("rsyslog.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.expect("rsyslogd starts"));
    }

    /// Lets it write what it has taken, and end.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        let kill = Command::new("kill").arg(child.id().to_string()).status();
        assert!(kill.expect("kill runs").success());
        child.wait().expect("its end can be waited for");
    }

    /// Begins again with the first message that was written.
    pub fn begin_again(&mut self) {
        let _ = self.tail.kill();
        let _ = self.tail.wait();
        (self.tail, self.lines) = follow(&self.directory.join("messages"));
    }

    /// Waits for the next message.
    pub fn next(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("it can be read");
        line.trim_end_matches('\n').to_owned()
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        for child in self.child.iter_mut().chain([&mut self.tail]) {
            // Fails only when it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
