//! A DICOM client: echo, store, find, move and get.
//!
//! Run with
//!
//! ```text
//! cargo run --release -p dicom-scu -- echo 127.0.0.1:11112
//! cargo run --release -p dicom-scu -- store 127.0.0.1:11112 some/directory
//! cargo run --release -p dicom-scu -- find 127.0.0.1:11112 -k PatientName=DOE* -k StudyDate
//! ```

mod answer;
mod cli;
mod keys;

use clap::Parser as _;

fn main() {
    let cli = cli::Cli::parse();
}
