//! Small sets of small numbers.

/// A set of numbers below a bound that is fixed when it is made.
pub(super) trait Bits: Clone + Eq + std::hash::Hash {
    /// The empty set of numbers below `bound`.
    fn empty(bound: usize) -> Self;
    /// The set as words of 64 numbers each.
    fn words(&self) -> &[u64];
    /// The same, to be changed.
    fn words_mut(&mut self) -> &mut [u64];

    fn get(&self, at: usize) -> bool {
        self.words()[at / 64] >> (at % 64) & 1 == 1
    }

    fn set(&mut self, at: usize) {
        self.words_mut()[at / 64] |= 1 << (at % 64);
    }

    fn clear(&mut self, at: usize) {
        self.words_mut()[at / 64] &= !(1 << (at % 64));
    }

    fn is_subset(&self, other: &Self) -> bool {
        self.words().iter().zip(other.words()).all(|(mine, theirs)| mine & !theirs == 0)
    }

    /// Whether each number is in one of two sets.
    fn is_within(&self, one: &Self, other: &Self) -> bool {
        let either = one.words().iter().zip(other.words()).map(|(one, other)| one | other);
        self.words().iter().zip(either).all(|(mine, either)| mine & !either == 0)
    }
}

/// Numbers below 64: nearly every history.
pub(super) const WORD: usize = 64;
/// Numbers below 256: hundreds of clients, without an allocation per set.
pub(super) const WORDS: usize = 256;

impl<const N: usize> Bits for [u64; N] {
    fn empty(bound: usize) -> [u64; N] {
        assert!(bound <= N * 64, "a word holds 64 numbers");
        [0; N]
    }

    fn words(&self) -> &[u64] {
        self
    }

    fn words_mut(&mut self) -> &mut [u64] {
        self
    }
}

/// Any numbers.
impl Bits for Vec<u64> {
    fn empty(bound: usize) -> Vec<u64> {
        vec![0; bound.div_ceil(64)]
    }

    fn words(&self) -> &[u64] {
        self
    }

    fn words_mut(&mut self) -> &mut [u64] {
        self
    }
}
