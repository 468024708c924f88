//! The objects of an archive in their store: names, requests, and what their failures mean.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, GetResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode,
    PutPayload, UpdateVersion,
};
use pacs_core::error::Retry;
use pacs_core::{Error, ErrorKind, Result};

use super::pack::{Pack, StreamName, TRAILER_LENGTH};

/// What of a pack is read first to know its directory: most are shorter.
const DIRECTORY_READ_BYTES: u64 = 64 * 1024;

const PACKS: &str = "packs";
const STREAMS: &str = "streams";
const STATE: &str = "state";
const STATE_LENGTH_MAX: u64 = 4096;
/// How often a directory is read that is another one each time.
const DIRECTORY_READS_MAX: usize = 8;

/// A store of objects, and where in it the archive is.
#[derive(Clone)]
pub(super) struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.store, self.prefix)
    }
}

/// What became of a conditional write.
pub(super) enum Created {
    Now,
    /// Something has that name.
    Before,
}

/// The store did not do what was asked for.
pub(super) fn failed(operation: &'static str, error: object_store::Error) -> Error {
    use object_store::Error as E;
    match error {
        E::NotFound { .. } => not_found().with_source(error),
        E::NotImplemented { .. } | E::NotSupported { .. } => {
            let why = "the object store does not offer what an archive needs, such as conditional writes";
            Error::new(ErrorKind::Unsupported, operation, why).with_source(error)
        }
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => {
            let why = "the object store does not let this program do what it must";
            Error::new(ErrorKind::Io, operation, why)
                .with_retry(Retry::Never)
                .with_source(error)
        }
        _ => Error::new(ErrorKind::Io, operation, "the object store failed").with_source(error),
    }
}

pub(super) fn not_found() -> Error {
    let why = "nothing is kept at this locator";
    Error::new(ErrorKind::NotFound, "archive.read", why)
}

pub(super) fn corrupt(why: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, "archive.read", why)
}

/// `00000/000/001`: so that a listing of one level is never long, and the order of names is that of numbers.
fn parts(number: u64) -> [String; 3] {
    [
        format!("{:05x}", number >> 24),
        format!("{:03x}", number >> 12 & 0xFFF),
        format!("{:03x}", number & 0xFFF),
    ]
}

/// A number as [`parts`] writes it.
fn number(name: &str, digits: usize) -> Option<u64> {
    let is_one = name.len() == digits
        && name
            .bytes()
            .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    is_one.then(|| u64::from_str_radix(name, 16).ok()).flatten()
}

impl Bucket {
    pub(super) fn new(store: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        Self { store, prefix }
    }

    fn root(&self, kind: &'static str) -> Path {
        self.prefix.clone().join(kind)
    }

    pub(super) fn pack(&self, number: u64) -> Path {
        parts(number)
            .into_iter()
            .fold(self.root(PACKS), |path, part| path.join(part))
    }

    pub(super) fn stream(&self, name: StreamName) -> Path {
        let [top, middle, last] = parts(name.begun);
        let last = format!("{last}-{:032x}", name.random);
        self.root(STREAMS).join(top).join(middle).join(last)
    }

    /// Writes an object unless something has that name.
    pub(super) async fn create(
        &self,
        path: &Path,
        payload: PutPayload,
    ) -> Result<Created, object_store::Error> {
        match self.store.put_opts(path, payload, PutMode::Create.into()).await {
            Ok(_) => Ok(Created::Now),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Created::Before),
            Err(error) => Err(error),
        }
    }

    async fn overwrite(&self, path: &Path, payload: PutPayload) -> Result<()> {
        let put = self.store.put(path, payload).await;
        put.map(drop).map_err(|error| failed("archive.write", error))
    }

    /// Writes an object again that is still this one.
    pub(super) async fn replace(&self, path: &Path, was: &ObjectMeta, payload: PutPayload) -> Result<()> {
        let version = UpdateVersion {
            e_tag: was.e_tag.clone(),
            version: was.version.clone(),
        };
        let mode = PutMode::Update(version);
        match self.store.put_opts(path, payload.clone(), mode.into()).await {
            // A directory has no such thing, and is locked.
            Err(object_store::Error::NotImplemented { .. }) => self.overwrite(path, payload).await,
            put => put.map(drop).map_err(|error| failed("archive.write", error)),
        }
    }

    /// The error where an object isn't there, which says nothing of it if the whole archive isn't.
    async fn gone(&self, error: Error) -> Error {
        if error.kind() != ErrorKind::NotFound {
            return error;
        }
        match self.store.head(&self.root(STATE)).await {
            Ok(_) => error,
            Err(_) => {
                let why = "the archive is not where it was in the object store";
                Error::new(ErrorKind::Io, "archive.read", why).with_source(error)
            }
        }
    }

    /// Removes an object; one that isn't there is no failure.
    pub(super) async fn delete(&self, path: &Path) -> Result<()> {
        match self.store.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("archive.remove", error)),
        }
    }

    pub(super) async fn upload(&self, path: &Path) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.store.put_multipart(path).await;
        upload.map_err(|error| failed("archive.write", error))
    }

    /// A part of an object, which is not empty.
    ///
    /// # Errors
    /// `NotFound` when there is no such object, `Corrupt` when it is shorter.
    pub(super) async fn get(&self, path: &Path, range: Range<u64>) -> Result<GetResult> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(range.clone())),
            ..GetOptions::default()
        };
        match self.store.get_opts(path, options).await {
            Ok(got) if got.range == range => Ok(got),
            Ok(_) => Err(corrupt("the object is shorter than it was")),
            // Stores don't say by their errors that the object ends before the range begins.
            Err(error) => match self.store.head(path).await {
                Ok(meta) if meta.size < range.end => Err(corrupt("the object is shorter than it was")),
                Ok(_) => Err(failed("archive.read", error)),
                Err(error) => Err(self.gone(failed("archive.read", error)).await),
            },
        }
    }

    /// A whole object of at most `length_max` bytes, and what tells it from one of that name that is written later.
    pub(super) async fn get_all(&self, path: &Path, length_max: u64) -> Result<(Bytes, ObjectMeta)> {
        let got = self.store.get(path).await;
        let got = got.map_err(|error| failed("archive.read", error))?;
        if got.meta.size > length_max {
            return Err(corrupt("an object is longer than it can be"));
        }
        let meta = got.meta.clone();
        let bytes = got.bytes().await;
        Ok((bytes.map_err(|error| failed("archive.read", error))?, meta))
    }

    /// The directory of a pack whose object has this `length`, where that is known, and its length.
    ///
    /// # Errors
    /// `NotFound` when there is none, `Corrupt` when it is damaged.
    pub(super) async fn directory(&self, number: u64, length: Option<u64>) -> Result<(Pack, u64)> {
        let path = self.pack(number);
        let mut length = match length {
            Some(length) => length,
            None => self.length(&path).await?,
        };
        let damaged = || corrupt("the directory of a pack is damaged");
        let mut wanted = DIRECTORY_READ_BYTES;
        for _ in 0..DIRECTORY_READS_MAX {
            if length < TRAILER_LENGTH as u64 {
                return Err(damaged());
            }
            let got = match self.get(&path, length.saturating_sub(wanted)..length).await {
                Ok(got) if got.meta.size == length => got,
                // Written again meanwhile: each time it is shorter.
                Ok(_) => {
                    length = self.length(&path).await?;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    let now = self.length(&path).await?;
                    if now >= length {
                        return Err(error);
                    }
                    length = now;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let end = got.bytes().await;
            let end = end.map_err(|error| failed("archive.read", error))?;
            let directory = Pack::directory_length(&end).ok_or_else(damaged)?;
            let needed = directory + TRAILER_LENGTH as u64;
            if needed > length {
                return Err(damaged());
            }
            if needed <= end.len() as u64 {
                return Ok((Pack::decode(&end).ok_or_else(damaged)?, length));
            }
            wanted = needed;
        }
        let why = "the object store says now this and now that of a pack";
        Err(Error::new(ErrorKind::Io, "archive.read", why))
    }

    async fn length(&self, path: &Path) -> Result<u64> {
        match self.store.head(path).await {
            Ok(meta) => Ok(meta.size),
            Err(error) => Err(self.gone(failed("archive.read", error)).await),
        }
    }

    pub(super) async fn read_state(&self) -> Result<Option<Bytes>> {
        match self.get_all(&self.root(STATE), STATE_LENGTH_MAX).await {
            Ok((state, _)) => Ok(Some(state)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn create_state(&self, state: String) -> Result<Created> {
        let created = self.create(&self.root(STATE), state.into()).await;
        created.map_err(|error| match error {
            object_store::Error::NotFound { .. } => {
                let why = "the object store has no such bucket";
                Error::new(ErrorKind::Invalid, "archive.open", why).with_source(error)
            }
            error => failed("archive.open", error),
        })
    }

    pub(super) async fn write_state(&self, state: String) -> Result<()> {
        self.overwrite(&self.root(STATE), state.into()).await
    }

    /// Packs from this number on, in order.
    pub(super) fn packs(&self, from: u64) -> Walk {
        Walk::new(self, PACKS, from)
    }

    /// Objects of single instances that were begun from this number on.
    pub(super) async fn streams(&self, from: u64) -> Result<Vec<StreamName>> {
        let mut walk = Walk::new(self, STREAMS, from);
        let mut found = Vec::new();
        while let Some(object) = walk.next().await? {
            let random = object.rest.strip_prefix('-');
            if let Some(random) = random.and_then(|hex| u128::from_str_radix(hex, 16).ok()) {
                found.push(StreamName {
                    begun: object.number,
                    random,
                });
            }
        }
        Ok(found)
    }
}

/// An object whose name begins with a number.
pub(super) struct Numbered {
    pub(super) number: u64,
    /// What its name has behind that.
    rest: String,
    pub(super) length: u64,
}

/// Goes through numbered objects level by level, so that what comes before the first one is not listed.
pub(super) struct Walk {
    store: Arc<dyn ObjectStore>,
    root: Path,
    from: u64,
    /// Names have something behind their number.
    has_rest: bool,
    /// Directories that are still to be listed, the next one last; none before the first is.
    tops: Option<Vec<u64>>,
    middles: Vec<u64>,
    found: Vec<Numbered>,
}

impl Walk {
    fn new(bucket: &Bucket, kind: &'static str, from: u64) -> Self {
        Self {
            store: Arc::clone(&bucket.store),
            root: bucket.root(kind),
            from,
            has_rest: kind == STREAMS,
            tops: None,
            middles: Vec::new(),
            found: Vec::new(),
        }
    }

    /// The next one, in order of numbers.
    pub(super) async fn next(&mut self) -> Result<Option<Numbered>> {
        loop {
            if let Some(next) = self.found.pop() {
                return Ok(Some(next));
            }
            if let Some(middle) = self.middles.pop() {
                self.found = self.leaf(middle).await?;
                continue;
            }
            match &mut self.tops {
                None => {
                    let root = self.root.clone();
                    self.tops = Some(self.below(&root, 0, self.from >> 24).await?);
                }
                Some(tops) => {
                    let Some(top) = tops.pop() else { return Ok(None) };
                    let root = self.root.clone().join(format!("{top:05x}"));
                    self.middles = self.below(&root, top << 12, self.from >> 12).await?;
                }
            }
        }
    }

    /// The numbers of directories right below one, the least last, without those before `from`.
    async fn below(&self, root: &Path, above: u64, from: u64) -> Result<Vec<u64>> {
        let listed = self.store.list_with_delimiter(Some(root)).await;
        let listed = listed.map_err(|error| failed("archive.scan", error))?;
        let names = listed.common_prefixes.iter().filter_map(Path::filename);
        let digits = if above == 0 && *root == self.root { 5 } else { 3 };
        let numbers = names.filter_map(|name| number(name, digits));
        let mut numbers: Vec<u64> = numbers
            .map(|number| above | number)
            .filter(|number| *number >= from)
            .collect();
        numbers.sort_unstable_by(|one, other| other.cmp(one));
        Ok(numbers)
    }

    async fn leaf(&self, middle: u64) -> Result<Vec<Numbered>> {
        let directory = self
            .root
            .clone()
            .join(format!("{:05x}", middle >> 12))
            .join(format!("{:03x}", middle & 0xFFF));
        let numbered = |object: object_store::ObjectMeta| {
            let (number, rest) = object.location.filename()?.split_at_checked(3)?;
            let number = middle << 12 | self::number(number, 3)?;
            let is_one = self.has_rest != rest.is_empty();
            (number >= self.from && is_one).then(|| Numbered {
                number,
                rest: rest.to_owned(),
                length: object.size,
            })
        };
        let listed = self.store.list(Some(&directory));
        let listed = listed.try_filter_map(|object| std::future::ready(Ok(numbered(object))));
        let mut found: Vec<Numbered> = listed
            .try_collect()
            .await
            .map_err(|error| failed("archive.scan", error))?;
        found.sort_unstable_by(|one, other| (other.number, &other.rest).cmp(&(one.number, &one.rest)));
        Ok(found)
    }
}
