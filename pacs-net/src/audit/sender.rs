//! [`Sender`]: takes messages out of a log and sends them, whatever happens.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use pacs_core::audit::{AuditQueue, Recorded};
use pacs_core::{Error, ErrorKind, Result};
use tokio::time::{sleep, timeout};

use super::link::Link;
use super::repository::Repository;
use super::syslog::{self, Origin};
use crate::tls::Connector;

/// How a [`Sender`] behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderOptions {
    /// How long a connection may take to come about.
    pub connect: Duration,
    /// How long a message may take to be taken.
    pub write: Duration,
    /// When for so long there is nothing more to send, it is asked for confirmation. Longer than a way to the repository and back.
    pub quiet: Duration,
    /// How long the other side may take to close.
    pub confirm: Duration,
    /// When a repository is away, it is tried again after so long; each time twice as long.
    pub retry_min: Duration,
    /// And no longer than this.
    pub retry_max: Duration,
    /// When the sender is told to stop, it still sends what waits, for so long.
    pub stop: Duration,
}

impl Default for SenderOptions {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            write: Duration::from_secs(30),
            quiet: Duration::from_millis(200),
            confirm: Duration::from_secs(10),
            retry_min: Duration::from_secs(1),
            retry_max: Duration::from_secs(60),
            stop: Duration::from_secs(5),
        }
    }
}

/// Sends the messages of a log to a repository: see [the module](super).
pub struct Sender {
    queue: Arc<dyn AuditQueue>,
    repository: Repository,
    tls: Connector,
    origin: Origin,
    options: SenderOptions,
}

/// Messages that are read out of the log at once.
const READ_MAX: usize = 50;

impl Sender {
    /// From this log to this repository; by `tls`, where it is called over TLS.
    pub fn new(
        queue: Arc<dyn AuditQueue>,
        repository: Repository,
        tls: Connector,
        origin: Origin,
        options: SenderOptions,
    ) -> Self {
        Self {
            queue,
            repository,
            tls,
            origin,
            options,
        }
    }

    /// Sends until `stop`, and then what still waits, as long as that goes without failure and no longer than the options say. What is
    /// left is sent when another sender runs on the log.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) {
        let stop = stop.shared();
        let mut sent = self.queue.sent();
        let mut retry = Retry::new(self.options);
        loop {
            tokio::select! {
                () = self.queue.wait(sent) => {}
                () = stop.clone() => break,
            }
            match self.session(sent, stop.clone()).await {
                Ok(until) => {
                    retry.succeeded(&self.repository);
                    // Nothing came: the log is closed, or what waits can't be read.
                    if until == sent && retry.rest(stop.clone()).await {
                        break;
                    }
                    sent = self.note(until).await;
                }
                Err(error) => {
                    retry.failed(&self.repository, &error);
                    if retry.rest(stop.clone()).await {
                        break;
                    }
                }
            }
        }
        let rest = async {
            loop {
                let until = self.session(sent, futures::future::ready(())).await?;
                if until == sent {
                    return Ok::<(), Error>(());
                }
                sent = self.note(until).await;
            }
        };
        if !matches!(timeout(self.options.stop, rest).await, Ok(Ok(()))) {
            tracing::warn!(repository = %self.repository, "some messages of audit wait to be sent at the next start");
        }
    }

    async fn note(&self, sent: u64) -> u64 {
        let queue = Arc::clone(&self.queue);
        let noted = blocking(move || queue.set_sent(sent)).await;
        if let Err(error) = noted {
            tracing::error!(%error, "what was sent to the audit repository can't be noted; it is sent again after a restart");
        }
        sent
    }

    /// Sends what is behind `after` over one connection, until there is no more for some time, or it was enough for one. Answers the
    /// number of the last that has arrived.
    async fn session(&self, after: u64, stop: impl Future<Output = ()>) -> Result<u64> {
        let options = &self.options;
        let mut waiting = self.read(after).await?;
        if waiting.is_empty() {
            return Ok(after);
        }
        let mut link = Link::open(&self.repository, &self.tls, options.connect).await?;
        let (mut last, mut count) = (after, 0);
        tokio::pin!(stop);
        let mut is_stopping = false;
        loop {
            for recorded in &waiting {
                link.send(&syslog::message(&self.origin, recorded), options.write)
                    .await?;
                last = recorded.sequence;
            }
            count += waiting.len();
            let mut is_enough = count + READ_MAX > link.messages_max();
            if !is_enough {
                waiting = self.read(last).await?;
                if !waiting.is_empty() {
                    continue;
                }
            }
            // What was sent last is there by the end of this, or it is known that it isn't.
            let quiet = sleep(options.quiet);
            tokio::pin!(quiet);
            let has_more = loop {
                tokio::select! {
                    error = link.gone() => return Err(error),
                    () = &mut quiet => break false,
                    () = &mut stop, if !is_stopping => is_stopping = true,
                    () = self.queue.wait(last), if !is_enough && !is_stopping => {
                        waiting = self.read(last).await?;
                        if !waiting.is_empty() {
                            break true;
                        }
                        // The log is closed.
                        is_enough = true;
                    }
                }
            };
            if has_more {
                continue;
            }
            if !link.close(options.confirm).await? {
                tracing::warn!(
                    repository = %self.repository,
                    "the audit repository did not close its side of a connection; what was sent is taken for received"
                );
            }
            return Ok(last);
        }
    }

    async fn read(&self, after: u64) -> Result<Vec<Recorded>> {
        let queue = Arc::clone(&self.queue);
        blocking(move || queue.read(after, READ_MAX)).await
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("repository", &self.repository)
            .finish_non_exhaustive()
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let failed = |_| {
        Error::new(
            ErrorKind::Internal,
            "audit.send",
            "a task panicked, or the runtime stops",
        )
    };
    tokio::task::spawn_blocking(work).await.map_err(failed)?
}

/// When it is tried again.
struct Retry {
    options: SenderOptions,
    next: Duration,
    is_away: bool,
}

impl Retry {
    fn new(options: SenderOptions) -> Self {
        Self {
            options,
            next: options.retry_min,
            is_away: false,
        }
    }

    fn succeeded(&mut self, repository: &Repository) {
        self.next = self.options.retry_min;
        if std::mem::take(&mut self.is_away) {
            tracing::info!(%repository, "the audit repository is back");
        }
    }

    fn failed(&mut self, repository: &Repository, error: &Error) {
        // Said once until it is over.
        if !std::mem::replace(&mut self.is_away, true) {
            tracing::warn!(%repository, %error, "the audit repository is away; messages wait in the log");
        }
    }

    /// Waits for the next try; answers whether it was told to stop.
    async fn rest(&mut self, stop: impl Future<Output = ()>) -> bool {
        let wait = self.next;
        self.next = (self.next * 2).min(self.options.retry_max);
        tokio::select! {
            () = sleep(wait) => false,
            () = stop => true,
        }
    }
}
