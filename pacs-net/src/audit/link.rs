//! [`Link`]: a way to a repository, for as long as it lasts.

use std::time::Duration;

use pacs_core::{Error, ErrorKind, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::repository::{Repository, Transport};
use super::syslog;
use crate::tls::{Connector, Stream};
use crate::util;

const OPERATION: &str = "audit.send";

pub(super) enum Link {
    Datagrams(UdpSocket),
    Stream(Box<Stream>),
}

impl Link {
    pub(super) async fn open(repository: &Repository, tls: &Connector, wait: Duration) -> Result<Self> {
        let place = (repository.host.as_str(), repository.port);
        let opened = async {
            if repository.transport == Transport::Udp {
                return Self::datagrams(place).await;
            }
            let stream = util::connect(place).await.map_err(io_failed)?;
            // A message is one write: the last piece of a long one would only wait.
            let _ = stream.set_nodelay(true);
            let stream = match repository.transport {
                Transport::Tls => tls.connect(&repository.host, stream).await?,
                _ => Stream::plain(stream),
            };
            Ok(Self::Stream(Box::new(stream)))
        };
        let late = || Error::new(ErrorKind::TimedOut, OPERATION, "no connection came about in time");
        timeout(wait, opened).await.unwrap_or_else(|_| Err(late()))
    }

    async fn datagrams(place: (&str, u16)) -> Result<Self> {
        let addresses = tokio::net::lookup_host(place).await.map_err(io_failed)?;
        let mut failed = Error::new(ErrorKind::NotFound, OPERATION, "the name has no address");
        for address in addresses {
            let here = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let opened = async {
                let socket = UdpSocket::bind(here).await?;
                // So that an answer that nobody listens reaches us.
                socket.connect(address).await?;
                std::io::Result::Ok(socket)
            };
            match opened.await {
                Ok(socket) => return Ok(Self::Datagrams(socket)),
                Err(error) => failed = io_failed(error),
            }
        }
        Err(failed)
    }

    /// Messages that are sent before it is waited whether they arrived: few datagrams, so that a receiver's buffer takes them.
    pub(super) fn messages_max(&self) -> usize {
        match self {
            Self::Datagrams(_) => 50,
            Self::Stream(_) => 1000,
        }
    }

    /// Sends a message.
    pub(super) async fn send(&mut self, message: &[u8], wait: Duration) -> Result<()> {
        let sent = async {
            match self {
                Self::Datagrams(socket) => socket.send(message).await.map(|_| ()),
                Self::Stream(stream) => {
                    stream.write_all(&syslog::counted(message)).await?;
                    stream.flush().await
                }
            }
        };
        let late = || Error::new(ErrorKind::TimedOut, OPERATION, "a message was not taken in time");
        timeout(wait, sent)
            .await
            .map_or_else(|_| Err(late()), |sent| sent.map_err(io_failed))
    }

    /// Until the other side is gone; why is what it answers.
    pub(super) async fn gone(&mut self) -> Error {
        let mut said = [0; 256];
        loop {
            let read = match self {
                Self::Datagrams(socket) => socket.recv(&mut said).await.map(|_| 1),
                Self::Stream(stream) => stream.read(&mut said).await,
            };
            match read {
                Ok(0) => return Error::new(ErrorKind::Closed, OPERATION, "the connection was closed"),
                // A receiver has nothing to say.
                Ok(_) => {}
                Err(error) => return io_failed(error),
            }
        }
    }

    /// Ends it in order. Nothing was sent for some time, and the other side was there. Answers whether it says that it has read
    /// all.
    pub(super) async fn close(mut self, wait: Duration) -> Result<bool> {
        let Self::Stream(stream) = &mut self else {
            return Ok(true);
        };
        let closed = async {
            stream.shutdown().await?;
            let mut said = [0; 256];
            while stream.read(&mut said).await? > 0 {}
            std::io::Result::Ok(())
        };
        match timeout(wait, closed).await {
            Ok(Ok(())) => Ok(true),
            // Some end TLS without the word that it is the end (RFC 8446 6.1). They closed all the same.
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(true),
            Ok(Err(error)) => Err(io_failed(error)),
            Err(_) => Ok(false),
        }
    }
}

fn io_failed(error: std::io::Error) -> Error {
    Error::io(OPERATION, "the connection failed", error)
}
