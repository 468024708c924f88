//! What `commit` says of each instance, against a server on the network.

use crate::support::{run, server, store, write_file};

#[test]
fn what_is_committed_is_told_from_what_is_not_with_the_reason() {
    let (server, directory) = (server(), tempfile::tempdir().expect("can be made"));
    let [first, second, cut] =
        [(1, 0), (2, 0), (3, 7)].map(|(number, missing)| write_file(directory.path(), number, missing));
    store(&server, &[&first, &cut]);
    let (code, said) = run("commit", &server, &[&first]);
    assert_eq!((code, said.as_str()), (Some(0), "1 committed, 0 not committed\n"));
    let (code, said) = run("commit", &server, &[directory.path()]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.starts_with("1 committed, 2 not committed\n"), "{said}");
    for (reason, number) in [("0110H: processing failure", 3), ("0112H: no such instance", 2)] {
        let line = format!("\n1 not committed: {reason}\n    1.2.826.0.1.3680043.10.1.1.1.{number}\n");
        assert!(said.contains(&line), "{said}");
    }
    assert!(second.exists());
}
