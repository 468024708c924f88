//! What the program does against a server on the network. One program of tests: each would be linked for itself.

mod commit;
mod find;
#[path = "../../../../pacs-net/tests/support/port.rs"]
mod port;
mod steps;
mod store;
mod support;
mod ups;
