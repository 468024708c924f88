//! The servers that are compared, each started fresh on an empty directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::{Process, command, exists, free_port};

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Pacs,
    Storescp,
    Dcmqrscp,
    Orthanc,
}

impl Kind {
    pub(crate) const ALL: [Kind; 4] = [Kind::Pacs, Kind::Storescp, Kind::Dcmqrscp, Kind::Orthanc];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Pacs => "pacs-server",
            Kind::Storescp => "storescp",
            Kind::Dcmqrscp => "dcmqrscp",
            Kind::Orthanc => "Orthanc",
        }
    }

    /// Whether it can be started here.
    pub(crate) fn present(self) -> bool {
        match self {
            Kind::Pacs => own("pacs-server").is_ok(),
            Kind::Storescp | Kind::Dcmqrscp => exists(self.name()),
            Kind::Orthanc => orthanc().is_some(),
        }
    }
}

/// A program of this workspace, built beside this one.
pub(crate) fn own(name: &str) -> io::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("{name} is not built beside this program"),
        ))
    }
}

fn orthanc() -> Option<PathBuf> {
    // Debian keeps it where only root's PATH leads.
    let debian = PathBuf::from("/usr/sbin/Orthanc");
    if exists("Orthanc") {
        Some(PathBuf::from("Orthanc"))
    } else {
        debian.is_file().then_some(debian)
    }
}

/// The path of Orthanc's plugin for DICOMweb as a string of JSON, where Debian keeps it.
fn dicomweb_plugin() -> Option<String> {
    let path = PathBuf::from("/usr/share/orthanc/plugins/libOrthancDicomWeb.so");
    path.is_file().then(|| format!("{path:?}"))
}

/// A running server.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) port: u16,
    /// For HTTP; nobody listens there unless it was started for the web.
    pub(crate) http: u16,
    pub(crate) title: &'static str,
    pub(crate) process: Process,
    // Dropped after the process that writes into it.
    directory: TempDir,
}

/// The destination that every server knows for C-MOVE: a storescp that drops what it receives.
pub(crate) struct Destination {
    pub(crate) port: u16,
    _process: Process,
    _directory: TempDir,
}

/// AE title of the destination of C-MOVE.
pub(crate) const DESTINATION: &str = "DESTINATION";

/// The port of no destination.
const NOBODY: u16 = 9;

/// The largest maximum length that DCMTK takes (PS3.8 D.1); all servers are set to it.
pub(crate) const PDU: &str = "131072";

impl Destination {
    pub(crate) fn start(room: &Path) -> io::Result<Self> {
        let directory = TempDir::with_prefix_in("destination-", room)?;
        let port = free_port()?;
        let mut storescp = command("storescp");
        storescp
            .args(["--ignore", "--fork", "-pdu", PDU, "-aet", DESTINATION])
            .arg(port.to_string());
        storescp.current_dir(directory.path());
        let mut process = Process::start("storescp", storescp, &directory.path().join("log"))?;
        process.listens(port)?;
        Ok(Self {
            port,
            _process: process,
            _directory: directory,
        })
    }
}

impl Server {
    /// Starts a server of `kind` on an empty directory in `room`, and waits until it listens.
    pub(crate) fn start(kind: Kind, room: &Path, destination: u16) -> io::Result<Self> {
        Self::start_in(kind, room, destination, false)
    }

    /// The same, with DICOMweb under `/dicom-web`.
    pub(crate) fn start_web(kind: Kind, room: &Path) -> io::Result<Self> {
        let mut server = Self::start_in(kind, room, NOBODY, true)?;
        server.process.listens(server.http)?;
        Ok(server)
    }

    fn start_in(kind: Kind, room: &Path, destination: u16, web: bool) -> io::Result<Self> {
        let directory = TempDir::with_prefix_in(format!("{}-", kind.name()), room)?;
        fs::create_dir(directory.path().join("data"))?;
        let (port, http) = (free_port()?, free_port()?);
        let title = match kind {
            Kind::Dcmqrscp => "DCMQRSCP",
            _ => "BENCH",
        };
        let command = prepare(kind, directory.path(), (port, http, destination), title, web)?;
        let mut process = Process::start(kind.name(), command, &directory.path().join("log"))?;
        process.listens(port)?;
        Ok(Self {
            kind,
            port,
            http,
            title,
            process,
            directory,
        })
    }

    /// Ends it as a service manager does, and starts it anew, with DICOMweb, on what it keeps.
    pub(crate) fn start_again(&mut self) -> io::Result<()> {
        self.process.stop()?;
        let directory = self.directory.path();
        let ports = (self.port, self.http, NOBODY);
        let command = prepare(self.kind, directory, ports, self.title, true)?;
        self.process = Process::start(self.kind.name(), command, &directory.join("log"))?;
        self.process.listens(self.port)?;
        self.process.listens(self.http)
    }

    /// The number of instances that lie in its directory, where they lie there as files.
    pub(crate) fn files(&self) -> io::Result<Option<usize>> {
        match self.kind {
            Kind::Storescp | Kind::Dcmqrscp => {
                let count = fs::read_dir(self.directory.path().join("data"))?
                    .filter_map(Result::ok)
                    .filter(|entry| entry.file_name() != "index.dat")
                    .count();
                Ok(Some(count))
            }
            Kind::Pacs | Kind::Orthanc => Ok(None),
        }
    }

    /// What it printed.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

/// Writes the configuration of a server that keeps what it has in `directory`; answers how it is started.
fn prepare(
    kind: Kind,
    directory: &Path,
    (port, http, destination): (u16, u16, u16),
    title: &str,
    web: bool,
) -> io::Result<Command> {
    let data = directory.join("data");
    let configuration = directory.join("configuration");
    Ok(match kind {
        Kind::Pacs => {
            fs::write(
                &configuration,
                format!(
                    "[[peer]]\nae-title = \"{DESTINATION}\"\nhost = \"127.0.0.1\"\nport = {destination}\n\
                     [log]\nfilter = \"warn\"\n"
                ),
            )?;
            let mut pacs = command(own("pacs-server")?);
            pacs.arg("--config").arg(&configuration).arg("--data").arg(&data);
            pacs.args(["--ae-title", title, "--dicom-port"])
                .arg(port.to_string());
            pacs.arg("--http-port").arg(http.to_string());
            pacs
        }
        Kind::Storescp => {
            let mut storescp = command("storescp");
            storescp
                .args(["-aet", title, "+xa", "--fork", "-pdu", PDU, "-od"])
                .arg(&data);
            storescp.arg(port.to_string());
            storescp
        }
        Kind::Dcmqrscp => {
            fs::write(
                &configuration,
                format!(
                    "MaxPDUSize = {PDU}\nMaxAssociations = 64\n\
                     HostTable BEGIN\n{DESTINATION} = ({DESTINATION}, 127.0.0.1, {destination})\n\
                     HostTable END\n\
                     VendorTable BEGIN\nVendorTable END\n\
                     AETable BEGIN\n{title} {} RW (500, 100000mb) ANY\nAETable END\n",
                    data.display()
                ),
            )?;
            let mut dcmqrscp = command("dcmqrscp");
            dcmqrscp.arg("--config").arg(&configuration).arg(port.to_string());
            dcmqrscp
        }
        Kind::Orthanc => {
            // What is not named has Orthanc's default: SQLite, SyncStorageArea true, full metadata from
            // the files.
            let plugins = match web {
                true => dicomweb_plugin().ok_or(io::ErrorKind::NotFound)?,
                false => String::new(),
            };
            fs::write(
                &configuration,
                format!(
                    "{{\"StorageDirectory\": {data:?}, \"IndexDirectory\": {data:?}, \"Plugins\": [{plugins}],\n\
                     \"DicomAet\": \"{title}\", \"DicomPort\": {port}, \"HttpServerEnabled\": {web},\n\
                     \"HttpPort\": {http}, \"RemoteAccessAllowed\": false, \"AuthenticationEnabled\": false,\n\
                     \"MaximumPduLength\": {PDU}, \"DicomAlwaysAllowFind\": true,\n\
                     \"DicomAlwaysAllowGet\": true, \"DicomAlwaysAllowMove\": true,\n\
                     \"DicomModalities\": {{\"d\": [\"{DESTINATION}\", \"127.0.0.1\", {destination}]}}}}\n"
                ),
            )?;
            let mut server = command(orthanc().ok_or(io::ErrorKind::NotFound)?);
            server.arg(&configuration);
            server
        }
    })
}
