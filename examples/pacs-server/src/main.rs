//! A PACS in one binary: receives instances, keeps them, finds them and hands them out.
//!
//! Run with
//!
//! ```text
//! cargo run --release -p pacs-server
//! ```

mod cli;
mod config;
mod logging;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let print_config = cli.settings.print_config;
    let config = match cli.settings.resolve() {
        Ok(config) => config,
        Err(error) => return complain(2, &error),
    };
    if print_config {
        return match std::io::stdout().write_all(config.render().as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(1, &error.to_string()),
        };
    }
    if let Err(error) = logging::start(&config.log) {
        return complain(2, &error);
    }
    complain(1, "this build holds no engine")
}

/// Says what went wrong, on standard error.
fn complain(code: u8, error: &str) -> ExitCode {
    // When standard error is gone, the exit code still tells.
    let _ = writeln!(std::io::stderr(), "pacs-server: {error}");
    ExitCode::from(code)
}
