//! The real server as a child process.

use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use pacs_core::AeTitle;
use pacs_net::dimse::Status;
use pacs_net::scu::Remote;

use crate::web::Web;

/// A running pacs-server; killed when this is dropped, or when this process dies by whatever cause.
pub(crate) struct Server {
    child: Child,
    port: u16,
    /// Where it listens for HTTP: `127.0.0.1:8080`.
    http: String,
}

impl Server {
    /// Starts it on a data directory, with so much memory for the index's pages, or its default; answers it
    /// with the time from its start to its answer to a C-ECHO.
    pub(crate) async fn start(data: &Path, cache_mebibytes: Option<u32>) -> io::Result<(Self, Duration)> {
        let cache = cache_mebibytes.map(|most| format!("index-cache-mebibytes = {most}\n"));
        Self::start_with(data, &cache.unwrap_or_default(), "").await
    }

    /// Starts it on a data directory, with further lines of configuration, and these rules where there are some.
    pub(crate) async fn start_with(
        data: &Path,
        configuration: &str,
        routes: &str,
    ) -> io::Result<(Self, Duration)> {
        let program = std::env::current_exe()?.with_file_name("pacs-server");
        let file = data.with_extension("toml");
        let defaults = "[limits]\nassociations = 2000\n[log]\nfilter = \"warn\"\n";
        fs::write(&file, format!("{configuration}{defaults}"))?;
        let routes_file = data.with_extension("routes.toml");
        let mut rules = Vec::new();
        if !routes.is_empty() {
            fs::write(&routes_file, routes)?;
            rules = vec!["--routes".as_ref(), routes_file.as_os_str()];
        }
        let begin = Instant::now();
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .arg("--data")
            .arg(data)
            .arg("--config")
            .arg(file)
            .args(rules)
            .args(["--dicom-port", "0", "--http-port", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let (mut line, mut of_web) = (String::new(), String::new());
        if let Some(out) = child.stdout.take() {
            let mut out = BufReader::new(out);
            out.read_line(&mut line)?;
            if line.contains("listens for HL7 on ") {
                line.clear();
                out.read_line(&mut line)?;
            }
            out.read_line(&mut of_web)?;
        }
        let http = of_web
            .split_once("listens for HTTP on http://")
            .map(|(_, address)| address.trim().trim_end_matches('/').to_owned());
        let port = line
            .split_once("listens for DICOM on ")
            .and_then(|(_, rest)| rest.split_once(" as "))
            .and_then(|(address, _)| address.rsplit(':').next()?.parse().ok());
        let mut server = Self {
            child,
            port: 0,
            http: String::new(),
        };
        let says = || io::Error::other(format!("the server says {line:?} and {of_web:?}"));
        server.port = port.ok_or_else(says)?;
        server.http = http.ok_or_else(says)?;
        match server.remote().echo().await {
            Ok(Status::SUCCESS) => Ok((server, begin.elapsed())),
            Ok(status) => Err(io::Error::other(format!("C-ECHO is answered {status}"))),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// Where it is.
    pub(crate) fn remote(&self) -> Remote {
        let title = |text| AeTitle::parse(text).unwrap_or_else(|_| unreachable!("{text} is an AE title"));
        let mut remote = Remote::new("127.0.0.1", self.port, title("PACS"), title("LOAD"));
        // Some hundred may come at once.
        remote.timeouts.associate = Duration::from_secs(60);
        remote
    }

    /// Where its DICOMweb is.
    pub(crate) fn web(&self) -> Web {
        Web {
            address: self.http.clone(),
        }
    }

    /// The peak of its resident memory since the start or the last call, in bytes.
    pub(crate) fn peak_memory(&self) -> io::Result<u64> {
        let process = format!("/proc/{}", self.child.id());
        let status = fs::read_to_string(format!("{process}/status"))?;
        let kibibytes: Option<u64> = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|text| text.trim().split(' ').next()?.parse().ok());
        // 5: the peak begins anew (proc(5)).
        fs::write(format!("{process}/clear_refs"), "5")?;
        kibibytes
            .map(|kibibytes| kibibytes * 1024)
            .ok_or_else(|| io::Error::other("the kernel tells no peak"))
    }

    /// Ends it as a service manager does; answers how long that took.
    pub(crate) fn stop(mut self) -> io::Result<Duration> {
        let begin = Instant::now();
        let sent = Command::new("kill").arg(self.child.id().to_string()).status()?;
        let ended: ExitStatus = self.child.wait()?;
        if sent.success() && ended.success() {
            Ok(begin.elapsed())
        } else {
            Err(io::Error::other(format!("the server ended with {ended}")))
        }
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
