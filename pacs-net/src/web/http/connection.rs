//! One HTTP connection: which version it speaks, and when it is given up.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::exchange::Shared;
use super::server::HttpLimits;

/// What HTTP/2 begins with (RFC 9113 3.4). No request of HTTP/1 does.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How often a client of HTTP/2 is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// Serves the connection until it ends, or `stop` says so.
pub(super) async fn serve(
    mut stream: TcpStream,
    address: SocketAddr,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    let limits = &shared.limits;
    let begin = tokio::select! {
        begin = tokio::time::timeout(limits.header_read, begin(&mut stream)) => begin,
        _ = stop.wait_for(|stopped| *stopped) => return,
    };
    let begin = match begin {
        Ok(Ok(begin)) if !begin.is_empty() => begin,
        // Nothing was sent: a probe of the port, or a browser's spare connection.
        _ => return,
    };
    let is_http2 = begin == PREFACE;
    let (reader, writer) = stream.into_split();
    let stream = TokioIo::new(tokio::io::join(io::Cursor::new(begin).chain(reader), writer));
    let activity = Arc::new(Activity::new());
    let (router, watched) = (Arc::clone(&shared), Arc::clone(&activity));
    let service =
        service_fn(move |request| Arc::clone(&router).answer(request, address, Arc::clone(&watched)));
    if is_http2 {
        let mut builder = http2::Builder::new(Tasks::default());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.requests_per_connection_max)
            .max_header_list_size(u32::try_from(limits.header_length_max_bytes).unwrap_or(u32::MAX))
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(limits.write_stall);
        // One stream may fill a long fat line: an upload is one stream.
        builder
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20);
        drive(builder.serve_connection(stream, service), &activity, stop, limits).await;
    } else {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .max_headers(limits.header_fields_max)
            .max_header_size(limits.header_length_max_bytes)
            .header_read_timeout(limits.header_read);
        drive(builder.serve_connection(stream, service), &activity, stop, limits).await;
    }
}

/// The first bytes: the preface of HTTP/2, or as few as tell that it isn't.
async fn begin(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut begin = Vec::with_capacity(PREFACE.len());
    while begin.len() < PREFACE.len() && PREFACE.starts_with(&begin) {
        let mut rest = [0; PREFACE.len()];
        let wanted = PREFACE.len() - begin.len();
        match stream.read(&mut rest[..wanted]).await? {
            0 => break,
            read => begin.extend_from_slice(&rest[..read]),
        }
    }
    Ok(begin)
}

async fn drive<C>(connection: C, activity: &Activity, mut stop: watch::Receiver<bool>, limits: &HttpLimits)
where
    C: GracefulConnection,
    C::Error: std::fmt::Display,
{
    tokio::pin!(connection);
    let mut closing = false;
    loop {
        let verdict = tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "an HTTP connection broke off");
                }
                return;
            }
            _ = stop.wait_for(|stopped| *stopped), if !closing => Verdict::Idle,
            verdict = activity.watch(limits) => verdict,
        };
        match verdict {
            Verdict::Idle if !closing => {
                closing = true;
                activity.begin_closing();
                connection.as_mut().graceful_shutdown();
            }
            Verdict::Idle => return,
            Verdict::Stalled => {
                return tracing::info!("an HTTP connection was dropped: its client takes nothing");
            }
        }
    }
}

/// What goes on, on a connection.
#[derive(Debug)]
pub(super) struct Activity(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Requests that are not answered whole.
    requests: usize,
    /// Responses whose last piece was handed out and not yet asked for the next: they wait for the client.
    with_client: usize,
    /// When one of these changed.
    last: Instant,
}

enum Verdict {
    /// No request for the time that one may take to come.
    Idle,
    /// The client takes nothing of what waits for it.
    Stalled,
}

impl Activity {
    fn new() -> Self {
        Self(Mutex::new(State {
            requests: 0,
            with_client: 0,
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

    /// A piece was handed out.
    pub(super) fn handed_out(&self) {
        self.change(|state| state.with_client += 1);
    }

    /// The next is asked for, or the response is dropped.
    pub(super) fn taken(&self) {
        self.change(|state| state.with_client -= 1);
    }

    /// The client has the idle time once more to see the connection closed.
    fn begin_closing(&self) {
        self.change(|_| {});
    }

    /// Waits until the connection is to be given up.
    async fn watch(&self, limits: &HttpLimits) -> Verdict {
        loop {
            let now = Instant::now();
            let deadline = {
                let state = self.lock();
                let (limit, verdict) = match (state.with_client, state.requests) {
                    (0, 0) => (limits.header_read, Verdict::Idle),
                    // A handler at work may take its time.
                    (0, _) => (Duration::MAX, Verdict::Stalled),
                    _ => (limits.write_stall, Verdict::Stalled),
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

/// Runs the streams of one HTTP/2 connection. They end with it.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}
