//! [`MultipartReader`]: a body becomes parts.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures::{Stream, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use memchr::memmem::Finder;
use memchr::{memchr, memrchr};
use pacs_core::{Error, ErrorKind, Result};

use super::super::media_type::MediaType;

/// The header fields of one part, in bytes. Real ones have 200.
pub const PART_HEADERS_LENGTH_MAX_BYTES: usize = 16 * 1024;

/// The most header fields of one part.
pub const PART_HEADERS_MAX: usize = 64;

/// What may stand before the first boundary and behind the last, in bytes. It is passed over.
pub const PREAMBLE_LENGTH_MAX_BYTES: usize = 64 * 1024;

/// The longest boundary (RFC 2046 5.1.1), in bytes.
const BOUNDARY_LENGTH_MAX_BYTES: usize = 70;

/// White space behind a boundary (RFC 2046 5.1.1, transport-padding), in bytes.
const PADDING_LENGTH_MAX_BYTES: usize = 256;

/// Reads the parts of a multipart body, one after the other, each as it comes in.
///
/// Parts have no limit in number and size. At most a piece of the body, a boundary and the header of one part
/// are held in memory; pieces are handed on as they came, cut but not copied. Content-Length of a part is not
/// believed: its end is where the boundary stands. Lines may end with LF alone. A body that ends before its final
/// boundary is an error, so that half an instance is never taken for a whole one.
pub struct MultipartReader<S> {
    body: S,
    /// What was read and not handed on.
    held: Bytes,
    body_ended: bool,
    /// `LF--boundary`, with or without CR before it.
    delimiter: Vec<u8>,
    finder: Finder<'static>,
    state: State,
    passed_over: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first boundary.
    Preamble,
    /// Behind a boundary line.
    Headers,
    /// Behind the empty line: a part without a body may go on with a boundary at once.
    BodyBegin,
    Body,
    /// Behind the final boundary.
    Epilogue,
    /// Broken, or at the end of all.
    Ended,
}

/// What stands behind a delimiter.
enum Behind {
    /// The line ends: a part follows behind that many bytes.
    Part(usize),
    /// It was the final one.
    End,
    /// It is not to be told yet.
    Open,
    /// It was none, but data.
    Data,
}

fn invalid(why: &'static str) -> Error {
    Error::new(ErrorKind::Invalid, "multipart.read", why)
}

impl<S: Stream<Item = Result<Bytes>> + Unpin> MultipartReader<S> {
    /// Reads `body`, which is of this media type.
    ///
    /// # Errors
    /// `Invalid` when the media type has no sound `boundary` parameter.
    pub fn new(media_type: &MediaType, body: S) -> Result<Self> {
        let boundary = media_type
            .boundary()
            .ok_or(invalid("a multipart type without a boundary"))?;
        Self::with_boundary(boundary, body)
    }

    /// Reads `body`, whose boundary is known.
    ///
    /// # Errors
    /// `Invalid` when it can't be a boundary.
    pub fn with_boundary(boundary: &str, body: S) -> Result<Self> {
        let is_sound = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        if boundary.is_empty() || boundary.len() > BOUNDARY_LENGTH_MAX_BYTES || !is_sound(boundary) {
            return Err(invalid("a boundary of 1 to 70 printable characters is needed"));
        }
        let delimiter = format!("\n--{boundary}").into_bytes();
        Ok(Self {
            body,
            // The first boundary may stand at the very beginning: as if a line ended before it.
            held: Bytes::from_static(b"\r\n"),
            body_ended: false,
            finder: Finder::new(&delimiter).into_owned(),
            delimiter,
            state: State::Preamble,
            passed_over: 0,
        })
    }

    /// The next part; `None` behind the last. What is left of the part before is passed over.
    ///
    /// # Errors
    /// `Invalid` when the body is no multipart body, ends before its final boundary, or is beyond the limits of
    /// this module; and the errors of the body itself. After an error there is nothing more.
    pub async fn next_part(&mut self) -> Result<Option<PartReader<'_, S>>> {
        while self.state == State::Body || self.state == State::BodyBegin {
            self.next_piece().await?;
        }
        while self.state == State::Preamble || self.state == State::Epilogue {
            let before = self.state;
            match self.next_piece().await? {
                Some(piece) => {
                    self.passed_over += piece.len();
                    if self.passed_over > PREAMBLE_LENGTH_MAX_BYTES {
                        self.state = State::Ended;
                        return Err(invalid("too much outside of the parts of a multipart body"));
                    }
                }
                None if before == State::Epilogue => self.state = State::Ended,
                None => {}
            }
        }
        if self.state == State::Ended {
            return Ok(None);
        }
        match self.headers().await {
            Ok(headers) => {
                self.state = State::BodyBegin;
                Ok(Some(PartReader {
                    reader: self,
                    headers,
                }))
            }
            Err(error) => {
                self.state = State::Ended;
                Err(error)
            }
        }
    }

    async fn next_piece(&mut self) -> Result<Option<Bytes>> {
        std::future::poll_fn(|context| self.poll_piece(context))
            .await
            .transpose()
    }

    /// The next bytes of a part, or of what is passed over; none at its end, where `state` says what follows.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        loop {
            match self.cut() {
                Ok(Cut::Piece(piece)) => return Poll::Ready(Some(Ok(piece))),
                Ok(Cut::End) => return Poll::Ready(None),
                Ok(Cut::More) => {
                    if let Err(error) = ready!(self.poll_more(context)) {
                        self.state = State::Ended;
                        return Poll::Ready(Some(Err(error)));
                    }
                }
                Err(error) => {
                    self.state = State::Ended;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    /// Reads another piece of the body.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let Some(piece) = ready!(self.body.poll_next_unpin(context)).transpose()? else {
            self.body_ended = true;
            return Poll::Ready(Ok(()));
        };
        if self.held.is_empty() {
            self.held = piece;
            return Poll::Ready(Ok(()));
        }
        // What is held is short: the beginning of a boundary, or of a line. Where nobody else holds it, it grows.
        let mut longer = std::mem::take(&mut self.held)
            .try_into_mut()
            .unwrap_or_else(|held| {
                let mut longer = BytesMut::with_capacity(held.len() + piece.len());
                longer.extend_from_slice(&held);
                longer
            });
        longer.extend_from_slice(&piece);
        self.held = longer.freeze();
        Poll::Ready(Ok(()))
    }

    fn cut(&mut self) -> Result<Cut> {
        match self.state {
            State::Ended | State::Headers => Ok(Cut::End),
            State::Epilogue if !self.held.is_empty() => Ok(Cut::Piece(std::mem::take(&mut self.held))),
            State::Epilogue => Ok(if self.body_ended { Cut::End } else { Cut::More }),
            State::BodyBegin => self.cut_begin(),
            State::Preamble | State::Body => self.cut_body(),
        }
    }

    /// A part without a body whose empty line is the one before the boundary too.
    fn cut_begin(&mut self) -> Result<Cut> {
        let boundary = &self.delimiter[1..];
        let length = boundary.len().min(self.held.len());
        if self.held[..length] != boundary[..length] {
            self.state = State::Body;
            return self.cut_body();
        }
        let behind = match length < boundary.len() {
            true if self.body_ended => Behind::Data,
            true => Behind::Open,
            false => self.behind(length),
        };
        match behind {
            Behind::Open => Ok(Cut::More),
            Behind::Data => {
                self.state = State::Body;
                self.cut_body()
            }
            Behind::Part(_) | Behind::End => Ok(self.pass_boundary(length, behind)),
        }
    }

    fn cut_body(&mut self) -> Result<Cut> {
        let mut from = 0;
        while let Some(found) = self.finder.find(&self.held[from..]) {
            let line_feed = from + found;
            let end = self.line_end(line_feed);
            match self.behind(line_feed + self.delimiter.len()) {
                Behind::Data => from = line_feed + 1,
                Behind::Open if end == 0 => return Ok(Cut::More),
                // First what is before, so that little is held.
                Behind::Open => return Ok(Cut::Piece(self.held.split_to(end))),
                _ if end > 0 => return Ok(Cut::Piece(self.held.split_to(end))),
                behind => {
                    let length = line_feed + self.delimiter.len();
                    return Ok(self.pass_boundary(length, behind));
                }
            }
        }
        if self.body_ended {
            return Err(invalid("a multipart body that ends before its final boundary"));
        }
        match self.maybe_boundary() {
            0 => Ok(Cut::More),
            end => Ok(Cut::Piece(self.held.split_to(end))),
        }
    }

    /// Goes on behind the delimiter in the first `length` bytes.
    fn pass_boundary(&mut self, length: usize, behind: Behind) -> Cut {
        match behind {
            Behind::Part(line) => {
                self.held.advance(length + line);
                self.state = State::Headers;
            }
            _ => {
                self.held.advance(length + 2);
                self.state = State::Epilogue;
                self.passed_over = 0;
            }
        }
        Cut::End
    }

    /// Where the line that ends with this LF ends, without CR.
    fn line_end(&self, line_feed: usize) -> usize {
        match line_feed.checked_sub(1) {
            Some(before) if self.held[before] == b'\r' => before,
            _ => line_feed,
        }
    }

    /// From where on what is held may be the beginning of a delimiter; all of it, where it can't.
    fn maybe_boundary(&self) -> usize {
        let held = &self.held;
        // A delimiter has one LF, at its beginning.
        let window = held.len().saturating_sub(self.delimiter.len() - 1);
        if let Some(found) = memrchr(b'\n', &held[window..])
            && self.delimiter.starts_with(&held[window + found..])
        {
            return self.line_end(window + found);
        }
        held.len() - usize::from(held.last() == Some(&b'\r'))
    }

    /// What stands at `at`, behind a delimiter.
    fn behind(&self, at: usize) -> Behind {
        let rest = &self.held[at..];
        if rest.starts_with(b"--") {
            return Behind::End;
        }
        let padding = rest.iter().take(PADDING_LENGTH_MAX_BYTES + 1);
        let padding = padding.take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        match &rest[padding..] {
            _ if padding > PADDING_LENGTH_MAX_BYTES => Behind::Data,
            [b'\n', ..] => Behind::Part(padding + 1),
            [b'\r', b'\n', ..] => Behind::Part(padding + 2),
            [] | [b'\r'] if !self.body_ended => Behind::Open,
            [b'-'] if padding == 0 && !self.body_ended => Behind::Open,
            _ => Behind::Data,
        }
    }

    /// The header fields of a part, up to and with the empty line.
    async fn headers(&mut self) -> Result<HeaderMap> {
        let mut lines = Lines::default();
        loop {
            match memchr(b'\n', &self.held) {
                Some(line_feed) => {
                    let end = self.line_end(line_feed);
                    let line = self.held.split_to(end);
                    self.held.advance(line_feed + 1 - end);
                    if line.is_empty() {
                        return lines.finish();
                    }
                    lines.push(&line)?;
                }
                None if self.body_ended => {
                    return Err(invalid("a multipart body that ends in the header of a part"));
                }
                None if lines.length + self.held.len() > PART_HEADERS_LENGTH_MAX_BYTES => {
                    return Err(invalid(TOO_LONG));
                }
                None => std::future::poll_fn(|context| self.poll_more(context)).await?,
            }
        }
    }
}

enum Cut {
    Piece(Bytes),
    End,
    More,
}

const TOO_LONG: &str = "the header of a part is too long";

/// The lines of a header, gathered to fields.
#[derive(Default)]
struct Lines {
    headers: HeaderMap,
    /// The field under way, which a folded line may go on with (RFC 5322 2.2.3).
    field: Vec<u8>,
    fields: usize,
    length: usize,
}

impl Lines {
    fn push(&mut self, line: &[u8]) -> Result<()> {
        self.length += line.len() + 2;
        if self.length > PART_HEADERS_LENGTH_MAX_BYTES {
            return Err(invalid(TOO_LONG));
        }
        if !matches!(line[0], b' ' | b'\t') {
            self.end_field()?;
        } else if self.field.is_empty() {
            return Err(invalid("a part whose header begins with white space"));
        }
        self.field.extend_from_slice(line);
        Ok(())
    }

    fn end_field(&mut self) -> Result<()> {
        if self.field.is_empty() {
            return Ok(());
        }
        let field = std::mem::take(&mut self.field);
        self.fields += 1;
        if self.fields > PART_HEADERS_MAX {
            return Err(invalid("a part with too many header fields"));
        }
        let colon = memchr(b':', &field).ok_or(invalid("a header field of a part without a colon"))?;
        let (name, value) = (field[..colon].trim_ascii_end(), field[colon + 1..].trim_ascii());
        let name = HeaderName::from_bytes(name);
        let value = HeaderValue::from_bytes(value);
        match (name, value) {
            (Ok(name), Ok(value)) => {
                self.headers.append(name, value);
                Ok(())
            }
            _ => Err(invalid(
                "a header field of a part with characters that don't belong there",
            )),
        }
    }

    fn finish(mut self) -> Result<HeaderMap> {
        self.end_field()?;
        Ok(self.headers)
    }
}

/// One part that is being read: a stream of its bytes, pulled off the body as it is polled.
pub struct PartReader<'a, S> {
    reader: &'a mut MultipartReader<S>,
    headers: HeaderMap,
}

impl<S> PartReader<'_, S> {
    /// Its header fields.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// What its Content-Type says; none where it has none that can be read.
    pub fn media_type(&self) -> Option<MediaType> {
        self.text(&header::CONTENT_TYPE)?.parse().ok()
    }

    /// Its Content-Location, by which bulk data is referred to (PS3.18 8.6.1.2).
    pub fn location(&self) -> Option<&str> {
        self.text(&header::CONTENT_LOCATION)
    }

    /// Its Content-ID without the angle brackets (RFC 2045 7).
    pub fn id(&self) -> Option<&str> {
        let id = self.text(&HeaderName::from_static("content-id"))?;
        Some(id.trim_start_matches('<').trim_end_matches('>'))
    }

    fn text(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl<S: Stream<Item = Result<Bytes>> + Unpin> Stream for PartReader<'_, S> {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.reader.state {
            State::Body | State::BodyBegin => self.reader.poll_piece(context),
            _ => Poll::Ready(None),
        }
    }
}

impl<S> std::fmt::Debug for MultipartReader<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("MultipartReader");
        debug.field("state", &self.state).finish_non_exhaustive()
    }
}

impl<S> std::fmt::Debug for PartReader<'_, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartReader").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
