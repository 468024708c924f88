//! Opening what a database keeps of a data directory.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use bytes::Bytes;
use futures::executor::block_on;
use pacs_core::limits::LEDGER_KEY_LENGTH_MAX_BYTES;
use pacs_core::{Error, ErrorKind, Ledger, Result, Step};

use super::{Database, Lock, NOTE, OPERATION};
use crate::embedded::{LEDGER, Opened};
use crate::layers::encrypt::fill_random;
use crate::medium::{Medium as _, SystemMedium};
use crate::{Postgres, PostgresIndex, PostgresLedger, PostgresOptions, RedbLedger};

/// Opens index and ledger of this data directory. A ledger that was in a file goes to the database.
///
/// # Errors
/// `Unsupported` where this program was built without; `Mismatch` when the schema is another data directory's; what the
/// database says.
pub(in crate::embedded) fn open(database: &Database, directory: &Path) -> Result<Opened> {
    let options = PostgresOptions {
        schema: database.schema.clone(),
        connections: database.connections,
        authorities: database.authorities.clone(),
        password_file: database.password_file.clone(),
        ..PostgresOptions::default()
    };
    let postgres = Postgres::open(&database.url, options)?;
    let own = own_number(directory)?;
    let lock = lock(directory)?;
    if postgres.claim(&own)? != own {
        let what = format!(
            "the schema {} of the database is another data directory's than {}: this one needs another schema",
            database.schema,
            directory.display()
        );
        return Err(Error::new(ErrorKind::Mismatch, OPERATION, what));
    }
    let ledger: Arc<dyn Ledger> = Arc::new(PostgresLedger::new(postgres.clone()));
    move_ledger(directory, &*ledger)?;
    Ok(Opened {
        index: Arc::new(PostgresIndex::new(postgres)?),
        ledger,
        lock: Some(lock),
    })
}

/// # Errors
/// `Refused` when another process has it.
fn lock(directory: &Path) -> Result<Lock> {
    let lock = SystemMedium::open(directory).and_then(|directory| directory.lock(Path::new(NOTE)));
    lock.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => {
            let what = format!("{} is in use by another process", directory.display());
            Error::new(ErrorKind::Refused, OPERATION, what)
        }
        _ => Error::io(OPERATION, format!("{}", directory.display()), error),
    })
}

/// The number of this data directory, which is made where it has none.
fn own_number(directory: &Path) -> Result<String> {
    let path = directory.join(NOTE);
    let failed = |error| Error::io(OPERATION, format!("{}", path.display()), error);
    match fs::read_to_string(&path) {
        Ok(number) if number.trim().len() == 32 => return Ok(number.trim().to_owned()),
        Ok(_) => {
            let what = format!("{} is not what it was made as", path.display());
            return Err(Error::new(ErrorKind::Corrupt, OPERATION, what));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let mut number = [0; 16];
    fill_random(&mut number)?;
    let number = format!("{:032x}", u128::from_be_bytes(number));
    // It is durable before the database knows of it, and whole before it has its name.
    let new = directory.join(format!("{NOTE}.new"));
    let mut file = fs::File::create(&new).map_err(failed)?;
    file.write_all(format!("{number}\n").as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&new, &path))
        .and_then(|()| fs::File::open(directory)?.sync_all())
        .map_err(failed)?;
    Ok(number)
}

/// Entries that are moved at once; one may have a MiB.
const MOVED_AT_ONCE: usize = 64;

/// Brings what a ledger in a file holds to the database. Broken off, it begins anew with the next opening; nobody uses
/// either meanwhile.
fn move_ledger(directory: &Path, to: &dyn Ledger) -> Result<()> {
    let path = directory.join(LEDGER);
    if !path.exists() {
        return Ok(());
    }
    let from = RedbLedger::open(&path)?;
    let (mut first, mut moved) = (Bytes::new(), 0);
    // Behind every key there can be.
    let end = Bytes::from(vec![u8::MAX; LEDGER_KEY_LENGTH_MAX_BYTES + 1]);
    loop {
        let some = block_on(from.range(first.clone()..end.clone(), MOVED_AT_ONCE))?;
        let Some((last, _)) = some.last() else { break };
        first = [&**last, &[0]].concat().into();
        moved += some.len();
        let steps = some.into_iter().map(|(key, value)| Step::Put(key, value));
        block_on(to.apply(steps.collect()))?;
    }
    drop(from);
    let moved_to = directory.join(format!("{}.moved", LEDGER));
    fs::rename(&path, &moved_to)
        .and_then(|()| fs::File::open(directory)?.sync_all())
        .map_err(|error| Error::io(OPERATION, format!("{}", path.display()), error))?;
    tracing::info!(entries = moved, file = %moved_to.display(), "the ledger is in the database now");
    Ok(())
}
