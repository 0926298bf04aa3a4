//! The log of a replica as its protocol moves along it: what is appended, synced, given out and applied.
//!
//! ```text
//!   applied ≤ given ≤ last         given: handed to the table, in order, each entry once
//!   durable ≤ last                 durable: all entries up to here are synced on this node
//! ```
//!
//! An append is a batch of records: entries, and whatever else the protocol writes. It is synced as a whole, and appends are synced
//! in the order of their tickets. At most [`UNSYNCED_MAX`] are on their way while there is a choice ([`Journal::has_room`]): what
//! arrives meanwhile shares the next one.

use std::collections::VecDeque;

use bytes::Bytes;
use kv::{Index, Position};

use crate::entries::{Entries, LogEntry};
use crate::record::{self, Header};
use crate::{Output, Ticket, UNAPPLIED_BYTES_MAX, UNSYNCED_MAX};

/// The log of one replica.
#[derive(Debug)]
pub(crate) struct Journal {
    head: Header,
    log: Entries,
    /// Appends that are not synced, in order, and up to where the log is synced when they are.
    unsynced: VecDeque<(Ticket, Index)>,
    ticket: Ticket,
    durable: Index,
    given: Index,
    applied: Index,
}

impl Journal {
    /// A recovered log, whose table has applied what is up to `applied`.
    pub(crate) fn new(head: Header, log: Entries, applied: Index) -> Journal {
        let durable = log.last();
        assert!(applied <= durable, "a log reaches to what is applied");
        let (unsynced, ticket) = (VecDeque::new(), Ticket::default());
        Journal { head, log, unsynced, ticket, durable, given: applied, applied }
    }

    /// What its records begin with.
    pub(crate) fn head(&self) -> Header {
        self.head
    }

    /// The entries that are in memory.
    pub(crate) fn log(&self) -> &Entries {
        &self.log
    }

    /// The last entry.
    pub(crate) fn last(&self) -> Index {
        self.log.last()
    }

    /// All entries up to here are synced.
    pub(crate) fn durable(&self) -> Index {
        self.durable
    }

    /// All entries up to here were given out.
    pub(crate) fn given(&self) -> Index {
        self.given
    }

    /// All entries up to here are applied.
    pub(crate) fn applied(&self) -> Index {
        self.applied
    }

    /// Whether another append may be made now, by who can wait.
    pub(crate) fn may_append(&self) -> bool {
        self.unsynced.len() < UNSYNCED_MAX
    }

    /// Whether another entry may be appended now, by who can wait.
    pub(crate) fn has_room(&self) -> bool {
        self.may_append() && self.log.unapplied_bytes() < UNAPPLIED_BYTES_MAX
    }

    /// Puts an entry at its place, and drops what was there and behind it: the record for the next append.
    pub(crate) fn put(&mut self, entry: LogEntry) -> Bytes {
        assert!(entry.index > self.given, "entry {} was given out and is not replaced", entry.index);
        let before = Index(entry.index.0 - 1);
        self.durable = self.durable.min(before);
        self.unsynced.iter_mut().for_each(|(_, to)| *to = before.min(*to));
        let (record, entry) = record::own(self.head, entry);
        self.log.put(entry);
        record
    }

    /// Writes records to the log; those of entries were put before.
    pub(crate) fn append(&mut self, records: Vec<Bytes>, out: &mut Vec<Output>) -> Ticket {
        self.ticket = self.ticket.next();
        self.unsynced.push_back((self.ticket, self.log.last()));
        out.push(Output::Append { ticket: self.ticket, records, install: false });
        self.ticket
    }

    /// All appends up to this ticket are synced.
    pub(crate) fn synced(&mut self, ticket: Ticket) {
        assert!(ticket <= self.ticket, "append {ticket} is synced, and it was never asked for");
        while let Some((_, to)) = self.unsynced.pop_front_if(|(own, _)| *own <= ticket) {
            self.durable = self.durable.max(to);
        }
        assert!(self.durable <= self.log.last(), "what is synced is in the log");
    }

    /// The next entry to be applied, if it is no later than `to`: it is given out with this.
    pub(crate) fn give(&mut self, to: Index) -> Option<LogEntry> {
        if self.given >= to {
            return None;
        }
        let entry = self.log.get(self.given.next()).expect("an entry stays in memory until it is applied");
        self.given = entry.index;
        Some(entry.clone())
    }

    /// The table has applied all entries up to here; those that are not needed any more go, beyond so many bytes of them.
    pub(crate) fn is_applied(&mut self, index: Index, cache_bytes: usize) {
        assert!(
            index <= self.given,
            "entry {index} was applied before it was given: {} was the last",
            self.given
        );
        self.applied = self.applied.max(index);
        self.log.applied(index);
        self.log.evict(cache_bytes);
    }

    /// Where the table is.
    pub(crate) fn applied_at(&self) -> Position {
        let term = self.log.term(self.applied).expect("the log reaches to what is applied");
        Position { index: self.applied, term }
    }
}

#[cfg(test)]
mod tests {
    use kv::{Epoch, Protocol, Term};

    use super::*;

    fn journal() -> Journal {
        Journal::new(Header { protocol: Protocol::Raft, epoch: Epoch(1) }, Entries::default(), Index::ZERO)
    }

    fn put(journal: &mut Journal, index: u64, term: u64) {
        journal.put(LogEntry { index: Index(index), term: Term(term), kind: 0, data: Bytes::new() });
        journal.append(Vec::new(), &mut Vec::new());
    }

    #[test]
    fn journal_has_room_for_two_appends() {
        let mut journal = journal();
        put(&mut journal, 1, 1);
        assert!(journal.has_room());
        put(&mut journal, 2, 1);
        assert!(!journal.has_room());
        journal.synced(Ticket(1));
        assert!(journal.has_room());
        assert_eq!((journal.durable(), journal.last()), (Index(1), Index(2)));
    }

    #[test]
    fn journal_entry_that_is_replaced_is_not_synced() {
        let mut journal = journal();
        (1..=3).for_each(|index| put(&mut journal, index, 1));
        journal.synced(Ticket(2));
        put(&mut journal, 2, 2);
        assert_eq!(journal.durable(), Index(1));
        journal.synced(Ticket(3));
        assert_eq!(
            journal.durable(),
            Index(1),
            "the append of what was replaced says nothing of what is there now"
        );
        journal.synced(Ticket(4));
        assert_eq!((journal.durable(), journal.last()), (Index(2), Index(2)));
    }

    #[test]
    fn journal_gives_each_entry_once_and_in_order() {
        let mut journal = journal();
        (1..=3).for_each(|index| put(&mut journal, index, 1));
        let given = |journal: &mut Journal, to| journal.give(Index(to)).map(|entry| entry.index.0);
        assert_eq!([2, 2, 2].map(|to| given(&mut journal, to)), [Some(1), Some(2), None]);
        journal.is_applied(Index(1), 0);
        assert_eq!((journal.applied_at(), journal.log().base()), (Position::new(1, 1), Position::new(1, 1)));
    }

    #[test]
    #[should_panic(expected = "was given out")]
    fn journal_entry_that_was_given_out_is_not_replaced() {
        let mut journal = journal();
        put(&mut journal, 1, 1);
        journal.give(Index(1));
        put(&mut journal, 1, 2);
    }
}
