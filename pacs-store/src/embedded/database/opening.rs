//! Opening what a database keeps of a data directory.

use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use bytes::Bytes;
use futures::executor::block_on;
use pacs_core::limits::LEDGER_KEY_LENGTH_MAX_BYTES;
use pacs_core::{Error, ErrorKind, Ledger, Result, Step};

use super::{Database, HELD, Lock, NOTE, Note, OPERATION};
use crate::embedded::{LEDGER, Opened, write_whole};
use crate::layers::encrypt::random_number;
use crate::medium::{Medium as _, SystemMedium};
use crate::{Postgres, PostgresIndex, PostgresLedger, PostgresOptions, RedbLedger};

/// Opens index and ledger of this data directory; the index `anew` without what it knew. A ledger that was in a file goes to
/// the database.
///
/// # Errors
/// `Refused` when another process has directory or schema open, `Mismatch` when the schema is not this data directory's; what
/// the database says.
pub(in crate::embedded) fn open(database: &Database, directory: &Path, anew: bool) -> Result<Opened> {
    let options = PostgresOptions {
        schema: database.schema.clone(),
        connections: database.connections,
        authorities: database.authorities.clone(),
        password_file: database.password_file.clone(),
        ..PostgresOptions::default()
    };
    let lock = lock(directory)?;
    let postgres = Postgres::open(&database.url, options)?;
    let note = own_note(directory)?;
    let owner = postgres.claim(&note.number, !note.is_held)?;
    if owner.as_deref() != Some(&note.number) {
        let whose = match owner {
            Some(_) => "is another data directory's",
            None => "has nothing of what it should have",
        };
        let what = format!(
            "the schema {} of the database {whose}: it is not that of {}",
            database.schema,
            directory.display()
        );
        return Err(Error::new(ErrorKind::Mismatch, OPERATION, what));
    }
    let ledger: Arc<dyn Ledger> = Arc::new(PostgresLedger::new(postgres.clone()));
    if !note.is_held {
        copy_ledger(directory, &*ledger)?;
        write_note(directory, &format!("{}\n{HELD}\n", note.number))?;
        put_ledger_aside(directory)?;
    }
    let index = match anew {
        true => PostgresIndex::emptied(postgres),
        false => PostgresIndex::new(postgres),
    };
    Ok(Opened {
        index: Arc::new(index?),
        ledger,
        ledger_in_replica: None,
        ledger_for_backup: None,
        lock: Some(lock),
    })
}

/// # Errors
/// `Refused` when another process has it.
fn lock(directory: &Path) -> Result<Lock> {
    let lock = SystemMedium::open(directory).and_then(|directory| directory.lock(Path::new(LOCK)));
    lock.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => {
            let what = format!("{} is in use by another process", directory.display());
            Error::new(ErrorKind::Refused, OPERATION, what)
        }
        _ => Error::io(OPERATION, format!("{}", directory.display()), error),
    })
}

/// What says which schema is this directory's; it is made where there is none.
fn own_note(directory: &Path) -> Result<Note> {
    if let Some(note) = Note::read(directory)? {
        return Ok(note);
    }
    let number = format!("{:032x}", random_number()?);
    // It is durable before the database knows of it.
    write_note(directory, &format!("{number}\n"))?;
    Ok(Note {
        number,
        is_held: false,
    })
}

fn write_note(directory: &Path, text: &str) -> Result<()> {
    let note = directory.join(NOTE);
    let written = write_whole(&note, text);
    written.map_err(|error| Error::io(OPERATION, format!("{}", note.display()), error))
}

/// The file that is locked: the note itself is written anew.
const LOCK: &str = "database.lock";

/// Entries that are copied at once; one may have a MiB.
const COPIED_AT_ONCE: usize = 64;

/// Brings what a ledger in a file holds to the database. Broken off, it begins anew with the next opening; nobody uses
/// either meanwhile.
fn copy_ledger(directory: &Path, to: &dyn Ledger) -> Result<()> {
    let path = directory.join(LEDGER);
    let is_there = path.try_exists();
    if !is_there.map_err(|error| Error::io(OPERATION, format!("{}", path.display()), error))? {
        return Ok(());
    }
    let from = RedbLedger::open(&path)?;
    let (mut first, mut copied) = (Bytes::new(), 0);
    // Behind every key there can be.
    let end = Bytes::from(vec![u8::MAX; LEDGER_KEY_LENGTH_MAX_BYTES + 1]);
    loop {
        let some = block_on(from.range(first.clone()..end.clone(), COPIED_AT_ONCE))?;
        let Some((last, _)) = some.last() else { break };
        first = [&**last, &[0]].concat().into();
        copied += some.len();
        let steps = some.into_iter().map(|(key, value)| Step::Put(key, value));
        block_on(to.apply(steps.collect()))?;
    }
    tracing::info!(entries = copied, "the ledger is in the database now");
    Ok(())
}

/// What was copied isn't used any more; whoever finds it is told so by its name.
fn put_ledger_aside(directory: &Path) -> Result<()> {
    let path = directory.join(LEDGER);
    match fs::rename(&path, directory.join(format!("{LEDGER}.moved"))) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(OPERATION, format!("{}", path.display()), error))
        }
        _ => Ok(()),
    }
}
