use super::*;

const GRID: Grid = Grid {
    rows: 120,
    columns: 100,
    row_spacing: 1.5,
    column_spacing: 1.75,
};

/// A head in a few slices: air, a skull around brain, and what `also` puts there by column, row and slice in
/// millimetres from the middle.
fn head(slices: usize, thickness: f64, also: impl Fn([f64; 3]) -> Option<i16>) -> Vec<Vec<i16>> {
    let voxel = |slice: usize, at: usize| {
        let middle = |count: usize| (count as f64 - 1.0) / 2.0;
        let x = ((at % GRID.columns) as f64 - middle(GRID.columns)) * GRID.column_spacing;
        let y = ((at / GRID.columns) as f64 - middle(GRID.rows)) * GRID.row_spacing;
        let z = (slice as f64 - middle(slices)) * thickness;
        also([x, y, z]).unwrap_or(match x.hypot(y) {
            inner if inner < 70.0 => 35,
            skull if skull < 77.0 => 1100,
            _ => -1000,
        })
    };
    (0..slices)
        .map(|slice| (0..GRID.rows * GRID.columns).map(|at| voxel(slice, at)).collect())
        .collect()
}

fn found(slices: &[Vec<i16>], thickness: f64) -> Found {
    let mut search = Search::new(GRID);
    for slice in slices {
        search.slice(slice, thickness).unwrap();
    }
    search.finish()
}

fn ball(middle: [f64; 3], radius: f64, value: i16) -> impl Fn([f64; 3]) -> Option<i16> {
    move |at| {
        let square = |i: usize| (at[i] - middle[i]).powi(2);
        (square(0) + square(1) + square(2) < radius * radius).then_some(value)
    }
}

#[test]
fn a_bleeding_of_known_volume_is_found_with_that_volume_and_place() {
    let slices = head(40, 2.0, ball([20.0, -10.0, 5.0], 15.0, 70));
    let found = found(&slices, 2.0);
    assert_eq!((found.count, found.closed_slices), (1, 40));
    let region = &found.regions[0];
    let expected = 4.0 / 3.0 * std::f64::consts::PI * 1.5f64.powi(3);
    assert!(
        (region.volume_ml - expected).abs() < 0.05 * expected,
        "{} of {expected} ml",
        region.volume_ml
    );
    assert!((region.mean_hu - 70.0).abs() < 2.0, "{}", region.mean_hu);
    let [columns, rows, slices] = region.bounds;
    // The middle is at column 49.5 + 20 / 1.75, row 59.5 - 10 / 1.5 and slice 19.5 + 5 / 2.
    let near = |[low, high]: [u32; 2], middle: f64, half: f64| {
        (f64::from(low) - (middle - half)).abs() <= 1.5 && (f64::from(high) - (middle + half)).abs() <= 1.5
    };
    assert!(
        near(columns, 60.9, 15.0 / 1.75) && near(rows, 52.8, 10.0),
        "{:?}",
        region.bounds
    );
    assert!(near(slices, 22.0, 7.5), "{slices:?}");
    assert!((21..=23).contains(&region.key_slice));
    let voxels: u32 = region.runs.iter().map(|run| run.to - run.from).sum();
    assert!((f64::from(voxels) * 1.5 * 1.75 * 2.0 / 1000.0 - region.volume_ml).abs() < 1e-9);
}

#[test]
fn regions_come_with_the_largest_first_and_small_ones_not_at_all() {
    let (large, middle) = (ball([0.0, 0.0, 0.0], 12.0, 60), ball([-40.0, 0.0, 0.0], 9.0, 80));
    // 0.5 ml.
    let small = ball([40.0, 0.0, 0.0], 5.0, 80);
    let found = found(&head(20, 2.5, |at| middle(at).or(large(at)).or(small(at))), 2.5);
    assert_eq!(found.count, 2);
    assert!(found.regions[0].volume_ml > found.regions[1].volume_ml);
    assert!(found.regions[0].mean_hu + 5.0 < found.regions[1].mean_hu);
}

#[test]
fn what_is_quiet_calcified_outside_the_skull_or_along_it_is_not_found() {
    assert_eq!(found(&head(10, 5.0, |_| None), 5.0).count, 0);
    let calcified = ball([0.0, 0.0, 0.0], 15.0, 160);
    assert_eq!(found(&head(10, 5.0, calcified), 5.0).count, 0);
    let outside = |[x, y, _]: [f64; 3]| (x > 79.0 && y.abs() < 40.0).then_some(70);
    assert_eq!(found(&head(10, 5.0, outside), 5.0).count, 0);
    let along = |[x, y, _]: [f64; 3]| (67.5..70.0).contains(&x.hypot(y)).then_some(70);
    assert_eq!(found(&head(10, 5.0, along), 5.0).count, 0);
}

#[test]
fn where_the_skull_is_open_nothing_is_searched() {
    let blood = ball([0.0, 0.0, 0.0], 15.0, 70);
    // A gap in all slices but three.
    let gap = |[x, y, z]: [f64; 3]| (x > 60.0 && y.abs() < 4.0 && z.abs() > 6.0).then_some(35);
    let found = found(&head(11, 5.0, |at| blood(at).or(gap(at))), 5.0);
    assert_eq!(found.closed_slices, 3);
    assert_eq!(found.regions[0].bounds[2], [4, 6]);
}

#[test]
fn a_small_hollow_bone_has_no_inside() {
    let canal = |[x, y, _]: [f64; 3]| {
        Some(match x.hypot(y) {
            inner if inner < 15.0 => 70,
            bone if bone < 20.0 => 800,
            _ => 40,
        })
    };
    assert_eq!(found(&head(10, 5.0, canal), 5.0), Found::default());
}

#[test]
fn branches_that_meet_only_later_are_one_region() {
    // A U standing on its head in the slices, one lying in a slice, and two bars that never meet.
    let upright = |[x, y, z]: [f64; 3]| {
        let leg = (x.abs() > 8.0 && x.abs() < 20.0) || z > 0.0;
        (x.abs() < 20.0 && y.abs() < 12.0 && leg).then_some(70)
    };
    assert_eq!(found(&head(10, 2.0, upright), 2.0).count, 1);
    let lying = |[x, y, _]: [f64; 3]| {
        let leg = (x.abs() > 8.0 && x.abs() < 20.0) || y > 0.0;
        (x.abs() < 20.0 && y.abs() < 16.0 && leg).then_some(70)
    };
    assert_eq!(found(&head(10, 2.0, lying), 2.0).count, 1);
    let bars = |[x, y, _]: [f64; 3]| (x.abs() > 8.0 && x.abs() < 20.0 && y.abs() < 16.0).then_some(70);
    assert_eq!(found(&head(10, 2.0, bars), 2.0).count, 2);
}

/// By the plainest way there is: a flood through voxels that share a face.
fn by_flood(dense: &[Vec<bool>], columns: usize) -> Vec<usize> {
    let mut left: Vec<Vec<bool>> = dense.to_vec();
    let mut sizes = Vec::new();
    for slice in 0..left.len() {
        for at in 0..left[slice].len() {
            let mut waiting = vec![(slice, at)];
            let mut size = 0;
            while let Some((s, a)) = waiting.pop() {
                if !std::mem::take(&mut left[s][a]) {
                    continue;
                }
                size += 1;
                let beside = [
                    (a % columns > 0).then(|| a - 1),
                    (a % columns + 1 < columns).then(|| a + 1),
                ];
                let above = [
                    a.checked_sub(columns),
                    Some(a + columns).filter(|a| *a < left[s].len()),
                ];
                waiting.extend(beside.into_iter().chain(above).flatten().map(|a| (s, a)));
                waiting.extend(s.checked_sub(1).map(|s| (s, a)));
                waiting.extend(Some(s + 1).filter(|s| *s < left.len()).map(|s| (s, a)));
            }
            sizes.extend((size > 0).then_some(size));
        }
    }
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    sizes
}

#[test]
fn runs_are_put_together_as_a_flood_does_it() {
    // Voxels of 1 ml, so that each region counts; a plain generator, so that each run of the test is the same.
    let mut state = 1u64;
    let mut random = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % 100
    };
    for density in [20, 35, 50, 65] {
        let (rows, columns) = (13, 11);
        let dense: Vec<Vec<bool>> = (0..6)
            .map(|_| (0..rows * columns).map(|_| random() < density).collect())
            .collect();
        let grid = Grid {
            rows,
            columns,
            row_spacing: 10.0,
            column_spacing: 10.0,
        };
        let mut search = Search::new(grid);
        for slice in &dense {
            search.runs_of(slice, &vec![0; rows * columns], 10.0).unwrap();
        }
        let found = search.finish();
        let sizes = by_flood(&dense, columns);
        assert_eq!(found.count, sizes.len(), "{density}");
        for (region, size) in found.regions.iter().zip(&sizes) {
            assert!((region.volume_ml - *size as f64).abs() < 1e-6, "{density}");
        }
    }
}

#[test]
fn what_is_dense_everywhere_in_too_many_places_is_noise() {
    let slices = RUNS_MAX / (GRID.rows * GRID.columns / 2) + 1;
    let checkered: Vec<bool> = (0..GRID.rows * GRID.columns)
        .map(|at| (at / GRID.columns + at).is_multiple_of(2))
        .collect();
    let values = vec![70; checkered.len()];
    let mut search = Search::new(GRID);
    let ended = (0..slices).find_map(|_| search.runs_of(&checkered, &values, 1.0).err());
    assert_eq!(ended, Some(Noise));
}
