//! Keys in order, for many keys that come and few scans.
//!
//! New keys are kept as they come, and sorted when they are some hundreds: a sorted *run*. Runs of about one length are merged
//! into one, up to a length that takes a millisecond or two. So each is at least twice as long as the next, or of that
//! length, and a key takes part in as many merges as there are doublings. That is less than a tree of keys costs, and a scan
//! begins with a search in each run.

use std::ops::Bound;

use bytes::Bytes;

/// So many keys wait to be sorted at most: looking through them costs a scan no more than the search in the runs.
const NEW_MAX: usize = 256;

/// Runs of so many keys or more are not merged: whoever adds the next key would wait for it.
const RUN_MAX: usize = 128 * NEW_MAX;

/// A set of keys.
#[derive(Default)]
pub struct Order {
    /// Sorted, the longer ones first.
    runs: Vec<Vec<Bytes>>,
    /// Not sorted yet.
    new: Vec<Bytes>,
}

impl Order {
    /// Adds a key that is not there.
    pub fn add(&mut self, key: Bytes) {
        self.new.push(key);
        if self.new.len() == NEW_MAX {
            self.settle();
        }
    }

    /// Sorts what is not sorted yet: scans need not look through it any more.
    pub fn settle(&mut self) {
        let mut run = std::mem::take(&mut self.new);
        run.sort_unstable();
        let is_near = |longer: &Vec<Bytes>, run: &Vec<Bytes>| longer.len() < RUN_MAX.min(2 * run.len());
        while let Some(longer) = self.runs.pop_if(|longer| is_near(longer, &run)) {
            run = merged(longer, run);
        }
        if !run.is_empty() {
            self.runs.push(run);
        }
    }

    /// The keys between two bounds, in several lists that are each in order.
    pub fn between<'a>(
        &'a self,
        from: Bound<&'a [u8]>,
        to: Bound<&'a [u8]>,
    ) -> impl Iterator<Item = Keys<'a>> {
        let mut new: Vec<&Bytes> =
            self.new.iter().filter(|key| !is_before(key, from) && is_within(key, to)).collect();
        new.sort_unstable();
        let runs = self.runs.iter().map(move |run| {
            let begin = run.partition_point(|key| is_before(key, from));
            let end = run.partition_point(|key| is_within(key, to));
            Keys::Run(run[begin.min(end)..end].iter())
        });
        runs.chain([Keys::New(new.into_iter())])
    }
}

/// Two runs as one.
fn merged(one: Vec<Bytes>, other: Vec<Bytes>) -> Vec<Bytes> {
    let mut both = Vec::with_capacity(one.len() + other.len());
    let mut one = one.into_iter().peekable();
    for key in other {
        while let Some(before) = one.next_if(|before| *before < key) {
            both.push(before);
        }
        both.push(key);
    }
    both.extend(one);
    both
}

/// Whether a key lies before all that a lower bound lets through.
pub fn is_before(key: &[u8], from: Bound<&[u8]>) -> bool {
    match from {
        Bound::Included(from) => key < from,
        Bound::Excluded(from) => key <= from,
        Bound::Unbounded => false,
    }
}

/// Whether an upper bound lets a key through.
pub fn is_within(key: &[u8], to: Bound<&[u8]>) -> bool {
    match to {
        Bound::Included(to) => key <= to,
        Bound::Excluded(to) => key < to,
        Bound::Unbounded => true,
    }
}

/// Keys in order.
pub enum Keys<'a> {
    Run(std::slice::Iter<'a, Bytes>),
    New(std::vec::IntoIter<&'a Bytes>),
}

impl<'a> Iterator for Keys<'a> {
    type Item = &'a Bytes;

    fn next(&mut self) -> Option<&'a Bytes> {
        match self {
            Keys::Run(keys) => keys.next(),
            Keys::New(keys) => keys.next(),
        }
    }
}

impl DoubleEndedIterator for Keys<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        match self {
            Keys::Run(keys) => keys.next_back(),
            Keys::New(keys) => keys.next_back(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spread, so that no run comes sorted.
    fn key(number: usize) -> Bytes {
        format!("{:05}", number * 7919 % 65_536).into()
    }

    #[test]
    fn keys_between_bounds_are_those_of_all_in_order() {
        let mut order = Order::default();
        let count = 5 * NEW_MAX + 7;
        (0..count).for_each(|number| order.add(key(number)));
        let bounds = |key: &'static str| [Bound::Included(key), Bound::Excluded(key), Bound::Unbounded];
        for from in bounds("23757").map(|bound| bound.map(str::as_bytes)) {
            for to in bounds("50000").map(|bound| bound.map(str::as_bytes)) {
                let lists: Vec<Vec<&Bytes>> = order.between(from, to).map(Iterator::collect).collect();
                assert!(lists.iter().all(|list| list.is_sorted()));
                let mut found: Vec<Bytes> = lists.concat().into_iter().cloned().collect();
                found.sort();
                let mut expected: Vec<Bytes> = (0..count).map(key).collect();
                expected.retain(|key| !is_before(key, from) && is_within(key, to));
                expected.sort();
                assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn runs_are_few_however_many_keys_came() {
        let mut order = Order::default();
        for number in 0..100_000 {
            order.add(key(number));
            if number % 1000 == 0 {
                order.settle();
            }
        }
        let lengths: Vec<usize> = order.runs.iter().map(Vec::len).collect();
        assert!(lengths.windows(2).all(|pair| pair[0] >= RUN_MAX.min(2 * pair[1])), "{lengths:?}");
        assert!(lengths[0] < 2 * RUN_MAX, "{lengths:?}");
        assert_eq!(lengths.iter().sum::<usize>() + order.new.len(), 100_000);
    }
}
