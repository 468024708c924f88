//! The records of one group.

use bytes::Bytes;
use futures::channel::oneshot;
use pacs_core::{Result, Sequence, Stored, Timestamp};

use super::lane::{Lane, PADDING};
use super::record::Place;

/// A record of the group that is being committed.
pub(super) struct Record {
    pub(super) place: Place,
    pub(super) sequence: Sequence,
    /// Where the next one begins.
    pub(super) end: u64,
}

/// A record, and who waits for it.
pub(super) struct Pending {
    pub(super) record: Record,
    pub(super) reply: Reply,
}

impl Record {
    pub(super) fn of_stream(
        self,
        reply: oneshot::Sender<Result<Stored>>,
        received: Timestamp,
        lane: Box<Lane>,
    ) -> Pending {
        Pending {
            record: self,
            reply: Reply::Instance(reply, received, Some(lane)),
        }
    }
}

/// Who waits, and what the answer needs.
pub(super) enum Reply {
    Instance(oneshot::Sender<Result<Stored>>, Timestamp, Option<Box<Lane>>),
    Removal(oneshot::Sender<Result<Sequence>>, Place),
}

/// An answer that is given once the group is visible.
pub(super) enum Done {
    Instance(oneshot::Sender<Result<Stored>>, Stored),
    Removal(oneshot::Sender<Result<Sequence>>, Sequence),
}

/// Small records on their way into one write.
#[derive(Default)]
pub(super) struct Small {
    pub(super) parts: Vec<Part>,
    pub(super) length: u64,
}

/// A piece of that write.
pub(super) enum Part {
    Header(Vec<u8>),
    Payload(Bytes),
    Padding(usize),
}

impl Small {
    pub(super) fn slices(&self) -> Vec<&[u8]> {
        let slice = |part| match part {
            &Part::Padding(length) => &PADDING[..length],
            Part::Header(header) => &header[..],
            Part::Payload(bytes) => &bytes[..],
        };
        self.parts.iter().map(slice).collect()
    }
}
