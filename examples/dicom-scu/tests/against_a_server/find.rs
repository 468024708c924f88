//! What `find` does where nobody listens to its answers any more.

use std::io;
use std::process::{Command, Stdio};

use crate::support::{server, store, write_file};

#[test]
fn whoever_reads_no_further_than_some_answers_hears_of_no_error() {
    let (server, directory) = (server(), tempfile::tempdir().expect("can be made"));
    for number in 1..=3 {
        write_file(directory.path(), number, 0);
    }
    assert_eq!(store(&server, &[directory.path()]).0, Some(0));
    for arguments in [&["--json"][..], &[]] {
        let (reader, writer) = io::pipe().expect("a pipe");
        // As `head` does once it has enough.
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_dicom-scu"))
            .args(["find", &server.address.to_string(), "--level", "study"])
            .args(arguments)
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .expect("dicom-scu starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*said), (Some(0), ""), "{arguments:?}");
    }
}
