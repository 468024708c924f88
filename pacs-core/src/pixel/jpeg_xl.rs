//! JPEG XL (ISO/IEC 18181-1), by jxl-oxide.

use jxl_oxide::image::BitDepth;
use jxl_oxide::{AllocTracker, InitializeResult, JxlImage};

use super::codec::{corrupt, mismatch, unsupported};
use super::image::Image;
use super::samples::{Order, cells, check_precision};
use super::ybr;
use crate::error::Result;

/// Bytes that are given to the decoder at once until it knows the image's size: a header is shorter, but for an
/// ICC profile.
const HEADER_PIECE_BYTES: usize = 1024;

/// What the decoder may allocate for each sample: some copies of 4 bytes.
const SAMPLE_BYTES_MAX: usize = 4 * 8;

/// What it may allocate for an image of any size: tables, and groups of 256 by 256 samples.
const OVERHEAD_BYTES: usize = 64 * 1024 * 1024;

/// Decodes a frame. Colours come out as RGB when `image` wants them so, else as they were put in.
pub(super) fn decode(frame: &[u8], image: &Image) -> Result<Vec<u8>> {
    let samples = image.pixels() * image.samples.max(3);
    let tracker = AllocTracker::with_limit(samples.saturating_mul(SAMPLE_BYTES_MAX) + OVERHEAD_BYTES);
    let damaged = |error: Box<dyn std::error::Error + Send + Sync>| {
        corrupt("a JPEG XL codestream is damaged").with_source(error)
    };
    let ended = || corrupt("a JPEG XL codestream ends early");
    let mut header = JxlImage::builder().alloc_tracker(tracker).build_uninit();
    let mut rest = frame;
    let mut decoder = loop {
        let piece = &rest[..rest.len().min(HEADER_PIECE_BYTES)];
        let taken = header.feed_bytes(piece).map_err(damaged)?;
        rest = rest.get(taken..).unwrap_or_default();
        header = match header.try_init().map_err(damaged)? {
            InitializeResult::Initialized(decoder) => break decoder,
            // A piece of which nothing is taken would be given again for ever.
            InitializeResult::NeedMoreData(_) if taken == 0 => return Err(ended()),
            InitializeResult::NeedMoreData(header) => header,
        };
    };
    let (precision, xyb) = check(&decoder, image)?;
    while !rest.is_empty() && !decoder.is_loading_done() {
        let taken = decoder.feed_bytes(rest).map_err(damaged)?;
        if taken == 0 {
            break;
        }
        rest = rest.get(taken..).unwrap_or_default();
    }
    if !decoder.is_loading_done() {
        return Err(ended());
    }
    // What is named YBR_RCT is so inside of the codestream alone.
    let is_labelled_ybr = image.samples == 3 && image.photometric.starts_with("YBR_FULL");
    let is_rgb = xyb || decoder.frame_header(0).is_some_and(|header| header.do_ycbcr);
    if is_rgb && !image.rgb_is_wanted && is_labelled_ybr {
        return Err(mismatch(
            "a JPEG XL codestream of RGB where the data set describes YBR",
        ));
    }
    let rendered = decoder.render_frame(0).map_err(damaged)?.image_all_channels();
    let size = (rendered.height(), rendered.width(), rendered.channels());
    if size != (image.rows as usize, image.columns as usize, image.samples) {
        return Err(corrupt("a JPEG XL codestream is damaged"));
    }
    let largest = f64::from(u32::MAX >> (32 - u32::from(precision)));
    // `as` saturates.
    let integers = rendered
        .buf()
        .iter()
        .map(|&sample| (f64::from(sample) * largest).round().clamp(0.0, largest) as i32);
    let mut pixels = cells(integers, precision, Order::Interleaved, image)?;
    if image.rgb_is_wanted && !is_rgb && is_labelled_ybr {
        if image.sample_bytes != 1 {
            return Err(unsupported("YBR of more than 8 bits in a JPEG XL codestream"));
        }
        ybr::convert(&mut pixels, ybr::full_to_rgb);
    }
    Ok(pixels)
}

/// Holds what the codestream says of itself against the data set; answers the bits of a sample, and whether its
/// colours are XYB, which are decoded to RGB.
fn check(decoder: &JxlImage, image: &Image) -> Result<(u8, bool)> {
    let metadata = &decoder.image_header().metadata;
    let channels = decoder.pixel_format().channels();
    if (decoder.height(), decoder.width(), channels) != (image.rows, image.columns, image.samples) {
        return Err(mismatch(format!(
            "a codestream of {} rows, {} columns and {channels} components where the data set describes {}, {} \
             and {}",
            decoder.height(),
            decoder.width(),
            image.rows,
            image.columns,
            image.samples
        )));
    }
    if metadata.orientation != 1 || metadata.animation.is_some() || !metadata.ec_info.is_empty() {
        return Err(unsupported(
            "a JPEG XL codestream that is turned, moves or has further channels",
        ));
    }
    let precision = match metadata.bit_depth {
        BitDepth::IntegerSample {
            bits_per_sample: bits @ 1..=16,
        } => bits as u8,
        _ => {
            return Err(unsupported(
                "a JPEG XL codestream of float values or of more than 16 bits",
            ));
        }
    };
    check_precision(precision, image)?;
    Ok((precision, metadata.xyb_encoded))
}
