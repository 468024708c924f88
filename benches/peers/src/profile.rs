//! Where a server's time goes: processor time by thread, from /proc.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::time::Duration;

/// Processor time in user and kernel mode, in clock ticks, by thread name.
pub(crate) type Threads = BTreeMap<String, (u64, u64)>;

/// USER_HZ, in which /proc counts: 100 on every Linux architecture that Rust builds for.
const TICKS_PER_SECOND: f64 = 100.0;

/// What the threads of process `id` used so far; threads of one name are added up, and a number at
/// the end of a name is left out.
pub(crate) fn threads(id: u32) -> io::Result<Threads> {
    let mut threads = Threads::new();
    for task in fs::read_dir(format!("/proc/{id}/task"))? {
        let path = task?.path();
        // A thread may end while it is looked at.
        let (Ok(name), Ok(stat)) = (
            fs::read_to_string(path.join("comm")),
            fs::read_to_string(path.join("stat")),
        ) else {
            continue;
        };
        // The name in `stat` may hold anything; the fields begin behind its closing parenthesis.
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let ticks = |at: usize| {
            fields
                .get(at)
                .and_then(|field| field.parse().ok())
                .unwrap_or(0u64)
        };
        let name = name
            .trim()
            .trim_end_matches(|c: char| c.is_ascii_digit() || c == '-')
            .to_owned();
        let sum = threads.entry(name).or_default();
        sum.0 += ticks(11);
        sum.1 += ticks(12);
    }
    Ok(threads)
}

/// One line for a measured run: what each kind of thread used of it.
pub(crate) fn render(what: &str, took: Duration, before: &Threads, after: &Threads) -> String {
    let mut line = format!("{what} ({:.2} s):", took.as_secs_f64());
    for (name, (user, kernel)) in after {
        let (user_before, kernel_before) = before.get(name).copied().unwrap_or_default();
        let user = user.saturating_sub(user_before) as f64 / TICKS_PER_SECOND;
        let kernel = kernel.saturating_sub(kernel_before) as f64 / TICKS_PER_SECOND;
        if user + kernel > 0.0 {
            // Writing to a String can't fail.
            let _ = write!(line, " {name} {user:.2} s user {kernel:.2} s kernel;");
        }
    }
    line.push('\n');
    line
}
