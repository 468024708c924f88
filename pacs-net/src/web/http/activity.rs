//! What goes on, on a connection: from when on its client is idle, or takes nothing.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::server::HttpLimits;

/// What goes on, on a connection. Judged by the bytes that its socket takes: what hyper has asked a body for is not yet
/// on its way.
#[derive(Debug)]
pub(super) struct Activity(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Requests whose responses hyper has not taken whole.
    requests: usize,
    /// The socket takes no more at present, and there is more.
    blocked: bool,
    /// When one of these changed, or the socket took something.
    last: Instant,
}

pub(super) enum Verdict {
    /// No request for the time that one may take to come, and nothing on its way.
    Idle,
    /// The client takes nothing of what waits for it.
    Stalled,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State {
            requests: 0,
            blocked: false,
            last: Instant::now(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        state.last = Instant::now();
    }

    pub(super) fn request_begins(&self) {
        self.change(|state| state.requests += 1);
    }

    pub(super) fn request_ends(&self) {
        self.change(|state| state.requests -= 1);
    }

    /// The client has the idle time once more to see the connection closed.
    pub(super) fn begin_closing(&self) {
        self.change(|_| {});
    }

    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        let blocked = written.is_pending();
        let mut state = self.lock();
        // Blocked since it was first found so.
        if !(blocked && state.blocked) {
            state.blocked = blocked;
            state.last = Instant::now();
        }
    }

    /// Waits until the connection is to be given up.
    pub(super) async fn watch(&self, limits: &HttpLimits) -> Verdict {
        loop {
            let now = Instant::now();
            let deadline = {
                let state = self.lock();
                let (limit, verdict) = match (state.blocked, state.requests) {
                    (true, _) => (limits.write_stall, Verdict::Stalled),
                    (false, 0) => (limits.header_read, Verdict::Idle),
                    // A handler at work may take its time.
                    (false, _) => (Duration::MAX, Verdict::Stalled),
                };
                match state.last.checked_add(limit) {
                    Some(deadline) if deadline <= now => return verdict,
                    Some(deadline) => deadline,
                    None => now + limits.write_stall,
                }
            };
            // What begins meanwhile is seen then.
            tokio::time::sleep_until(deadline).await;
        }
    }
}

/// A connection whose writes are seen.
pub(super) struct Watched<T> {
    pub(super) io: T,
    pub(super) activity: Arc<Activity>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.activity.wrote(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, pieces);
        self.activity.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

tokio::task_local! {
    /// Of a stream of HTTP/2: since when a piece of its response waits for the client.
    static WAITS_SINCE: Cell<Option<Instant>>;
}

/// A piece of a response was handed out, or the next is asked for. On HTTP/1 the socket tells as much.
pub(super) fn waits_for_client(waits: bool) {
    let since = waits.then(Instant::now);
    let _ = WAITS_SINCE.try_with(|cell| cell.set(since));
}

/// Runs the streams of one HTTP/2 connection. They end with it.
///
/// A stream whose client takes nothing is reset after [`HttpLimits::write_stall`], at the latest after twice the time,
/// and the others go on. The time doesn't run out while the line itself is full: then all streams share it.
#[derive(Clone)]
pub(super) struct Streams {
    tasks: Arc<Mutex<JoinSet<()>>>,
    activity: Arc<Activity>,
    stall: Duration,
}

impl Streams {
    pub(super) fn new(activity: Arc<Activity>, stall: Duration) -> Self {
        Self {
            tasks: Arc::default(),
            activity,
            stall,
        }
    }

    async fn stalled(&self) {
        let mut deadline = Instant::now() + self.stall;
        loop {
            tokio::time::sleep_until(deadline).await;
            let now = Instant::now();
            deadline = match WAITS_SINCE.with(Cell::get) {
                Some(since) if since + self.stall > now => since + self.stall,
                Some(_) if !self.activity.lock().blocked => return,
                _ => now + self.stall,
            };
        }
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let streams = self.clone();
        let watched = async move {
            tokio::select! {
                () = stream => {}
                () = streams.stalled() => {
                    tracing::info!("an HTTP/2 stream was reset: its client takes nothing");
                }
            }
        };
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(WAITS_SINCE.scope(Cell::new(None), watched));
    }
}
