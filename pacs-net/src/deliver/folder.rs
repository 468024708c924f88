//! [`ToFolder`]: instances into a folder.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use pacs_core::audit::{Media, file_uri};
use pacs_core::deid::Deidentifier;
use pacs_core::route::{Line, Waiting};
use pacs_core::{Error, InstanceRecord, Pacs, Result, Retry, Uid};
use tokio::io::AsyncWriteExt as _;

use super::{Destination, Found, Recipient, Tried, find, in_order};

/// Writes each instance into a file, `STUDY/SERIES/INSTANCE.dcm` by their UIDs. A file is there whole or not at all.
/// What a UID is not, but some peer sent as one, begins with `_` where it began with a dot.
#[derive(Clone, Debug)]
pub struct ToFolder {
    pacs: Pacs,
    directory: PathBuf,
    deidentifier: Option<Deidentifier>,
}

impl ToFolder {
    /// Into this directory, which is made when the first instance comes.
    pub fn new(pacs: Pacs, directory: PathBuf) -> Self {
        Self {
            pacs,
            directory,
            deidentifier: None,
        }
    }

    /// The same, de-identified: names of files are those of the other UIDs.
    #[must_use]
    pub fn deidentifying(mut self, by: Option<Deidentifier>) -> Self {
        self.deidentifier = by;
        self
    }

    async fn write(&self, record: &InstanceRecord) -> Result<()> {
        let (key, pieces) = match &self.deidentifier {
            None => (record.key, self.pacs.outgoing_file(record)),
            Some(by) => {
                let made = self.pacs.deidentified(record, by).await?;
                (made.key, made.into_file())
            }
        };
        let [study, series, instance] = [key.study, key.series, key.instance].map(|uid| uid.file_name());
        let directory = self.directory.join(study).join(series);
        let path = directory.join(format!("{instance}.dcm"));
        // Others may write into the same folder.
        let unfinished = directory.join(format!(".{instance}.{}.part", Uid::random()));
        tokio::fs::create_dir_all(&directory).await.map_err(failed)?;
        let written = write_to(&unfinished, pieces).await;
        let written = match written {
            Ok(()) => tokio::fs::rename(&unfinished, &path).await.map_err(failed),
            Err(error) => Err(error),
        };
        if written.is_err() {
            // Nothing is lost with it, and there may have been none.
            let _ = tokio::fs::remove_file(&unfinished).await;
        }
        written?;
        // The names above it too: they may be new.
        let above = directory.ancestors().take(3);
        for directory in above {
            let opened = tokio::fs::File::open(directory).await.map_err(failed)?;
            opened.sync_all().await.map_err(failed)?;
        }
        Ok(())
    }

    /// Whether it is the folder itself that can't be written into, or has no room.
    async fn is_away(&self, error: &Error) -> bool {
        if error.operation() != "deliver.folder" {
            return false;
        }
        let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
        let kind = cause.map(io::Error::kind);
        let probe = self.directory.join(format!(".{}.part", Uid::random()));
        let is_full = matches!(
            kind,
            Some(
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem
            )
        );
        is_full
            || tokio::fs::File::create(&probe).await.is_err()
            || tokio::fs::remove_file(&probe).await.is_err()
    }
}

async fn write_to(path: &Path, mut pieces: BoxStream<'static, Result<Bytes>>) -> Result<()> {
    let mut file = tokio::fs::File::create(path).await.map_err(failed)?;
    while let Some(piece) = pieces.try_next().await? {
        file.write_all(&piece).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    file.sync_all().await.map_err(failed)
}

fn failed(error: io::Error) -> Error {
    let what = format!("the folder can't be written: {}", error.kind());
    Error::io("deliver.folder", what, error)
}

/// What it means where others could be written.
fn not_written(error: &Error) -> Tried {
    match error.operation() == "deliver.folder" || error.retry() == Retry::Later {
        true => Tried::Broken(error.to_string()),
        // It can't leave as it is to, or is damaged: the same another time.
        false => Tried::Refused(error.context().to_owned()),
    }
}

impl Destination for ToFolder {
    fn recipient(&self) -> Recipient {
        Recipient::Media(Media::uri(file_uri(&self.directory)))
    }

    fn deidentifies(&self) -> bool {
        self.deidentifier.is_some()
    }

    fn deliver<'a>(&'a self, _: &'a Line, batch: Vec<Waiting>) -> BoxStream<'a, (Waiting, Tried)> {
        let each = stream::iter(batch).then(move |waiting| async move {
            let record = match find(&self.pacs, &waiting).await {
                Found::Instance(record) => record,
                Found::Nothing(tried) => return (waiting, tried),
            };
            let tried = match self.write(&record).await {
                Ok(()) => Tried::Delivered(String::new()),
                // Nothing can be written now, whatever it is.
                Err(error) if self.is_away(&error).await => Tried::Away(error.context().to_owned()),
                Err(error) => not_written(&error),
            };
            (waiting, tried)
        });
        in_order(each).boxed()
    }
}

#[cfg(test)]
mod tests {
    use pacs_core::ErrorKind;

    use super::*;

    #[test]
    fn what_can_not_leave_is_refused_and_what_may_pass_is_tried_again() {
        let deflated = Error::new(ErrorKind::Unsupported, "data_set.splice", "deflated");
        assert_eq!(not_written(&deflated), Tried::Refused("deflated".to_owned()));
        let failed = failed(io::Error::from(io::ErrorKind::PermissionDenied));
        assert!(matches!(not_written(&failed), Tried::Broken(_)));
        let busy = Error::new(ErrorKind::Io, "archive.read", "the medium failed").with_retry(Retry::Later);
        assert!(matches!(not_written(&busy), Tried::Broken(_)));
    }
}
