use bytes::Bytes;
use dicom_core::{Tag, VR};
use proptest::prelude::*;

use super::lut::tests::{item, put_words};
use super::*;
use crate::dataset::{Element, Value};
use crate::error::ErrorKind;
use crate::limits;

/// A gray image of 8 bits.
pub(super) fn header(columns: u16, rows: u16) -> DataSet {
    let mut set = DataSet::new();
    set.put_text(tags::SOP_INSTANCE_UID, VR::UI, "1.2.3");
    set.put_u16(tags::SAMPLES_PER_PIXEL, 1);
    set.put_text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2");
    set.put_u16(tags::ROWS, rows);
    set.put_u16(tags::COLUMNS, columns);
    set.put_u16(tags::BITS_ALLOCATED, 8);
    set.put_u16(tags::BITS_STORED, 8);
    set.put_u16(tags::HIGH_BIT, 7);
    set.put_u16(tags::PIXEL_REPRESENTATION, 0);
    set
}

fn options(window: Option<&str>, viewport: Option<&str>) -> RenderOptions {
    RenderOptions {
        window: window.map(|text| text.parse().unwrap()),
        viewport: viewport.map(|text| text.parse().unwrap()),
        ..RenderOptions::default()
    }
}

#[test]
fn the_window_that_is_asked_for_stands_before_that_of_the_image() {
    let mut header = header(3, 1);
    header.put_text(tags::WINDOW_CENTER, VR::DS, "128");
    header.put_text(tags::WINDOW_WIDTH, VR::DS, "256");
    let frame = [0, 100, 200];
    let pixels = |window| render(&header, &frame, 1, &options(window, None)).unwrap().pixels;
    assert_eq!(pixels(None), [0, 100, 200]);
    assert_eq!(pixels(Some("100,200,linear-exact")), [0, 128, 255]);
    let none = RenderOptions {
        window: Some(Window {
            center: f64::NAN,
            width: 5.0,
            function: VoiFunction::Linear,
        }),
        ..RenderOptions::default()
    };
    assert_eq!(
        render(&header, &frame, 1, &none).unwrap_err().kind(),
        ErrorKind::Invalid
    );
}

#[test]
fn a_table_of_all_values_gives_what_each_value_gives() {
    // As many pixels as values, so that a table is made; and one fewer, so that none is.
    let mut header = header(16, 16);
    header.put_text(tags::WINDOW_CENTER, VR::DS, "90");
    header.put_text(tags::WINDOW_WIDTH, VR::DS, "77");
    header.put_u16(tags::PIXEL_REPRESENTATION, 1);
    header.put_text(tags::RESCALE_SLOPE, VR::DS, "-1.5");
    let frame: Vec<u8> = (0..=255).collect();
    let tabled = render(&header, &frame, 1, &RenderOptions::default()).unwrap();
    header.put_u16(tags::ROWS, 15);
    let single = render(&header, &frame, 1, &RenderOptions::default()).unwrap();
    assert_eq!(tabled.pixels[..240], single.pixels);
    assert!(single.pixels.iter().any(|&level| level > 0 && level < 255));
}

#[test]
fn a_viewport_scales_and_mirrors_and_the_size_is_known_before() {
    let header = header(2, 2);
    let frame = [0, 100, 200, 255];
    let picture = |viewport| {
        let options = options(Some("127.5,255,linear-exact"), Some(viewport));
        let picture = render(&header, &frame, 1, &options).unwrap();
        assert_eq!(
            picture_size(&header, 1, &options).unwrap(),
            (picture.width, picture.height)
        );
        picture
    };
    assert_eq!(picture("2,2,0,0,-2,2").pixels, [100, 0, 255, 200]);
    assert_eq!(picture("2,2,0,0,2,-2").pixels, [200, 255, 0, 100]);
    assert_eq!(picture("1,1").pixels, [139]);
    let part = picture("9,9,1,0,1,2");
    assert_eq!((part.width, part.height, part.pixels[0]), (5, 9, 100));
}

#[test]
fn overlays_and_shutters_of_an_image_are_shown() {
    let mut header = header(3, 2);
    header.put_u16(Tag(0x6000, 0x0010), 2);
    header.put_u16(Tag(0x6000, 0x0011), 3);
    header.put_text(Tag(0x6000, 0x0040), VR::CS, "G");
    let value = Value::Bytes(Bytes::from_static(&[0b10_0001, 0]));
    let (tag, vr) = (Tag(0x6000, 0x3000), VR::OW);
    header.put(Element { tag, vr, value });
    header.put_text(tags::SHUTTER_SHAPE, VR::CS, "RECTANGULAR");
    for (tag, edge) in [
        (tags::SHUTTER_LEFT_VERTICAL_EDGE, "1"),
        (tags::SHUTTER_RIGHT_VERTICAL_EDGE, "2"),
        (tags::SHUTTER_UPPER_HORIZONTAL_EDGE, "1"),
        (tags::SHUTTER_LOWER_HORIZONTAL_EDGE, "2"),
    ] {
        header.put_text(tag, VR::IS, edge);
    }
    let picture = render(
        &header,
        &[10, 20, 30, 40, 50, 60],
        1,
        &options(Some("128,256"), None),
    )
    .unwrap();
    assert_eq!(picture.pixels, [255, 20, 0, 40, 50, 255]);
}

#[test]
fn palettes_and_colours_are_shown_without_a_window() {
    let mut header = header(2, 1);
    header.put_text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "PALETTE COLOR");
    for (descriptor, data, values) in [
        (
            tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
            tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
            [0x0100, 0xFF00],
        ),
        (
            tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
            tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
            [0x0200, 0],
        ),
        (
            tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
            tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
            [0x0300, 0],
        ),
    ] {
        put_words(&mut header, descriptor, VR::US, &[2, 5, 16]);
        put_words(&mut header, data, VR::OW, &values);
    }
    let picture = render(&header, &[5, 9], 1, &options(Some("1,1"), None)).unwrap();
    assert_eq!(
        (picture.channels, &picture.pixels[..]),
        (3, &[1, 2, 3, 254, 0, 0][..])
    );
    header.remove(tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA);
    let missing = render(&header, &[5, 9], 1, &RenderOptions::default()).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Mismatch);
}

#[test]
fn frames_that_are_too_short_and_pictures_that_are_too_large_are_refused() {
    let kind = |header: &DataSet, frame: &[u8], viewport| {
        render(header, frame, 1, &options(None, viewport))
            .unwrap_err()
            .kind()
    };
    assert_eq!(kind(&header(3, 2), &[0; 5], None), ErrorKind::Mismatch);
    assert_eq!(kind(&header(0, 2), &[0; 5], None), ErrorKind::Mismatch);
    assert_eq!(
        kind(&header(2, 2), &[0; 4], Some("60000,60000")),
        ErrorKind::Unsupported
    );
    assert_eq!(kind(&header(65535, 65535), &[0; 4], None), ErrorKind::Unsupported);
    let mut cmyk = header(1, 1);
    cmyk.put_u16(tags::SAMPLES_PER_PIXEL, 4);
    cmyk.put_text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "CMYK");
    assert_eq!(kind(&cmyk, &[0; 4], None), ErrorKind::Unsupported);
    assert_eq!(kind(&DataSet::new(), &[], None), ErrorKind::Mismatch);
}

#[test]
fn what_is_needed_of_large_values_is_said() {
    assert!(needs(&[
        tags::SOFTCOPY_VOILUT_SEQUENCE,
        tags::VOILUT_SEQUENCE,
        tags::LUT_DATA
    ]));
    assert!(needs(&[Tag(0x6012, 0x3000)]) && needs(&[tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA]));
    assert!(!needs(&[
        tags::ICON_IMAGE_SEQUENCE,
        tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA
    ]));
    assert!(!needs(&[Tag(0x6001, 0x3000)]) && !needs(&[tags::PIXEL_DATA]) && !needs(&[]));
}

/// Tags that rendering looks at, of one number or text.
const TAGS: [Tag; 36] = [
    tags::SAMPLES_PER_PIXEL,
    tags::ROWS,
    tags::COLUMNS,
    tags::BITS_ALLOCATED,
    tags::BITS_STORED,
    tags::HIGH_BIT,
    tags::PIXEL_REPRESENTATION,
    tags::PLANAR_CONFIGURATION,
    tags::PHOTOMETRIC_INTERPRETATION,
    tags::RESCALE_SLOPE,
    tags::RESCALE_INTERCEPT,
    tags::WINDOW_CENTER,
    tags::WINDOW_WIDTH,
    tags::VOILUT_FUNCTION,
    tags::PIXEL_PADDING_VALUE,
    tags::PIXEL_ASPECT_RATIO,
    tags::PIXEL_SPACING,
    tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
    tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
    tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
    tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    tags::SEGMENTED_RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    tags::LUT_DESCRIPTOR,
    tags::LUT_DATA,
    tags::PRESENTATION_LUT_SHAPE,
    tags::SHUTTER_SHAPE,
    tags::CENTER_OF_CIRCULAR_SHUTTER,
    tags::RADIUS_OF_CIRCULAR_SHUTTER,
    tags::VERTICES_OF_THE_POLYGONAL_SHUTTER,
    Tag(0x6000, 0x0010),
    Tag(0x6000, 0x0011),
    Tag(0x6000, 0x0015),
    Tag(0x6000, 0x0050),
    Tag(0x6000, 0x3000),
];

fn any_value() -> impl Strategy<Value = (VR, Vec<u8>)> {
    let text = prop_oneof![
        "NaN|inf|-1e308|0.5|1e999|-0|0|1|2\\\\3|65536",
        "MONOCHROME1|PALETTE COLOR|RGB|YBR_FULL_422|YBR_PARTIAL_422",
        "SIGMOID|LINEAR_EXACT|INVERSE|CIRCULAR\\\\POLYGONAL|1\\\\1\\\\9\\\\1\\\\9\\\\9",
    ];
    prop_oneof![
        any::<[u16; 3]>().prop_map(|words| (VR::US, words.iter().flat_map(|w| w.to_le_bytes()).collect())),
        (0u16..40).prop_map(|word| (VR::US, word.to_le_bytes().to_vec())),
        (0u16..4, 0u16..4, 0u16..18).prop_map(|(a, b, c)| {
            (
                VR::SS,
                [a, b, c].iter().flat_map(|word| word.to_le_bytes()).collect(),
            )
        }),
        text.prop_map(|text| (VR::DS, text.into_bytes())),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| (VR::OW, bytes)),
    ]
}

fn any_header() -> impl Strategy<Value = DataSet> {
    let values = || proptest::collection::vec((0..TAGS.len(), any_value()), 0..12);
    let put = |set: &mut DataSet, values: Vec<(usize, (VR, Vec<u8>))>| {
        for (tag, (vr, bytes)) in values {
            let (tag, value) = (TAGS[tag], Value::Bytes(Bytes::from(bytes)));
            set.put(Element { tag, vr, value });
        }
    };
    (values(), values(), 0..8u8, 1u16..12, 1u16..12).prop_map(move |(top, inner, which, rows, columns)| {
        let mut set = header(columns, rows);
        let mut nested = DataSet::new();
        put(&mut nested, inner);
        put(&mut set, top);
        for (bit, tag) in [
            (1, tags::MODALITY_LUT_SEQUENCE),
            (2, tags::VOILUT_SEQUENCE),
            (4, tags::PRESENTATION_LUT_SEQUENCE),
        ] {
            if which & bit != 0 {
                set.put_items(tag, vec![nested.clone()]);
            }
        }
        set
    })
}

proptest! {
    #[test]
    fn any_header_and_frame_are_a_picture_or_an_error(
        header in any_header(),
        frame in proptest::collection::vec(any::<u8>(), 0..2000),
        number in 0u32..4,
        window in proptest::option::of((any::<f64>(), any::<f64>(), 0..3u8)),
        viewport in proptest::option::of((0u32..80, 0u32..80, any::<[f64; 4]>(), any::<bool>())),
    ) {
        let window = window.map(|(center, width, function)| Window {
            center,
            width,
            function: [VoiFunction::Linear, VoiFunction::LinearExact, VoiFunction::Sigmoid][usize::from(function)],
        });
        let viewport = viewport.map(|(width, height, [x, y, w, h], whole)| {
            let shown = |extent: f64| (!whole).then_some(extent);
            Viewport {
                source_x: shown(x).unwrap_or_default(),
                source_y: shown(y).unwrap_or_default(),
                source_width: shown(w),
                source_height: shown(h),
                ..Viewport::new(width, height)
            }
        });
        let annotation = Annotation { patient: true, technique: true };
        let options = RenderOptions { window, viewport, annotation, presentation_state: None };
        if let Ok(picture) = render(&header, &frame, number, &options) {
            prop_assert_eq!(
                picture.pixels.len() as u64,
                u64::from(picture.width) * u64::from(picture.height) * u64::from(picture.channels)
            );
            prop_assert!(u64::from(picture.width) * u64::from(picture.height) <= limits::PICTURE_PIXELS_MAX);
            prop_assert_eq!(picture_size(&header, number, &options).unwrap(), (picture.width, picture.height));
        }
    }
}

#[test]
fn a_voi_table_of_the_image_stands_before_its_window() {
    let mut header = header(3, 1);
    header.put_text(tags::WINDOW_CENTER, VR::DS, "128");
    header.put_text(tags::WINDOW_WIDTH, VR::DS, "256");
    header.put_items(tags::VOILUT_SEQUENCE, vec![item([4, 1, 8], &[0, 51, 102, 255])]);
    let picture = render(&header, &[0, 2, 9], 1, &RenderOptions::default()).unwrap();
    assert_eq!(picture.pixels, [0, 51, 255]);
}

#[test]
fn the_inputs_of_a_voi_table_have_a_sign_where_what_is_measured_may_be_below_0() {
    let mut header = header(3, 1);
    header.put_u16(tags::BITS_ALLOCATED, 16);
    header.put_u16(tags::BITS_STORED, 16);
    header.put_u16(tags::HIGH_BIT, 15);
    header.put_text(tags::RESCALE_INTERCEPT, VR::DS, "-1024");
    // From -1024 on.
    header.put_items(
        tags::VOILUT_SEQUENCE,
        vec![item([4, 64512, 8], &[0, 51, 102, 255])],
    );
    let frame = [0, 0, 1, 0, 2, 0];
    let pixels = |header: &DataSet| {
        let picture = render(header, &frame, 1, &RenderOptions::default());
        picture.unwrap().pixels
    };
    assert_eq!(pixels(&header), [0, 51, 102]);
    // From 64512 on, which nothing reaches, though stored values have a sign.
    header.put_u16(tags::PIXEL_REPRESENTATION, 1);
    header.put_text(tags::RESCALE_INTERCEPT, VR::DS, "32768");
    assert_eq!(pixels(&header), [0, 0, 0]);
}
