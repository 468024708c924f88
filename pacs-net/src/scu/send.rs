//! [`Sending`]: instances to one peer, over several associations, several at a time on each.
//!
//! Serves our C-STORE SCU and the sub-operations of C-MOVE and C-GET alike.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, FuturesUnordered};
use futures::{FutureExt, Stream, StreamExt};
use pacs_core::{Error, ErrorKind, Result, Uid};
use tokio::sync::{Mutex, Notify};

use super::{NATIVE, Pieces, Remote};
use crate::dimse::{Client, MoveOriginator, Priority, Status, StoreRequest};
use crate::transport::Negotiated;

/// Presentation contexts proposed for stored transfer syntaxes; the same number again may be needed for
/// native ones, and together they stay within 128 (PS3.8 9.3.2.2).
const KINDS_MAX: usize = 64;

/// A receiver that refuses this often in a row is not asked again for the instances that are left: each
/// try may take as long as a connection may.
const ASSOCIATION_FAILURES_MAX: usize = 2;

/// An instance to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// SOP class UID.
    pub sop_class: Uid,
    /// SOP instance UID.
    pub sop_instance: Uid,
    /// The transfer syntax it is kept in.
    pub transfer_syntax: Uid,
}

/// Gives the data sets of instances that are sent.
pub trait Supply<T>: Send + Sync + 'static {
    /// What is said of the instance.
    fn outgoing(&self, item: &T) -> Outgoing;

    /// The data set in the transfer syntax it is kept in.
    fn open<'a>(&'a self, item: &'a T) -> BoxFuture<'a, Result<Pieces>>;

    /// The data set in one of `accepted`, where the peer doesn't take the one it is kept in.
    ///
    /// # Errors
    /// `Unsupported` with the reason when that can't be had.
    fn convert<'a>(&'a self, item: &'a T, accepted: &'a [Uid]) -> BoxFuture<'a, Result<(Uid, Pieces)>> {
        let stored = self.outgoing(item).transfer_syntax;
        let _ = accepted;
        async move {
            let why = format!("the receiver does not take transfer syntax {stored}");
            Err(Error::new(ErrorKind::Unsupported, "store.convert", why))
        }
        .boxed()
    }
}

/// What became of one instance: the peer's status with its comment, or why it was not sent.
pub type Sent = Result<(Status, Option<String>)>;

/// How instances are sent to a peer.
#[derive(Clone, Debug)]
pub struct Sending {
    /// To whom.
    pub remote: Remote,
    /// Associations at once; at least 1.
    pub associations: usize,
    /// Operations outstanding on each, where the peer allows it; at least 1.
    pub window: u16,
    /// Priority of each request.
    pub priority: Priority,
    /// Whose C-MOVE this is.
    pub originator: Option<MoveOriginator>,
}

impl Sending {
    /// One association, one operation at a time.
    pub fn to(remote: Remote) -> Self {
        Self {
            remote,
            associations: 1,
            window: 1,
            priority: Priority::default(),
            originator: None,
        }
    }

    /// Sends `items`, of which `kinds` tells the SOP classes and transfer syntaxes, and yields what
    /// becomes of each as it does. Dropping the stream ends the sending; its associations are aborted.
    ///
    /// A peer may take fewer associations than asked for: the items go over those that it takes. One that
    /// ends fails the items under way on it. When none can be had, twice in a row, all items fail.
    pub fn send<T, S>(
        &self,
        kinds: &BTreeSet<(Uid, Uid)>,
        supply: Arc<S>,
        items: impl Stream<Item = T> + Send + 'static,
    ) -> BoxStream<'static, (T, Sent)>
    where
        T: Send + Sync + 'static,
        S: Supply<T>,
    {
        let associations = self.associations.max(1);
        let work = Arc::new(Work {
            items: Mutex::new(items.fuse().boxed()),
            shared: std::sync::Mutex::new(Shared {
                returned: Vec::new(),
                workers: associations,
                connecting: 0,
            }),
            changed: Notify::new(),
        });
        let kinds: Arc<[(Uid, Uid)]> = kinds.iter().copied().collect();
        let workers = (0..associations).map(|_| {
            let worker = Worker {
                sending: self.clone(),
                kinds: Arc::clone(&kinds),
                supply: Arc::clone(&supply),
                work: Arc::clone(&work),
            };
            worker.run()
        });
        stream::select_all(workers).boxed()
    }
}

/// What the workers of one sending share.
struct Work<T> {
    items: Mutex<BoxStream<'static, T>>,
    shared: std::sync::Mutex<Shared<T>>,
    /// Something was returned, or nobody connects any more.
    changed: Notify,
}

struct Shared<T> {
    /// Taken by workers that got no association.
    returned: Vec<T>,
    /// Workers that have not ended.
    workers: usize,
    /// Workers that hold an item and don't know yet whether they can send it.
    connecting: usize,
}

impl<T> Work<T> {
    fn shared(&self) -> std::sync::MutexGuard<'_, Shared<T>> {
        // Nothing panics while it holds this lock.
        self.shared
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The next item; `None` when no more can come. Dropping the future loses no item: one is there only
    /// when the future is done.
    async fn take(&self) -> Option<T> {
        loop {
            let mut changed = pin!(self.changed.notified());
            // From now on no change is missed.
            changed.as_mut().enable();
            if let Some(item) = self.shared().returned.pop() {
                return Some(item);
            }
            if let Some(item) = self.items.lock().await.next().await {
                return Some(item);
            }
            {
                let mut shared = self.shared();
                if let Some(item) = shared.returned.pop() {
                    return Some(item);
                }
                if shared.connecting == 0 {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// Notes that a worker connects.
    fn connecting(&self) -> Connecting<'_, T> {
        self.shared().connecting += 1;
        Connecting(self)
    }

    /// Takes an item back from a worker that got no association and ends; gives it to the worker again when
    /// it is the only one.
    fn take_back(&self, item: T) -> Option<T> {
        let mut shared = self.shared();
        if shared.workers <= 1 {
            return Some(item);
        }
        shared.workers -= 1;
        shared.returned.push(item);
        None
    }
}

struct Connecting<'a, T>(&'a Work<T>);

impl<T> Drop for Connecting<'_, T> {
    fn drop(&mut self) {
        self.0.shared().connecting -= 1;
        self.0.changed.notify_waiters();
    }
}

struct Worker<T, S> {
    sending: Sending,
    kinds: Arc<[(Uid, Uid)]>,
    supply: Arc<S>,
    work: Arc<Work<T>>,
}

impl<T: Send + Sync + 'static, S: Supply<T>> Worker<T, S> {
    fn run(self) -> BoxStream<'static, (T, Sent)> {
        let state = WorkerState {
            worker: self,
            client: None,
            under_way: FuturesUnordered::new(),
            held: None,
            failures: 0,
            exhausted: false,
            ended: false,
        };
        stream::unfold(state, |mut state| async move {
            let next = state.next().await;
            if next.is_none() {
                state.release().await;
                state.end();
            }
            next.map(|next| (next, state))
        })
        .boxed()
    }
}

struct WorkerState<T, S> {
    worker: Worker<T, S>,
    /// With the kinds it was proposed for.
    client: Option<(Client, usize)>,
    under_way: FuturesUnordered<BoxFuture<'static, (T, Sent)>>,
    /// Taken, and not under way yet.
    held: Option<T>,
    /// Associations that could not be had, one after the other.
    failures: usize,
    exhausted: bool,
    /// It gave its item back: others do the work.
    ended: bool,
}

impl<T: Send + Sync + 'static, S: Supply<T>> WorkerState<T, S> {
    async fn next(&mut self) -> Option<(T, Sent)> {
        loop {
            if self.under_way.len() < self.window()
                && let Some(item) = self.held.take()
            {
                let group = self.worker.group(&item);
                match &self.client {
                    Some((client, of)) if *of == group && !client.has_ended() => {
                        let client = client.clone();
                        self.under_way.push(self.worker.send_one(client, item));
                        continue;
                    }
                    // What is under way on the old association comes to its end first.
                    _ if !self.under_way.is_empty() => {
                        self.held = Some(item);
                        return self.under_way.next().await;
                    }
                    _ if self.failures >= ASSOCIATION_FAILURES_MAX => {
                        let why = format!(
                            "{} could not be reached before",
                            self.worker.sending.remote.called
                        );
                        return Some((item, Err(Error::new(ErrorKind::Io, "store.associate", why))));
                    }
                    _ => {
                        let work = Arc::clone(&self.worker.work);
                        let connecting = work.connecting();
                        match self.associate(group).await {
                            Ok(()) => self.held = Some(item),
                            Err(error) => {
                                let error = self.worker.sending.remote.unreachable(error);
                                tracing::warn!(%error, "no association for sending");
                                match work.take_back(item) {
                                    Some(item) if self.failures >= ASSOCIATION_FAILURES_MAX => {
                                        return Some((item, Err(error)));
                                    }
                                    Some(item) => self.held = Some(item),
                                    None => self.ended = true,
                                }
                            }
                        }
                        drop(connecting);
                        if self.ended {
                            return None;
                        }
                        continue;
                    }
                }
            }
            // One item is had ready while those before it are under way: sending comes first.
            tokio::select! {
                biased;
                Some(sent) = self.under_way.next() => return Some(sent),
                item = self.worker.work.take(), if self.held.is_none() && !self.exhausted => {
                    self.exhausted = item.is_none();
                    self.held = item;
                }
                else => return None,
            }
        }
    }

    async fn associate(&mut self, group: usize) -> Result<()> {
        self.release().await;
        match self.worker.associate(group).await {
            Ok(client) => {
                self.failures = 0;
                self.client = Some((client, group));
                Ok(())
            }
            Err(error) => {
                self.failures += 1;
                Err(error)
            }
        }
    }

    /// Notes that it takes no more work.
    fn end(&mut self) {
        if !self.ended {
            self.ended = true;
            self.worker.work.shared().workers -= 1;
        }
    }

    async fn release(&mut self) {
        if let Some((client, _)) = self.client.take()
            && !client.has_ended()
            && let Err(error) = client.release().await
        {
            tracing::debug!(%error, "a release was not answered");
        }
    }

    fn window(&self) -> usize {
        let Some((client, _)) = &self.client else { return 1 };
        let granted = match client.negotiated().outgoing_operations {
            0 => u16::MAX,
            granted => granted,
        };
        usize::from(granted.min(self.worker.sending.window.max(1)))
    }
}

impl<T: Send + Sync + 'static, S: Supply<T>> Worker<T, S> {
    /// Which association's worth of kinds the item belongs to.
    fn group(&self, item: &T) -> usize {
        let outgoing = self.supply.outgoing(item);
        let kind = (outgoing.sop_class, outgoing.transfer_syntax);
        self.kinds
            .iter()
            .position(|known| *known == kind)
            .unwrap_or_default()
            / KINDS_MAX
    }

    async fn associate(&self, group: usize) -> Result<Client> {
        let kinds = self.kinds.iter().skip(group * KINDS_MAX).take(KINDS_MAX);
        let mut proposal = self.sending.remote.proposal();
        let mut classes = BTreeSet::new();
        for (sop_class, transfer_syntax) in kinds {
            proposal = proposal.with_context(*sop_class, [transfer_syntax]);
            classes.insert(*sop_class);
        }
        // In a context of their own, so that the peer's choice among them is not a choice against the
        // stored one.
        for sop_class in classes {
            proposal = proposal.with_context(sop_class, NATIVE.iter());
        }
        if self.sending.window > 1 {
            proposal = proposal.with_asynchronous(self.sending.window, 1);
        }
        self.sending.remote.client(&proposal).await
    }

    fn send_one(&self, client: Client, item: T) -> BoxFuture<'static, (T, Sent)> {
        let supply = Arc::clone(&self.supply);
        let (priority, originator) = (self.sending.priority, self.sending.originator);
        async move {
            let sent = send(&client, &*supply, &item, priority, originator).await;
            (item, sent)
        }
        .boxed()
    }
}

/// Sends `items` on the association of `client`, `window` at a time, and has one more ready meanwhile.
/// Yields what becomes of each as it does. Once `stopped` holds, no further one is begun.
pub(crate) fn send_on<'a, T, S>(
    client: Client,
    window: u16,
    priority: Priority,
    supply: Arc<S>,
    items: impl Stream<Item = T> + Send + 'a,
    stopped: impl Fn() -> bool + Send + Sync + 'a,
) -> BoxStream<'a, (T, Sent)>
where
    T: Send + Sync + 'static,
    S: Supply<T>,
{
    let one = move |item: T| {
        let (client, supply) = (client.clone(), Arc::clone(&supply));
        async move {
            let sent = send(&client, &*supply, &item, priority, None).await;
            (item, sent)
        }
    };
    let state = (items.fuse().boxed(), None, FuturesUnordered::new());
    let sender = (one, stopped);
    stream::unfold(
        (state, sender),
        move |((mut items, mut ready, mut under_way), sender)| async move {
            let (one, stopped) = &sender;
            let sent = loop {
                let going = !stopped();
                if going
                    && under_way.len() < usize::from(window.max(1))
                    && let Some(item) = ready.take()
                {
                    under_way.push(one(item));
                }
                // Sending comes first.
                tokio::select! {
                    biased;
                    Some(sent) = under_way.next() => break sent,
                    Some(item) = items.next(), if going && ready.is_none() => ready = Some(item),
                    else => return None,
                }
            };
            Some((sent, ((items, ready, under_way), sender)))
        },
    )
    .boxed()
}

/// Sends one instance: as it is kept where the peer takes that, else converted.
async fn send<T, S: Supply<T> + ?Sized>(
    client: &Client,
    supply: &S,
    item: &T,
    priority: Priority,
    move_originator: Option<MoveOriginator>,
) -> Sent {
    let Outgoing {
        sop_class,
        sop_instance,
        transfer_syntax,
    } = supply.outgoing(item);
    let negotiated = Arc::clone(client.negotiated());
    let (context_id, data_set) = match context(&negotiated, &sop_class, &transfer_syntax) {
        Some(context_id) => (context_id, supply.open(item).await?),
        None => {
            let accepted: Vec<Uid> = negotiated
                .contexts_for(&sop_class)
                .map(|context| context.transfer_syntax)
                .collect();
            if accepted.is_empty() {
                let why = format!("the receiver does not take SOP class {sop_class}");
                return Err(Error::new(ErrorKind::Unsupported, "store.send", why));
            }
            let (became, data_set) = supply.convert(item, &accepted).await?;
            let context_id = context(&negotiated, &sop_class, &became).ok_or_else(|| {
                Error::new(
                    ErrorKind::Internal,
                    "store.send",
                    "converted to a transfer syntax that was not accepted",
                )
            })?;
            (context_id, data_set)
        }
    };
    let request = StoreRequest {
        context_id,
        sop_class,
        sop_instance,
        priority,
        move_originator,
    };
    let response = client.store(request, data_set).await?;
    Ok((
        response.status(),
        response.command.error_comment().map(str::to_owned),
    ))
}

fn context(negotiated: &Negotiated, sop_class: &Uid, transfer_syntax: &Uid) -> Option<u8> {
    let mut contexts = negotiated.contexts_for(sop_class);
    contexts
        .find(|context| context.transfer_syntax == *transfer_syntax)
        .map(|context| context.id)
}
