//! Graphic annotations and the layers they are on (PS3.3 C.10.5, C.10.7).

use std::collections::BTreeMap;

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::super::Picture;
use super::super::canvas::{Canvas, GLYPH};
use super::super::color::of_lab;
use super::super::described::{number, numbers, pair, words};
use super::super::geometry::Geometry;
use crate::dataset::{DataSet, Element};
use crate::limits;

/// The segments that a circle or ellipse is drawn of.
const ROUND_SEGMENTS: u32 = 128;

/// The segments between two points of an interpolated line.
const CURVE_SEGMENTS: u32 = 8;

/// Graphic Layer Sequence: order and colour of each layer by its name.
#[derive(Clone, Debug, Default)]
pub(super) struct Layers(BTreeMap<String, (i64, [u8; 3])>);

impl Layers {
    pub(super) fn of(set: &DataSet) -> Self {
        let layer = |item: &DataSet| {
            let name = item.string(tags::GRAPHIC_LAYER)?.to_owned();
            let order = number(item, tags::GRAPHIC_LAYER_ORDER).map_or(i64::MAX, |order| order as i64);
            let lab: Vec<u16> = words(item, tags::GRAPHIC_LAYER_RECOMMENDED_DISPLAY_CIE_LAB_VALUE)
                .take(3)
                .collect();
            let gray = item.u16(tags::GRAPHIC_LAYER_RECOMMENDED_DISPLAY_GRAYSCALE_VALUE);
            let color = match lab[..] {
                [l, a, b] => of_lab([l, a, b]),
                _ => [(gray.unwrap_or(u16::MAX) >> 8) as u8; 3],
            };
            Some((name, (order, color)))
        };
        Self(
            set.items(tags::GRAPHIC_LAYER_SEQUENCE)
                .iter()
                .filter_map(layer)
                .collect(),
        )
    }

    pub(super) fn order(&self, layer: &str) -> i64 {
        self.0.get(layer).map_or(i64::MAX, |&(order, _)| order)
    }

    /// White, where nothing is said.
    pub(super) fn color(&self, layer: &str) -> [u8; 3] {
        self.0.get(layer).map_or([255; 3], |&(_, color)| color)
    }

    pub(super) fn is_colored(&self) -> bool {
        self.0.values().any(|(_, [r, g, b])| r != g || g != b)
    }
}

/// What coordinates are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Units {
    /// Pixels of the frame, whose first begins at 0, 0.
    Pixel,
    /// Fractions of what is displayed.
    Display,
}

impl Units {
    fn of(set: &DataSet, tag: Tag) -> Option<Self> {
        match set.string(tag)? {
            "PIXEL" => Some(Units::Pixel),
            "DISPLAY" => Some(Units::Display),
            _ => None,
        }
    }

    fn place(self, [x, y]: [f64; 2], geometry: &Geometry) -> [f64; 2] {
        match self {
            Units::Pixel => geometry.place(x, y),
            Units::Display => [x * f64::from(geometry.width), y * f64::from(geometry.height)],
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Point,
    Line,
    Curve,
    Circle,
    Ellipse,
}

#[derive(Clone, Debug)]
struct Graphic {
    units: Units,
    kind: Kind,
    points: Vec<[f64; 2]>,
    filled: bool,
}

#[derive(Clone, Debug)]
struct Text {
    text: String,
    /// Two corners, and how the text stands between them.
    box_at: Option<(Units, [[f64; 2]; 2], Justification)>,
    /// What the text is about, and whether that is shown.
    anchor: Option<(Units, [f64; 2], bool)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Justification {
    Left,
    Center,
    Right,
}

/// One item of the Graphic Annotation Sequence.
#[derive(Clone, Debug)]
pub(super) struct Drawing {
    pub(super) layer: String,
    graphics: Vec<Graphic>,
    texts: Vec<Text>,
}

/// What a state draws, with the item that says it. What is beyond the limit of points is left out, and so is
/// what is incomplete or in other units.
pub(super) fn drawings(set: &DataSet) -> impl Iterator<Item = (&DataSet, Drawing)> {
    let mut left = limits::GRAPHIC_POINTS_MAX;
    set.items(tags::GRAPHIC_ANNOTATION_SEQUENCE)
        .iter()
        .map(move |item| {
            let mut graphics = Vec::new();
            for object in item.items(tags::GRAPHIC_OBJECT_SEQUENCE) {
                if let Some(graphic) = Graphic::of(object, left) {
                    left -= graphic.points.len();
                    graphics.push(graphic);
                }
            }
            let drawing = Drawing {
                layer: item.string(tags::GRAPHIC_LAYER).unwrap_or_default().to_owned(),
                graphics,
                texts: item
                    .items(tags::TEXT_OBJECT_SEQUENCE)
                    .iter()
                    .filter_map(Text::of)
                    .collect(),
            };
            (item, drawing)
        })
}

impl Graphic {
    fn of(object: &DataSet, points_max: usize) -> Option<Self> {
        let (kind, least) = match object.string(tags::GRAPHIC_TYPE)? {
            "POINT" => (Kind::Point, 1),
            "POLYLINE" => (Kind::Line, 2),
            "INTERPOLATED" => (Kind::Curve, 2),
            "CIRCLE" => (Kind::Circle, 2),
            "ELLIPSE" => (Kind::Ellipse, 4),
            _ => return None,
        };
        let said = number(object, tags::NUMBER_OF_GRAPHIC_POINTS).map_or(usize::MAX, |count| count as usize);
        let numbers: Vec<f64> = numbers(object, tags::GRAPHIC_DATA).take(points_max * 2).collect();
        let mut points = numbers.as_chunks::<2>().0.to_vec();
        points.truncate(said);
        let finite = points.iter().flatten().all(|at| at.is_finite());
        (finite && points.len() >= least).then_some(Self {
            units: Units::of(object, tags::GRAPHIC_ANNOTATION_UNITS)?,
            kind,
            points,
            filled: object.string(tags::GRAPHIC_FILLED) == Some("Y"),
        })
    }

    fn draw(&self, geometry: &Geometry, canvas: &mut Canvas<'_>) {
        let place = |point: [f64; 2]| self.units.place(point, geometry);
        let line: Vec<[f64; 2]> = match (self.kind, &self.points[..]) {
            (Kind::Point, points) => {
                for &point in points {
                    canvas.point(place(point), canvas.thickness * 3);
                }
                return;
            }
            (Kind::Circle, &[[x, y], [on_x, on_y], ..]) => {
                let radius = (on_x - x).hypot(on_y - y);
                round(|cos, sin| place([x + radius * cos, y + radius * sin]))
            }
            (Kind::Ellipse, &[a, b, c, d, ..]) => {
                let middle = |at: usize| (a[at] + b[at]) / 2.0;
                let half = |from: [f64; 2], to: [f64; 2], at: usize| (to[at] - from[at]) / 2.0;
                round(|cos, sin| {
                    let along = |at| middle(at) + half(a, b, at) * cos + half(c, d, at) * sin;
                    place([along(0), along(1)])
                })
            }
            (Kind::Curve, points) => curve(points).into_iter().map(place).collect(),
            (_, points) => points.iter().copied().map(place).collect(),
        };
        if self.filled && line.first() == line.last() {
            canvas.area(&line);
        }
        canvas.lines(&line);
    }
}

/// A closed line around.
fn round(point: impl Fn(f64, f64) -> [f64; 2]) -> Vec<[f64; 2]> {
    (0..=ROUND_SEGMENTS)
        .map(|at| {
            // The same point at the end as at the start.
            let part = f64::from(at % ROUND_SEGMENTS) / f64::from(ROUND_SEGMENTS);
            let (sin, cos) = (part * std::f64::consts::TAU).sin_cos();
            point(cos, sin)
        })
        .collect()
}

/// A smooth line through all points (Catmull and Rom); the Standard leaves open which.
fn curve(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let closed = points.len() > 2 && points.first() == points.last();
    let last = points.len() - 1;
    let at = |index: isize| match usize::try_from(index) {
        Ok(index) if index <= last => points[index],
        Ok(_) if closed => points[1],
        Ok(_) => points[last],
        Err(_) if closed => points[last - 1],
        Err(_) => points[0],
    };
    let mut line = vec![points[0]];
    for index in 0..last as isize {
        let [a, b, c, d] = [at(index - 1), at(index), at(index + 1), at(index + 2)];
        line.extend((1..=CURVE_SEGMENTS).map(|step| {
            let t = f64::from(step) / f64::from(CURVE_SEGMENTS);
            std::array::from_fn(|axis| {
                let (a, b, c, d) = (a[axis], b[axis], c[axis], d[axis]);
                0.5 * (2.0 * b
                    + (c - a) * t
                    + (2.0 * a - 5.0 * b + 4.0 * c - d) * t * t
                    + (3.0 * b - a - 3.0 * c + d) * t * t * t)
            })
        }));
    }
    // The end is a point, whatever is lost in arithmetic.
    line.pop();
    line.push(points[last]);
    line
}

impl Text {
    fn of(object: &DataSet) -> Option<Self> {
        let text = object
            .get(tags::UNFORMATTED_TEXT_VALUE)
            .and_then(|text: &Element| text.strings().next())?;
        let corners = pair(object, tags::BOUNDING_BOX_TOP_LEFT_HAND_CORNER)
            .zip(pair(object, tags::BOUNDING_BOX_BOTTOM_RIGHT_HAND_CORNER));
        let justification = match object.string(tags::BOUNDING_BOX_TEXT_HORIZONTAL_JUSTIFICATION) {
            Some("RIGHT") => Justification::Right,
            Some("CENTER") => Justification::Center,
            _ => Justification::Left,
        };
        let box_at = Units::of(object, tags::BOUNDING_BOX_ANNOTATION_UNITS)
            .zip(corners)
            .map(|(units, (a, b))| (units, [a, b], justification));
        let anchor = Units::of(object, tags::ANCHOR_POINT_ANNOTATION_UNITS)
            .zip(pair(object, tags::ANCHOR_POINT))
            .map(|(units, at)| {
                (
                    units,
                    at,
                    object.string(tags::ANCHOR_POINT_VISIBILITY) == Some("Y"),
                )
            });
        (box_at.is_some() || anchor.is_some()).then(|| Self {
            text: text.to_owned(),
            box_at,
            anchor,
        })
    }

    fn draw(&self, geometry: &Geometry, canvas: &mut Canvas<'_>) {
        let lines: Vec<&str> = self
            .text
            .split(['\r', '\n'])
            .filter(|line| !line.is_empty())
            .collect();
        let longest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(1);
        let usual = (geometry.width.min(geometry.height) / 320).max(1);
        let anchor = self
            .anchor
            .map(|(units, at, visible)| (units.place(at, geometry), visible));
        let (corner, width, scale, justification) = match (self.box_at, anchor) {
            (Some((units, [a, b], justification)), _) => {
                let (a, b) = (units.place(a, geometry), units.place(b, geometry));
                let (left, top) = (a[0].min(b[0]), a[1].min(b[1]));
                let (width, height) = ((a[0] - b[0]).abs(), (a[1] - b[1]).abs());
                // As large as fits; a box that is too small for any text is passed over.
                let fits = (height / (lines.len() as f64 * GLYPH)).min(width / (longest as f64 * GLYPH));
                (
                    [left, top],
                    width,
                    (fits as u32).clamp(1, usual * 4),
                    justification,
                )
            }
            (None, Some((at, _))) => {
                let beside = f64::from(usual) * GLYPH / 2.0;
                ([at[0] + beside, at[1] + beside], 0.0, usual, Justification::Left)
            }
            (None, None) => return,
        };
        if let Some((at, true)) = anchor {
            canvas.line(at, corner);
            canvas.point(at, canvas.thickness * 3);
        }
        let size = GLYPH * f64::from(scale);
        for (number, line) in lines.iter().enumerate() {
            let room = width - line.chars().count() as f64 * size;
            let x = corner[0]
                + match justification {
                    Justification::Left => 0.0,
                    Justification::Center => room / 2.0,
                    Justification::Right => room,
                };
            canvas.text([x, corner[1] + number as f64 * size], line, scale);
        }
    }
}

/// Draws one after another.
pub(super) fn draw<'a>(
    drawings: impl Iterator<Item = &'a Drawing>,
    layers: &Layers,
    geometry: &Geometry,
    picture: &mut Picture,
) {
    let mut canvas = Canvas::new(picture);
    for drawing in drawings {
        canvas.color = layers.color(&drawing.layer);
        for graphic in &drawing.graphics {
            graphic.draw(geometry, &mut canvas);
        }
        for text in &drawing.texts {
            text.draw(geometry, &mut canvas);
        }
    }
}
