//! Presentation states: how images are to be displayed (PS3.3 A.33, C.11.10, PS3.4 annex N).

mod graphics;
#[cfg(test)]
mod tests;

use std::fmt;

use dicom_core::Tag;
use dicom_dictionary_std::{tags, uids};

use self::graphics::{Drawing, Layers};
use super::Picture;
use super::described::{has_value, invalid, numbers, pair};
use super::geometry::{Geometry, Region, Turn, ratio};
use super::gray::{Modality, Presentation, Voi};
use super::overlay::{Overlay, groups};
use super::palette::Palette;
use super::shutter::Shutter;
use crate::dataset::{DataSet, Element};
use crate::error::Result;

/// What a softcopy presentation state says of the images that it refers to.
///
/// | applied | not applied |
/// | --- | --- |
/// | modality, softcopy VOI and presentation LUT | mask subtraction |
/// | palette of a pseudo-colour state | blending, ICC profiles |
/// | rotation, flip, displayed area, pixel aspect ratio | magnification and true size: the picture is as large as asked for, or as the area |
/// | shutters, overlays and which of them are shown | curves |
/// | point, polyline, interpolated, circle, ellipse, text, by layer | compound graphics, line and text styles |
///
/// `Debug` shows no value: its text may name a patient.
#[derive(Clone)]
pub struct PresentationState {
    set: DataSet,
    references: Vec<Reference>,
    layers: Layers,
    drawings: Vec<(Vec<Reference>, Drawing)>,
}

impl fmt::Debug for PresentationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresentationState")
            .field("references", &self.references)
            .field("drawings", &self.drawings.len())
            .finish_non_exhaustive()
    }
}

/// An instance that a presentation state refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Series Instance UID, where it stands.
    pub series: Option<String>,
    /// Referenced SOP Instance UID.
    pub instance: String,
    /// Referenced Frame Number; empty when all frames are meant.
    pub frames: Vec<u32>,
}

impl Reference {
    fn of(item: &DataSet, series: Option<&str>) -> Option<Self> {
        let frames = numbers(item, tags::REFERENCED_FRAME_NUMBER);
        Some(Self {
            series: series.map(str::to_owned),
            instance: item.string(tags::REFERENCED_SOP_INSTANCE_UID)?.to_owned(),
            // `as` saturates.
            frames: frames.map(|frame| frame as u32).collect(),
        })
    }

    fn list(set: &DataSet) -> Vec<Self> {
        let items = set.items(tags::REFERENCED_IMAGE_SEQUENCE).iter();
        items.filter_map(|item| Self::of(item, None)).collect()
    }

    fn is(&self, instance: &str, frame: u32) -> bool {
        self.instance == instance && (self.frames.is_empty() || self.frames.contains(&frame))
    }
}

/// Whether a part of a state that names these is about a frame; it is about all when it names none.
fn concerns(references: &[Reference], instance: &str, frame: u32) -> bool {
    references.is_empty() || references.iter().any(|reference| reference.is(instance, frame))
}

impl PresentationState {
    /// Reads the header of a presentation state: of the SOP classes Grayscale, Color, Pseudo-Color and
    /// XA/XRF Grayscale Softcopy Presentation State.
    ///
    /// # Errors
    /// `Invalid` when it is none, or refers to nothing.
    pub fn read(set: &DataSet) -> Result<Self> {
        let is_state = matches!(
            set.string(tags::SOP_CLASS_UID),
            Some(
                uids::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE
                    | uids::COLOR_SOFTCOPY_PRESENTATION_STATE_STORAGE
                    | uids::PSEUDO_COLOR_SOFTCOPY_PRESENTATION_STATE_STORAGE
                    | uids::XAXRF_GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE
            )
        );
        if !is_state {
            return Err(
                invalid("the instance is no presentation state that is applied to images")
                    .with_tag(tags::SOP_CLASS_UID),
            );
        }
        let references: Vec<Reference> = set
            .items(tags::REFERENCED_SERIES_SEQUENCE)
            .iter()
            .flat_map(|series| {
                let uid = series.string(tags::SERIES_INSTANCE_UID);
                let images = series.items(tags::REFERENCED_IMAGE_SEQUENCE).iter();
                images.filter_map(move |item| Reference::of(item, uid))
            })
            .collect();
        if references.is_empty() {
            return Err(
                invalid("a presentation state refers to no image").with_tag(tags::REFERENCED_SERIES_SEQUENCE)
            );
        }
        let layers = Layers::of(set);
        let mut drawings = graphics::drawings(set)
            .map(|(item, drawing)| (Reference::list(item), drawing))
            .collect::<Vec<_>>();
        // Higher orders are drawn over lower ones.
        drawings.sort_by_key(|(_, drawing)| layers.order(&drawing.layer));
        Ok(Self {
            set: set.clone(),
            references,
            layers,
            drawings,
        })
    }

    /// The instances that it refers to, in the order they stand.
    pub fn references(&self) -> &[Reference] {
        &self.references
    }

    /// Whether it says how this frame, by its number from 1, is displayed.
    pub fn refers_to(&self, instance: &str, frame: u32) -> bool {
        self.references
            .iter()
            .any(|reference| reference.is(instance, frame))
    }

    /// The item of a sequence that is about a frame.
    fn item(&self, sequence: Tag, instance: &str, frame: u32) -> Option<&DataSet> {
        let concerned = |item: &&DataSet| concerns(&Reference::list(item), instance, frame);
        self.set.items(sequence).iter().find(concerned)
    }

    /// What the state says stands in place of what the image does, also where it says nothing: then stored
    /// values are what is measured (PS3.4 N.2.1.1).
    pub(super) fn modality(&self, signed: bool) -> Result<Modality> {
        Ok(Modality::of(&self.set, signed)?.unwrap_or(Modality::IDENTITY))
    }

    pub(super) fn voi(&self, instance: &str, frame: u32, signed: bool) -> Result<Option<Voi>> {
        match self.item(tags::SOFTCOPY_VOILUT_SEQUENCE, instance, frame) {
            Some(item) => Voi::of(item, signed),
            None => Ok(None),
        }
    }

    pub(super) fn presentation(&self) -> Result<Presentation> {
        Ok(Presentation::of(&self.set)?.unwrap_or(Presentation::Identity))
    }

    /// The palette of a pseudo-colour state.
    pub(super) fn palette(&self) -> Result<Option<Palette>> {
        if has_value(&self.set, tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR) {
            return Palette::of(&self.set).map(Some);
        }
        Ok(None)
    }

    pub(super) fn turn(&self) -> Turn {
        Turn::of(&self.set)
    }

    /// The displayed area: its corners are pixels of the frame as it is before it is turned, from 1 (C.10.4).
    pub(super) fn region(&self, instance: &str, frame: u32) -> Option<Region> {
        let item = self.item(tags::DISPLAYED_AREA_SELECTION_SEQUENCE, instance, frame)?;
        let [x, y] = pair(item, tags::DISPLAYED_AREA_TOP_LEFT_HAND_CORNER)?;
        let [to_x, to_y] = pair(item, tags::DISPLAYED_AREA_BOTTOM_RIGHT_HAND_CORNER)?;
        Some(Region {
            x: x.min(to_x) - 1.0,
            y: y.min(to_y) - 1.0,
            width: (x - to_x).abs() + 1.0,
            height: (y - to_y).abs() + 1.0,
        })
    }

    /// The height of pixels over their width, where the state says it.
    pub(super) fn aspect(&self, instance: &str, frame: u32) -> Option<f64> {
        let item = self.item(tags::DISPLAYED_AREA_SELECTION_SEQUENCE, instance, frame)?;
        let said = pair(item, tags::PRESENTATION_PIXEL_ASPECT_RATIO)
            .or_else(|| pair(item, tags::PRESENTATION_PIXEL_SPACING))?;
        Some(ratio(Some(said)))
    }

    pub(super) fn shutter(&self, frame: u32) -> Option<Shutter> {
        Shutter::of(&self.set, frame)
    }

    /// The overlays that are shown: those whose Overlay Activation Layer names a layer (C.11.7), of the state
    /// itself, or else of the image.
    pub(super) fn overlays(&self, image: &DataSet, frame: u32) -> Vec<(Overlay, [u8; 3])> {
        let shown = |group| {
            let layer = self
                .set
                .get(Tag(group, 0x1001))
                .and_then(|element: &Element| element.strings().next());
            let layer = layer.filter(|layer| !layer.is_empty())?;
            let own = self.set.contains(Tag(group, 0x0010));
            let overlay = Overlay::of(if own { &self.set } else { image }, group, frame)?;
            Some((overlay, self.layers.color(layer)))
        };
        groups().filter_map(shown).collect()
    }

    /// Whether anything that is drawn has a colour.
    pub(super) fn is_colored(&self) -> bool {
        self.layers.is_colored()
    }

    /// Draws its graphics and text.
    pub(super) fn draw(&self, instance: &str, frame: u32, geometry: &Geometry, picture: &mut Picture) {
        let drawings = self.drawings.iter();
        let concerned = drawings.filter(|(references, _)| concerns(references, instance, frame));
        graphics::draw(
            concerned.map(|(_, drawing)| drawing),
            &self.layers,
            geometry,
            picture,
        );
    }
}
