//! The pages that the server serves, in Chromium: its own one, and OHIF.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

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

#[test]
fn readers_share_the_reading_worklist_of_the_built_in_page() {
    let (Some(node), Some(files), Some(mut storescu)) = (browser(), pydicom_files(), peer("storescu")) else {
        return;
    };
    let directory = directory();
    let sent = phantom(&directory);
    for name in ["CT_small.dcm", "MR_small.dcm"] {
        std::fs::copy(files.join(name), sent.join(name)).expect("can be copied");
    }
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("can be written");
        path.to_str().expect("a temporary path is plain").to_owned()
    };
    let rule = |when: &str, priority: &str| {
        format!(
            "[[route]]\nname = \"{priority}\"\nwhen = {{ {when} }}\ntell = [\"READING\"]\npriority = \"{priority}\"\n"
        )
    };
    let routes = rule("PatientID = \"1CT1\"", "stat") + &rule("Modality = \"MR\"", "high");
    let server = Server::start(
        &directory.path().join("data"),
        &[
            "--config",
            &write("configuration.toml", "stable-after-seconds = 1\n"),
            "--routes",
            &write("routes.toml", &routes),
        ],
    );
    storescu.args(["-aec", "PACS", "+sd", "127.0.0.1", &server.port.to_string()]);
    storescu.arg(&sent);
    succeed(storescu);
    run_script(node, "reading.mjs", server, &directory);
}

/// Runs a script of `tests/web` in a browser, on a server that has pydicom's files and a phantom's.
fn drive(script: &str, settings: &str) {
    let (Some(node), Some(files)) = (browser(), pydicom_files()) else {
        return;
    };
    let directory = directory();
    let data = directory.path().join("data");
    let files = files.to_str().expect("a path of the environment is plain");
    // One at a time: some of the files share a UID, and of those the last one by name is whole.
    let (code, printed) = run(&data, &["import", "--workers", "1", files]);
    assert_eq!(code, 3, "DICOMDIRs and texts are refused:\n{printed}");
    let planes = phantom(&directory);
    let planes = planes.to_str().expect("a temporary path is plain");
    let (code, printed) = run(&data, &["import", planes]);
    assert_eq!(code, 0, "{printed}");
    let configuration = directory.path().join("configuration.toml");
    std::fs::write(&configuration, settings).expect("can be written");
    let configuration = configuration.to_str().expect("a temporary path is plain");
    let server = Server::start(&data, &["--config", configuration]);
    run_script(node, script, server, &directory);
}

/// What runs scripts in a browser, where all that they need is installed.
fn browser() -> Option<Command> {
    let driver = installed("tests/web", "playwright-core");
    let (node, ..) = (
        peer("node")?,
        peer("chromium")?,
        found_or_skipped(driver, "playwright-core")?,
    );
    Some(node)
}

/// Where phantom.py has written its studies.
fn phantom(directory: &TempDir) -> PathBuf {
    let planes = directory.path().join("phantom");
    let mut phantom = python().expect("its files were found before");
    phantom.arg(common::script("phantom.py")).arg(&planes);
    succeed(phantom);
    planes
}

/// Runs a script to its end, and stops the server. Its pictures are kept in PACS_SCREENSHOTS, where that is set.
fn run_script(node: Command, script: &str, server: Server, directory: &TempDir) {
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
