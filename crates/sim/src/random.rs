//! Random numbers: everything that happens by chance in a run comes from its seed.

use check::generate::Rng;

/// A sequence of numbers that its seed decides.
#[derive(Clone, Debug)]
pub(crate) struct Random(Rng);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(Rng::new(seed))
    }

    /// Another sequence, so that how often one part of a run draws does not change what another part draws.
    pub fn fork(&mut self) -> Random {
        Random::new(self.next())
    }

    pub fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number from 0 to before `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0.below(end)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True in so many of 100 cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.0.percent(percent)
    }

    /// True in so many of 1000 cases.
    pub fn permille(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    pub fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            all.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

/// How long something takes, in microseconds: mostly within a range, now and then much longer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub low: u64,
    pub high: u64,
    /// In so many of 1000 cases it takes up to `slow`.
    pub slow_permille: u64,
    pub slow: u64,
}

impl Latency {
    pub const fn new(low: u64, high: u64, slow_permille: u64, slow: u64) -> Latency {
        Latency { low, high, slow_permille, slow }
    }

    pub fn draw(&self, random: &mut Random) -> u64 {
        if random.permille(self.slow_permille) {
            random.between(self.high, self.slow)
        } else {
            random.between(self.low, self.high)
        }
    }
}
