//! The entries of a replica's log that are in memory.
//!
//! The log on the disk is read at recovery only: what a follower may still ask for, and what is not applied yet, is held
//! here. Entries that are applied go, oldest first, when there are more than the allowed bytes of them; a follower behind
//! the first entry needs a snapshot.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;
use kv::codec::{Malformed, Reader};
use kv::{Epoch, Index, Position, Term};

use crate::View;

/// What an entry counts beside its data, so that many small entries are bounded too.
const OVERHEAD_BYTES: usize = 64;

/// Terms and indexes above this are nobody's: it leaves room to count on without an overflow.
pub(crate) const NUMBER_MAX: u64 = 1 << 60;

/// The kind of an entry that holds ops.
pub(crate) const OPS: u8 = 0;
/// The kind of an entry that says who belongs to the shard from there on: a [`View`], whose revision is the entry's index.
pub(crate) const MEMBERS: u8 = 2;
/// The kind of an entry with which an epoch ends: the next one, as a number. What stands behind it is nobody's.
pub(crate) const SEAL: u8 = 3;

/// An entry of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogEntry {
    /// Its place. Starts at 1.
    pub(crate) index: Index,
    /// The term of the leader that appended it; 0 where the protocol has none.
    pub(crate) term: Term,
    /// [`OPS`], [`MEMBERS`] or [`SEAL`].
    pub(crate) kind: u8,
    /// [`kv::Entry`] bytes or nothing; [`View`] bytes; the number of an epoch.
    pub(crate) data: Bytes,
}

impl LogEntry {
    /// What it counts, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.data.len() + OVERHEAD_BYTES
    }

    /// Where it stands.
    pub(crate) fn at(&self) -> Position {
        Position { index: self.index, term: self.term }
    }

    /// Who belongs to the shard from here on, if it changes that.
    pub(crate) fn members(&self) -> Result<Option<View>, Malformed> {
        match self.kind {
            OPS => Ok(None),
            SEAL => self.seal().map(|_| None),
            MEMBERS => {
                let mut reader = Reader::new(self.data.clone());
                let view = View::decode(&mut reader)?;
                reader.end()?;
                match view.revision.0 == self.index.0 {
                    true => Ok(Some(view)),
                    false => {
                        Err(Malformed("an entry changes members under a revision that is not its index"))
                    }
                }
            }
            _ => Err(Malformed("an entry is of an unknown kind")),
        }
    }

    /// In which epoch the shard goes on behind it, if it ends one.
    pub(crate) fn seal(&self) -> Result<Option<Epoch>, Malformed> {
        if self.kind != SEAL {
            return Ok(None);
        }
        let mut reader = Reader::new(self.data.clone());
        let next = Epoch(reader.uint()?);
        reader.end()?;
        Ok(Some(next))
    }
}

impl fmt::Display for LogEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.kind {
            MEMBERS => "members",
            SEAL => "seal",
            _ => "entry",
        };
        write!(f, "{word} {}", self.at())
    }
}

/// A piece of a log without gaps: the entries above `base`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entries {
    base: Position,
    entries: VecDeque<LogEntry>,
    bytes: usize,
    applied: Index,
    unapplied_bytes: usize,
    /// Where an epoch ends.
    seal: Option<Index>,
}

impl Entries {
    /// The place before the first entry that is here.
    pub(crate) fn base(&self) -> Position {
        self.base
    }

    /// Whether there is, or was before the first entry that is left, an entry that ends the epoch.
    pub(crate) fn is_sealed(&self) -> bool {
        self.seal.is_some()
    }

    /// The last index.
    pub(crate) fn last(&self) -> Index {
        self.base.index + self.entries.len() as u64
    }

    /// The term at an index from the base to the last; `None` elsewhere.
    pub(crate) fn term(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.get(index).map(|entry| entry.term)
    }

    /// The entry at an index.
    pub(crate) fn get(&self, index: Index) -> Option<&LogEntry> {
        let place = index.0.checked_sub(self.base.index.0 + 1)?;
        self.entries.get(usize::try_from(place).ok()?)
    }

    /// The entries from `low` to before `high`, all above the base.
    pub(crate) fn range(&self, low: Index, high: Index) -> impl Iterator<Item = &LogEntry> {
        assert!(
            self.base.index < low && low <= high && high <= self.last().next(),
            "entries {low} to {high} are not in a log of {} to {}",
            self.base.index,
            self.last()
        );
        let place = |index: Index| (index.0 - self.base.index.0 - 1) as usize;
        self.entries.range(place(low)..place(high))
    }

    /// The last change of members at or below an index that is here.
    pub(crate) fn members_at(&self, index: Index) -> Option<View> {
        let up_to = self.entries.iter().rev().skip_while(|entry| entry.index > index);
        let mut changes =
            up_to.filter_map(|entry| entry.members().expect("what is in a log was checked when it came"));
        changes.next()
    }

    /// The entries above an index.
    pub(crate) fn above(&self, index: Index) -> impl Iterator<Item = &LogEntry> {
        self.range(index.clamp(self.base.index, self.last()).next(), self.last().next())
    }

    /// Puts an entry at its place; what was there and behind it goes.
    ///
    /// # Panics
    ///
    /// When it would leave a gap.
    pub(crate) fn put(&mut self, entry: LogEntry) {
        assert!(
            self.base.index < entry.index && entry.index <= self.last().next(),
            "entry {} does not follow a log of {} to {}",
            entry.index,
            self.base.index,
            self.last()
        );
        self.truncate(entry.index);
        assert!(
            self.term(self.last()).is_none_or(|before| before <= entry.term),
            "terms never fall along a log: entry {} follows term {:?}",
            entry.at(),
            self.term(self.last())
        );
        self.bytes += entry.size();
        self.unapplied_bytes += entry.size();
        if entry.kind == SEAL {
            self.seal.get_or_insert(entry.index);
        }
        self.entries.push_back(entry);
    }

    /// Drops all entries; the log goes on behind `base`.
    pub(crate) fn restart(&mut self, base: Position) {
        assert!(base.index.0 <= NUMBER_MAX, "a log goes on where it can be counted on");
        *self = Entries { base, applied: base.index, ..Entries::default() };
    }

    /// All entries up to here are applied.
    pub(crate) fn applied(&mut self, index: Index) {
        if index > self.applied {
            let now: usize =
                self.range(self.applied.next(), index.min(self.last()).next()).map(LogEntry::size).sum();
            assert!(self.unapplied_bytes >= now, "what is applied was counted when it came");
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
            assert!(first.term >= self.base.term, "terms never fall along a log");
            self.base = first.at();
        }
    }

    /// About how many bytes are in the entries up to an index, as if all were as large, and how many in all.
    pub(crate) fn bytes_up_to(&self, index: Index) -> (u64, u64) {
        let (all, bytes) = (self.entries.len() as u64, self.bytes as u64);
        let there = index.0.saturating_sub(self.base.index.0).min(all);
        (bytes * there / all.max(1), bytes)
    }

    /// Bytes of the entries above an index, up to another one, as far as they are here.
    pub(crate) fn bytes_between(&self, above: Index, last: Index) -> usize {
        let low = above.max(self.base.index).next();
        let high = last.min(self.last()).next();
        if low < high { self.range(low, high).map(LogEntry::size).sum() } else { 0 }
    }

    /// Bytes of the entries that are not applied.
    pub(crate) fn unapplied_bytes(&self) -> usize {
        self.unapplied_bytes
    }

    /// Drops the entries from an index on, none of which is applied.
    pub(crate) fn truncate(&mut self, from: Index) {
        assert!(from > self.applied || from > self.last(), "entry {from} is applied and cannot be replaced");
        while self.last() >= from {
            let gone = self.entries.pop_back().expect("the log reaches to its last index");
            self.bytes -= gone.size();
            self.unapplied_bytes -= gone.size();
        }
        self.seal = self.seal.filter(|seal| *seal < from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(terms: &[u64]) -> Entries {
        let mut log = Entries::default();
        for (place, &term) in terms.iter().enumerate() {
            log.put(LogEntry {
                index: Index(place as u64 + 1),
                term: Term(term),
                kind: 0,
                data: Bytes::from_static(b"data"),
            });
        }
        log
    }

    fn terms(log: &Entries) -> Vec<u64> {
        (log.base().index.0..=log.last().0).map(|index| log.term(Index(index)).unwrap().0).collect()
    }

    #[test]
    fn entries_put_in_the_middle_cuts_what_follows() {
        let mut log = log(&[1, 1, 1, 1]);
        log.put(LogEntry { index: Index(3), term: Term(2), kind: 0, data: Bytes::new() });
        assert_eq!(terms(&log), [0, 1, 1, 2]);
        assert_eq!(log.term(Index(4)), None);
        assert_eq!(log.unapplied_bytes(), 2 * (4 + OVERHEAD_BYTES) + OVERHEAD_BYTES);
        log.applied(Index(2));
        assert_eq!(log.unapplied_bytes(), OVERHEAD_BYTES);
    }

    #[test]
    #[should_panic(expected = "does not follow")]
    fn entries_put_behind_a_gap_panics() {
        log(&[1, 1]).put(LogEntry { index: Index(4), term: Term(1), kind: 0, data: Bytes::new() });
    }

    #[test]
    fn entries_evict_keeps_what_is_not_applied() {
        let mut log = log(&[1, 2, 3, 4]);
        log.applied(Index(3));
        log.evict(0);
        assert_eq!(log.base(), Position::new(3, 3));
        assert_eq!(log.above(Index(0)).map(|entry| entry.index.0).collect::<Vec<_>>(), [4]);
        assert_eq!(log.above(Index(4)).count() + log.above(Index(9)).count(), 0);
        log.applied(Index(4));
        log.evict(4 + OVERHEAD_BYTES);
        assert_eq!((log.base().index, log.unapplied_bytes()), (Index(3), 0), "what fits stays");
    }

    #[test]
    fn entries_bytes_up_to_an_index_are_its_part_of_all() {
        let mut log = log(&[1, 1, 1, 1]);
        let all = 4 * (4 + OVERHEAD_BYTES as u64);
        let part = |log: &Entries, index| log.bytes_up_to(Index(index));
        assert_eq!([0, 1, 4, 9].map(|index| part(&log, index).0), [0, all / 4, all, all]);
        log.applied(Index(3));
        log.evict(0);
        assert_eq!([3, 4].map(|index| part(&log, index)), [(0, all / 4), (all / 4, all / 4)]);
        log.restart(Position::new(9, 3));
        assert_eq!(part(&log, 9), (0, 0));
    }

    #[test]
    fn entries_restart_goes_on_behind_the_base() {
        let mut log = log(&[1, 1]);
        log.restart(Position::new(9, 3));
        assert_eq!((log.last(), log.term(Index(9)), log.term(Index(8))), (Index(9), Some(Term(3)), None));
        log.put(LogEntry { index: Index(10), term: Term(3), kind: 0, data: Bytes::new() });
        assert_eq!(terms(&log), [3, 3]);
    }
}
