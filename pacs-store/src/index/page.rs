//! Pages: how much of an answer is read at once.
//!
//! Each page is read of one state of the tables, short whatever the pace of whoever reads the answer: a
//! transaction that stays open keeps what was replaced since from being let go. Between pages only
//! a position is kept. A page examines a bounded number of records and then lets others run.

use std::collections::VecDeque;

use pacs_core::error::Result;

use super::bound;
use super::tables::Tables;

/// Steps of work in one page; a step is a record that is read and matched, some 5 µs.
const PAGE_STEPS_MAX: usize = bound(256, 3);
/// Answers that are made ahead. One is some 4 KiB.
const PAGE_ANSWERS_MAX: usize = bound(32, 2);

/// What one page may still do, and what was found.
pub(crate) struct Page<T> {
    answers: VecDeque<T>,
    steps: usize,
}

impl<T> Page<T> {
    pub(crate) fn new() -> Self {
        Self {
            answers: VecDeque::new(),
            steps: PAGE_STEPS_MAX,
        }
    }

    /// Whether it is time to stop.
    pub(super) fn is_full(&self) -> bool {
        self.steps == 0 || self.answers.len() >= PAGE_ANSWERS_MAX
    }

    /// Whether nothing was done in it yet.
    pub(super) fn is_new(&self) -> bool {
        self.steps == PAGE_STEPS_MAX
    }

    /// How many entries may be looked at before it is full, at most.
    pub(super) fn left(&self) -> usize {
        self.steps
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

    /// What was found.
    pub(crate) fn into_answers(self) -> VecDeque<T> {
        self.answers
    }
}

/// Reads a page after another.
pub(crate) trait Pager: Send + Unpin + 'static {
    /// What is yielded.
    type Item: Send + Unpin;
    /// Goes on from where the last page ended, until the page is full; `true` when nothing is left.
    fn page(&mut self, tables: &impl Tables, page: &mut Page<Self::Item>) -> Result<bool>;
}
