//! What becomes of deliveries as their destination takes, refuses and breaks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use pacs_core::audit::{AccessPoint, Audit, AuditTrail, Message, Participant};
use pacs_core::route::{Delivery, Line, Occasion, Outbox, Progress, Waiting, What};
use pacs_core::testkit::engine::{instance, instance_uid};
use pacs_core::{Error, ErrorKind, Ledger, Options, Pacs, Result, Uid};
use pacs_net::deliver::{Deliveries, Destination, Patience, Recipient, Service, ToFolder, Tried};
use pacs_store::{MemoryArchive, MemoryIndex, MemoryLedger};
use tokio::sync::Notify;

/// Answers each instance as its script says, and takes what it says nothing about.
#[derive(Default)]
struct Scripted {
    /// What is answered again and again.
    always: BTreeMap<Uid, Tried>,
    /// All that it was asked about, in order.
    asked: Mutex<Vec<Uid>>,
    /// Panics at this one.
    panics_at: Option<Uid>,
    /// Whether it is somebody else.
    is_a_peer: bool,
    changed: Notify,
}

impl Scripted {
    fn always(answers: impl IntoIterator<Item = (Uid, Tried)>) -> Arc<Self> {
        Arc::new(Self {
            always: answers.into_iter().collect(),
            ..Self::default()
        })
    }

    fn asked(&self) -> Vec<Uid> {
        self.asked.lock().unwrap().clone()
    }
}

impl Destination for Scripted {
    fn recipient(&self) -> Recipient {
        match self.is_a_peer {
            true => Recipient::Peer(Participant::node(AccessPoint::host("there.example"))),
            false => Recipient::Nobody,
        }
    }

    fn deliver<'a>(&'a self, _: &'a Line, batch: Vec<Waiting>) -> BoxStream<'a, (Waiting, Tried)> {
        let mut ended = false;
        let each = stream::iter(batch).map(|waiting| {
            let What::Instance(uid) = waiting.what else {
                unreachable!("nothing is told");
            };
            self.asked.lock().unwrap().push(uid);
            assert!(self.panics_at != Some(uid), "as asked for");
            let tried = self.always.get(&uid).cloned();
            (waiting, tried.unwrap_or_else(|| Tried::Delivered(String::new())))
        });
        // Nothing goes behind one that was not made.
        let each = each.take_while(move |(_, tried)| {
            let goes = !ended;
            ended |= !matches!(tried, Tried::Delivered(_) | Tried::Refused(_));
            futures::future::ready(goes)
        });
        each.inspect(|_| self.changed.notify_waiters()).boxed()
    }
}

/// What takes far longer never comes.
async fn soon(work: impl Future<Output = ()>) {
    let work = tokio::time::timeout(Duration::from_secs(60), work);
    work.await.expect("it comes to its end");
}

struct World {
    pacs: Pacs,
    outbox: Outbox,
}

impl World {
    async fn new() -> Self {
        Self::recording(Audit::none()).await
    }

    async fn recording(audit: Audit) -> Self {
        let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new());
        let options = Options {
            router: Some(Arc::new(|_: &Occasion<'_>| Ok(vec![Delivery::to("THERE")]))),
            ledger: Some(ledger),
            audit,
            ..Options::default()
        };
        let (archive, index) = (Arc::new(MemoryArchive::new()), Arc::new(MemoryIndex::new()));
        let pacs = Pacs::open(archive, index, options).await.unwrap();
        let outbox = pacs.outbox().unwrap().clone();
        Self { pacs, outbox }
    }

    /// Keeps an instance, and waits until it waits.
    async fn keep(&self, study: u32, number: u32) -> Uid {
        let (announced, bytes) = instance(study, 1, number, 0);
        let mut receipt = self.pacs.receive(announced).await.unwrap();
        receipt.write(bytes).await.unwrap();
        receipt.commit().await.unwrap();
        let uid = instance_uid(study, 1, number);
        let what = What::Instance(uid);
        soon(async {
            while self.outbox.recorded("THERE", &what).await.unwrap().is_none() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        uid
    }

    async fn progress(&self, uid: Uid) -> (Progress, u64, String) {
        let recorded = self.outbox.recorded("THERE", &What::Instance(uid)).await;
        let recorded = recorded.unwrap().expect("it was decided about");
        (recorded.progress, recorded.attempts, recorded.why)
    }

    /// Delivers until `done`.
    async fn deliver(&self, destination: Arc<dyn Destination>, done: impl Future<Output = ()>) {
        let service = Service {
            name: "THERE".into(),
            destination,
            workers: 1,
            per_second_max: 0,
        };
        let patience = Patience {
            first: Duration::from_millis(1),
            longest: Duration::from_millis(4),
            attempts_max: 3,
            ..Patience::default()
        };
        let deliveries = Deliveries::new(&self.pacs, vec![service], patience).unwrap();
        soon(deliveries.run(done)).await;
    }

    fn waits(&self) -> u64 {
        self.outbox.status().iter().map(|status| status.waiting).sum()
    }

    async fn until_nothing_waits(&self) {
        while self.waits() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn one_that_breaks_off_while_others_go_through_ends_among_the_dead_and_lets_its_study_go_on() {
    for breaks in [
        Tried::Broken("it breaks off".to_owned()),
        Tried::Failed("no".to_owned()),
    ] {
        let world = World::new().await;
        let bad = world.keep(1, 1).await;
        let behind = world.keep(1, 2).await;
        let destination = Scripted::always([(bad, breaks.clone())]);
        // Others go through again and again.
        let others = async {
            for number in 1.. {
                if world.progress(bad).await.0 == Progress::Dead {
                    break;
                }
                world.keep(2, number).await;
            }
            world.until_nothing_waits().await;
        };
        world.deliver(destination.clone(), others).await;
        assert_eq!(world.progress(behind).await.0, Progress::Done);
        let tries = destination.asked().iter().filter(|uid| **uid == bad).count();
        assert!(tries >= 3, "{breaks:?}: {tries}");
    }
}

#[tokio::test]
async fn one_that_nobody_was_asked_about_waits_whatever_goes_through_meanwhile() {
    let world = World::new().await;
    let one = world.keep(1, 1).await;
    let destination = Scripted::always([(one, Tried::Away("no more associations".to_owned()))]);
    let others = async {
        for number in 1.. {
            let tries = destination.asked().iter().filter(|uid| **uid == one).count();
            if tries > 10 {
                break;
            }
            world.keep(2, number).await;
        }
    };
    world.deliver(destination.clone(), others).await;
    let (progress, attempts, _) = world.progress(one).await;
    assert_eq!((progress, attempts), (Progress::Waiting, 0));
}

#[tokio::test]
async fn what_breaks_off_while_nothing_goes_through_waits_however_often_it_is_tried() {
    for breaks in [
        Tried::Broken("it breaks off".to_owned()),
        Tried::Away("nobody is there".to_owned()),
        Tried::Busy("no room".to_owned()),
    ] {
        let world = World::new().await;
        let (one, other) = (world.keep(1, 1).await, world.keep(2, 1).await);
        let destination = Scripted::always([(one, breaks.clone()), (other, breaks.clone())]);
        let often = async {
            while destination.asked().len() < 20 {
                destination.changed.notified().await;
            }
        };
        world.deliver(destination.clone(), often).await;
        for uid in [one, other] {
            let (progress, attempts, _) = world.progress(uid).await;
            assert_eq!((progress, attempts), (Progress::Waiting, 0), "{breaks:?}");
        }
        // Neither kept the other from its turn.
        let asked = destination.asked();
        assert!(asked.contains(&one) && asked.contains(&other), "{breaks:?}");
    }
}

#[tokio::test]
async fn a_destination_that_panics_at_one_delivers_the_others() {
    let world = World::new().await;
    let (first, bad, behind) = (
        world.keep(1, 1).await,
        world.keep(1, 2).await,
        world.keep(1, 3).await,
    );
    let destination = Arc::new(Scripted {
        panics_at: Some(bad),
        ..Scripted::default()
    });
    let other = world.keep(2, 1).await;
    world.deliver(destination, world.until_nothing_waits()).await;
    for uid in [first, behind, other] {
        assert_eq!(world.progress(uid).await.0, Progress::Done);
    }
    assert_eq!(
        world.progress(bad).await,
        (Progress::Dead, 3, "a destination panicked".to_owned())
    );
}

#[tokio::test]
async fn what_was_delivered_is_recorded_when_deliveries_are_stopped() {
    let world = World::new().await;
    let (first, second) = (world.keep(1, 1).await, world.keep(1, 2).await);
    /// Takes the first, and never comes back from the second.
    struct Hangs(Uid, Notify);
    impl Destination for Hangs {
        fn recipient(&self) -> Recipient {
            Recipient::Nobody
        }

        fn deliver<'a>(&'a self, _: &'a Line, batch: Vec<Waiting>) -> BoxStream<'a, (Waiting, Tried)> {
            let each = stream::iter(batch).then(move |waiting| async move {
                if waiting.what != What::Instance(self.0) {
                    self.1.notify_one();
                    return std::future::pending().await;
                }
                (waiting, Tried::Delivered("thanks".to_owned()))
            });
            each.boxed()
        }
    }
    let destination = Arc::new(Hangs(first, Notify::new()));
    let hangs = Arc::clone(&destination);
    world
        .deliver(destination, async move { hangs.1.notified().await })
        .await;
    assert_eq!(
        world.progress(first).await,
        (Progress::Done, 0, "thanks".to_owned())
    );
    assert_eq!(world.progress(second).await.0, Progress::Waiting);
}

#[tokio::test]
async fn what_was_removed_before_is_not_recorded_any_more_and_goes_out_when_it_comes_again() {
    let world = World::new().await;
    let uid = world.keep(1, 1).await;
    world.pacs.remove(&uid).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let to_folder = Arc::new(ToFolder::new(world.pacs.clone(), folder.path().to_owned()));
    world
        .deliver(to_folder.clone(), world.until_nothing_waits())
        .await;
    let recorded = world.outbox.recorded("THERE", &What::Instance(uid)).await;
    assert!(recorded.unwrap().is_none());
    world.keep(1, 1).await;
    world.deliver(to_folder, world.until_nothing_waits()).await;
    assert_eq!(world.progress(uid).await.0, Progress::Done);
}

#[tokio::test]
async fn no_uid_leads_out_of_the_folder() {
    let world = World::new().await;
    let above = tempfile::tempdir().unwrap();
    let folder = above.path().join("exports").join("here");
    let (announced, bytes) = instance(1, 1, 1, 0);
    // What some peer may send as UIDs, of the same length so that everything else stays.
    let mut bytes = bytes.to_vec();
    for (tag, text) in [([0x20, 0x00, 0x0D, 0x00], ".."), ([0x20, 0x00, 0x0E, 0x00], "..")] {
        let at = bytes
            .windows(4)
            .position(|four| four == tag)
            .expect("it is there");
        let length = usize::from(u16::from_le_bytes([bytes[at + 6], bytes[at + 7]]));
        bytes[at + 8..at + 8 + length].fill(0);
        bytes[at + 8..at + 10].copy_from_slice(text.as_bytes());
    }
    let mut receipt = world.pacs.receive(announced).await.unwrap();
    receipt.write(bytes.into()).await.unwrap();
    receipt.commit().await.unwrap();
    soon(async {
        while world.waits() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let destination = Arc::new(ToFolder::new(world.pacs.clone(), folder.clone()));
    world.deliver(destination, world.until_nothing_waits()).await;
    let written = folder.join("_..").join("_..");
    assert_eq!(std::fs::read_dir(written).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(above.path()).unwrap().count(), 1);
    assert_eq!(
        std::fs::read_dir(above.path().join("exports")).unwrap().count(),
        1
    );
}

/// Keeps what events were about; takes none before it may.
#[derive(Default)]
struct Trail {
    may: AtomicBool,
    refused: AtomicUsize,
    events: Mutex<Vec<String>>,
}

impl AuditTrail for Trail {
    fn record(&self, message: &Message) -> Result<()> {
        if !self.may.load(Ordering::Relaxed) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Error::new(ErrorKind::OutOfResources, "test", "as asked for"));
        }
        let event = message.event().meaning().to_owned();
        self.events.lock().unwrap().push(event);
        Ok(())
    }
}

#[tokio::test]
async fn what_must_be_recorded_before_it_goes_waits_until_it_can_be() {
    let trail = Arc::new(Trail::default());
    let us = Participant::process("test", []);
    let world = World::recording(Audit::new(trail.clone(), us, true)).await;
    let (good, bad) = (world.keep(1, 1).await, world.keep(1, 2).await);
    let destination = Arc::new(Scripted {
        always: BTreeMap::from([(bad, Tried::Refused("no".to_owned()))]),
        is_a_peer: true,
        ..Scripted::default()
    });
    let until_tried = async {
        while trail.refused.load(Ordering::Relaxed) < 3 {
            tokio::task::yield_now().await;
        }
    };
    world.deliver(destination.clone(), until_tried).await;
    assert_eq!(destination.asked(), []);
    assert_eq!(world.progress(good).await, (Progress::Waiting, 0, String::new()));

    trail.may.store(true, Ordering::Relaxed);
    world
        .deliver(destination.clone(), world.until_nothing_waits())
        .await;
    assert_eq!(world.progress(good).await.0, Progress::Done);
    assert_eq!(world.progress(bad).await.0, Progress::Dead);
    let begins = "Begin Transferring DICOM Instances";
    let went = "DICOM Instances Transferred";
    // What went, and what will not.
    assert_eq!(*trail.events.lock().unwrap(), [begins, went, went]);
}
