//! Senders so slow that they would keep their turn from all others.

mod support;

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use pacs_core::hooks::Arriving;
use pacs_core::testkit::engine::{instance, instance_uid};
use pacs_core::{Announced, Decider, Observer, Options, Pacs, Result};
use pacs_net::dimse::*;
use pacs_net::scp::{PacsServices, ScpOptions};
use pacs_net::transport::{Acceptor, Connection, Proposal, accept};
use pacs_net::ul::codec::{read_pdu, write_pdu};
use pacs_net::ul::pdu::*;
use pacs_store::{MemoryArchive, MemoryIndex};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;

fn explicit() -> Proposal {
    Proposal::new(title("SCU"), title("SCP")).with_context(CT, [&EXPLICIT])
}

/// A runtime whose clock is paused takes a wait for the engine's own thread for idleness, and lets time
/// pass. A blocking task keeps it from that, from before each commit until after it.
#[derive(Default)]
struct ClockHolder(Mutex<Vec<mpsc::Sender<()>>>);

impl Decider for ClockHolder {
    fn before_store(&self, _: &Arriving<'_>) -> Result<()> {
        let (release, held) = mpsc::channel();
        self.0.lock().unwrap().push(release);
        tokio::task::spawn_blocking(move || held.recv());
        Ok(())
    }
}

impl Observer for ClockHolder {
    fn observe(&self, _: &pacs_core::Event) -> Result<()> {
        self.0.lock().unwrap().pop();
        Ok(())
    }
}

async fn engine(receipts_max: usize) -> Pacs {
    let holder = Arc::new(ClockHolder::default());
    let options = Options {
        receipts_max,
        decider: holder.clone(),
        observers: vec![holder],
        ..Options::default()
    };
    let (archive, index) = (MemoryArchive::default(), MemoryIndex::default());
    Pacs::open(Arc::new(archive), Arc::new(index), options)
        .await
        .unwrap()
}

fn services(pacs: &Pacs) -> Arc<PacsServices> {
    Arc::new(PacsServices::new(pacs.clone(), ScpOptions::new(title("SCP"))))
}

fn p_data(control: u8, data: &[u8]) -> Vec<u8> {
    let length = data.len() as u32 + 2;
    [
        &[4, 0][..],
        &(length + 4).to_be_bytes(),
        &length.to_be_bytes(),
        &[1, control],
        data,
    ]
    .concat()
}

async fn pdu(stream: &mut DuplexStream) -> Option<Pdu> {
    let mut header = [0; 6];
    stream.read_exact(&mut header).await.ok()?;
    let mut body = vec![0; u32::from_be_bytes(header[2..].try_into().unwrap()) as usize];
    stream.read_exact(&mut body).await.ok()?;
    Some(read_pdu(header[0], &body).unwrap())
}

/// What a sender was told: the status of its C-STORE, and whether the association was aborted behind it.
type Told = (Status, bool);

/// An instance that is longer by `length` bytes of Data Set Trailing Padding (FFFC,FFFC).
fn long(number: u32, length: u32) -> (Announced, Bytes) {
    let (announced, bytes) = instance(1, 1, number, 0);
    let header = [0xFC, 0xFF, 0xFC, 0xFF, b'O', b'B', 0, 0];
    let padding = vec![0; length as usize];
    let all = [&bytes[..], &header, &length.to_le_bytes(), &padding].concat();
    (announced, all.into())
}

/// Sends an instance in pieces, one a second.
async fn slow(
    services: Arc<PacsServices>,
    (announced, bytes): (Announced, Bytes),
    piece: usize,
) -> (JoinHandle<Told>, JoinHandle<Result<Ended>>) {
    let (mut stream, far) = tokio::io::duplex(1024 * 1024);
    let server = tokio::spawn(async move {
        let association = accept(Connection::new(far, None), &Acceptor::new(policy())).await?;
        serve(association, services).await
    });
    let request = Pdu::AssociateRq(Box::new(explicit().request().clone()));
    stream.write_all(&write_pdu(&request).unwrap()).await.unwrap();
    assert!(matches!(pdu(&mut stream).await, Some(Pdu::AssociateAc(_))));
    let mut command = CommandSet::request(CommandField::C_STORE)
        .with_affected_sop_class(&announced.sop_class)
        .with_affected_sop_instance(&announced.sop_instance);
    command.set_message_id(1);
    command.set_has_data_set(true);
    // Before the sender's own time begins, so that it has its turn before others come.
    stream.write_all(&p_data(3, &command.encode())).await.unwrap();
    let sender = tokio::spawn(async move {
        let (mut reading, mut writing) = tokio::io::split(stream);
        let sending = tokio::spawn(async move {
            let count = bytes.len().div_ceil(piece);
            for (at, piece) in bytes.chunks(piece).enumerate() {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let control = if at + 1 == count { 2 } else { 0 };
                if writing.write_all(&p_data(control, piece)).await.is_err() {
                    break;
                }
            }
            writing
        });
        let mut header = [0; 12];
        reading.read_exact(&mut header).await.unwrap();
        let length = u32::from_be_bytes(header[2..6].try_into().unwrap()) as usize;
        let mut response = vec![0; length - 6];
        reading.read_exact(&mut response).await.unwrap();
        let status = CommandSet::decode(&Bytes::from(response)).unwrap().status();
        let mut next = [0; 10];
        let aborted =
            status != Status::SUCCESS && reading.read_exact(&mut next).await.is_ok() && next[0] == 7;
        sending.abort();
        (status, aborted)
    });
    (sender, server)
}

async fn store(client: &Client, (announced, bytes): (Announced, Bytes)) -> Status {
    let request = StoreRequest::new(
        client.context_for(&announced.sop_class).unwrap().id,
        announced.sop_class,
        announced.sop_instance,
    );
    let data_set = futures::stream::iter([Ok(bytes)]);
    client.store(request, data_set).await.unwrap().status()
}

const OUT_OF_RESOURCES: Status = Status(0xA700);

#[tokio::test(start_paused = true)]
async fn one_of_those_that_are_too_slow_gives_its_turn_to_the_one_who_waits() {
    let pacs = engine(2).await;
    let services = services(&pacs);
    let (first, first_served) = slow(services.clone(), instance(1, 1, 1, 0), 1).await;
    let (second, second_served) = slow(services.clone(), instance(1, 1, 2, 0), 1).await;
    let (client, _server) = pair(policy(), explicit(), services).await;
    assert_eq!(store(&client, instance(1, 1, 3, 0)).await, Status::SUCCESS);
    // The other one is in nobody's way any more, however slow it is.
    let told = [first.await.unwrap(), second.await.unwrap()];
    let (slower, spared) = if told[0].0 == Status::SUCCESS {
        (1, 0)
    } else {
        (0, 1)
    };
    assert_eq!(told[slower], (OUT_OF_RESOURCES, true));
    assert_eq!(told[spared], (Status::SUCCESS, false));
    assert_eq!(pacs.totals().await.unwrap().instances, 2);
    let refused = instance_uid(1, 1, 1 + slower as u32);
    assert!(pacs.lookup(&refused).await.unwrap().is_none());
    // Its association is over on our side as well.
    let served = [first_served, second_served].into_iter().nth(slower).unwrap();
    assert!(served.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn slow_senders_take_the_time_they_need_while_nobody_waits() {
    let pacs = engine(2).await;
    let services = services(&pacs);
    let (sender, _served) = slow(services.clone(), instance(1, 1, 1, 0), 1).await;
    let (client, _server) = pair(policy(), explicit(), services).await;
    assert_eq!(store(&client, instance(1, 1, 3, 0)).await, Status::SUCCESS);
    assert_eq!(sender.await.unwrap(), (Status::SUCCESS, false));
}

#[tokio::test(start_paused = true)]
async fn senders_that_are_fast_enough_keep_their_turn_and_the_one_who_waits_is_told_to_come_again() {
    let pacs = engine(1).await;
    let services = services(&pacs);
    let (sender, _served) = slow(services.clone(), long(1, 500_000), 5_000).await;
    let (client, _server) = pair(policy(), explicit(), services).await;
    assert_eq!(store(&client, instance(1, 1, 3, 0)).await, OUT_OF_RESOURCES);
    assert_eq!(sender.await.unwrap(), (Status::SUCCESS, false));
}
