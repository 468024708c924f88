//! What `store` says of what became of each file, against a server on the network.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use pacs_core::dataset::part10::{Meta, write_meta};
use pacs_core::testkit::engine::instance;
use pacs_core::{AeTitle, Options, Pacs};
use pacs_net::scp::{Limits, ScpOptions, Server};
use pacs_store::{MemoryArchive, MemoryIndex};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// A server that ends with it.
struct Running {
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
    _runtime: Runtime,
}

fn server() -> Running {
    let runtime = Runtime::new().expect("a runtime");
    let (stop, stopped) = oneshot::channel::<()>();
    let server = runtime.block_on(async {
        let (archive, index) = (Arc::new(MemoryArchive::new()), Arc::new(MemoryIndex::new()));
        let pacs = Pacs::open(archive, index, Options::default())
            .await
            .expect("opens");
        let title = AeTitle::parse("PACS").expect("PACS is an AE title");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Server::bind(any, pacs, ScpOptions::new(title), Limits::default())
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
fn write_file(directory: &Path, number: u32, missing: usize) -> PathBuf {
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

fn store(server: &Running, paths: &[&Path]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_dicom-scu"))
        .args(["store", &server.address.to_string()])
        .args(paths)
        .output()
        .expect("dicom-scu starts");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

#[test]
fn a_file_that_is_stored_with_a_warning_is_named_with_status_and_comment() {
    let (server, directory) = (server(), tempfile::tempdir().expect("can be made"));
    let whole = write_file(directory.path(), 1, 0);
    let cut = write_file(directory.path(), 2, 7);
    let (code, said) = store(&server, &[&whole, &cut]);
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.starts_with("1 stored, 1 with a warning, 0 not stored\n"),
        "{said}"
    );
    let reason = "1 with a warning: B007H (Warning): truncated: ends inside an element at byte ";
    assert!(said.contains(reason), "{said}");
    assert!(said.contains(&format!("\n    {}\n", cut.display())), "{said}");
    assert!(!said.contains(&whole.display().to_string()), "{said}");
}

#[test]
fn a_path_that_does_not_exist_is_named_and_the_others_are_sent() {
    let (server, directory) = (server(), tempfile::tempdir().expect("can be made"));
    let (first, last) = (
        write_file(directory.path(), 1, 0),
        write_file(directory.path(), 2, 0),
    );
    let missing = directory.path().join("missing.dcm");
    let (code, said) = store(&server, &[&first, &missing, &last]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.starts_with("2 stored, 1 not stored\n"), "{said}");
    let reason = format!(
        "\n1 not stored: there is nothing at this path\n    {}\n",
        missing.display()
    );
    assert!(said.contains(&reason), "{said}");
}
