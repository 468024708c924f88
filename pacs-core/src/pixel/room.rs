//! [`DecodingRoom`]: memory for what is decoded, and the threads that decode: they keep the work off the caller's
//! executor, and a panic in it becomes an error.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use bytes::Bytes;
use futures::channel::oneshot;

use crate::budget::{Budget, Share, Waiter};
use crate::error::{Error, ErrorKind, Result};

/// Memory for decoding, in bytes; clones are the same one. It is counted three times, so that who is slow to take
/// what was decoded keeps nobody from decoding:
/// - what is being decoded or drawn, with what that takes beside: each has it while a thread works on it;
/// - decoded frames that were handed out, until they are dropped;
/// - transcoded streams, each with a frame, compressed and decoded, until it is dropped.
#[derive(Clone, Debug)]
pub struct DecodingRoom {
    working: Budget,
    handed_out: Budget,
    streams: Budget,
}

impl DecodingRoom {
    /// So many bytes for each of the three. Who needs more than that alone has all of it.
    pub fn new(length: usize) -> Self {
        Self {
            working: Budget::new(length),
            handed_out: Budget::new(length),
            streams: Budget::new(length),
        }
    }

    /// Does some work that takes `length` bytes on a thread of its own, once there is room for it. `work` is told
    /// whether anybody still waits for it; a panic in it becomes an error.
    ///
    /// Whoever waits holds nothing, also where nobody polls it.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        length: usize,
        work: impl FnOnce(&dyn Fn() -> bool) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, done) = oneshot::channel();
        self.working.serve(length, Box::new(Job { answer, work }));
        done.await.unwrap_or_else(|_| {
            let what = "there is no thread to decode on";
            Err(Error::new(ErrorKind::OutOfResources, "pixel_data.decode", what))
        })
    }

    /// Counts bytes that are about to be handed out, until they are dropped. Who gets them may hold others: nobody
    /// waits here.
    ///
    /// # Errors
    /// `OutOfResources` when too many are held now.
    pub(crate) fn hand_out(&self, length: usize) -> Result<HandedOut> {
        let share = self.handed_out.try_take(length.min(self.handed_out.total()));
        share.map(HandedOut).ok_or_else(|| {
            let what = "too much that was decoded is held by those who asked for it";
            Error::new(ErrorKind::OutOfResources, "pixel_data.decode", what)
        })
    }

    /// Room for a stream, which waits for it.
    pub(super) async fn stream(&self, length: usize) -> Share {
        self.streams.take(length).await
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> [usize; 3] {
        [&self.working, &self.handed_out, &self.streams].map(Budget::free)
    }
}

/// Room for bytes that are handed out.
#[derive(Debug)]
pub(crate) struct HandedOut(Share);

impl HandedOut {
    /// `bytes`, which are counted until the last part of them is dropped.
    pub(crate) fn count(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Counted {
            bytes,
            _share: self.0,
        })
    }
}

struct Counted {
    bytes: Bytes,
    _share: Share,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

struct Job<T, F> {
    answer: oneshot::Sender<Result<T>>,
    work: F,
}

impl<T, F> Waiter for Job<T, F>
where
    T: Send + 'static,
    F: FnOnce(&dyn Fn() -> bool) -> Result<T> + Send + 'static,
{
    fn has_left(&self) -> bool {
        self.answer.is_canceled()
    }

    fn serve(self: Box<Self>, share: Share) {
        let Job { answer, work } = *self;
        // Where no thread can be started the answer is dropped, which tells who waits.
        let _ = thread::Builder::new()
            .name("pacs-decode".to_owned())
            .spawn(move || {
                let worked = catch_unwind(AssertUnwindSafe(|| work(&|| !answer.is_canceled())));
                drop(share);
                let failed = || {
                    let what = "the work on a frame failed";
                    Error::new(ErrorKind::Internal, "pixel_data.decode", what)
                };
                // Whoever asked may be gone.
                let _ = answer.send(worked.unwrap_or_else(|_| Err(failed())));
            });
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn a_panic_is_an_error_of_its_work_alone_and_all_room_comes_back() {
        let room = DecodingRoom::new(10);
        let panics = block_on(room.work(10, |_| -> Result<()> { panic!("as asked") }));
        assert_eq!(panics.unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!(block_on(room.work(100, |_| Ok(5))).unwrap(), 5);
        assert_eq!(room.free(), [10, 10, 10]);
    }

    #[test]
    fn who_waits_and_does_not_look_keeps_nobody_from_decoding() {
        let room = DecodingRoom::new(10);
        let mut unseen: Vec<_> = (0..20).map(|_| Box::pin(room.work(10, |_| Ok(())))).collect();
        for waits in &mut unseen {
            // It may be done already.
            let _ = waits.now_or_never();
        }
        assert_eq!(block_on(room.work(10, |_| Ok(5))).unwrap(), 5);
    }

    #[test]
    fn what_is_handed_out_counts_until_its_last_part_is_dropped_and_nobody_waits_for_it() {
        let room = DecodingRoom::new(10);
        let pixels = room.hand_out(7).unwrap().count(Bytes::from_static(b"1234567"));
        let part = pixels.slice(..2);
        drop(pixels);
        assert_eq!(room.hand_out(4).unwrap_err().kind(), ErrorKind::OutOfResources);
        assert_eq!(block_on(room.work(10, |_| Ok(5))).unwrap(), 5);
        drop(part);
        // More than there is, alone.
        assert!(room.hand_out(40).is_ok());
        assert_eq!(room.free(), [10, 10, 10]);
    }
}
