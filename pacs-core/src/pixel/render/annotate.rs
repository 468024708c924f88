//! What of patient and technique is written into a picture (PS3.18 8.3.5.1.1).

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::Picture;
use super::canvas::{Canvas, GLYPH};
use super::described::number;
use super::options::Annotation;
use crate::dataset::DataSet;

/// Characters of a line; what is longer is cut.
const LINE_LENGTH_MAX: usize = 64;

/// What is written of the technique: a name for each, where it needs one, and a unit.
const TECHNIQUE: [(Tag, &str, &str); 15] = [
    (tags::MODALITY, "", ""),
    (tags::STUDY_DATE, "", ""),
    (tags::SERIES_NUMBER, "Series ", ""),
    (tags::INSTANCE_NUMBER, "Image ", ""),
    (tags::SERIES_DESCRIPTION, "", ""),
    (tags::BODY_PART_EXAMINED, "", ""),
    (tags::KVP, "", " kV"),
    (tags::X_RAY_TUBE_CURRENT, "", " mA"),
    (tags::EXPOSURE, "", " mAs"),
    (tags::REPETITION_TIME, "TR ", " ms"),
    (tags::ECHO_TIME, "TE ", " ms"),
    (tags::FLIP_ANGLE, "FA ", " deg"),
    (tags::SLICE_THICKNESS, "ST ", " mm"),
    (tags::SLICE_LOCATION, "SL ", " mm"),
    (tags::CONVOLUTION_KERNEL, "", ""),
];

/// Writes what is asked for: the patient at the top, the technique at the bottom.
pub(super) fn annotate(header: &DataSet, annotation: Annotation, frame: u32, picture: &mut Picture) {
    let patient = if annotation.patient {
        patient(header)
    } else {
        Vec::new()
    };
    let technique = if annotation.technique {
        technique(header, frame)
    } else {
        Vec::new()
    };
    let longest = patient
        .iter()
        .chain(&technique)
        .map(|line| line.chars().count())
        .max();
    let Some(longest) = longest else {
        return;
    };
    // Some 40 lines to a picture, where the longest fits.
    let (width, height) = (f64::from(picture.width), f64::from(picture.height));
    let fits = ((width - GLYPH) / (longest as f64 * GLYPH)).min(height / (40.0 * GLYPH));
    let scale = (fits as u32).max(1);
    let line_height = f64::from(scale) * (GLYPH + 2.0);
    let margin = f64::from(scale) * GLYPH / 2.0;
    let below = height - margin - line_height * technique.len() as f64;
    let mut canvas = Canvas::new(picture);
    for (top, lines) in [(margin, patient), (below, technique)] {
        for (number, line) in lines.iter().enumerate() {
            canvas.text([margin, top + number as f64 * line_height], line, scale);
        }
    }
}

fn patient(header: &DataSet) -> Vec<String> {
    let name = header.string(tags::PATIENT_NAME).map(person_name);
    let birth_date = header.string(tags::PATIENT_BIRTH_DATE).map(date);
    let sex = header.string(tags::PATIENT_SEX).map(str::to_owned);
    let born_and_sex = [birth_date, sex]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" ");
    [
        name,
        header.string(tags::PATIENT_ID).map(str::to_owned),
        (!born_and_sex.is_empty()).then_some(born_and_sex),
    ]
    .into_iter()
    .flatten()
    .map(cut)
    .collect()
}

fn technique(header: &DataSet, frame: u32) -> Vec<String> {
    let frames = number(header, tags::NUMBER_OF_FRAMES).filter(|&frames| frames > 1.0);
    let frame = frames.map(|frames| format!("Frame {frame}/{frames}"));
    let mut values: Vec<String> = TECHNIQUE
        .iter()
        .filter_map(|&(tag, name, unit)| {
            let value = header.string(tag)?;
            let value = match (tag, value.parse::<f64>()) {
                (tags::STUDY_DATE, _) => date(value),
                // What was rounded in decimal has many digits.
                (_, Ok(number)) if number.is_finite() && !unit.is_empty() => {
                    format!("{}", (number * 100.0).round() / 100.0)
                }
                _ => value.to_owned(),
            };
            Some(format!("{name}{value}{unit}"))
        })
        .collect();
    values.extend(frame);
    // As many on a line as there is room for.
    let mut lines: Vec<String> = Vec::new();
    for value in values.into_iter().map(cut) {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 2 + value.chars().count() <= LINE_LENGTH_MAX / 2 => {
                line.push_str("  ");
                line.push_str(&value);
            }
            _ => lines.push(value),
        }
    }
    lines
}

fn cut(line: String) -> String {
    match line.char_indices().nth(LINE_LENGTH_MAX) {
        Some((at, _)) => line[..at].to_owned(),
        None => line,
    }
}

/// The alphabetic name, its family name first (PS3.5 6.2.1).
fn person_name(name: &str) -> String {
    let alphabetic = name
        .split('=')
        .find(|group| !group.is_empty())
        .unwrap_or_default();
    let mut parts = alphabetic.split('^').filter(|part| !part.is_empty());
    let family = parts.next().unwrap_or_default();
    let given = parts.collect::<Vec<_>>().join(" ");
    if given.is_empty() {
        family.to_owned()
    } else {
        format!("{family}, {given}")
    }
}

/// A date as people read it everywhere (ISO 8601).
fn date(date: &str) -> String {
    let digits = date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit());
    if digits {
        format!("{}-{}-{}", &date[..4], &date[4..6], &date[6..])
    } else {
        date.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use dicom_core::VR;

    use super::*;

    fn header() -> DataSet {
        let mut header = DataSet::new();
        header.put_text(tags::PATIENT_NAME, VR::PN, "Doe^Jane^Q=\u{5c71}^\u{7530}");
        header.put_text(tags::PATIENT_ID, VR::LO, "4711");
        header.put_text(tags::PATIENT_BIRTH_DATE, VR::DA, "19700102");
        header.put_text(tags::PATIENT_SEX, VR::CS, "F");
        header.put_text(tags::MODALITY, VR::CS, "CT");
        header.put_text(tags::KVP, VR::DS, "120.00000");
        header.put_text(tags::SLICE_THICKNESS, VR::DS, "1.2500001");
        header.put_text(tags::NUMBER_OF_FRAMES, VR::IS, "20");
        header
    }

    #[test]
    fn names_dates_and_numbers_are_written_for_people() {
        assert_eq!(patient(&header()), ["Doe, Jane Q", "4711", "1970-01-02 F"]);
        assert_eq!(technique(&header(), 3), ["CT  120 kV  ST 1.25 mm", "Frame 3/20"]);
        assert_eq!(person_name("=\u{5c71}^\u{7530}"), "\u{5c71}, \u{7530}");
        assert_eq!(cut("\u{e4}".repeat(99)).chars().count(), LINE_LENGTH_MAX);
        assert!(patient(&DataSet::new()).is_empty());
    }

    #[test]
    fn the_patient_is_at_the_top_and_the_technique_at_the_bottom() {
        let drawn = |patient, technique, side: u32| {
            let mut picture = Picture {
                width: side,
                height: side,
                channels: 1,
                pixels: vec![100; (side * side) as usize],
            };
            annotate(&header(), Annotation { patient, technique }, 1, &mut picture);
            let half = picture.pixels.len() / 2;
            let drawn = |half: &[u8]| half.contains(&255);
            (drawn(&picture.pixels[..half]), drawn(&picture.pixels[half..]))
        };
        assert_eq!(drawn(true, false, 512), (true, false));
        assert_eq!(drawn(false, true, 512), (false, true));
        assert_eq!(drawn(true, true, 512), (true, true));
        assert_eq!(drawn(false, false, 512), (false, false));
        // No room at all is no reason to fail.
        drawn(true, true, 1);
    }
}
