//! JSON (RFC 8259) as tokens, read where they stand: numbers keep the digits they came with, and nothing is
//! built that is not asked for.

use std::borrow::Cow;

use crate::dataset::described::invalid;
use crate::error::{Error, Result};

/// Objects and arrays in one another, in what is passed over.
const DEPTH_MAX: usize = 256;

pub(super) struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self> {
        let text =
            std::str::from_utf8(bytes).map_err(|error| invalid("JSON is not UTF-8").with_source(error))?;
        // Some writers put a byte order mark in front (RFC 8259 section 8.1 lets it be ignored).
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
        Ok(Self { text, at: 0 })
    }

    fn wrong(&self) -> Error {
        invalid(format!("not JSON as it must be, at byte {}", self.at))
    }

    /// The next byte that is not white space, which stays.
    pub(super) fn peek(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.at..];
        let blank = rest
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
        self.at += blank.count();
        self.text.as_bytes().get(self.at).copied()
    }

    /// Takes this byte.
    pub(super) fn expect(&mut self, byte: u8) -> Result<()> {
        if self.peek() != Some(byte) {
            return Err(self.wrong());
        }
        self.at += 1;
        Ok(())
    }

    /// Whether a member follows of what ends with `close`, which is taken, as is the comma between members.
    pub(super) fn has_next(&mut self, close: u8, is_first: &mut bool) -> Result<bool> {
        let first = std::mem::replace(is_first, false);
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            Some(b',') if !first => {
                self.at += 1;
                // None may follow a comma but a member.
                if self.peek() == Some(close) {
                    Err(self.wrong())
                } else {
                    Ok(true)
                }
            }
            Some(_) if first => Ok(true),
            _ => Err(self.wrong()),
        }
    }

    /// The name of a member, with the colon behind it.
    pub(super) fn key(&mut self) -> Result<Cow<'a, str>> {
        let key = self.string()?;
        self.expect(b':')?;
        Ok(key)
    }

    pub(super) fn string(&mut self) -> Result<Cow<'a, str>> {
        self.expect(b'"')?;
        let start = self.at;
        self.run();
        if self.text.as_bytes().get(self.at) == Some(&b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(&self.text[start..self.at - 1]));
        }
        let mut out = String::from(&self.text[start..self.at]);
        loop {
            match self.text.as_bytes().get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(out));
                }
                Some(b'\\') => {
                    self.at += 1;
                    out.push(self.escaped()?);
                    let start = self.at;
                    self.run();
                    out.push_str(&self.text[start..self.at]);
                }
                _ => return Err(self.wrong()),
            }
        }
    }

    /// Passes over what of a string stands for itself.
    fn run(&mut self) {
        let plain = |&&byte: &&u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
        self.at += self.text.as_bytes()[self.at..].iter().take_while(plain).count();
    }

    /// What stands behind a backslash.
    fn escaped(&mut self) -> Result<char> {
        let byte = self.text.as_bytes().get(self.at).copied();
        self.at += 1;
        Ok(match byte {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{C}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.unit()?;
                let rest = &self.text.as_bytes()[self.at..];
                if (0xD800..0xDC00).contains(&first) && rest.starts_with(b"\\u") {
                    let before = self.at;
                    self.at += 2;
                    let second = self.unit()?;
                    if let Some(Ok(char)) = char::decode_utf16([first, second]).next() {
                        return Ok(char);
                    }
                    self.at = before;
                }
                // Half of a pair is no character.
                char::from_u32(first.into()).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => {
                self.at -= 1;
                return Err(self.wrong());
            }
        })
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Result<u16> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let unit = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
        let unit = unit.ok_or_else(|| self.wrong())?;
        self.at += 4;
        Ok(unit)
    }

    /// The digits of a number as they stand there.
    pub(super) fn number(&mut self) -> Result<&'a str> {
        self.peek();
        let start = self.at;
        let bytes = self.text.as_bytes();
        let digits = |at: usize| {
            bytes[at..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count()
        };
        if bytes.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        let whole = digits(self.at);
        if whole == 0 || whole > 1 && bytes[self.at] == b'0' {
            return Err(self.wrong());
        }
        self.at += whole;
        if bytes.get(self.at) == Some(&b'.') {
            let fraction = digits(self.at + 1);
            if fraction == 0 {
                return Err(self.wrong());
            }
            self.at += 1 + fraction;
        }
        if matches!(bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            let power = digits(self.at);
            if power == 0 {
                return Err(self.wrong());
            }
            self.at += power;
        }
        Ok(&self.text[start..self.at])
    }

    /// Takes `null`.
    pub(super) fn null(&mut self) -> Result<()> {
        self.word("null")
    }

    fn word(&mut self, word: &str) -> Result<()> {
        self.peek();
        if !self.text[self.at..].starts_with(word) {
            return Err(self.wrong());
        }
        self.at += word.len();
        Ok(())
    }

    /// Passes over a value.
    pub(super) fn pass(&mut self) -> Result<()> {
        // What is open: how it ends, and whether nothing was in it yet.
        let mut open: Vec<(u8, bool)> = Vec::new();
        loop {
            let opened = match self.peek() {
                Some(b'{') => Some(b'}'),
                Some(b'[') => Some(b']'),
                _ => None,
            };
            match (opened, self.peek()) {
                (Some(close), _) => {
                    if open.len() >= DEPTH_MAX {
                        return Err(invalid("JSON is nested too deep"));
                    }
                    self.at += 1;
                    open.push((close, true));
                }
                (None, Some(b'"')) => {
                    self.string()?;
                }
                (None, Some(b't')) => self.word("true")?,
                (None, Some(b'f')) => self.word("false")?,
                (None, Some(b'n')) => self.null()?,
                _ => {
                    self.number()?;
                }
            }
            loop {
                let Some((close, is_first)) = open.last_mut() else {
                    return Ok(());
                };
                let close = *close;
                if self.has_next(close, is_first)? {
                    if close == b'}' {
                        self.key()?;
                    }
                    break;
                }
                open.pop();
            }
        }
    }

    /// Demands that nothing follows.
    pub(super) fn end(&mut self) -> Result<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.wrong()),
        }
    }

    pub(super) fn unexpected(&self) -> Error {
        self.wrong()
    }
}
