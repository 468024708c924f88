//! [`Postgres`]: the way to the database.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod,
    Runtime, TimeoutType,
};
use futures::executor::block_on;
use pacs_core::error::Retry;
use pacs_core::{Error, ErrorKind, Result};
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, NoTls};

use super::failure::Failure;
use super::{PostgresOptions, tables, tls};

/// Threads that speak with the database; it does the work.
const THREADS: usize = 2;
/// Connections for what must not wait behind questions: an index and a ledger that write, and what heals or opens one.
const RESERVED: usize = 4;
/// For how long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// For how long a database may be silent at the other end of the line.
const SILENCE: Duration = Duration::from_secs(10);
/// What is set on every connection: nobody waits without end for what another one holds, who may be gone.
const SETTINGS: &str =
    "SET lock_timeout = '5s'; SET statement_timeout = '60s'; SET idle_in_transaction_session_timeout = '15s'";
/// What PostgreSQL knows, each by itself: what is said to be kept is on the medium; the other end of the line; and every
/// statement is by key: a plan that was made of a table when it was empty, or without knowing how much is asked for, is still
/// one by key when it is full, and none is worth compiling.
const SETTINGS_OF_POSTGRESQL: [&str; 3] = [
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
    "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 2",
    "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off; SET jit = off;
     SET plan_cache_mode = force_generic_plan",
];
/// Between two attempts, at first and at most.
const INTERVALS: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];
/// For how long what was begun is waited for at the end.
const END: Duration = Duration::from_secs(30);

/// The way to a database, which clones share. When the last one is dropped, what was begun is finished.
///
/// It has threads of its own, so that it serves whatever executor asks.
#[derive(Clone)]
pub struct Postgres {
    shared: Arc<Shared>,
}

struct Shared {
    options: PostgresOptions,
    /// For questions, of which there may be many.
    pool: Pool,
    /// For what must not wait behind them.
    reserved: Pool,
    /// Holds the lock on the schema, where somebody [claimed](Postgres::claim) it.
    held: Mutex<Option<ClientWrapper>>,
    /// Taken at the end.
    runtime: Option<tokio::runtime::Runtime>,
    open: Arc<Open>,
}

/// How much was begun and is not finished.
#[derive(Default)]
struct Open {
    count: Mutex<usize>,
    finished: Condvar,
}

/// Something that was begun: until it is dropped, the end waits for it.
pub(super) struct Begun(Arc<Open>);

impl Open {
    fn one(self: &Arc<Self>) -> Begun {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Begun(Arc::clone(self))
    }

    fn wait(&self) {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        // Whether it is over or takes too long, it ends.
        drop(self.finished.wait_timeout_while(count, END, |count| *count > 0));
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        *self.0.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.finished.notify_all();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.open.wait();
        if let Some(runtime) = self.runtime.take() {
            // Waits for nothing, so it may be dropped where others must not wait.
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres")
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

impl Postgres {
    /// Opens the database at `url`, as libpq takes it: `postgresql://user@host:5432/name`, or `host=... dbname=...`.
    /// Makes the tables, or brings them to this version. Blocks.
    ///
    /// # Errors
    /// `Invalid` when the URL or the schema's name is none; `Refused` when the database doesn't let in or lets not do;
    /// `Unsupported` when the tables are of a newer version; `Io` when it isn't reached.
    pub fn open(url: &str, options: PostgresOptions) -> Result<Self> {
        let invalid = |why: &'static str| Error::new(ErrorKind::Invalid, "database.open", why);
        let is_name = |(place, letter): (usize, char)| {
            letter.is_ascii_lowercase() || place > 0 && (letter.is_ascii_digit() || letter == '_')
        };
        let schema = &options.schema;
        if schema.is_empty() || schema.len() > 63 || !schema.chars().enumerate().all(is_name) {
            return Err(invalid(
                "a schema is named by letters, digits and _, in lower case",
            ));
        }
        // Here every certificate is held against the host, whatever it is called.
        let url = url.replace("sslmode=verify-full", "sslmode=require");
        let mut config: Config = url
            .parse()
            // What is wrong with it might be a password.
            .map_err(|_| invalid("the URL of the database can't be understood"))?;
        if let Some(file) = &options.password_file {
            let password = std::fs::read_to_string(file).map_err(|error| {
                Error::io(
                    "database.open",
                    format!("{} can't be read", file.display()),
                    error,
                )
            })?;
            config.password(password.trim_end_matches(['\r', '\n']));
        }
        // A database that is gone without a word is noticed, and one that only answers questions isn't taken.
        config
            .connect_timeout(CONNECT)
            .tcp_user_timeout(SILENCE)
            .keepalives_idle(SILENCE / 2)
            .keepalives_interval(SILENCE / 4)
            .keepalives_retries(2)
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        if config.get_application_name().is_none() {
            config.application_name("pacs");
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("pacs-database")
            .enable_all()
            .build()
            .map_err(|error| Error::io("database.open", "a thread can't be started", error))?;
        let recycling = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let tls = match config.get_ssl_mode() {
            SslMode::Require => Some(tls::connector(options.authorities.as_deref())?),
            _ => {
                let is_far = |host: &Host| match host {
                    Host::Tcp(name) => {
                        name != "localhost"
                            && !name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
                    }
                    Host::Unix(_) => false,
                };
                if config.get_hosts().iter().any(is_far) {
                    tracing::warn!(
                        "what the database keeps goes over the network in the clear: sslmode=require in its URL makes it secure"
                    );
                }
                config.ssl_mode(SslMode::Disable);
                None
            }
        };
        let pool = |connections: usize| {
            let manager = match &tls {
                Some(tls) => Manager::from_config(config.clone(), tls.clone(), recycling.clone()),
                None => Manager::from_config(config.clone(), NoTls, recycling.clone()),
            };
            let settled = Hook::async_fn(|client: &mut ClientWrapper, _| {
                Box::pin(async move {
                    client.batch_execute(SETTINGS).await.map_err(HookError::Backend)?;
                    for settings in SETTINGS_OF_POSTGRESQL {
                        // Who speaks the protocol and is another database may not know these.
                        let _ = client.batch_execute(settings).await;
                    }
                    Ok(())
                })
            });
            Pool::builder(manager)
                .post_create(settled)
                .max_size(connections)
                .runtime(Runtime::Tokio1)
                .create_timeout(Some(CONNECT))
                .wait_timeout(Some(options.patience))
                .build()
                .map_err(|_| Error::new(ErrorKind::Internal, "database.open", "there can be no pool"))
        };
        let (pool, reserved) = (pool(options.connections.max(1))?, pool(RESERVED)?);
        let database = Self {
            shared: Arc::new(Shared {
                options,
                pool,
                reserved,
                held: Mutex::new(None),
                runtime: Some(runtime),
                open: Arc::default(),
            }),
        };
        let schema: Arc<str> = database.schema().into();
        block_on(database.run(Whose::Own, move |client| {
            let schema = Arc::clone(&schema);
            async move { tables::prepare(client, &schema).await }
        }))?;
        Ok(database)
    }

    pub(super) fn schema(&self) -> &str {
        &self.shared.options.schema
    }

    /// Says whose the schema is: `owner`'s, if nobody's before and it `may_begin`; answers whose it is, if anybody's. Until
    /// this way to the database is closed, or its connection breaks, nobody else can do the same. To be called once. Blocks.
    ///
    /// # Errors
    /// `Refused` while another program has it open; what the database says.
    pub fn claim(&self, owner: &str, may_begin: bool) -> Result<Option<String>> {
        let table = format!("{}.owner", self.schema());
        let begin =
            may_begin.then(|| format!("INSERT INTO {table} VALUES (true, $1) ON CONFLICT DO NOTHING"));
        let select = format!("SELECT name FROM {table}");
        let asked = (owner.to_owned(), begin, select, self.schema().to_owned());
        let (name, held) = block_on(self.run(Whose::Own, move |client| {
            let (owner, begin, select, schema) = asked.clone();
            async move {
                // As long as this connection lasts. Another database than PostgreSQL may not know such locks.
                let lock = "SELECT pg_try_advisory_lock(hashtext('pacs'), hashtext($1))";
                let locked = match client.query_one(lock, &[&schema]).await {
                    Ok(row) => row.try_get(0)?,
                    Err(error) if error.code() == Some(&SqlState::UNDEFINED_FUNCTION) => true,
                    Err(error) => return Err(error.into()),
                };
                if !locked {
                    let why = format!("another program has the schema {schema} of the database open");
                    // One that has just ended has it for a moment still.
                    return Err(Failure::Passing(Error::new(
                        ErrorKind::Refused,
                        "database.open",
                        why,
                    )));
                }
                if let Some(begin) = begin {
                    client.execute(&begin, &[&owner]).await?;
                }
                let name: Option<String> = match client.query_opt(&select, &[]).await? {
                    Some(row) => Some(row.try_get(0)?),
                    None => None,
                };
                Ok((name, client))
            }
        }))?;
        // Not given back: it lasts as long as the way to the database does, or until it breaks.
        *self.shared.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(Object::take(held));
        Ok(name)
    }

    /// Notes that something was begun which the end waits for.
    pub(super) fn begun(&self) -> Begun {
        self.shared.open.one()
    }

    pub(super) fn work(&self, whose: Whose) -> Work {
        let pool = match whose {
            Whose::Questions => &self.shared.pool,
            Whose::Own => &self.shared.reserved,
        };
        Work {
            pool: pool.clone(),
            patience: self.shared.options.patience,
        }
    }

    /// Runs `task` on the threads of the database, until these end. It must not hold the database.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.shared.runtime {
            runtime.spawn(task);
        }
    }

    /// Does `work` on a connection, and again where it fails for the moment. It goes on when the future is dropped, and
    /// begins before the future is polled.
    pub(super) fn run<T, F, W>(
        &self,
        whose: Whose,
        work: W,
    ) -> impl Future<Output = Result<T>> + Send + use<T, F, W>
    where
        T: Send + 'static,
        W: Fn(Object) -> F + Send + Sync + 'static,
        F: Future<Output = Result<T, Failure>> + Send,
    {
        let closed = || Error::new(ErrorKind::Closed, "database", "the database is closed");
        let (way, begun) = (self.work(whose), self.begun());
        let task = self.shared.runtime.as_ref().map(|runtime| {
            runtime.spawn(async move {
                let _begun = begun;
                way.again(work).await
            })
        });
        async move {
            match task {
                Some(task) => task.await.map_err(|_| closed())?,
                None => Err(closed()),
            }
        }
    }
}

/// Whose work it is.
#[derive(Clone, Copy)]
pub(super) enum Whose {
    /// That of those who ask: it waits for its turn.
    Questions,
    /// That without which nothing goes on.
    Own,
}

/// The way to the database for those who run on its threads.
pub(super) struct Work {
    pool: Pool,
    patience: Duration,
}

impl Work {
    /// Does `work` on a connection, and again where it fails for the moment.
    pub(super) async fn again<T, F>(&self, work: impl Fn(Object) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let [mut interval, longest] = INTERVALS;
        let begin = Instant::now();
        loop {
            let done = match self.pool.get().await {
                Ok(client) => work(client).await,
                Err(error) => Err(not_connected(&error)),
            };
            let failure = match done {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            if matches!(failure, Failure::Final(_)) || begin.elapsed() + interval > self.patience {
                return Err(failure.into_error());
            }
            tokio::time::sleep(interval).await;
            interval = (interval * 2).min(longest);
        }
    }
}

fn not_connected(error: &PoolError) -> Failure {
    match error {
        PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => error.into(),
        // The database is well, and there is more to do than it does.
        PoolError::Timeout(TimeoutType::Wait) => Failure::Final(
            Error::new(
                ErrorKind::TimedOut,
                "database",
                "too many ask the database at once",
            )
            .with_retry(Retry::Later),
        ),
        PoolError::Timeout(_) => Failure::Passing(Error::new(
            ErrorKind::Io,
            "database",
            "no connection to the database came about in time",
        )),
        _ => Failure::Final(Error::new(
            ErrorKind::Closed,
            "database",
            "the database is closed",
        )),
    }
}
