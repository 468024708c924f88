//! A few threads that do blocking work for futures.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use futures::channel::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of threads and the jobs that wait for them.
///
/// Whoever submits bounds what waits: each reader and writer has at most one job at a time.
pub struct Pool {
    queue: Arc<Queue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    /// Starts the threads: at least one, each of this name.
    ///
    /// # Errors
    /// When one can't be started.
    pub fn new(name: &str, threads: usize) -> std::io::Result<Self> {
        let pool = Self {
            queue: Arc::default(),
            threads: Mutex::default(),
        };
        for _ in 0..threads.max(1) {
            let queue = Arc::clone(&pool.queue);
            let thread = std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || work(&queue))?;
            pool.threads
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(thread);
        }
        Ok(pool)
    }

    /// Runs `job` on a thread of the pool. What it returns comes through the receiver, which is
    /// cancelled when the pool is closed or the job panics.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> oneshot::Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        self.spawn(move || {
            // Nobody waits any more: the result is dropped.
            let _ = sender.send(job());
        });
        receiver
    }

    /// Runs `job` on a thread of the pool. A closed pool drops it.
    pub fn spawn(&self, job: impl FnOnce() + Send + 'static) {
        let mut state = self.queue.state();
        if !state.closed {
            state.jobs.push_back(Box::new(job));
            drop(state);
            self.queue.changed.notify_one();
        }
    }

    /// Finishes the jobs that wait, takes no more, and ends the threads.
    pub fn close(&self) {
        self.queue.state().closed = true;
        self.queue.changed.notify_all();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // The last owner may be one of the pool's own jobs; a thread can't wait for itself.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.close();
    }
}

fn work(queue: &Queue) {
    loop {
        let mut state = queue.state();
        let job = loop {
            if let Some(job) = state.jobs.pop_front() {
                break job;
            }
            if state.closed {
                return;
            }
            state = queue.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        drop(state);
        // A panic is contained to the job; whoever waits for it sees a cancelled receiver.
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("a job of the store panicked");
        }
    }
}
