//! Taking in one instance: its bytes go to the archive as they come, and are scanned on the way.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use dicom_core::Tag;
use dicom_dictionary_std::tags;
use futures::SinkExt;
use futures::channel::oneshot;

use super::coerce::{self, Original, Reason};
use super::committer::{CommitRequest, CountedFrames, Request};
use super::digest::Digester;
use super::turns::Turn;
use super::{Inner, StoreOutcome, slowly};
use crate::archive::{ArchiveWriter, Locator, Sequence, Timestamp};
use crate::dataset::DataSet;
use crate::dataset::part10::{self, Meta};
use crate::dataset::scan::{Problem, ProblemKind, Scan, Scanner};
use crate::error::{Error, ErrorKind, Result};
use crate::hooks::{Arriving, Source};
use crate::index::InstanceRecord;
use crate::limits::{COERCED_HELD_LENGTH_MAX_BYTES, HELD_LENGTH_MAX_BYTES};
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

impl Received {
    /// The warning that its sender is answered with (PS3.4 B.2.3, PS3.18 I.2.1), if there is one. What is wrong
    /// with what came counts more than what became of it here: the sender may still have better.
    pub fn warning(&self) -> Option<u16> {
        if self.outcome == StoreOutcome::FirstKept {
            // Elements discarded.
            Some(0xB006)
        } else if !self.complete {
            // Data set does not match SOP class.
            Some(0xB007)
        } else {
            // Coercion of data elements.
            self.record.coerced.is_some().then_some(0xB000)
        }
    }
}

/// One instance on its way in. Dropped without [`commit`](Self::commit), nothing of it is kept.
pub struct Receipt {
    pacs: Arc<Inner>,
    announced: Announced,
    /// The study that it must be of.
    study: Option<Uid>,
    writer: Box<dyn ArchiveWriter>,
    scanner: Scanner,
    digester: Digester,
    stage: Stage,
    data_set_length: u64,
    /// The version that this one is an amendment of.
    amends: Option<Locator>,
    _turn: Turn,
}

/// How far an instance has come.
enum Stage {
    /// What has come is held until it is known what of it is coerced: that stands before it in the archive.
    Held(Held),
    /// The beginning has gone to the archive, and the rest follows.
    Passing {
        meta_length: u64,
        coerced: Option<DataSet>,
        /// Whether the coercer, where there is one, was asked.
        asked: bool,
    },
}

/// Pieces in the order they came, small ones put together so that none costs more than its bytes.
#[derive(Default)]
struct Held {
    pieces: Vec<Bytes>,
    small: BytesMut,
    /// What the coercer said.
    wanted: Option<DataSet>,
}

impl Held {
    fn push(&mut self, piece: Bytes) {
        if piece.len() < SMALL_PIECE_BYTES {
            self.small.extend_from_slice(&piece);
        } else {
            self.flush();
            self.pieces.push(piece);
        }
    }

    fn flush(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push(self.small.split().freeze());
        }
    }

    /// All that is held, behind `meta`.
    fn behind(mut self, meta: Bytes) -> Vec<Bytes> {
        self.flush();
        self.pieces.insert(0, meta);
        self.pieces
    }
}

/// A piece below this is copied while it is held.
const SMALL_PIECE_BYTES: usize = 4 * 1024;

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receipt")
            .field("announced", &self.announced)
            .finish_non_exhaustive()
    }
}

impl Receipt {
    pub(super) async fn begin(pacs: Arc<Inner>, announced: Announced) -> Result<Self> {
        let mut receipt = Self::holding(pacs, announced).await?;
        if receipt.pacs.coercer.is_none() {
            let meta = receipt.meta(None)?;
            receipt.pass(meta, None).await?;
        }
        Ok(receipt)
    }

    /// Begins a later version of an instance: its data set as it is kept, with other attributes on its way out.
    pub(super) async fn amending(
        pacs: Arc<Inner>,
        record: &InstanceRecord,
        meta: &Meta,
        coerced: DataSet,
        source: Source,
    ) -> Result<Self> {
        let meta = part10::write_meta_coerced(meta, &coerced)?;
        let announced = Announced {
            sop_class: record.sop_class,
            sop_instance: record.key.instance,
            transfer_syntax: record.transfer_syntax,
            source,
        };
        let mut receipt = Self::holding(pacs, announced).await?;
        receipt.amends = Some(record.locator.clone());
        receipt.pass(meta, Some(coerced)).await?;
        Ok(receipt)
    }

    /// One that has its turn, and holds what comes.
    async fn holding(pacs: Arc<Inner>, announced: Announced) -> Result<Self> {
        let turn = pacs.receipts.take(&announced.source).await;
        let writer = pacs.archive.begin().await?;
        Ok(Self {
            scanner: Scanner::new(&announced.transfer_syntax).with_frame_tables_from(&pacs.frame_tables),
            digester: Digester::new(),
            pacs,
            announced,
            study: None,
            writer,
            stage: Stage::Held(Held::default()),
            data_set_length: 0,
            amends: None,
            _turn: turn,
        })
    }

    /// Lets what comes pass behind `meta` from the first byte on; nobody is asked what is coerced.
    async fn pass(&mut self, meta: Bytes, coerced: Option<DataSet>) -> Result<()> {
        self.stage = Stage::Passing {
            meta_length: meta.len() as u64,
            coerced,
            asked: true,
        };
        self.writer.write(meta).await
    }

    /// What was said of the instance before its data set came.
    pub fn announced(&self) -> &Announced {
        &self.announced
    }

    /// Demands that the instance is of this study: one of another study is not kept.
    pub fn require_study(&mut self, study: Uid) {
        self.study = Some(study);
    }

    /// Takes the next bytes of the data set. Waits while the archive has too much unwritten, and rests where a deflated one
    /// grows hundreds of times.
    ///
    /// # Errors
    /// `Invalid` when sequences are nested too deep; what the coercer says; what the archive
    /// says. Nothing of the instance is kept then.
    pub async fn write(&mut self, chunk: Bytes) -> Result<()> {
        slowly::scan(&mut self.scanner, &chunk).await?;
        self.digester.update(&chunk);
        self.data_set_length += chunk.len() as u64;
        let Stage::Held(held) = &mut self.stage else {
            return self.writer.write(chunk).await;
        };
        held.push(chunk);
        let at_pixel_data = self.scanner.at_pixel_data().is_some();
        if !at_pixel_data && self.data_set_length < HELD_LENGTH_MAX_BYTES as u64 {
            return Ok(());
        }
        let mut held = std::mem::take(held);
        // Whatever is wrong with it is answered by the commit, when all is known.
        let identified = || {
            let header = self.scanner.header_so_far();
            Some((identify(&header, &self.announced).ok()?, header))
        };
        if held.wanted.is_none()
            && let Some((key, header)) = identified()
        {
            held.wanted = Some(self.wanted(key, &header)?);
        }
        let knows = |tag| self.scanner.knows(tag);
        if self.data_set_length < COERCED_HELD_LENGTH_MAX_BYTES as u64
            && held
                .wanted
                .as_ref()
                .is_some_and(|wanted| !coerce::is_known(wanted, knows))
        {
            self.stage = Stage::Held(held);
            return Ok(());
        }
        let asked = held.wanted.is_some();
        let coerced = match held.wanted.take() {
            Some(wanted) if !wanted.is_empty() => {
                let is_all = at_pixel_data && self.scanner.holds_all();
                self.coerced(wanted, &self.scanner.header_so_far(), &knows, is_all)?
            }
            _ => None,
        };
        let meta = self.meta(coerced.as_ref())?;
        self.stage = Stage::Passing {
            meta_length: meta.len() as u64,
            coerced,
            asked,
        };
        for piece in held.behind(meta) {
            self.writer.write(piece).await?;
        }
        Ok(())
    }

    /// Keeps the instance: when this returns `Ok`, its bytes are on stable storage and a query finds it.
    ///
    /// Once polled, the commit goes on even when the future is dropped.
    ///
    /// # Errors
    /// - `Invalid` when nothing of the data set can be read, and with the attribute when the UIDs that say where it belongs are missing or bad.
    /// - `Mismatch` when the data set is not the instance that was announced, or not of the study that is
    ///   required.
    /// - `AlreadyExists` when the policy for duplicates is to refuse.
    /// - What the coercer, the decider, the archive or the index says.
    pub async fn commit(mut self) -> Result<Received> {
        let scanner = std::mem::replace(&mut self.scanner, Scanner::new(&self.announced.transfer_syntax));
        let (scan, room) = scanner.finish_counted()?;
        let complete = is_complete(&scan);
        let key = identify(&scan.header, &self.announced)?;
        if self.study.is_some_and(|study| study != key.study) {
            let what = "the instance is of another study than is asked for";
            let error = Error::new(ErrorKind::Mismatch, "engine.receive", what);
            return Err(error.with_tag(tags::STUDY_INSTANCE_UID));
        }
        let knows = |tag| scan.knows(tag);
        let is_all = scan.left_out_count == 0;
        let stage = std::mem::replace(&mut self.stage, Stage::Held(Held::default()));
        let (meta_length, coerced, unwritten) = match stage {
            Stage::Held(mut held) => {
                let wanted = match held.wanted.take() {
                    Some(wanted) => wanted,
                    None => self.wanted(key, &scan.header)?,
                };
                let coerced = self.coerced(wanted, &scan.header, &knows, is_all)?;
                let meta = self.meta(coerced.as_ref())?;
                (meta.len() as u64, coerced, held.behind(meta))
            }
            Stage::Passing {
                meta_length,
                coerced,
                asked,
            } => {
                // What was decided too late would be left out, and nobody would know.
                if !asked {
                    let wanted = self.wanted(key, &scan.header)?;
                    if self.coerced(wanted, &scan.header, &knows, is_all)?.is_some() {
                        let what = "the identifying UIDs stand too far behind to be coerced";
                        return Err(Error::new(ErrorKind::Unsupported, "engine.coerce", what));
                    }
                }
                (meta_length, coerced, Vec::new())
            }
        };
        if self.amends.is_none() {
            self.pacs
                .may_store(&self.announced.source, &key, &scan.header)
                .await?;
            self.pacs.decider.before_store(&Arriving {
                key,
                header: &scan.header,
                source: &self.announced.source,
            })?;
        }
        let attributes = match &coerced {
            None => self.pacs.attributes.extract(&scan.header),
            Some(coerced) => {
                let applied = coerce::applied(scan.header, coerced);
                self.pacs.attributes.extract(&applied)
            }
        };
        let record = Box::new(InstanceRecord {
            key,
            sop_class: self.announced.sop_class,
            transfer_syntax: self.announced.transfer_syntax,
            locator: Locator::new(&[]),
            length: meta_length + self.data_set_length,
            data_set_offset: meta_length,
            sequence: Sequence::default(),
            received: Timestamp::default(),
            attributes,
            coerced,
            superseded: Vec::new(),
        });
        let (reply, answer) = oneshot::channel();
        let request = CommitRequest {
            writer: self.writer,
            unwritten,
            record,
            frames: scan.frames.map(|table| CountedFrames {
                table: Arc::new(table),
                _room: room,
            }),
            digest: self.digester.finish(),
            complete,
            amends: self.amends,
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

    /// Asks the coercer, where there is one.
    fn wanted(&self, key: InstanceKey, header: &DataSet) -> Result<DataSet> {
        let source = &self.announced.source;
        match &self.pacs.coercer {
            Some(coercer) => coercer.coerce(&Arriving { key, header, source }),
            None => Ok(DataSet::new()),
        }
    }

    fn coerced(
        &self,
        wanted: DataSet,
        header: &DataSet,
        knows: &dyn Fn(Tag) -> bool,
        is_all: bool,
    ) -> Result<Option<DataSet>> {
        let Announced {
            transfer_syntax,
            source,
            ..
        } = &self.announced;
        let original = Original {
            reason: Reason::Coerce,
            provider: source.calling_ae,
            header,
            transfer_syntax,
            source,
            knows,
            is_all,
        };
        original.coerced(wanted, Timestamp::now())
    }

    /// What stands before the data set in the archive.
    fn meta(&self, coerced: Option<&DataSet>) -> Result<Bytes> {
        let meta = Meta {
            sop_class: self.announced.sop_class,
            sop_instance: self.announced.sop_instance,
            transfer_syntax: self.announced.transfer_syntax,
            source: self.announced.source.calling_ae,
            sending: self.announced.source.calling_ae,
            receiving: self.announced.source.called_ae,
        };
        match coerced {
            Some(coerced) => part10::write_meta_coerced(&meta, coerced),
            None => Ok(part10::write_meta(&meta)),
        }
    }

    /// Gives up; nothing is kept.
    ///
    /// # Errors
    /// What the archive says.
    pub async fn abort(self) -> Result<()> {
        self.writer.abort().await
    }
}

/// Whether all of a data set is there. A deflated one that is longer than what is inflated of it counts as
/// whole: its scan ended early for no fault of its own.
pub(super) fn is_complete(scan: &Scan) -> bool {
    let limit = |problem: &Problem| problem.kind == ProblemKind::InflateLimit;
    scan.complete || (!scan.problems.is_empty() && scan.problems.iter().all(limit))
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
