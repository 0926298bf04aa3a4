//! How a member that follows gets the log of the one that orders: matching on one side, progress on the other.
//!
//! Two logs that have an entry of the same index and term are the same up to there. So entries are sent with the place of the one
//! before them: who has that one takes them, and what it has instead goes; who has not says how far it may match, and the other one
//! goes back that far. What goes is told by (term, index), never by how far somebody says that it has come: a tail that was never
//! agreed on may be longer than what replaced it.
//!
//! ```text
//!   n1, orders in term 3      1 1 2 3        sends 3 behind (3, term 2) ──▶  n2   1 1 2 2 2     has (3, term 2): takes 3
//!                                                                            n2   1 1 2 3       its 2 at 4 and 5 are gone
//!                                                                       ──▶  n3   1 1           lacks 3: "up to 2"
//! ```

use kv::{Index, Position};

use crate::Instant;
use crate::entries::{Entries, LogEntry};

/// So many bytes of entries are on their way to a member at most, unless a single one is larger.
const FLIGHT_BYTES_MAX: usize = 4 << 20;
/// A message holds at most so many bytes of entries, unless a single one is larger.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// What of a message's entries is new here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The log matches up to there once these are behind what is before them.
    New {
        /// What is to be put into the log, in order; may be none.
        entries: Vec<LogEntry>,
        /// The last index up to which the log is the sender's.
        matched: Index,
    },
    /// The entry before them is not here: they may match up to there.
    Unmatched(Index),
}

/// Compares what comes behind `before` with a log of which all up to `commit` is known to be agreed on.
pub(crate) fn take(log: &Entries, commit: Index, before: Position, entries: Vec<LogEntry>) -> Taken {
    let last_sent = entries.last().map_or(before.index, |last| last.index);
    if last_sent <= commit {
        return Taken::New { entries: Vec::new(), matched: commit };
    }
    let has = |at: Position| at.index <= commit || log.term(at.index) == Some(at.term);
    if !has(before) {
        return Taken::Unmatched(may_match(log, commit, before));
    }
    let entries = entries.into_iter().skip_while(|entry| has(entry.at())).collect();
    Taken::New { entries, matched: last_sent }
}

/// Up to where the logs may match at most: below the whole term that is here instead.
fn may_match(log: &Entries, commit: Index, before: Position) -> Index {
    if before.index > log.last() {
        return log.last();
    }
    let mut at = before.index;
    let term = log.term(at);
    while at > commit && log.term(at) == term {
        at = Index(at.0 - 1);
    }
    at.max(commit)
}

/// How far a member is, as the one that orders knows it.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// It has synced what is up to here.
    pub(crate) matched: Index,
    /// The next entry that is sent.
    pub(crate) next: Index,
    /// Where the logs meet is not known yet: one message at a time, until it is answered.
    pub(crate) probes: bool,
    /// It said something in this term: it knows who orders.
    pub(crate) is_heard: bool,
    /// When the message was sent that it probes with, until it is answered.
    pub(crate) sent: Option<Instant>,
    /// It is behind the log: a snapshot is made for it, or on its way.
    pub(crate) snapshot: bool,
}

impl Progress {
    /// Of a member of which nothing is known, but that the log here ends at `last`.
    pub(crate) fn new(last: Index) -> Progress {
        let (matched, next) = (Index::ZERO, last.next());
        Progress { matched, next, probes: true, is_heard: false, sent: None, snapshot: false }
    }

    /// It has synced what is up to there, in this term.
    pub(crate) fn acknowledged(&mut self, index: Index) {
        self.is_heard = true;
        self.matched = self.matched.max(index);
        self.next = self.next.max(self.matched.next());
        (self.probes, self.snapshot) = (false, false);
    }

    /// It refused what came behind `before`, and may match up to `hint`.
    pub(crate) fn refused(&mut self, before: Index, hint: Index) {
        self.is_heard = true;
        let is_late = before <= self.matched || before.next() > self.next;
        if !is_late {
            self.next = Index(hint.0.min(before.0 - 1)).next().max(self.matched.next());
            (self.probes, self.sent) = (true, None);
        }
    }

    /// A snapshot of what is up to there has arrived: it goes on behind it, one message first.
    pub(crate) fn has_snapshot(&mut self, at: Index) {
        self.next = self.next.max(at.next());
        (self.probes, self.snapshot, self.sent) = (true, false, None);
    }

    /// What was sent may be lost: it is sent again, one message first.
    pub(crate) fn begin_again(&mut self) {
        if !self.probes {
            self.next = self.next.min(self.matched.next());
        }
        (self.probes, self.snapshot, self.sent) = (true, false, None);
    }

    /// The entries that go with the next message, which are not taken again; none = there is nothing to be sent now.
    pub(crate) fn take_next(&mut self, log: &Entries) -> Vec<LogEntry> {
        let in_flight = if self.probes { 0 } else { log.bytes_between(self.matched, Index(self.next.0 - 1)) };
        if self.next > log.last() || in_flight >= FLIGHT_BYTES_MAX {
            return Vec::new();
        }
        let mut bytes = 0;
        let fits = |entry: &&LogEntry| {
            let is_first = bytes == 0;
            bytes += entry.size();
            is_first || bytes <= MESSAGE_BYTES_MAX
        };
        let entries: Vec<LogEntry> =
            log.range(self.next, log.last().next()).take_while(fits).cloned().collect();
        self.next = entries.last().map_or(self.next, |last| last.index.next());
        entries
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kv::Term;

    use super::*;

    fn entries(first: u64, terms: &[u64]) -> Vec<LogEntry> {
        let entry = |(place, term): (usize, &u64)| LogEntry {
            index: Index(first + place as u64),
            term: Term(*term),
            kind: 0,
            data: Bytes::from_static(b"data"),
        };
        terms.iter().enumerate().map(entry).collect()
    }

    fn log(terms: &[u64]) -> Entries {
        let mut log = Entries::default();
        entries(1, terms).into_iter().for_each(|entry| log.put(entry));
        log
    }

    fn taken(terms: &[u64], commit: u64, before: (u64, u64), sent: &[u64]) -> Taken {
        take(&log(terms), Index(commit), Position::new(before.0, before.1), entries(before.0 + 1, sent))
    }

    #[test]
    fn entries_behind_one_that_is_here_are_taken_and_what_is_here_already_is_not() {
        let new = taken(&[1, 1, 2], 1, (1, 1), &[1, 2, 2]);
        assert_eq!(new, Taken::New { entries: entries(4, &[2]), matched: Index(4) });
        let none = taken(&[1, 1, 2], 1, (2, 1), &[2]);
        assert_eq!(none, Taken::New { entries: vec![], matched: Index(3) });
    }

    #[test]
    fn entries_of_a_later_term_replace_a_longer_tail() {
        let new = taken(&[1, 1, 2, 2, 2], 2, (3, 2), &[3]);
        assert_eq!(new, Taken::New { entries: entries(4, &[3]), matched: Index(4) });
    }

    #[test]
    fn entries_behind_one_that_is_not_here_are_refused_with_how_far_the_logs_may_match() {
        assert_eq!(taken(&[1, 1], 0, (3, 2), &[3]), Taken::Unmatched(Index(2)));
        assert_eq!(taken(&[1, 1, 2, 2, 2], 1, (5, 3), &[3]), Taken::Unmatched(Index(2)));
        assert_eq!(taken(&[2, 2, 2], 2, (3, 3), &[3]), Taken::Unmatched(Index(2)));
    }

    #[test]
    fn entries_that_are_agreed_on_are_here_whatever_is_sent() {
        assert_eq!(taken(&[1, 1, 1], 3, (0, 0), &[1, 1]), Taken::New { entries: vec![], matched: Index(3) });
        let new = taken(&[1, 1, 1], 3, (1, 1), &[1, 1, 1]);
        assert_eq!(new, Taken::New { entries: entries(4, &[1]), matched: Index(4) });
    }

    #[test]
    fn progress_goes_back_when_it_is_refused_and_ignores_a_late_refusal() {
        let mut progress = Progress::new(Index(9));
        progress.refused(Index(9), Index(4));
        assert_eq!((progress.next, progress.probes), (Index(5), true));
        progress.acknowledged(Index(6));
        assert_eq!((progress.next, progress.probes), (Index(7), false));
        progress.refused(Index(5), Index(2));
        progress.refused(Index(9), Index(2));
        assert_eq!(progress.next, Index(7));
    }

    #[test]
    fn progress_sends_each_entry_once_until_it_begins_again() {
        let (log, mut progress) = (log(&[1, 1, 2]), Progress::new(Index(1)));
        let indexes = |entries: Vec<LogEntry>| entries.iter().map(|entry| entry.index.0).collect::<Vec<_>>();
        assert_eq!(indexes(progress.take_next(&log)), [2, 3]);
        assert_eq!(indexes(progress.take_next(&log)), [0; 0]);
        progress.acknowledged(Index(2));
        progress.begin_again();
        assert_eq!(indexes(progress.take_next(&log)), [3]);
    }
}
