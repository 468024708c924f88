//! The outlines of a region in a slice, along the edges of its pixels.

use std::collections::BTreeMap;

use crate::regions::Run;

/// A closed line: the last corner is the first one. Corners of pixels, so that (0, 0) is the upper left corner of the
/// upper left pixel, as in PS3.3 C.18.6.1.2.
pub(crate) type Outline = Vec<(u32, u32)>;

/// Corners of an outline; one that would have more becomes its bounding box. The numbers of a Graphic Data (VR FL)
/// must stay below 64 KiB.
const CORNERS_MAX: usize = 1000;

/// Right, down, left, up: clockwise, as rows go down.
const STEPS: [(i64, i64); 4] = [(1, 0), (0, 1), (-1, 0), (0, -1)];

/// The outlines of runs of one slice, those of holes left out. Pixels that only share a corner are apart.
pub(crate) fn outlines(runs: &[Run]) -> Vec<Outline> {
    let mut rows: BTreeMap<u32, Vec<(u32, u32)>> = BTreeMap::new();
    for run in runs {
        rows.entry(run.row).or_default().push((run.from, run.to));
    }
    let has = |row: Option<u32>, column: Option<u32>| {
        let (Some(row), Some(column)) = (row, column) else {
            return false;
        };
        let runs = rows.get(&row).map(Vec::as_slice).unwrap_or_default();
        // In order of columns.
        let next = runs.partition_point(|(from, _)| *from <= column);
        next > 0 && column < runs[next - 1].1
    };
    // From each corner, the directions in which an edge goes with the region on its right.
    let mut edges: BTreeMap<(u32, u32), [bool; 4]> = BTreeMap::new();
    for run in runs {
        let (row, below) = (run.row, run.row + 1);
        let mut edge = |column: u32, row: u32, direction: usize| {
            edges.entry((row, column)).or_default()[direction] = true;
        };
        edge(run.to, row, 1);
        edge(run.from, below, 3);
        for column in run.from..run.to {
            if !has(row.checked_sub(1), Some(column)) {
                edge(column, row, 0);
            }
            if !has(Some(below), Some(column)) {
                edge(column + 1, below, 2);
            }
        }
    }
    let mut all = Vec::new();
    while let Some((begin, mut direction)) = edges
        .iter()
        .find_map(|(at, out)| Some((*at, out.iter().position(|out| *out)?)))
    {
        // The uppermost corner of those that are left: only one line goes through it.
        let mut at = begin;
        let mut corners: Outline = Vec::new();
        loop {
            if let Some(out) = edges.get_mut(&at) {
                out[direction] = false;
                if *out == [false; 4] {
                    edges.remove(&at);
                }
            }
            let (x, y) = STEPS[direction];
            // An edge lies between corners of pixels, which are not negative.
            at = ((i64::from(at.0) + y) as u32, (i64::from(at.1) + x) as u32);
            // To the right first: so pixels that only share this corner stay apart.
            let out = edges.get(&at).copied().unwrap_or_default();
            let turns = [1, 0, 3].map(|turn| (direction + turn) % 4);
            let next = turns.into_iter().find(|next| out[*next]);
            let Some(next) = next else { break };
            if next != direction {
                corners.push((at.1, at.0));
            }
            direction = next;
        }
        // It turns where it begins, too.
        corners.insert(0, (begin.1, begin.0));
        corners.push((begin.1, begin.0));
        if is_clockwise(&corners) {
            all.push(simple(corners));
        }
    }
    all
}

fn is_clockwise(corners: &[(u32, u32)]) -> bool {
    let twice_the_area: i64 = corners
        .windows(2)
        .map(|pair| {
            let [(x0, y0), (x1, y1)] = [pair[0], pair[1]].map(|(x, y)| (i64::from(x), i64::from(y)));
            x0 * y1 - x1 * y0
        })
        .sum();
    twice_the_area > 0
}

fn simple(corners: Outline) -> Outline {
    if corners.len() <= CORNERS_MAX {
        return corners;
    }
    let x = || corners.iter().map(|(x, _)| *x);
    let y = || corners.iter().map(|(_, y)| *y);
    // There are more than none.
    let (left, right) = (x().min().unwrap_or(0), x().max().unwrap_or(0));
    let (top, bottom) = (y().min().unwrap_or(0), y().max().unwrap_or(0));
    vec![
        (left, top),
        (right, top),
        (right, bottom),
        (left, bottom),
        (left, top),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The runs of what is drawn with `#`.
    fn drawn(rows: &[&str]) -> Vec<Run> {
        let mut runs = Vec::new();
        for (row, line) in rows.iter().enumerate() {
            let mut column = 0;
            for part in line.as_bytes().chunk_by(|a, b| a == b) {
                let run = Run {
                    slice: 0,
                    row: row as u32,
                    from: column,
                    to: column + part.len() as u32,
                };
                column = run.to;
                runs.extend((part[0] == b'#').then_some(run));
            }
        }
        runs
    }

    fn area(outline: &Outline) -> i64 {
        let pairs = outline.windows(2);
        let twice =
            pairs.map(|p| i64::from(p[0].0) * i64::from(p[1].1) - i64::from(p[1].0) * i64::from(p[0].1));
        twice.sum::<i64>() / 2
    }

    #[test]
    fn a_pixel_has_four_corners_and_a_line_is_closed() {
        let outline = outlines(&drawn(&["...", ".#."]));
        assert_eq!(outline, [[(1, 1), (2, 1), (2, 2), (1, 2), (1, 1)]]);
    }

    #[test]
    fn what_lies_on_a_straight_line_is_no_corner() {
        let outline = outlines(&drawn(&["###", "#..", "#.."]));
        assert_eq!(
            outline,
            [[(0, 0), (3, 0), (3, 1), (1, 1), (1, 3), (0, 3), (0, 0)]]
        );
    }

    #[test]
    fn pixels_that_share_a_corner_are_apart_and_holes_have_no_outline() {
        let apart = outlines(&drawn(&["#.", ".#"]));
        assert_eq!(apart.iter().map(area).collect::<Vec<_>>(), [1, 1]);
        let ring = outlines(&drawn(&["####", "#..#", "####"]));
        assert_eq!(ring.iter().map(area).collect::<Vec<_>>(), [12]);
        // A hole that touches the outside by a corner.
        let open = outlines(&drawn(&["###.", "#.##", "####"]));
        assert_eq!(open.len(), 1);
        assert_eq!(area(&open[0]), 11);
    }

    #[test]
    fn what_has_too_many_corners_becomes_its_bounding_box() {
        let comb: Vec<String> = ["#.".repeat(600), "##".repeat(600)].into();
        let comb: Vec<&str> = comb.iter().map(String::as_str).collect();
        let outline = outlines(&drawn(&comb));
        assert_eq!(outline, [[(0, 0), (1200, 0), (1200, 2), (0, 2), (0, 0)]]);
    }
}
