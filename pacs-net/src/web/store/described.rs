//! Instances that come as metadata with their bulk data beside it (PS3.18 10.5.2): what came is put together to
//! data sets again.

use std::collections::HashMap;
use std::io::SeekFrom;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{tags, uids};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::json::{BulkReference, Described};
use pacs_core::dataset::{DataSet, Element, encode, json, xml};
use pacs_core::limits::READ_CHUNK_BYTES;
use pacs_core::{Announced, Error, ErrorKind, Result, Source, Uid};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use super::super::http::media_type::MediaType;
use super::super::http::multipart::PartReader;

/// Metadata of all instances of one request, in bytes: it is held until the bulk data has come.
const METADATA_LENGTH_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Bulk data that a request may bring in parts.
const BULK_PARTS_MAX: usize = 100_000;

/// Metadata and bulk data of one request, as they come.
#[derive(Default)]
pub(super) struct Descriptions {
    described: Vec<Described>,
    metadata_length: usize,
    spool: Spool,
    bulk: HashMap<String, Bulk>,
}

/// Where bulk data lies in the spool.
#[derive(Clone, Debug)]
struct Bulk {
    offset: u64,
    length: u64,
    /// What it is encoded in, where it is compressed pixel data.
    transfer_syntax: Option<Uid>,
}

/// Bulk data comes in any order and any length: it waits in a file without a name.
#[derive(Default)]
struct Spool {
    file: Option<File>,
    length: u64,
}

impl Spool {
    async fn append(&mut self, mut pieces: impl Stream<Item = Result<Bytes>> + Unpin) -> Result<(u64, u64)> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let made = tokio::task::spawn_blocking(tempfile::tempfile).await;
                let made = made.unwrap_or_else(|_| Err(std::io::Error::other("the task ended")));
                none.insert(File::from_std(made.map_err(failed)?))
            }
        };
        let offset = self.length;
        while let Some(piece) = pieces.try_next().await? {
            file.write_all(&piece).await.map_err(failed)?;
            self.length += piece.len() as u64;
        }
        file.flush().await.map_err(failed)?;
        Ok((offset, self.length - offset))
    }
}

impl Descriptions {
    /// Takes the next part of the request.
    pub(super) async fn take<S>(&mut self, mut part: PartReader<'_, S>) -> Result<()>
    where
        S: Stream<Item = Result<Bytes>> + Send + Unpin,
    {
        let media_type = part.media_type().unwrap_or(MediaType::OCTET_STREAM);
        let is_json = media_type.is(&MediaType::DICOM_JSON) || media_type.is(&MediaType::JSON);
        if is_json || media_type.is(&MediaType::DICOM_XML) {
            let mut text = Vec::new();
            while let Some(piece) = part.try_next().await? {
                self.metadata_length += piece.len();
                if self.metadata_length > METADATA_LENGTH_MAX_BYTES {
                    return Err(too_large("the metadata of a request is longer than what is held"));
                }
                text.extend_from_slice(&piece);
            }
            match is_json {
                true => self.described.extend(json::read(&text)?),
                false => self.described.push(xml::read(&text)?),
            }
            return Ok(());
        }
        let names = [part.location(), part.id()].map(|name| name.map(str::to_owned));
        let transfer_syntax = media_type
            .transfer_syntax()
            .map(|syntax| Uid::parse(&syntax))
            .or_else(|| media_type.default_transfer_syntax().map(Uid::parse))
            .transpose()?;
        let (offset, length) = self.spool.append(part).await?;
        let is_compressed = |uid: &Uid| !pacs_core::dataset::recode::is_native(uid);
        let bulk = Bulk {
            offset,
            length,
            transfer_syntax: transfer_syntax.filter(is_compressed),
        };
        for name in names.into_iter().flatten() {
            if self.bulk.len() == BULK_PARTS_MAX {
                return Err(too_large("a request brings too much bulk data"));
            }
            self.bulk.insert(name, bulk.clone());
        }
        Ok(())
    }

    /// The instances, each with its bulk data; an error in place of one that can't be put together.
    pub(super) fn assemble(self) -> impl Iterator<Item = Result<Assembled>> {
        let file = self
            .spool
            .file
            .map(|file| Arc::new(tokio::sync::Mutex::new(file)));
        let bulk = self.bulk;
        self.described
            .into_iter()
            .map(move |described| Assembled::new(described, &bulk, file.clone()))
    }
}

/// A data set in the order of its elements: what is in memory, and what waits in the spool.
pub(super) struct Assembled {
    sop_class: Uid,
    sop_instance: Uid,
    transfer_syntax: Uid,
    pieces: Vec<Piece>,
    file: Option<Arc<tokio::sync::Mutex<File>>>,
}

enum Piece {
    Bytes(Bytes),
    Spooled { offset: u64, length: u64 },
}

impl Assembled {
    fn new(
        described: Described,
        bulk: &HashMap<String, Bulk>,
        file: Option<Arc<tokio::sync::Mutex<File>>>,
    ) -> Result<Self> {
        let Described {
            header: mut set,
            bulk: references,
        } = described;
        set.retain(|element: &Element| element.tag.group() > 2);
        set.put_text(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192");
        let (sop_class, sop_instance) = (set.uid(tags::SOP_CLASS_UID)?, set.uid(tags::SOP_INSTANCE_UID)?);
        let mut found: Vec<(&BulkReference, &Bulk)> = Vec::new();
        for reference in &references {
            let bulk = bulk.get(&reference.uri).ok_or_else(|| {
                let what = "the request brings no part that a BulkDataURI names";
                Error::new(ErrorKind::Invalid, "web.store", what).with_tag(reference.path.tag())
            })?;
            if reference.path.items().next().is_some() {
                let what = "bulk data within sequences must stand in the metadata itself";
                let error = Error::new(ErrorKind::Unsupported, "web.store", what);
                return Err(error.with_tag(reference.path.tag()));
            }
            found.push((reference, bulk));
        }
        let compressed = found
            .iter()
            .filter(|(reference, _)| reference.path.tag() == tags::PIXEL_DATA)
            .find_map(|(_, bulk)| bulk.transfer_syntax);
        let transfer_syntax = compressed.unwrap_or(Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN));
        let mut pieces = Vec::new();
        let mut rest = set.into_iter().peekable();
        for (reference, bulk) in found {
            let tag = reference.path.tag();
            let before: DataSet = std::iter::from_fn(|| rest.next_if(|element| element.tag < tag)).collect();
            pieces.push(Piece::Bytes(encoded(&before)?));
            let is_pixel_data = tag == tags::PIXEL_DATA;
            put_bulk(
                tag,
                reference.vr,
                bulk,
                is_pixel_data && compressed.is_some(),
                &mut pieces,
            )?;
        }
        pieces.push(Piece::Bytes(encoded(&rest.collect())?));
        Ok(Self {
            sop_class,
            sop_instance,
            transfer_syntax,
            pieces,
            file,
        })
    }

    pub(super) fn announced(&self, source: Source) -> Announced {
        Announced {
            sop_class: self.sop_class,
            sop_instance: self.sop_instance,
            transfer_syntax: self.transfer_syntax,
            source,
        }
    }

    /// The bytes of the data set.
    pub(super) fn pieces(self) -> BoxStream<'static, Result<Bytes>> {
        let file = self.file;
        let pieces = stream::iter(self.pieces).flat_map(move |piece| match (piece, file.clone()) {
            (Piece::Bytes(bytes), _) => stream::iter([Ok(bytes)]).boxed(),
            (Piece::Spooled { offset, length }, Some(file)) => spooled(file, offset, length),
            // What was spooled is in a file.
            (Piece::Spooled { .. }, None) => stream::empty().boxed(),
        });
        pieces.boxed()
    }
}

fn encoded(set: &DataSet) -> Result<Bytes> {
    let bytes = encode::encode(set, uids::EXPLICIT_VR_LITTLE_ENDIAN, &CharacterSet::utf8())?;
    Ok(Bytes::from(bytes))
}

/// Puts an element whose value waits in the spool (PS3.5 7.1.2), or the one fragment of a compressed image
/// (PS3.5 A.4).
fn put_bulk(tag: Tag, vr: VR, bulk: &Bulk, is_fragment: bool, pieces: &mut Vec<Piece>) -> Result<()> {
    let padding = bulk.length % 2;
    let length = u32::try_from(bulk.length + padding)
        .ok()
        .filter(|length| *length != u32::MAX);
    let length = length.ok_or_else(|| {
        let what = "bulk data of 4 GiB and more can't be said in an element";
        Error::new(ErrorKind::Unsupported, "web.store", what).with_tag(tag)
    })?;
    let mut head = BytesMut::with_capacity(32);
    head.put_u16_le(tag.group());
    head.put_u16_le(tag.element());
    match is_fragment {
        true => {
            head.put_slice(b"OB\0\0");
            head.put_u32_le(u32::MAX);
            // An empty Basic Offset Table, then the item.
            head.put_slice(&[0xFE, 0xFF, 0x00, 0xE0, 0, 0, 0, 0]);
            head.put_slice(&[0xFE, 0xFF, 0x00, 0xE0]);
        }
        false => {
            // Whatever it was, only these have lengths of 32 bits, and bulk data is long.
            let vr = if has_long_length(vr) { vr } else { VR::UN };
            head.put_slice(&vr.to_bytes());
            head.put_u16_le(0);
        }
    }
    head.put_u32_le(length);
    pieces.push(Piece::Bytes(head.freeze()));
    pieces.push(Piece::Spooled {
        offset: bulk.offset,
        length: bulk.length,
    });
    let mut tail = BytesMut::new();
    if padding == 1 {
        tail.put_u8(0);
    }
    if is_fragment {
        tail.put_slice(&[0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0]);
    }
    pieces.push(Piece::Bytes(tail.freeze()));
    Ok(())
}

/// Whether an element of this VR has a length of 32 bits (PS3.5 7.1.2).
fn has_long_length(vr: VR) -> bool {
    use VR::{OB, OD, OF, OL, OV, OW, SV, UC, UN, UR, UT, UV};
    matches!(vr, OB | OD | OF | OL | OV | OW | SV | UC | UN | UR | UT | UV)
}

/// Reads a range of the spool.
fn spooled(
    file: Arc<tokio::sync::Mutex<File>>,
    offset: u64,
    length: u64,
) -> BoxStream<'static, Result<Bytes>> {
    let pieces = stream::try_unfold((file, offset, length), |(file, offset, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        // At most a chunk.
        let take = left.min(READ_CHUNK_BYTES as u64) as usize;
        let mut bytes = vec![0; take];
        {
            let mut file = file.lock().await;
            file.seek(SeekFrom::Start(offset)).await.map_err(failed)?;
            file.read_exact(&mut bytes).await.map_err(failed)?;
        }
        Ok(Some((
            Bytes::from(bytes),
            (file, offset + take as u64, left - take as u64),
        )))
    });
    pieces.boxed()
}

fn too_large(why: &'static str) -> Error {
    Error::new(ErrorKind::Invalid, "web.store", why)
}

fn failed(error: std::io::Error) -> Error {
    Error::io("web.spool", "bulk data can't wait in a file", error)
}
