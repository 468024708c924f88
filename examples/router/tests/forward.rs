//! The real box between storescu and storescp: a receiver that is down, a box that is killed, and what is forgotten.

#[path = "../../../pacs-net/tests/support/port.rs"]
mod port;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use port::free_port;

/// Longer than anything may take; what never happens must end the test.
const LONG: Duration = Duration::from_secs(120);

/// A child that ends with the test.
struct Running(Child);

impl Running {
    fn kill(mut self) {
        self.0.kill().expect("a running process can be killed");
        self.0.wait().expect("its end can be waited for");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The box on `data`, and its port.
fn start(routes: &Path, data: &Path) -> (Running, u16) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_router"))
        .arg(routes)
        .arg("--data")
        .arg(data)
        .args(["--listen", "127.0.0.1:0", "--keep", "1", "--stable-after", "1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the box starts");
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().expect("its standard output is a pipe"));
    out.read_line(&mut line).expect("its standard output can be read");
    let port = line
        .split_once(" as ")
        .and_then(|(address, _)| address.rsplit(':').next()?.parse().ok());
    (
        Running(child),
        port.unwrap_or_else(|| panic!("the box says {line:?}")),
    )
}

/// A program of DCMTK; `None`, with a word about it, where it isn't installed.
#[allow(clippy::print_stdout, reason = "the test's output is where it belongs")]
fn dcmtk(program: &str) -> Option<Command> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file());
    if found.is_none() {
        let is_required = std::env::var_os("PACS_REQUIRE_PEERS").is_some();
        assert!(
            !is_required,
            "{program} is missing, and PACS_REQUIRE_PEERS is set"
        );
        println!("skipped: {program} is not installed; .ci/peers installs it");
    }
    let mut command = Command::new(found?);
    command.env("TCP_NODELAY", "1").stdin(Stdio::null());
    Some(command)
}

/// Runs it to its end; answers what it said.
fn succeed(mut command: Command) -> String {
    let output = command.output().expect("it starts");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

/// Asks again until the answer is yes. Each question is one to a process.
fn until(what: &str, mut ask: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !ask() {
        assert!(begun.elapsed() < LONG, "{what} did not happen");
    }
}

/// Writes instances of a study, of this modality.
fn files(directory: &Path, modality: &str, study: &str, count: u32) -> Vec<PathBuf> {
    (1..=count)
        .map(|number| {
            let dump = directory.join("dump");
            let text = format!(
                "(0008,0016) UI =SecondaryCaptureImageStorage\n(0008,0018) UI [{study}.1.{number}]\n\
                 (0008,0060) CS [{modality}]\n(0010,0010) PN [Nobody]\n(0010,0020) LO [1]\n\
                 (0020,000d) UI [{study}]\n(0020,000e) UI [{study}.1]\n(0020,0013) IS [{number}]\n"
            );
            fs::write(&dump, text).expect("is written");
            let file = directory.join(format!("{modality}{number}.dcm"));
            let mut command = dcmtk("dump2dcm").expect("storescp is there, so all are");
            command.arg(&dump).arg(&file);
            succeed(command);
            file
        })
        .collect()
}

fn receiver(title: &str, port: u16, directory: &Path) -> Running {
    let _ = fs::create_dir(directory);
    let mut command = dcmtk("storescp").expect("it was found before");
    command
        .args(["-aet", title, "-od"])
        .arg(directory)
        .arg(port.to_string());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Running(command.spawn().expect("it starts"))
}

fn send(port: u16, files: &[PathBuf]) {
    let mut command = dcmtk("storescu").expect("storescp is there, so all are");
    command
        .args(["-aec", "ROUTER", "127.0.0.1", &port.to_string()])
        .args(files);
    succeed(command);
}

/// The Study Instance UIDs that the box keeps, as findscu says them.
fn kept(port: u16) -> String {
    let mut command = dcmtk("findscu").expect("storescp is there, so all are");
    command.args([
        "-S",
        "-aec",
        "ROUTER",
        "-k",
        "QueryRetrieveLevel=STUDY",
        "-k",
        "StudyInstanceUID",
    ]);
    command.args(["127.0.0.1", &port.to_string()]);
    succeed(command)
}

fn received(directory: &Path) -> usize {
    fs::read_dir(directory).map_or(0, Iterator::count)
}

#[test]
fn what_comes_waits_for_its_receivers_through_a_crash_and_is_forgotten_when_all_have_it() {
    if dcmtk("storescp").is_none() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let here = directory.path();
    let (one, other) = (free_port(), free_port());
    let mut text = String::new();
    for (title, port) in [("ONE", one), ("OTHER", other)] {
        text += &format!("[[peer]]\nae-title = \"{title}\"\nhost = \"127.0.0.1\"\nport = {port}\n");
    }
    text += "[[route]]\nname = \"all\"\nwhen = { Modality = \"CT\\\\MR\" }\nsend-to = [\"ONE\"]\n";
    text += "[[route]]\nname = \"whole\"\non = \"study-stable\"\nwhen = { Modality = \"MR\" }\nsend-to = [\"OTHER\"]\n";
    let (routes, data) = (here.join("routes.toml"), here.join("data"));
    fs::write(&routes, text).expect("is written");

    // Nobody is there, and the box dies.
    let (running, port) = start(&routes, &data);
    let ct = files(here, "CT", "1.2.1", 3);
    let mr = files(here, "MR", "1.2.2", 2);
    // The rules lead it nowhere.
    let us = files(here, "US", "1.2.3", 1);
    for files in [&ct, &mr, &us] {
        send(port, files);
    }
    running.kill();

    // One of them comes back: what it alone is to have goes, and is forgotten.
    let first = here.join("one");
    let _one = receiver("ONE", one, &first);
    let (running, port) = start(&routes, &data);
    until("delivery", || received(&first) == 5);
    until("the end of the first study", || !kept(port).contains("1.2.1"));
    let rest = kept(port);
    assert!(rest.contains("1.2.2") && rest.contains("1.2.3"), "{rest}");
    running.kill();

    // The other one: nothing was lost meanwhile.
    let (_running, port) = start(&routes, &data);
    let rest = kept(port);
    assert!(rest.contains("1.2.2") && rest.contains("1.2.3"), "{rest}");
    let second = here.join("other");
    let _other = receiver("OTHER", other, &second);
    until("delivery to the other one", || received(&second) == 2);
    until("the end of the second study", || !kept(port).contains("1.2.2"));
    assert!(kept(port).contains("1.2.3"));
    assert_eq!(received(&first), 5);

    // It may come again, and is delivered again.
    for file in fs::read_dir(&first).expect("can be listed") {
        fs::remove_file(file.expect("is one").path()).expect("can be removed");
    }
    send(port, &ct);
    until("delivery once more", || received(&first) == 3);
}
