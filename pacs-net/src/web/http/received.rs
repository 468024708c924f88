//! The body of a request, given up when it comes too slowly.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::server::BODY_RATE_MIN_BYTES_PER_SECOND;

/// The body of a request, given up when its client sends too little over a window. Only the time counts that the
/// handler waits for the client: what the handler itself takes doesn't.
pub(super) struct Received<B> {
    body: B,
    window: Duration,
    /// In this window, but for the wait that goes on.
    waited: Duration,
    /// That came in this window.
    length: u64,
    waits: Option<Waits>,
    /// Runs out with the window while the handler waits.
    timer: Option<Pin<Box<Sleep>>>,
    bytes: Arc<AtomicU64>,
}

struct Waits {
    since: Instant,
    wakes: Arc<Wakes>,
}

/// When the body woke its handler: from then on it is the handler that the client waits for.
struct Wakes {
    handler: Waker,
    at: OnceLock<Instant>,
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.at.get_or_init(Instant::now);
        self.handler.wake_by_ref();
    }
}

impl<B> Received<B> {
    /// Adds to `bytes` what comes.
    pub(super) fn new(body: B, window: Duration, bytes: Arc<AtomicU64>) -> Self {
        Self {
            body,
            window,
            waited: Duration::ZERO,
            length: 0,
            waits: None,
            timer: None,
            bytes,
        }
    }

    fn came(&mut self, length: u64) {
        if let Some(waits) = self.waits.take() {
            let until = waits.wakes.at.get().copied().unwrap_or_else(Instant::now);
            self.waited += until.saturating_duration_since(waits.since);
        }
        self.length = self.length.saturating_add(length);
        self.bytes.fetch_add(length, Ordering::Relaxed);
    }

    fn poll_too_slow(&mut self, wakes: Arc<Wakes>, context: &mut Context<'_>) -> Poll<()> {
        let window = self.window;
        let left = window.saturating_sub(self.waited);
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(left)));
        match &mut self.waits {
            Some(waits) => waits.wakes = wakes,
            None => {
                let since = Instant::now();
                self.waits = Some(Waits { since, wakes });
                timer.as_mut().reset(since + left);
            }
        }
        loop {
            ready!(timer.as_mut().poll(context));
            if self.length
                < BODY_RATE_MIN_BYTES_PER_SECOND
                    .saturating_mul(window.as_secs())
                    .max(1)
            {
                return Poll::Ready(());
            }
            let now = Instant::now();
            if let Some(waits) = &mut self.waits {
                waits.since = now;
            }
            (self.waited, self.length) = (Duration::ZERO, 0);
            timer.as_mut().reset(now + window);
        }
    }
}

impl<B> Body for Received<B>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let wakes = Arc::new(Wakes {
            handler: context.waker().clone(),
            at: OnceLock::new(),
        });
        let waker = Waker::from(Arc::clone(&wakes));
        let polled = Pin::new(&mut self.body).poll_frame(&mut Context::from_waker(&waker));
        if let Poll::Ready(frame) = polled {
            let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
            let length = data.map_or(0, Bytes::len);
            self.came(length as u64);
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        ready!(self.poll_too_slow(wakes, context));
        Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::TimedOut).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use futures::{StreamExt, stream};
    use http_body_util::BodyExt;
    use tokio::sync::mpsc;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);
    const WINDOW_MIN_BYTES: usize = BODY_RATE_MIN_BYTES_PER_SECOND as usize * 60;

    fn received(pieces: mpsc::UnboundedReceiver<usize>) -> Received<Body> {
        let pieces = stream::unfold(pieces, |mut pieces| async move {
            let length = pieces.recv().await?;
            Some((Ok::<_, io::Error>(Bytes::from(vec![0; length])), pieces))
        });
        Received::new(Body::from_stream(pieces.boxed()), WINDOW, Arc::default())
    }

    /// What comes of a body of so many pieces, one each third of a window.
    async fn paced(length: usize, count: usize) -> Result<usize, io::ErrorKind> {
        let (sender, pieces) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            for _ in 0..count {
                tokio::time::sleep(WINDOW / 3).await;
                let _ = sender.send(length);
            }
        });
        match received(pieces).collect().await {
            Ok(whole) => Ok(whole.to_bytes().len()),
            Err(error) => Err(error.downcast::<io::Error>().unwrap().kind()),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_trickles_is_given_up_and_who_is_slow_is_not() {
        assert_eq!(paced(1, 100).await, Err(io::ErrorKind::TimedOut));
        assert_eq!(
            paced(WINDOW_MIN_BYTES / 4, 100).await,
            Err(io::ErrorKind::TimedOut)
        );
        assert_eq!(
            paced(WINDOW_MIN_BYTES / 2, 100).await,
            Ok(WINDOW_MIN_BYTES / 2 * 100)
        );
        // What is short may come in its time.
        assert_eq!(paced(1, 2).await, Ok(2));
    }

    #[tokio::test(start_paused = true)]
    async fn who_stalls_behind_much_is_given_up() {
        let (sender, pieces) = mpsc::unbounded_channel();
        sender.send(WINDOW_MIN_BYTES * 100).unwrap();
        let mut body = received(pieces);
        assert!(body.frame().await.unwrap().is_ok());
        assert!(body.frame().await.unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_that_the_handler_takes_is_not_the_clients() {
        let (sender, pieces) = mpsc::unbounded_channel();
        let mut body = received(pieces);
        for _ in 0..10 {
            // It asks, turns to something else, and comes back late.
            assert!(futures::poll!(std::pin::pin!(body.frame())).is_pending());
            sender.send(1).unwrap();
            tokio::time::sleep(WINDOW * 2).await;
            assert!(body.frame().await.unwrap().is_ok());
        }
        assert!(futures::poll!(std::pin::pin!(body.frame())).is_pending());
        drop(sender);
        assert!(body.frame().await.is_none());
    }
}
