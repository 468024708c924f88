//! Taking in one instance: its bytes go to the archive as they come, and are scanned on the way.

use std::sync::Arc;

use bytes::Bytes;
use dicom_dictionary_std::tags;
use futures::SinkExt;
use futures::channel::oneshot;

use super::committer::{CommitRequest, Request};
use super::digest::Digester;
use super::slots::Slot;
use super::{Inner, StoreOutcome};
use crate::archive::{ArchiveWriter, Locator, Sequence, Timestamp};
use crate::dataset::DataSet;
use crate::dataset::part10::{self, Meta};
use crate::dataset::scan::{Problem, ProblemKind, Scan, Scanner};
use crate::error::{Error, ErrorKind, Result};
use crate::hooks::{Arriving, Source};
use crate::index::InstanceRecord;
use crate::uid::{InstanceKey, Uid};

/// What a sender says of an instance before its data set comes (PS3.7 9.3.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// Affected SOP Class UID.
    pub sop_class: Uid,
    /// Affected SOP Instance UID.
    pub sop_instance: Uid,
    /// Transfer syntax of the data set: that of the presentation context.
    pub transfer_syntax: Uid,
    /// Who sends it.
    pub source: Source,
}

/// An instance that is kept.
#[derive(Clone, Debug)]
pub struct Received {
    /// Whether it is new, the same as before, or different from before.
    pub outcome: StoreOutcome,
    /// What the index knows under its SOP Instance UID.
    pub record: Arc<InstanceRecord>,
    /// The data set's structure could be followed to its end.
    pub complete: bool,
    /// What is wrong with the data set, where something is. It is kept all the same.
    pub problems: Vec<Problem>,
}

/// One instance on its way in. Dropped without [`commit`](Self::commit), nothing of it is kept.
pub struct Receipt {
    pacs: Arc<Inner>,
    announced: Announced,
    writer: Box<dyn ArchiveWriter>,
    scanner: Scanner,
    digester: Digester,
    meta_length: u64,
    data_set_length: u64,
    _slot: Slot,
}

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receipt")
            .field("announced", &self.announced)
            .finish_non_exhaustive()
    }
}

impl Receipt {
    pub(super) async fn begin(pacs: Arc<Inner>, announced: Announced) -> Result<Self> {
        let slot = pacs.receipts.take().await;
        let mut writer = pacs.archive.begin().await?;
        let meta = part10::write_meta(&Meta {
            sop_class: announced.sop_class,
            sop_instance: announced.sop_instance,
            transfer_syntax: announced.transfer_syntax,
            source: announced.source.calling_ae,
            sending: announced.source.calling_ae,
            receiving: announced.source.called_ae,
        });
        let meta_length = meta.len() as u64;
        writer.write(meta).await?;
        Ok(Self {
            scanner: Scanner::new(&announced.transfer_syntax),
            digester: Digester::new(),
            pacs,
            announced,
            writer,
            meta_length,
            data_set_length: 0,
            _slot: slot,
        })
    }

    /// Takes the next bytes of the data set. Waits while the archive has too much unwritten.
    ///
    /// # Errors
    /// `Invalid` when sequences are nested too deep; what the archive says. Nothing of the instance is
    /// kept then.
    pub async fn write(&mut self, chunk: Bytes) -> Result<()> {
        self.scanner.push(&chunk)?;
        self.digester.update(&chunk);
        self.data_set_length += chunk.len() as u64;
        self.writer.write(chunk).await
    }

    /// Keeps the instance: when this returns `Ok`, its bytes are on stable storage and a query finds it.
    ///
    /// Once polled, the commit goes on even when the future is dropped.
    ///
    /// # Errors
    /// - `Invalid` when nothing of the data set can be read, and with the attribute when the UIDs that say where it belongs are missing or bad.
    /// - `Mismatch` when the data set is not the instance that was announced.
    /// - `AlreadyExists` when the policy for duplicates is to refuse.
    /// - What the decider, the archive or the index says.
    pub async fn commit(self) -> Result<Received> {
        let scan = self.scanner.finish()?;
        let complete = scan.complete || only_too_long_to_inflate(&scan);
        let key = identify(&scan.header, &self.announced)?;
        self.pacs.decider.before_store(&Arriving {
            key,
            header: &scan.header,
            source: &self.announced.source,
        })?;
        let record = Box::new(InstanceRecord {
            key,
            sop_class: self.announced.sop_class,
            transfer_syntax: self.announced.transfer_syntax,
            locator: Locator::new(&[]),
            length: self.meta_length + self.data_set_length,
            data_set_offset: self.meta_length,
            sequence: Sequence::default(),
            received: Timestamp::default(),
            attributes: self.pacs.attributes.extract(&scan.header),
            frames: scan.frames,
            superseded: Vec::new(),
        });
        let (reply, answer) = oneshot::channel();
        let request = CommitRequest {
            writer: self.writer,
            record,
            digest: self.digester.finish(),
            source: self.announced.source,
            reply,
        };
        let closed = || Error::new(ErrorKind::Closed, "engine.commit", "the engine is closed");
        self.pacs
            .requests()?
            .send(Request::Commit(request))
            .await
            .map_err(|_| closed())?;
        let committed = answer.await.map_err(|_| closed())??;
        Ok(Received {
            outcome: committed.outcome,
            record: committed.record,
            complete,
            problems: scan.problems,
        })
    }

    /// Gives up; nothing is kept.
    ///
    /// # Errors
    /// What the archive says.
    pub async fn abort(self) -> Result<()> {
        self.writer.abort().await
    }
}

/// Whether a scan ended early for no fault of the data set: a deflated one was longer than what is
/// inflated of it.
fn only_too_long_to_inflate(scan: &Scan) -> bool {
    let limit = |problem: &Problem| problem.kind == ProblemKind::InflateLimit;
    !scan.problems.is_empty() && scan.problems.iter().all(limit)
}

/// Where the instance belongs, and that it is the one announced (PS3.4 B.2.3).
fn identify(header: &DataSet, announced: &Announced) -> Result<InstanceKey> {
    let sop_class = header.uid(tags::SOP_CLASS_UID)?;
    let instance = header.uid(tags::SOP_INSTANCE_UID)?;
    let mismatch =
        |tag, what: &'static str| Error::new(ErrorKind::Mismatch, "engine.receive", what).with_tag(tag);
    if sop_class != announced.sop_class {
        return Err(mismatch(
            tags::SOP_CLASS_UID,
            "the data set is of another SOP class than was announced",
        ));
    }
    if instance != announced.sop_instance {
        return Err(mismatch(
            tags::SOP_INSTANCE_UID,
            "the data set is another instance than was announced",
        ));
    }
    Ok(InstanceKey {
        study: header.uid(tags::STUDY_INSTANCE_UID)?,
        series: header.uid(tags::SERIES_INSTANCE_UID)?,
        instance,
    })
}
