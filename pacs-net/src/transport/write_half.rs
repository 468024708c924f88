//! [`WriteHalf`]: the writing side of a TCP connection, whose peer can't end the process.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncWrite, Interest};
use tokio::net::tcp::OwnedWriteHalf;

/// "No SIGPIPE when the peer is gone": of `send`, Linux.
#[cfg(target_os = "linux")]
const MSG_NOSIGNAL: i32 = 0x4000;
#[cfg(not(target_os = "linux"))]
const MSG_NOSIGNAL: i32 = 0;

/// Writes to a peer that has gone are errors, also in a process that doesn't ignore SIGPIPE: a Rust program does, a
/// program in C that holds this library need not. Single writes of tokio never raise it; those of several pieces do.
#[derive(Debug)]
pub(crate) struct WriteHalf(pub(crate) OwnedWriteHalf);

impl AsyncWrite for WriteHalf {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = self.0.as_ref();
        loop {
            ready!(stream.poll_write_ready(context))?;
            let send = || SockRef::from(stream).send_vectored_with_flags(pieces, MSG_NOSIGNAL);
            match stream.try_io(Interest::WRITABLE, send) {
                // It was not ready after all, and is waited for anew.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
