//! A thread that decodes: it keeps the work off the caller's executor, and a panic in it becomes an
//! error.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread;

use bytes::Bytes;
use futures::channel::oneshot;

use super::codec::corrupt;
use crate::budget::Share;
use crate::error::{Error, ErrorKind, Result};

type Job = (Bytes, oneshot::Sender<Result<Bytes>>);

/// Decodes the frames of one instance. Its thread ends when it is dropped.
#[derive(Debug)]
pub(super) struct Worker {
    jobs: mpsc::Sender<Job>,
}

impl Worker {
    /// `share` is what the decoding counts for: the thread may outlive this, and holds it to its end.
    pub(super) fn start(
        share: Arc<Share>,
        decode: impl Fn(&[u8]) -> Result<Vec<u8>> + Send + 'static,
    ) -> Result<Self> {
        let (jobs, todo) = mpsc::channel::<Job>();
        thread::Builder::new()
            .name("pacs-decode".to_owned())
            .spawn(move || {
                let _share = share;
                for (frame, answer) in todo {
                    let decoded = catch_unwind(AssertUnwindSafe(|| decode(&frame)));
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

/// Does some work on a thread of its own, which holds `share` to its end; a panic in it becomes an error.
#[cfg(feature = "render")]
pub(crate) async fn contained<T: Send + 'static>(
    share: Share,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (answer, done) = oneshot::channel();
    let failed = |what: &'static str| Error::new(ErrorKind::Internal, "picture.render", what);
    thread::Builder::new()
        .name("pacs-render".to_owned())
        .spawn(move || {
            let _share = share;
            let worked = catch_unwind(AssertUnwindSafe(work));
            // Whoever asked may be gone.
            let _ = answer.send(worked.unwrap_or_else(|_| Err(failed("a picture could not be made"))));
        })
        .map_err(|error| Error::io("picture.render", "no thread to draw on", error))?;
    done.await.map_err(|_| failed("the drawing thread has ended"))?
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;
    use crate::budget::Budget;

    #[test]
    fn a_panic_of_the_decoder_is_an_error_of_its_frame_alone() {
        let share = Arc::new(block_on(Budget::new(1).take(1)));
        let worker = Worker::start(share, |frame| match frame {
            b"" => panic!("as asked"),
            frame => Ok(frame.to_vec()),
        })
        .unwrap();
        assert_eq!(
            block_on(worker.decode(Bytes::new())).unwrap_err().kind(),
            ErrorKind::Invalid
        );
        assert_eq!(block_on(worker.decode(Bytes::from_static(b"1"))).unwrap(), "1");
    }
}
