//! Places in an order of entries: one type each, so that none is taken for another.

use std::fmt;
use std::ops::Add;

/// The place of an entry in the order of its shard. Starts at 1 and rises by one; 0 is before the first entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index(pub u64);

impl Index {
    /// Before the first entry.
    pub const ZERO: Index = Index(0);
    /// Behind every entry.
    pub const MAX: Index = Index(u64::MAX);

    /// The next place.
    pub fn next(self) -> Index {
        Index(self.0 + 1)
    }

    /// How many places it is behind another; 0 when it is not behind.
    pub fn since(self, other: Index) -> u64 {
        self.0.saturating_sub(other.0)
    }
}

impl Add<u64> for Index {
    type Output = Index;

    fn add(self, places: u64) -> Index {
        Index(self.0 + places)
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The reign of one leader of a shard. Starts at 1 and rises; 0 is before the first, and where a protocol has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

impl Term {
    /// Before the first leader.
    pub const ZERO: Term = Term(0);

    /// The next one.
    pub fn next(self) -> Term {
        Term(self.0 + 1)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An entry as it is known everywhere: two logs that have an entry of the same index and term have the same entries up to
/// there. As text `index/term`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Its place.
    pub index: Index,
    /// The term of the leader that ordered it.
    pub term: Term,
}

impl Position {
    /// Before the first entry.
    pub const ZERO: Position = Position { index: Index::ZERO, term: Term::ZERO };

    /// From the two numbers.
    pub fn new(index: u64, term: u64) -> Position {
        Position { index: Index(index), term: Term(term) }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.term)
    }
}
