//! The interpreter of the tests that hold this crate against pydicom.
// What is skipped is said in the output.
#![allow(clippy::print_stderr)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The interpreter that `PACS_PYDICOM_PYTHON` names, or that of the virtual environment which `PACS_PEERS_VENV` names or
/// which is `target/peers-venv`, where it has what is to be imported. Where it hasn't, that is said; with
/// `PACS_REQUIRE_PEERS` set it is a failure.
pub(crate) fn python_with(imports: &str) -> Option<PathBuf> {
    let named = std::env::var_os("PACS_PYDICOM_PYTHON").map(PathBuf::from);
    let venv = std::env::var_os("PACS_PEERS_VENV").map(|venv| Path::new(&venv).join("bin/python"));
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers-venv/bin/python");
    let python = named.or(venv).unwrap_or(target);
    let works = Command::new(&python)
        .args(["-c", &format!("import {imports}")])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !works {
        let why = format!(
            "{imports} are not to be had of {} (see .ci/peers)",
            python.display()
        );
        assert!(std::env::var_os("PACS_REQUIRE_PEERS").is_none(), "{why}");
        eprintln!("skipped: {why}");
    }
    works.then_some(python)
}
