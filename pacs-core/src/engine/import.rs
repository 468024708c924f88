//! Taking in a file: a Part 10 stream, or a bare data set as some old systems wrote.

use bytes::{Buf, Bytes, BytesMut};
use dicom_dictionary_std::tags;
use futures::{Stream, StreamExt, stream};

use super::{Announced, Pacs, Receipt, Received, slowly};
use crate::dataset::DataSet;
use crate::dataset::part10::{self, FileMeta};
use crate::dataset::scan::Scanner;
use crate::error::{Error, ErrorKind, Result};
use crate::hooks::Source;
use crate::limits;
use crate::uid::{AeTitle, Uid};

/// A piece below this waits for the next one.
const GATHERED_LENGTH_MIN_BYTES: usize = 4 * 1024;

impl Pacs {
    /// Keeps the instance in a file, given as the pieces of its bytes. Its data set is kept as it is;
    /// preamble and File Meta Information are written anew.
    ///
    /// # Errors
    /// As for [`receive_file`](Self::receive_file) and [`Receipt::commit`].
    pub async fn import(
        &self,
        source: Source,
        pieces: impl Stream<Item = Result<Bytes>> + Unpin,
    ) -> Result<Received> {
        self.receive_file(source, pieces).await?.commit().await
    }

    /// Takes in the instance in a file to its last byte, so that only its commit is left.
    ///
    /// # Errors
    /// - `Invalid` when it is no DICOM file, or the UIDs that say what it is are missing or bad.
    /// - `Unsupported` when it is a DICOMDIR (PS3.3 annex F), which describes other files.
    /// - What `pieces` says, and as for [`receive`](Self::receive) and [`Receipt::write`].
    pub async fn receive_file(
        &self,
        mut source: Source,
        pieces: impl Stream<Item = Result<Bytes>> + Unpin,
    ) -> Result<Receipt> {
        let mut pieces = std::pin::pin!(gathered(pieces));
        let (meta, mut data_set) = read_meta(&mut pieces).await?;
        if meta.is_directory() {
            let what = "a DICOMDIR is not an instance: it describes other files";
            return Err(Error::new(ErrorKind::Unsupported, "engine.import", what));
        }
        source.calling_ae = source.calling_ae.or_else(|| {
            let title = meta.elements.string(tags::SOURCE_APPLICATION_ENTITY_TITLE)?;
            AeTitle::parse(title).ok()
        });
        let mut held = Vec::new();
        let (sop_class, sop_instance) = {
            let mut scanner = Scanner::new(&meta.transfer_syntax);
            loop {
                slowly::scan(&mut scanner, &data_set).await?;
                held.push(data_set);
                if let Ok(uids) = uids_of(&scanner.header_so_far()) {
                    break uids;
                }
                let far = scanner.at_pixel_data().is_some()
                    || scanner.length() > limits::HEADER_LENGTH_MAX_BYTES as u64;
                let next = if far {
                    None
                } else {
                    pieces.next().await.transpose()?
                };
                let Some(next) = next else {
                    // Demanded of all that was read, so that the answer tells which one is missing.
                    break uids_of(&scanner.finish()?.header)?;
                };
                data_set = next;
            }
        };
        let announced = Announced {
            sop_class,
            sop_instance,
            transfer_syntax: meta.transfer_syntax,
            source,
        };
        let mut receipt = self.receive(announced).await?;
        for piece in held {
            receipt.write(piece).await?;
        }
        while let Some(piece) = pieces.next().await {
            receipt.write(piece?).await?;
        }
        Ok(receipt)
    }
}

fn uids_of(header: &DataSet) -> Result<(Uid, Uid)> {
    Ok((
        header.uid(tags::SOP_CLASS_UID)?,
        header.uid(tags::SOP_INSTANCE_UID)?,
    ))
}

/// The same bytes in pieces that are not small: what is looked at anew for each must not be so a million times.
fn gathered(pieces: impl Stream<Item = Result<Bytes>> + Unpin) -> impl Stream<Item = Result<Bytes>> {
    stream::try_unfold(pieces, |mut pieces| async move {
        let mut small = BytesMut::new();
        while let Some(piece) = pieces.next().await.transpose()? {
            if small.is_empty() && piece.len() >= GATHERED_LENGTH_MIN_BYTES {
                return Ok(Some((piece, pieces)));
            }
            small.extend_from_slice(&piece);
            if small.len() >= GATHERED_LENGTH_MIN_BYTES {
                break;
            }
        }
        Ok((!small.is_empty()).then(|| (small.freeze(), pieces)))
    })
}

/// Reads as far as the data set; answers what is already read of that.
pub(super) async fn read_meta(
    pieces: &mut (impl Stream<Item = Result<Bytes>> + Unpin),
) -> Result<(FileMeta, Bytes)> {
    let mut head = Vec::new();
    loop {
        let piece = pieces.next().await.transpose()?;
        head.extend_from_slice(piece.as_deref().unwrap_or_default());
        if let Some(meta) = part10::read_meta(&head, piece.is_none())? {
            let mut data_set = Bytes::from(head);
            let offset = usize::try_from(meta.data_set_offset).unwrap_or(usize::MAX);
            data_set.advance(offset.min(data_set.len()));
            return Ok((meta, data_set));
        }
        if piece.is_none() {
            return Err(Error::new(
                ErrorKind::Invalid,
                "engine.import",
                "the file ends within its header",
            ));
        }
    }
}
