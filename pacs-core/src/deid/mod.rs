//! De-identification by PS3.15 annex E: [`Deidentifier`]; [`Pacs::deidentified`](crate::Pacs::deidentified) hands out
//! instances so.
//!
//! What is done to each attribute is data: Table E.1-1 in `table.txt`, by the options of a [`Profile`]. What differs
//! from one project to the next comes from the [`Project`]: pseudonyms of patients, UIDs, and by how many days dates go
//! back. The same instance always becomes the same, and references from one instance to another still lead there.
//!
//! Where the table leaves a choice to the Type of an attribute in its IOD (X/Z, X/D, Z/D, X/Z/D) the Type is not looked
//! up. What is done then is valid for every one: a dummy where one may be needed, else no value. Of X/Z/U* the items
//! stay, with other UIDs. An attribute that came without a value stays without one, or is left out.
//!
//! What is done beyond the table:
//! - Patient ID and Patient's Name become the patient's pseudonym.
//! - What the table doesn't name stays, but: names of persons, dates and times become dummies, UIDs other UIDs unless
//!   they name a class of things; Text Value (0040,A160) and Unformatted Text Value (0070,0006) become dummies. In
//!   text that stays the identifying values of the same instance are replaced by `***`.
//! - What the dictionary doesn't know is left out, and so is what stands as UN that isn't text, a number or bytes by
//!   it. Private attributes are left out unless they are safe and the profile retains those.
//! - Of an overlay all is left out, as its data is.
//! - The content of a report and graphic annotations become one dummy, unless the profile cleans them.
//! - What stands behind the pixel data is left out, preamble and File Meta Information are made anew.
//! - A data set in Explicit VR Big Endian or deflated leaves in Explicit VR Little Endian; so does one whose compressed
//!   pixels are blanked.
//!
//! - What stands in group 0010 and is newer than the table is left out, and so are diagnoses in codes and URLs.
//!
//! What is not done: nothing looks for faces, into comments within compressed frames, or for text in pixels; and what names somebody in free text in other
//! words than the attributes do stays in it, where descriptors are cleaned and not removed.

mod dates;
mod dummy;
mod header;
mod known;
mod pixels;
mod profile;
mod project;
mod stream;
mod table;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use dicom_core::Tag;
use dicom_dictionary_std::{tags, uids};
use futures::StreamExt;
use futures::stream::BoxStream;

pub use self::profile::{BurnedIn, Dates, Documents, Profile, Rectangle, Region, SafePrivate, Settings};
pub use self::project::Project;
pub(crate) use self::stream::Head;
use crate::dataset::DataSet;
use crate::dataset::part10::{self, Meta};
use crate::error::{Error, ErrorKind, Result};
use crate::uid::{InstanceKey, Uid};

/// De-identifies instances by a [`Profile`] within a [`Project`]. Clones are the same.
#[derive(Clone)]
pub struct Deidentifier {
    profile: Arc<Profile>,
    project: Project,
}

/// An instance that is de-identified as it is read.
pub struct Deidentified {
    /// Study, series and instance, by their other UIDs.
    pub key: InstanceKey,
    /// The patient's pseudonym; empty where the instance has no Patient ID.
    pub patient: String,
    /// SOP Class UID (0008,0016).
    pub sop_class: Uid,
    /// The transfer syntax of the data set: that which is stored, or Explicit VR Little Endian.
    pub transfer_syntax: Uid,
    /// The data set, in pieces of bounded size. An error in it is the end of it.
    pub data_set: BoxStream<'static, Result<Bytes>>,
}

impl Deidentified {
    /// The whole Part 10 stream: a preamble of zeros and a File Meta Information of our own stand in front.
    pub fn into_file(self) -> BoxStream<'static, Result<Bytes>> {
        let meta = Meta::new(self.sop_class, self.key.instance, self.transfer_syntax);
        let meta = part10::write_meta(&meta);
        futures::stream::iter([Ok(meta)]).chain(self.data_set).boxed()
    }
}

impl fmt::Debug for Deidentified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deidentified")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Deidentifier {
    /// By this profile, within this project.
    pub fn new(profile: Profile, project: Project) -> Self {
        let profile = Arc::new(profile);
        Self { profile, project }
    }

    /// The profile.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// What stands for an instance, its series and study.
    ///
    /// # Errors
    /// None but of our own making.
    pub fn key(&self, key: &InstanceKey) -> Result<InstanceKey> {
        if self.profile.retain_uids {
            return Ok(*key);
        }
        let other = |uid: &Uid| Uid::parse(&self.project.uid(uid));
        Ok(InstanceKey {
            study: other(&key.study)?,
            series: other(&key.series)?,
            instance: other(&key.instance)?,
        })
    }

    /// What is to be blanked of an instance with this header.
    ///
    /// # Errors
    /// `Refused` when it may have annotations burned in, or is a document, and the profile refuses that.
    pub(crate) fn admit(&self, head: &Head) -> Result<Vec<Rectangle>> {
        let header = head.header();
        let refused =
            |why: &'static str, tag| Err(Error::new(ErrorKind::Refused, "deid.admit", why).with_tag(tag));
        let document = tags::ENCAPSULATED_DOCUMENT;
        if self.profile.documents == Documents::Refuse
            && (head.lacks(document) || header.get(document).is_some_and(|document| !document.is_empty()))
        {
            return refused("an encapsulated document can't be de-identified", document);
        }
        if header.contains(tags::PIXEL_DATA_PROVIDER_URL) {
            return refused(
                "the pixels are elsewhere, as they are",
                tags::PIXEL_DATA_PROVIDER_URL,
            );
        }
        if !head.has_pixels() {
            return Ok(Vec::new());
        }
        if self.profile.burned_in == BurnedIn::Refuse
            && let Some(tag) = overlay_in_pixels(head)
        {
            return refused(
                "an overlay stands in bits of the pixel data, and burned-in is \"refuse\"",
                tag,
            );
        }
        match self.profile.rectangles(header) {
            Some(rectangles) => Ok(rectangles),
            None if self.profile.burned_in == BurnedIn::Refuse && may_be_burned_in(header) => refused(
                "the image may have annotations burned in: no entry of regions says where, and burned-in is \"refuse\"",
                tags::BURNED_IN_ANNOTATION,
            ),
            None => Ok(Vec::new()),
        }
    }
}

/// Its secret is one.
impl fmt::Debug for Deidentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deidentifier")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

/// See [`BurnedIn`].
fn may_be_burned_in(header: &DataSet) -> bool {
    const PRONE: [&str; 9] = [
        uids::ULTRASOUND_IMAGE_STORAGE,
        uids::ULTRASOUND_MULTI_FRAME_IMAGE_STORAGE,
        // The retired ones of both.
        "1.2.840.10008.5.1.4.1.1.6",
        "1.2.840.10008.5.1.4.1.1.3",
        uids::SECONDARY_CAPTURE_IMAGE_STORAGE,
        uids::MULTI_FRAME_SINGLE_BIT_SECONDARY_CAPTURE_IMAGE_STORAGE,
        uids::MULTI_FRAME_GRAYSCALE_BYTE_SECONDARY_CAPTURE_IMAGE_STORAGE,
        uids::MULTI_FRAME_GRAYSCALE_WORD_SECONDARY_CAPTURE_IMAGE_STORAGE,
        uids::MULTI_FRAME_TRUE_COLOR_SECONDARY_CAPTURE_IMAGE_STORAGE,
    ];
    const PRONE_MODALITIES: [&str; 5] = ["US", "IVUS", "OT", "ES", "XC"];
    let text = |tag| header.string(tag).unwrap_or_default().trim();
    let burned_in = text(tags::BURNED_IN_ANNOTATION);
    if burned_in.eq_ignore_ascii_case("NO") {
        return false;
    }
    let is_screen = |value: &str| {
        let value = value.to_ascii_uppercase();
        value.contains("SCREEN") || value.contains("SAVE")
    };
    burned_in.eq_ignore_ascii_case("YES")
        || PRONE.contains(&text(tags::SOP_CLASS_UID))
        || PRONE_MODALITIES.contains(&text(tags::MODALITY))
        || !text(tags::CONVERSION_TYPE).is_empty()
        || header
            .get(tags::IMAGE_TYPE)
            .is_some_and(|image_type| image_type.strings().any(is_screen))
}

/// The position of an overlay that has no data of its own, but unused bits of the pixel data (retired, PS3.5 8.1.2).
fn overlay_in_pixels(head: &Head) -> Option<Tag> {
    let header = head.header();
    let groups = (0x6000..=0x60FE).step_by(2);
    let mut positions = groups.map(|group| Tag(group, 0x0102)).filter(|position| {
        let data = Tag(position.0, 0x3000);
        !header.contains(data) && !head.lacks(data)
    });
    positions.find(|position| header.u16(*position).is_some_and(|bit| bit > 0))
}
