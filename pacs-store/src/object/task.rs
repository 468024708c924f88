//! Streams that are filled by a task.

use std::future::Future;

use futures::channel::mpsc;
use futures::stream::BoxStream;
use futures::{SinkExt, StreamExt, stream};
use pacs_core::Result;
use tokio::runtime::Handle;

use super::closed;

/// Where a task puts what it finds.
pub(super) struct Output<T>(mpsc::Sender<Said<T>>);

enum Said<T> {
    Item(Result<T>),
    /// There is nothing more, and not only because the task was ended.
    End,
}

/// Nobody reads any more.
pub(super) struct NobodyReads;

impl<T> Output<T> {
    pub(super) async fn put(&mut self, item: T) -> Result<(), NobodyReads> {
        self.0.send(Said::Item(Ok(item))).await.map_err(|_| NobodyReads)
    }
}

/// Why a task ended before it was through.
pub(super) enum Stopped {
    NobodyReads,
    Failed(pacs_core::Error),
}

impl From<NobodyReads> for Stopped {
    fn from(_: NobodyReads) -> Self {
        Self::NobodyReads
    }
}

impl From<pacs_core::Error> for Stopped {
    fn from(error: pacs_core::Error) -> Self {
        Self::Failed(error)
    }
}

/// What `work` puts out, on the threads of the store. It begins when the stream is first polled, and ends when it is dropped.
pub(super) fn filled<T, F>(
    runtime: Handle,
    operation: &'static str,
    work: impl FnOnce(Output<T>) -> F + Send + 'static,
) -> BoxStream<'static, Result<T>>
where
    T: Send + 'static,
    F: Future<Output = (Output<T>, Result<(), Stopped>)> + Send + 'static,
{
    enum State<W, T> {
        Begin(W),
        Runs(mpsc::Receiver<Said<T>>),
        Ended,
    }
    stream::unfold(State::Begin(work), move |state| {
        let runtime = runtime.clone();
        async move {
            let mut receiver = match state {
                State::Begin(work) => {
                    let (sender, receiver) = mpsc::channel(0);
                    let work = work(Output(sender));
                    runtime.spawn(async move {
                        let (Output(mut sender), result) = work.await;
                        let last = match result {
                            Ok(()) => Said::End,
                            Err(Stopped::Failed(error)) => Said::Item(Err(error)),
                            Err(Stopped::NobodyReads) => return,
                        };
                        // Nobody reads any more: as good.
                        let _ = sender.send(last).await;
                    });
                    receiver
                }
                State::Runs(receiver) => receiver,
                State::Ended => return None,
            };
            match receiver.next().await {
                Some(Said::Item(Ok(item))) => Some((Ok(item), State::Runs(receiver))),
                Some(Said::Item(Err(error))) => Some((Err(error), State::Ended)),
                Some(Said::End) => None,
                None => Some((Err(closed(operation)), State::Ended)),
            }
        }
    })
    .boxed()
}
