//! Random numbers that are the same again: every test that draws from here can be repeated by its seed.

/// A small generator (splitmix64): fast, good enough for tests, and the same on every machine.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// Begins the series of numbers that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number, any of 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 when `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        // The bias is far below what a test could see.
        u64::try_from((u128::from(self.bits()) * u128::from(end)) >> 64).unwrap_or_default()
    }

    /// A number below `end`, as an index.
    pub fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).unwrap_or_default()
    }

    /// True once in `one_in` times.
    pub fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    /// One of `choices`.
    ///
    /// # Panics
    /// When there is none.
    pub fn pick<'c, T>(&mut self, choices: &'c [T]) -> &'c T {
        &choices[self.index(choices.len())]
    }
}

/// Runs `round` with one seed after another, each with a generator of its own. `PACS_SEED` in the
/// environment sets the first seed, `PACS_ROUNDS` how many there are. When a round panics, its seed is
/// printed.
pub fn rounds(default_rounds: u64, mut round: impl FnMut(&mut Random)) {
    let from_environment = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let first = from_environment("PACS_SEED").unwrap_or(1);
    let count = from_environment("PACS_ROUNDS").unwrap_or(default_rounds);
    for seed in (0..count).map(|at| first.wrapping_add(at)) {
        let _told = SeedOnPanic(seed);
        round(&mut Random::new(seed));
    }
}

struct SeedOnPanic(u64);

impl Drop for SeedOnPanic {
    #[expect(
        clippy::print_stderr,
        reason = "the seed belongs into the output of a failed test"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("repeat with PACS_SEED={} PACS_ROUNDS=1", self.0);
        }
    }
}
