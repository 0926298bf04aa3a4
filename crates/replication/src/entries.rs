//! The entries of a replica's log that are in memory.
//!
//! The log on the disk is read at recovery only: what a follower may still ask for, and what is not applied yet, is held
//! here. Entries that are applied go, oldest first, when there are more than the allowed bytes of them; a follower behind
//! the first entry needs a snapshot.

use std::collections::VecDeque;

use bytes::Bytes;

/// What an entry counts beside its data, so that many small entries are bounded too.
const OVERHEAD_BYTES: usize = 64;

/// Terms and indexes above this are nobody's: it leaves room to count on without an overflow.
pub(crate) const NUMBER_MAX: u64 = 1 << 60;

/// An entry of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogEntry {
    /// Its place. Starts at 1.
    pub(crate) index: u64,
    /// The term of the leader that appended it; 0 where the protocol has none.
    pub(crate) term: u64,
    /// What kind of entry, as the protocol numbers them; 0 = ops.
    pub(crate) kind: u8,
    /// [`kv::Entry`] bytes, or nothing.
    pub(crate) data: Bytes,
}

impl LogEntry {
    fn size(&self) -> usize {
        self.data.len() + OVERHEAD_BYTES
    }
}

/// A piece of a log without gaps: the entries above `base`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entries {
    base: Position,
    entries: VecDeque<LogEntry>,
    bytes: usize,
    applied: u64,
    unapplied_bytes: usize,
}

/// A place in a log; 0 = before the first entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) index: u64,
    pub(crate) term: u64,
}

impl Entries {
    /// The place before the first entry that is here.
    pub(crate) fn base(&self) -> Position {
        self.base
    }

    /// The last index.
    pub(crate) fn last(&self) -> u64 {
        self.base.index + self.entries.len() as u64
    }

    /// The term at an index from the base to the last; `None` elsewhere.
    pub(crate) fn term(&self, index: u64) -> Option<u64> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.get(index).map(|entry| entry.term)
    }

    /// The entry at an index.
    pub(crate) fn get(&self, index: u64) -> Option<&LogEntry> {
        let place = index.checked_sub(self.base.index + 1)?;
        self.entries.get(usize::try_from(place).ok()?)
    }

    /// The entries from `low` to before `high`, all above the base.
    pub(crate) fn range(&self, low: u64, high: u64) -> impl Iterator<Item = &LogEntry> {
        let place = |index: u64| (index - self.base.index - 1) as usize;
        self.entries.range(place(low)..place(high))
    }

    /// The entries above an index.
    pub(crate) fn above(&self, index: u64) -> impl Iterator<Item = &LogEntry> {
        self.range(index.clamp(self.base.index, self.last()) + 1, self.last() + 1)
    }

    /// Puts an entry at its place; what was there and behind it goes.
    ///
    /// # Panics
    ///
    /// When it would leave a gap.
    pub(crate) fn put(&mut self, entry: LogEntry) {
        assert!(
            self.base.index < entry.index && entry.index <= self.last() + 1,
            "entry {} does not follow a log of {} to {}",
            entry.index,
            self.base.index,
            self.last()
        );
        self.truncate(entry.index);
        self.bytes += entry.size();
        self.unapplied_bytes += entry.size();
        self.entries.push_back(entry);
    }

    /// Drops all entries; the log goes on behind `base`.
    pub(crate) fn restart(&mut self, base: Position) {
        *self = Entries { base, applied: base.index, ..Entries::default() };
    }

    /// All entries up to here are applied.
    pub(crate) fn applied(&mut self, index: u64) {
        if index > self.applied {
            let now: usize =
                self.range(self.applied + 1, index.min(self.last()) + 1).map(LogEntry::size).sum();
            self.unapplied_bytes -= now;
            self.applied = index;
        }
    }

    /// Drops the first entries that are applied, as long as all take more than `bytes_max`.
    pub(crate) fn evict(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max && self.entries.front().is_some_and(|first| first.index <= self.applied)
        {
            let first = self.entries.pop_front().expect("there is a first entry: it was just looked at");
            self.bytes -= first.size();
            self.base = Position { index: first.index, term: first.term };
        }
    }

    /// Bytes of the entries that are not applied.
    pub(crate) fn unapplied_bytes(&self) -> usize {
        self.unapplied_bytes
    }

    pub(crate) fn truncate(&mut self, from: u64) {
        assert!(from > self.applied || from > self.last(), "entry {from} is applied and cannot be replaced");
        while self.last() >= from {
            let gone = self.entries.pop_back().expect("the log reaches to its last index");
            self.bytes -= gone.size();
            self.unapplied_bytes -= gone.size();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(terms: &[u64]) -> Entries {
        let mut log = Entries::default();
        for (place, &term) in terms.iter().enumerate() {
            log.put(LogEntry { index: place as u64 + 1, term, kind: 0, data: Bytes::from_static(b"data") });
        }
        log
    }

    fn terms(log: &Entries) -> Vec<u64> {
        (log.base().index..=log.last()).map(|index| log.term(index).unwrap()).collect()
    }

    #[test]
    fn entries_put_in_the_middle_cuts_what_follows() {
        let mut log = log(&[1, 1, 1, 1]);
        log.put(LogEntry { index: 3, term: 2, kind: 0, data: Bytes::new() });
        assert_eq!(terms(&log), [0, 1, 1, 2]);
        assert_eq!(log.term(4), None);
        assert_eq!(log.unapplied_bytes(), 2 * (4 + OVERHEAD_BYTES) + OVERHEAD_BYTES);
        log.applied(2);
        assert_eq!(log.unapplied_bytes(), OVERHEAD_BYTES);
    }

    #[test]
    #[should_panic(expected = "does not follow")]
    fn entries_put_behind_a_gap_panics() {
        log(&[1, 1]).put(LogEntry { index: 4, term: 1, kind: 0, data: Bytes::new() });
    }

    #[test]
    fn entries_evict_keeps_what_is_not_applied() {
        let mut log = log(&[1, 2, 3, 4]);
        log.applied(3);
        log.evict(0);
        assert_eq!(log.base(), Position { index: 3, term: 3 });
        assert_eq!(log.above(0).map(|entry| entry.index).collect::<Vec<_>>(), [4]);
        assert_eq!(log.above(4).count() + log.above(9).count(), 0);
        log.applied(4);
        log.evict(4 + OVERHEAD_BYTES);
        assert_eq!((log.base().index, log.unapplied_bytes()), (3, 0), "what fits stays");
    }

    #[test]
    fn entries_restart_goes_on_behind_the_base() {
        let mut log = log(&[1, 1]);
        log.restart(Position { index: 9, term: 3 });
        assert_eq!((log.last(), log.term(9), log.term(8)), (9, Some(3), None));
        log.put(LogEntry { index: 10, term: 3, kind: 0, data: Bytes::new() });
        assert_eq!(terms(&log), [3, 3]);
    }
}
