//! The search itself: hyperdense regions inside the skull, slice by slice.
//!
//! Of each slice, in Hounsfield units:
//!
//! 1. *Bone* is what is at least [`BONE_HU`]. *Inside* is what is not bone and can't be reached from the border of
//!    the slice without crossing bone, where that has an area of at least [`INSIDE_AREA_MIN_MM2`]. A slice whose
//!    skull is open, as at the orbits and the base, has no inside.
//! 2. What is nearer than [`MARGIN_MM`] to bone is left out: there a voxel is partly bone.
//! 3. The mean of 3 by 3 voxels, as far as they are inside, is *dense* from [`DENSE_HU`] on up to [`DENSE_MAX_HU`]:
//!    clotted blood is; brain, fluid and calcifications are not.
//! 4. Dense voxels that share a face are one region. A region of at least [`VOLUME_MIN_ML`] is found.
//!
//! Nothing is random, and the order of instances doesn't matter, so the same slices give the same answer.
//!
//! What it misses or mistakes: blood along the skull (2), in open slices (1) and less dense than 50 HU (old, or with
//! anaemia); venous sinuses, falx, contrast medium and beam hardening may be taken for blood.

/// From here on it is bone.
pub(crate) const BONE_HU: i16 = 300;
/// From here on it is dense.
pub(crate) const DENSE_HU: i32 = 50;
/// Up to here it is dense.
pub(crate) const DENSE_MAX_HU: i32 = 100;
/// What is left out along bone, in millimetres.
pub(crate) const MARGIN_MM: f64 = 3.0;
/// What is inside has at least this area, in mm²: the vertebral canal and marrow have less.
pub(crate) const INSIDE_AREA_MIN_MM2: f64 = 3000.0;
/// A smaller region is not found, in ml.
pub(crate) const VOLUME_MIN_ML: f64 = 1.0;
/// Rows of neighbouring dense voxels that are held at most. A head has some ten thousand; more is noise.
const RUNS_MAX: usize = 2_000_000;
/// Regions that are told one by one.
const REGIONS_MAX: usize = 10;
/// The margin in pixels at most, so that a pixel spacing that is none costs no more than a real one.
const MARGIN_MAX_PIXELS: usize = 64;

/// Dense voxels beside each other in one row of one slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// From 0, in the order of the slices.
    pub(crate) slice: u32,
    /// From 0.
    pub(crate) row: u32,
    /// The first column.
    pub(crate) from: u32,
    /// The column behind the last one.
    pub(crate) to: u32,
}

/// Dense voxels that hang together.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Region {
    /// In ml.
    pub(crate) volume_ml: f64,
    /// In HU, as the slices have it.
    pub(crate) mean_hu: f64,
    /// The lowest and the highest column, row and slice.
    pub(crate) bounds: [[u32; 2]; 3],
    /// The slice in which it has its largest area.
    pub(crate) key_slice: u32,
    /// Its voxels, by slice, row and column.
    pub(crate) runs: Vec<Run>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Found {
    /// Those that are large enough, the largest first; the ten largest of more.
    pub(crate) regions: Vec<Region>,
    /// How many there are.
    pub(crate) count: usize,
    /// In how many slices something could be found: those that have an inside.
    pub(crate) closed_slices: u32,
}

/// There is so much that is dense, in so many places, that nothing can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Noise;

/// What all slices share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Grid {
    /// Pixels of a column; not 0.
    pub(crate) rows: usize,
    /// Pixels of a row; not 0.
    pub(crate) columns: usize,
    /// Millimetres from row to row.
    pub(crate) row_spacing: f64,
    /// Millimetres from column to column.
    pub(crate) column_spacing: f64,
}

/// A search under way.
pub(crate) struct Search {
    grid: Grid,
    runs: Vec<Run>,
    /// Of each run, the sum of its values and its volume in mm³.
    sums: Vec<(i64, f64)>,
    /// Of each run, another one of the same region; itself at the root.
    parents: Vec<u32>,
    /// Where the runs of the last slice begin.
    last: usize,
    slices: u32,
    /// Slices that have an inside.
    closed: u32,
}

impl Search {
    pub(crate) fn new(grid: Grid) -> Self {
        Self {
            grid,
            runs: Vec::new(),
            sums: Vec::new(),
            parents: Vec::new(),
            last: 0,
            slices: 0,
            closed: 0,
        }
    }

    /// Takes the next slice: rows times columns values in HU, for a thickness in millimetres.
    pub(crate) fn slice(&mut self, values: &[i16], thickness: f64) -> Result<(), Noise> {
        let dense = self.dense(values);
        self.runs_of(&dense, values, thickness)
    }

    fn runs_of(&mut self, dense: &[bool], values: &[i16], thickness: f64) -> Result<(), Noise> {
        let area = self.grid.row_spacing * self.grid.column_spacing;
        let (before, begin) = (self.last, self.runs.len());
        let (mut above, mut beside) = (begin, before);
        let mut row_begin = begin;
        for row in 0..self.grid.rows {
            let line = &dense[row * self.grid.columns..][..self.grid.columns];
            let this_row = self.runs.len();
            let mut column = 0;
            while let Some(from) = line[column..].iter().position(|dense| *dense) {
                let from = column + from;
                let length = line[from..].iter().take_while(|dense| **dense).count();
                column = from + length;
                if self.runs.len() >= RUNS_MAX {
                    return Err(Noise);
                }
                let run = Run {
                    slice: self.slices,
                    row: row as u32,
                    from: from as u32,
                    to: column as u32,
                };
                let sum = values[row * self.grid.columns..][from..column]
                    .iter()
                    .map(|value| i64::from(*value))
                    .sum();
                self.parents.push(self.runs.len() as u32);
                self.runs.push(run);
                self.sums.push((sum, length as f64 * area * thickness));
                let at = self.runs.len() - 1;
                above = self.unite(at, above.max(row_begin), this_row);
                beside = self.unite_row(at, beside, begin);
            }
            row_begin = this_row;
            above = this_row;
        }
        self.last = begin;
        self.slices += 1;
        Ok(())
    }

    /// Unites a run with those of `from..to`, all of one row, that it touches. Answers where the next run of its row
    /// has to begin to look.
    fn unite(&mut self, at: usize, from: usize, to: usize) -> usize {
        let run = self.runs[at];
        let mut other = from;
        while other < to && self.runs[other].to <= run.from {
            other += 1;
        }
        let first = other;
        while other < to && self.runs[other].from < run.to {
            self.join(at, other);
            other += 1;
        }
        // The last of them may reach the next run too.
        other.saturating_sub(1).max(first)
    }

    /// The same with the runs of the slice before, `from..to`, of all rows: those of its row.
    fn unite_row(&mut self, at: usize, mut from: usize, to: usize) -> usize {
        let run = self.runs[at];
        while from < to && self.runs[from].row < run.row {
            from += 1;
        }
        let mut end = from;
        while end < to && self.runs[end].row == run.row && self.runs[end].from < run.to {
            if self.runs[end].to > run.from {
                self.join(at, end);
            }
            end += 1;
        }
        end.saturating_sub(1).max(from)
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        // The earliest run is the root, so that the order of regions is that of the slices.
        self.parents[one.max(other)] = one.min(other) as u32;
    }

    fn root(&mut self, mut at: usize) -> usize {
        while self.parents[at] as usize != at {
            let next = self.parents[at] as usize;
            self.parents[at] = self.parents[next];
            at = next;
        }
        at
    }

    /// What was found in all slices.
    pub(crate) fn finish(mut self) -> Found {
        let roots: Vec<usize> = (0..self.runs.len()).map(|at| self.root(at)).collect();
        let mut volumes = vec![0.0; self.runs.len()];
        for (root, (_, volume)) in roots.iter().zip(&self.sums) {
            volumes[*root] += volume;
        }
        let is_large = |at: &usize| roots[*at] == *at && volumes[*at] >= VOLUME_MIN_ML * 1000.0;
        let mut found: Vec<usize> = (0..self.runs.len()).filter(is_large).collect();
        found.sort_by(|a, b| volumes[*b].total_cmp(&volumes[*a]).then(a.cmp(b)));
        let count = found.len();
        found.truncate(REGIONS_MAX);
        let region = |root: &usize| {
            let of = roots.iter().enumerate().filter(|(_, of)| *of == root);
            self.region(volumes[*root], of.map(|(at, _)| at).collect())
        };
        Found {
            regions: found.iter().map(region).collect(),
            count,
            closed_slices: self.closed,
        }
    }

    fn region(&self, volume: f64, at: Vec<usize>) -> Region {
        let mut region = Region {
            volume_ml: volume / 1000.0,
            mean_hu: 0.0,
            bounds: [[u32::MAX, 0]; 3],
            key_slice: 0,
            runs: at.iter().map(|at| self.runs[*at]).collect(),
        };
        let sum: i64 = at.iter().map(|at| self.sums[*at].0).sum();
        let (mut voxels, mut largest) = (0, 0);
        for of_slice in region.runs.chunk_by(|a, b| a.slice == b.slice) {
            let area: u64 = of_slice.iter().map(|run| u64::from(run.to - run.from)).sum();
            voxels += area;
            if area > largest {
                (largest, region.key_slice) = (area, of_slice[0].slice);
            }
            for run in of_slice {
                for ([low, high], [from, to]) in
                    region
                        .bounds
                        .iter_mut()
                        .zip([[run.from, run.to - 1], [run.row; 2], [run.slice; 2]])
                {
                    (*low, *high) = ((*low).min(from), (*high).max(to));
                }
            }
        }
        region.mean_hu = sum as f64 / voxels.max(1) as f64;
        region
    }

    /// Which voxels of a slice are dense.
    fn dense(&mut self, values: &[i16]) -> Vec<bool> {
        let Grid { rows, columns, .. } = self.grid;
        let inside = inside(values, &self.grid);
        if !inside.contains(&true) {
            return inside;
        }
        self.closed += 1;
        let away = away_from_bone(&inside, &self.grid);
        let mean = |row: usize, column: usize| {
            let (mut sum, mut count) = (0, 0);
            for y in row.saturating_sub(1)..(row + 2).min(rows) {
                for x in column.saturating_sub(1)..(column + 2).min(columns) {
                    if inside[y * columns + x] {
                        sum += i32::from(values[y * columns + x]);
                        count += 1;
                    }
                }
            }
            (sum, count)
        };
        (0..rows * columns)
            .map(|at| {
                away[at] && {
                    let (sum, count) = mean(at / columns, at % columns);
                    (DENSE_HU * count..=DENSE_MAX_HU * count).contains(&sum)
                }
            })
            .collect()
    }
}

/// What bone encloses.
fn inside(values: &[i16], grid: &Grid) -> Vec<bool> {
    let Grid { rows, columns, .. } = *grid;
    #[derive(Clone, Copy, PartialEq)]
    enum Is {
        Unknown,
        Bone,
        Outside,
        Inside,
    }
    let mut is: Vec<Is> = values
        .iter()
        .map(|value| if *value >= BONE_HU { Is::Bone } else { Is::Unknown })
        .collect();
    let mut waiting = Vec::new();
    let mut fill = |is: &mut Vec<Is>, begin: usize, with: Is| {
        let mut filled = Vec::new();
        if is[begin] == Is::Unknown {
            is[begin] = with;
            waiting.push(begin);
        }
        while let Some(at) = waiting.pop() {
            filled.push(at);
            let (row, column) = (at / columns, at % columns);
            let neighbours = [
                (row > 0).then(|| at - columns),
                (row + 1 < rows).then(|| at + columns),
                (column > 0).then(|| at - 1),
                (column + 1 < columns).then(|| at + 1),
            ];
            for next in neighbours.into_iter().flatten() {
                if is[next] == Is::Unknown {
                    is[next] = with;
                    waiting.push(next);
                }
            }
        }
        filled
    };
    for column in 0..columns {
        fill(&mut is, column, Is::Outside);
        fill(&mut is, (rows - 1) * columns + column, Is::Outside);
    }
    for row in 0..rows {
        fill(&mut is, row * columns, Is::Outside);
        fill(&mut is, row * columns + columns - 1, Is::Outside);
    }
    for begin in 0..is.len() {
        let filled = fill(&mut is, begin, Is::Inside);
        let area = filled.len() as f64 * grid.row_spacing * grid.column_spacing;
        if area < INSIDE_AREA_MIN_MM2 {
            filled.iter().for_each(|at| is[*at] = Is::Outside);
        }
    }
    is.iter().map(|is| *is == Is::Inside).collect()
}

/// What is inside, and at least the margin away from what is not.
fn away_from_bone(inside: &[bool], grid: &Grid) -> Vec<bool> {
    let Grid { rows, columns, .. } = *grid;
    // Rows to the next pixel of the column that is not inside.
    let mut vertical = vec![usize::MAX; inside.len()];
    for column in 0..columns {
        for down in [true, false] {
            let mut distance = 0;
            for row in 0..rows {
                let at = if down { row } else { rows - 1 - row } * columns + column;
                distance = if inside[at] { distance + 1 } else { 0 };
                vertical[at] = vertical[at].min(distance);
            }
        }
    }
    let reach = ((MARGIN_MM / grid.column_spacing).ceil() as usize).min(MARGIN_MAX_PIXELS);
    let near = |row: usize, column: usize| {
        (column.saturating_sub(reach)..(column + reach + 1).min(columns)).any(|other| {
            let across = column.abs_diff(other) as f64 * grid.column_spacing;
            let along = vertical[row * columns + other] as f64 * grid.row_spacing;
            across.hypot(along) < MARGIN_MM
        })
    };
    (0..inside.len())
        .map(|at| inside[at] && !near(at / columns, at % columns))
        .collect()
}

#[cfg(test)]
#[path = "regions_tests.rs"]
mod tests;
