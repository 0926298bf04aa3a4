//! What a replica knows after its log was read.
//!
//! The records of a shard are replayed in the order in which they were written. Older segments may be gone, so the first
//! records may start in the middle of the log: a checkpoint that follows them sets it right, for it holds everything that
//! the table has not flushed.

use bytes::Bytes;
use kv::codec::Malformed;
use mutant::Mutant;

use crate::entries::{Entries, Position};
use crate::record::{Record, State};

/// Collects the records of one replica's log.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    log: Entries,
    state: State,
}

/// What a record says, for people.
pub fn describe(record: &Bytes) -> String {
    Record::decode(record).map_or_else(|error| error.to_string(), |record| record.to_string())
}

/// A recovered log, matched with the table.
pub(crate) struct Recovered {
    /// The entries; the one that the table applied last is here, or the base.
    pub(crate) log: Entries,
    /// The state, its commit no lower than what is applied.
    pub(crate) state: State,
    /// The table is behind the first entry: entries up to this one were here, and are lost.
    pub(crate) lost: Option<u64>,
    /// Where the log ended, the table apart.
    pub(crate) ended: u64,
}

impl Recovery {
    /// Takes the next record.
    pub fn replay(&mut self, record: &Bytes) -> Result<(), Malformed> {
        match Record::decode(record)? {
            // A checkpoint wrote it again, and may have been cut off before it came to those behind it: they stay.
            Record::Entry(entry) if self.log.term(entry.index) == Some(entry.term) => (),
            Record::Entry(entry) => {
                if self.log.base().index < entry.index && entry.index <= self.log.last() + 1 {
                    self.log.put(entry);
                } else {
                    // Starts in the middle: only a checkpoint behind it makes sense of it.
                    self.log.restart(Position { index: entry.index, term: entry.term });
                }
            }
            Record::State(state) => self.state = state,
            Record::Base(at) if self.log.term(at.index) == Some(at.term) => (),
            Record::Base(at) | Record::Snapshot(at) => self.log.restart(at),
        }
        Ok(())
    }

    /// The log as it fits a table that has applied what is up to `applied`.
    pub(crate) fn finish(mut self, applied: Position) -> Recovered {
        let ended = self.log.last();
        let lost = (applied.index < self.log.base().index).then_some(ended);
        if self.log.term(applied.index) != Some(applied.term) {
            self.log.restart(applied);
        }
        self.log.applied(applied.index);
        if mutant::is(Mutant::UncommittedTailDropped) {
            self.log.truncate(self.state.commit.max(applied.index) + 1);
        }
        let last = self.log.last();
        self.state.commit = self.state.commit.clamp(applied.index, last);
        self.state.term = self.state.term.max(self.log.term(last).unwrap_or_default());
        Recovered { log: self.log, state: self.state, lost, ended }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entries::LogEntry;

    fn entry(index: u64, term: u64) -> Record {
        Record::Entry(LogEntry { index, term, kind: 0, data: Bytes::new() })
    }

    fn at(index: u64, term: u64) -> Position {
        Position { index, term }
    }

    fn recover(records: &[Record], applied: Position) -> (Vec<u64>, State, Option<u64>) {
        let mut recovery = Recovery::default();
        records.iter().for_each(|record| recovery.replay(&record.encode()).unwrap());
        let Recovered { log, state, lost, .. } = recovery.finish(applied);
        ((log.base().index..=log.last()).map(|index| log.term(index).unwrap()).collect(), state, lost)
    }

    #[test]
    fn recovery_later_entry_replaces_what_was_behind_it() {
        let records = [entry(1, 1), entry(2, 1), entry(3, 1), entry(2, 2)];
        assert_eq!(recover(&records, at(0, 0)).0, [0, 1, 2]);
    }

    #[test]
    fn recovery_commit_is_raised_to_applied_and_cut_to_the_log() {
        let state = |commit| Record::State(State { term: 4, vote: 2, commit });
        let records = [entry(1, 1), entry(2, 1), state(1)];
        assert_eq!(recover(&records, at(2, 1)).1, State { term: 4, vote: 2, commit: 2 });
        let records = [entry(1, 1), entry(2, 1), state(9)];
        assert_eq!(recover(&records, at(0, 0)).1.commit, 2);
    }

    #[test]
    fn recovery_base_in_the_log_keeps_its_entries() {
        let records = [entry(1, 1), entry(2, 1), Record::Base(at(1, 1)), entry(2, 1), entry(3, 1)];
        assert_eq!(recover(&records, at(1, 1)).0, [0, 1, 1, 1]);
    }

    #[test]
    fn recovery_checkpoint_that_was_cut_off_takes_nothing_away() {
        let log = [entry(1, 1), entry(2, 1), entry(3, 1), Record::Base(at(0, 0)), entry(1, 1)];
        assert_eq!(recover(&log, at(0, 0)).0, [0, 1, 1, 1]);
        assert_eq!(recover(&log, at(1, 1)).0, [0, 1, 1, 1]);
    }

    #[test]
    fn recovery_base_beyond_the_log_restarts_it() {
        let records = [entry(1, 1), Record::Base(at(7, 3)), entry(8, 4)];
        assert_eq!(recover(&records, at(7, 3)), (vec![3, 4], State { term: 4, vote: 0, commit: 7 }, None));
    }

    #[test]
    fn recovery_cut_beginning_is_set_right_by_the_checkpoint() {
        let records =
            [entry(50, 2), entry(51, 2), entry(49, 3), Record::Base(at(47, 2)), entry(48, 3), entry(49, 3)];
        assert_eq!(recover(&records, at(47, 2)).0, [2, 3, 3]);
        let records = [entry(50, 2), entry(51, 2), Record::Base(at(50, 2)), entry(51, 2)];
        assert_eq!(recover(&records, at(51, 2)).0, [2, 2]);
    }

    #[test]
    fn recovery_snapshot_clears_the_log() {
        let records = [entry(1, 1), entry(2, 1), Record::Snapshot(at(2, 1)), entry(3, 1)];
        assert_eq!(recover(&records, at(2, 1)).0, [1, 1]);
    }

    #[test]
    fn recovery_table_behind_the_log_tells_what_is_lost() {
        let records = [Record::Base(at(7, 3)), entry(8, 4)];
        assert_eq!(recover(&records, at(5, 3)), (vec![3], State { term: 3, vote: 0, commit: 5 }, Some(8)));
    }
}
