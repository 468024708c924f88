//! [`ToPeer`]: instances to a peer, by C-STORE.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dicom_dictionary_std::tags;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use pacs_core::dataset::Element;
use pacs_core::query::LevelAttributes;
use pacs_core::route::{Line, Waiting};
use pacs_core::{Error, ErrorKind, InstanceRecord, Pacs, Result, Source, Uid};
use tokio::sync::Semaphore;

use super::{Destination, Found, Tried, find, in_order};
use crate::dimse::{Category, Status};
use crate::scu::{Kept, Outgoing, Pieces, Remote, Sending, Sent, Supply};
use crate::util;

/// Sends instances to a peer, each in the transfer syntax it is kept in where the peer takes that.
#[derive(Clone, Debug)]
pub struct ToPeer {
    pacs: Pacs,
    remote: Remote,
}

impl ToPeer {
    /// To this peer. An association is opened for each line, one operation at a time on it: so the order is kept.
    pub fn new(pacs: Pacs, remote: Remote) -> Self {
        Self { pacs, remote }
    }
}

struct Item {
    waiting: Waiting,
    record: InstanceRecord,
}

struct Items(Kept);

impl Supply<Item> for Items {
    fn outgoing(&self, item: &Item) -> Outgoing {
        self.0.outgoing(&item.record)
    }

    fn open<'a>(&'a self, item: &'a Item) -> BoxFuture<'a, Result<Pieces>> {
        self.0.open(&item.record)
    }

    fn convert<'a>(&'a self, item: &'a Item, accepted: &'a [Uid]) -> BoxFuture<'a, Result<(Uid, Pieces)>> {
        self.0.convert(&item.record, accepted)
    }
}

impl Destination for ToPeer {
    fn deliver<'a>(&'a self, _: &'a Line, batch: Vec<Waiting>) -> BoxStream<'a, (Waiting, Tried)> {
        let begun = async move {
            let (mut items, mut nothing, mut kinds) = (Vec::new(), Vec::new(), BTreeSet::new());
            let mut last = None;
            for waiting in batch {
                match find(&self.pacs, &waiting).await {
                    Found::Instance(record) => {
                        kinds.insert((record.sop_class, record.transfer_syntax));
                        let record = *record;
                        items.push(Item { waiting, record });
                    }
                    Found::Nothing(tried) if tried.is_over() => nothing.push((waiting, tried)),
                    // None behind it goes before it.
                    Found::Nothing(tried) => {
                        last = Some((waiting, tried));
                        break;
                    }
                }
            }
            // One is begun when the one before it was taken, and none once one was not: the order is kept.
            let gate = Arc::new(Semaphore::new(1));
            let gated = Arc::clone(&gate);
            let kept = Kept {
                pacs: self.pacs.clone(),
                source: Source {
                    calling_ae: Some(self.remote.called),
                    called_ae: Some(self.remote.calling),
                    ..Source::default()
                },
                patience: Duration::from_secs(60),
            };
            let items = stream::iter(items).then(move |item| {
                let gate = Arc::clone(&gated);
                async move { gate.acquire().await.ok().map(|turn| (turn.forget(), item).1) }
            });
            let items = items.take_while(|item| futures::future::ready(item.is_some()));
            let items = items.filter_map(futures::future::ready);
            let sent = match kinds.is_empty() {
                true => stream::empty().boxed(),
                false => Sending::to(self.remote.clone()).send(&kinds, Arc::new(Items(kept)), items),
            };
            let sent = sent.map(move |(item, sent)| {
                let tried = tried(&item.record, sent);
                match tried.is_over() {
                    true => gate.add_permits(1),
                    false => gate.close(),
                }
                (item.waiting, tried)
            });
            in_order(stream::iter(nothing).chain(sent).chain(stream::iter(last)))
        };
        stream::once(begun).flatten().boxed()
    }
}

/// What in the attributes of an instance identifies somebody.
fn identifying(record: &InstanceRecord) -> impl Iterator<Item = String> {
    let LevelAttributes { patient, study, .. } = &record.attributes;
    let order = study.get(tags::ACCESSION_NUMBER);
    let values = patient.iter().chain(order).flat_map(Element::strings);
    // Of a name, each component.
    values.flat_map(|value| value.split(['^', '=']).map(str::to_owned).collect::<Vec<_>>())
}

/// What a response means for a delivery. Its comment may name whom the instance is of.
fn tried(record: &InstanceRecord, sent: Sent) -> Tried {
    let (status, comment) = match sent {
        Ok(sent) => sent,
        Err(error) => return not_sent(&error),
    };
    let text = |comment: Option<String>| match comment {
        Some(comment) => format!("{status}: {}", util::without(&comment, identifying(record))),
        None => status.to_string(),
    };
    match status.category() {
        Category::Success => Tried::Delivered(String::new()),
        Category::Warning => Tried::Delivered(text(comment)),
        _ if is_for_now(status) => Tried::Busy(text(comment)),
        // What many a peer answers to whatever goes wrong within it (PS3.7 annex C).
        _ if status == Status::PROCESSING_FAILURE => Tried::Broken(text(comment)),
        _ => Tried::Failed(text(comment)),
    }
}

/// Whether a failure says that there is no room now: out of resources (PS3.4 B.2.3, PS3.7 annex C).
fn is_for_now(status: Status) -> bool {
    matches!(status.0, 0xA700..=0xA7FF) || status == Status::RESOURCE_LIMITATION
}

fn not_sent(error: &Error) -> Tried {
    let text = error.context().to_owned();
    match error.kind() {
        _ if error.operation() == "store.associate" => Tried::Away(text),
        // No context, no transcoding, not allowed, damaged: the same another time.
        ErrorKind::Unsupported
        | ErrorKind::Refused
        | ErrorKind::Corrupt
        | ErrorKind::Mismatch
        | ErrorKind::Invalid => Tried::Refused(text),
        ErrorKind::OutOfResources => Tried::Busy(text),
        // The association broke while this one was under way: it may be what breaks it.
        _ => Tried::Broken(text),
    }
}
