//! The Rust crate dicom-web against the real server. It is a program of its own, as the other peers are: see
//! `tests/dicom-web/Cargo.toml` for the reason.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Server, directory, environment, found_or_skipped, pydicom_files, succeed, tell};

#[test]
fn the_rust_client_stores_searches_and_retrieves() {
    let (Some(mut client), Some(files)) = (client(), pydicom_files()) else {
        return;
    };
    let directory = directory();
    let server = Server::start(&directory.path().join("data"), &[]);
    client.arg(server.dicomweb());
    for file in [
        "CT_small.dcm",
        "MR_small.dcm",
        "JPEG2000.dcm",
        "SC_rgb_rle_2frame.dcm",
        "rtplan.dcm",
    ] {
        client.arg(files.join(file));
    }
    tell(&succeed(client));
    assert!(server.stop().success());
}

fn client() -> Option<Command> {
    let program: PathBuf = environment().join("bin/dicom-web-peer");
    let found = found_or_skipped(Path::is_file(&program).then_some(program), "dicom-web-peer")?;
    let mut command = Command::new(found);
    command.stdin(Stdio::null());
    Some(command)
}
