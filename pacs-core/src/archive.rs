//! The archive keeps bytes: [`Archive`], [`ArchiveWriter`], [`Locator`].
//!
//! What is kept is a Part 10 stream per instance (PS3.10 section 7). The archive does not look into
//! it; it is told the [`InstanceKey`] at commit, so that a scan can name what it finds.
//!
//! To write an archive of your own, implement the two traits and run `archive_conformance!` on it (feature
//! `testkit`); `examples/own-backend` shows one in a single file.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use dicom_core::chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use futures::stream::BoxStream;

use crate::error::Result;
use crate::uid::{InstanceKey, Uid};

/// Where an archive keeps one instance: opaque to everybody else, at most
/// [`limits::LOCATOR_LENGTH_MAX_BYTES`](crate::limits::LOCATOR_LENGTH_MAX_BYTES) long.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locator(Arc<[u8]>);

impl Locator {
    /// Wraps the archive's own encoding of a place.
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The archive's own encoding.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Locator(")?;
        for byte in self.0.iter() {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

/// The order of what an archive took in: greater means later. 0 is before everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

/// Milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Now, by the system's clock.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// The value of a DT (PS3.5 6.2), in UTC. Nothing is later than the end of the year 9999, the last that a DT can say.
    pub fn date_time(self) -> String {
        self.utc().format("%Y%m%d%H%M%S%.6f+0000").to_string()
    }

    /// The same moment as RFC 3339 writes it, and with it `xsd:dateTime`: `2026-01-02T03:04:05.678Z`.
    pub fn rfc3339(self) -> String {
        self.utc().format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
    }

    fn utc(self) -> DateTime<Utc> {
        const LAST: u64 = 253_402_300_799_999;
        DateTime::from(UNIX_EPOCH + Duration::from_millis(self.0.min(LAST)))
    }
}

/// An instance that the archive keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Where.
    pub locator: Locator,
    /// Length of the whole Part 10 stream in bytes.
    pub length: u64,
    /// Its place in the order of commits and removals.
    pub sequence: Sequence,
    /// When it was committed.
    pub received: Timestamp,
}

/// What a scan finds, in the order it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// An instance was committed and has not been removed since.
    Stored(InstanceKey, Stored),
    /// What was kept at `locator` was removed.
    Removed {
        /// SOP Instance UID of what was removed.
        instance: Uid,
        /// Where it was.
        locator: Locator,
        /// Its place in the order of commits and removals.
        sequence: Sequence,
    },
}

impl Entry {
    /// Its place in the order of commits and removals.
    pub fn sequence(&self) -> Sequence {
        match self {
            Entry::Stored(_, stored) => stored.sequence,
            Entry::Removed { sequence, .. } => *sequence,
        }
    }
}

/// What an archive says of itself; the conformance suite takes from it what to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveCapability {
    /// A committed instance survives the death of the process and of the machine.
    pub durable: bool,
    /// [`Archive::scan`] can begin after a sequence. Where it can't, it always yields everything, in
    /// any order, and never [`Entry::Removed`].
    pub ordered_scan: bool,
}

/// Keeps the bytes of instances.
///
/// Every method may be called from any thread, and many at once. A future or stream that is dropped
/// leaves the archive whole.
pub trait Archive: Send + Sync + 'static {
    /// What this archive can do.
    fn capability(&self) -> ArchiveCapability;

    /// Begins an instance.
    ///
    /// - Nothing of it is seen by [`read`](Self::read) or [`scan`](Self::scan) before its commit.
    ///
    /// # Errors
    /// `OutOfResources` when there is no room.
    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn ArchiveWriter>>>;

    /// Reads a range of the Part 10 stream at `locator`, in pieces of bounded size.
    ///
    /// - The pieces, joined, are exactly `range` of the bytes that were written; a range that reaches
    ///   past the end yields what there is.
    /// - An empty range yields nothing.
    /// - Bytes that are not what was written are never yielded as if they were, where the archive can
    ///   tell: the stream ends with `Corrupt`.
    /// - Dropping the stream stops reading.
    ///
    /// # Errors
    /// `NotFound` when nothing is kept there, as the stream's first item.
    fn read(&self, locator: &Locator, range: Range<u64>) -> BoxStream<'static, Result<Bytes>>;

    /// The same for who tells himself whether the bytes are what was written, such as a layer that decrypts them: they need
    /// not be compared with anything here.
    ///
    /// - Where nothing is damaged, it yields what [`read`](Self::read) does.
    fn read_unchecked(&self, locator: &Locator, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        self.read(locator, range)
    }

    /// Removes what is kept at `locator`.
    ///
    /// - When it returns, the removal is as durable as a commit.
    /// - Reading it afterwards is `NotFound`.
    /// - Removing what isn't there succeeds.
    fn remove(&self, instance: &Uid, locator: &Locator) -> BoxFuture<'_, Result<Sequence>>;

    /// Yields what was committed and removed after `after`, in ascending order of sequence.
    ///
    /// - `Sequence(0)` yields every instance that is kept.
    /// - Removals that an index durably knows ([`indexed`](Self::indexed)) may be left out.
    /// - Two commits of one instance, neither removed, are both yielded.
    /// - What a writer has not committed is never yielded.
    fn scan(&self, after: Sequence) -> BoxStream<'static, Result<Entry>>;

    /// Reads what is kept at `locator` and compares it with the checksum made when it was written.
    ///
    /// # Errors
    /// `Corrupt` when it differs, `NotFound` when nothing is kept there.
    fn verify(&self, locator: &Locator) -> BoxFuture<'_, Result<()>>;

    /// Has every copy of what is kept at `locator` whole again, where the archive has another one that is; answers whether one
    /// was not. By itself an archive has no other copy, and what [`verify`](Self::verify) says is the answer.
    ///
    /// - What is kept there stays what it is: its bytes, its place and its sequence.
    /// - Where all is whole, it changes nothing.
    ///
    /// # Errors
    /// As [`verify`](Self::verify), where no copy is whole.
    fn mend(&self, locator: &Locator) -> BoxFuture<'_, Result<bool>> {
        let verified = self.verify(locator);
        Box::pin(async move { verified.await.map(|()| false) })
    }

    /// The last place in its order that was given to a commit or a removal; `None` where it can't tell.
    ///
    /// - It is not before that of any commit or removal that has returned, also after a reopening.
    ///
    /// Where an index is told up to a later place, the archive is not the one that told it, or has lost something.
    fn last_sequence(&self) -> Option<Sequence> {
        None
    }

    /// Hints that an index durably knows everything up to `sequence`, so that a later
    /// [`scan`](Self::scan) after it can be made cheap.
    fn indexed(&self, sequence: Sequence) -> BoxFuture<'_, Result<()>>;
}

/// Takes the bytes of one instance. Dropped without commit, the instance is aborted.
pub trait ArchiveWriter: Send {
    /// Appends `chunk`.
    ///
    /// - Waits while the archive has too much unwritten: this is the backpressure that a sender feels.
    /// - After an error the writer only accepts abort.
    fn write(&mut self, chunk: Bytes) -> BoxFuture<'_, Result<()>>;

    /// Makes the instance durable and visible.
    ///
    /// - When it returns `Ok`, [`Archive::read`] yields the written bytes, also after the process or
    ///   the machine dies at any later instant (where the capability says `durable`).
    /// - When it returns an error, the instance is not kept.
    /// - Commits that wait at the same time share one flush of the medium.
    /// - The commit goes on when the future is dropped after its first poll; whether the instance is
    ///   kept is then known by a scan.
    fn commit(self: Box<Self>, key: InstanceKey) -> BoxFuture<'static, Result<Stored>>;

    /// Gives up: nothing of the instance is kept.
    fn abort(self: Box<Self>) -> BoxFuture<'static, Result<()>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_time_is_that_of_the_calendar() {
        let cases = [
            (0, "19700101000000.000000+0000"),
            (951_782_399_999, "20000228235959.999000+0000"),
            (951_782_400_000, "20000229000000.000000+0000"),
            (951_868_800_000, "20000301000000.000000+0000"),
            (1_735_689_599_001, "20241231235959.001000+0000"),
            (4_107_542_400_000, "21000301000000.000000+0000"),
        ];
        for (milliseconds, expected) in cases {
            assert_eq!(Timestamp(milliseconds).date_time(), expected);
        }
        assert!(Timestamp(u64::MAX).date_time().starts_with("9999"));
    }
}
