//! What routing costs: receiving with rules beside receiving without them, a delivery while few and while many
//! wait, and a receiver beside others that are down, slow, full or refuse everything.
//!
//! Each part compares two ways within one run, in turns.

mod receiver;

use std::error::Error as StdError;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dicom_dictionary_std::uids;
use futures::StreamExt as _;
use futures::future::try_join_all;
use futures::stream;
use pacs_core::{Error, ErrorKind, Result, Uid};
use pacs_net::dimse::{Client, Status, StoreRequest};
use pacs_net::scu::{Pieces, Remote};

use self::receiver::{Kind, Receiver};
use crate::large::{self, Large, Noise};
use crate::made;
use crate::server::Server;
use crate::{Common, say};

type Outcome<T> = std::result::Result<T, Box<dyn StdError>>;

const EXPLICIT: Uid = Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN);

/// Associations that send at once.
const SENDERS: u64 = 4;
/// Instances of the larger kind have so much pixel data.
const LARGE_BYTES: u64 = 512 << 10;
/// How often it is looked whether everything was decided about.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Time to receive with rules, times that without.
const RULES_MAX: f64 = 1.05;
/// Time of a delivery while many wait, times that while few do.
const MANY_MAX: f64 = 1.1;
/// Time of deliveries beside receivers that fail, times that alone.
const NEIGHBOURS_MAX: f64 = 1.1;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Instances of 512 KiB that are received in one turn; ten times as many without pixel data
    #[arg(long, default_value_t = 400)]
    instances: u64,
    /// Turns of each way
    #[arg(long, default_value_t = 6)]
    turns: u64,
    /// Deliveries that wait, where many do
    #[arg(long, default_value_t = 100_000)]
    waiting: u64,
}

struct Sizes {
    large: u64,
    small: u64,
    turns: u64,
    few: u64,
    many: u64,
}

pub(crate) async fn measure(arguments: &Arguments) -> Outcome<bool> {
    let quick = arguments.common.quick;
    let sizes = match quick {
        true => Sizes {
            large: 4,
            small: 40,
            turns: 1,
            few: 20,
            many: 100,
        },
        false => Sizes {
            large: arguments.instances,
            small: arguments.instances * 10,
            turns: arguments.turns,
            few: 100,
            many: arguments.waiting,
        },
    };
    let room = arguments.common.room()?;
    let mut held = true;
    held &= receiving(room.path(), &sizes).await?;
    held &= waiting(room.path(), &sizes).await?;
    held &= neighbours(room.path(), &sizes).await?;
    Ok(quick || held)
}

/// Prints a ratio, and whether it is small enough.
fn judge(what: &str, ratio: f64, most: f64) -> Outcome<bool> {
    let missed = if ratio <= most { "" } else { "   missed" };
    say(&format!("{what:<64} {ratio:>8.3}  (at most {most}){missed}"))?;
    Ok(ratio <= most)
}

/// The same is sent to a server with a rule that sends everything to a receiver that takes nothing now, and to one
/// without rules.
async fn receiving(room: &Path, sizes: &Sizes) -> Outcome<bool> {
    let (_, port) = Receiver::listen(Kind::Steady).await?;
    let (with, _) =
        Server::start_with(&room.join("rules"), &peer("THERE", port), &to_all(&["THERE"])).await?;
    let (without, _) = Server::start(&room.join("plain"), None).await?;
    let web = with.web();
    web.tell_outbox("THERE", "hold").await?;
    let mut source = Source::default();
    let mut held = true;
    let mut decided = 0;
    for (what, large, count) in [
        ("512 KiB", true, sizes.large),
        ("no pixel data", false, sizes.small),
    ] {
        let (mut acknowledged, mut settled, mut alone) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        for turn in 0..=sizes.turns {
            let instances = source.next(large, count);
            let begin = Instant::now();
            send(&without.remote(), &instances).await?;
            let took_alone = begin.elapsed();
            let begin = Instant::now();
            send(&with.remote(), &instances).await?;
            let took = begin.elapsed();
            decided += count;
            while web.waiting("THERE").await? < decided {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            // The first turn warms up.
            if turn > 0 {
                alone += took_alone;
                acknowledged += took;
                settled += begin.elapsed();
            }
        }
        let rate = (count * sizes.turns) as f64 / alone.as_secs_f64();
        say(&format!("received without rules, {what}: {rate:.0} a second"))?;
        let ratio = |took: Duration| took.as_secs_f64() / alone.as_secs_f64();
        let name = format!("with a rule beside without, {what}, until acknowledged");
        held &= judge(&name, ratio(acknowledged), RULES_MAX)? || !large;
        say(&format!(
            "{:<64} {:>8.3}",
            "    until entered into the outbox as well",
            ratio(settled)
        ))?;
    }
    with.stop()?;
    without.stop()?;
    Ok(held)
}

/// The time of one delivery, to a receiver that was held until so many waited.
async fn waiting(room: &Path, sizes: &Sizes) -> Outcome<bool> {
    let (receiver, port) = Receiver::listen(Kind::Steady).await?;
    let (server, _) =
        Server::start_with(&room.join("waiting"), &peer("THERE", port), &to_all(&["THERE"])).await?;
    let mut source = Source::default();
    let mut each = async |count: u64| -> Outcome<f64> {
        let web = server.web();
        web.tell_outbox("THERE", "hold").await?;
        send(&server.remote(), &source.next(false, count)).await?;
        while web.waiting("THERE").await? < count {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let until = receiver.taken() + count;
        let begin = Instant::now();
        web.tell_outbox("THERE", "release").await?;
        receiver.until(until).await;
        let took = begin.elapsed().as_secs_f64();
        while web.waiting("THERE").await? > 0 {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(took / count as f64)
    };
    let turns = sizes.turns * 4;
    each(sizes.few).await?;
    let mut few = 0.0;
    for _ in 0..turns {
        few += each(sizes.few).await? / (turns * 2) as f64;
    }
    let many = each(sizes.many).await?;
    for _ in 0..turns {
        few += each(sizes.few).await? / (turns * 2) as f64;
    }
    say(&format!(
        "a delivery while {} wait: {:.0} µs; while {} wait: {:.0} µs",
        sizes.few,
        few * 1e6,
        sizes.many,
        many * 1e6
    ))?;
    server.stop()?;
    judge("many beside few", many / few, MANY_MAX)
}

/// The time until a receiver has everything that waited for it: alone, and beside others that fail.
async fn neighbours(room: &Path, sizes: &Sizes) -> Outcome<bool> {
    let (alone, alone_port) = Receiver::listen(Kind::Steady).await?;
    let (beside, beside_port) = Receiver::listen(Kind::Steady).await?;
    let (_, slow_port) = Receiver::listen(Kind::Slow(Duration::from_millis(200))).await?;
    let (_, full_port) = Receiver::listen(Kind::Answers(Status::OUT_OF_RESOURCES)).await?;
    let (_, refusing_port) = Receiver::listen(Kind::Answers(Status::CANNOT_UNDERSTAND)).await?;
    let names = ["STEADY", "DOWN", "SLOW", "FULL", "REFUSING"];
    // Nobody listens on port 9.
    let ports = [beside_port, 9, slow_port, full_port, refusing_port];
    let peers: String = names
        .iter()
        .zip(ports)
        .map(|(name, port)| peer(name, port))
        .collect();
    let (one, _) = Server::start_with(
        &room.join("one"),
        &peer("STEADY", alone_port),
        &to_all(&["STEADY"]),
    )
    .await?;
    let (all, _) = Server::start_with(&room.join("all"), &peers, &to_all(&names)).await?;
    let mut source = Source::default();
    let mut took = [Duration::ZERO; 2];
    for turn in 0..=sizes.turns {
        let instances = source.next(true, sizes.large);
        for (at, (server, receiver)) in [(&one, &alone), (&all, &beside)].into_iter().enumerate() {
            let web = server.web();
            web.tell_outbox("STEADY", "hold").await?;
            send(&server.remote(), &instances).await?;
            while web.waiting("STEADY").await? < sizes.large {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            let until = receiver.taken() + sizes.large;
            let begin = Instant::now();
            web.tell_outbox("STEADY", "release").await?;
            receiver.until(until).await;
            if turn > 0 {
                took[at] += begin.elapsed();
            }
        }
    }
    one.stop()?;
    all.stop()?;
    let rate = (sizes.large * sizes.turns) as f64 / took[0].as_secs_f64();
    say(&format!(
        "delivered to one receiver alone, 512 KiB: {rate:.0} a second"
    ))?;
    let ratio = took[1].as_secs_f64() / took[0].as_secs_f64();
    judge(
        "beside four that are down, slow, full, refusing",
        ratio,
        NEIGHBOURS_MAX,
    )
}

fn peer(name: &str, port: u16) -> String {
    format!("[[peer]]\nae-title = \"{name}\"\nhost = \"127.0.0.1\"\nport = {port}\n")
}

/// A rule that sends everything to these.
fn to_all(names: &[&str]) -> String {
    format!("[[route]]\nname = \"all\"\nsend-to = {names:?}\n")
}

/// What is sent, never the same twice.
#[derive(Default)]
struct Source {
    large: u64,
    small: u64,
}

enum Batch {
    Large(Noise, std::ops::Range<u64>),
    Small(std::ops::Range<u64>),
}

impl Source {
    fn next(&mut self, large: bool, count: u64) -> Batch {
        let at = if large { &mut self.large } else { &mut self.small };
        let range = *at..*at + count;
        *at += count;
        match large {
            true => Batch::Large(Noise::new(), range),
            false => Batch::Small(range),
        }
    }
}

/// Sends all, on several associations; whoever is done first goes on.
async fn send(remote: &Remote, instances: &Batch) -> Result<()> {
    let range = match instances {
        Batch::Large(_, range) | Batch::Small(range) => range.clone(),
    };
    let next = Arc::new(AtomicU64::new(range.start));
    try_join_all((0..SENDERS).map(|_| {
        let next = Arc::clone(&next);
        let end = range.end;
        async move {
            let proposal = made::sop_classes()
                .chain([large::SOP_CLASS])
                .fold(remote.proposal(), |proposal, class| {
                    proposal.with_context(class, [&EXPLICIT])
                });
            let client = remote.client(&proposal).await?;
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= end {
                    return client.release().await;
                }
                match instances {
                    Batch::Large(noise, _) => {
                        let large = Large::new(at, LARGE_BYTES, noise);
                        store(&client, large::SOP_CLASS, large.instance()?, large.data_set()?).await?;
                    }
                    Batch::Small(_) => {
                        let made = made::instance(at)?;
                        let pieces = stream::iter([Ok(made.data_set)]).boxed();
                        store(&client, made.sop_class, made.sop_instance, pieces).await?;
                    }
                }
            }
        }
    }))
    .await
    .map(drop)
}

async fn store(client: &Client, class: Uid, instance: Uid, data_set: Pieces) -> Result<()> {
    let context = client.context_for(&class)?.id;
    let response = client
        .store(StoreRequest::new(context, class, instance), data_set)
        .await?;
    match response.status() {
        Status::SUCCESS => Ok(()),
        status => {
            let why = format!("a C-STORE is answered {status}");
            Err(Error::new(ErrorKind::Internal, "routing", why))
        }
    }
}
