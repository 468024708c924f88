//! A PostgreSQL server of the tests' own.
#![allow(dead_code, reason = "each test uses its part")]

#[path = "script.rs"]
mod script;

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use pacs_store::PostgresOptions;
use script::{Script, is_installed};

/// Makes a cluster and runs the server, then does what it is told. It says first where it is, and ends with whoever
/// started it, however that ends; its directory goes with it.
const SCRIPT: &str = r#"
set -e
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
"$1/initdb" -D "$home/data" -A trust -U postgres --no-sync >"$home/log"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE \
    -keyout "$home/key.pem" -out "$home/certificate.pem" 2>>"$home/log"
echo "$home"
run() {
    "$1/postgres" -D "$home/data" -p "$2" -k "$home" -c listen_addresses=127.0.0.1 -c fsync=off \
        -c ssl=on -c ssl_cert_file="$home/certificate.pem" -c ssl_key_file="$home/key.pem" \
        -c max_connections=200 >>"$home/log" 2>&1 &
    until "$1/pg_isready" -q -h 127.0.0.1 -p "$2" -d postgres -U postgres; do kill -0 $!; done
    echo ready
}
run "$1" "$2"
while read -r what; do
    case $what in
        start) run "$1" "$2" ;;
        stop) "$1/pg_ctl" -D "$home/data" -m immediate -w stop >/dev/null; echo stopped ;;
    esac
done
"$1/pg_ctl" -D "$home/data" -m immediate -w stop >/dev/null || true
"#;

pub(crate) struct Server {
    pub(crate) url: String,
    /// In PEM, for `localhost`; it is its own authority.
    pub(crate) certificate: PathBuf,
    script: Script,
    schemas: AtomicU64,
}

/// Where the newest PostgreSQL has its programs.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let programs = versions.map(|version| version.path().join("bin"));
    let there = programs
        .filter(|programs| programs.join("initdb").is_file())
        .max();
    is_installed("PostgreSQL", there.is_some());
    there
}

impl Server {
    /// The one that the tests of a program share; none, with a word about it, where it isn't installed.
    pub(crate) fn shared() -> Option<&'static Self> {
        static SHARED: LazyLock<Option<Server>> = LazyLock::new(Server::own);
        SHARED.as_ref()
    }

    /// One that may be stopped.
    pub(crate) fn own() -> Option<Self> {
        let programs = programs()?;
        // Free until somebody else takes it: the server takes it at once.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let port = port.expect("a port").port();
        let mut command = match rustix::process::geteuid().is_root() {
            // It does not run as root.
            true => {
                let mut command = Command::new("runuser");
                command.args(["-u", "postgres", "--", "sh"]);
                command
            }
            false => Command::new("sh"),
        };
        command
            .args(["-c", SCRIPT, "sh"])
            .arg(&programs)
            .arg(port.to_string());
        let script = Script::start(&mut command);
        let home = script.says();
        let server = Self {
            url: format!("postgresql://postgres@127.0.0.1:{port}/postgres"),
            certificate: PathBuf::from(home).join("certificate.pem"),
            script,
            schemas: AtomicU64::new(0),
        };
        assert_eq!(server.script.says(), "ready");
        Some(server)
    }

    /// An empty schema.
    pub(crate) fn schema(&self) -> PostgresOptions {
        let number = self.schemas.fetch_add(1, Ordering::Relaxed);
        let mut options = PostgresOptions::default();
        options.schema = format!("s{number}");
        options.connections = 4;
        // On a machine that has much to do it takes its time to come back.
        options.patience = std::time::Duration::from_secs(120);
        options
    }

    /// Does what these statements say, all or nothing.
    pub(crate) fn sql(&self, statements: &str) {
        let programs = programs().expect("it runs");
        let done = Command::new(programs.join("psql"))
            .args([
                "-q",
                "-1",
                "-v",
                "ON_ERROR_STOP=1",
                "-d",
                &self.url,
                "-c",
                statements,
            ])
            .stdout(Stdio::null())
            .status();
        assert!(done.expect("psql runs").success(), "{statements}");
    }

    /// Stops it as a death does.
    pub(crate) fn stop(&self) {
        self.script.ask("stop", "stopped");
    }

    pub(crate) fn start(&self) {
        self.script.ask("start", "ready");
    }
}
