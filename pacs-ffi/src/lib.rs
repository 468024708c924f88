//! The C ABI of the engine: `libpacs`, with `include/pacs.h`, which is made of this crate, and `include/pacs.hpp`.
//!
//! The header is the documentation for those who call; this page is for those who change it.
//!
//! # Where to change what
//!
//! | | |
//! | --- | --- |
//! | follow a raw pointer | `ffi`, and nowhere else: a test holds that |
//! | what a handle is, and how misuse is told | `handle` |
//! | what happens around every call: panics, failures, callbacks that call back in | `guard`, `error` |
//! | threads and waiting | `context` |
//! | what the archive of a caller is to the engine | `backend` |
//! | one noun of the header | the file of its name |
//!
//! # Rules
//!
//! - A function answers a [`pacs_status`](error::pacs_status), takes its object first and its results last, writes
//!   results on success alone, and says in its comment who owns what, whether it blocks, from which threads it may
//!   be called where not from all, and which errors are its own.
//! - A number of the header never changes its meaning, and a function never its signature; a structure grows at its
//!   end, and its `struct_size` tells which version a caller has.
//! - Sizes and offsets are 64 bits; text is UTF-8 and ends with NUL.

#![allow(
    unsafe_code,
    reason = "exported functions are unsafe to call; what follows a pointer is in `ffi` alone"
)]
#![allow(non_camel_case_types, reason = "the types are named as C has them")]
#![allow(
    clippy::missing_safety_doc,
    reason = "the header's own rules are the contract"
)]
#![deny(unsafe_op_in_unsafe_fn)]

pub mod amend;
pub mod archive;
mod backend;
pub mod context;
pub mod data_set;
pub mod deid;
pub mod engine;
pub mod error;
mod ffi;
pub mod find;
pub mod frame;
mod guard;
mod handle;
pub mod hooks;
pub mod instance;
pub mod log;
pub mod operation;
pub mod remote;
pub mod routing;
pub mod sending;
pub mod server;
pub mod store;
pub mod version;
