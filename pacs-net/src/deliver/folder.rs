//! [`ToFolder`]: instances into a folder.

use std::path::{Path, PathBuf};

use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use pacs_core::route::{Line, Waiting};
use pacs_core::{Error, InstanceRecord, Pacs, Result};
use tokio::io::AsyncWriteExt as _;

use super::{Destination, Found, Tried, find, in_order};

/// Writes each instance into a file, `STUDY/SERIES/INSTANCE.dcm` by their UIDs. A file is there whole or not at all.
#[derive(Clone, Debug)]
pub struct ToFolder {
    pacs: Pacs,
    directory: PathBuf,
}

impl ToFolder {
    /// Into this directory, which is made when the first instance comes.
    pub fn new(pacs: Pacs, directory: PathBuf) -> Self {
        Self { pacs, directory }
    }

    async fn write(&self, record: &InstanceRecord) -> Result<()> {
        let key = record.key;
        let directory = self.directory.join(key.study.as_str()).join(key.series.as_str());
        let path = directory.join(format!("{}.dcm", key.instance));
        let unfinished = directory.join(format!(".{}.part", key.instance));
        tokio::fs::create_dir_all(&directory).await.map_err(failed)?;
        let written = self.write_to(&unfinished, record).await;
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

    async fn write_to(&self, path: &Path, record: &InstanceRecord) -> Result<()> {
        let mut file = tokio::fs::File::create(path).await.map_err(failed)?;
        let mut pieces = self.pacs.outgoing_file(record);
        while let Some(piece) = pieces.try_next().await? {
            file.write_all(&piece).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        file.sync_all().await.map_err(failed)
    }
}

fn failed(error: std::io::Error) -> Error {
    let what = format!("the folder can't be written: {}", error.kind());
    Error::io("deliver.folder", what, error)
}

impl Destination for ToFolder {
    fn deliver<'a>(&'a self, _: &'a Line, batch: Vec<Waiting>) -> BoxStream<'a, (Waiting, Tried)> {
        let each = stream::iter(batch).then(move |waiting| async move {
            let record = match find(&self.pacs, &waiting).await {
                Found::Instance(record) => record,
                Found::Nothing(tried) => return (waiting, tried),
            };
            let tried = match self.write(&record).await {
                Ok(()) => Tried::Delivered(String::new()),
                Err(error) if error.operation() == "deliver.folder" => {
                    Tried::Away(error.context().to_owned())
                }
                Err(error) => Tried::Failed(error.to_string()),
            };
            (waiting, tried)
        });
        in_order(each).boxed()
    }
}
