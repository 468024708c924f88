//! What a series of CT slices is in space, and whether it can be searched.

use dicom_dictionary_std::{tags, uids};
use pacs_core::dataset::Element;
use pacs_core::{DataSet, Tag, Uid};

use crate::regions::Grid;

/// Slices of a series that are searched at most.
pub(crate) const SLICES_MAX: usize = 4096;
/// Rows or columns of a slice that is searched at most.
const SIDE_MAX: u16 = 2048;
/// What is taken for a spacing, in millimetres.
const SPACING_MM: std::ops::RangeInclusive<f64> = 0.05..=20.0;
/// How much the cosines of two directions that are the same may differ.
const SAME_DIRECTION: f64 = 1e-3;

/// One slice.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    /// Its SOP Instance UID.
    pub(crate) instance: Uid,
    /// Its SOP Class UID.
    pub(crate) class: Uid,
    /// Where it lies along the normal, in millimetres.
    position: f64,
    directions: [f64; 6],
    grid: Grid,
    thickness: Option<f64>,
    frame_of_reference: Option<String>,
}

/// Slices in order, with the thickness that each stands for in millimetres.
#[derive(Clone, Debug)]
pub(crate) struct Stack {
    pub(crate) grid: Grid,
    pub(crate) slices: Vec<(Slice, f64)>,
}

/// Why a series is not searched; fit for a log.
pub(crate) type Why = &'static str;

impl Slice {
    /// Reads what is needed of the header of an instance.
    ///
    /// # Errors
    /// Why its series is not searched.
    pub(crate) fn of(header: &DataSet) -> Result<Self, Why> {
        let missing = |_| "an identifier is missing";
        let class = header.uid(tags::SOP_CLASS_UID).map_err(missing)?;
        if class.as_str() != uids::CT_IMAGE_STORAGE {
            return Err("no CT Image Storage");
        }
        if header.strings(tags::IMAGE_TYPE).any(|value| value == "LOCALIZER") {
            return Err("a localizer");
        }
        // What is lost shows up along bone first.
        if header.string(tags::LOSSY_IMAGE_COMPRESSION) == Some("01") {
            return Err("compressed with loss");
        }
        if header.string(tags::CONTRAST_BOLUS_AGENT).is_some() {
            return Err("contrast medium was given");
        }
        if header.string(tags::RESCALE_TYPE).is_some_and(|of| of != "HU") {
            return Err("values are not in Hounsfield units");
        }
        if numbers(header, tags::RESCALE_SLOPE).is_empty()
            || numbers(header, tags::RESCALE_INTERCEPT).is_empty()
        {
            return Err("no rescale to Hounsfield units");
        }
        if header.u16(tags::SAMPLES_PER_PIXEL) != Some(1)
            || header.string(tags::PHOTOMETRIC_INTERPRETATION) != Some("MONOCHROME2")
        {
            return Err("pixels that are no CT values");
        }
        if numbers(header, tags::NUMBER_OF_FRAMES)
            .first()
            .is_some_and(|frames| *frames != 1.0)
        {
            return Err("several frames");
        }
        let side = |tag| header.u16(tag).filter(|side| (1..=SIDE_MAX).contains(side));
        let (Some(rows), Some(columns)) = (side(tags::ROWS), side(tags::COLUMNS)) else {
            return Err("rows or columns that none has");
        };
        let [row_spacing, column_spacing] = numbers(header, tags::PIXEL_SPACING)[..] else {
            return Err("no pixel spacing");
        };
        let directions: [f64; 6] = numbers(header, tags::IMAGE_ORIENTATION_PATIENT)
            .try_into()
            .map_err(|_| "no orientation")?;
        let [x, y, z] = numbers(header, tags::IMAGE_POSITION_PATIENT)[..] else {
            return Err("no position");
        };
        if !SPACING_MM.contains(&row_spacing) || !SPACING_MM.contains(&column_spacing) {
            return Err("a pixel spacing that none has");
        }
        let normal = normal(&directions).ok_or("an orientation that is none")?;
        Ok(Self {
            instance: header.uid(tags::SOP_INSTANCE_UID).map_err(missing)?,
            class,
            position: x * normal[0] + y * normal[1] + z * normal[2],
            directions,
            grid: Grid {
                rows: rows.into(),
                columns: columns.into(),
                row_spacing,
                column_spacing,
            },
            thickness: numbers(header, tags::SLICE_THICKNESS).first().copied(),
            frame_of_reference: header.string(tags::FRAME_OF_REFERENCE_UID).map(str::to_owned),
        })
    }

    fn is_beside(&self, other: &Self) -> bool {
        let apart = self.directions.iter().zip(&other.directions);
        self.grid == other.grid
            && self.frame_of_reference == other.frame_of_reference
            && apart.into_iter().all(|(a, b)| (a - b).abs() < SAME_DIRECTION)
    }
}

impl Stack {
    /// Puts slices of one series in order.
    ///
    /// # Errors
    /// Why the series is not searched.
    pub(crate) fn of(mut slices: Vec<Slice>) -> Result<Self, Why> {
        slices.sort_by(|a, b| {
            a.position
                .total_cmp(&b.position)
                .then(a.instance.cmp(&b.instance))
        });
        let first = slices.first().ok_or("no slices")?;
        let grid = first.grid;
        if !slices.iter().all(|slice| slice.is_beside(first)) {
            return Err("slices that are not parallel and alike");
        }
        let gaps: Vec<f64> = slices
            .windows(2)
            .map(|two| two[1].position - two[0].position)
            .collect();
        if !gaps.iter().all(|gap| SPACING_MM.contains(gap)) {
            return Err("slices at one place, or far apart");
        }
        let alone = first.thickness.filter(|thickness| SPACING_MM.contains(thickness));
        // A slice stands for what is nearer to it than to others.
        let thickness = |at: usize| {
            let before = at.checked_sub(1).and_then(|at| gaps.get(at));
            match (before, gaps.get(at)) {
                (Some(before), Some(behind)) => Ok((before + behind) / 2.0),
                (Some(gap), None) | (None, Some(gap)) => Ok(*gap),
                (None, None) => alone.ok_or("one slice without a thickness"),
            }
        };
        let thicknesses: Vec<f64> = (0..slices.len()).map(thickness).collect::<Result<_, _>>()?;
        Ok(Self {
            grid,
            slices: slices.into_iter().zip(thicknesses).collect(),
        })
    }
}

/// The values of a decoded frame in HU (PS3.3 C.11.1.1.2), those that no CT has cut to what an `i16` holds.
///
/// # Errors
/// Why they can't be had.
pub(crate) fn hounsfield(header: &DataSet, pixels: &[u8], grid: &Grid) -> Result<Vec<i16>, Why> {
    let bits = |tag| header.u16(tag).map(u32::from);
    let stored = bits(tags::BITS_STORED).filter(|stored| (1..=16).contains(stored));
    let (Some(16), Some(stored)) = (bits(tags::BITS_ALLOCATED), stored) else {
        return Err("pixels that are not of 16 bits");
    };
    let high = bits(tags::HIGH_BIT).unwrap_or(stored - 1);
    if high > 15 || high + 1 < stored {
        return Err("bits that a pixel doesn't have");
    }
    let one = |tag| numbers(header, tag).first().copied();
    let (Some(slope), Some(intercept)) = (one(tags::RESCALE_SLOPE), one(tags::RESCALE_INTERCEPT)) else {
        return Err("no rescale to Hounsfield units");
    };
    let signed = header.u16(tags::PIXEL_REPRESENTATION) == Some(1);
    let cells = pixels.as_chunks::<2>().0;
    let count = grid.rows * grid.columns;
    if cells.len() < count {
        return Err("fewer pixels than rows and columns say");
    }
    let value = |cell: &[u8; 2]| {
        // To the top of the word, and down again with the sign or without.
        let top = u16::from_le_bytes(*cell) << (15 - high);
        let down = 16 - stored;
        let number = if signed {
            f64::from(top as i16 >> down)
        } else {
            f64::from(top >> down)
        };
        // `as` saturates.
        (number * slope + intercept).round() as i16
    };
    Ok(cells[..count].iter().map(value).collect())
}

/// The numbers of an attribute, finite ones; none where one is no number.
pub(crate) fn numbers(header: &DataSet, tag: Tag) -> Vec<f64> {
    let texts = header.get(tag).map(Element::texts).unwrap_or_default();
    let all: Option<Vec<f64>> = texts
        .iter()
        .map(|text| text.trim().parse().ok().filter(|number: &f64| number.is_finite()))
        .collect();
    all.unwrap_or_default()
}

/// At right angles to rows and columns, of length 1.
fn normal(directions: &[f64; 6]) -> Option<[f64; 3]> {
    let [a, b, c, d, e, f] = *directions;
    let normal = [b * f - c * e, c * d - a * f, a * e - b * d];
    let length = normal.iter().map(|part| part * part).sum::<f64>().sqrt();
    (0.99..=1.01)
        .contains(&length)
        .then(|| normal.map(|part| part / length))
}

#[cfg(test)]
mod tests {
    use pacs_core::VR;

    use super::*;

    fn header(number: u32, z: &str) -> DataSet {
        let mut set = DataSet::new();
        set.put_text(tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE);
        set.put_text(tags::SOP_INSTANCE_UID, VR::UI, format!("1.2.{number}"));
        for (tag, text) in [
            (tags::RESCALE_SLOPE, "1"),
            (tags::RESCALE_INTERCEPT, "-1024"),
            (tags::PIXEL_SPACING, "0.5\\0.4"),
            (tags::IMAGE_ORIENTATION_PATIENT, "1\\0\\0\\0\\1\\0"),
            (tags::SLICE_THICKNESS, "7"),
        ] {
            set.put_text(tag, VR::DS, text);
        }
        set.put_text(tags::IMAGE_POSITION_PATIENT, VR::DS, format!("10\\20\\{z}"));
        set.put_text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2");
        set.put_u16(tags::SAMPLES_PER_PIXEL, 1);
        set.put_u16(tags::ROWS, 2);
        set.put_u16(tags::COLUMNS, 2);
        set.put_u16(tags::BITS_ALLOCATED, 16);
        set.put_u16(tags::BITS_STORED, 12);
        set.put_u16(tags::HIGH_BIT, 11);
        set.put_u16(tags::PIXEL_REPRESENTATION, 0);
        set
    }

    fn stack(positions: &[&str]) -> Result<Vec<(String, f64)>, Why> {
        let slices = positions
            .iter()
            .zip(1..)
            .map(|(z, number)| Slice::of(&header(number, z)));
        let stack = Stack::of(slices.collect::<Result<_, _>>()?)?;
        let told = stack.slices.iter();
        Ok(told
            .map(|(slice, thickness)| (slice.instance.to_string(), *thickness))
            .collect())
    }

    #[test]
    fn slices_lie_along_the_normal_and_stand_for_half_the_way_to_their_neighbours() {
        let told = stack(&["5", "0", "2", "-3"]).unwrap();
        let expected = [("1.2.4", 3.0), ("1.2.2", 2.5), ("1.2.3", 2.5), ("1.2.1", 3.0)];
        assert_eq!(told, expected.map(|(uid, thickness)| (uid.to_owned(), thickness)));
        assert_eq!(stack(&["5"]).unwrap(), [("1.2.1".to_owned(), 7.0)]);
    }

    #[test]
    fn what_can_not_be_searched_is_told_with_its_reason() {
        assert!(stack(&["1", "1"]).is_err() && stack(&["1", "100"]).is_err() && stack(&[]).is_err());
        assert!(stack(&["inf"]).is_err() && stack(&["x"]).is_err());
        let refused = |tag, vr, text: &str| {
            let mut header = header(1, "0");
            header.put(Element::from_text(tag, vr, text).unwrap());
            Slice::of(&header).err()
        };
        for (tag, vr, text) in [
            (tags::SOP_CLASS_UID, VR::UI, uids::MR_IMAGE_STORAGE),
            (tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY\\LOCALIZER"),
            (tags::CONTRAST_BOLUS_AGENT, VR::LO, "yes"),
            (tags::LOSSY_IMAGE_COMPRESSION, VR::CS, "01"),
            (tags::RESCALE_TYPE, VR::LO, "US"),
            (tags::RESCALE_SLOPE, VR::DS, ""),
            (tags::PIXEL_SPACING, VR::DS, "0\\0"),
            (tags::PIXEL_SPACING, VR::DS, "1e300\\1"),
            (tags::IMAGE_ORIENTATION_PATIENT, VR::DS, "1\\0\\0\\1\\0\\0"),
            (tags::ROWS, VR::US, "0"),
            (tags::COLUMNS, VR::US, "65535"),
            (tags::NUMBER_OF_FRAMES, VR::IS, "2"),
            (tags::SAMPLES_PER_PIXEL, VR::US, "3"),
        ] {
            assert!(refused(tag, vr, text).is_some(), "{tag} {text}");
        }
        let mut turned = header(2, "3");
        turned.put_text(tags::IMAGE_ORIENTATION_PATIENT, VR::DS, "0\\1\\0\\1\\0\\0");
        let slices = [&header(1, "0"), &turned].map(|header| Slice::of(header).unwrap());
        assert!(Stack::of(slices.into()).is_err());
    }

    #[test]
    fn values_are_read_by_their_bits_and_sign_and_rescaled() {
        let grid = Slice::of(&header(1, "0")).unwrap().grid;
        let bytes: Vec<u8> = [0x0000u16, 0x0401, 0xF7FF, 0x0FFF]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        let unsigned = hounsfield(&header(1, "0"), &bytes, &grid);
        assert_eq!(unsigned, Ok(vec![-1024, 1, 1023, 3071]));
        let mut signed = header(1, "0");
        signed.put_u16(tags::PIXEL_REPRESENTATION, 1);
        signed.put_text(tags::RESCALE_INTERCEPT, VR::DS, "0");
        signed.put_text(tags::RESCALE_SLOPE, VR::DS, "20");
        assert_eq!(hounsfield(&signed, &bytes, &grid), Ok(vec![0, 20500, 32767, -20]));
        assert!(hounsfield(&signed, &bytes[..7], &grid).is_err());
        signed.put_u16(tags::HIGH_BIT, 3);
        assert!(hounsfield(&signed, &bytes, &grid).is_err());
    }
}
