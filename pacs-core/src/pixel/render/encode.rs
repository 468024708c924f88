//! Pictures in the formats that PS3.18 8.7.4 asks for.

use std::time::Duration;

use dicom_dictionary_std::tags;
use gif::{Encoder, Frame, Repeat};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

use super::Picture;
use super::described::{invalid, number, numbers, unsupported};
use crate::dataset::DataSet;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// How fast colours are chosen for a GIF: the fastest there is. It costs as much as all else together.
const GIF_SPEED: i32 = 30;

/// The format of a picture, or of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureFormat {
    /// `image/png`: one picture, without loss.
    Png,
    /// `image/jpeg`: one picture.
    Jpeg {
        /// From 1 to 100, the best (PS3.18 8.3.5.1.2).
        quality: u8,
    },
    /// `image/gif`: one picture or more, one after the other, for ever again. Without loss where they are gray.
    Gif {
        /// How long each is shown. The format counts in hundredths of a second; browsers slow down what is
        /// shorter than two of them.
        frame_time: Duration,
    },
}

/// Encodes pictures, all of one size.
///
/// # Errors
/// `Invalid` when there is no picture, several in a format for one, pictures of several sizes, or a quality that
/// isn't 1 to 100; `Unsupported` when an animation is longer than [`check_animation`] allows.
pub fn encode(pictures: &[Picture], format: PictureFormat) -> Result<Vec<u8>> {
    let first = pictures
        .first()
        .ok_or_else(|| invalid("there is no picture to encode"))?;
    let length = |picture: &Picture| {
        u64::from(picture.width) * u64::from(picture.height) * u64::from(picture.channels)
    };
    let alike = pictures.iter().all(|picture| {
        (picture.width, picture.height) == (first.width, first.height)
            && matches!(picture.channels, 1 | 3)
            && picture.pixels.len() as u64 == length(picture)
            && !picture.pixels.is_empty()
    });
    if !alike {
        return Err(invalid("pictures are not of one size"));
    }
    if pictures.len() > 1 && !matches!(format, PictureFormat::Gif { .. }) {
        return Err(invalid("several pictures in a format for one"));
    }
    let (width, height) = (first.width, first.height);
    let color = match first.channels {
        1 => ExtendedColorType::L8,
        _ => ExtendedColorType::Rgb8,
    };
    let mut out = Vec::new();
    match format {
        PictureFormat::Png => PngEncoder::new(&mut out)
            .write_image(&first.pixels, width, height, color)
            .map_err(failed)?,
        PictureFormat::Jpeg { quality } => {
            if !(1..=100).contains(&quality) {
                return Err(invalid("a quality is a number from 1 to 100"));
            }
            JpegEncoder::new_with_quality(&mut out, quality)
                .write_image(&first.pixels, width, height, color)
                .map_err(failed)?;
        }
        PictureFormat::Gif { frame_time } => {
            check_animation(pictures.len() as u64, width, height)?;
            animate(pictures, frame_time, &mut out).map_err(failed)?;
        }
    }
    Ok(out)
}

/// Whether an animation of so many pictures of this size is made, so that it needn't be rendered to know.
///
/// # Errors
/// `Unsupported` when they are more than [`limits::ANIMATION_PIXELS_MAX`].
pub fn check_animation(pictures: u64, width: u32, height: u32) -> Result<()> {
    let pixels = u64::from(width)
        .saturating_mul(height.into())
        .saturating_mul(pictures);
    let fits = width <= u16::MAX.into() && height <= u16::MAX.into();
    if !fits || pixels > limits::ANIMATION_PIXELS_MAX {
        return Err(unsupported(format!(
            "an animation of {pictures} pictures of {width} by {height} pixels is longer than what is made"
        )));
    }
    Ok(())
}

fn animate(
    pictures: &[Picture],
    frame_time: Duration,
    out: &mut Vec<u8>,
) -> std::result::Result<(), gif::EncodingError> {
    // 256 levels of gray are all that there are, so that nothing has to be chosen where nothing has colour.
    let gray: Vec<u8> = (0..=255).flat_map(|level| [level; 3]).collect();
    let size = |picture: &Picture| (picture.width as u16, picture.height as u16);
    let (width, height) = pictures.first().map(size).unwrap_or_default();
    let mut encoder = Encoder::new(out, width, height, &gray)?;
    if pictures.len() > 1 {
        encoder.set_repeat(Repeat::Infinite)?;
    }
    let delay = (frame_time.as_millis() + 5) / 10;
    for picture in pictures {
        let mut frame = if picture.channels == 1 {
            Frame {
                width,
                height,
                buffer: (&picture.pixels[..]).into(),
                ..Frame::default()
            }
        } else {
            Frame::from_rgb_speed(width, height, &picture.pixels, GIF_SPEED)
        };
        frame.delay = u16::try_from(delay.max(2)).unwrap_or(u16::MAX);
        encoder.write_frame(&frame)?;
    }
    Ok(())
}

/// What an encoder can't do is beyond our limits or our own fault.
fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(
        ErrorKind::Internal,
        "picture.encode",
        "a picture can't be encoded",
    )
    .with_source(error)
}

/// How long each frame of a cine is shown, as its header says (PS3.3 C.7.6.5): by Frame Time, the mean of Frame
/// Time Vector, Cine Rate, Recommended Display Frame Rate. `None` when it says nothing.
pub fn default_frame_time(header: &DataSet) -> Option<Duration> {
    let positive = |number: f64| (number.is_finite() && number > 0.0).then_some(number);
    let vector = || {
        // The first is 0: the time before the first frame.
        let times = numbers(header, tags::FRAME_TIME_VECTOR).skip(1);
        let (count, sum) = times.fold((0.0, 0.0), |(count, sum), time| (count + 1.0, sum + time));
        positive(sum / count)
    };
    let rate = |tag| number(header, tag).and_then(positive).map(|rate| 1000.0 / rate);
    let milliseconds = number(header, tags::FRAME_TIME)
        .and_then(positive)
        .or_else(vector)
        .or_else(|| rate(tags::CINE_RATE))
        .or_else(|| rate(tags::RECOMMENDED_DISPLAY_FRAME_RATE))?;
    Duration::try_from_secs_f64(milliseconds / 1000.0).ok()
}

#[cfg(test)]
mod tests {
    use dicom_core::VR;

    use super::*;

    fn gray(pixels: &[u8]) -> Picture {
        Picture {
            width: pixels.len() as u32 / 2,
            height: 2,
            channels: 1,
            pixels: pixels.to_vec(),
        }
    }

    #[test]
    fn png_is_read_again_as_it_was_in_gray_and_in_colour() {
        let picture = gray(&[0, 1, 100, 101, 254, 255]);
        let png = encode(std::slice::from_ref(&picture), PictureFormat::Png).unwrap();
        let read = image::load_from_memory_with_format(&png, image::ImageFormat::Png).unwrap();
        assert_eq!(read.as_luma8().unwrap().as_raw(), &picture.pixels);
        let color = Picture {
            width: 1,
            channels: 3,
            ..picture.clone()
        };
        let png = encode(&[color], PictureFormat::Png).unwrap();
        let read = image::load_from_memory_with_format(&png, image::ImageFormat::Png).unwrap();
        assert_eq!(read.as_rgb8().unwrap().as_raw(), &picture.pixels);
    }

    #[test]
    fn a_better_jpeg_is_larger_and_closer() {
        let pixels: Vec<u8> = (0..64u32 * 64).map(|at| (at * at / 7 % 256) as u8).collect();
        let picture = Picture {
            width: 64,
            height: 64,
            channels: 1,
            pixels,
        };
        let read = |quality| {
            let jpeg = encode(std::slice::from_ref(&picture), PictureFormat::Jpeg { quality }).unwrap();
            let read = image::load_from_memory_with_format(&jpeg, image::ImageFormat::Jpeg).unwrap();
            let pixels = read.into_luma8().into_raw();
            let off = pixels
                .iter()
                .zip(&picture.pixels)
                .map(|(a, b)| u64::from(a.abs_diff(*b)));
            (jpeg.len(), off.sum::<u64>())
        };
        let (small, far) = read(1);
        let (large, close) = read(100);
        assert!(small < large && close < far, "{small} {large} {close} {far}");
        for quality in [0, 101] {
            assert!(encode(std::slice::from_ref(&picture), PictureFormat::Jpeg { quality }).is_err());
        }
    }

    #[test]
    fn a_gif_holds_every_frame_without_loss_where_it_is_gray_and_its_time() {
        let pictures = [gray(&[0, 1, 2, 3, 4, 5]), gray(&[255, 254, 253, 7, 8, 9])];
        let frame_time = Duration::from_millis(66);
        let gif = encode(&pictures, PictureFormat::Gif { frame_time }).unwrap();
        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        let mut decoder = options.clone().read_info(&gif[..]).unwrap();
        assert_eq!(decoder.repeat(), Repeat::Infinite);
        for picture in &pictures {
            let frame = decoder.read_next_frame().unwrap().unwrap();
            assert_eq!((frame.width, frame.height, frame.delay), (3, 2, 7));
            let expected: Vec<u8> = picture.pixels.iter().flat_map(|&v| [v, v, v, 255]).collect();
            assert_eq!(*frame.buffer, expected);
        }
        assert!(decoder.read_next_frame().unwrap().is_none());
        let color = Picture {
            width: 1,
            channels: 3,
            ..pictures[0].clone()
        };
        let gif = encode(&[color], PictureFormat::Gif { frame_time }).unwrap();
        let mut decoder = options.read_info(&gif[..]).unwrap();
        let frame = decoder.read_next_frame().unwrap().unwrap();
        assert_eq!(*frame.buffer, [0, 1, 2, 255, 3, 4, 5, 255]);
    }

    #[test]
    fn what_is_no_picture_or_too_much_is_refused() {
        let (picture, frame_time) = (gray(&[1, 2]), Duration::ZERO);
        let kind = |pictures: &[Picture], format| encode(pictures, format).unwrap_err().kind();
        assert_eq!(kind(&[], PictureFormat::Png), ErrorKind::Invalid);
        let two = [picture.clone(), picture.clone()];
        assert_eq!(kind(&two, PictureFormat::Png), ErrorKind::Invalid);
        let mixed = [picture.clone(), gray(&[1, 2, 3, 4])];
        assert_eq!(
            kind(&mixed, PictureFormat::Gif { frame_time }),
            ErrorKind::Invalid
        );
        let short = Picture { height: 9, ..picture };
        assert_eq!(kind(&[short], PictureFormat::Png), ErrorKind::Invalid);
        assert!(check_animation(1, 512, 512).is_ok());
        assert!(check_animation(u64::MAX, u32::MAX, u32::MAX).is_err());
        assert!(check_animation(1, 65536, 1).is_err());
    }

    #[test]
    fn the_frame_time_is_taken_from_what_says_it() {
        let of = |values: &[(dicom_core::Tag, &str)]| {
            let mut header = DataSet::new();
            for &(tag, value) in values {
                header.put_text(tag, VR::DS, value);
            }
            default_frame_time(&header).map(|time| time.as_millis())
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[(tags::FRAME_TIME, "33.33")]), Some(33));
        assert_eq!(of(&[(tags::FRAME_TIME_VECTOR, "0\\40\\60")]), Some(50));
        assert_eq!(of(&[(tags::CINE_RATE, "25")]), Some(40));
        assert_eq!(of(&[(tags::RECOMMENDED_DISPLAY_FRAME_RATE, "10")]), Some(100));
        assert_eq!(of(&[(tags::CINE_RATE, "25"), (tags::FRAME_TIME, "20")]), Some(20));
        assert_eq!(of(&[(tags::FRAME_TIME, "0"), (tags::CINE_RATE, "-1")]), None);
        assert_eq!(
            of(&[(tags::FRAME_TIME_VECTOR, "0"), (tags::CINE_RATE, "x")]),
            None
        );
        assert_eq!(of(&[(tags::CINE_RATE, "1e-300")]), None);
    }
}
