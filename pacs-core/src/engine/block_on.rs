//! Runs a future to its end on this thread.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

thread_local! {
    /// Wakes this thread; kept, for who waits for every piece.
    static WAKER: Waker = Waker::from(Arc::new(Unpark(thread::current())));
}

/// Runs a future to its end on this thread.
///
/// Unlike the executor of `futures`, this may be called inside itself: an engine may be dropped, which flushes it,
/// wherever its owner happens to run, and a callback may call back in.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    // A thread that is ending has no such place any more.
    let waker = WAKER.try_with(Waker::clone);
    let waker = waker.unwrap_or_else(|_| Waker::from(Arc::new(Unpark(thread::current()))));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            // An unpark between the poll and here is not lost: the next park returns at once.
            Poll::Pending => thread::park(),
        }
    }
}
