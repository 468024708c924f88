//! Peak memory of the server: large instances received at once and fetched at once, one of 5 GB over DICOMweb,
//! idle associations, active ones beside them.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::{BoxFuture, try_join_all};
use futures::{FutureExt as _, StreamExt as _};
use pacs_core::query::Model;
use pacs_core::{DataSet, Error, ErrorKind, Level, Result, Uid};
use pacs_net::dimse::{Client, CommandField, Operation, Reply, Services, Status, StoreRequest};
use pacs_net::scu::{Remote, identifier, query_proposal, retrieve};
use twox_hash::XxHash3_128;

use crate::frames::{self, Frames};
use crate::large::{Large, Noise, SOP_CLASS, SYNTAX};
use crate::server::Server;
use crate::{Common, say, web};

/// Frames that are asked for, from the first to the last.
const FRAMES_ASKED: u64 = 50;
/// Peak while large instances come or go.
const PEAK_MAX_MEBIBYTES: u64 = 256;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Large instances at once
    #[arg(long, default_value_t = 10)]
    instances: u64,
    /// Length of each
    #[arg(long, default_value_t = 1024)]
    mebibytes: u64,
    /// Length of the instance that goes over DICOMweb
    #[arg(long, default_value_t = 4800)]
    web_mebibytes: u64,
    /// Idle associations
    #[arg(long, default_value_t = 500)]
    idle: u64,
    /// Active associations beside them: each sends instances of 512 KiB and fetches them back
    #[arg(long, default_value_t = 100)]
    active: u64,
    /// Instances that each active association sends
    #[arg(long, default_value_t = 20)]
    each: u64,
}

pub(crate) async fn measure(arguments: &Arguments) -> std::result::Result<bool, Box<dyn StdError>> {
    let quick = arguments.common.quick;
    let (instances, mebibytes) = match quick {
        true => (3, 8),
        false => (arguments.instances, arguments.mebibytes),
    };
    let (idle, active, each) = match quick {
        true => (20, 5, 2),
        false => (arguments.idle, arguments.active, arguments.each),
    };
    let room = arguments.common.room()?;
    let (server, _) = Server::start(&room.path().join("data"), None).await?;
    let remote = server.remote();
    let mut table = Table {
        server: &server,
        peak: 0,
    };
    say(&format!(
        "{:<58} {:>9} {:>11} {:>13}",
        "", "time", "MiB/s", "peak memory"
    ))?;
    table.row("started", Instant::now(), 0)?;

    let noise = Noise::new();
    let large: Vec<Large> = (0..instances)
        .map(|number| Large::new(number, mebibytes << 20, &noise))
        .collect();
    let bytes = large.iter().map(Large::pixel_bytes).sum();
    let begin = Instant::now();
    try_join_all(
        large
            .iter()
            .map(|large| alone(send(remote.clone(), vec![large.clone()]))),
    )
    .await?;
    table.row(
        &format!("{instances} of {mebibytes} MiB received at once"),
        begin,
        bytes,
    )?;
    let begin = Instant::now();
    try_join_all(
        large
            .iter()
            .map(|large| alone(fetch(remote.clone(), vec![large.clone()]))),
    )
    .await?;
    table.row(
        &format!("{instances} of {mebibytes} MiB fetched at once, bytes compared"),
        begin,
        bytes,
    )?;
    let web_mebibytes = match quick {
        true => 8,
        false => arguments.web_mebibytes,
    };
    over_the_web(&mut table, web_mebibytes).await?;
    let peak_large = table.peak;

    let begin = Instant::now();
    let mut kept = Vec::new();
    for _ in 0..idle {
        kept.push(
            remote
                .client(&query_proposal(&remote, Model::StudyRoot, CommandField::C_FIND))
                .await?,
        );
    }
    table.row(&format!("{idle} idle associations"), begin, 0)?;

    let share = |at: u64| -> Vec<Large> {
        let first = 1000 + at * each;
        (first..first + each)
            .map(|number| Large::new(number, 512 << 10, &noise))
            .collect()
    };
    let bytes = active * each * (512 << 10);
    let begin = Instant::now();
    try_join_all((0..active).map(|at| alone(send(remote.clone(), share(at))))).await?;
    table.row(
        &format!("beside them {active} active ones: {each} instances each sent"),
        begin,
        bytes,
    )?;
    let begin = Instant::now();
    try_join_all((0..active).map(|at| alone(fetch(remote.clone(), share(at))))).await?;
    table.row(
        "                     the same fetched, bytes compared",
        begin,
        bytes,
    )?;

    // The idle ones are still served.
    let begin = Instant::now();
    for client in &kept {
        let study = large.first().map(Large::study).transpose()?;
        let found = ask(client, study).await?;
        if found != 1 {
            return Err("an idle association is not answered".into());
        }
    }
    table.row(&format!("a query on each of the {idle}"), begin, 0)?;
    for client in kept {
        client.release().await?;
    }
    server.stop()?;
    let held = peak_large < PEAK_MAX_MEBIBYTES << 20;
    if !quick && !held {
        say(&format!(
            "missed: the peak with large instances is not under {PEAK_MAX_MEBIBYTES} MiB"
        ))?;
    }
    Ok(quick || held)
}

/// One instance through STOW-RS, frames of it, and the whole of it.
async fn over_the_web(table: &mut Table<'_>, mebibytes: u64) -> std::result::Result<(), Box<dyn StdError>> {
    let web = table.server.web();
    let frames = Frames::new(mebibytes << 20);
    let begin = Instant::now();
    let bytes = web.store(&frames).await?;
    table.row(
        &format!("{} frames, {} MB, by STOW-RS", frames.count(), bytes / 1_000_000),
        begin,
        bytes,
    )?;
    let some: Vec<u64> = (0..FRAMES_ASKED)
        .map(|at| at * (frames.count() - 1) / (FRAMES_ASKED - 1) + 1)
        .collect();
    let stored = format!("image/dicom-rle; transfer-syntax={}", frames::SYNTAX);
    for (what, accept, wanted) in [
        (
            "as stored",
            stored.as_str(),
            Frames::stored as fn(&Frames, u64) -> Bytes,
        ),
        ("decoded", "application/octet-stream", Frames::pixels),
    ] {
        let begin = Instant::now();
        let mut bytes = 0;
        for number in &some {
            let frame = web.frame(*number, accept).await?;
            if frame != wanted(&frames, *number) {
                return Err(format!("frame {number}, {what}, is not what was sent").into());
            }
            bytes += frame.len() as u64;
        }
        table.row(&format!("{FRAMES_ASKED} frames of it, {what}"), begin, bytes)?;
    }
    let begin = Instant::now();
    let (length, checksum) = web.fetch().await?;
    if (length, checksum) != web::sent(&frames)? {
        return Err("what came over the web is not what was sent".into());
    }
    table.row("the whole by WADO-RS, bytes compared", begin, length)?;
    Ok(())
}

struct Table<'s> {
    server: &'s Server,
    /// The highest so far.
    peak: u64,
}

impl Table<'_> {
    fn row(&mut self, what: &str, begin: Instant, bytes: u64) -> std::io::Result<()> {
        let took: Duration = begin.elapsed();
        let peak = self.server.peak_memory()?;
        self.peak = self.peak.max(peak);
        let rate = match bytes {
            0 => String::new(),
            bytes => format!("{:.0}", bytes as f64 / took.as_secs_f64() / f64::from(1 << 20)),
        };
        let seconds = format!("{:.1} s", took.as_secs_f64());
        say(&format!(
            "{what:<58} {seconds:>9} {rate:>11} {:>9} MiB",
            peak >> 20
        ))
    }
}

/// On a task of its own.
async fn alone(work: impl Future<Output = Result<()>> + Send + 'static) -> Result<()> {
    tokio::spawn(work).await.map_err(|_| failed("a task panicked"))?
}

/// Sends on one association, one after the other.
pub(crate) async fn send(remote: Remote, instances: Vec<Large>) -> Result<()> {
    let proposal = remote.proposal().with_context(SOP_CLASS, [&SYNTAX]);
    let client = remote.client(&proposal).await?;
    let context_id = client.context_for(&SOP_CLASS)?.id;
    for large in instances {
        let request = StoreRequest::new(context_id, SOP_CLASS, large.instance()?);
        let response = client.store(request, large.data_set()?).await?;
        if response.status() != Status::SUCCESS {
            return Err(failed(format!("a C-STORE is answered {}", response.status())));
        }
    }
    client.release().await
}

/// Fetches on one association, one after the other, and compares what comes with what was sent.
pub(crate) async fn fetch(remote: Remote, instances: Vec<Large>) -> Result<()> {
    let received = Arc::new(Checksums::default());
    let proposal = query_proposal(&remote, Model::StudyRoot, CommandField::C_GET)
        .with_role(SOP_CLASS, false, true)
        .with_context(SOP_CLASS, [&SYNTAX]);
    let services: Arc<dyn Services> = Arc::clone(&received) as _;
    let client = Client::start(remote.connect(&proposal).await?, services);
    for large in instances {
        let mut keys = DataSet::new();
        keys.put_uid(dicom_dictionary_std::tags::STUDY_INSTANCE_UID, &large.study()?);
        let mut progress = retrieve(&client, Model::StudyRoot, &identifier(Level::Study, &keys)).await?;
        while let Some(progress) = progress.next().await {
            let progress = progress?;
            if !progress.status.is_pending() && progress.status != Status::SUCCESS {
                return Err(failed(format!("a C-GET is answered {}", progress.status)));
            }
        }
        let came = received.take(&large.instance()?);
        if came != Some(large.checksum().await?) {
            return Err(failed("what was fetched is not what was sent"));
        }
    }
    client.release().await
}

async fn ask(client: &Client, study: Option<Uid>) -> Result<usize> {
    let mut keys = DataSet::new();
    if let Some(study) = study {
        keys.put_uid(dicom_dictionary_std::tags::STUDY_INSTANCE_UID, &study);
    }
    let identifier = identifier(Level::Study, &keys);
    let found = pacs_net::scu::find(client, Model::StudyRoot, &identifier).await?;
    Ok(found.count().await)
}

/// Takes the sub-operations of a C-GET, and keeps of each instance its checksum alone.
#[derive(Default)]
struct Checksums(Mutex<HashMap<Uid, u128>>);

impl Checksums {
    fn take(&self, instance: &Uid) -> Option<u128> {
        let mut received = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        received.remove(instance)
    }
}

impl Services for Checksums {
    fn c_store(&self, mut operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        async move {
            let instance = operation.command().sop_instance()?;
            let mut digest = XxHash3_128::new();
            if let Some(mut data_set) = operation.take_data_set() {
                while let Some(piece) = data_set.next_piece().await? {
                    digest.write(&piece);
                }
            }
            let mut received = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            received.insert(instance, digest.finish_128());
            Ok(Reply::success())
        }
        .boxed()
    }
}

fn failed(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Internal, "memory", why)
}
