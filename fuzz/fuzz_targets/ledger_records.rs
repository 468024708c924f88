//! What a ledger may hold: records of any content under keys that mean something. Whoever reads them does so or says that
//! they are damaged, and comes to an end.
//!
//! Run with `cargo fuzz run -s none ledger_records`.

#![no_main]

use std::sync::Arc;

use arbitrary::Arbitrary;
use bytes::Bytes;
use futures::executor::block_on;
use futures::{StreamExt, TryStreamExt};
use libfuzzer_sys::fuzz_target;
use pacs_core::archive::Timestamp;
use pacs_core::ledger::{Key, Ledger, Step, data_set_from_value, data_set_to_value};
use pacs_core::route::{Outbox, Outcome};
use pacs_core::workflow::performed::PerformedSteps;
use pacs_core::workflow::ups::Ups;
use pacs_core::workflow::worklist::{Worklist, WorklistQuery};
use pacs_core::{AeTitle, DataSet, Result, Uid};
use pacs_net::hl7::FailedMessages;
use pacs_store::MemoryLedger;

const KINDS: [&str; 20] = [
    "delivery",
    "waiting",
    "line",
    "line-of",
    "later",
    "dead",
    "done",
    "held",
    "changes",
    "routed",
    "unasked",
    "unsettled",
    "stable",
    "fetched",
    "ordered",
    "worklist",
    "mpps",
    "ups",
    "ups-event",
    "hl7-failed",
];

const TEXTS: [&str; 8] = [
    "A",
    "1.2.3",
    "1.2.3.4",
    "1",
    "instance 1.2.3 5",
    "CT",
    "",
    "study-stable 1.2.3 7",
];

#[derive(Arbitrary, Debug)]
struct Entry<'a> {
    kind: u8,
    key: Vec<Part<'a>>,
    value: Value<'a>,
}

#[derive(Arbitrary, Debug)]
enum Part<'a> {
    Known(u8),
    Text(&'a str),
    Small(u8),
    Number(u64),
}

#[derive(Arbitrary, Debug)]
enum Value<'a> {
    Parts(Vec<Part<'a>>),
    Empty,
    Bytes(&'a [u8]),
}

fn key(of: &'static str, parts: &[Part<'_>]) -> Bytes {
    let key = parts.iter().fold(Key::of(of), |key, part| match part {
        Part::Known(which) => key.text(TEXTS[usize::from(*which) % TEXTS.len()]),
        Part::Text(text) => key.text(text),
        Part::Small(number) => key.number((*number).into()),
        Part::Number(number) => key.number(*number),
    });
    key.bytes()
}

impl Entry<'_> {
    fn step(&self) -> Step {
        let value = match &self.value {
            Value::Parts(parts) => key("1", parts),
            Value::Empty => Bytes::new(),
            Value::Bytes(bytes) => Bytes::copy_from_slice(bytes),
        };
        Step::Put(key(KINDS[usize::from(self.kind) % KINDS.len()], &self.key), value)
    }
}

async fn deliver(ledger: Arc<dyn Ledger>) -> Result<()> {
    let outbox = Outbox::open(ledger).await?;
    let _ = outbox.unfinished().await;
    let now = Timestamp(1_700_000_000_000);
    for destination in TEXTS {
        let name: Arc<str> = destination.into();
        let _ = outbox.next_try(destination).await;
        for _ in 0..3 {
            let Ok(Some(line)) = outbox.claim(&name, now).await else {
                break;
            };
            let outcomes = [
                Outcome::Delivered(String::new()),
                Outcome::Failed("no".into()),
                Outcome::Refused("no".into()),
                Outcome::Gone,
            ];
            if let Ok(waiting) = line.waiting(4).await {
                let _ = line.finish(waiting.into_iter().zip(outcomes).collect()).await;
            }
            let retry = (line.failures() % 2 == 0).then_some(now);
            let _ = line.let_go(retry).await;
        }
        if let Ok(dead) = outbox.dead(destination, None, 5).await {
            for dead in dead {
                let _ = outbox.discard(destination, dead.what).await;
            }
        }
        let _ = outbox.send_again(destination, None).await;
        let _ = outbox.abandon(destination).await;
    }
    let _ = outbox.forget_done(now).await;
    Ok(())
}

async fn ask(ledger: &Arc<dyn Ledger>) {
    let study = Uid::constant("1.2.3");
    let worklist = Worklist::new(Arc::clone(ledger));
    if let Ok(query) = WorklistQuery::from_identifier(&DataSet::new()) {
        let _ = worklist.find(query).take(10).try_collect::<Vec<_>>().await;
    }
    let _ = worklist.of_study(&study).await;
    let _ = worklist.of_order("A").await;
    let _ = worklist.of_patient("1").await;
    let _ = worklist.set_status("A", None, "COMPLETED").await;
    let performed = PerformedSteps::new(Arc::clone(ledger));
    let _ = performed.get(&study).await;
    let _ = performed.of_study(&study).await;
    let steps = Ups::new(Arc::clone(ledger));
    let _ = steps.of_study(&study).take(10).try_collect::<Vec<_>>().await;
    let _ = steps.of_patient("1").take(10).try_collect::<Vec<_>>().await;
    let title = AeTitle::parse("A").expect("a title");
    let _ = steps.events(&title, 5).await;
    let _ = steps.waiting().await;
    let failed = FailedMessages::new(Arc::clone(ledger));
    let _ = failed.count().await;
    if let Ok(failed_messages) = failed.list(None, 5).await {
        for one in failed_messages {
            let _ = failed.get(one.id).await;
            let _ = failed.discard(one.id).await;
        }
    }
}

fuzz_target!(|entries: Vec<Entry>| {
    let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new());
    let steps: Vec<Step> = entries.iter().map(Entry::step).collect();
    for step in &steps {
        let Step::Put(_, value) = step else { continue };
        // What is damaged is read leniently: it need not be the same when it is written again.
        if let Ok(set) = data_set_from_value(value)
            && let Ok(again) = data_set_to_value(&set)
        {
            let _ = data_set_from_value(&again);
        }
    }
    block_on(async {
        if ledger.apply(steps).await.is_ok() {
            ask(&ledger).await;
            let _ = deliver(Arc::clone(&ledger)).await;
        }
    });
});
