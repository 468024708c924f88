//! [`DataSetStream`]: a data set that is pulled off the wire.

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use pacs_core::budget::Share;
use pacs_core::{Error, ErrorKind, Result, Retry};
use tokio::sync::oneshot;

use super::reader::MessageReader;

/// The data set of a message, pulled piece by piece straight from the association: as long as nobody
/// pulls, nothing more is read from the peer.
///
/// Until it is read to its end or dropped, no other message of the association is read. What is left of
/// a dropped one is discarded.
pub struct DataSetStream {
    gathered: Option<Bytes>,
    reader: Option<MessageReader>,
    home: Option<oneshot::Sender<MessageReader>>,
}

impl DataSetStream {
    /// Takes the reader along, and gives it back through the receiver when done.
    pub(super) fn new(reader: MessageReader) -> (Self, oneshot::Receiver<MessageReader>) {
        let (home, back) = oneshot::channel();
        let stream = Self {
            gathered: None,
            reader: Some(reader),
            home: Some(home),
        };
        (stream, back)
    }

    /// One that was read already.
    pub(super) fn gathered(data_set: Bytes) -> Self {
        Self {
            gathered: Some(data_set),
            reader: None,
            home: None,
        }
    }

    /// Whether nothing of it is still to come.
    pub(super) fn is_gathered(&self) -> bool {
        self.reader.is_none()
    }

    /// The next piece as it came off the wire, never empty; `None` at the end. Dropping the future
    /// loses nothing.
    ///
    /// # Errors
    /// When the association ended before the data set did. There is nothing more then.
    pub async fn next_piece(&mut self) -> Result<Option<Bytes>> {
        let Some(reader) = &mut self.reader else {
            return Ok(self.gathered.take().filter(|piece| !piece.is_empty()));
        };
        let piece = reader.data().await;
        if !matches!(piece, Ok(Some(_))) || reader.is_between_messages() {
            self.give_back();
        }
        piece
    }

    /// The pieces as a stream.
    pub fn into_stream(self) -> BoxStream<'static, Result<Bytes>> {
        futures::stream::try_unfold(self, |mut data_set| async move {
            Ok(data_set.next_piece().await?.map(|piece| (piece, data_set)))
        })
        .boxed()
    }

    /// The whole data set, if it is at most `length_max` bytes long.
    ///
    /// # Errors
    /// `OutOfResources` when it is longer; and as [`Self::next_piece`].
    pub async fn gather(mut self, length_max: usize) -> Result<Bytes> {
        gather(&mut self, length_max, None).await
    }

    fn give_back(&mut self) {
        if let (Some(reader), Some(home)) = (self.reader.take(), self.home.take()) {
            // Where nobody waits, the association is gone, and the reader goes too.
            let _ = home.send(reader);
        }
    }
}

impl Drop for DataSetStream {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl std::fmt::Debug for DataSetStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataSetStream").finish_non_exhaustive()
    }
}

/// Something that yields pieces.
pub(super) trait Pieces {
    fn piece(&mut self) -> impl Future<Output = Result<Option<Bytes>>> + Send;
}

impl Pieces for DataSetStream {
    async fn piece(&mut self) -> Result<Option<Bytes>> {
        self.next_piece().await
    }
}

impl Pieces for MessageReader {
    async fn piece(&mut self) -> Result<Option<Bytes>> {
        self.data().await
    }
}

/// What is gathered without a share of what all may take.
const SMALL_LENGTH_BYTES: usize = 64 * 1024;

/// All pieces joined; a single piece without a copy. What is longer than a small one grows within `room`.
///
/// # Errors
/// `OutOfResources` when it is longer than `length_max`, or when there is no room for it now; what `pieces` says.
pub(super) async fn gather(
    pieces: &mut impl Pieces,
    length_max: usize,
    mut room: Option<&mut Share>,
) -> Result<Bytes> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(piece) = pieces.piece().await? {
        let length = first.len() + rest.len();
        if length + piece.len() > length_max {
            return Err(Error::new(
                ErrorKind::OutOfResources,
                "data_set.gather",
                "a data set that is held in memory is too long",
            ));
        }
        let large = (length + piece.len()).saturating_sub(SMALL_LENGTH_BYTES.max(length));
        if large > 0
            && let Some(room) = &mut room
            && !room.grow(large)
        {
            let why = "data sets that are held in memory take all there is for them now";
            let error = Error::new(ErrorKind::OutOfResources, "data_set.gather", why);
            return Err(error.with_retry(Retry::Later));
        }
        if first.is_empty() && rest.is_empty() {
            first = piece;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&piece);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}
