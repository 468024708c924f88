//! The pages that the server serves, in Chromium: its own one, and OHIF.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Server, directory, found_or_skipped, peer, pydicom_files, run, succeed, tell};

#[test]
fn the_built_in_page_finds_a_study_and_shows_it_with_and_without_a_mouse() {
    drive("page.mjs");
}

#[test]
fn ohif_opens_studies_of_each_kind_and_measures() {
    drive("ohif.mjs");
}

/// Runs a script of `tests/web` in a browser, on a server that has pydicom's files. Its pictures are kept below
/// PACS_SCREENSHOTS, where that is set.
fn drive(script: &str) {
    let (Some(mut node), Some(chromium), Some(viewer), Some(files)) =
        (peer("node"), peer("chromium"), viewer(), pydicom_files())
    else {
        return;
    };
    drop(chromium);
    let directory = directory();
    let data = directory.path().join("data");
    let files = files.to_str().expect("a path of the environment is plain");
    let (code, printed) = run(&data, &["import", files]);
    assert_eq!(code, 3, "DICOMDIRs and texts are refused:\n{printed}");
    let server = Server::start(&data, &[]);
    let pictures = match std::env::var_os("PACS_SCREENSHOTS") {
        Some(path) => PathBuf::from(path),
        None => directory.path().join("pictures"),
    };
    std::fs::create_dir_all(&pictures).expect("can be made");
    node.arg(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/web")
            .join(script),
    );
    node.arg(&server.http).arg(&pictures).current_dir(viewer);
    tell(&succeed(bounded(&node)));
    assert!(server.stop().success());
}

/// The same, ended after five minutes: a browser that hangs must not hang the tests.
fn bounded(command: &Command) -> Command {
    let mut bounded = Command::new("timeout");
    bounded
        .args(["--kill-after", "5", "300"])
        .arg(command.get_program());
    bounded
        .args(command.get_args())
        .stdin(std::process::Stdio::null());
    if let Some(directory) = command.get_current_dir() {
        bounded.current_dir(directory);
    }
    bounded
}

/// Where npm put OHIF and what drives the browser.
fn viewer() -> Option<PathBuf> {
    let viewer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../viewer");
    let there = viewer.join("node_modules").is_dir();
    found_or_skipped(
        there.then_some(viewer),
        "what `npm ci --prefix examples/viewer` installs",
    )
}
