//! Elements of a header and bulk data, in the order of a data set.

use std::iter::Peekable;
use std::slice::Iter;

use dicom_core::Tag;

use crate::dataset::metadata::{BulkValue, ElementPath};
use crate::dataset::model::{DataSet, Element};

/// What comes next in a data set.
pub(in crate::dataset) enum Entry<'a> {
    Held(&'a Element),
    Bulk(&'a BulkValue),
}

/// The bulk data that is yet to come, and the item that is being walked.
pub(in crate::dataset) struct Merge<'a> {
    bulk: &'a [BulkValue],
    within: ElementPath,
}

impl<'a> Merge<'a> {
    /// `bulk` in order of path.
    pub(in crate::dataset) fn new(bulk: &'a [BulkValue]) -> Self {
        Self {
            bulk,
            within: ElementPath::default(),
        }
    }

    pub(in crate::dataset) fn elements(set: &'a DataSet) -> Peekable<Iter<'a, Element>> {
        set.iter().peekable()
    }

    /// Goes into an item of a sequence that was just yielded; `number` counts from 1.
    pub(in crate::dataset) fn enter(&mut self, sequence: Tag, number: usize) {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        self.within.enter(sequence, number);
    }

    /// Goes out of it.
    pub(in crate::dataset) fn leave(&mut self) {
        self.within.leave();
    }

    /// The next of the elements, or of the bulk data beside them. Of what both have, the element counts.
    pub(in crate::dataset) fn next(
        &mut self,
        elements: &mut Peekable<Iter<'a, Element>>,
    ) -> Option<Entry<'a>> {
        let tag = elements.peek().map(|element| element.tag);
        while let Some((first, rest)) = self.bulk.split_first()
            && let Some(is_here) = first.path.is_below(&self.within)
        {
            let at = first.path.tag_below(&self.within);
            if tag.is_some_and(|tag| tag < at || tag == at && !is_here) {
                break;
            }
            self.bulk = rest;
            if is_here && tag != Some(at) {
                return Some(Entry::Bulk(first));
            }
        }
        elements.next().map(Entry::Held)
    }
}
