//! [`Reader`]: records one after the other, for those who send or show them.

use std::sync::{Arc, Mutex, PoisonError};

use pacs_core::Result;
use pacs_core::audit::Recorded;

use super::failed;
use super::record::{FILE_HEADER_BYTES, Frame};
use super::walk::LogFile;
use crate::medium::{Medium, MediumFile};

pub(super) struct Reader {
    medium: Arc<dyn Medium>,
    /// Where the last reading ended, so that the next one needn't look for its place.
    place: Mutex<Option<Place>>,
}

struct Place {
    /// Number of the last record that was read.
    after: u64,
    file: Arc<dyn MediumFile>,
    /// Number of the file.
    number: u64,
    at: u64,
}

impl Reader {
    pub(super) fn new(medium: Arc<dyn Medium>) -> Self {
        Self {
            medium,
            place: Mutex::new(None),
        }
    }

    /// Up to `count` records behind `after`, and none behind `last`. What is damaged is passed over.
    pub(super) fn read(&self, after: u64, last: u64, count: usize) -> Result<Vec<Recorded>> {
        let io = |error| failed("audit.read", error);
        let mut kept = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let mut place = match kept.take().filter(|place| place.after == after) {
            Some(place) => place,
            None => match self.place_of(after).map_err(io)? {
                Some(place) => place,
                None => return Ok(Vec::new()),
            },
        };
        let mut records = Vec::new();
        let mut length = place.file.length().map_err(io)?;
        while records.len() < count && place.after < last {
            let frame = match Frame::read(&*place.file, place.at, length).map_err(io)? {
                Some(frame) => Some(frame),
                None => Frame::find(&*place.file, place.at, length).map_err(io)?,
            };
            match frame {
                Some(frame) if frame.head.sequence > last => break,
                Some(frame) => {
                    if frame.start > place.at {
                        tracing::error!(
                            before = frame.head.sequence,
                            "the log of audit is damaged, and what can't be read is passed over"
                        );
                    }
                    place.at = frame.end;
                    if frame.head.sequence > place.after {
                        place.after = frame.head.sequence;
                        records.push(Recorded {
                            sequence: frame.head.sequence,
                            time: frame.time,
                            document: frame.document,
                        });
                    }
                }
                None => match self.next_file(place.number).map_err(io)? {
                    Some((number, file)) => {
                        length = file.length().map_err(io)?;
                        place.number = number;
                        place.file = file;
                        place.at = FILE_HEADER_BYTES;
                    }
                    None => break,
                },
            }
        }
        *kept = Some(place);
        Ok(records)
    }

    /// The beginning of the file that the record behind `after` should stand in.
    fn place_of(&self, after: u64) -> std::io::Result<Option<Place>> {
        let files = LogFile::all(&*self.medium)?;
        let before = files.iter().rfind(|file| file.number <= after.saturating_add(1));
        let Some(named) = before.or_else(|| files.first()) else {
            return Ok(None);
        };
        Ok(Some(Place {
            after,
            file: self.medium.open(&named.path)?,
            number: named.number,
            at: FILE_HEADER_BYTES,
        }))
    }

    fn next_file(&self, number: u64) -> std::io::Result<Option<(u64, Arc<dyn MediumFile>)>> {
        let files = LogFile::all(&*self.medium)?;
        let Some(named) = files.iter().find(|file| file.number > number) else {
            return Ok(None);
        };
        Ok(Some((named.number, self.medium.open(&named.path)?)))
    }
}
