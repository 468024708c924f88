//! Display shutters: what of an image is hidden (PS3.3 C.7.6.11, C.7.6.15).

use dicom_dictionary_std::tags;

use super::color::of_lab;
use super::described::{number, numbers, pair, words};
use super::overlay::Overlay;
use super::samples::Samples;
use crate::dataset::DataSet;
use crate::limits;

#[derive(Clone, Debug)]
enum Shape {
    /// Left, right, upper and lower edge, which are shown.
    Rectangle([f64; 4]),
    /// Row and column of the center, and the radius.
    Circle([f64; 3]),
    /// Row and column of each vertex.
    Polygon(Vec<[f64; 2]>),
    /// What it covers is hidden.
    Bitmap(Overlay),
}

/// The shutters of an image: shown is what none of them hides.
#[derive(Clone, Debug)]
pub(super) struct Shutter {
    shapes: Vec<Shape>,
    /// What is shown in place of what is hidden.
    color: [u8; 3],
}

impl Shutter {
    /// What `set`, an image or a presentation state, says; `None` when it has none.
    pub(super) fn of(set: &DataSet, frame: u32) -> Option<Self> {
        let edge = |tag| number(set, tag);
        let shape = |name: &str| match name {
            "RECTANGULAR" => Some(Shape::Rectangle([
                edge(tags::SHUTTER_LEFT_VERTICAL_EDGE)?,
                edge(tags::SHUTTER_RIGHT_VERTICAL_EDGE)?,
                edge(tags::SHUTTER_UPPER_HORIZONTAL_EDGE)?,
                edge(tags::SHUTTER_LOWER_HORIZONTAL_EDGE)?,
            ])),
            "CIRCULAR" => {
                let [row, column] = pair(set, tags::CENTER_OF_CIRCULAR_SHUTTER)?;
                Some(Shape::Circle([
                    row,
                    column,
                    edge(tags::RADIUS_OF_CIRCULAR_SHUTTER)?,
                ]))
            }
            "POLYGONAL" => {
                let vertices: Vec<f64> = numbers(set, tags::VERTICES_OF_THE_POLYGONAL_SHUTTER)
                    .take(2 * limits::SHUTTER_VERTICES_MAX)
                    .collect();
                let vertices = vertices.as_chunks::<2>().0.to_vec();
                let finite = vertices.iter().flatten().all(|at| at.is_finite());
                (vertices.len() >= 3 && finite).then_some(Shape::Polygon(vertices))
            }
            "BITMAP" => {
                let group = set.u16(tags::SHUTTER_OVERLAY_GROUP)?;
                Some(Shape::Bitmap(Overlay::of(set, group, frame)?))
            }
            _ => None,
        };
        let shapes: Vec<Shape> = set
            .strings(tags::SHUTTER_SHAPE)
            .filter_map(shape)
            // One of each.
            .take(4)
            .collect();
        if shapes.is_empty() {
            return None;
        }
        let lab: Vec<u16> = words(set, tags::SHUTTER_PRESENTATION_COLOR_CIE_LAB_VALUE)
            .take(3)
            .collect();
        let color = match lab[..] {
            [l, a, b] => of_lab([l, a, b]),
            _ => {
                let value = set.u16(tags::SHUTTER_PRESENTATION_VALUE).unwrap_or_default();
                [(value >> 8) as u8; 3]
            }
        };
        Some(Self { shapes, color })
    }

    /// The colour of what is hidden.
    pub(super) fn color(&self) -> [u8; 3] {
        self.color
    }

    /// Calls `hide` with each column of the image's row `y`, of `width` columns, that is hidden.
    pub(super) fn row(&self, samples: &Samples<'_>, width: usize, y: usize, mut hide: impl FnMut(usize)) {
        // Rows and columns are numbered from 1.
        let row = y as f64 + 1.0;
        for shape in &self.shapes {
            match shape {
                Shape::Rectangle([left, right, upper, lower]) => {
                    let shown = *upper <= row && row <= *lower;
                    (0..width)
                        .filter(|&x| !(shown && (*left..=*right).contains(&(x as f64 + 1.0))))
                        .for_each(&mut hide);
                }
                Shape::Circle([center, column, radius]) => {
                    let reach = radius * radius - (row - center) * (row - center);
                    (0..width)
                        .filter(|&x| {
                            let across = x as f64 + 1.0 - column;
                            across * across > reach
                        })
                        .for_each(&mut hide);
                }
                Shape::Polygon(vertices) => {
                    let crossings = crossings(vertices, row);
                    let mut at = 0;
                    for x in 0..width {
                        while crossings
                            .get(at)
                            .is_some_and(|&crossing| crossing <= x as f64 + 1.0)
                        {
                            at += 1;
                        }
                        // What lies on the edge is shown.
                        let on_edge = at > 0 && crossings[at - 1] == x as f64 + 1.0;
                        if at % 2 == 0 && !on_edge {
                            hide(x);
                        }
                    }
                }
                Shape::Bitmap(overlay) => overlay.row(samples, width, y, &mut hide),
            }
        }
    }
}

/// Where a row crosses the edges of a polygon, in order.
pub(super) fn crossings(vertices: &[[f64; 2]], row: f64) -> Vec<f64> {
    let next = vertices.iter().cycle().skip(1);
    let mut crossings: Vec<f64> = vertices
        .iter()
        .zip(next)
        .filter(|([a, _], [b, _])| (*a <= row) != (*b <= row))
        .map(|([a, x], [b, other])| x + (row - a) / (b - a) * (other - x))
        .collect();
    crossings.sort_by(f64::total_cmp);
    crossings
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use dicom_core::{Tag, VR};

    use super::*;
    use crate::dataset::{Element, Value};

    /// A picture of what is shown ('.') and hidden ('#').
    fn shown(set: &DataSet, width: usize, height: usize) -> Vec<String> {
        let mut pixels = DataSet::new();
        pixels.put_u16(tags::BITS_ALLOCATED, 8);
        let samples = Samples::of(&pixels, &[]).unwrap();
        let shutter = Shutter::of(set, 1).unwrap();
        let row = |y| {
            let mut row = vec!['.'; width];
            shutter.row(&samples, width, y, |x| row[x] = '#');
            row.into_iter().collect()
        };
        (0..height).map(row).collect()
    }

    fn shape(shape: &str, values: &[(Tag, &str)]) -> DataSet {
        let mut set = DataSet::new();
        set.put_text(tags::SHUTTER_SHAPE, VR::CS, shape);
        for &(tag, value) in values {
            set.put_text(tag, VR::IS, value);
        }
        set
    }

    const EDGES: [(Tag, &str); 4] = [
        (tags::SHUTTER_LEFT_VERTICAL_EDGE, "2"),
        (tags::SHUTTER_RIGHT_VERTICAL_EDGE, "4"),
        (tags::SHUTTER_UPPER_HORIZONTAL_EDGE, "2"),
        (tags::SHUTTER_LOWER_HORIZONTAL_EDGE, "3"),
    ];

    #[test]
    fn a_rectangle_a_circle_and_a_polygon_hide_what_is_outside() {
        assert_eq!(
            shown(&shape("RECTANGULAR", &EDGES), 5, 4),
            ["#####", "#...#", "#...#", "#####"]
        );
        let circle = [
            (tags::CENTER_OF_CIRCULAR_SHUTTER, "3\\3"),
            (tags::RADIUS_OF_CIRCULAR_SHUTTER, "2"),
        ];
        assert_eq!(
            shown(&shape("CIRCULAR", &circle), 5, 5),
            ["##.##", "#...#", ".....", "#...#", "##.##"]
        );
        // A triangle with its right angle at the top left.
        let vertices = [(tags::VERTICES_OF_THE_POLYGONAL_SHUTTER, "1\\1\\1\\5\\5\\1")];
        assert_eq!(
            shown(&shape("POLYGONAL", &vertices), 5, 3),
            [".....", "....#", "...##"]
        );
    }

    #[test]
    fn of_several_shutters_each_hides_and_a_bitmap_hides_what_it_covers() {
        let circle = [
            (tags::CENTER_OF_CIRCULAR_SHUTTER, "3\\3"),
            (tags::RADIUS_OF_CIRCULAR_SHUTTER, "1"),
        ];
        let values: Vec<_> = EDGES.into_iter().chain(circle).collect();
        assert_eq!(
            shown(&shape("RECTANGULAR\\CIRCULAR", &values), 5, 4),
            ["#####", "##.##", "#...#", "#####"]
        );
        let mut bitmap = shape("BITMAP", &[]);
        bitmap.put_u16(tags::SHUTTER_OVERLAY_GROUP, 0x6000);
        bitmap.put_u16(Tag(0x6000, 0x0010), 1);
        bitmap.put_u16(Tag(0x6000, 0x0011), 4);
        let value = Value::Bytes(Bytes::from_static(&[0b0110, 0]));
        let (tag, vr) = (Tag(0x6000, 0x3000), VR::OW);
        bitmap.put(Element { tag, vr, value });
        bitmap.put_u16(tags::SHUTTER_PRESENTATION_VALUE, 0x8000);
        assert_eq!(shown(&bitmap, 4, 2), [".##.", "...."]);
        assert_eq!(Shutter::of(&bitmap, 1).unwrap().color(), [128; 3]);
    }

    #[test]
    fn a_shutter_that_is_described_in_part_hides_nothing() {
        assert!(Shutter::of(&shape("RECTANGULAR", &EDGES[..3]), 1).is_none());
        assert!(Shutter::of(&shape("CIRCULAR", &[]), 1).is_none());
        let two = [(tags::VERTICES_OF_THE_POLYGONAL_SHUTTER, "1\\1\\5\\5")];
        assert!(Shutter::of(&shape("POLYGONAL", &two), 1).is_none());
        assert!(Shutter::of(&shape("BITMAP", &[]), 1).is_none());
    }
}
