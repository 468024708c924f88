//! From chunks to a file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use futures::FutureExt;
use futures::channel::oneshot;
use futures::executor::block_on;
use futures::future::BoxFuture;
use pacs_core::{ArchiveWriter, Error, ErrorKind, InstanceKey, Locator, Result, Stored, Timestamp};

use super::{Folder, closed, path};
use crate::medium::{MediumFile, write_all_at};

/// What is written at once.
const PIECE_BYTES: usize = 512 * 1024;

/// A file that is being written.
struct Incoming {
    path: PathBuf,
    file: Arc<dyn MediumFile>,
    length: u64,
}

pub(super) struct Writer {
    folder: Arc<Folder>,
    gathered: Vec<Bytes>,
    gathered_bytes: usize,
    incoming: Option<Incoming>,
    /// A piece on its way to the file.
    writing: Option<oneshot::Receiver<(Incoming, io::Result<()>)>>,
    failed: bool,
}

impl Writer {
    pub(super) fn new(folder: Arc<Folder>) -> Self {
        Self {
            folder,
            gathered: Vec::new(),
            gathered_bytes: 0,
            incoming: None,
            writing: None,
            failed: false,
        }
    }

    /// Takes back the file from the piece before.
    async fn settle(&mut self) -> Result<()> {
        if let Some(writing) = &mut self.writing {
            let (incoming, result) = writing.await.map_err(|_| closed("archive.write"))?;
            self.writing = None;
            self.incoming = Some(incoming);
            result.map_err(failed)?;
        }
        Ok(())
    }

    async fn push(&mut self, chunk: Bytes) -> Result<()> {
        self.gathered_bytes += chunk.len();
        self.gathered.push(chunk);
        if self.gathered_bytes < PIECE_BYTES {
            return Ok(());
        }
        self.settle().await?;
        self.gathered_bytes = 0;
        let pieces = std::mem::take(&mut self.gathered);
        let (folder, incoming) = (Arc::clone(&self.folder), self.incoming.take());
        let (sender, receiver) = oneshot::channel();
        self.folder.pool.spawn(move || {
            let Ok(mut incoming) = incoming.map_or_else(|| folder.create_incoming(), Ok) else {
                // The receiver is cancelled.
                return;
            };
            let result = incoming.append(&pieces);
            if let Err((incoming, _)) = sender.send((incoming, result)) {
                folder.discard(&incoming);
            }
        });
        self.writing = Some(receiver);
        Ok(())
    }
}

fn failed(error: io::Error) -> Error {
    Error::io("archive.write", "the medium did not take the instance", error)
}

impl Incoming {
    fn append(&mut self, pieces: &[Bytes]) -> io::Result<()> {
        let parts: Vec<&[u8]> = pieces.iter().map(|piece| &piece[..]).collect();
        write_all_at(&*self.file, &parts, self.length)?;
        self.length += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        Ok(())
    }
}

impl Folder {
    fn create_incoming(&self) -> io::Result<Incoming> {
        let number = self.incoming.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(path::INCOMING).join(format!("{number}.part"));
        let file = self.medium.create(&path)?;
        Ok(Incoming {
            path,
            file,
            length: 0,
        })
    }

    fn discard(&self, incoming: &Incoming) {
        // What stays is deleted by the next opening.
        let _ = self.medium.remove(&incoming.path);
    }

    /// Makes a written file durable and gives it its name.
    fn keep(&self, incoming: &mut Incoming, tail: &[Bytes], key: &InstanceKey) -> io::Result<Locator> {
        incoming.append(tail)?;
        incoming.file.sync_data()?;
        let directory = path::directory(key);
        self.medium.create_directory(&directory)?;
        let path = self.take_name(incoming, &directory, key)?;
        // The name must be durable as well. If that can't be said, it is taken back.
        if let Err(error) = self.medium.sync_directory(&directory) {
            let _ = self.medium.remove(&path);
            return Err(error);
        }
        path::to_locator(&path).ok_or_else(|| io::ErrorKind::InvalidFilename.into())
    }

    fn take_name(&self, incoming: &Incoming, directory: &Path, key: &InstanceKey) -> io::Result<PathBuf> {
        let _naming = self.naming.lock().unwrap_or_else(PoisonError::into_inner);
        for version in 1.. {
            let name = match self.options.sealed {
                true => path::sealed_name(key, version),
                false => path::name(key, version),
            };
            let path = directory.join(name);
            match self.medium.open(&path) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.medium.rename(&incoming.path, &path)?;
                    return Ok(path);
                }
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

impl ArchiveWriter for Writer {
    fn write(&mut self, chunk: Bytes) -> BoxFuture<'_, Result<()>> {
        async move {
            if self.failed {
                let why = "an earlier write of this instance failed";
                return Err(Error::new(ErrorKind::Invalid, "archive.write", why));
            }
            let result = self.push(chunk).await;
            self.failed |= result.is_err();
            result
        }
        .boxed()
    }

    fn commit(mut self: Box<Self>, key: InstanceKey) -> BoxFuture<'static, Result<Stored>> {
        async move {
            if self.failed {
                let why = "an earlier write of this instance failed";
                return Err(Error::new(ErrorKind::Invalid, "archive.commit", why));
            }
            let folder = Arc::clone(&self.folder);
            let tail = std::mem::take(&mut self.gathered);
            let (incoming, writing) = (self.incoming.take(), self.writing.take());
            let kept = self.folder.pool.run(move || {
                let mut incoming = match (incoming, writing) {
                    // The piece was submitted before this job, so a thread has it or has finished it.
                    (_, Some(writing)) => {
                        let (incoming, result) = block_on(writing).map_err(|_| closed("archive.commit"))?;
                        if let Err(error) = result {
                            folder.discard(&incoming);
                            return Err(failed(error));
                        }
                        incoming
                    }
                    (Some(incoming), None) => incoming,
                    (None, None) => folder.create_incoming().map_err(failed)?,
                };
                match folder.keep(&mut incoming, &tail, &key) {
                    Ok(locator) => Ok(Stored {
                        locator,
                        length: incoming.length,
                        sequence: folder.next_sequence(),
                        received: Timestamp::now(),
                    }),
                    Err(error) => {
                        folder.discard(&incoming);
                        Err(failed(error))
                    }
                }
            });
            kept.await.map_err(|_| closed("archive.commit"))?
        }
        .boxed()
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        // Drop does it.
        async move {
            drop(self);
            Ok(())
        }
        .boxed()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let folder = Arc::clone(&self.folder);
        let mut incoming = self.incoming.take();
        if let Some(mut writing) = self.writing.take() {
            // The thread finds nobody who waits, or has answered already.
            writing.close();
            if let Ok(Some((written, _))) = writing.try_recv() {
                incoming = Some(written);
            }
        }
        if let Some(incoming) = incoming {
            self.folder.pool.spawn(move || folder.discard(&incoming));
        }
    }
}
