//! Resource attacks beside four honest senders: what they keep of their rate, and the server's peak of memory.
//!
//! Server, senders and attackers share the machine, so that what the attackers compute counts against the server: they
//! have one thread. Where the system tells how long it ran, a second figure is of the time that it left: what the honest
//! ones kept of the rate that so much less of a machine would have had. The rate alone is measured anew before and behind
//! each attack.

#[path = "../../../examples/pacs-server/tests/attacks/attack.rs"]
mod attack;
#[path = "../../../examples/pacs-server/tests/attacks/honest.rs"]
mod honest;

use std::error::Error as StdError;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use pacs_core::{Error, ErrorKind, Result};
use tokio::sync::oneshot;

use self::attack::{Attack, Target};
use self::honest::Sender;
use crate::server::Server;
use crate::{Common, Turns, median, say};

/// Honest senders.
const SENDERS: u64 = 4;

/// What each sends on one association.
const AT_A_TIME: u64 = 10;

/// What of their rate they keep, at least.
const KEPT_MIN: f64 = 0.8;

/// Peak of the server's memory.
const PEAK_MAX_MEBIBYTES: u64 = 512;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    compared: Turns,
    /// How long the rate is measured each time, without an attack and beside it, in seconds
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Only attacks of these names
    #[arg(long)]
    only: Vec<String>,
}

pub(crate) async fn measure(arguments: &Arguments) -> std::result::Result<bool, Box<dyn StdError>> {
    let quick = arguments.compared.common.quick;
    let (turns, time) = match quick {
        true => (1, Duration::from_millis(200)),
        false => (arguments.compared.turns, Duration::from_secs(arguments.seconds)),
    };
    say(&format!(
        "{:<18} {:>12} {:>12} {:>8} {:>13} {:>13}",
        "", "alone", "attacked", "kept", "of time left", "peak memory"
    ))?;
    let mut held = true;
    for attack in Attack::ALL {
        let name = format!("{attack:?}");
        if !arguments.only.is_empty() && !arguments.only.contains(&name) {
            continue;
        }
        let Measured {
            alone,
            attacked,
            kept,
            left,
            peak,
        } = beside(attack, turns, time, &arguments.compared.common).await?;
        let missed = kept < KEPT_MIN || peak >= PEAK_MAX_MEBIBYTES;
        held &= !missed;
        say(&format!(
            "{name:<18} {alone:>10.0}/s {attacked:>10.0}/s {:>6.0} % {:>11.0} % {peak:>9} MiB{}",
            kept * 100.0,
            left * 100.0,
            if missed && !quick { "  missed" } else { "" }
        ))?;
    }
    say("all that was sent was fetched again, byte for byte")?;
    Ok(quick || held)
}

/// Medians of all turns.
struct Measured {
    /// Instances a second.
    alone: f64,
    attacked: f64,
    /// What is left of the rate, turn by turn: what else the machine does comes and goes.
    kept: f64,
    /// The same, of that part of the machine's time that the attackers did not take for themselves.
    left: f64,
    /// In MiB.
    peak: u64,
}

/// A server of its own for each attack: what is kept is much, and one attack shall not suffer from another.
async fn beside(
    attack: Attack,
    turns: u64,
    time: Duration,
    common: &Common,
) -> std::result::Result<Measured, Box<dyn StdError>> {
    let room = common.room()?;
    // Free until somebody else takes it: the server takes it at once.
    let hl7_port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let configuration = format!("[hl7]\nport = {hl7_port}\n");
    let (server, _) = Server::start_with(&room.path().join("data"), &configuration, "").await?;
    let remote = server.remote();
    let target = Target {
        dicom: (Ipv4Addr::LOCALHOST, remote.port).into(),
        http: server.web().address.parse()?,
        hl7: (Ipv4Addr::LOCALHOST, hl7_port).into(),
    };
    let mut honest = Honest {
        senders: (0..SENDERS)
            .map(|number| Sender {
                remote: remote.clone(),
                target,
                number,
            })
            .collect(),
        sent: [0; SENDERS as usize],
    };
    honest.send_for(time).await?;
    let cores = std::thread::available_parallelism()?.get() as f64;
    let mut alone = vec![honest.send_for(time).await?];
    let (mut attacked, mut kept, mut left, mut peak) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..turns {
        server.peak_memory()?;
        let attackers = Attackers::begin(attack, target).await?;
        let (begin, ran) = (Instant::now(), attackers.ran());
        let beside = honest.send_for(time).await?;
        let (passed, ran) = (begin.elapsed(), attackers.ran().saturating_sub(ran));
        attackers.end()?;
        peak = peak.max(server.peak_memory()? >> 20);
        let before = alone[alone.len() - 1];
        let after = honest.send_for(time).await?;
        let ratio = beside / ((before + after) / 2.0);
        kept.push(ratio);
        left.push(ratio / (1.0 - ran.as_secs_f64() / (passed.as_secs_f64() * cores)));
        attacked.push(beside);
        alone.push(after);
    }
    for (sender, sent) in honest.senders.iter().zip(honest.sent) {
        sender.check(0..sent).await?;
    }
    server.stop()?;
    let [alone, attacked, kept, left] = [alone, attacked, kept, left].map(|rates| median(rates.into_iter()));
    Ok(Measured {
        alone,
        attacked,
        kept,
        left,
        peak,
    })
}

/// Those who attack, on a thread of their own.
struct Attackers {
    thread: std::thread::JoinHandle<()>,
    stop: oneshot::Sender<()>,
    /// Where Linux says for how long the thread has run.
    times: PathBuf,
}

impl Attackers {
    /// When this returns, each has done its worst once.
    async fn begin(attack: Attack, target: Target) -> Result<Self> {
        let failed = |why: &'static str| Error::new(ErrorKind::Internal, "attacks", why);
        let (begun, begins) = oneshot::channel::<PathBuf>();
        let (stop, stopped) = oneshot::channel::<()>();
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                let running = attack.begin(target).await;
                // Whoever waits for it has gone where it can't be said.
                let thread = std::fs::read_link("/proc/thread-self").unwrap_or_default();
                let _ = begun.send(Path::new("/proc").join(thread).join("schedstat"));
                let _ = stopped.await;
                drop(running);
            });
        };
        let thread = std::thread::Builder::new()
            .name("attackers".to_owned())
            .spawn(work);
        let thread = thread.map_err(|_| failed("a thread can't be started"))?;
        let times = begins.await;
        let times = times.map_err(|_| failed("the attackers could not begin"))?;
        Ok(Self { thread, stop, times })
    }

    /// For how long they have run, all in all; nothing where that isn't told.
    fn ran(&self) -> Duration {
        let times = std::fs::read_to_string(&self.times).unwrap_or_default();
        let nanoseconds = times.split(' ').next().and_then(|first| first.parse().ok());
        Duration::from_nanos(nanoseconds.unwrap_or(0))
    }

    fn end(self) -> Result<()> {
        let _ = self.stop.send(());
        let failed = |_| Error::new(ErrorKind::Internal, "attacks", "the attackers panicked");
        self.thread.join().map_err(failed)
    }
}

struct Honest {
    senders: Vec<Sender>,
    /// Instances that each has sent.
    sent: [u64; SENDERS as usize],
}

impl Honest {
    /// All send as much as they can; answers how many instances a second.
    async fn send_for(&mut self, time: Duration) -> Result<f64> {
        let begin = Instant::now();
        let each = self.senders.iter().zip(self.sent).map(|(sender, from)| {
            let sender = sender.clone();
            let send = async move {
                let mut at = from;
                while begin.elapsed() < time {
                    sender.send(at..at + AT_A_TIME).await?;
                    at += AT_A_TIME;
                }
                Ok(at)
            };
            let task = tokio::spawn(send);
            async move {
                let ended: Result<u64> = task
                    .await
                    .unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "attacks", "a task panicked")));
                ended
            }
        });
        let ended = try_join_all(each).await?;
        let before: u64 = self.sent.iter().sum();
        self.sent.copy_from_slice(&ended);
        let sent = self.sent.iter().sum::<u64>() - before;
        Ok(sent as f64 / begin.elapsed().as_secs_f64())
    }
}
