//! The other servers that are asked: DCMTK's dcmqrscp and Orthanc.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::clients::Asked;
use crate::common::{Peer, dcmtk, free_port, peer};

/// A server of another implementation, on an empty directory.
pub(crate) struct OtherServer {
    pub(crate) name: &'static str,
    port: u16,
    _process: Peer,
}

/// What both are called.
const TITLE: &str = "OTHER";

impl OtherServer {
    pub(crate) fn asked(&self) -> Asked<'static> {
        Asked {
            port: self.port,
            title: TITLE,
        }
    }

    pub(crate) fn dcmqrscp(room: &Path) -> Self {
        let (port, data) = (free_port(), empty(room, "dcmqrscp"));
        let configuration = room.join("dcmqrscp.cfg");
        let text = format!(
            "MaxPDUSize = 131072\nMaxAssociations = 16\nHostTable BEGIN\nHostTable END\n\
             VendorTable BEGIN\nVendorTable END\n\
             AETable BEGIN\n{TITLE} {} RW (500, 1024mb) ANY\nAETable END\n",
            data.display()
        );
        fs::write(&configuration, text).expect("is written");
        let mut dcmqrscp = dcmtk("dcmqrscp");
        dcmqrscp.arg("--config").arg(configuration).arg(port.to_string());
        Self::start("dcmqrscp", dcmqrscp, port)
    }

    /// `None` when it isn't installed.
    pub(crate) fn orthanc(room: &Path) -> Option<Self> {
        let mut orthanc = peer("Orthanc")?;
        let (port, data) = (free_port(), empty(room, "orthanc"));
        let configuration = room.join("orthanc.json");
        let text = serde_json::json!({
            "StorageDirectory": &data, "IndexDirectory": &data, "Plugins": [],
            "DicomAet": TITLE, "DicomPort": port, "HttpServerEnabled": false,
            "DicomAlwaysAllowFind": true,
        });
        fs::write(&configuration, text.to_string()).expect("is written");
        orthanc.arg(configuration);
        Some(Self::start("Orthanc", orthanc, port))
    }

    fn start(name: &'static str, mut command: Command, port: u16) -> Self {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut process = Peer(child.expect("the server starts"));
        // Neither says when it listens.
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let ended = process.0.try_wait().expect("can be asked for its end");
            assert!(ended.is_none(), "{name} ended at its start: {ended:?}");
            std::thread::yield_now();
        }
        Self {
            name,
            port,
            _process: process,
        }
    }
}

fn empty(room: &Path, name: &str) -> PathBuf {
    let data = room.join(name);
    fs::create_dir(&data).expect("can be made");
    data
}
