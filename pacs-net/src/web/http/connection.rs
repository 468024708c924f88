//! One HTTP connection: which version it speaks, and when it is given up.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pacs_core::{Error, ErrorKind};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::activity::{Activity, Streams, Verdict, Watched};
use super::exchange::{Client, Shared};
use super::metrics::Metrics;
use crate::tls::Stream;

/// What HTTP/2 begins with (RFC 9113 3.4). No request of HTTP/1 does.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How often a client of HTTP/2 is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// Serves the connection until it ends, or `stop` says so.
pub(super) async fn serve(
    stream: TcpStream,
    address: SocketAddr,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    let limits = &shared.limits;
    let begun = async {
        let mut stream = match &shared.tls {
            Some(tls) => tls.accept(stream, limits.header_read).await?,
            None => Stream::plain(stream),
        };
        let begin = begin(&mut stream).await;
        Ok((
            begin.map_err(|error| Error::io("http.begin", "the connection broke", error))?,
            stream,
        ))
    };
    let begun: Result<_, Error> = tokio::select! {
        begun = tokio::time::timeout(limits.header_read, begun) => match begun {
            Ok(begun) => begun,
            Err(_) => return,
        },
        _ = stop.wait_for(|stopped| *stopped) => return,
    };
    let (begin, stream) = match begun {
        // Nothing was sent: a probe of the port, or a browser's spare connection.
        Ok((begin, _)) if begin.is_empty() => return,
        Ok(begun) => begun,
        Err(error) if error.kind() == ErrorKind::Refused => {
            return tracing::warn!(%address, %error, "no secure HTTP connection came about");
        }
        Err(error) => return tracing::debug!(%address, %error, "no HTTP connection came about"),
    };
    let is_http2 = begin == PREFACE;
    let client = Client::of(&stream, address);
    let (reader, writer) = tokio::io::split(stream);
    let stream = tokio::io::join(io::Cursor::new(begin).chain(reader), writer);
    converse(stream, is_http2, client, shared, stop).await;
}

/// Serves what begins with its first request.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    is_http2: bool,
    client: Client,
    shared: Arc<Shared>,
    stop: watch::Receiver<bool>,
) {
    let limits = &shared.limits;
    let activity = Arc::new(Activity::new());
    let stream = TokioIo::new(Watched {
        io: stream,
        activity: Arc::clone(&activity),
    });
    let (router, watched) = (Arc::clone(&shared), Arc::clone(&activity));
    let service =
        service_fn(move |request| Arc::clone(&router).answer(request, client.clone(), Arc::clone(&watched)));
    if is_http2 {
        let mut builder = http2::Builder::new(Streams::new(Arc::clone(&activity), limits.write_stall));
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
        let connection = builder.serve_connection(stream, service);
        let shut_down = http2::Connection::graceful_shutdown;
        drive(connection, shut_down, &activity, stop, &shared).await;
    } else {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .max_headers(limits.header_fields_max)
            .max_header_size(limits.header_length_max_bytes)
            .header_read_timeout(limits.header_read);
        // One that becomes a WebSocket ends here, and is its handler's.
        let connection = builder.serve_connection(stream, service).with_upgrades();
        let shut_down = http1::UpgradeableConnection::graceful_shutdown;
        drive(connection, shut_down, &activity, stop, &shared).await;
    }
}

/// The first bytes: the preface of HTTP/2, or as few as tell that it isn't.
async fn begin(stream: &mut Stream) -> io::Result<Vec<u8>> {
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

async fn drive<C>(
    connection: C,
    shut_down: impl Fn(Pin<&mut C>),
    activity: &Activity,
    mut stop: watch::Receiver<bool>,
    shared: &Shared,
) where
    C: Future<Output = hyper::Result<()>>,
{
    tokio::pin!(connection);
    let mut closing = false;
    loop {
        let verdict = tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    broke_off(&error, &shared.metrics);
                }
                return;
            }
            _ = stop.wait_for(|stopped| *stopped), if !closing => Verdict::Idle,
            verdict = activity.watch(&shared.limits) => verdict,
        };
        match verdict {
            Verdict::Idle if !closing => {
                closing = true;
                activity.begin_closing();
                shut_down(connection.as_mut());
            }
            Verdict::Idle => return,
            Verdict::Stalled => {
                return tracing::info!("an HTTP connection was dropped: its client takes nothing");
            }
        }
    }
}

/// What hyper itself answers by 400, 414 or 431, and closes the connection behind, is in the log and in the metrics as a
/// request that fails.
fn broke_off(error: &hyper::Error, metrics: &Metrics) {
    if error.is_parse() {
        tracing::info!(%error, "a request could not be read, and was refused");
        metrics.request_begins();
        metrics.request_ends("other", "none", 400, Duration::ZERO, (0, 0));
    } else {
        tracing::debug!(%error, "an HTTP connection broke off");
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use bytes::Bytes;
    use http_body_util::BodyExt;
    use hyper_util::rt::TokioExecutor;
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
    use tokio::sync::Semaphore;
    use tokio::task::JoinHandle;

    use super::super::server::HttpLimits;
    use super::*;

    /// Of one piece, far longer than what lies in the buffers on its way.
    const LENGTH: usize = 4 << 20;

    /// What a line holds.
    const LINE: usize = 16 * 1024;

    struct Served {
        client: DuplexStream,
        shared: Arc<Shared>,
        task: JoinHandle<()>,
        _stop: watch::Sender<bool>,
    }

    /// A line without a socket: while everybody waits, nothing moves, and the clock that stands goes on.
    fn serve(is_http2: bool) -> Served {
        let piece = Bytes::from(vec![7; LENGTH]);
        let router = Router::new()
            .route("/long", get(move || async move { piece }))
            .route("/short", get(async || "short"));
        let shared = Arc::new(Shared {
            router,
            limits: HttpLimits::default(),
            requests: Arc::new(Semaphore::new(10)),
            metrics: Metrics::new(),
            tls: None,
        });
        let (client, server) = tokio::io::duplex(LINE);
        let (stop, stopped) = watch::channel(false);
        let from = Client {
            address: ([127, 0, 0, 1], 1).into(),
            secured: None,
        };
        let task = tokio::spawn(converse(server, is_http2, from, Arc::clone(&shared), stopped));
        Served {
            client,
            shared,
            task,
            _stop: stop,
        }
    }

    fn free(shared: &Shared) -> usize {
        shared.requests.available_permits()
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_a_response_slowly_gets_it_whole_and_holds_its_place_until_then() {
        let Served {
            client,
            shared,
            task,
            _stop,
        } = serve(false);
        let mut client = BufReader::new(client);
        let request = b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n";
        client.write_all(request).await.unwrap();
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            assert_ne!(client.read_line(&mut line).await.unwrap(), 0);
        }
        let mut piece = vec![0; LINE];
        for taken in 0..LENGTH / LINE {
            assert!(free(&shared) == 9 || taken > LENGTH / LINE / 2, "{taken}");
            // What the line holds is no longer the server's: behind it, the next request may be waited for.
            if taken < LENGTH / LINE - 2 {
                tokio::time::sleep(shared.limits.write_stall * 3 / 4).await;
            }
            client.read_exact(&mut piece).await.unwrap();
            assert!(piece.iter().all(|byte| *byte == 7));
        }
        // And the connection is still good.
        client
            .write_all(b"GET /short HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        client.read_line(&mut line).await.unwrap();
        assert!(line.ends_with("HTTP/1.1 200 OK\r\n"), "{line}");
        assert_eq!(free(&shared), 10);
        drop(client);
        task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_of_one_long_piece_is_dropped() {
        let Served {
            mut client,
            shared,
            task,
            _stop,
        } = serve(false);
        let request = b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n";
        client.write_all(request).await.unwrap();
        task.await.unwrap();
        assert_eq!(free(&shared), 10);
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert!(rest.len() <= LINE);
    }

    #[tokio::test(start_paused = true)]
    async fn an_http_2_stream_is_reset_where_nothing_of_it_is_taken_and_the_others_go_on() {
        let Served {
            client,
            shared,
            task,
            _stop,
        } = serve(true);
        let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(1 << 16)
            .initial_connection_window_size(1 << 24)
            .handshake(TokioIo::new(client))
            .await
            .unwrap();
        let connection = tokio::spawn(connection);
        let get = |path: &str| hyper::Request::get(path).body(Body::empty()).unwrap();
        let left = sender.send_request(get("http://a/long")).await.unwrap();
        assert_eq!(free(&shared), 9);
        let mut slow = sender
            .send_request(get("http://a/long"))
            .await
            .unwrap()
            .into_body();
        let mut taken = 0;
        while let Some(frame) = slow.frame().await {
            taken += frame.unwrap().into_data().unwrap().len();
            let short = sender.send_request(get("http://a/short")).await.unwrap();
            assert_eq!(short.collect().await.unwrap().to_bytes(), "short");
            tokio::time::sleep(shared.limits.write_stall / 10).await;
        }
        assert_eq!(taken, LENGTH);
        assert!(left.collect().await.is_err());
        assert_eq!(free(&shared), 10);
        drop(sender);
        connection.await.unwrap().unwrap();
        task.await.unwrap();
    }
}
