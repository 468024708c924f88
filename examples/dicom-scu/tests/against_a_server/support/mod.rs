//! What the tests of the real client share: a server, files to send, and sending them.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use pacs_core::dataset::part10::{Meta, write_meta};
use pacs_core::testkit::engine::instance;
use pacs_core::{AeTitle, Ledger, Options, Pacs};
use pacs_net::scp::{Destination, Limits, ScpOptions, Server};
use pacs_store::{MemoryArchive, MemoryIndex, MemoryLedger};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// A server that ends with it.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    _stop: oneshot::Sender<()>,
    _runtime: Runtime,
}

pub(crate) fn server() -> Running {
    server_on(Arc::new(MemoryLedger::new()))
}

/// With this ledger.
pub(crate) fn server_on(ledger: Arc<dyn Ledger>) -> Running {
    server_of(ledger, Vec::new())
}

/// One that knows these.
pub(crate) fn server_with(destinations: Vec<Destination>) -> Running {
    server_of(Arc::new(MemoryLedger::new()), destinations)
}

fn server_of(ledger: Arc<dyn Ledger>, destinations: Vec<Destination>) -> Running {
    let runtime = Runtime::new().expect("a runtime");
    let (stop, stopped) = oneshot::channel::<()>();
    let server = runtime.block_on(async {
        let (archive, index) = (Arc::new(MemoryArchive::new()), Arc::new(MemoryIndex::new()));
        let engine = Options {
            ledger: Some(ledger),
            ..Options::default()
        };
        let pacs = Pacs::open(archive, index, engine).await.expect("opens");
        let title = AeTitle::parse("PACS").expect("PACS is an AE title");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let options = ScpOptions {
            destinations,
            ..ScpOptions::new(title)
        };
        Server::bind(any, pacs, options, Limits::default())
            .await
            .expect("a port can be had")
    });
    let address = server.address().expect("it has an address");
    let stopped = async {
        // An end without a word would mean the same: stop.
        let _ = stopped.await;
    };
    runtime.spawn(server.run(stopped, Duration::ZERO));
    Running {
        address,
        _stop: stop,
        _runtime: runtime,
    }
}

/// A Part 10 file with the `number`th instance, without its last `missing` bytes.
pub(crate) fn write_file(directory: &Path, number: u32, missing: usize) -> PathBuf {
    let (announced, data_set) = instance(1, 1, number, 0);
    let meta = write_meta(&Meta::new(
        announced.sop_class,
        announced.sop_instance,
        announced.transfer_syntax,
    ));
    let path = directory.join(format!("{number}.dcm"));
    let file = [meta, data_set.slice(..data_set.len() - missing)].concat();
    fs::write(&path, file).expect("is written");
    path
}

pub(crate) fn store(server: &Running, paths: &[&Path]) -> (Option<i32>, String) {
    run("store", server, paths)
}

pub(crate) fn run(command: &str, server: &Running, paths: &[&Path]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_dicom-scu"))
        .args([command, &server.address.to_string()])
        .args(paths)
        .output()
        .expect("dicom-scu starts");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}
