//! Streams that read a page at a time.
//!
//! Each page is a read transaction of its own, short whatever the pace of whoever reads the stream: a
//! transaction that stays open keeps the pages of its moment from being used again. Between pages only
//! a position is kept. A page examines a bounded number of records and then lets others run.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use futures::stream::Stream;
use pacs_core::error::{Error, ErrorKind, Result};

use super::tables::ReadTables;
use super::{Shared, bound, contained};

/// Steps of work in one page; a step is a record that is read and matched, some 5 µs.
const PAGE_STEPS_MAX: usize = bound(256, 3);
/// Answers that are made ahead. One is some 4 KiB.
const PAGE_ANSWERS_MAX: usize = bound(32, 2);

/// What one page may still do.
pub(super) struct Page<T> {
    answers: VecDeque<T>,
    steps: usize,
}

impl<T> Page<T> {
    /// Whether it is time to stop.
    pub(super) fn is_full(&self) -> bool {
        self.steps == 0 || self.answers.len() >= PAGE_ANSWERS_MAX
    }

    /// Counts work.
    pub(super) fn step(&mut self) {
        self.steps = self.steps.saturating_sub(1);
    }

    /// Counts work of which so much goes for one step, at the end of a run of it.
    pub(super) fn steps(&mut self, done: usize, to_one: usize) {
        self.steps = self.steps.saturating_sub(done.div_ceil(to_one));
    }

    /// Adds an answer.
    pub(super) fn push(&mut self, answer: T) {
        self.answers.push_back(answer);
    }
}

/// Reads a page after another.
pub(super) trait Pager: Send + Unpin + 'static {
    /// What is yielded.
    type Item: Send + Unpin;
    /// Goes on from where the last page ended, until the page is full; `true` when nothing is left.
    fn page(&mut self, tables: &ReadTables, page: &mut Page<Self::Item>) -> Result<bool>;
}

/// The stream of a [`Pager`].
pub(super) struct Paged<P: Pager> {
    shared: Weak<Shared>,
    pager: P,
    page: Page<P::Item>,
    done: bool,
}

impl<P: Pager> Paged<P> {
    pub(super) fn new(shared: &Arc<Shared>, pager: P) -> Self {
        Self {
            shared: Arc::downgrade(shared),
            pager,
            page: Page {
                answers: VecDeque::new(),
                steps: 0,
            },
            done: false,
        }
    }

    fn fill(&mut self) -> Result<bool> {
        let shared = self
            .shared
            .upgrade()
            .ok_or_else(|| Error::new(ErrorKind::Closed, "index.read", "the index was closed meanwhile"))?;
        self.page.steps = PAGE_STEPS_MAX;
        contained("index.read", || self.pager.page(&*shared.read()?, &mut self.page))
    }
}

impl<P: Pager> Stream for Paged<P> {
    type Item = Result<P::Item>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.page.answers.is_empty() && !self.done {
            match self.fill() {
                Ok(done) => self.done = done,
                Err(error) => {
                    self.done = true;
                    self.page.answers.clear();
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        match self.page.answers.pop_front() {
            Some(answer) => Poll::Ready(Some(Ok(answer))),
            None if self.done => Poll::Ready(None),
            None => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}
