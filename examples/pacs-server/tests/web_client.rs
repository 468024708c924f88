//! dicomweb-client, with every file of pydicom's and pydicom-data's packages, against the real server: every
//! operation that it has, held against what pydicom reads from the files. The table is in the tests' output.

mod common;

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use common::{DELETE_ALLOWED, Server, directory, python, rows, script, succeed, tell};

#[test]
fn what_is_stored_over_the_web_comes_back_byte_for_byte_and_every_search_finds_it() {
    let Some(table) = run("store,search", &[]) else {
        return;
    };
    table.at_least("store: one instance", 200);
    table.at_least("retrieve: the bytes that were stored", 200);
    for operation in [
        "store_instances",
        "search_for_studies",
        "search_for_series",
        "search_for_instances",
    ] {
        table.at_least(operation, 10);
    }
}

#[test]
fn instances_metadata_and_bulk_data_are_what_pydicom_reads_from_the_files() {
    let Some(table) = run("retrieve,metadata,bulkdata", &[]) else {
        return;
    };
    for operation in [
        "retrieve_study",
        "iter_study",
        "retrieve_series",
        "iter_series",
        "retrieve_study_metadata",
        "retrieve_series_metadata",
    ] {
        table.at_least(operation, 40);
    }
    for operation in [
        "retrieve_instance",
        "retrieve_instance, Explicit VR Little Endian",
        "retrieve_instance_metadata",
    ] {
        table.at_least(operation, 130);
    }
    table.at_least("retrieve_bulkdata", 5);
    table.at_least("iter_bulkdata", 5);
}

#[test]
fn frames_have_pydicoms_pixels_and_pictures_the_grey_levels_of_the_formulas() {
    let Some(table) = run("frames,rendered", &[]) else {
        return;
    };
    table.at_least("retrieve_instance_frames, application/octet-stream", 100);
    table.at_least("rendered: held against numpy", 100);
    table.at_least("thumbnail", 100);
}

#[test]
fn what_is_deleted_is_gone_and_the_rest_stays() {
    let Some(table) = run("delete", &[DELETE_ALLOWED]) else {
        return;
    };
    for operation in ["delete_instance", "delete_series", "delete_study"] {
        table.at_least(operation, 1);
    }
}

/// How each operation went.
struct Table(BTreeMap<String, BTreeMap<String, usize>>);

impl Table {
    fn at_least(&self, operation: &str, count: usize) {
        let ok = self.0.get(operation).and_then(|outcomes| outcomes.get("ok"));
        assert!(ok >= Some(&count), "{operation}: {ok:?} went well");
    }
}

/// Fills a new server and runs these groups of checks, of which none may fail. None when a peer is missing.
fn run(groups: &str, settings: &[&str]) -> Option<Table> {
    let mut python = python()?;
    let directory = directory();
    let configuration = directory.path().join("configuration.toml");
    fs::write(&configuration, settings.concat()).expect("can be written");
    let configuration = configuration.to_str().expect("a temporary path is plain");
    let server = Server::start(&directory.path().join("data"), &["--config", configuration]);
    python.arg(script("dicomweb.py"));
    python.args(["--only", groups]).arg(server.dicomweb());
    let rows = rows(&succeed(python));
    let table = table(&rows);
    let failed: Vec<String> = rows
        .iter()
        .filter(|row| row["outcome"] == "failed")
        .map(line)
        .collect();
    assert!(
        failed.is_empty(),
        "{} failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
    assert!(server.stop().success());
    Some(table)
}

fn table(rows: &[Value]) -> Table {
    let mut table = Table(BTreeMap::new());
    for row in rows {
        let text = |key: &str| row[key].as_str().expect("is in the row").to_owned();
        let outcomes = table.0.entry(text("operation")).or_default();
        *outcomes.entry(text("outcome")).or_default() += 1;
    }
    for (operation, outcomes) in &table.0 {
        let outcomes: Vec<String> = outcomes
            .iter()
            .map(|(outcome, count)| format!("{count} {outcome}"))
            .collect();
        tell(&format!("{operation}: {}", outcomes.join(", ")));
    }
    for row in rows.iter().filter(|row| row["outcome"] == "refused") {
        tell(&format!("refused: {}", line(row)));
    }
    table
}

fn line(row: &Value) -> String {
    let text = |key: &str| row[key].as_str().unwrap_or_default();
    format!("{}, {}: {}", text("operation"), text("what"), text("why"))
}
