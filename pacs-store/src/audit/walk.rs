//! Through the files of a log, record by record, and what is not as it was written.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::record::{AuditHead, FILE_HEADER, FILE_HEADER_BYTES, Frame, Hash};
use crate::medium::{Medium, MediumFile, read_exact_at};

/// What a name of a file of the log ends with.
const ENDING: &str = ".audit";

/// A file of the log.
pub(super) struct LogFile {
    /// The number of its first record.
    pub(super) number: u64,
    pub(super) path: PathBuf,
}

impl LogFile {
    pub(super) fn new(number: u64) -> Self {
        Self {
            number,
            path: PathBuf::from(format!("{number:020}{ENDING}")),
        }
    }

    /// All there are, in their order.
    pub(super) fn all(medium: &dyn Medium) -> io::Result<Vec<Self>> {
        let mut files = Vec::new();
        for entry in medium.list(Path::new(""))? {
            let name = entry.name.to_str().and_then(|name| name.strip_suffix(ENDING));
            if let Some(number) = name.and_then(|digits| digits.parse().ok())
                && Self::new(number).path == Path::new(&entry.name)
            {
                files.push(Self::new(number));
            }
        }
        files.sort_by_key(|file| file.number);
        Ok(files)
    }
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// These records are not what was written; without a last one nothing more can be read up to the end of their file.
    Changed {
        /// Number of the first.
        first: u64,
        /// Number of the last.
        last: Option<u64>,
    },
    /// There are bytes before this record that belong to none.
    Inserted {
        /// Number of the record.
        before: u64,
    },
    /// These records are gone.
    Missing {
        /// Number of the first.
        first: u64,
        /// Number of the last.
        last: u64,
    },
    /// This record stands where another belongs.
    OutOfPlace {
        /// Its number.
        sequence: u64,
    },
    /// This record doesn't follow the one before: one of them took the place of another.
    Unchained {
        /// Its number.
        sequence: u64,
    },
    /// A file of the log doesn't begin as such files do.
    FileHeader {
        /// Its name.
        file: String,
    },
    /// A file of the log is named by another record than its first.
    FileName {
        /// Its name.
        file: String,
    },
    /// The log ends before a record that was acknowledged.
    Cut {
        /// Number of its last record.
        last: u64,
        /// Number of the last that was acknowledged.
        acknowledged: u64,
    },
    /// This record is another than the one with which the head was made.
    OtherHead {
        /// Its number.
        sequence: u64,
    },
    /// The file that keeps the head is missing or damaged.
    HeadFile,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { first, last: None } => write!(
                f,
                "record {first}: not what was written, nor anything behind it in its file"
            ),
            Self::Changed {
                first,
                last: Some(last),
            } => records(f, *first, *last, "not what was written"),
            Self::Inserted { before } => write!(f, "record {before}: bytes of no record stand before it"),
            Self::Missing { first, last } => records(f, *first, *last, "missing"),
            Self::OutOfPlace { sequence } => write!(f, "record {sequence}: not in its place"),
            Self::Unchained { sequence } => write!(
                f,
                "record {sequence}: does not follow record {}, one of both was replaced",
                sequence.saturating_sub(1)
            ),
            Self::FileHeader { file } => write!(f, "{file}: its beginning is not what was written"),
            Self::FileName { file } => write!(f, "{file}: named by another record than its first"),
            Self::Cut { last, acknowledged } => records(
                f,
                last + 1,
                *acknowledged,
                "cut off at the end, though acknowledged",
            ),
            Self::OtherHead { sequence } => {
                write!(
                    f,
                    "record {sequence}: another than the head says, all up to it may have been replaced"
                )
            }
            Self::HeadFile => {
                f.write_str("head: the file that says where the log ends is missing or damaged")
            }
        }
    }
}

fn records(f: &mut fmt::Formatter<'_>, first: u64, last: u64, what: &str) -> fmt::Result {
    match first == last {
        true => write!(f, "record {first}: {what}"),
        false => write!(f, "records {first} to {last}: {what}"),
    }
}

/// Findings that are named; the rest is counted.
pub(super) const FINDINGS_MAX: usize = 1000;

/// A walk, and how far it has come.
pub(super) struct Walk {
    /// What was acknowledged by the head.
    pub(super) acknowledged: u64,
    /// Number of the record that should come next.
    pub(super) expected: u64,
    /// Hash of the record before, where it is known.
    pub(super) previous: Option<Hash>,
    /// The last record that was in its place.
    pub(super) last: Option<AuditHead>,
    /// Heads that records are held against.
    pub(super) heads: Vec<AuditHead>,
    /// That records are gone here was said already.
    pub(super) is_told: bool,
    /// And up to which is not known yet.
    is_open: bool,
    /// Where in the file that was last gone through the first record stands that was not acknowledged.
    pub(super) unacknowledged_at: Option<u64>,
    pub(super) records: u64,
    pub(super) findings: Vec<Finding>,
    pub(super) findings_count: u64,
}

/// How a file ends.
pub(super) enum FileEnd {
    /// With a record, or in damage that was found.
    Here(u64),
    /// With what was being written when the process or the machine died, and was never acknowledged.
    Torn { at: u64, bytes: u64 },
}

impl Walk {
    /// From behind this record.
    pub(super) fn new(acknowledged: u64, expected: u64, previous: Option<Hash>) -> Self {
        Self {
            acknowledged,
            expected,
            previous,
            last: None,
            heads: Vec::new(),
            is_told: false,
            is_open: false,
            unacknowledged_at: None,
            records: 0,
            findings: Vec::new(),
            findings_count: 0,
        }
    }

    pub(super) fn find(&mut self, finding: Finding) {
        self.findings_count += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }

    /// Goes through a file. Only the last one may have a torn end.
    pub(super) fn file(
        &mut self,
        file: &dyn MediumFile,
        named: &LogFile,
        is_last: bool,
    ) -> io::Result<FileEnd> {
        self.unacknowledged_at = None;
        let length = file.length()?;
        let mut header = Vec::new();
        let header_length = FILE_HEADER_BYTES.min(length);
        read_exact_at(file, &mut header, header_length as usize, 0)?;
        if header != FILE_HEADER {
            let is_empty = Frame::find(file, 0, length)?.is_none();
            if is_last && is_empty && self.is_unacknowledged() {
                return Ok(FileEnd::Torn { at: 0, bytes: length });
            }
            self.find(Finding::FileHeader {
                file: named.path.display().to_string(),
            });
        }
        let mut is_first = true;
        let mut at = header_length;
        while at < length {
            let frame = match Frame::read(file, at, length)? {
                Some(frame) => frame,
                None => {
                    let found = Frame::find(file, at + 1, length)?;
                    if is_last
                        && self.is_unacknowledged()
                        && self.is_unsettled(file, found.as_ref(), length)?
                    {
                        return Ok(FileEnd::Torn {
                            at,
                            bytes: length - at,
                        });
                    }
                    let Some(frame) = found else {
                        if !self.is_told {
                            self.find(Finding::Changed {
                                first: self.expected,
                                last: None,
                            });
                        }
                        self.is_told = true;
                        self.is_open = true;
                        self.previous = None;
                        return Ok(FileEnd::Here(length));
                    };
                    self.skipped_to(&frame);
                    frame
                }
            };
            if is_first && frame.head.sequence != named.number {
                self.find(Finding::FileName {
                    file: named.path.display().to_string(),
                });
            }
            is_first = false;
            at = frame.end;
            self.record(&frame);
        }
        Ok(FileEnd::Here(length))
    }

    /// Whether what comes next was never acknowledged.
    fn is_unacknowledged(&self) -> bool {
        self.expected > self.acknowledged
    }

    /// Whether no whole record from here on says that the one which should come next was on stable storage.
    fn is_unsettled(&self, file: &dyn MediumFile, found: Option<&Frame>, length: u64) -> io::Result<bool> {
        let Some(found) = found else {
            return Ok(true);
        };
        let (mut settled, mut at) = (found.settled, found.end);
        while settled < self.expected {
            match Frame::find(file, at, length)? {
                Some(frame) => (settled, at) = (frame.settled, frame.end),
                None => return Ok(true),
            }
        }
        Ok(false)
    }

    /// What stands before this record, behind the last one, is none.
    fn skipped_to(&mut self, frame: &Frame) {
        let sequence = frame.head.sequence;
        if sequence > self.expected {
            if !self.is_told {
                self.find(Finding::Changed {
                    first: self.expected,
                    last: Some(sequence - 1),
                });
            }
            self.is_told = true;
            self.previous = None;
        } else {
            self.find(Finding::Inserted { before: sequence });
        }
    }

    fn record(&mut self, frame: &Frame) {
        self.records += 1;
        let sequence = frame.head.sequence;
        if sequence > self.acknowledged && self.unacknowledged_at.is_none() {
            self.unacknowledged_at = Some(frame.start);
        }
        if sequence < self.expected {
            self.find(Finding::OutOfPlace { sequence });
            return;
        }
        if sequence > self.expected {
            if !self.is_told {
                self.find(Finding::Missing {
                    first: self.expected,
                    last: sequence - 1,
                });
            }
            self.close_gap(sequence - 1);
        } else if self.previous.is_some_and(|previous| previous != frame.previous) {
            self.find(Finding::Unchained { sequence });
        }
        if self
            .heads
            .iter()
            .any(|head| head.sequence == sequence && *head != frame.head)
        {
            self.find(Finding::OtherHead { sequence });
        }
        (self.is_told, self.is_open) = (false, false);
        self.expected = sequence + 1;
        self.previous = Some(frame.head.hash);
        self.last = Some(frame.head);
    }

    /// The records up to this one are those that could not be read.
    fn close_gap(&mut self, until: u64) {
        let open = self.findings.iter_mut().rev().find_map(|finding| match finding {
            Finding::Changed {
                last: last @ None, ..
            } => Some(last),
            _ => None,
        });
        if self.is_open
            && let Some(last) = open
        {
            *last = Some(until);
        }
    }

    /// Holds the end against the heads.
    pub(super) fn end(&mut self) {
        let acknowledged = self.heads.iter().map(|head| head.sequence).max().unwrap_or(0);
        if acknowledged >= self.expected {
            self.close_gap(acknowledged);
        }
        if acknowledged >= self.expected && !self.is_told {
            self.find(Finding::Cut {
                last: self.expected - 1,
                acknowledged,
            });
        }
    }
}
