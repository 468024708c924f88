//! Streams that read a page at a time, when they are polled.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use futures::stream::Stream;
use pacs_core::error::{Error, ErrorKind, Result};

use super::{Shared, contained};
use crate::index::page::{Page, Pager};

/// The stream of a [`Pager`].
pub(super) struct Paged<P: Pager> {
    shared: Weak<Shared>,
    pager: P,
    answers: VecDeque<P::Item>,
    done: bool,
}

impl<P: Pager> Paged<P> {
    pub(super) fn new(shared: &Arc<Shared>, pager: P) -> Self {
        Self {
            shared: Arc::downgrade(shared),
            pager,
            answers: VecDeque::new(),
            done: false,
        }
    }

    fn fill(&mut self) -> Result<bool> {
        let shared = self
            .shared
            .upgrade()
            .ok_or_else(|| Error::new(ErrorKind::Closed, "index.read", "the index was closed meanwhile"))?;
        contained("index.read", || {
            let mut page = Page::new();
            let done = self.pager.page(&*shared.read()?, &mut page)?;
            self.answers = page.into_answers();
            Ok(done)
        })
    }
}

impl<P: Pager> Stream for Paged<P> {
    type Item = Result<P::Item>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.answers.is_empty() && !self.done {
            match self.fill() {
                Ok(done) => self.done = done,
                Err(error) => {
                    self.done = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        match self.answers.pop_front() {
            Some(answer) => Poll::Ready(Some(Ok(answer))),
            None if self.done => Poll::Ready(None),
            None => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}
