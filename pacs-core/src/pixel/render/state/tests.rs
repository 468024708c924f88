use std::sync::Arc;

use bytes::Bytes;
use dicom_core::VR;
use proptest::prelude::*;

use super::super::lut::tests::{item, put_words};
use super::super::tests::header;
use super::super::{Picture, RenderOptions, render};
use super::*;
use crate::dataset::Value;
use crate::error::ErrorKind;

/// A state that refers to the instance of [`header`].
fn state() -> DataSet {
    let mut image = DataSet::new();
    image.put_text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, "1.2.3");
    let mut series = DataSet::new();
    series.put_text(tags::SERIES_INSTANCE_UID, VR::UI, "1.2");
    series.put_items(tags::REFERENCED_IMAGE_SEQUENCE, vec![image]);
    let mut set = DataSet::new();
    set.put_text(
        tags::SOP_CLASS_UID,
        VR::UI,
        uids::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE,
    );
    set.put_items(tags::REFERENCED_SERIES_SEQUENCE, vec![series]);
    set
}

fn shown(set: &DataSet, header: &DataSet, frame: &[u8]) -> Picture {
    let options = RenderOptions {
        presentation_state: Some(Arc::new(PresentationState::read(set).unwrap())),
        ..RenderOptions::default()
    };
    render(header, frame, 1, &options).unwrap()
}

fn put_floats(set: &mut DataSet, tag: Tag, numbers: &[f32]) {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let value = Value::Bytes(Bytes::from(bytes));
    set.put(Element {
        tag,
        vr: VR::FL,
        value,
    });
}

fn put_longs(set: &mut DataSet, tag: Tag, numbers: [i32; 2]) {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let value = Value::Bytes(Bytes::from(bytes));
    set.put(Element {
        tag,
        vr: VR::SL,
        value,
    });
}

fn graphic(kind: &str, units: &str, data: &[f32], filled: bool) -> DataSet {
    let mut object = DataSet::new();
    object.put_text(tags::GRAPHIC_ANNOTATION_UNITS, VR::CS, units);
    object.put_u16(tags::GRAPHIC_DIMENSIONS, 2);
    object.put_u16(tags::NUMBER_OF_GRAPHIC_POINTS, data.len() as u16 / 2);
    put_floats(&mut object, tags::GRAPHIC_DATA, data);
    object.put_text(tags::GRAPHIC_TYPE, VR::CS, kind);
    object.put_text(tags::GRAPHIC_FILLED, VR::CS, if filled { "Y" } else { "N" });
    object
}

fn annotation(layer: &str, graphics: Vec<DataSet>, texts: Vec<DataSet>) -> DataSet {
    let mut item = DataSet::new();
    item.put_text(tags::GRAPHIC_LAYER, VR::CS, layer);
    item.put_items(tags::GRAPHIC_OBJECT_SEQUENCE, graphics);
    item.put_items(tags::TEXT_OBJECT_SEQUENCE, texts);
    item
}

fn layer(name: &str, order: &str, gray: u16) -> DataSet {
    let mut layer = DataSet::new();
    layer.put_text(tags::GRAPHIC_LAYER, VR::CS, name);
    layer.put_text(tags::GRAPHIC_LAYER_ORDER, VR::IS, order);
    layer.put_u16(tags::GRAPHIC_LAYER_RECOMMENDED_DISPLAY_GRAYSCALE_VALUE, gray);
    layer
}

/// What these draw into a black square, as characters.
fn drawing(side: u16, annotations: Vec<DataSet>) -> Vec<String> {
    let mut set = state();
    set.put_items(tags::GRAPHIC_ANNOTATION_SEQUENCE, annotations);
    set.put_items(
        tags::GRAPHIC_LAYER_SEQUENCE,
        vec![layer("OVER", "2", 0xFFFF), layer("UNDER", "1", 0x8000)],
    );
    let black = vec![0; usize::from(side) * usize::from(side)];
    let picture = shown(&set, &header(side, side), &black);
    let character = |&value: &u8| match value {
        0 => '.',
        255 => '#',
        _ => 'o',
    };
    picture
        .pixels
        .chunks(side.into())
        .map(|row| row.iter().map(character).collect())
        .collect()
}

#[test]
fn only_a_state_that_refers_to_something_is_one() {
    let read = |set: &DataSet| PresentationState::read(set).map(|state| state.references().to_vec());
    let expected = Reference {
        series: Some("1.2".to_owned()),
        instance: "1.2.3".to_owned(),
        frames: Vec::new(),
    };
    assert_eq!(read(&state()).unwrap(), [expected]);
    let mut other = state();
    other.put_text(tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE);
    assert_eq!(read(&other).unwrap_err().kind(), ErrorKind::Invalid);
    let mut empty = state();
    empty.remove(tags::REFERENCED_SERIES_SEQUENCE);
    assert_eq!(read(&empty).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn a_state_says_all_of_the_grays_and_what_it_is_silent_about_is_left_as_stored() {
    let mut image = header(3, 1);
    image.put_text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME1");
    image.put_text(tags::RESCALE_SLOPE, VR::DS, "100");
    image.put_text(tags::WINDOW_CENTER, VR::DS, "3");
    image.put_text(tags::WINDOW_WIDTH, VR::DS, "2");
    let frame = [0, 100, 255];
    let mut set = state();
    assert_eq!(shown(&set, &image, &frame).pixels, [0, 100, 255]);
    set.put_text(tags::PRESENTATION_LUT_SHAPE, VR::CS, "INVERSE");
    assert_eq!(shown(&set, &image, &frame).pixels, [255, 155, 0]);
    let mut voi = DataSet::new();
    voi.put_text(tags::WINDOW_CENTER, VR::DS, "100");
    voi.put_text(tags::WINDOW_WIDTH, VR::DS, "201");
    set.put_items(tags::SOFTCOPY_VOILUT_SEQUENCE, vec![voi]);
    set.put_text(tags::RESCALE_SLOPE, VR::DS, "0.5");
    set.put_text(tags::RESCALE_INTERCEPT, VR::DS, "49.5");
    // 49.5 is 0.25 of the window from -0.5 to 199.5, then inverted.
    assert_eq!(shown(&set, &image, &frame).pixels, [191, 128, 29]);
    set.put_items(tags::PRESENTATION_LUT_SEQUENCE, vec![item([2, 0, 8], &[51, 102])]);
    // The middle of both entries belongs to the upper one.
    assert_eq!(shown(&set, &image, &frame).pixels, [51, 102, 102]);
}

#[test]
fn the_inputs_of_a_softcopy_voi_table_have_a_sign_where_what_is_measured_may_be_below_0() {
    let mut voi = DataSet::new();
    voi.put_items(
        tags::VOILUT_SEQUENCE,
        vec![item([4, 65535, 8], &[0, 51, 102, 255])],
    );
    let mut set = state();
    set.put_items(tags::SOFTCOPY_VOILUT_SEQUENCE, vec![voi]);
    set.put_text(tags::RESCALE_SLOPE, VR::DS, "1");
    set.put_text(tags::RESCALE_INTERCEPT, VR::DS, "-1");
    assert_eq!(shown(&set, &header(3, 1), &[0, 1, 2]).pixels, [0, 51, 102]);
}

#[test]
fn a_softcopy_voi_is_for_the_frames_it_names() {
    let window = |frames: &str, center: &str| {
        let mut image = DataSet::new();
        image.put_text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, "1.2.3");
        image.put_text(tags::REFERENCED_FRAME_NUMBER, VR::IS, frames);
        let mut item = DataSet::new();
        item.put_items(tags::REFERENCED_IMAGE_SEQUENCE, vec![image]);
        item.put_text(tags::WINDOW_CENTER, VR::DS, center);
        item.put_text(tags::WINDOW_WIDTH, VR::DS, "1");
        item
    };
    let mut set = state();
    set.put_items(
        tags::SOFTCOPY_VOILUT_SEQUENCE,
        vec![window("2\\3", "50"), window("1", "150")],
    );
    let options = RenderOptions {
        presentation_state: Some(Arc::new(PresentationState::read(&set).unwrap())),
        ..RenderOptions::default()
    };
    let pixels = |number| {
        render(&header(2, 1), &[100, 200], number, &options)
            .unwrap()
            .pixels
    };
    assert_eq!(
        [pixels(1), pixels(2), pixels(3)],
        [[0, 255], [255, 255], [255, 255]]
    );
    // It names no other frame, and refers to no other instance.
    assert_eq!(pixels(4), [100, 200]);
    let mut other = header(2, 1);
    other.put_text(tags::SOP_INSTANCE_UID, VR::UI, "9.9");
    assert_eq!(render(&other, &[100, 200], 1, &options).unwrap().pixels, [0, 255]);
}

#[test]
fn an_image_is_turned_mirrored_and_cut_to_its_displayed_area() {
    let frame: Vec<u8> = (0..6).map(|at| at * 40).collect();
    let mut set = state();
    set.put_u16(tags::IMAGE_ROTATION, 90);
    set.put_text(tags::IMAGE_HORIZONTAL_FLIP, VR::CS, "N");
    let turned = shown(&set, &header(3, 2), &frame);
    assert_eq!((turned.width, turned.height), (2, 3));
    assert_eq!(turned.pixels, [120, 0, 160, 40, 200, 80]);
    set.put_text(tags::IMAGE_HORIZONTAL_FLIP, VR::CS, "Y");
    assert_eq!(
        shown(&set, &header(3, 2), &frame).pixels,
        [0, 120, 40, 160, 80, 200]
    );
    let mut area = DataSet::new();
    // By the pixels that come to stand at these corners.
    put_longs(&mut area, tags::DISPLAYED_AREA_TOP_LEFT_HAND_CORNER, [3, 2]);
    put_longs(&mut area, tags::DISPLAYED_AREA_BOTTOM_RIGHT_HAND_CORNER, [2, 1]);
    set.put_items(tags::DISPLAYED_AREA_SELECTION_SEQUENCE, vec![area.clone()]);
    set.put_u16(tags::IMAGE_ROTATION, 180);
    set.put_text(tags::IMAGE_HORIZONTAL_FLIP, VR::CS, "N");
    assert_eq!(shown(&set, &header(3, 2), &frame).pixels, [200, 160, 80, 40]);
    // Larger than the image, with pixels twice as high as wide.
    put_longs(&mut area, tags::DISPLAYED_AREA_TOP_LEFT_HAND_CORNER, [0, 1]);
    put_longs(&mut area, tags::DISPLAYED_AREA_BOTTOM_RIGHT_HAND_CORNER, [2, 1]);
    area.put_text(tags::PRESENTATION_PIXEL_ASPECT_RATIO, VR::IS, "2\\1");
    set.put_items(tags::DISPLAYED_AREA_SELECTION_SEQUENCE, vec![area]);
    set.put_u16(tags::IMAGE_ROTATION, 0);
    let picture = shown(&set, &header(3, 2), &frame);
    assert_eq!((picture.width, picture.height), (3, 2));
    assert_eq!(picture.pixels, [0, 0, 40, 0, 0, 40]);
}

#[test]
fn a_displayed_area_beyond_all_measure_is_refused_and_one_beside_the_image_is_black() {
    let with = |from, to| {
        let mut area = DataSet::new();
        put_longs(&mut area, tags::DISPLAYED_AREA_TOP_LEFT_HAND_CORNER, from);
        put_longs(&mut area, tags::DISPLAYED_AREA_BOTTOM_RIGHT_HAND_CORNER, to);
        let mut set = state();
        set.put_items(tags::DISPLAYED_AREA_SELECTION_SEQUENCE, vec![area]);
        let options = RenderOptions {
            presentation_state: Some(Arc::new(PresentationState::read(&set).unwrap())),
            ..RenderOptions::default()
        };
        render(&header(2, 1), &[200, 200], 1, &options)
    };
    let error = with([i32::MIN, i32::MIN], [i32::MAX, i32::MAX]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(with([100, 100], [101, 100]).unwrap().pixels, [0, 0]);
}

#[test]
fn shutters_of_a_state_hide_with_its_value_in_gray_or_in_colour() {
    let mut set = state();
    set.put_text(tags::SHUTTER_SHAPE, VR::CS, "RECTANGULAR");
    for (tag, edge) in [
        (tags::SHUTTER_LEFT_VERTICAL_EDGE, "2"),
        (tags::SHUTTER_RIGHT_VERTICAL_EDGE, "3"),
        (tags::SHUTTER_UPPER_HORIZONTAL_EDGE, "1"),
        (tags::SHUTTER_LOWER_HORIZONTAL_EDGE, "1"),
    ] {
        set.put_text(tag, VR::IS, edge);
    }
    set.put_u16(tags::SHUTTER_PRESENTATION_VALUE, 0x4000);
    assert_eq!(shown(&set, &header(3, 1), &[10, 20, 30]).pixels, [64, 20, 30]);
    // Red of sRGB.
    let lab = [35578, 53663, 50857];
    put_words(
        &mut set,
        tags::SHUTTER_PRESENTATION_COLOR_CIE_LAB_VALUE,
        VR::US,
        &lab,
    );
    let picture = shown(&set, &header(3, 1), &[10, 20, 30]);
    assert_eq!(picture.channels, 3);
    assert!(picture.pixels[0] > 250 && picture.pixels[1] < 5 && picture.pixels[2] < 5);
    assert_eq!(picture.pixels[3..], [20, 20, 20, 30, 30, 30]);
}

#[test]
fn overlays_are_shown_when_a_layer_is_named_and_a_bitmap_shutter_hides() {
    let overlay = |set: &mut DataSet, group: u16, bits: &'static [u8]| {
        set.put_u16(Tag(group, 0x0010), 1);
        set.put_u16(Tag(group, 0x0011), 3);
        set.put_text(Tag(group, 0x0040), VR::CS, "G");
        let value = Value::Bytes(Bytes::from_static(bits));
        let (tag, vr) = (Tag(group, 0x3000), VR::OW);
        set.put(Element { tag, vr, value });
    };
    let mut image = header(3, 1);
    overlay(&mut image, 0x6000, &[0b001, 0]);
    let frame = [10, 20, 30];
    let mut set = state();
    assert_eq!(shown(&set, &image, &frame).pixels, frame);
    set.put_text(Tag(0x6000, 0x1001), VR::CS, "OVER");
    set.put_items(tags::GRAPHIC_LAYER_SEQUENCE, vec![layer("OVER", "1", 0x8000)]);
    assert_eq!(shown(&set, &image, &frame).pixels, [128, 20, 30]);
    overlay(&mut set, 0x6002, &[0b010, 0]);
    set.put_text(Tag(0x6002, 0x1001), VR::CS, "NONE");
    assert_eq!(shown(&set, &image, &frame).pixels, [128, 255, 30]);
    overlay(&mut set, 0x6004, &[0b110, 0]);
    set.put_text(tags::SHUTTER_SHAPE, VR::CS, "BITMAP");
    set.put_u16(tags::SHUTTER_OVERLAY_GROUP, 0x6004);
    assert_eq!(shown(&set, &image, &frame).pixels, [128, 255, 0]);
}

#[test]
fn a_pseudo_colour_state_puts_colours_in_place_of_grays() {
    let mut set = state();
    for (number, (descriptor, data)) in (0..).zip([
        (
            tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
            tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        ),
        (
            tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
            tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        ),
        (
            tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
            tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        ),
    ]) {
        put_words(&mut set, descriptor, VR::US, &[3, 0, 16]);
        put_words(&mut set, data, VR::OW, &[0, 0x1000 * number, 0xFFFF]);
    }
    let picture = shown(&set, &header(3, 1), &[0, 128, 255]);
    assert_eq!(picture.pixels, [0, 0, 0, 0, 16, 32, 255, 255, 255]);
}

#[test]
fn lines_points_and_filled_areas_are_drawn_where_their_units_say() {
    let line = graphic("POLYLINE", "PIXEL", &[0.5, 0.5, 4.5, 0.5, 4.5, 2.5], false);
    let point = graphic("POINT", "PIXEL", &[1.5, 4.5], false);
    assert_eq!(
        drawing(6, vec![annotation("OVER", vec![line, point], vec![])]),
        ["#####.", "....#.", "....#.", "###...", "###...", "###..."]
    );
    let area = graphic(
        "POLYLINE",
        "DISPLAY",
        &[0.25, 0.25, 0.75, 0.25, 0.75, 0.75, 0.25, 0.75, 0.25, 0.25],
        true,
    );
    let drawn = drawing(8, vec![annotation("OVER", vec![area], vec![])]);
    assert_eq!(drawn[0], "........");
    assert!(drawn[2..6].iter().all(|row| row.contains("####")), "{drawn:#?}");
}

#[test]
fn circles_ellipses_and_curves_go_through_their_points() {
    let has = |drawn: &[String], x: usize, y: usize| drawn[y].as_bytes()[x] == b'#';
    let circle = graphic("CIRCLE", "PIXEL", &[10.5, 10.5, 15.5, 10.5], false);
    let drawn = drawing(21, vec![annotation("OVER", vec![circle], vec![])]);
    for (x, y) in [(15, 10), (5, 10), (10, 5), (10, 15)] {
        assert!(has(&drawn, x, y), "{drawn:#?}");
    }
    assert!(!has(&drawn, 10, 10) && !has(&drawn, 18, 10));
    let ellipse = graphic(
        "ELLIPSE",
        "PIXEL",
        &[2.5, 10.5, 18.5, 10.5, 10.5, 7.5, 10.5, 13.5],
        true,
    );
    let drawn = drawing(21, vec![annotation("OVER", vec![ellipse], vec![])]);
    for (x, y) in [(2, 10), (18, 10), (10, 7), (10, 13), (10, 10)] {
        assert!(has(&drawn, x, y), "{drawn:#?}");
    }
    assert!(!has(&drawn, 3, 7) && !has(&drawn, 10, 15));
    let points = [2.5, 2.5, 10.5, 17.5, 18.5, 2.5];
    let drawn = drawing(
        21,
        vec![annotation(
            "OVER",
            vec![graphic("INTERPOLATED", "PIXEL", &points, false)],
            vec![],
        )],
    );
    for point in points.chunks(2) {
        assert!(has(&drawn, point[0] as usize, point[1] as usize), "{drawn:#?}");
    }
}

#[test]
fn layers_of_a_higher_order_are_drawn_over_others_in_their_own_gray() {
    let line = |layer| {
        annotation(
            layer,
            vec![graphic("POLYLINE", "PIXEL", &[0.5, 0.5, 2.5, 0.5], false)],
            vec![],
        )
    };
    assert_eq!(drawing(3, vec![line("UNDER")])[0], "ooo");
    assert_eq!(drawing(3, vec![line("OVER"), line("UNDER")])[0], "###");
    assert_eq!(drawing(3, vec![line("UNDER"), line("OVER")])[0], "###");
}

#[test]
fn text_stands_in_its_box_or_beside_its_anchor() {
    let text = |put: &dyn Fn(&mut DataSet)| {
        let mut object = DataSet::new();
        object.put_text(tags::UNFORMATTED_TEXT_VALUE, VR::ST, "I");
        put(&mut object);
        let drawn = drawing(32, vec![annotation("OVER", vec![], vec![object])]);
        let at = |row: &String| {
            row.find('#')
                .into_iter()
                .chain(row.rfind('#'))
                .collect::<Vec<_>>()
        };
        let columns: Vec<usize> = drawn.iter().flat_map(at).collect();
        let rows: Vec<usize> = (0..32).filter(|&row| drawn[row].contains('#')).collect();
        let side = |of: &[usize]| (*of.iter().min().unwrap(), *of.iter().max().unwrap());
        (side(&columns), side(&rows))
    };
    let boxed = |justification: &'static str| {
        move |object: &mut DataSet| {
            object.put_text(tags::BOUNDING_BOX_ANNOTATION_UNITS, VR::CS, "PIXEL");
            put_floats(object, tags::BOUNDING_BOX_TOP_LEFT_HAND_CORNER, &[4.0, 8.0]);
            put_floats(object, tags::BOUNDING_BOX_BOTTOM_RIGHT_HAND_CORNER, &[28.0, 16.0]);
            object.put_text(
                tags::BOUNDING_BOX_TEXT_HORIZONTAL_JUSTIFICATION,
                VR::CS,
                justification,
            );
        }
    };
    // The letter has 4 of the 8 pixels of its glyph, from the second on.
    assert_eq!(text(&boxed("LEFT")), ((5, 8), (8, 14)));
    assert_eq!(text(&boxed("CENTER")), ((13, 16), (8, 14)));
    assert_eq!(text(&boxed("RIGHT")), ((21, 24), (8, 14)));
    let anchored = |visible: &'static str| {
        move |object: &mut DataSet| {
            object.put_text(tags::ANCHOR_POINT_ANNOTATION_UNITS, VR::CS, "DISPLAY");
            put_floats(object, tags::ANCHOR_POINT, &[0.25, 0.25]);
            object.put_text(tags::ANCHOR_POINT_VISIBILITY, VR::CS, visible);
        }
    };
    assert_eq!(text(&anchored("N")), ((13, 16), (12, 18)));
    let ((left, _), (top, _)) = text(&anchored("Y"));
    assert_eq!((left, top), (7, 7));
    // Without a place there is nothing to draw.
    let mut lost = DataSet::new();
    lost.put_text(tags::UNFORMATTED_TEXT_VALUE, VR::ST, "I");
    assert!(
        drawing(8, vec![annotation("OVER", vec![], vec![lost])])
            .iter()
            .all(|row| row == "........")
    );
}

#[test]
fn debug_shows_no_text_of_a_state() {
    let mut object = DataSet::new();
    object.put_text(tags::UNFORMATTED_TEXT_VALUE, VR::ST, "Secret");
    object.put_text(tags::ANCHOR_POINT_ANNOTATION_UNITS, VR::CS, "PIXEL");
    put_floats(&mut object, tags::ANCHOR_POINT, &[1.0, 1.0]);
    let mut set = state();
    set.put_items(
        tags::GRAPHIC_ANNOTATION_SEQUENCE,
        vec![annotation("A", vec![], vec![object])],
    );
    let state = PresentationState::read(&set).unwrap();
    assert_eq!(state.drawings.len(), 1);
    assert!(!format!("{state:?}").contains("Secret"));
}

proptest! {
    #[test]
    fn any_graphics_and_areas_are_drawn_or_refused(
        data in proptest::collection::vec(any::<f32>(), 0..12),
        kind in "POINT|POLYLINE|INTERPOLATED|CIRCLE|ELLIPSE",
        units in "PIXEL|DISPLAY",
        filled in any::<bool>(),
        closed in any::<bool>(),
        from in any::<[i32; 2]>(),
        to in prop_oneof![Just([4, 4]), any::<[i32; 2]>()],
        rotation in any::<u16>(),
    ) {
        let mut data = data;
        if closed && data.len() > 1 {
            data.extend_from_within(..2);
        }
        let mut text = DataSet::new();
        text.put_text(tags::UNFORMATTED_TEXT_VALUE, VR::ST, "a\r\n\u{5c71}");
        text.put_text(tags::BOUNDING_BOX_ANNOTATION_UNITS, VR::CS, units.as_str());
        put_floats(&mut text, tags::BOUNDING_BOX_TOP_LEFT_HAND_CORNER, &data);
        put_floats(&mut text, tags::BOUNDING_BOX_BOTTOM_RIGHT_HAND_CORNER, data.get(2..).unwrap_or_default());
        let mut area = DataSet::new();
        put_longs(&mut area, tags::DISPLAYED_AREA_TOP_LEFT_HAND_CORNER, from);
        put_longs(&mut area, tags::DISPLAYED_AREA_BOTTOM_RIGHT_HAND_CORNER, to);
        let mut set = state();
        set.put_items(tags::DISPLAYED_AREA_SELECTION_SEQUENCE, vec![area]);
        set.put_u16(tags::IMAGE_ROTATION, rotation);
        let graphics = vec![graphic(&kind, &units, &data, filled)];
        set.put_items(tags::GRAPHIC_ANNOTATION_SEQUENCE, vec![annotation("A", graphics, vec![text])]);
        for viewport in [None, Some("40,30".parse().unwrap())] {
            let options = RenderOptions {
                viewport,
                presentation_state: Some(Arc::new(PresentationState::read(&set).unwrap())),
                ..RenderOptions::default()
            };
            let _ = render(&header(4, 4), &[7; 16], 1, &options);
        }
    }
}
