//! The service as a program.
//!
//! Run with
//!
//! ```text
//! cargo run --release -p ai-triage -- --pacs PACS@127.0.0.1:11112
//! ```

#![forbid(unsafe_code)]

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ai_triage::{Priority, Settings, Triage, Workitems};
use clap::Parser;
use pacs_core::AeTitle;
use pacs_net::scu::Remote;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Finds dense regions in head CT and answers with a report and a picture. Not a medical device
#[derive(Debug, Parser)]
#[command(name = "ai-triage", version)]
struct Cli {
    /// Where results go
    #[arg(long, value_name = "TITLE@HOST:PORT", value_parser = peer)]
    pacs: (AeTitle, String, u16),
    /// Application entity title of this service
    #[arg(long, value_name = "TITLE", default_value = "AI-TRIAGE")]
    ae_title: AeTitle,
    /// TCP port for DICOM associations; 0 lets the system choose one
    #[arg(long, value_name = "PORT", default_value_t = 11113)]
    port: u16,
    /// Address to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1")]
    listen: IpAddr,
    /// A study of which nothing has arrived for so long is whole
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    quiet_seconds: u32,
    /// Directory that studies are kept in until they are done
    #[arg(long, value_name = "DIR", default_value = "./ai-triage-data")]
    data: PathBuf,
    /// When as much is kept, in MiB, what comes is refused for now
    #[arg(long, value_name = "MIB", default_value_t = 20 * 1024)]
    room: u32,
    /// UPS-RS service whose open steps of a study become more urgent by a finding: http://pacs:8080/dicom-web
    #[arg(long, value_name = "URL")]
    workitems: Option<String>,
    /// How urgent they become
    #[arg(long, value_name = "PRIORITY", default_value = "HIGH")]
    priority: Priority,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // When standard error is gone, the exit code still tells.
            let _ = writeln!(std::io::stderr(), "ai-triage: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<(), Box<dyn std::error::Error>> {
    let workitems = cli.workitems.map(|url| Workitems::at(&url, cli.priority));
    let (title, host, port) = cli.pacs;
    let settings = Settings {
        listen: SocketAddr::new(cli.listen, cli.port),
        ae_title: cli.ae_title,
        pacs: Remote::new(host, port, title, cli.ae_title),
        quiet: Duration::from_secs(cli.quiet_seconds.into()),
        data: cli.data,
        room_bytes: u64::from(cli.room) * 1024 * 1024,
        workitems: workitems.transpose()?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let title = settings.ae_title;
        let triage = Triage::open(settings).await?;
        let mut out = std::io::stdout();
        writeln!(
            out,
            "ai-triage listens for DICOM on {} as {title}; not a medical device",
            triage.address()?
        )?;
        out.flush()?;
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        Ok(triage.run(stop, Duration::from_secs(10)).await?)
    })
}

/// Reads `TITLE@HOST:PORT`.
fn peer(text: &str) -> Result<(AeTitle, String, u16), String> {
    let (title, address) = text.split_once('@').ok_or("TITLE@HOST:PORT is needed")?;
    let (host, port) = address.rsplit_once(':').ok_or("TITLE@HOST:PORT is needed")?;
    let title = title
        .parse()
        .map_err(|error: pacs_core::Error| error.context().to_owned())?;
    let port = port
        .parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or("a port is 1 to 65535")?;
    if host.is_empty() {
        return Err("a host must stand there".to_owned());
    }
    Ok((title, host.trim_matches(['[', ']']).to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed_and_a_peer_has_title_host_and_port() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
        let (title, host, port) = peer("MY PACS@pacs.example:104").unwrap();
        assert_eq!((title.as_str(), &*host, port), ("MY PACS", "pacs.example", 104));
        assert_eq!(peer("P@[::1]:104").unwrap().1, "::1");
        for bad in ["P", "P@h", "P@:1", "@h:1", "P@h:0", "P@h:x"] {
            assert!(peer(bad).is_err(), "{bad}");
        }
    }
}
