//! The pages that the server serves, in Chromium: its own one, and OHIF.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Server, directory, found_or_skipped, peer, pydicom_files, python, run, succeed, tell};

#[test]
fn the_built_in_page_finds_a_study_and_shows_it_with_and_without_a_mouse() {
    drive("page.mjs", "");
}

#[test]
fn ohif_opens_studies_of_each_kind_and_measures() {
    let dist = installed("../viewer", "@ohif/app/dist");
    let Some(dist) = found_or_skipped(dist, "OHIF") else {
        return;
    };
    drive("ohif.mjs", &format!("[web]\nohif-directory = {dist:?}\n"));
}

/// Runs a script of `tests/web` in a browser, on a server that has pydicom's files and a phantom's. Its pictures are kept in
/// PACS_SCREENSHOTS, where that is set.
fn drive(script: &str, settings: &str) {
    let driver = installed("tests/web", "playwright-core");
    let (Some(node), Some(_), Some(_), Some(files), Some(mut phantom)) = (
        peer("node"),
        peer("chromium"),
        found_or_skipped(driver, "playwright-core"),
        pydicom_files(),
        python(),
    ) else {
        return;
    };
    let directory = directory();
    let data = directory.path().join("data");
    let files = files.to_str().expect("a path of the environment is plain");
    // One at a time: some of the files share a UID, and of those the last one by name is whole.
    let (code, printed) = run(&data, &["import", "--workers", "1", files]);
    assert_eq!(code, 3, "DICOMDIRs and texts are refused:\n{printed}");
    let planes = directory.path().join("phantom");
    phantom.arg(common::script("phantom.py")).arg(&planes);
    succeed(phantom);
    let planes = planes.to_str().expect("a temporary path is plain");
    let (code, printed) = run(&data, &["import", planes]);
    assert_eq!(code, 0, "{printed}");
    let configuration = directory.path().join("configuration.toml");
    std::fs::write(&configuration, settings).expect("can be written");
    let configuration = configuration.to_str().expect("a temporary path is plain");
    let server = Server::start(&data, &["--config", configuration]);
    let pictures = match std::env::var_os("PACS_SCREENSHOTS") {
        Some(path) => PathBuf::from(path),
        None => directory.path().join("pictures"),
    };
    // A browser that hangs must not hang the tests.
    let mut bounded = Command::new("timeout");
    bounded.args(["--kill-after", "5", "300"]).arg(node.get_program());
    bounded.arg(manifest().join("tests/web").join(script));
    bounded.arg(&server.http).arg(&pictures).stdin(Stdio::null());
    tell(&succeed(bounded));
    assert!(server.stop().success());
}

/// What npm installed into a folder of this one.
fn installed(folder: &str, package: &str) -> Option<PathBuf> {
    let path = manifest().join(folder).join("node_modules").join(package);
    path.is_dir().then_some(path)
}

fn manifest() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
