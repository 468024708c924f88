//! A client of HTTP/1.1 that asks on one connection that stays open, and drops what comes: it costs the same
//! whoever answers.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// Room for the parts of a body that are looked through.
const PIECE: usize = 256 * 1024;
/// A server that says nothing for so long has failed.
const SILENCE: Duration = Duration::from_secs(300);

/// A connection to a server on this machine; opened anew where the server closes it.
pub(crate) struct Client {
    port: u16,
    connection: Option<BufReader<TcpStream>>,
    piece: Vec<u8>,
}

/// What came.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Length of the body.
    pub(crate) bytes: u64,
    /// How often the body holds what was counted.
    pub(crate) count: usize,
}

impl Client {
    pub(crate) fn new(port: u16) -> Self {
        Self {
            port,
            connection: None,
            piece: vec![0; PIECE],
        }
    }

    /// GET, with a count of how often the body holds `counted`.
    pub(crate) fn get(&mut self, path: &str, accept: &str, counted: &[u8]) -> io::Result<Answer> {
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAccept: {accept}\r\n\r\n",
            self.port
        );
        let is_kept = self.connection.is_some();
        match self.ask(&head, &[], counted) {
            // A server may have closed a connection that it kept for a while (RFC 9112 9.3.1).
            Err(_) if is_kept => self.ask(&head, &[], counted),
            answer => answer,
        }
    }

    /// POST of a body in pieces.
    pub(crate) fn post(&mut self, path: &str, media_type: &str, body: &[&[u8]]) -> io::Result<Answer> {
        let length: usize = body.iter().map(|piece| piece.len()).sum();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAccept: application/dicom+json\r\n\
             Content-Type: {media_type}\r\nContent-Length: {length}\r\n\r\n",
            self.port
        );
        self.ask(&head, body, &[])
    }

    fn ask(&mut self, head: &str, body: &[&[u8]], counted: &[u8]) -> io::Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(SILENCE))?;
                BufReader::with_capacity(64 * 1024, stream)
            }
        };
        let out = connection.get_mut();
        out.write_all(head.as_bytes())?;
        for piece in body {
            out.write_all(piece)?;
        }
        let head = Head::read(&mut connection)?;
        let mut count = Count::new(counted);
        match head.body {
            Body::None => {}
            Body::ToTheEnd => loop {
                let read = connection.read(&mut self.piece)?;
                if read == 0 {
                    break;
                }
                count.look(&self.piece[..read]);
            },
            Body::Length(length) => self.discard(&mut connection, length, &mut count)?,
            Body::Chunked => loop {
                let size = line(&mut connection)?;
                let size = size.split(';').next().unwrap_or_default().trim();
                let size = u64::from_str_radix(size, 16).map_err(|_| broken("the size of a chunk"))?;
                if size == 0 {
                    while !line(&mut connection)?.is_empty() {}
                    break;
                }
                self.discard(&mut connection, size, &mut count)?;
                if !line(&mut connection)?.is_empty() {
                    return Err(broken("the end of a chunk"));
                }
            },
        }
        if !head.closes {
            self.connection = Some(connection);
        }
        Ok(Answer {
            status: head.status,
            bytes: count.bytes,
            count: count.found,
        })
    }

    fn discard(
        &mut self,
        connection: &mut BufReader<TcpStream>,
        length: u64,
        count: &mut Count<'_>,
    ) -> io::Result<()> {
        let mut left = length;
        while left > 0 {
            let most = usize::try_from(left).map_or(self.piece.len(), |left| left.min(self.piece.len()));
            let read = connection.read(&mut self.piece[..most])?;
            if read == 0 {
                return Err(broken("the end of a body"));
            }
            count.look(&self.piece[..read]);
            left -= read as u64;
        }
        Ok(())
    }
}

enum Body {
    None,
    /// Of the connection.
    ToTheEnd,
    Length(u64),
    Chunked,
}

struct Head {
    status: u16,
    body: Body,
    closes: bool,
}

impl Head {
    fn read(connection: &mut BufReader<TcpStream>) -> io::Result<Self> {
        let first = line(connection)?;
        let status: u16 = first
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .ok_or_else(|| broken("the status"))?;
        let mut head = Self {
            status,
            // Without a length or chunks, the connection's end is that of the body (RFC 9112 6.3).
            body: match status {
                100..=199 | 204 | 304 => Body::None,
                _ => Body::ToTheEnd,
            },
            closes: first.starts_with("HTTP/1.0"),
        };
        loop {
            let line = line(connection)?;
            if line.is_empty() {
                head.closes |= matches!(head.body, Body::ToTheEnd);
                return Ok(head);
            }
            let (name, value) = line.split_once(':').ok_or_else(|| broken("a header"))?;
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                head.body = Body::Length(value.parse().map_err(|_| broken("the length"))?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked")
            {
                head.body = Body::Chunked;
            } else if name.eq_ignore_ascii_case("connection") {
                head.closes |= value.eq_ignore_ascii_case("close");
            }
        }
    }
}

/// One line without its end.
fn line(connection: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    if connection.read_line(&mut line)? == 0 {
        return Err(broken("an answer"));
    }
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(line)
}

fn broken(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{what} is missing or not HTTP"),
    )
}

/// Counts how often something occurs in what passes by.
struct Count<'c> {
    counted: &'c [u8],
    /// The end of the piece before, one byte shorter than what is counted.
    before: Vec<u8>,
    found: usize,
    bytes: u64,
}

impl<'c> Count<'c> {
    fn new(counted: &'c [u8]) -> Self {
        Self {
            counted,
            before: Vec::new(),
            found: 0,
            bytes: 0,
        }
    }

    fn look(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        if self.counted.is_empty() {
            return;
        }
        let overlap = self.counted.len() - 1;
        self.before.extend_from_slice(&piece[..piece.len().min(overlap)]);
        let occurrences = |bytes: &[u8]| memchr::memmem::find_iter(bytes, self.counted).count();
        self.found += occurrences(&self.before) + occurrences(piece);
        // The end of all that came; what is longer than that is not copied.
        match piece.len().checked_sub(overlap) {
            Some(from) => {
                self.before.clear();
                self.before.extend_from_slice(&piece[from..]);
            }
            None => {
                let from = self.before.len().saturating_sub(overlap);
                self.before.drain(..from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// What a client makes of these answers, given on one connection.
    fn answers(given: &'static [&'static str], counted: &[u8]) -> Vec<io::Result<Answer>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut client = Client::new(listener.local_addr().unwrap().port());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut requests = BufReader::new(stream.try_clone().unwrap());
            for answer in given {
                while !line(&mut requests).unwrap().is_empty() {}
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let answers = given.iter().map(|_| client.get("/", "*/*", counted)).collect();
        server.join().unwrap();
        answers
    }

    #[test]
    fn bodies_of_either_kind_are_counted_through_on_one_connection() {
        let answers = answers(
            &[
                "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nabcab abc b",
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabca\r\n5;x=y\r\nbcabc\r\n0\r\n\r\n",
                "HTTP/1.1 204 No Content\r\n\r\n",
                "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc to the end",
            ],
            b"abc",
        );
        let answers: Vec<_> = answers
            .into_iter()
            .map(|answer| {
                answer
                    .map(|answer| (answer.status, answer.bytes, answer.count))
                    .unwrap()
            })
            .collect();
        assert_eq!(answers, [(200, 11, 2), (200, 9, 3), (204, 0, 0), (200, 14, 1)]);
    }

    #[test]
    fn a_body_that_breaks_off_is_an_error() {
        let answers = answers(&["HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nabc"], b"");
        assert!(answers[0].is_err());
    }
}
