//! How fast a sender delivers an instance, whatever it sends it by.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
#[cfg(feature = "web")]
use futures::{Stream, TryStreamExt as _};
use pacs_core::limits::{RECEIPT_RATE_MIN_BYTES_PER_SECOND, RECEIPT_RATE_WINDOW_SECONDS};
use pacs_core::{Error, ErrorKind, Pacs, Result, Source};
use tokio::time::Instant;

const WINDOW: Duration = Duration::from_secs(RECEIPT_RATE_WINDOW_SECONDS);
const WINDOW_MIN_BYTES: u64 = RECEIPT_RATE_MIN_BYTES_PER_SECOND * RECEIPT_RATE_WINDOW_SECONDS;

/// The time that we wait for a sender counts, what our archive takes doesn't.
#[derive(Default)]
pub(crate) struct Pace {
    waited: Duration,
    bytes: u64,
}

/// Who sends what can't be understood waits so long for the answer: broken by mistake, it is not sent again at once, and
/// whoever means it has little of our time.
pub(crate) const REFUSED_REST: Duration = Duration::from_millis(25);

impl Pace {
    /// The next piece of a data set of `source`, which `next` yields.
    ///
    /// # Errors
    /// `OutOfResources` when the sender is too slow while others wait for their turn; and what `next` says.
    pub(crate) async fn next(
        &mut self,
        next: impl Future<Output = Result<Option<Bytes>>>,
        (pacs, source): (&Pacs, &Source),
    ) -> Result<Option<Bytes>> {
        tokio::pin!(next);
        // Most pieces are here already: they cost no clock and no timer.
        if let Some(piece) = (&mut next).now_or_never() {
            return self.count(piece);
        }
        loop {
            let since = Instant::now();
            let left = WINDOW.saturating_sub(self.waited);
            let piece = tokio::time::timeout(left, &mut next).await;
            self.waited += since.elapsed();
            if let Ok(piece) = piece {
                return self.count(piece);
            }
            if self.bytes < WINDOW_MIN_BYTES && pacs.receipts_are_short(source) {
                let why = format!(
                    "below {RECEIPT_RATE_MIN_BYTES_PER_SECOND} bytes a second while others wait to send"
                );
                return Err(Error::new(ErrorKind::OutOfResources, "storage.store", why));
            }
            *self = Self::default();
        }
    }

    fn count(&mut self, piece: Result<Option<Bytes>>) -> Result<Option<Bytes>> {
        let piece = piece?;
        self.bytes += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Ok(piece)
    }
}

/// The same pieces, while they come fast enough.
#[cfg(feature = "web")]
pub(crate) fn paced<S>(pieces: S, pacs: Pacs, source: Source) -> impl Stream<Item = Result<Bytes>>
where
    S: Stream<Item = Result<Bytes>> + Unpin,
{
    let begin = (pieces, Pace::default(), (pacs, source));
    futures::stream::try_unfold(begin, |(mut pieces, mut pace, of)| async move {
        let piece = pace.next(pieces.try_next(), (&of.0, &of.1)).await?;
        Ok(piece.map(|piece| (piece, (pieces, pace, of))))
    })
}
