//! `kill -9` at random moments under four senders: what was acknowledged is whole, found and byte for
//! byte what was sent; what was not is there whole or not at all; the index says what the archive says.
//!
//! And `kill -9` at random moments of an import: called again, it goes on, and in the end every file was
//! taken in once.
//!
//! `PACS_KILL_ROUNDS` sets how often (default 10), `PACS_SEED` repeats a run.

mod common;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use futures::future::BoxFuture;
use futures::{StreamExt as _, stream};
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::encode::encode;
use pacs_core::dataset::{Element, Value};
use pacs_core::query::Model;
use pacs_core::{AeTitle, DataSet, Level, Result, Uid};
use pacs_net::dimse::{Client, CommandField, NoServices, Operation, Reply, Services, Status, StoreRequest};
use pacs_net::scu::{Remote, identifier, query_proposal, retrieve};
use tokio::sync::Notify;

use common::{Peer, Server, count, directory, run, start, tell};

const SENDERS: u64 = 4;
/// Operations in flight on each association.
const WINDOW: u16 = 4;
const CT: Uid = Uid::constant(uids::CT_IMAGE_STORAGE);
const EXPLICIT: Uid = Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN);
/// What is handed to the association at once.
const PIECE_BYTES: usize = 64 * 1024;
/// A sender's instances of one round: more than come through before the kill.
const NUMBERS_MAX: u64 = 10_000;

/// A splitmix64 generator.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// How often something is done, and with which seed, which is told.
fn repeated(default_rounds: u64) -> (u64, u64, Random) {
    let rounds = variable("PACS_KILL_ROUNDS").unwrap_or(default_rounds);
    let seed = variable("PACS_SEED").unwrap_or_else(|| std::process::id().into());
    tell(&format!("PACS_SEED={seed} PACS_KILL_ROUNDS={rounds}"));
    (rounds, seed, Random(seed))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

fn study(round: u64, sender: u64) -> Uid {
    Uid::parse(&format!("2.25.77.{round}.{sender}")).expect("digits and dots")
}

fn instance(round: u64, sender: u64, number: u64) -> Uid {
    Uid::parse(&format!("2.25.77.{round}.{sender}.1.{number}")).expect("digits and dots")
}

/// The data set of an instance: small ones share a write, large ones stream into the archive.
fn data_set(seed: u64, round: u64, sender: u64, number: u64) -> Bytes {
    let mut random = Random(seed ^ (round << 40) ^ (sender << 32) ^ number);
    let length = match random.next() % 4 {
        0 => 300_000 + random.next() % 400_000,
        _ => 100 + random.next() % 30_000,
    };
    let mut set = DataSet::new();
    set.put_uid(tags::SOP_CLASS_UID, &CT);
    set.put_uid(tags::SOP_INSTANCE_UID, &instance(round, sender, number));
    set.put_text(tags::PATIENT_ID, VR::LO, format!("P{sender}"));
    set.put_uid(tags::STUDY_INSTANCE_UID, &study(round, sender));
    set.put_text(
        tags::SERIES_INSTANCE_UID,
        VR::UI,
        format!("2.25.77.{round}.{sender}.1"),
    );
    let pixels: Vec<u8> = (0..length / 16)
        .flat_map(|_| [random.next(), random.next()])
        .flat_map(u64::to_le_bytes)
        .collect();
    set.put(Element {
        tag: tags::PIXEL_DATA,
        vr: VR::OW,
        value: Value::Bytes(pixels.into()),
    });
    encode(&set, &EXPLICIT, &CharacterSet::default())
        .expect("it can be written")
        .into()
}

fn remote(port: u16) -> Remote {
    let title = AeTitle::parse("PACS").expect("PACS is an AE title");
    Remote::new("127.0.0.1", port, title, title)
}

/// Counts what is handed to the network, and tells when the fatal piece is.
struct Trigger {
    pieces: AtomicU64,
    fatal: u64,
    reached: Notify,
    /// What was acknowledged so far: sender and number.
    acknowledged: Mutex<Vec<(u64, u64)>>,
}

impl Trigger {
    fn new(random: &mut Random) -> Arc<Self> {
        Arc::new(Self {
            pieces: AtomicU64::new(0),
            fatal: 4 + random.next() % 400,
            reached: Notify::new(),
            acknowledged: Mutex::default(),
        })
    }

    fn acknowledged(&self) -> Vec<(u64, u64)> {
        self.acknowledged
            .lock()
            .expect("nobody panics while holding it")
            .clone()
    }

    fn count(&self) {
        if self.pieces.fetch_add(1, Ordering::SeqCst) == self.fatal {
            self.reached.notify_one();
        }
    }
}

/// Sends until the association ends; answers the numbers that were acknowledged.
async fn send(port: u16, seed: u64, round: u64, sender: u64, trigger: Arc<Trigger>) -> Vec<u64> {
    let proposal = remote(port)
        .proposal()
        .with_context(CT, [&EXPLICIT])
        .with_asynchronous(WINDOW, 1);
    let Ok(client) = remote(port).client(&proposal).await else {
        return Vec::new();
    };
    let context_id = client.context_for(&CT).expect("CT images are taken").id;
    let sending = (0..NUMBERS_MAX).map(|number| {
        let (client, trigger) = (client.clone(), Arc::clone(&trigger));
        let of_all = Arc::clone(&trigger);
        async move {
            if client.has_ended() {
                return None;
            }
            let bytes = data_set(seed, round, sender, number);
            let pieces: Vec<Bytes> = (0..bytes.len())
                .step_by(PIECE_BYTES)
                .map(|at| bytes.slice(at..bytes.len().min(at + PIECE_BYTES)))
                .collect();
            let pieces = stream::iter(pieces).map(move |piece| {
                trigger.count();
                Ok(piece)
            });
            let request = StoreRequest::new(context_id, CT, instance(round, sender, number));
            let response = client.store(request, pieces).await.ok()?;
            let is_kept = response.status() == Status::SUCCESS;
            if is_kept {
                let mut acknowledged = of_all
                    .acknowledged
                    .lock()
                    .expect("nobody panics while holding it");
                acknowledged.push((sender, number));
            }
            is_kept.then_some(number)
        }
    });
    // Answers come in any order, so one that fails says nothing of the others.
    stream::iter(sending)
        .buffer_unordered(WINDOW.into())
        .filter_map(std::future::ready)
        .collect()
        .await
}

/// Takes what a C-GET sends.
#[derive(Default)]
struct Received(Mutex<HashMap<Uid, Bytes>>);

impl Services for Received {
    fn c_store(&self, mut operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            let uid = operation.command().sop_instance()?;
            let data_set = operation.take_data_set().expect("a C-STORE has a data set");
            let bytes = data_set.gather(16 * 1024 * 1024).await?;
            self.0
                .lock()
                .expect("nobody panics while holding it")
                .insert(uid, bytes);
            Ok(Reply::success())
        })
    }
}

/// Every instance of a study.
async fn get(port: u16, study: Uid) -> HashMap<Uid, Bytes> {
    let remote = remote(port);
    let proposal = query_proposal(&remote, Model::StudyRoot, CommandField::C_GET)
        .with_context(CT, [&EXPLICIT])
        .with_role(CT, false, true);
    let received = Arc::new(Received::default());
    let association = remote
        .connect(&proposal)
        .await
        .expect("the server takes associations");
    let client = Client::start(association, Arc::clone(&received) as Arc<dyn Services>);
    let mut keys = DataSet::new();
    keys.put_uid(tags::STUDY_INSTANCE_UID, &study);
    let mut progress = retrieve(&client, Model::StudyRoot, &identifier(Level::Study, &keys))
        .await
        .expect("is asked");
    while let Some(step) = progress.next().await {
        let step = step.expect("the association lasts");
        assert_eq!(step.counts.failed, 0, "{:?}", step.comment);
    }
    client.release().await.expect("is released");
    std::mem::take(&mut *received.0.lock().expect("nobody panics while holding it"))
}

async fn round(
    data: &Path,
    arguments: &[&str],
    seed: u64,
    round: u64,
    random: &mut Random,
    after_kill: &impl Fn(),
) -> (u64, u64) {
    let server = Server::start(data, arguments);
    let port = server.port;
    let trigger = Trigger::new(random);
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| tokio::spawn(send(port, seed, round, sender, Arc::clone(&trigger))))
        .collect();
    trigger.reached.notified().await;
    server.kill();
    let mut acknowledged = Vec::new();
    for sender in senders {
        acknowledged.push(sender.await.expect("a sender does not panic"));
    }
    after_kill();

    let server = Server::start(data, arguments);
    let kept = compare(&server, seed, round, &acknowledged).await;
    server.kill();
    kept
}

/// That all that was acknowledged to each sender is there as it was sent, and nothing half; answers how many that were, and
/// how many more are there.
async fn compare(server: &Server, seed: u64, round: u64, acknowledged: &[Vec<u64>]) -> (u64, u64) {
    let (mut kept_unacknowledged, mut kept_acknowledged) = (0, 0);
    for (sender, numbers) in (0..SENDERS).zip(acknowledged) {
        let mut kept = get(server.port, study(round, sender)).await;
        for number in numbers {
            let bytes = kept.remove(&instance(round, sender, *number));
            let bytes = bytes.unwrap_or_else(|| panic!("sender {sender} lost the acknowledged {number}"));
            assert!(
                bytes == data_set(seed, round, sender, *number),
                "sender {sender}: {number} is not what was sent"
            );
            kept_acknowledged += 1;
        }
        for (uid, bytes) in kept {
            let number = uid
                .as_str()
                .rsplit('.')
                .next()
                .and_then(|number| number.parse().ok())
                .expect("a number");
            assert!(
                bytes == data_set(seed, round, sender, number),
                "sender {sender}: {number} is half there"
            );
            kept_unacknowledged += 1;
        }
    }
    (kept_acknowledged, kept_unacknowledged)
}

/// The path of something in a directory.
fn text(place: &tempfile::TempDir, name: &str) -> String {
    let path = place.path().join(name);
    path.to_str().expect("a temporary path is plain").to_owned()
}

#[test]
fn what_was_acknowledged_before_a_kill_is_kept_whole_and_nothing_is_half_there() {
    killed(&[]);
}

#[test]
fn what_was_acknowledged_before_a_kill_is_kept_whole_where_it_is_encrypted() {
    let place = directory();
    let text = |name| text(&place, name);
    let (keys, configuration) = (text("keys"), text("pacs.toml"));
    fs::write(&configuration, format!("[encryption]\nkey-file = {keys:?}\n")).expect("is written");
    let (code, made) = run(place.path(), &["keys", "new", &keys]);
    assert_eq!(code, 0, "{made}");
    killed(&["--config", &configuration]);
}

#[test]
fn what_was_acknowledged_before_a_kill_is_kept_whole_in_an_object_store() {
    let place = directory();
    let text = |name| text(&place, name);
    let configuration = text("pacs.toml");
    let url = format!("file://{}", text("bucket"));
    fs::write(&configuration, format!("[objects]\nurl = {url:?}\n")).expect("is written");
    killed(&["--config", &configuration]);
    assert!(Path::new(&text("bucket")).join("packs").is_dir());
}

#[test]
fn what_was_acknowledged_before_a_kill_is_kept_whole_where_there_is_a_replica() {
    let place = directory();
    let text = |name| text(&place, name);
    let (configuration, replica) = (text("pacs.toml"), text("replica"));
    fs::write(&configuration, format!("[replica]\ndata = {replica:?}\n")).expect("is written");
    killed(&["--config", &configuration]);
    assert!(Path::new(&replica).join("archive/segments").is_dir());
}

#[test]
fn what_was_acknowledged_before_the_machine_was_lost_is_in_the_replica() {
    let place = directory();
    let text = |name| text(&place, name);
    let (configuration, replica) = (text("pacs.toml"), text("replica"));
    let settings = format!("[replica]\ndata = {replica:?}\nmode = \"always\"\n");
    fs::write(&configuration, settings).expect("is written");
    let data = directory();
    // The replica takes the place of what is lost, and a new one is begun: whole before the next loss.
    let lose = || {
        fs::remove_dir_all(data.path()).expect("is removed");
        fs::remove_file(Path::new(&replica).join("replica-of")).expect("is removed");
        fs::rename(&replica, data.path()).expect("is moved");
        let (code, verified) = run(data.path(), &["--config", &configuration, "verify"]);
        assert_eq!(code, 0, "{verified}");
    };
    killed_each_time(data.path(), &["--config", &configuration], &lose);
}

/// Backed up under load, the machine's data destroyed, restored; then the index destroyed, and made anew.
#[test]
fn what_was_acknowledged_before_the_last_increment_is_back_when_the_machine_was_lost() {
    let (rounds, seed, mut random) = repeated(4);
    let runtime = runtime();
    let place = directory();
    let (mut backed_up, mut beyond) = (0, 0);
    for round in 0..rounds {
        let (before, after) = runtime.block_on(drill(&place, seed, round, &mut random));
        backed_up += before;
        beyond += after;
    }
    tell(&format!(
        "{rounds} restored: {backed_up} acknowledged before the increment, all back; {beyond} of what came during it"
    ));
}

async fn drill(place: &tempfile::TempDir, seed: u64, round: u64, random: &mut Random) -> (u64, u64) {
    // What was restored is another archive, whose backup is a new one.
    let (data, backup) = (text(place, "data"), text(place, &format!("backup-{round}")));
    let configuration = text(place, "pacs.toml");
    let settings = format!("[backup]\ndirectory = {backup:?}\nevery-minutes = 1000\n");
    fs::write(&configuration, settings).expect("is written");
    let (data, arguments) = (Path::new(&data), ["--config", configuration.as_str()]);
    let mark = data.join("backup/mark");
    let _ = fs::remove_dir_all(data.join("backup"));
    let mut server = Server::start(data, &arguments);
    let changed = async |server: &mut Server, before: Option<String>| {
        loop {
            // There is one from the beginning on, which leads to no increment.
            let now = fs::read_to_string(&mark).ok().filter(|now| now.contains('{'));
            if now.is_some() && now != before {
                return now;
            }
            assert!(server.runs());
            tokio::task::yield_now().await;
        }
    };
    let first = changed(&mut server, None).await;
    let trigger = Trigger::new(random);
    let port = server.port;
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| tokio::spawn(send(port, seed, round, sender, Arc::clone(&trigger))))
        .collect();
    trigger.reached.notified().await;
    let acknowledged = trigger.acknowledged();
    server.signal("USR1");
    changed(&mut server, first).await;
    server.kill();
    for sender in senders {
        sender.await.expect("a sender does not panic");
    }

    fs::remove_dir_all(data).expect("is removed");
    let (code, restored) = run(data, &["--config", &configuration, "restore"]);
    assert_eq!(code, 0, "{restored}");
    let of_sender = |sender| {
        let of_it = acknowledged.iter().filter(move |(of, _)| *of == sender);
        of_it.map(|(_, number)| *number).collect()
    };
    let acknowledged: Vec<Vec<u64>> = (0..SENDERS).map(of_sender).collect();
    // Without the backup, which is of the archive before.
    let server = Server::start(data, &[]);
    let kept = compare(&server, seed, round, &acknowledged).await;
    assert!(server.stop().success());
    fs::remove_file(data.join("index.redb")).expect("is removed");
    let (code, rebuilt) = run(data, &["rebuild-index"]);
    assert_eq!(code, 0, "{rebuilt}");
    let server = Server::start(data, &[]);
    assert_eq!(compare(&server, seed, round, &acknowledged).await, kept);
    server.kill();
    let (code, verified) = run(data, &["--config", &configuration, "backup", "verify"]);
    assert_eq!((code, count(&verified, "damaged")), (0, 0), "{verified}");
    kept
}

/// `arguments` are those of every call.
fn killed(arguments: &[&str]) {
    killed_each_time(directory().path(), arguments, &|| ());
}

fn killed_each_time(data: &Path, arguments: &[&str], after_kill: &impl Fn()) {
    let (rounds, seed, mut random) = repeated(10);
    let runtime = runtime();
    let (mut acknowledged, mut unacknowledged) = (0, 0);
    for at in 0..rounds {
        let (kept, beyond) = runtime.block_on(round(data, arguments, seed, at, &mut random, after_kill));
        acknowledged += kept;
        unacknowledged += beyond;
    }
    tell(&format!(
        "{rounds} kills: {acknowledged} acknowledged, all kept; {unacknowledged} kept whole without an acknowledgement"
    ));

    let called = |command: &str| run(data, &[arguments, &[command]].concat());
    let (_, before) = called("stats");
    let (code, verified) = called("verify");
    assert_eq!((code, count(&verified, "damaged")), (0, 0), "{verified}");
    let (code, rebuilt) = called("rebuild-index");
    assert_eq!(code, 0, "{rebuilt}");
    let (_, after) = called("stats");
    assert_eq!(before, after, "the index and the archive disagree");
    assert_eq!(count(&after, "instances"), acknowledged + unacknowledged);
}

/// Files of the import: more than the import's journal holds back, several times over.
const FILES: u64 = 900;

/// Writes the files of an import, and one that is none of ours; answers the number of each instance.
fn write_files(directory: &Path, seed: u64) -> Vec<u64> {
    let mut numbers = Vec::new();
    for number in 0.. {
        let bytes = data_set(seed, 0, 0, number);
        // Few that are large, as only their number matters.
        if bytes.len() > 100_000 && number % 16 != 0 {
            continue;
        }
        numbers.push(number);
        let below = directory.join((number % 7).to_string());
        fs::create_dir_all(&below).expect("can be made");
        fs::write(below.join(number.to_string()), bytes).expect("is written");
        if numbers.len() as u64 == FILES {
            break;
        }
    }
    fs::write(directory.join("notes"), "no instance").expect("is written");
    numbers
}

/// Bytes in the segment files of a data directory.
fn archived(data: &Path) -> u64 {
    let files = fs::read_dir(data.join("archive/segments"));
    let length = |file: std::io::Result<fs::DirEntry>| file?.metadata().map(|metadata| metadata.len());
    files.map_or(0, |files| files.map(|file| length(file).unwrap_or(0)).sum())
}

/// What an import says of the files that it refuses.
fn refusals(printed: &str) -> Vec<&str> {
    let lines = printed.lines().skip_while(|line| !line.is_empty());
    lines.collect()
}

#[test]
fn an_import_that_is_killed_and_called_again_takes_in_every_file_once() {
    let (rounds, seed, mut random) = repeated(10);
    let (source, data, untroubled) = (directory(), directory(), directory());
    let numbers = write_files(source.path(), seed);
    let path = source.path().to_str().expect("a temporary path is plain");
    let (code, expected) = run(untroubled.path(), &["import", path]);
    assert_eq!((code, count(&expected, "imported")), (3, FILES), "{expected}");
    let total = archived(untroubled.path());

    let mut killed = 0;
    for _ in 0..rounds {
        let mut import = Peer(start(data.path(), &["import", path]));
        let fatal = archived(data.path()) + random.next() % (total / rounds);
        // It ends by itself when all of it is taken in before.
        while import.0.try_wait().expect("can be asked").is_none() {
            if archived(data.path()) >= fatal {
                import.0.kill().expect("a running process can be killed");
                killed += 1;
                break;
            }
            std::thread::yield_now();
        }
    }
    let (code, printed) = run(data.path(), &["import", path]);
    assert_eq!(code, 3, "{printed}");
    let counted =
        ["imported", "kept already", "taken in by an earlier call"].map(|what| count(&printed, what));
    tell(&format!(
        "{killed} kills; the last call: {counted:?} imported, kept already, by earlier calls"
    ));
    assert_eq!(counted.iter().sum::<u64>(), FILES, "{printed}");
    assert_eq!(refusals(&printed), refusals(&expected));

    let (_, verified) = run(data.path(), &["verify"]);
    assert_eq!(
        (count(&verified, "instances whole"), count(&verified, "damaged")),
        (FILES, 0),
        "{verified}"
    );
    let stats = |data: &Path| run(data, &["stats"]).1;
    assert_eq!(stats(data.path()), stats(untroubled.path()));
    let server = Server::start(data.path(), &[]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let kept = runtime.block_on(get(server.port, study(0, 0)));
    assert_eq!(kept.len() as u64, FILES);
    for number in numbers {
        assert!(
            kept[&instance(0, 0, number)] == data_set(seed, 0, 0, number),
            "{number} is not what was read"
        );
    }
}

#[test]
fn a_signal_to_stop_lets_a_running_association_end() {
    let data = directory();
    let server = Server::start(data.path(), &[]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let proposal = remote(server.port).proposal().with_context(CT, [&EXPLICIT]);
        let association = remote(server.port)
            .connect(&proposal)
            .await
            .expect("the server takes associations");
        let client = Client::start(association, Arc::new(NoServices));
        let stopping = tokio::task::spawn_blocking(move || server.stop());
        let bytes = data_set(1, 0, 0, 0);
        let request = StoreRequest::new(
            client.context_for(&CT).expect("CT images are taken").id,
            CT,
            instance(0, 0, 0),
        );
        let response = client
            .store(request, stream::iter([Ok(bytes)]))
            .await
            .expect("the association lasts");
        assert_eq!(response.status(), Status::SUCCESS);
        client.release().await.expect("is released");
        assert!(stopping.await.expect("does not panic").success());
    });
    let (_, stats) = run(data.path(), &["stats"]);
    assert_eq!(count(&stats, "instances"), 1);
}
