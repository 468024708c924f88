//! A ZIP archive, written as it goes out.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use http::HeaderValue;
use pacs_core::{Error, Result, Uid};
use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, ZipWriter};

/// One file of an archive.
pub(super) struct File {
    pub(super) name: String,
    pub(super) pieces: BoxStream<'static, Result<Bytes>>,
}

/// What a browser calls the archive that it saves.
pub(super) fn disposition(uid: &Uid) -> HeaderValue {
    // A UID has digits and dots.
    HeaderValue::from_str(&format!("attachment; filename=\"{uid}.zip\""))
        .unwrap_or(HeaderValue::from_static("attachment"))
}

/// Where the writer of the archive puts its bytes until they go out.
#[derive(Clone, Default)]
struct Outlet(Arc<Mutex<Vec<u8>>>);

impl Outlet {
    fn drain(&self) -> Bytes {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Writing {
    files: BoxStream<'static, Result<File>>,
    current: Option<BoxStream<'static, Result<Bytes>>>,
    /// `None` when the archive is complete.
    archive: Option<ZipWriter<StreamWriter<Outlet>>>,
    outlet: Outlet,
}

/// Writes files one after the other as the client takes them. They are stored as they are: pixels that can be
/// compressed are compressed better by their transfer syntax.
pub(super) fn write(files: BoxStream<'static, Result<File>>) -> BoxStream<'static, Result<Bytes>> {
    let outlet = Outlet::default();
    let writing = Writing {
        files,
        current: None,
        archive: Some(ZipWriter::new_stream(outlet.clone())),
        outlet,
    };
    let pieces = stream::try_unfold(writing, |mut writing| async move {
        let more = writing.step().await?;
        Ok(more.then(|| (writing.outlet.drain(), writing)))
    });
    // Steps that only opened something have nothing to send.
    pieces
        .try_filter(|piece| std::future::ready(!piece.is_empty()))
        .boxed()
}

impl Writing {
    /// Does the next thing there is to do; false when there is none.
    async fn step(&mut self) -> Result<bool> {
        let Some(archive) = &mut self.archive else {
            return Ok(false);
        };
        if let Some(pieces) = &mut self.current {
            match pieces.try_next().await? {
                Some(piece) => archive.write_all(&piece).map_err(failed)?,
                None => self.current = None,
            }
            return Ok(true);
        }
        match self.files.try_next().await? {
            Some(file) => {
                let options = SimpleFileOptions::default()
                    .compression_method(CompressionMethod::Stored)
                    // A file that turns out to be longer than 4 GiB could not be said otherwise.
                    .large_file(true);
                archive
                    .start_file(file.name, options)
                    .map_err(|error| failed(error.into()))?;
                self.current = Some(file.pieces);
            }
            None => {
                if let Some(archive) = self.archive.take() {
                    archive.finish().map_err(|error| failed(error.into()))?;
                }
            }
        }
        Ok(true)
    }
}

fn failed(error: io::Error) -> Error {
    Error::io("web.zip", "the archive can't be written", error)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use futures::executor::block_on;

    use super::*;

    #[test]
    fn what_is_written_piece_by_piece_is_an_archive_with_every_file_whole() {
        let file = |name: &str, pieces: &[&'static str]| {
            let pieces: Vec<_> = pieces
                .iter()
                .map(|piece| Ok(Bytes::from_static(piece.as_bytes())))
                .collect();
            Ok(File {
                name: name.to_owned(),
                pieces: stream::iter(pieces).boxed(),
            })
        };
        let files = stream::iter([file("1/2.dcm", &["one ", "two"]), file("1/3.dcm", &[])]).boxed();
        let pieces: Vec<Bytes> = block_on(write(files).try_collect()).unwrap();
        let mut archive = zip::ZipArchive::new(io::Cursor::new(pieces.concat())).unwrap();
        assert_eq!(archive.len(), 2);
        let mut text = String::new();
        archive
            .by_name("1/2.dcm")
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "one two");
        assert_eq!(archive.by_name("1/3.dcm").unwrap().size(), 0);
    }
}
