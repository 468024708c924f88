//! Instances that come as metadata with their bulk data beside it (PS3.18 10.5.2): what came is put together to
//! data sets again.

use std::collections::HashMap;
use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{tags, uids};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};
use pacs_core::budget::{Budget, Share};
use pacs_core::dataset::json::{BulkReference, Described};
use pacs_core::dataset::{DataSet, Element, encode, json, xml};
use pacs_core::limits::READ_CHUNK_BYTES;
use pacs_core::{Announced, Error, ErrorKind, Result, Retry, Source, Uid};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use super::super::http::media_type::MediaType;
use super::super::http::multipart::PartReader;

/// Metadata of all instances of one request, in bytes: it is held until the bulk data has come.
const METADATA_LENGTH_MAX_BYTES: usize = 32 * 1024 * 1024;

/// What metadata takes in memory for each of its bytes, as text and read.
const METADATA_BYTES_HELD_PER_BYTE: usize = 8;

/// Names of all bulk data of one request, in bytes: some ten thousand URLs.
const NAMES_LENGTH_MAX_BYTES: usize = 4 * 1024 * 1024;

/// How often the bulk data of a request is stored, all in all: several elements may have one value.
const BULK_USES_MAX: u64 = 4;

/// And small values as often as they are wanted, up to this, in bytes.
const BULK_SMALL_BYTES: u64 = 64 * 1024 * 1024;

/// Metadata above this is read on a thread of its own.
const READ_AT_ONCE_BYTES: usize = 256 * 1024;

/// Metadata and bulk data of one request, as they come.
pub(super) struct Descriptions {
    described: Vec<Described>,
    metadata_length: usize,
    /// What it counts for among all metadata that is held.
    room: Share,
    spool: Spool,
    bulk: HashMap<String, Bulk>,
    names_length: usize,
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
struct Spool {
    directory: PathBuf,
    file: Option<File>,
    length: u64,
}

impl Spool {
    async fn append(&mut self, mut pieces: impl Stream<Item = Result<Bytes>> + Unpin) -> Result<(u64, u64)> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let directory = self.directory.clone();
                let made = tokio::task::spawn_blocking(move || tempfile::tempfile_in(directory)).await;
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
    /// For one request. What it holds counts against `held`, in bytes; bulk data waits in `directory`.
    ///
    /// # Errors
    /// `OutOfResources` when there is no room now.
    pub(super) fn new(held: &Budget, directory: &Path) -> Result<Self> {
        Ok(Self {
            described: Vec::new(),
            metadata_length: 0,
            room: held.try_take(0).ok_or_else(no_room)?,
            spool: Spool {
                directory: directory.to_owned(),
                file: None,
                length: 0,
            },
            bulk: HashMap::new(),
            names_length: 0,
        })
    }

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
                if !self.room.grow(piece.len() * METADATA_BYTES_HELD_PER_BYTE) {
                    return Err(no_room());
                }
                text.extend_from_slice(&piece);
            }
            self.described.extend(read(text, is_json).await?);
            return Ok(());
        }
        let names: Vec<String> = [part.location(), part.id()]
            .into_iter()
            .flatten()
            .map(str::to_owned)
            .collect();
        if names.is_empty() {
            // Nothing can refer to it; what follows it is read all the same.
            while part.try_next().await?.is_some() {}
            return Ok(());
        }
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
        for name in names {
            self.names_length += name.len() + size_of::<Bulk>();
            if self.names_length > NAMES_LENGTH_MAX_BYTES {
                return Err(too_large("a request brings too many parts of bulk data"));
            }
            if self.bulk.insert(name, bulk.clone()).is_some() {
                let what = "two parts of bulk data have one Content-Location";
                return Err(Error::new(ErrorKind::Invalid, "web.store", what));
            }
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
        let mut left = self
            .spool
            .length
            .saturating_mul(BULK_USES_MAX)
            .saturating_add(BULK_SMALL_BYTES);
        // The room goes with the last of them.
        let room = self.room;
        self.described.into_iter().map(move |described| {
            let _held = &room;
            Assembled::new(described, &bulk, &mut left, file.clone())
        })
    }
}

async fn read(text: Vec<u8>, is_json: bool) -> Result<Vec<Described>> {
    let is_short = text.len() <= READ_AT_ONCE_BYTES;
    let read = move || match is_json {
        true => json::read(&text),
        false => Ok(vec![xml::read(&text)?]),
    };
    if is_short {
        return read();
    }
    let ended = |_| Error::new(ErrorKind::Internal, "web.store", "metadata could not be read");
    tokio::task::spawn_blocking(read).await.map_err(ended)?
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
        left: &mut u64,
        file: Option<Arc<tokio::sync::Mutex<File>>>,
    ) -> Result<Self> {
        let Described {
            header: mut set,
            bulk: references,
        } = described;
        set.retain(|element: &Element| element.tag.group() > 2);
        set.remove(tags::SPECIFIC_CHARACTER_SET);
        let (sop_class, sop_instance) = (set.uid(tags::SOP_CLASS_UID)?, set.uid(tags::SOP_INSTANCE_UID)?);
        let mut found: Vec<(&BulkReference, Bulk)> = Vec::new();
        for reference in &references {
            let tag = reference.path.tag();
            if reference.path.items().next().is_some() {
                let what = "bulk data within sequences must stand in the metadata itself";
                return Err(Error::new(ErrorKind::Unsupported, "web.store", what).with_tag(tag));
            }
            if tag.group() < 8 || tag == tags::SPECIFIC_CHARACTER_SET {
                let what = "what says how an instance is encoded is no bulk data";
                return Err(Error::new(ErrorKind::Invalid, "web.store", what).with_tag(tag));
            }
            let bulk = bulk.get(&reference.uri).ok_or_else(|| {
                let what = "the request brings no part that a BulkDataURI names";
                Error::new(ErrorKind::Invalid, "web.store", what).with_tag(tag)
            })?;
            // A part may serve more than once, within bounds: a request stores about as much as it brings.
            *left = left
                .checked_sub(bulk.length)
                .ok_or_else(|| too_large("the parts of a request are referred to too often"))?;
            found.push((reference, bulk.clone()));
        }
        found.sort_by_key(|(reference, _)| reference.path.tag());
        let compressed = found
            .iter()
            .filter(|(reference, _)| reference.path.tag() == tags::PIXEL_DATA)
            .find_map(|(_, bulk)| bulk.transfer_syntax);
        if compressed.is_some()
            && set
                .string(tags::NUMBER_OF_FRAMES)
                .is_some_and(|count| count != "1")
        {
            let what = "several compressed frames in one part can't be told apart";
            let error = Error::new(ErrorKind::Unsupported, "web.store", what);
            return Err(error.with_tag(tags::NUMBER_OF_FRAMES));
        }
        let transfer_syntax = compressed.unwrap_or(Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN));
        let mut rest = set.into_iter().peekable();
        let mut before = |tag: Tag| -> Result<Piece> {
            let before: DataSet = std::iter::from_fn(|| rest.next_if(|element| element.tag < tag)).collect();
            Ok(Piece::Bytes(encode::encode_part(&before)?.into()))
        };
        let mut pieces = vec![
            before(tags::SPECIFIC_CHARACTER_SET)?,
            Piece::Bytes(Bytes::from_static(UTF_8)),
        ];
        for (reference, bulk) in found {
            let tag = reference.path.tag();
            pieces.push(before(tag)?);
            let is_pixel_data = tag == tags::PIXEL_DATA;
            put_bulk(
                tag,
                reference.vr,
                &bulk,
                is_pixel_data && compressed.is_some(),
                &mut pieces,
            )?;
        }
        pieces.push(Piece::Bytes(encode::encode_part(&rest.collect())?.into()));
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

/// Specific Character Set (0008,0005): what JSON and XML are in.
const UTF_8: &[u8] = b"\x08\x00\x05\x00CS\x0A\x00ISO_IR 192";

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
        false if has_long_length(vr) => {
            head.put_slice(&vr.to_bytes());
            head.put_u16_le(0);
        }
        false => match u16::try_from(length) {
            Ok(short) if short < u16::MAX => {
                head.put_slice(&vr.to_bytes());
                head.put_u16_le(short);
            }
            // What its VR has no length for (PS3.5 6.2.2).
            _ => {
                head.put_slice(b"UN\0\0");
            }
        },
    }
    let is_short = !is_fragment && !has_long_length(vr) && length < u32::from(u16::MAX);
    if !is_short {
        head.put_u32_le(length);
    }
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
    Error::new(ErrorKind::OutOfResources, "web.store", why).with_retry(Retry::Never)
}

fn no_room() -> Error {
    let why = "too much metadata is on its way in";
    Error::new(ErrorKind::OutOfResources, "web.store", why)
}

fn failed(error: std::io::Error) -> Error {
    Error::io("web.spool", "bulk data can't wait in a file", error)
}
