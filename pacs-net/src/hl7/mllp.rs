//! The Minimal Lower Layer Protocol (HL7 v2 implementation guide, appendix C): a message between 0x0B and 0x1C 0x0D.

use bytes::{Buf, Bytes, BytesMut};
use pacs_core::budget::{Budget, Share};
use pacs_core::{Error, ErrorKind, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const BEGIN: u8 = 0x0B;
const END: u8 = 0x1C;

/// What the buffer has room for at least when the peer is read.
const PIECE_LENGTH_BYTES: usize = 16 * 1024;

/// Bytes that may stand before a message. Some write line ends there; who writes more speaks no MLLP.
const BETWEEN_LENGTH_MAX_BYTES: usize = 1024;

/// How much of a message that is too long is kept, so that its sender can be answered.
const HEAD_LENGTH_BYTES: usize = 8 * 1024;

/// A message up to here is held as it comes. Where it becomes longer it needs a share of what large ones may take.
const SMALL_LENGTH_MAX_BYTES: usize = 256 * 1024;

/// How often a message is in memory while it is dealt with: as it came, as text, and as what is made of it.
const COPIES: usize = 4;

/// What a reader comes to.
pub(super) enum Frame {
    /// A message.
    Message(Bytes),
    /// The beginning of one that is longer than is allowed. Nothing more can be read.
    TooLong(Bytes),
    /// The peer closed, between messages.
    End,
}

/// Reads messages. What it holds never grows beyond the longest that is allowed, and only as bytes come.
///
/// It is tolerant: the CR behind the end may be missing, and line ends may stand between messages.
pub(super) struct Reader<R> {
    stream: R,
    buffer: BytesMut,
    length_max: usize,
    /// Bytes of the message in the buffer that were searched for its end.
    searched: usize,
    /// What large messages of all readers may take together, and what this one has of it.
    room: Option<Budget>,
    share: Option<Share>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(super) fn new(stream: R, length_max: usize) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            length_max,
            searched: 0,
            room: None,
            share: None,
        }
    }

    /// The same; large messages wait for their share of what all may take together, and have it until the next one is
    /// waited for.
    pub(super) fn within(room: Budget, stream: R, length_max: usize) -> Self {
        Self {
            room: Some(room),
            ..Self::new(stream, length_max)
        }
    }

    /// Waits for the beginning of a message; answers whether there is one. It may be dropped and called again.
    ///
    /// # Errors
    /// `Invalid` when the peer speaks something else, `Io` when the connection breaks.
    pub(super) async fn begins(&mut self) -> Result<bool> {
        self.share = None;
        loop {
            if let Some(at) = self.buffer.iter().position(|byte| *byte == BEGIN) {
                self.buffer.advance(at);
                return Ok(true);
            }
            if self.buffer.len() > BETWEEN_LENGTH_MAX_BYTES {
                let why = "what the peer sends is no MLLP: no 0x0B begins a message";
                return Err(Error::new(ErrorKind::Invalid, "mllp.read", why));
            }
            if self.read().await? == 0 {
                return Ok(false);
            }
        }
    }

    /// Reads the message that [begins](Self::begins).
    ///
    /// # Errors
    /// `Closed` when the peer goes in the middle of it; as `begins`.
    pub(super) async fn next(&mut self) -> Result<Frame> {
        if !self.begins().await? {
            return Ok(Frame::End);
        }
        // Behind the 0x0B that is there now.
        self.searched = self.searched.max(1);
        loop {
            let behind = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = behind.iter().position(|byte| *byte == END) {
                let end = self.searched + at;
                let mut frame = self.buffer.split_to(end + 1);
                self.searched = 0;
                // The CR behind it is one of the bytes that stand before the next message: who leaves it out waits for
                // the answer, and must not wait for us.
                frame.truncate(end);
                frame.advance(1);
                if frame.len() > self.length_max {
                    frame.truncate(HEAD_LENGTH_BYTES);
                    return Ok(Frame::TooLong(frame.freeze()));
                }
                return Ok(Frame::Message(frame.freeze()));
            }
            self.searched = self.buffer.len();
            if self.searched > self.length_max {
                self.buffer.advance(1);
                self.buffer.truncate(HEAD_LENGTH_BYTES);
                return Ok(Frame::TooLong(self.buffer.split().freeze()));
            }
            if self.searched > SMALL_LENGTH_MAX_BYTES
                && self.share.is_none()
                && let Some(room) = &self.room
            {
                self.share = Some(room.take(COPIES * self.length_max).await);
            }
            if self.read().await? == 0 {
                let why = "the peer closed the connection in the middle of a message";
                return Err(Error::new(ErrorKind::Closed, "mllp.read", why));
            }
        }
    }

    /// The stream, to be written to.
    pub(super) fn stream(&mut self) -> &mut R {
        &mut self.stream
    }

    /// Whether something has come that nobody asked for, or the peer has closed.
    pub(super) fn is_disturbed(&mut self) -> bool {
        use futures::FutureExt as _;
        self.buffer.contains(&BEGIN) || self.read().now_or_never().is_some()
    }

    async fn read(&mut self) -> Result<usize> {
        // Nothing is held for a peer that says nothing.
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        self.buffer.reserve(PIECE_LENGTH_BYTES);
        self.stream
            .read_buf(&mut self.buffer)
            .await
            .map_err(|error| Error::io("mllp.read", "the connection broke", error))
    }
}

/// Writes one message.
///
/// # Errors
/// `Io` when the connection breaks.
pub(super) async fn write(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> Result<()> {
    let mut frame = Vec::with_capacity(message.len() + 3);
    frame.push(BEGIN);
    frame.extend_from_slice(message);
    frame.extend_from_slice(&[END, b'\r']);
    let written = async {
        stream.write_all(&frame).await?;
        stream.flush().await
    };
    written
        .await
        .map_err(|error| Error::io("mllp.write", "the connection broke", error))
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    /// Each message that the bytes hold, and how it ended.
    fn read(bytes: &[u8], length_max: usize) -> (Vec<Vec<u8>>, Option<ErrorKind>) {
        let mut reader = Reader::new(bytes, length_max);
        let mut messages = Vec::new();
        loop {
            match block_on(reader.next()) {
                Ok(Frame::Message(message)) => messages.push(message.to_vec()),
                Ok(Frame::TooLong(head)) => {
                    messages.push(head.to_vec());
                    return (messages, Some(ErrorKind::OutOfResources));
                }
                Ok(Frame::End) => return (messages, None),
                Err(error) => return (messages, Some(error.kind())),
            }
        }
    }

    #[test]
    fn messages_are_read_between_their_marks_however_they_are_written() {
        let plain = |bytes: &[u8]| read(bytes, 100);
        assert_eq!(plain(b""), (vec![], None));
        assert_eq!(plain(b"\x0Bone\x1C\r"), (vec![b"one".to_vec()], None));
        let two = vec![b"one".to_vec(), b"two".to_vec()];
        assert_eq!(plain(b"\x0Bone\x1C\r\x0Btwo\x1C\r"), (two.clone(), None));
        assert_eq!(plain(b"\r\n\x0Bone\x1C\r\n\r\n\x0Btwo\x1C"), (two.clone(), None));
        assert_eq!(plain(b"\x0Bone\x1C\x0Btwo\x1C\r"), (two, None));
        assert_eq!(plain(b"\x0B\x1C\r"), (vec![vec![]], None));
        assert_eq!(plain(b"\x0Bone"), (vec![], Some(ErrorKind::Closed)));
        assert_eq!(plain(&[b'x'; 2000]), (vec![], Some(ErrorKind::Invalid)));
    }

    #[test]
    fn of_a_message_that_is_too_long_the_beginning_is_had() {
        let long = [b"\x0BMSH|", &[b'x'; 200][..], b"\x1C\r"].concat();
        for bytes in [&long[..], &long[..150]] {
            let (heads, ended) = read(bytes, 100);
            assert_eq!(ended, Some(ErrorKind::OutOfResources));
            assert!(heads[0].starts_with(b"MSH|xxx"));
        }
        assert_eq!(read(&long, 204).0[0].len(), 204);
    }

    #[test]
    fn what_is_written_is_read() {
        let mut stream = Vec::new();
        block_on(write(&mut stream, b"one")).unwrap();
        block_on(write(&mut stream, b"two")).unwrap();
        assert_eq!(read(&stream, 100).0, [b"one", b"two"]);
    }
}
