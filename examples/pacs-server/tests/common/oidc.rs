//! A real OpenID Connect provider, `tests/web/oidc.mjs`.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;

/// What it says of itself.
#[derive(Deserialize)]
pub(crate) struct Said {
    pub(crate) issuer: String,
    pub(crate) audience: String,
    /// Tokens by the name of their user.
    pub(crate) tokens: BTreeMap<String, String>,
    /// Tokens that nobody may believe, by what is wrong with them.
    pub(crate) bad: BTreeMap<String, String>,
}

/// One that runs until it is dropped.
pub(crate) struct Provider {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    pub(crate) said: Said,
}

impl Provider {
    /// `None`, with a word about it, where it isn't installed; a failure where peers are required.
    pub(crate) fn start() -> Option<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/web");
        if !folder.join("node_modules/oidc-provider").is_dir() {
            assert!(
                std::env::var_os("PACS_REQUIRE_PEERS").is_none(),
                "oidc-provider is missing, and PACS_REQUIRE_PEERS is set; .ci/peers installs it"
            );
            #[allow(clippy::print_stdout, reason = "the test's output is where it belongs")]
            {
                println!("skipped: oidc-provider is not installed; .ci/peers installs it");
            }
            return None;
        }
        let mut child = Command::new("node")
            .arg(folder.join("oidc.mjs"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node starts");
        let input = child.stdin.take().expect("it has standard input");
        let mut output = BufReader::new(child.stdout.take().expect("it has standard output"));
        let said = said(&mut output);
        Some(Self {
            child,
            input,
            output,
            said,
        })
    }

    /// It has another key from now on.
    pub(crate) fn change_key(&mut self) {
        self.input.write_all(b"\n").expect("it listens");
        self.said = said(&mut self.output);
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn said(output: &mut BufReader<ChildStdout>) -> Said {
    let mut line = String::new();
    output.read_line(&mut line).expect("it says where it is");
    serde_json::from_str(&line).expect("what it says is JSON")
}
