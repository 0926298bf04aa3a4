//! The numbers of the contract: one type each, with its zero.

use std::fmt;

/// Microseconds on a clock that never jumps and counts on while the machine sleeps (CLOCK_BOOTTIME).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// Never.
    pub const MAX: Instant = Instant(u64::MAX);

    /// So many microseconds later.
    pub fn plus(self, micros: u64) -> Instant {
        Instant(self.0.saturating_add(micros))
    }

    /// Microseconds since an earlier instant; 0 when that is later.
    pub fn since(self, earlier: Instant) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The owner's name for a request. Unique among the open ones of a replica, below 2^63: replicas name their own above.
pub type Token = u64;

/// Number of an append in one life of a replica. Starts at 1 and rises by one; 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

impl Ticket {
    /// The next one.
    pub fn next(self) -> Ticket {
        Ticket(self.0 + 1)
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
