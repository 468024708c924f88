//! A commit of a layer that goes on when nobody waits for it any more.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use futures::executor::block_on;
use futures::future::{BoxFuture, poll_fn};
use pacs_core::{Result, Stored};

use crate::pool::Pool;

/// A commit, which goes on when it is dropped after its first poll: on a thread of the layer, until it is `committing`.
/// From then on the archive inside sees to it.
pub(super) struct Continued {
    work: Option<BoxFuture<'static, Result<Stored>>>,
    begun: bool,
    committing: Arc<AtomicBool>,
    helpers: Arc<Pool>,
}

impl Continued {
    pub(super) fn new(
        work: BoxFuture<'static, Result<Stored>>,
        committing: Arc<AtomicBool>,
        helpers: Arc<Pool>,
    ) -> Self {
        Self {
            work: Some(work),
            begun: false,
            committing,
            helpers,
        }
    }
}

impl Future for Continued {
    type Output = Result<Stored>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.begun = true;
        let Some(work) = &mut self.work else {
            // Nobody polls a future that is done.
            return Poll::Pending;
        };
        let stored = ready!(work.as_mut().poll(context));
        self.work = None;
        Poll::Ready(stored)
    }
}

impl Drop for Continued {
    fn drop(&mut self) {
        let committing = Arc::clone(&self.committing);
        if !self.begun || committing.load(Ordering::Acquire) {
            return;
        }
        if let Some(mut work) = self.work.take() {
            self.helpers.spawn(move || {
                block_on(poll_fn(|context| {
                    let done = work.as_mut().poll(context).is_ready();
                    match done || committing.load(Ordering::Acquire) {
                        true => Poll::Ready(()),
                        false => Poll::Pending,
                    }
                }));
            });
        }
    }
}
