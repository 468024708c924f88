//! The figures: medians of the rounds, ratios within one run, and the targets.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// One row: what was done, by which server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    /// Its place in the table.
    pub(crate) case: usize,
    /// What was done.
    pub(crate) what: &'static str,
    /// Which server, or the disk.
    pub(crate) who: &'static str,
}

/// What one round measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) objects: usize,
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
}

impl Sample {
    fn objects_per_second(&self) -> f64 {
        self.objects as f64 / self.took.as_secs_f64()
    }
}

/// A ratio that must be reached.
pub(crate) struct Target {
    pub(crate) meaning: &'static str,
    pub(crate) ours: (&'static str, &'static str),
    pub(crate) theirs: (&'static str, &'static str),
    pub(crate) at_least: f64,
}

/// A rate that must be reached.
pub(crate) struct RateTarget {
    pub(crate) meaning: &'static str,
    pub(crate) ours: (&'static str, &'static str),
    pub(crate) at_least: f64,
}

#[derive(Default)]
pub(crate) struct Table {
    samples: BTreeMap<Row, Vec<Sample>>,
}

impl Table {
    pub(crate) fn add(&mut self, row: Row, sample: Sample) {
        self.samples.entry(row).or_default().push(sample);
    }

    /// Median of the rounds' objects per second.
    fn median(&self, (what, who): (&str, &str)) -> Option<f64> {
        let (_, samples) = self
            .samples
            .iter()
            .find(|(row, _)| row.what == what && row.who == who)?;
        Some(median(samples.iter().map(Sample::objects_per_second).collect()))
    }

    /// The table for people; each row also against `reference` in the same case.
    pub(crate) fn render(&self, reference: &str) -> String {
        let mut out = format!(
            "| {:<53} | {:<11} | objects/s (min to max) | MB/s | {reference} is |\n| {} | {} | {} | --- | --- |\n",
            "what", "who", "---", "---", "---"
        );
        for (row, samples) in &self.samples {
            let mut rates: Vec<f64> = samples.iter().map(Sample::objects_per_second).collect();
            rates.sort_by(f64::total_cmp);
            let rate = median(rates.clone());
            let bytes = samples.iter().map(|s| s.bytes).sum::<u64>() as f64;
            let objects = samples.iter().map(|s| s.objects).sum::<usize>() as f64;
            let ratio = match self.median((row.what, reference)) {
                Some(ours) if row.who != reference => format!("{:.2} times", ours / rate),
                _ => String::new(),
            };
            // Writing to a String can't fail.
            let _ = writeln!(
                out,
                "| {:<53} | {:<11} | {:.0} ({:.0} to {:.0}) | {:.0} | {ratio} |",
                row.what,
                row.who,
                rate,
                rates.first().copied().unwrap_or_default(),
                rates.last().copied().unwrap_or_default(),
                rate * bytes / objects / 1e6,
            );
        }
        out
    }

    /// One line for each target whose rows were measured, and whether all of those hold.
    pub(crate) fn judge(&self, ratios: &[Target], rates: &[RateTarget]) -> (String, bool) {
        let mut lines = Vec::new();
        for target in ratios {
            if let (Some(ours), Some(theirs)) = (self.median(target.ours), self.median(target.theirs)) {
                lines.push((target.meaning, ours / theirs, target.at_least));
            }
        }
        for target in rates {
            if let Some(ours) = self.median(target.ours) {
                lines.push((target.meaning, ours, target.at_least));
            }
        }
        let all = lines.iter().all(|(_, reached, at_least)| reached >= at_least);
        let text = lines
            .iter()
            .map(|(meaning, reached, at_least)| {
                let verdict = if reached >= at_least { "holds " } else { "MISSED" };
                format!("{verdict}  {meaning}: {reached:.2} (at least {at_least})\n")
            })
            .collect();
        (text, all)
    }
}

/// The middle value, or the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_judged_by_the_ratio_of_medians() {
        let mut table = Table::default();
        for (who, seconds) in [("ours", [1.0, 2.0, 9.0]), ("theirs", [4.0, 5.0, 30.0])] {
            for seconds in seconds {
                table.add(
                    Row {
                        case: 0,
                        what: "store",
                        who,
                    },
                    Sample {
                        objects: 10,
                        bytes: 1000,
                        took: Duration::from_secs_f64(seconds),
                    },
                );
            }
        }
        let target = |at_least| {
            [Target {
                meaning: "m",
                ours: ("store", "ours"),
                theirs: ("store", "theirs"),
                at_least,
            }]
        };
        assert!(table.judge(&target(2.5), &[]).1);
        assert!(!table.judge(&target(2.51), &[]).1);
        assert!(table.render("ours").contains("2.50 times"));
    }
}
