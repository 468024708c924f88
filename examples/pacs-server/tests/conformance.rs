//! What the statement says of the default configuration, held against what the running server answers.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Server, directory, python, run, succeed};
use pacs_core::{AeTitle, Uid, uids};
use pacs_net::scu::{NATIVE, Remote};

/// The SOP classes that are named, each with whether we are SCU and SCP.
fn named(statement: &str) -> BTreeMap<String, (bool, bool)> {
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        // Of the tables of SOP classes, with five columns.
        let uid = cells
            .get(2)
            .filter(|_| cells.len() == 7)?
            .strip_prefix('`')?
            .strip_suffix('`')?;
        let [scu, scp] = [3, 4].map(|at| cells.get(at) == Some(&"yes"));
        uid.starts_with("1.2.840.10008.")
            .then(|| (uid.to_owned(), (scu, scp)))
    };
    statement.lines().filter_map(row).collect()
}

/// What is accepted of these, asked over associations of at most 128 contexts, with the roles that are granted.
async fn accepted(port: u16, all: &BTreeSet<String>) -> BTreeMap<String, (bool, bool)> {
    let title = |text: &str| text.parse::<AeTitle>().expect("a title");
    let remote = Remote::new("127.0.0.1", port, title("PACS"), title("TESTER"));
    let mut accepted = BTreeMap::new();
    let all: Vec<Uid> = all.iter().map(|uid| uid.parse().expect("a UID")).collect();
    for part in all.chunks(128) {
        let mut proposal = remote.proposal();
        for uid in part {
            proposal = proposal
                .with_context(*uid, NATIVE.iter())
                .with_role(*uid, true, true);
        }
        let client = remote.client(&proposal).await.expect("an association");
        for context in &client.negotiated().contexts {
            // Where we may be SCP, the server is SCU.
            let roles = (context.requestor_scp, context.requestor_scu);
            accepted.insert(context.abstract_syntax.to_string(), roles);
        }
        client.release().await.expect("is released");
    }
    accepted
}

/// All SOP classes that pydicom knows; some that are not offered where it isn't installed.
fn sop_classes() -> BTreeSet<String> {
    let some = [
        uids::HANGING_PROTOCOL_STORAGE,
        uids::MEDIA_STORAGE_DIRECTORY_STORAGE,
        uids::BASIC_GRAYSCALE_PRINT_MANAGEMENT_META,
        uids::MODALITY_WORKLIST_INFORMATION_MODEL_FIND,
        uids::STORAGE_COMMITMENT_PUSH_MODEL,
    ];
    let mut all: BTreeSet<String> = some.map(str::to_owned).into();
    if let Some(mut python) = python() {
        python.args([
            "-c",
            "from pydicom._uid_dict import UID_dictionary as d\n\
             print(*[u for u, e in d.items() if 'SOP Class' in e[1]], sep='\\n')",
        ]);
        let told = succeed(python);
        let lines = told.lines().filter(|line| line.starts_with("1.2.840.10008."));
        all.extend(lines.map(str::to_owned));
    }
    all
}

#[test]
fn the_statement_names_exactly_what_an_association_is_offered() {
    let directory = directory();
    let (code, statement) = run(directory.path(), &["conformance"]);
    assert_eq!(code, 0, "{statement}");
    assert!(!directory.path().join("archive").exists(), "it only writes");
    let named = named(&statement);
    assert!(named.len() > 100, "{}", named.len());
    let mut asked = sop_classes();
    asked.extend(named.keys().cloned());
    let server = Server::start(&directory.path().join("data"), &[]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let accepted = runtime.block_on(accepted(server.port, &asked));
    assert_eq!(named, accepted);
}

#[test]
fn the_statement_follows_the_configuration() {
    let directory = directory();
    let file = directory.path().join("settings.toml");
    let settings = "ae-title = \"OTHER\"\n[web]\noff = true\n[[peer]]\nae-title = \"WORKSTATION\"\nhost = \"h\"\nport = 104";
    std::fs::write(&file, settings).expect("is written");
    let file = file.to_str().expect("a plain path");
    let (_, statement) = run(directory.path(), &["conformance", "--config", file]);
    assert!(statement.contains("`OTHER`") && statement.contains("| `WORKSTATION` | h:104 |"));
    assert!(statement.contains("Nothing is offered over HTTP"));
    let (_, default) = run(directory.path(), &["conformance"]);
    assert!(default.contains("`GET /studies`") && !default.contains("WORKSTATION"));
}
