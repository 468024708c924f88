//! The table of what is supported names tests that exist.

use std::collections::BTreeSet;

#[test]
fn each_test_that_the_table_of_resources_and_parameters_names_is_there() {
    let table = include_str!("../../src/web/mod.rs");
    let sources = [
        include_str!("searching.rs"),
        include_str!("storing.rs"),
        include_str!("retrieving.rs"),
        include_str!("metadata.rs"),
        include_str!("fhir.rs"),
        include_str!("frames.rs"),
        include_str!("rendered.rs"),
        include_str!("deleting.rs"),
        include_str!("embedding.rs"),
        include_str!("uri.rs"),
        include_str!("../ups_web.rs"),
        include_str!("../../src/web/capabilities.rs"),
        include_str!("../../src/web/query/parameters.rs"),
    ];
    let tests: BTreeSet<&str> = sources
        .iter()
        .flat_map(|source| source.split("fn ").skip(1))
        .filter_map(|rest| rest.split('(').next())
        .collect();
    let rows = table.lines().filter(|line| line.starts_with("//! | "));
    let named: Vec<&str> = rows
        .filter_map(|row| row.rsplit('|').nth(1)?.split('`').nth(1))
        .filter(|name| name.contains('_'))
        .collect();
    assert!(named.len() > 30, "{}", named.len());
    for name in named {
        assert!(tests.contains(name), "{name}");
    }
}
