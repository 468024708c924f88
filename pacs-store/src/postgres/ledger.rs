//! [`PostgresLedger`]: a ledger that many machines share.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use deadpool_postgres::Object;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use pacs_core::error::{Error, ErrorKind, Result, Retry};
use pacs_core::ledger::{Ledger, LedgerCapability, Step};
use pacs_core::limits;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::Postgres;
use super::connection::{Begun, Whose, Work};
use super::failure::Failure;

/// Requests that share a transaction, and bytes of their keys and values, at most.
const GROUP_MAX: usize = 512;
const GROUP_LENGTH_MAX_BYTES: usize = 16 << 20;

/// Requests that may wait: those who wait are associations, requests and deliveries, which are bounded themselves.
const WAITING_MAX: usize = 16 * 1024;

/// A [`Ledger`] in a table of a database.
///
/// What is applied through one of these is applied in the order of the calls, and those that wait at the same time share a
/// transaction. Others, on whatever machine, come before or behind it.
#[derive(Debug)]
pub struct PostgresLedger {
    database: Postgres,
    statements: Arc<Statements>,
    requests: mpsc::Sender<Request>,
}

/// What somebody wants to be applied.
struct Request {
    steps: Vec<Step>,
    reply: oneshot::Sender<Result<bool>>,
    /// The database is not closed before it is answered.
    _begun: Begun,
}

/// They name the schema.
#[derive(Debug)]
struct Statements {
    get: String,
    range: String,
    lock: String,
    put: String,
    delete: String,
}

impl PostgresLedger {
    /// The ledger of this database.
    pub fn new(database: Postgres) -> Self {
        let table = format!("{}.ledger", database.schema());
        let statements = Arc::new(Statements {
            get: format!("SELECT key, value FROM {table} WHERE key = ANY($1)"),
            range: format!("SELECT key, value FROM {table} WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3"),
            // What nobody has yet is there, without a value, as long as the transaction lasts: so nobody else makes it.
            lock: format!(
                "INSERT INTO {table} AS l SELECT key, NULL FROM unnest($1::bytea[]) AS k (key) ORDER BY key
                 ON CONFLICT (key) DO UPDATE SET value = l.value
                 RETURNING l.key, CASE WHEN l.key = ANY($2) THEN l.value END, l.value IS NULL"
            ),
            put: format!(
                "UPDATE {table} AS l SET value = e.value FROM unnest($1::bytea[], $2::bytea[]) AS e (key, value)
                 WHERE l.key = e.key"
            ),
            delete: format!("DELETE FROM {table} WHERE key = ANY($1)"),
        });
        let (requests, receiver) = mpsc::channel(WAITING_MAX);
        database.spawn(write(
            database.work(Whose::Own),
            Arc::clone(&statements),
            receiver,
        ));
        Self {
            database,
            statements,
            requests,
        }
    }

    /// What stands under these keys.
    fn find(&self, keys: Vec<Bytes>) -> impl Future<Output = Result<BTreeMap<Bytes, Bytes>>> + Send + use<> {
        let (statements, keys) = (Arc::clone(&self.statements), Arc::new(keys));
        self.database.run(Whose::Questions, move |client: Object| {
            let (statements, keys) = (Arc::clone(&statements), Arc::clone(&keys));
            async move {
                let find = client.prepare_cached(&statements.get).await?;
                let rows = client.query(&find, &[&slices(keys.iter())]).await?;
                Ok(rows.iter().map(entry).collect::<std::result::Result<_, _>>()?)
            }
        })
    }
}

fn slices<'a>(of: impl Iterator<Item = &'a Bytes>) -> Vec<&'a [u8]> {
    of.map(|bytes| &**bytes).collect()
}

fn entry(row: &tokio_postgres::Row) -> std::result::Result<(Bytes, Bytes), tokio_postgres::Error> {
    let value: Option<&[u8]> = row.try_get(1)?;
    Ok((
        Bytes::copy_from_slice(row.try_get(0)?),
        Bytes::copy_from_slice(value.unwrap_or_default()),
    ))
}

/// Applies what is asked for until nobody can ask any more.
async fn write(work: Work, statements: Arc<Statements>, mut requests: mpsc::Receiver<Request>) {
    while let Some(first) = requests.recv().await {
        let mut length = length_of(&first.steps);
        let (mut steps, mut replies) = (vec![first.steps], vec![(first.reply, first._begun)]);
        while steps.len() < GROUP_MAX
            && length < GROUP_LENGTH_MAX_BYTES
            && let Ok(next) = requests.try_recv()
        {
            length += length_of(&next.steps);
            steps.push(next.steps);
            replies.push((next.reply, next._begun));
        }
        let steps = Arc::new(steps);
        let applied = work.again(|client| {
            let (statements, steps) = (Arc::clone(&statements), Arc::clone(&steps));
            async move { apply(client, &statements, &steps).await }
        });
        match applied.await {
            Ok(applied) => {
                for ((reply, _begun), applied) in replies.into_iter().zip(applied) {
                    // Nobody waits any more: it was applied all the same.
                    let _ = reply.send(Ok(applied));
                }
            }
            Err(error) => {
                for (reply, _begun) in replies {
                    let told = Error::new(error.kind(), error.operation(), error.context().to_owned());
                    let _ = reply.send(Err(told.with_retry(error.retry())));
                }
            }
        }
    }
}

fn length_of(steps: &[Step]) -> usize {
    let of = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
    let lengths = steps.iter().map(|step| match step {
        Step::Put(key, value) => key.len() + value.len(),
        Step::Delete(key) => key.len(),
        Step::Expect(key, value) => key.len() + of(value),
    });
    lengths.sum()
}

/// Applies each of these, one behind the other, in one transaction; answers for each whether its expectations held.
async fn apply(
    mut client: Object,
    statements: &Statements,
    group: &[Vec<Step>],
) -> std::result::Result<Vec<bool>, Failure> {
    let (mut keys, mut expected) = (BTreeSet::new(), BTreeSet::new());
    for step in group.iter().flatten() {
        let (Step::Put(key, _) | Step::Delete(key) | Step::Expect(key, _)) = step;
        keys.insert(key);
        if matches!(step, Step::Expect(..)) {
            expected.insert(key);
        }
    }
    if keys.is_empty() {
        return Ok(vec![true; group.len()]);
    }
    let transaction = client.transaction().await?;
    // All that is looked at or changed is locked first, in ascending order of key and by one statement: two who do so wait
    // for each other and never both, and what is done then is done one behind the other.
    let lock = transaction.prepare_cached(&statements.lock).await?;
    let (all, wanted) = (slices(keys.into_iter()), slices(expected.into_iter()));
    let rows = transaction.query(&lock, &[&all, &wanted]).await?;
    let held: std::result::Result<Vec<Held>, _> = rows.iter().map(Held::of).collect();
    let held = held?;
    let mut now: BTreeMap<&Bytes, Option<&Bytes>> =
        held.iter().map(|held| (&held.key, held.value.as_ref())).collect();
    let mut left: BTreeMap<&Bytes, Option<&Bytes>> = BTreeMap::new();
    left.extend(
        held.iter()
            .filter(|held| held.is_new)
            .map(|held| (&held.key, None)),
    );
    let mut answers = Vec::with_capacity(group.len());
    for steps in group {
        let holds = steps.iter().all(|step| match step {
            Step::Expect(key, value) => now.get(key).copied().flatten() == value.as_ref(),
            _ => true,
        });
        answers.push(holds);
        for step in steps.iter().filter(|_| holds) {
            let (key, value) = match step {
                Step::Put(key, value) => (key, Some(value)),
                Step::Delete(key) => (key, None),
                Step::Expect(..) => continue,
            };
            now.insert(key, value);
            left.insert(key, value);
        }
    }
    let (put, deleted): (Vec<_>, Vec<_>) = left.into_iter().partition(|(_, value)| value.is_some());
    if !deleted.is_empty() {
        let statement = transaction.prepare_cached(&statements.delete).await?;
        let keys = slices(deleted.iter().map(|(key, _)| *key));
        transaction.execute(&statement, &[&keys]).await?;
    }
    if !put.is_empty() {
        let statement = transaction.prepare_cached(&statements.put).await?;
        let keys = slices(put.iter().map(|(key, _)| *key));
        let values = slices(put.iter().filter_map(|(_, value)| *value));
        transaction.execute(&statement, &[&keys, &values]).await?;
    }
    transaction
        .commit()
        .await
        .map_err(|error| Failure::of_commit(&error))?;
    Ok(answers)
}

/// What stands under a key that nobody else changes until the transaction ends.
struct Held {
    key: Bytes,
    /// Known only of keys of which something is expected.
    value: Option<Bytes>,
    /// Nothing stood there.
    is_new: bool,
}

impl Held {
    fn of(row: &tokio_postgres::Row) -> std::result::Result<Self, tokio_postgres::Error> {
        let value: Option<&[u8]> = row.try_get(1)?;
        Ok(Self {
            key: Bytes::copy_from_slice(row.try_get(0)?),
            value: value.map(Bytes::copy_from_slice),
            is_new: row.try_get(2)?,
        })
    }
}

/// Steps without what is said of keys that are longer than any that is kept; `None` where one is expected to have a value.
fn of_possible_keys(mut steps: Vec<Step>) -> Option<Vec<Step>> {
    let is_possible = |key: &Bytes| key.len() <= limits::LEDGER_KEY_LENGTH_MAX_BYTES;
    let is_vain = |step: &Step| matches!(step, Step::Expect(key, Some(_)) if !is_possible(key));
    if steps.iter().any(is_vain) {
        return None;
    }
    steps.retain(|step| match step {
        Step::Put(..) => true,
        Step::Delete(key) | Step::Expect(key, _) => is_possible(key),
    });
    Some(steps)
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "ledger.apply", "the database is closed")
}

#[deny(clippy::missing_trait_methods)]
impl Ledger for PostgresLedger {
    fn capability(&self) -> LedgerCapability {
        LedgerCapability { durable: true }
    }

    fn get(&self, key: &[u8]) -> BoxFuture<'_, Result<Option<Bytes>>> {
        let found = self.find(vec![Bytes::copy_from_slice(key)]);
        Box::pin(async move { Ok(found.await?.into_values().next()) })
    }

    fn get_all<'a>(&'a self, keys: &'a [Bytes]) -> BoxFuture<'a, Result<Vec<Option<Bytes>>>> {
        let found = self.find(keys.to_vec());
        Box::pin(async move {
            let found = found.await?;
            Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
        })
    }

    fn range(&self, range: Range<Bytes>, limit: usize) -> BoxFuture<'_, Result<Vec<(Bytes, Bytes)>>> {
        if range.is_empty() || limit == 0 {
            return Box::pin(std::future::ready(Ok(Vec::new())));
        }
        let (statements, range) = (Arc::clone(&self.statements), Arc::new(range));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        Box::pin(self.database.run(Whose::Questions, move |client| {
            let (statements, range) = (Arc::clone(&statements), Arc::clone(&range));
            async move {
                let find = client.prepare_cached(&statements.range).await?;
                let rows = client
                    .query(&find, &[&&*range.start, &&*range.end, &limit])
                    .await?;
                Ok(rows.iter().map(entry).collect::<std::result::Result<_, _>>()?)
            }
        }))
    }

    fn apply(&self, steps: Vec<Step>) -> BoxFuture<'_, Result<bool>> {
        if let Err(error) = Step::check_lengths(&steps) {
            return Box::pin(std::future::ready(Err(error)));
        }
        let Some(steps) = of_possible_keys(steps) else {
            return Box::pin(std::future::ready(Ok(false)));
        };
        let (reply, answer) = oneshot::channel();
        let sent = self.requests.try_send(Request {
            steps,
            reply,
            _begun: self.database.begun(),
        });
        Box::pin(async move {
            sent.map_err(|error| match error {
                TrySendError::Full(_) => {
                    let why = "more waits to be kept in the database than may";
                    let error = Error::new(ErrorKind::OutOfResources, "ledger.apply", why);
                    error.with_retry(Retry::Later)
                }
                TrySendError::Closed(_) => closed(),
            })?;
            answer.await.map_err(|_| closed())?
        })
    }
}
