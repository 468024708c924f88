//! `migrate`: takes over the studies of another PACS.

use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use pacs_core::route::Hours;
use pacs_core::{AeTitle, Pacs, Timestamp};
use pacs_net::fetch::{Fetch, Source, WebService};
use pacs_net::migrate::{Day, Migration, Watcher};
use pacs_net::scp::{Limits, Server};
use pacs_net::scu::Remote;
use pacs_net::settings::Protocol;
use tokio::signal::unix::{SignalKind, signal};
use twox_hash::XxHash3_128;

use crate::config::Config;
use crate::routing::local;
use crate::{serve, store};

/// What is taken over, and how.
#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// Where the studies are: TITLE@HOST:PORT, or the AE title of a peer of the configuration; or the base URL of a
    /// DICOMweb service, http://HOST:PORT/PATH
    #[arg(value_name = "SOURCE")]
    source: String,
    /// Fetch by C-MOVE to this server, which listens on its DICOM port meanwhile and which the source must know by its
    /// AE title; without it by C-GET. Not from a DICOMweb service, which gives them by WADO-RS
    #[arg(long = "move")]
    by_move: bool,
    /// Call TITLE@HOST:PORT over TLS, by `[tls]` of the configuration; a peer of it says so itself
    #[arg(long)]
    tls: bool,
    /// Only studies of this date and later
    #[arg(long, value_name = "DATE")]
    from: Option<Day>,
    /// Only studies of this date and earlier
    #[arg(long, value_name = "DATE")]
    to: Option<Day>,
    /// Only studies with this modality among theirs
    #[arg(long, value_name = "MODALITY")]
    modality: Option<String>,
    /// Studies fetched at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    studies: u16,
    /// Studies that the source may be asked for at once: no more than it answers at most, if it has such a limit
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(2..))]
    slice: u16,
    /// Begin studies only in these hours of the day, local time: 20-6 is from 20:00 to 06:00
    #[arg(long, value_name = "FROM-TO", value_parser = hours)]
    hours: Option<Hours>,
    /// Begin no more studies than this in an hour
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    per_hour: Option<u32>,
    /// Look at every study again, also at those that are done, and read every instance to its last byte
    #[arg(long)]
    verify: bool,
}

fn hours(text: &str) -> Result<Hours, String> {
    Hours::parse(text).ok_or_else(|| "two different times of the day are needed, such as 20-6".to_owned())
}

impl Migrate {
    /// Where the studies are.
    pub(crate) fn source(&self, config: &Config) -> Result<Source, String> {
        let (_, connector) = config.secure()?;
        if self.source.contains("://") {
            if self.by_move {
                return Err("--move is for peers: a DICOMweb service knows no C-MOVE".to_owned());
            }
            let service = WebService::new(&self.source, &connector).map_err(|error| error.to_string())?;
            return Ok(Source::Web(service));
        }
        let source = |remote| Source::Peer {
            remote,
            how: match self.by_move {
                true => Fetch::Move(config.ae_title),
                false => Fetch::Get,
            },
        };
        let Some((title, place)) = self.source.split_once('@') else {
            let known = |peer: &&pacs_net::settings::Peer| peer.ae_title.as_str() == self.source;
            let peer = config.peers.iter().find(known).ok_or_else(|| {
                let source = &self.source;
                format!("no [[peer]] has the ae-title {source:?}; TITLE@HOST:PORT names one that is not configured")
            })?;
            return Ok(source(peer.remote(config.ae_title, &connector)));
        };
        let title = AeTitle::parse(title).map_err(|error| error.context().to_owned())?;
        match place.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
            Some((host, Ok(port))) if !host.is_empty() && port > 0 => {
                let host = host.trim_start_matches('[').trim_end_matches(']');
                let remote = Remote::new(host, port, title, config.ae_title);
                Ok(source(remote.with_tls(self.tls.then_some(connector))))
            }
            _ => Err(format!("{place:?} is not HOST:PORT")),
        }
    }

    /// What names the journal: another selection has another one.
    fn selection(&self, source: &Source) -> String {
        let day = |day: Option<Day>| day.map_or_else(String::new, |day| day.to_string());
        let modality = self.modality.as_deref().unwrap_or_default();
        let (from, to) = (day(self.from), day(self.to));
        format!("{source} {from}-{to} {modality}")
    }
}

/// Answers whether everything that was wanted is kept here.
pub(crate) fn run(config: &Config, pacs: &Pacs, wanted: &Migrate, source: Source) -> Result<bool, String> {
    let journals = store::migrations(config);
    fs::create_dir_all(&journals).map_err(|error| format!("{}: {error}", journals.display()))?;
    let digest = XxHash3_128::oneshot(wanted.selection(&source).as_bytes());
    let migration = Migration {
        pacs: pacs.clone(),
        source,
        from: wanted.from,
        to: wanted.to,
        modality: wanted.modality.clone(),
        studies_at_once: wanted.studies.into(),
        slice_max: wanted.slice.into(),
        per_hour: wanted.per_hour,
        verify: wanted.verify,
        journal: journals.join(format!("{digest:032x}.migration")),
    };
    let shown = Shown::new(wanted.hours)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("pacs-migrate")
        .build()
        .map_err(|error| format!("the runtime can't start: {error}"))?;
    let report = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let listening = async {
            if wanted.by_move {
                let address = SocketAddr::new(config.listen, config.dicom_port);
                let (credentials, connector) = config.secure()?;
                let mut options = serve::options(config, &connector);
                let acceptor = config.tls.acceptor(&credentials, Protocol::Dicom);
                options.tls = acceptor.map_err(|error| error.to_string())?;
                // The source knows better what it keeps.
                options.any_sop_class = true;
                let bound = Server::bind(address, pacs.clone(), options, Limits::default()).await;
                let server = bound.map_err(|error| error.to_string())?;
                server
                    .run(std::future::pending(), std::time::Duration::ZERO)
                    .await;
            }
            std::future::pending().await
        };
        tokio::select! {
            report = migration.run(&shown, stop) => report.map_err(|error| error.to_string()),
            failed = listening => failed,
        }
    })?;
    shown.bar.finish_and_clear();
    write!(io::stdout(), "{report}").map_err(|error| error.to_string())?;
    Ok(report.is_complete())
}

/// A bar of what is found so far, and the hours.
struct Shown {
    bar: ProgressBar,
    bytes: std::sync::atomic::AtomicU64,
    hours: Option<Hours>,
}

impl Shown {
    fn new(hours: Option<Hours>) -> Result<Self, String> {
        let bar = ProgressBar::new(0);
        let style = "{bar:30} {pos} of {len} studies found, {msg}, {per_sec}, {elapsed}";
        bar.set_style(ProgressStyle::with_template(style).map_err(|error| error.to_string())?);
        Ok(Self {
            bar,
            bytes: Default::default(),
            hours,
        })
    }
}

impl Watcher for Shown {
    fn found(&self) {
        self.bar.inc_length(1);
    }

    fn ended(&self, bytes: u64) {
        let bytes = bytes + self.bytes.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        self.bar.set_message(indicatif::HumanBytes(bytes).to_string());
        self.bar.inc(1);
    }

    fn may_begin(&self) -> bool {
        let may = self
            .hours
            .is_none_or(|hours| hours.holds(local(Timestamp::now())));
        if !may {
            self.bar
                .set_message("waiting for the hours in which it may go on");
        }
        may
    }
}
