//! What `store` says of what became of each file, against a server on the network.

use crate::support::{server, store, write_file};

#[test]
fn a_file_that_is_stored_with_a_warning_is_named_with_status_and_comment() {
    let (server, directory) = (server(), tempfile::tempdir().expect("can be made"));
    let whole = write_file(directory.path(), 1, 0);
    let cut = write_file(directory.path(), 2, 7);
    let (code, said) = store(&server, &[&whole, &cut]);
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.starts_with("1 stored, 1 with a warning, 0 not stored\n"),
        "{said}"
    );
    let reason = "1 with a warning: B007H (Warning): truncated: ends inside an element at byte ";
    assert!(said.contains(reason), "{said}");
    assert!(said.contains(&format!("\n    {}\n", cut.display())), "{said}");
    assert!(!said.contains(&whole.display().to_string()), "{said}");
}

#[test]
fn a_path_that_does_not_exist_is_named_and_the_others_are_sent() {
    let (server, directory) = (server(), tempfile::tempdir().expect("can be made"));
    let (first, last) = (
        write_file(directory.path(), 1, 0),
        write_file(directory.path(), 2, 0),
    );
    let missing = directory.path().join("missing.dcm");
    let (code, said) = store(&server, &[&first, &missing, &last]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.starts_with("2 stored, 1 not stored\n"), "{said}");
    let reason = format!(
        "\n1 not stored: there is nothing at this path\n    {}\n",
        missing.display()
    );
    assert!(said.contains(&reason), "{said}");
}
