//! Requests that nobody would send, made up from the whole of the HTTP surface, and sockets that break off:
//! nothing but answers of HTTP, and the server goes on.

mod common;

use common::{DELETE_ALLOWED, Server, directory, python, script, succeed, tell};

/// Of every resource and parameter of PS3.18, with right and wrong values. The seed is printed, and taken back
/// from PACS_SURFACE_SEED; PACS_SURFACE_REQUESTS makes more of them.
#[test]
fn whatever_is_asked_the_answer_is_one_that_is_meant() {
    let Some(mut python) = python() else { return };
    let (mut server, _directory) = open_server();
    let seed = setting("PACS_SURFACE_SEED", u64::from(std::process::id()));
    let requests = setting("PACS_SURFACE_REQUESTS", 3000);
    tell(&format!("PACS_SURFACE_SEED={seed}"));
    python.arg(script("surface.py"));
    python.args(["--seed", &seed.to_string(), "--requests", &requests.to_string()]);
    tell(&succeed(command_for(python, &server)));
    alive(&mut server);
}

#[test]
fn a_client_that_breaks_the_protocol_or_off_harms_nobody() {
    let Some(mut python) = python() else { return };
    let (mut server, _directory) = open_server();
    python.arg(script("sockets.py"));
    tell(&succeed(command_for(python, &server)));
    alive(&mut server);
}

/// One on which all is allowed.
fn open_server() -> (Server, tempfile::TempDir) {
    let directory = directory();
    let configuration = directory.path().join("configuration.toml");
    std::fs::write(&configuration, DELETE_ALLOWED).expect("can be written");
    let configuration = configuration.to_str().expect("a temporary path is plain");
    let server = Server::start(&directory.path().join("data"), &["--config", configuration]);
    (server, directory)
}

fn command_for(mut python: std::process::Command, server: &Server) -> std::process::Command {
    python.arg(&server.http);
    python
}

/// It runs, in the memory that a server of its size needs.
fn alive(server: &mut Server) {
    assert!(server.runs());
    #[cfg(target_os = "linux")]
    {
        let peak = server.peak_memory() >> 20;
        tell(&format!("peak memory {peak} MiB"));
        assert!(peak < 512, "{peak} MiB");
    }
}

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number")),
        Err(_) => default,
    }
}
