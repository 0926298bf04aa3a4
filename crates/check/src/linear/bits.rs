//! Small sets of small numbers.

/// A set of numbers below a bound that is fixed when it is made.
pub(super) trait Bits: Clone + Eq + std::hash::Hash {
    /// The empty set of numbers below `bound`.
    fn empty(bound: usize) -> Self;
    fn get(&self, at: usize) -> bool;
    fn set(&mut self, at: usize);
    fn clear(&mut self, at: usize);
    fn is_subset(&self, other: &Self) -> bool;
}

/// Numbers below 64: nearly every history.
impl Bits for u64 {
    fn empty(bound: usize) -> u64 {
        assert!(bound <= 64, "a word has 64 bits");
        0
    }

    fn get(&self, at: usize) -> bool {
        self >> at & 1 == 1
    }

    fn set(&mut self, at: usize) {
        *self |= 1 << at;
    }

    fn clear(&mut self, at: usize) {
        *self &= !(1 << at);
    }

    fn is_subset(&self, other: &u64) -> bool {
        self & !other == 0
    }
}

/// Any numbers.
impl Bits for Vec<u64> {
    fn empty(bound: usize) -> Vec<u64> {
        vec![0; bound.div_ceil(64)]
    }

    fn get(&self, at: usize) -> bool {
        self[at / 64].get(at % 64)
    }

    fn set(&mut self, at: usize) {
        self[at / 64].set(at % 64);
    }

    fn clear(&mut self, at: usize) {
        self[at / 64].clear(at % 64);
    }

    fn is_subset(&self, other: &Vec<u64>) -> bool {
        self.iter().zip(other).all(|(mine, theirs)| mine.is_subset(theirs))
    }
}
