//! Files of a database, encrypted: [`FileKeys`], [`EncryptedFile`].
//!
//! In front stand two copies of a [header](super::header), each in 4 KiB of its own, with the data key of the file in
//! them. They are durable before anything stands behind them. What follows is encrypted by AES-256 in XTS mode, each
//! block of 16 bytes by itself and by its place, so that it is as long as before, and a write that is torn tears what
//! it would tear in a plain file. A block of zeros was never written and reads as zeros.
//!
//! A few blocks at the beginning of the database stay as they are ([`OPEN`]): its magic number, flags, versions and the
//! numbers of its pages, which say nothing of what is kept. The database looks at them before it looks at a checksum,
//! and counts on 8 bytes being written whole; a block of 16 that was torn would decrypt to anything.

use std::any::Any;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use pacs_core::{Error, ErrorKind, Result};

use super::EncryptOptions;
use super::header::{self, FILE, Header, RawKey};
use super::keys::{KeyProvider, Keys, Master};
use super::xts::{BLOCK_BYTES, Xts};
use crate::medium::{Medium, MediumFile, fill_by, open_or_create, write_all_at};

/// Where the database begins in the file.
const FRONT_BYTES: u64 = 8192;
/// Where the copies of the header are.
const COPIES: [u64; 2] = [0, 4096];
/// Of the database, in plain: of redb's header all before the two commit slots, and the first block of either, in which
/// are its version and the number of the root page.
const OPEN: [Range<u64>; 2] = [0..80, 192..208];
/// What is encrypted at once when a plain file is taken over.
const COPY_BYTES: usize = 1 << 20;
/// Behind the name of a file while it is taken over.
const NEW: &str = ".encrypting";

/// Why a plain file is refused.
pub(crate) const PLAIN: &str =
    "it was written before encryption was switched on; with plain-too it is encrypted when it is opened";

/// Master keys for files: the index and the ledger, encrypted. Each file has a data key of its own, which is wrapped by
/// the current master key; after a rotation it is wrapped anew at the next opening, and nothing else is written.
///
/// # What it protects
/// Who has the file and no master key reads nothing of what it keeps.
///
/// It hides and does not authenticate (NIST SP 800-38E): who can write to the file can put back what a block of 16 bytes
/// held before, exchange the whole file for an older one, or turn a block into bytes that nobody chose. The checksums
/// of the database find accidents and are no seal. Who has the file at several times sees which blocks changed between them.
pub struct FileKeys {
    keys: Keys,
    options: EncryptOptions,
}

impl FileKeys {
    /// Asks for the current key. Blocks. With [`plain_too`](EncryptOptions::plain_too) a file that is plain is encrypted
    /// when it is opened.
    ///
    /// # Errors
    /// `Refused` when there is no current key.
    pub fn new(provider: Arc<dyn KeyProvider>, options: EncryptOptions) -> Result<Self> {
        Ok(Self {
            keys: Keys::new(provider)?,
            options,
        })
    }
}

impl fmt::Debug for FileKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileKeys")
            .field("current_key", &self.keys.current().id)
            .field("options", &self.options)
            .finish()
    }
}

/// Whether a file begins as an encrypted one does.
pub(crate) fn is_encrypted(start: &[u8]) -> bool {
    start.starts_with(&FILE.magic)
}

/// A file of a database, open.
pub(crate) struct EncryptedFile {
    file: Arc<dyn MediumFile>,
    cipher: Xts,
    _lock: Option<Box<dyn Any + Send + Sync>>,
}

impl fmt::Debug for EncryptedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptedFile").finish_non_exhaustive()
    }
}

fn failed(error: io::Error) -> Error {
    let why = match error.kind() {
        io::ErrorKind::WouldBlock => {
            let why = "another process has the file open";
            return Error::new(ErrorKind::AlreadyExists, "index.open", why);
        }
        _ => "the encrypted file can't be opened",
    };
    Error::io("index.open", why, error)
}

impl EncryptedFile {
    /// Opens the file at `path`, and makes it where there is none. `magic` is what a plain one begins with. `locked`:
    /// nobody else has it open as long as this one is; otherwise the caller sees to that.
    ///
    /// # Errors
    /// `Refused` when it is plain, or its key is missing or wrong; `AlreadyExists` when somebody has it locked; `Corrupt`
    /// when neither copy of the header is whole; what the medium says.
    pub(crate) fn open(
        medium: &dyn Medium,
        path: &Path,
        magic: &[u8],
        keys: &FileKeys,
        locked: bool,
    ) -> Result<Self> {
        let lock = |path: &Path| match locked {
            true => medium.lock(path).map(Some).map_err(failed),
            false => Ok(None),
        };
        let mut held = lock(path)?;
        let mut file = open_or_create(medium, path).map_err(failed)?;
        if front(&*file).map_err(failed)?.starts_with(magic) {
            if !keys.options.plain_too {
                return Err(Error::new(ErrorKind::Refused, "index.open", PLAIN));
            }
            let mut new_path = path.as_os_str().to_owned();
            new_path.push(NEW);
            let new_path = Path::new(&new_path);
            let taken = take_over(medium, &*file, new_path, keys).and_then(|()| {
                // The lock is one of the file, whatever its name.
                let new_lock = lock(new_path)?;
                medium.rename(new_path, path).map_err(failed)?;
                Ok(new_lock)
            });
            held = taken.inspect_err(|_| {
                // The next opening removes it, if this can't.
                let _ = medium.remove(new_path);
            })?;
            file = open_or_create(medium, path).map_err(failed)?;
        }
        Ok(Self {
            cipher: opened(&*file, keys)?,
            file,
            _lock: held,
        })
    }

    /// The length of the database.
    pub(crate) fn length(&self) -> io::Result<u64> {
        let length = self.file.length()?.saturating_sub(FRONT_BYTES);
        // A file that was cut off ends with its last whole block.
        Ok(length - length % BLOCK_BYTES as u64)
    }

    pub(crate) fn set_length(&self, length: u64) -> io::Result<()> {
        self.file.truncate(FRONT_BYTES + length)
    }

    pub(crate) fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Reads what stands at `offset` of the database.
    ///
    /// # Errors
    /// `UnexpectedEof` when it ends before.
    pub(crate) fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (before, behind) = (offset % BLOCK_BYTES as u64, out.len() % BLOCK_BYTES);
        if before == 0 && behind == 0 {
            return self.read_blocks(offset, out);
        }
        let start = before as usize;
        let mut blocks = vec![0; (start + out.len()).next_multiple_of(BLOCK_BYTES)];
        self.read_blocks(offset - before, &mut blocks)?;
        out.copy_from_slice(&blocks[start..start + out.len()]);
        Ok(())
    }

    fn read_blocks(&self, offset: u64, blocks: &mut [u8]) -> io::Result<()> {
        fill_by(
            |into, at| self.file.read_at(into, at),
            blocks,
            FRONT_BYTES + offset,
        )?;
        for (at, part) in sealed_parts(offset, blocks) {
            self.decrypt(at, part);
        }
        Ok(())
    }

    /// Decrypts runs of what was written, and leaves what never was.
    fn decrypt(&self, mut at: u64, mut rest: &mut [u8]) {
        let is_hole = |block: &[u8]| block == [0; BLOCK_BYTES];
        while !rest.is_empty() {
            let hole = is_hole(&rest[..BLOCK_BYTES]);
            let blocks = rest.chunks_exact(BLOCK_BYTES);
            let count = blocks.take_while(|block| is_hole(block) == hole).count();
            let (run, later) = rest.split_at_mut(count * BLOCK_BYTES);
            if !hole {
                self.cipher.decrypt(at, run);
            }
            at += run.len() as u64;
            rest = later;
        }
    }

    /// Writes at `offset` of the database.
    ///
    /// # Errors
    /// `InvalidInput` unless these are whole blocks.
    pub(crate) fn write(&self, offset: u64, blocks: &[u8]) -> io::Result<()> {
        let block = BLOCK_BYTES as u64;
        if !offset.is_multiple_of(block) || !blocks.len().is_multiple_of(BLOCK_BYTES) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut blocks = blocks.to_vec();
        for (at, part) in sealed_parts(offset, &mut blocks) {
            self.cipher.encrypt(at, part);
        }
        write_all_at(&*self.file, &[&blocks], FRONT_BYTES + offset)
    }
}

/// Of blocks at an offset, the parts that are encrypted, each with its offset.
fn sealed_parts(offset: u64, blocks: &mut [u8]) -> impl Iterator<Item = (u64, &mut [u8])> {
    let end = offset + blocks.len() as u64;
    let [first, second] = OPEN;
    let mut rest = blocks;
    let mut at = offset;
    [first.end..second.start, second.end..u64::MAX]
        .into_iter()
        .filter_map(move |sealed| {
            let (from, to) = (sealed.start.max(offset), sealed.end.min(end));
            let length = to.checked_sub(from)? as usize;
            let (_, behind) = std::mem::take(&mut rest).split_at_mut((from - at) as usize);
            let (part, later) = behind.split_at_mut(length);
            (rest, at) = (later, to);
            Some((from, part))
        })
}

/// What stands before the database.
fn front(file: &dyn MediumFile) -> io::Result<Vec<u8>> {
    let length = file.length()?.min(FRONT_BYTES);
    let mut front = vec![0; length as usize];
    fill_by(|into, at| file.read_at(into, at), &mut front, 0)?;
    Ok(front)
}

/// The cipher of a file that isn't plain. One that has no header yet is given one.
fn opened(file: &dyn MediumFile, keys: &FileKeys) -> Result<Xts> {
    let front = front(file).map_err(failed)?;
    let copy = |at: u64| front.get(at as usize..).and_then(|from| from.first_chunk());
    if file.length().map_err(failed)? <= FRONT_BYTES {
        // Nothing was ever written behind it. Its sync may have failed, so a header that is there counts for nothing.
        let zero_or_ours = front.iter().zip(FILE.magic);
        if !zero_or_ours
            .into_iter()
            .all(|(&byte, magic)| byte == 0 || byte == magic)
        {
            return Err(no_header());
        }
        let key = header::new_key()?;
        let bytes = header::wrap(&FILE, &keys.keys.current(), &key)?;
        file.truncate(FRONT_BYTES).map_err(failed)?;
        for at in COPIES {
            write_all_at(file, &[&bytes], at).map_err(failed)?;
        }
        file.sync_data().map_err(failed)?;
        return Ok(Xts::new(&key));
    }
    let mut error = no_header();
    let current = keys.keys.current();
    for (at, other_at) in [(COPIES[0], COPIES[1]), (COPIES[1], COPIES[0])] {
        let header = match copy(at).map(|bytes| Header::read(&FILE, bytes)) {
            Some(Ok(header)) => header,
            Some(Err(later)) if later.kind() == ErrorKind::Unsupported => {
                error = later;
                continue;
            }
            _ => continue,
        };
        match key_of(&header, keys) {
            Ok(key) => {
                if header.id != current.id || copy(other_at) != Some(&header.bytes) {
                    // The one that was read stays until the other one is durable.
                    rewrap(file, &current, &key, [other_at, at]).map_err(failed_to_rewrap)?;
                }
                return Ok(Xts::new(&key));
            }
            Err(refused) => error = refused,
        }
    }
    Err(error)
}

fn key_of(header: &Header, keys: &FileKeys) -> Result<RawKey> {
    header.open(&*keys.keys.ask(&header.id)?)
}

fn rewrap(file: &dyn MediumFile, master: &Master, key: &RawKey, order: [u64; 2]) -> Result<()> {
    let bytes = header::wrap(&FILE, master, key)?;
    for at in order {
        write_all_at(file, &[&bytes], at).map_err(failed)?;
        file.sync_data().map_err(failed)?;
    }
    Ok(())
}

fn failed_to_rewrap(error: Error) -> Error {
    let why = "the file's key can't be wrapped by the current key";
    Error::new(error.kind(), "index.open", why).with_source(error)
}

fn no_header() -> Error {
    let why = "the file has no encryption header, or it is damaged";
    Error::new(ErrorKind::Corrupt, "index.open", why)
}

/// Encrypts what the plain file holds into a new one, which is durable then but for its name.
fn take_over(medium: &dyn Medium, plain: &dyn MediumFile, new_path: &Path, keys: &FileKeys) -> Result<()> {
    let work = || -> Result<()> {
        match medium.remove(new_path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let file = medium.create(new_path).map_err(failed)?;
        let new = EncryptedFile {
            cipher: opened(&*file, keys)?,
            file,
            _lock: None,
        };
        let length = plain.length().map_err(failed)?;
        new.set_length(length).map_err(failed)?;
        let mut piece = vec![0; COPY_BYTES];
        let mut at = 0;
        while at < length {
            let now = (length - at).min(COPY_BYTES as u64) as usize;
            // A database has whole pages; one that was cut off is filled up with zeros.
            let blocks = &mut piece[..now.next_multiple_of(BLOCK_BYTES)];
            blocks[now..].fill(0);
            fill_by(|into, at| plain.read_at(into, at), &mut blocks[..now], at).map_err(failed)?;
            new.write(at, blocks).map_err(failed)?;
            at += now as u64;
        }
        new.sync_data().map_err(failed)
    };
    work().map_err(|error| {
        let why = "the plain file can't be encrypted";
        Error::new(error.kind(), "index.open", why).with_source(error)
    })
}
