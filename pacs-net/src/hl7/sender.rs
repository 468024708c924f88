//! [`Sender`]: sends HL7 messages over MLLP, each until it is acknowledged.

use std::time::Duration;

use pacs_core::{Error, ErrorKind, Result, Retry};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};

use super::ack::AckCode;
use super::message::{MESSAGE_LENGTH_MAX_BYTES, Message};
use super::mllp::{self, Frame, Reader};
use super::path::Path;
use crate::tls::{self, Connector, Stream};
use crate::util;

/// How a [`Sender`] behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderOptions {
    /// How long a connection may take to come about.
    pub connect: Duration,
    /// How long a message may take to go, and its answer to come.
    pub answer: Duration,
}

impl Default for SenderOptions {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(30),
        }
    }
}

/// Sends messages to one receiver over one connection, which is kept between them. Messages go one after the other,
/// in the order of the calls.
#[derive(Debug)]
pub struct Sender {
    host: String,
    port: u16,
    options: SenderOptions,
    tls: Option<Connector>,
    connection: Mutex<Option<Connection>>,
}

struct Connection(Reader<Stream>);

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

/// Answers to other messages that are read over while one is waited for.
const OTHERS_MAX: usize = 16;

impl Sender {
    /// To this host and port. Nothing is connected yet.
    pub fn new(host: impl Into<String>, port: u16, options: SenderOptions) -> Self {
        Self {
            host: host.into(),
            port,
            options,
            tls: None,
            connection: Mutex::new(None),
        }
    }

    /// Called over TLS, where there is a connector.
    #[must_use]
    pub fn with_tls(mut self, connector: Option<Connector>) -> Self {
        self.tls = connector;
        self
    }

    /// Who gets what is sent.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Sends a message and waits for its acknowledgement, which names its MSH-10 in MSA-2. Answers the acknowledgement
    /// when that is AA (or CA).
    ///
    /// # Errors
    /// - `Refused`, to be tried never, when the receiver answers AE or AR, with what it says of it (what stands in the message's PID
    ///   is taken out of that).
    /// - `Io`, `TimedOut` or `Closed`, to be tried later, when the receiver can't be reached, doesn't answer or breaks off. Whether it
    ///   has the message is not known then: by MSH-10 it can tell that it gets it again.
    /// - `Invalid` when the message has no MSH-10, or can't be said in its character set.
    pub async fn send(&self, message: &Message) -> Result<Message> {
        let bytes = message.to_bytes()?;
        let Some(id) = message.get("MSH-10") else {
            return Err(Error::new(
                ErrorKind::Invalid,
                "hl7.send",
                "the message has no MSH-10",
            ));
        };
        let mut kept = self.connection.lock().await;
        // Where the peer has closed meanwhile, nothing sent over it would arrive.
        let usable = kept
            .take()
            .and_then(|mut connection| (!connection.0.is_disturbed()).then_some(connection));
        let mut connection = match usable {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let exchanged = timeout_at(
            Instant::now() + self.options.answer,
            connection.exchange(&bytes, &id),
        );
        let answer = match exchanged.await {
            Ok(answer) => answer.map_err(|error| match tls::is_refusal(&error) {
                true => self.not_secured(error),
                false => error.with_retry(Retry::Later),
            })?,
            Err(_) => {
                let why = "the receiver did not acknowledge the message in time";
                return Err(Error::new(ErrorKind::TimedOut, "hl7.send", why));
            }
        };
        *kept = Some(connection);
        let code = answer.get("MSA-1").unwrap_or_default();
        match AckCode::parse(&code) {
            Some(AckCode::Accept) => Ok(answer),
            Some(code_of) => {
                let why = format!("the receiver answered {code}{}", said(&answer, message));
                let error = Error::new(ErrorKind::Refused, "hl7.send", why);
                Err(
                    match code_of == AckCode::Reject && !is_about_the_message(&answer) {
                        true => error.with_retry(Retry::Later),
                        false => error,
                    },
                )
            }
            None => {
                let why = "the receiver acknowledged with no code that HL7 has";
                Err(Error::new(ErrorKind::Mismatch, "hl7.send", why))
            }
        }
    }

    /// Closes the connection, where there is one; the next message opens another.
    pub async fn close(&self) {
        *self.connection.lock().await = None;
    }

    async fn connect(&self) -> Result<Connection> {
        let failed = || format!("no connection to {}:{}", self.host, self.port);
        let opened = async {
            let stream = util::connect((self.host.as_str(), self.port)).await;
            // Whatever the reason, a host that isn't there may be back.
            let stream =
                stream.map_err(|error| Error::new(ErrorKind::Io, CONNECT, failed()).with_source(error))?;
            // A message is one write: only the last piece of a long one would wait.
            let _ = stream.set_nodelay(true);
            match &self.tls {
                None => Ok(Stream::plain(stream)),
                Some(connector) => {
                    let secured = connector.connect(&self.host, stream).await;
                    secured.map_err(|error| self.not_secured(error))
                }
            }
        };
        match timeout(self.options.connect, opened).await {
            Ok(stream) => Ok(Connection(Reader::new(stream?, MESSAGE_LENGTH_MAX_BYTES))),
            Err(_) => Err(Error::new(ErrorKind::TimedOut, CONNECT, failed())),
        }
    }
}

impl Sender {
    fn not_secured(&self, error: Error) -> Error {
        let why = format!(
            "no connection to {}:{}: {}",
            self.host,
            self.port,
            error.context()
        );
        Error::new(error.kind(), CONNECT, why)
            .with_source(error)
            .with_retry(Retry::Later)
    }
}

const CONNECT: &str = "hl7.connect";

impl Connection {
    async fn exchange(&mut self, message: &[u8], id: &str) -> Result<Message> {
        mllp::write(self.0.stream(), message).await?;
        for _ in 0..OTHERS_MAX {
            let answer = match self.0.next().await? {
                Frame::Message(bytes) => Message::parse(&bytes)?,
                Frame::TooLong(_) => return Err(strange("the receiver's answer is too long")),
                Frame::End => {
                    let why = "the receiver closed the connection before it acknowledged the message";
                    return Err(Error::new(ErrorKind::Closed, "hl7.send", why));
                }
            };
            if answer.get("MSA-2").as_deref() == Some(id) {
                return Ok(answer);
            }
        }
        Err(strange("the receiver acknowledges other messages than were sent"))
    }
}

fn strange(why: &'static str) -> Error {
    Error::new(ErrorKind::Mismatch, "hl7.send", why)
}

/// Whether a rejection (AR) is because of what the message is, by its conditions. With none, or with a locked record or an
/// internal error (HL7 table 0357, 206 and 207), the same message may be taken later (HL7 2.9.2.2).
fn is_about_the_message(answer: &Message) -> bool {
    let conditions = ["ERR-3.1", "ERR-1.4.1", "MSA-6.1"].map(|path| answer.get(path).unwrap_or_default());
    let is_for_now = |condition: &String| matches!(condition.trim(), "" | "206" | "207");
    !conditions.iter().all(is_for_now)
}

/// What a receiver says of its refusal: the condition, and its text without what identifies the patient.
fn said(answer: &Message, message: &Message) -> String {
    let get = |path| answer.get(path).unwrap_or_default();
    let mut said = String::new();
    let condition = [get("ERR-3.1"), get("ERR-3.2"), get("ERR-1.4")].join(" ");
    let texts = [condition, get("MSA-3"), get("ERR-8"), get("ERR-7")];
    let mut told: Vec<&str> = Vec::new();
    for text in texts
        .iter()
        .map(|text| text.trim())
        .filter(|text| !text.is_empty())
    {
        if !told.contains(&text) {
            said.push_str(if told.is_empty() { ": " } else { "; " });
            said.push_str(text);
            told.push(text);
        }
    }
    util::without(&said, identifying(message))
}

/// The values of the fields of PID that identify somebody.
fn identifying(message: &Message) -> Vec<String> {
    let mut values = Vec::new();
    for field in [2, 3, 4, 5, 6, 7, 9, 11, 13, 14, 18, 19] {
        let Ok(path) = Path::parse(&format!("PID-{field}")) else {
            continue;
        };
        for repetition in message.repetitions(&path) {
            let component = message.delimiters().component;
            for number in 1..=repetition.split(component).count().min(16) {
                values.push(message.component(repetition, u16::try_from(number).unwrap_or(u16::MAX)));
            }
        }
    }
    values
}
