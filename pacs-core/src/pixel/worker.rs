//! A thread that decodes: it keeps the work off the caller's executor, and a panic in it becomes an
//! error.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;

use bytes::Bytes;
use futures::channel::oneshot;

use super::codec::{Codec, corrupt};
use super::image::Image;
use crate::error::{Error, ErrorKind, Result};

type Job = (Bytes, oneshot::Sender<Result<Bytes>>);

/// Decodes the frames of one instance. Its thread ends when it is dropped.
#[derive(Debug)]
pub(super) struct Worker {
    jobs: mpsc::Sender<Job>,
}

impl Worker {
    pub(super) fn start(codec: Codec, image: Image) -> Result<Self> {
        let (jobs, todo) = mpsc::channel::<Job>();
        thread::Builder::new()
            .name("pacs-decode".to_owned())
            .spawn(move || {
                for (frame, answer) in todo {
                    let decoded = catch_unwind(AssertUnwindSafe(|| codec.decode(&frame, &image)));
                    let decoded = decoded.unwrap_or_else(|_| Err(corrupt("the decoder failed on a frame")));
                    // Whoever asked may be gone.
                    let _ = answer.send(decoded.map(Bytes::from));
                }
            })
            .map_err(|error| Error::io("pixel_data.decode", "no thread to decode on", error))?;
        Ok(Self { jobs })
    }

    pub(super) async fn decode(&self, frame: Bytes) -> Result<Bytes> {
        let (answer, decoded) = oneshot::channel();
        let ended = || {
            Error::new(
                ErrorKind::Internal,
                "pixel_data.decode",
                "the decoding thread has ended",
            )
        };
        self.jobs.send((frame, answer)).map_err(|_| ended())?;
        decoded.await.map_err(|_| ended())?
    }
}
