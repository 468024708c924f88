//! Another PACS: dcmqrscp of DCMTK, or Orthanc.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Peer, dcmtk, found_or_skipped, free_port, peer};

/// What it is called.
pub(crate) const TITLE: &str = "LEGACY";
/// How many titles dcmqrscp is called by.
pub(crate) const TITLES: u32 = 5;

/// One of them; the first is [`TITLE`].
pub(crate) fn title(number: u32) -> String {
    match number {
        0 => TITLE.to_owned(),
        number => format!("{TITLE}{number}"),
    }
}

/// Runs until it is dropped; started again in the same room it has what it had.
pub(crate) struct Old {
    pub(crate) port: u16,
    pub(crate) data: PathBuf,
    /// Where its DICOMweb service is, if it has one.
    pub(crate) web: Option<String>,
    _process: Peer,
}

impl Old {
    fn start(mut command: Command, port: u16, data: PathBuf) -> Self {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut process = Peer(child.expect("it starts"));
        // Neither says when it listens.
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let ended = process.0.try_wait().expect("can be asked for its end");
            assert!(ended.is_none(), "it ended at its start: {ended:?}");
            std::thread::yield_now();
        }
        Self {
            port,
            data,
            web: None,
            _process: process,
        }
    }

    /// DCMTK's, which knows PACS at `destination`. It is called by several titles, each of which keeps studies of its own: it
    /// ends where one has more than 500.
    pub(crate) fn dcmqrscp(room: &Path, port: u16, destination: u16) -> Option<Self> {
        peer("dcmqrscp")?;
        let data = room.join("source");
        fs::create_dir_all(&data).expect("can be made");
        let title = |number| {
            let title = title(number);
            let place = if number == 0 {
                data.clone()
            } else {
                room.join(&title)
            };
            fs::create_dir_all(&place).expect("can be made");
            format!("{title} {} RW (10000, 1024mb) ANY\n", place.display())
        };
        let titles: String = (0..TITLES).map(title).collect();
        let configuration = room.join("dcmqrscp.cfg");
        let text = format!(
            "MaxPDUSize = 131072\nMaxAssociations = 32\nHostTable BEGIN\n\
             pacs = (PACS, 127.0.0.1, {destination})\nHostTable END\nVendorTable BEGIN\nVendorTable END\n\
             AETable BEGIN\n{titles}AETable END\n"
        );
        fs::write(&configuration, text).expect("is written");
        let mut dcmqrscp = dcmtk("dcmqrscp");
        dcmqrscp.arg("--config").arg(configuration).arg(port.to_string());
        Some(Self::start(dcmqrscp, port, data))
    }

    /// It knows PACS at `destination`, and sends to it by another AE title than it is called by, as many do.
    pub(crate) fn orthanc(room: &Path, port: u16, destination: u16) -> Option<Self> {
        Self::orthanc_with(room, port, destination, None, 0)
    }

    /// It lists at most so many matches.
    pub(crate) fn orthanc_that_lists(most: u32, room: &Path, port: u16) -> Option<Self> {
        Self::orthanc_with(room, port, free_port(), None, most)
    }

    /// With its DICOMweb at `http`. It knows nobody.
    pub(crate) fn orthanc_web(room: &Path, port: u16, http: u16) -> Option<Self> {
        let places = ["/usr/share/orthanc/plugins", "/usr/lib/orthanc"].map(Path::new);
        let plugin = places.map(|place| place.join("libOrthancDicomWeb.so"));
        let plugin = plugin.into_iter().find(|path| path.is_file());
        let plugin = found_or_skipped(plugin, "Orthanc's DICOMweb plugin")?;
        let mut old = Self::orthanc_with(room, port, free_port(), Some((&plugin, http)), 0)?;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, http)).is_err() {
            std::thread::yield_now();
        }
        old.web = Some(format!("http://127.0.0.1:{http}/dicom-web"));
        Some(old)
    }

    fn orthanc_with(
        room: &Path,
        port: u16,
        destination: u16,
        web: Option<(&Path, u16)>,
        most: u32,
    ) -> Option<Self> {
        let mut orthanc = peer("Orthanc")?;
        let data = room.join("source");
        fs::create_dir_all(&data).expect("can be made");
        let configuration = room.join("orthanc.json");
        let plugins: Vec<_> = web.iter().map(|(plugin, _)| plugin).collect();
        let text = serde_json::json!({
            "StorageDirectory": &data, "IndexDirectory": &data, "Plugins": plugins,
            "DicomAet": TITLE, "DicomPort": port, "HttpServerEnabled": web.is_some(),
            "HttpPort": web.map_or(8042, |(_, port)| port), "AuthenticationEnabled": false,
            "DicomAlwaysAllowFind": true, "DicomAlwaysAllowGet": true, "DicomAlwaysAllowMove": true,
            "DicomModalities": {"pacs": {
                "AET": "PACS", "Host": "127.0.0.1", "Port": destination, "LocalAet": "LEGACYNODE",
            }},
            "SyncStorageArea": false, "StableAge": 60000, "LimitFindResults": most,
        });
        fs::write(&configuration, text.to_string()).expect("is written");
        orthanc.arg(configuration);
        Some(Self::start(orthanc, port, data))
    }
}
