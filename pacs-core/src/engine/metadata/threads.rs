//! The few threads on which metadata is made: whoever waits for it holds nothing of others, also where nobody polls.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use futures::channel::oneshot;

use crate::error::{Error, ErrorKind, Result};
use crate::limits;

type Job = Box<dyn FnOnce() + Send>;

/// See the module's text. A thread ends when nothing is left to do.
#[derive(Clone, Default)]
pub(super) struct Threads(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    running: usize,
}

impl Threads {
    /// Does some work as soon as one of the threads is free. `work` is told whether anybody still waits for it; a
    /// panic in it becomes an error.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Fn() -> bool) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let failed = |what: &'static str| Error::new(ErrorKind::Internal, "metadata.make", what);
        let (answer, made) = oneshot::channel();
        self.submit(Box::new(move || {
            if answer.is_canceled() {
                return;
            }
            let worked = catch_unwind(AssertUnwindSafe(|| work(&|| !answer.is_canceled())));
            // Whoever asked may be gone.
            let _ = answer.send(worked.unwrap_or_else(|_| Err(failed("metadata could not be made"))));
        }))?;
        made.await
            .map_err(|_| failed("the thread that makes metadata has ended"))?
    }

    fn submit(&self, job: Job) -> Result<()> {
        let mut state = self.lock();
        state.waiting.push_back(job);
        if state.running == limits::METADATA_READINGS_MAX {
            return Ok(());
        }
        let threads = self.clone();
        let started = thread::Builder::new()
            .name("pacs-metadata".to_owned())
            .spawn(move || threads.work());
        match started {
            Ok(_) => state.running += 1,
            // Those that run come to it.
            Err(_) if state.running > 0 => {}
            Err(error) => {
                let job = state.waiting.pop_back();
                drop(state);
                drop(job);
                return Err(Error::io("metadata.make", "no thread to make metadata on", error));
            }
        }
        Ok(())
    }

    fn work(&self) {
        loop {
            let mut state = self.lock();
            let Some(job) = state.waiting.pop_front() else {
                state.running -= 1;
                return;
            };
            drop(state);
            job();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::executor::block_on;
    use futures::future::join_all;

    use super::*;

    #[test]
    fn who_waits_and_does_not_look_keeps_nobody_from_it_and_a_panic_is_an_error_of_its_work_alone() {
        let threads = Threads::default();
        let mut unseen: Vec<_> = (0..4 * limits::METADATA_READINGS_MAX)
            .map(|number| Box::pin(threads.run(move |_| Ok(number))))
            .collect();
        for waits in &mut unseen {
            // It may be done already.
            let _ = waits.now_or_never();
        }
        let panics = block_on(threads.run(|_| -> Result<()> { panic!("as asked") }));
        assert_eq!(panics.unwrap_err().kind(), ErrorKind::Internal);
        let done = block_on(join_all((0..100).map(|number| threads.run(move |_| Ok(number)))));
        let done: Vec<i32> = done.into_iter().map(Result::unwrap).collect();
        assert_eq!(done, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn work_is_told_when_nobody_waits_for_it() {
        let threads = Threads::default();
        let (begun, is_begun) = std::sync::mpsc::channel();
        let (ended, is_ended) = std::sync::mpsc::channel();
        let mut waits = Box::pin(threads.run(move |goes_on| {
            begun.send(()).unwrap();
            while goes_on() {
                thread::yield_now();
            }
            ended.send(()).unwrap();
            Ok(())
        }));
        assert!((&mut waits).now_or_never().is_none());
        is_begun.recv().unwrap();
        drop(waits);
        is_ended.recv().unwrap();
    }
}
