//! Encryption at rest: [`EncryptedArchive`], and [`FileKeys`] for index and ledger, which are said there.
//!
//! Each instance has a data key of its own. It stands before the instance, wrapped by a master key, which a
//! [`KeyProvider`] gives: of a file, of the environment, of a command, of a program's own. The instance follows in
//! chunks of 64 KiB, each by AES-256-GCM, so that a range costs the chunks that cover it.
//!
//! # What it protects
//! Who has the files of the archive and no master key reads no byte of an instance, and can't change one unnoticed: what
//! was changed, cut off, put in another order or taken from another instance is refused as `Corrupt`.
//!
//! It does not hide how many instances there are, how long they are, when they came, and what the archive inside keeps
//! beside the bytes: the UIDs of [`InstanceKey`](pacs_core::InstanceKey) stand in the records of the segment archive and
//! in the names of the folder archive. It does not notice when one whole instance is put in the place of another, or an
//! older state of the archive in the place of a newer. What is known of instances, the index and the ledger, is not in
//! the archive: [`FileKeys`] are for these.
//!
//! # Rotation
//! A new key is put first in the provider's list: what is written after the next opening, or [`renew`], is written with
//! it. What was written before needs its own key, which stays in the list. Nothing is written anew. Keys that nothing
//! needs any more are those of which every instance was removed.
//!
//! A master key wraps a data key for each instance with a random nonce; it is to be rotated before it has wrapped 2³²
//! (NIST SP 800-38D 8.3).
//!
//! [`renew`]: EncryptedArchive::renew

mod chunk;
pub(crate) mod file;
mod header;
mod keys;
mod providers;
mod read;
mod writer;
mod xts;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt, future};
use pacs_core::limits::READ_CHUNK_BYTES;
use pacs_core::{
    Archive, ArchiveCapability, ArchiveWriter, Entry, Error, ErrorKind, Locator, Result, Sequence, Stored,
    Uid,
};

use crate::buffers::Buffers;
use crate::pool::Pool;
pub(crate) use keys::random_number;
use keys::{Keys, Master};
use read::Kept;
use writer::GROUP_BYTES;

pub use file::FileKeys;
pub use keys::{KEY_ID_LENGTH_MAX_BYTES, KEY_LENGTH_BYTES, Key, KeyId, KeyProvider};
pub use providers::{KeyCommand, KeyFile, KeyList, KeyVariable};

/// Buffers for what is decrypted that are kept for use: 8 MiB.
const SPARE_BUFFERS: usize = 32;
/// The same for what is encrypted.
const SPARE_SEALED_BUFFERS: usize = 32;
/// Threads that ask for keys, which may block, and see to commits that nobody waits for.
const HELPERS: usize = 2;

/// How an [`EncryptedArchive`] meets what it finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EncryptOptions {
    /// Read also what was kept before there was this layer; otherwise it is `Refused`. A scan then looks at each
    /// instance, and who can write to the archive can put a plain one in the place of an encrypted one.
    pub plain_too: bool,
}

/// An archive that encrypts what another one keeps. See [the module](self).
///
/// Lengths, ranges and bytes are those of what was written; locators and sequences are those of the archive inside.
/// A key that is missing or wrong is `Refused`, and the error names it.
pub struct EncryptedArchive {
    shared: Arc<Shared>,
}

/// What the archive and its streams share.
struct Shared {
    inside: Arc<dyn Archive>,
    options: EncryptOptions,
    keys: Arc<Keys>,
    /// For what is decrypted.
    buffers: Arc<Buffers>,
    /// For what is encrypted.
    sealed_buffers: Arc<Buffers>,
    helpers: Arc<Pool>,
}

impl EncryptedArchive {
    /// Encrypts what `inside` keeps. Blocks: the current key is asked for, and the first instance that is kept is looked
    /// at, so that a key that is missing is told now.
    ///
    /// # Errors
    /// `Refused` when there is no current key, when the key of the first instance is missing or wrong, or when it is
    /// plain and [`plain_too`](EncryptOptions::plain_too) isn't set; what `inside` says.
    pub fn open(
        inside: Arc<dyn Archive>,
        provider: Arc<dyn KeyProvider>,
        options: EncryptOptions,
    ) -> Result<Self> {
        let helpers = Pool::new("archive-encrypt", HELPERS)
            .map_err(|error| Error::io("archive.open", "a thread can't start", error))?;
        let shared = Shared {
            inside,
            options,
            keys: Arc::new(Keys::new(provider)?),
            buffers: Buffers::new(READ_CHUNK_BYTES, SPARE_BUFFERS),
            sealed_buffers: Buffers::new(GROUP_BYTES, SPARE_SEALED_BUFFERS),
            helpers: Arc::new(helpers),
        };
        block_on(shared.check_first())?;
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Asks for the current key again: what is begun from now on is written with it. Blocks.
    ///
    /// # Errors
    /// As the provider says; the key stays what it was.
    pub fn renew(&self) -> Result<()> {
        self.shared.keys.renew()
    }

    /// A value that follows from the key of this name, as text: it tells another key of the same name. It is no secret.
    /// Blocks.
    ///
    /// # Errors
    /// `Refused` when the key is missing.
    pub fn key_check(&self, id: &KeyId) -> Result<String> {
        let master = self.shared.keys.ask(id)?;
        Ok(format!("{:016x}", u64::from_be_bytes(master.check)))
    }

    /// The name of the key that new instances are written with.
    pub fn current_key(&self) -> KeyId {
        self.shared.keys.current().id.clone()
    }
}

impl fmt::Debug for EncryptedArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptedArchive")
            .field("options", &self.shared.options)
            .field("current_key", &self.current_key())
            .finish_non_exhaustive()
    }
}

/// Instances that are looked at where the first ones are damaged.
const LOOKED_AT_MAX: usize = 16;

/// What an archive keeps, from its first instance on.
fn instances(inside: &dyn Archive) -> impl Stream<Item = Result<Stored>> + Send + Unpin + use<> {
    inside.scan(Sequence(0)).try_filter_map(|entry| {
        future::ready(Ok(match entry {
            Entry::Stored(_, stored) => Some(stored),
            Entry::Removed { .. } => None,
        }))
    })
}

/// The name of the key that the first instance of an archive is encrypted with; `None` where it is plain or not there.
///
/// # Errors
/// What `inside` says; `Unsupported` when it was encrypted by a later version.
pub(crate) async fn key_of_first(inside: &dyn Archive) -> Result<Option<KeyId>> {
    let mut first = instances(inside).take(LOOKED_AT_MAX);
    while let Some(stored) = first.try_next().await? {
        match read::kept(inside, &stored.locator).await {
            Ok(Kept::Encrypted(header)) => return Ok(Some(header.id)),
            Ok(Kept::Plain) => return Ok(None),
            // Damage is told when it is read; the next one may say more.
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

impl Shared {
    /// A master key, which may have to be asked for.
    async fn master(&self, id: &KeyId) -> Result<Arc<Master>> {
        if let Some(known) = self.keys.known(id) {
            return Ok(known);
        }
        let (keys, id) = (Arc::clone(&self.keys), id.clone());
        let asked = self.helpers.run(move || keys.ask(&id));
        asked
            .await
            .map_err(|_| Error::new(ErrorKind::Internal, "key.ask", "the provider of keys failed"))?
    }

    /// That the first instance can be read, as far as its key is concerned.
    async fn check_first(&self) -> Result<()> {
        let Some(stored) = instances(&*self.inside).try_next().await? else {
            return Ok(());
        };
        let checked = match read::kept(&*self.inside, &stored.locator).await {
            Ok(Kept::Encrypted(header)) => {
                let master = self.master(&header.id).await;
                master.and_then(|master| header.open(&master).map(drop))
            }
            Ok(Kept::Plain) if self.options.plain_too => Ok(()),
            Ok(Kept::Plain) => Err(read::plain()),
            Err(error) => Err(error),
        };
        // Damage is told when it is read.
        checked.or_else(|error| match error.kind() {
            ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::Unsupported => Ok(()),
            _ => Err(error),
        })
    }

    /// Whether it is kept as it came.
    async fn is_plain(&self, locator: &Locator) -> Result<bool> {
        Ok(self.options.plain_too && matches!(read::kept(&*self.inside, locator).await?, Kept::Plain))
    }

    /// What is found inside, as whoever wrote it knows it.
    async fn found(self: Arc<Self>, entry: Entry) -> Result<Entry> {
        let Entry::Stored(key, stored) = entry else {
            return Ok(entry);
        };
        let plain = match self.is_plain(&stored.locator).await {
            // Damage is told when it is read; what was removed meanwhile, by the archive inside.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::Unsupported
                ) =>
            {
                false
            }
            plain => plain?,
        };
        let length = match plain {
            true => stored.length,
            // Nothing is encrypted to that length: reading it tells that it is damaged.
            false => chunk::plain_length(stored.length).unwrap_or(stored.length),
        };
        Ok(Entry::Stored(key, Stored { length, ..stored }))
    }
}

#[deny(clippy::missing_trait_methods)]
impl Archive for EncryptedArchive {
    fn capability(&self) -> ArchiveCapability {
        self.shared.inside.capability()
    }

    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn ArchiveWriter>>> {
        async move {
            let inside = self.shared.inside.begin().await?;
            let (master, helpers) = (self.shared.keys.current(), Arc::clone(&self.shared.helpers));
            let buffers = Arc::clone(&self.shared.sealed_buffers);
            let writer = writer::Writer::new(inside, &master, buffers, helpers)?;
            Ok(Box::new(writer) as Box<dyn ArchiveWriter>)
        }
        .boxed()
    }

    fn read(&self, locator: &Locator, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        read::stream(Arc::clone(&self.shared), locator, range)
    }

    fn read_unchecked(&self, locator: &Locator, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        // What is encrypted can't be read without telling whether it is what was written.
        self.read(locator, range)
    }

    fn remove(&self, instance: &Uid, locator: &Locator) -> BoxFuture<'_, Result<Sequence>> {
        self.shared.inside.remove(instance, locator)
    }

    fn scan(&self, after: Sequence) -> BoxStream<'static, Result<Entry>> {
        let entries = self.shared.inside.scan(after);
        let shared = Arc::clone(&self.shared);
        entries
            .and_then(move |entry| Arc::clone(&shared).found(entry))
            .boxed()
    }

    fn verify(&self, locator: &Locator) -> BoxFuture<'_, Result<()>> {
        let (shared, locator) = (Arc::clone(&self.shared), locator.clone());
        async move {
            // Each copy, where the archive inside has several: what is read here may be of any.
            shared.inside.verify(&locator).await?;
            if shared.is_plain(&locator).await? {
                return Ok(());
            }
            // Every chunk says itself whether it is what was written.
            let pieces = read::stream(shared, &locator, 0..u64::MAX);
            pieces.try_for_each(|_| future::ready(Ok(()))).await
        }
        .boxed()
    }

    fn mend(&self, locator: &Locator) -> BoxFuture<'_, Result<bool>> {
        let mended = self.shared.inside.mend(locator);
        let verified = self.verify(locator);
        async move {
            let mended = mended.await?;
            // That it can be decrypted, only this layer tells.
            verified.await.map(|()| mended)
        }
        .boxed()
    }

    fn last_sequence(&self) -> Option<Sequence> {
        self.shared.inside.last_sequence()
    }

    fn indexed(&self, sequence: Sequence) -> BoxFuture<'_, Result<()>> {
        self.shared.inside.indexed(sequence)
    }
}
