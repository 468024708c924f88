//! Walking secondary entries: ranges of the table, what of them is worth a look at the record, and
//! which studies were found already.

use std::ops::{Bound, ControlFlow};

use pacs_core::error::Result;
use pacs_core::query::{KeyMatch, Pattern, PersonKey};

use super::bound;
use super::keys::{Form, KeyRange, Kind, is_cut, target_of_entry, text_of_entry};
use super::page::Page;
use super::tables::{Table, Tables, number_at_end};

/// Entries for one step of a page.
const ENTRIES_PER_STEP: usize = 32;
/// Entries that are walked before a page ends at the latest.
const ENTRIES_MAX: usize = bound(4_096, 3);

/// Which entries of a range are worth a look at the record. It may let too many pass.
#[derive(Clone)]
pub(super) enum Filter {
    /// All.
    All,
    /// Whose text matches one of these.
    Pattern(Vec<Pattern>),
    /// Whose component group of a name one of these may match.
    Person(Vec<PersonKey>),
}

impl Filter {
    /// Lets pass what either lets pass. `own` is the filter of `wanted`; without one it matches exactly,
    /// by the range alone, and so must let the others pass too.
    pub(super) fn or(self, own: Self, wanted: &KeyMatch) -> Self {
        match (self, own) {
            (Self::Person(mut these), Self::Person(more)) => {
                these.extend(more);
                Self::Person(these)
            }
            (Self::All, Self::Person(more)) if matches!(wanted, KeyMatch::Person(_)) => Self::Person(more),
            _ => Self::All,
        }
    }

    pub(super) fn passes(&self, text: &[u8]) -> bool {
        // What is cut or holds a replaced byte doesn't show the value.
        let whole = || !is_cut(text) && !text.contains(&2);
        let Ok(readable) = std::str::from_utf8(text) else {
            return true;
        };
        match self {
            Self::All => true,
            Self::Pattern(patterns) => !whole() || patterns.iter().any(|one| one.matches(readable)),
            Self::Person(keys) => !whole() || keys.iter().any(|one| one.may_match_group(readable)),
        }
    }
}

/// A set of studies' numbers: a bit for each study there ever was.
#[derive(Default)]
pub(super) struct Numbers(Vec<u64>);

impl Numbers {
    /// Whether it is new.
    pub(super) fn insert(&mut self, number: u32) -> bool {
        let (at, bit) = ((number / 64) as usize, 1 << (number % 64));
        if at >= self.0.len() {
            self.0.resize(at + 1, 0);
        }
        let new = self.0[at] & bit == 0;
        self.0[at] |= bit;
        new
    }

    pub(super) fn contains(&self, number: u32) -> bool {
        let word = self.0.get((number / 64) as usize).copied().unwrap_or_default();
        word & 1 << (number % 64) != 0
    }
}

/// Another key whose studies are gathered first, so that only records which both lead to are read.
pub(super) struct Restriction {
    entries: Box<Entries>,
    numbers: Numbers,
    ready: bool,
}

impl Restriction {
    pub(super) fn new(entries: Entries) -> Self {
        Self {
            entries: Box::new(entries),
            numbers: Numbers::default(),
            ready: false,
        }
    }
}

/// Entries in some ranges of one kind, walked from where the last page ended.
pub(super) struct Entries {
    kind: Kind,
    ranges: Vec<KeyRange>,
    filter: Filter,
    /// The range that is walked.
    at: usize,
    /// The last entry that was seen in it.
    last: Option<Vec<u8>>,
    /// Studies that were found already: one may have several entries.
    found: Numbers,
    /// Only studies with a lower number.
    end: u32,
    pub(super) restriction: Option<Restriction>,
}

impl Entries {
    pub(super) fn new(kind: Kind, mut ranges: Vec<KeyRange>, filter: Filter) -> Self {
        // Ranges that overlap become one, so that no entry is met twice.
        ranges.sort_unstable_by(|a, b| a.from.cmp(&b.from));
        ranges.dedup_by(|later, earlier| {
            let overlap = later.from < earlier.to;
            if overlap && later.to > earlier.to {
                earlier.to = std::mem::take(&mut later.to);
            }
            overlap
        });
        Self {
            kind,
            ranges,
            filter,
            at: 0,
            last: None,
            found: Numbers::default(),
            end: u32::MAX,
            restriction: None,
        }
    }

    /// Only studies that are there now, given the number of the next one: what is stored anew behind a
    /// stream would otherwise be met again.
    pub(super) fn before(mut self, end: u32) -> Self {
        self.end = end;
        self
    }

    /// How many entries there are, up to `max`.
    pub(super) fn probe(&self, tables: &impl Tables, max: usize) -> Result<usize> {
        let mut count = 0;
        for range in &self.ranges {
            tables.range(Table::Keys, keys(range, None), max - count, |_, _| {
                count += 1;
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok(count)
    }

    /// No entry at all.
    pub(super) fn nothing() -> Self {
        Self::new(super::keys::STUDY_KINDS[0], Vec::new(), Filter::All)
    }

    /// Whether every entry of the kind is walked: a pattern without a start.
    pub(super) fn walks_all(&self) -> bool {
        self.ranges.iter().any(|range| range.from.len() <= 1)
    }

    /// Whether what the other would restrict is restricted here already.
    pub(super) fn includes(&self, other: &Self) -> bool {
        self.kind.form == Form::ModalityDate && other.kind.tag == dicom_dictionary_std::tags::STUDY_DATE
    }

    /// Walks on and gives the studies that are found, until `found` answers false or the page is full;
    /// `false` when nothing is left.
    pub(super) fn studies<T>(
        &mut self,
        tables: &impl Tables,
        page: &mut Page<T>,
        mut found: impl FnMut(u32) -> bool,
    ) -> Result<bool> {
        if let Some(restriction) = self.restriction.as_mut().filter(|one| !one.ready) {
            let Restriction {
                entries,
                numbers,
                ready,
            } = restriction;
            let more = entries.walk(tables, page, |entry| {
                if let Some(number) = number_at_end(entry) {
                    numbers.insert(number);
                }
                true
            })?;
            if more {
                return Ok(true);
            }
            *ready = true;
        }
        let end = self.end;
        let mut seen = std::mem::take(&mut self.found);
        let restriction = self.restriction.take();
        let more = self.walk(tables, page, |entry| match number_at_end(entry) {
            Some(number)
                if number < end
                    && restriction
                        .as_ref()
                        .is_none_or(|one| one.numbers.contains(number))
                    && seen.insert(number) =>
            {
                found(number)
            }
            _ => true,
        });
        self.found = seen;
        self.restriction = restriction;
        more
    }

    /// Walks on and gives the patients' keys that are found, each with its entry.
    pub(super) fn patients<T>(
        &mut self,
        tables: &impl Tables,
        page: &mut Page<T>,
        mut found: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<bool> {
        let form = self.kind.form;
        self.walk(tables, page, |entry| found(target_of_entry(entry, form), entry))
    }

    /// Whether an entry would be given.
    pub(super) fn has(&self, entry: &[u8]) -> bool {
        self.ranges.iter().any(|range| range.contains(entry)) && self.passes(entry)
    }

    fn passes(&self, entry: &[u8]) -> bool {
        match self.kind.form {
            Form::Text | Form::Person => self.filter.passes(text_of_entry(entry)),
            Form::Date | Form::ModalityDate => true,
        }
    }

    fn walk<T>(
        &mut self,
        tables: &impl Tables,
        page: &mut Page<T>,
        mut found: impl FnMut(&[u8]) -> bool,
    ) -> Result<bool> {
        let mut walked = 0;
        let mut go_on = true;
        while go_on && let Some(range) = self.ranges.get(self.at) {
            let mut last = None;
            let between = keys(range, self.last.as_deref());
            tables.range(Table::Keys, between, ENTRIES_MAX - walked, |entry, _| {
                walked += 1;
                go_on = !self.passes(entry) || found(entry);
                if !go_on || walked >= ENTRIES_MAX {
                    last = Some(entry.to_vec());
                    go_on = false;
                    return Ok(ControlFlow::Break(()));
                }
                Ok(ControlFlow::Continue(()))
            })?;
            if last.is_none() {
                self.at += 1;
            }
            self.last = last;
        }
        page.steps(walked, ENTRIES_PER_STEP);
        Ok(self.at < self.ranges.len())
    }
}

/// Where the entries of a range are, from after `last` on.
fn keys<'k>(range: &'k KeyRange, last: Option<&'k [u8]>) -> (Bound<&'k [u8]>, Bound<&'k [u8]>) {
    let from = last.map_or(Bound::Included(range.from.as_slice()), Bound::Excluded);
    (from, Bound::Excluded(range.to.as_slice()))
}
