//! [`ToPeer`]: instances to a peer, by C-STORE.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dicom_dictionary_std::tags;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use pacs_core::dataset::Element;
use pacs_core::dataset::recode::{Overrides, Recoder, Target, is_native, recode};
use pacs_core::deid::{Deidentified, Deidentifier};
use pacs_core::query::LevelAttributes;
use pacs_core::route::{Line, Waiting};
use pacs_core::{Error, ErrorKind, InstanceRecord, Pacs, Result, Retry, Source, Uid};
use tokio::sync::Semaphore;

use super::{Destination, Found, Recipient, Tried, find, in_order};
use crate::dimse::{Category, Status};
use crate::scu::{Kept, Outgoing, Pieces, Remote, Sending, Sent, Supply};
use crate::util;

/// Sends instances to a peer, each in the transfer syntax it is kept in where the peer takes that.
#[derive(Clone, Debug)]
pub struct ToPeer {
    pacs: Pacs,
    remote: Remote,
    deidentifier: Option<Deidentifier>,
}

impl ToPeer {
    /// To this peer. An association is opened for each line, one operation at a time on it: so the order is kept.
    pub fn new(pacs: Pacs, remote: Remote) -> Self {
        Self {
            pacs,
            remote,
            deidentifier: None,
        }
    }

    /// The same, de-identified.
    #[must_use]
    pub fn deidentifying(mut self, by: Option<Deidentifier>) -> Self {
        self.deidentifier = by;
        self
    }
}

struct Item {
    waiting: Waiting,
    record: InstanceRecord,
    /// It de-identified, once it is its turn: what is said of it, and itself until it is sent.
    made: Option<(Outgoing, Mutex<Option<Result<Deidentified>>>)>,
}

struct Items {
    kept: Kept,
    by: Option<Deidentifier>,
}

impl Items {
    /// The de-identified data set, and its transfer syntax.
    async fn deidentified(&self, item: &Item, by: &Deidentifier) -> Result<(Uid, Pieces)> {
        self.kept
            .pacs
            .admit_retrieve(&self.kept.source, &item.record)
            .await?;
        let made = item
            .made
            .as_ref()
            .and_then(|(_, made)| made.lock().unwrap_or_else(PoisonError::into_inner).take());
        let made = match made {
            Some(made) => made?,
            // It is sent again.
            None => self.kept.pacs.deidentified(&item.record, by).await?,
        };
        Ok((made.transfer_syntax, made.data_set))
    }
}

impl Supply<Item> for Items {
    fn outgoing(&self, item: &Item) -> Outgoing {
        match &item.made {
            Some((outgoing, _)) => *outgoing,
            None => self.kept.outgoing(&item.record),
        }
    }

    fn open<'a>(&'a self, item: &'a Item) -> BoxFuture<'a, Result<Pieces>> {
        match &self.by {
            Some(by) => Box::pin(async move { Ok(self.deidentified(item, by).await?.1) }),
            None => self.kept.open(&item.record),
        }
    }

    fn convert<'a>(&'a self, item: &'a Item, accepted: &'a [Uid]) -> BoxFuture<'a, Result<(Uid, Pieces)>> {
        let Some(by) = &self.by else {
            return self.kept.convert(&item.record, accepted);
        };
        Box::pin(async move {
            let (from, pieces) = self.deidentified(item, by).await?;
            let target = accepted.iter().find_map(|accepted| Target::of(accepted));
            let (Some(target), true) = (target, is_native(&from)) else {
                let why = format!(
                    "the receiver does not take transfer syntax {from}, and what is de-identified isn't decoded for it"
                );
                return Err(Error::new(ErrorKind::Unsupported, "store.convert", why));
            };
            let recoder = Recoder::new(&from, target, Overrides::default())?;
            Ok((target.uid(), recode(recoder, pieces)))
        })
    }
}

impl Destination for ToPeer {
    fn recipient(&self) -> Recipient {
        Recipient::Peer(self.remote.participant())
    }

    fn deidentifies(&self) -> bool {
        self.deidentifier.is_some()
    }

    fn deliver<'a>(&'a self, _: &'a Line, batch: Vec<Waiting>) -> BoxStream<'a, (Waiting, Tried)> {
        let begun = async move {
            let (mut items, mut nothing, mut kinds) = (Vec::new(), Vec::new(), BTreeSet::new());
            let mut last = None;
            for waiting in batch {
                match find(&self.pacs, &waiting).await {
                    Found::Instance(record) => {
                        kinds.insert((record.sop_class, record.transfer_syntax));
                        if self.deidentifier.is_some() {
                            // What it may become, which is known when its turn has come.
                            let explicit = Target::ExplicitLittleEndian.uid();
                            kinds.insert((record.sop_class, explicit));
                        }
                        let record = *record;
                        items.push(Item {
                            waiting,
                            record,
                            made: None,
                        });
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
            let (pacs, by) = (self.pacs.clone(), self.deidentifier.clone());
            let items = stream::iter(items).then(move |mut item: Item| {
                let (gate, pacs, by) = (Arc::clone(&gated), pacs.clone(), by.clone());
                async move {
                    gate.acquire().await.ok()?.forget();
                    if let Some(by) = &by {
                        let made = pacs.deidentified(&item.record, by).await;
                        item.made = Some((outgoing(&item.record, &made), Mutex::new(Some(made))));
                    }
                    Some(item)
                }
            });
            let items = items.take_while(|item| futures::future::ready(item.is_some()));
            let items = items.filter_map(futures::future::ready);
            let by = self.deidentifier.clone();
            let supply = Items { kept, by };
            let sent = match kinds.is_empty() {
                true => stream::empty().boxed(),
                false => Sending::to(self.remote.clone()).send(&kinds, Arc::new(supply), items),
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

/// What is said of an instance that is de-identified, or of one that can't be: then it isn't sent.
fn outgoing(record: &InstanceRecord, made: &Result<Deidentified>) -> Outgoing {
    match made {
        Ok(made) => Outgoing {
            sop_class: made.sop_class,
            sop_instance: made.key.instance,
            transfer_syntax: made.transfer_syntax,
        },
        Err(_) => Outgoing {
            sop_class: record.sop_class,
            sop_instance: record.key.instance,
            transfer_syntax: record.transfer_syntax,
        },
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
        // A key that can't be had now.
        ErrorKind::Refused if error.retry() == Retry::Later => Tried::Busy(text),
        // No context, no transcoding, not allowed, damaged: the same another time.
        ErrorKind::Unsupported
        | ErrorKind::Refused
        | ErrorKind::Corrupt
        | ErrorKind::Mismatch
        | ErrorKind::Invalid => Tried::Refused(text),
        // What no room of ours is large enough for.
        ErrorKind::OutOfResources if error.retry() == Retry::Never => Tried::Refused(text),
        ErrorKind::OutOfResources => Tried::Busy(text),
        // The association broke while this one was under way: it may be what breaks it.
        _ => Tried::Broken(text),
    }
}
