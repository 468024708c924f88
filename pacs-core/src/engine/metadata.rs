//! Interim.
#![allow(missing_docs)]
use std::ops::Range;
use std::sync::Arc;

use super::Pacs;
use crate::dataset::metadata::{BulkValue, Metadata, MetadataScanner};
use crate::error::Result;
use crate::index::{InstanceRecord, Scope};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
impl Pacs {
    pub async fn metadata(&self, record: &InstanceRecord) -> Result<Arc<Metadata>> {
        let mut scanner = MetadataScanner::new(&record.transfer_syntax);
        let mut pieces = self.outgoing_data_set(record);
        while let Some(piece) = pieces.try_next().await? {
            scanner.push(&piece)?;
        }
        Ok(Arc::new(scanner.finish()?))
    }
    pub fn metadata_in(&self, scope: Scope) -> BoxStream<'static, Result<(InstanceRecord, Arc<Metadata>)>> {
        let pacs = self.clone();
        self.instances(scope)
            .and_then(move |record| {
                let pacs = pacs.clone();
                async move {
                    let metadata = pacs.metadata(&record).await?;
                    Ok((record, metadata))
                }
            })
            .boxed()
    }
    pub fn read_bulk(
        &self,
        record: &InstanceRecord,
        value: &BulkValue,
        range: Range<u64>,
    ) -> BoxStream<'static, Result<Bytes>> {
        let start = record.data_set_offset + value.offset;
        self.inner
            .archive
            .read(&record.locator, start + range.start..start + range.end)
    }
}
