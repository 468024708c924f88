//! Any header and frame, and any presentation state: a picture that is as large as it says, or an error.
//!
//! Run with `cargo fuzz run -s none render -- -rss_limit_mb=1024`.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use pacs_core::dataset::scan::parse;
use pacs_core::pixel::render::{
    Annotation, PictureFormat, PresentationState, RenderOptions, Viewport, encode, picture_size, render,
};

const SYNTAX: &str = "1.2.840.10008.1.2";

fuzz_target!(|input: &[u8]| {
    // Where the header and the state end, what is asked for, and the number of the frame.
    let [header_length, state_length, asked, number, bytes @ ..] = input else {
        return;
    };
    let (header, bytes) = bytes.split_at(bytes.len().min(usize::from(*header_length) * 4));
    let (state, frame) = bytes.split_at(bytes.len().min(usize::from(*state_length) * 4));
    let (Ok(header), state) = (parse(header, SYNTAX), parse(state, SYNTAX)) else {
        return;
    };
    let bit = |bit: u8| asked >> bit & 1 == 1;
    let texts = ["40,400,linear", "0.5,0.1,linear-exact", "-1000,3,sigmoid"];
    let options = RenderOptions {
        window: bit(0).then(|| texts[usize::from(*number) % 3].parse().expect("a window")),
        viewport: bit(1).then(|| Viewport {
            source_x: f64::from(*number) - 8.0,
            source_width: bit(2).then(|| f64::from(*state_length) - 20.0),
            ..Viewport::new(64, 48)
        }),
        annotation: Annotation {
            patient: bit(3),
            technique: bit(4),
        },
        presentation_state: state
            .ok()
            .and_then(|state| PresentationState::read(&state).ok())
            .map(Arc::new),
    };
    // A picture of the largest size allowed takes seconds, and finds nothing more.
    let Ok((width, height)) = picture_size(&header, (*number).into(), &options) else {
        return;
    };
    if u64::from(width) * u64::from(height) > 1 << 20 {
        return;
    }
    if let Ok(picture) = render(&header, frame, (*number).into(), &options) {
        assert_eq!((picture.width, picture.height), (width, height));
        let length = u64::from(width) * u64::from(height) * u64::from(picture.channels);
        assert_eq!(picture.pixels.len() as u64, length);
        if length < 1 << 14 {
            encode(&[picture], PictureFormat::Png).expect("a picture can be encoded");
        }
    }
});
