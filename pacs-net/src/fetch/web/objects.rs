//! [`Objects`]: the members of a JSON array, each cut out as it comes in.

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use futures::stream::BoxStream;
use pacs_core::{Error, ErrorKind, Result};

/// One object of an answer to a search, in bytes. Real ones have a few KiB.
const OBJECT_LENGTH_MAX_BYTES: usize = 1024 * 1024;

/// Cuts an array of objects into them, whatever they hold: at most one of them and a piece of the body are held. An
/// array that ends before its bracket is an error, so that a part of an answer is never taken for all of it.
pub(super) struct Objects {
    body: BoxStream<'static, Result<Bytes>>,
    held: BytesMut,
    /// So much of what is held was looked at.
    at: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the array.
    Begin,
    /// Between objects.
    Between,
    /// In an object, within so many brackets.
    Within { depth: u32, text: Text },
    /// Behind the array.
    End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Text {
    Outside,
    Inside,
    /// Behind a backslash.
    Escaped,
}

fn refused(why: &'static str) -> Error {
    // It answered: it will answer so again.
    Error::new(ErrorKind::Refused, "fetch.search", why)
}

impl Objects {
    pub(super) fn new(body: BoxStream<'static, Result<Bytes>>) -> Self {
        Self {
            body,
            held: BytesMut::new(),
            at: 0,
            state: State::Begin,
        }
    }

    /// The next object as JSON; none behind the last, and where there is no body.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(object) = self.cut()? {
                return Ok(Some(object));
            }
            match self.body.try_next().await? {
                Some(piece) => self.held.extend_from_slice(&piece),
                None if self.state == State::End => return Ok(None),
                None if self.state == State::Begin && self.held.is_empty() => return Ok(None),
                None => {
                    let why = "the answer to a search ends before its end";
                    return Err(Error::new(ErrorKind::Io, "fetch.search", why));
                }
            }
        }
    }

    fn cut(&mut self) -> Result<Option<Bytes>> {
        while let Some(&byte) = self.held.get(self.at) {
            self.at += 1;
            self.state = match (self.state, byte) {
                (
                    State::Within {
                        depth: 1,
                        text: Text::Outside,
                    },
                    b'}',
                ) => {
                    self.state = State::Between;
                    let object = self.held.split_to(self.at).freeze();
                    self.at = 0;
                    return Ok(Some(object));
                }
                (State::Within { depth, text }, byte) => within(depth, text, byte)?,
                (_, b' ' | b'\t' | b'\r' | b'\n') => {
                    self.pass();
                    continue;
                }
                // A byte order mark.
                (State::Begin, 0xEF | 0xBB | 0xBF) => State::Begin,
                (State::Begin, b'[') | (State::Between, b',') => State::Between,
                (State::Between, b']') => State::End,
                (State::Between, b'{') => State::Within {
                    depth: 1,
                    text: Text::Outside,
                },
                _ => return Err(refused("the answer to a search is no JSON array of objects")),
            };
            match self.state {
                State::Within { .. } if self.at > OBJECT_LENGTH_MAX_BYTES => {
                    return Err(refused("an object in the answer to a search is too long"));
                }
                State::Within { .. } => {}
                _ => self.pass(),
            }
        }
        Ok(None)
    }

    /// What was looked at is not needed.
    fn pass(&mut self) {
        let _ = self.held.split_to(self.at);
        self.at = 0;
    }
}

fn within(depth: u32, text: Text, byte: u8) -> Result<State> {
    let (depth, text) = match (text, byte) {
        (Text::Inside, b'\\') => (depth, Text::Escaped),
        (Text::Inside, b'"') => (depth, Text::Outside),
        (Text::Inside | Text::Escaped, _) => (depth, Text::Inside),
        (Text::Outside, b'"') => (depth, Text::Inside),
        (Text::Outside, b'{' | b'[') => (depth + 1, text),
        (Text::Outside, b'}' | b']') => (depth.saturating_sub(1), text),
        (Text::Outside, _) => (depth, text),
    };
    match depth {
        // A bracket that closes no brace; what is between well-matched ones the reader of the object looks at.
        0 => Err(refused("the answer to a search is no JSON array of objects")),
        _ => Ok(State::Within { depth, text }),
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures::{StreamExt, stream};

    use super::*;

    /// The objects of a text that comes in pieces of this length.
    fn read(text: &str, piece: usize) -> Result<Vec<String>> {
        let pieces: Vec<_> = text
            .as_bytes()
            .chunks(piece)
            .map(Bytes::copy_from_slice)
            .collect();
        let mut objects = Objects::new(stream::iter(pieces).map(Ok).boxed());
        let mut all = Vec::new();
        while let Some(object) = block_on(objects.next())? {
            all.push(String::from_utf8(object.to_vec()).unwrap());
        }
        Ok(all)
    }

    #[test]
    fn each_object_comes_whole_whatever_the_pieces_of_the_body() {
        let first = r#"{"00100010":{"vr":"PN","Value":[{"Alphabetic":"a]}{\"\\"}]}}"#;
        let text = format!("\u{FEFF} [ {first} , {{}},{first}\n]\n ");
        for piece in 1..text.len() {
            let objects = read(&text, piece).unwrap();
            assert_eq!(objects, [first, "{}", first].map(str::to_owned), "{piece}");
        }
        assert!(read("[]", 1).unwrap().is_empty());
        assert!(read("", 1).unwrap().is_empty());
    }

    #[test]
    fn a_part_of_an_array_is_not_taken_for_all_of_it() {
        let text = r#"[{"a":"}"},{}]"#;
        for end in 1..text.len() {
            let error = read(&text[..end], 3).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io, "{end}");
        }
    }

    #[test]
    fn what_is_no_array_of_objects_or_has_one_without_an_end_is_refused() {
        let endless = format!("[{{\"a\":\"{}", "x".repeat(OBJECT_LENGTH_MAX_BYTES + 1));
        for text in ["<html>", "[1]", "{}", "[{]", "[{}]]", &endless] {
            let error = read(text, 1000).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        }
    }
}
