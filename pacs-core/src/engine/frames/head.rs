//! What stands before the pixel data of a kept instance.

use dicom_core::Tag;
use futures::TryStreamExt;

use super::outgoing;
use crate::archive::Archive;
use crate::dataset::DataSet;
use crate::dataset::scan::{PixelData, Scanner};
use crate::engine::coerce;
use crate::error::Result;
use crate::index::InstanceRecord;

/// What is read first: most headers are shorter.
const FIRST_LENGTH_BYTES: u64 = 64 * 1024;

/// See the module's text.
pub(super) struct Head {
    pub(super) header: DataSet,
    pub(super) pixel_data: Option<PixelData>,
}

/// Reads as far as the pixel data: a little, then four times as much as long as it has not come.
pub(super) async fn read(archive: &dyn Archive, record: &InstanceRecord) -> Result<Head> {
    let end = record.length.saturating_sub(record.data_set_offset);
    let mut scanner = Scanner::new(&record.transfer_syntax);
    let mut length = FIRST_LENGTH_BYTES;
    while scanner.length() < end && scanner.at_pixel_data().is_none() {
        let from = scanner.length();
        let to = from.saturating_add(length).min(end);
        let mut pieces = outgoing::data_set_range(archive, record, from..to);
        while scanner.at_pixel_data().is_none()
            && let Some(piece) = pieces.try_next().await?
        {
            scanner.push(&piece)?;
        }
        length *= 4;
    }
    let mut header = scanner.header_so_far();
    if let Some(coerced) = &record.coerced {
        header = coerce::applied(header, coerced);
    }
    // The groups of the pixel data describe fragments.
    header.retain(|element| element.tag < Tag(0x7FE0, 0));
    Ok(Head {
        header,
        pixel_data: scanner.at_pixel_data(),
    })
}
