//! What of a replica's log is synced, as the records and the completions of the disk tell: nobody's own word counts.

use std::collections::VecDeque;

use kv::{Index, ReplicaId, Term};

use super::Record;

/// What is synced of one replica's log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Durable {
    /// All entries up to here.
    pub last: Index,
    /// Term and vote.
    pub state: (Term, ReplicaId),
    /// Of the append that is being looked at, or of a log that is being read.
    gathered: Batch,
    waiting: VecDeque<(u64, Batch)>,
    replaced: Replaced,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Batch {
    last: Option<Index>,
    /// The last one it wrote, be it replaced or not.
    reaches: Option<Index>,
    state: Option<(Term, ReplicaId)>,
}

/// What was synced of a log that a later term replaced. An acknowledgement from before may leave afterwards: it is as if it had
/// been long on its way.
#[derive(Clone, Copy, Debug, Default)]
struct Replaced {
    /// The term that replaced it: earlier ones acknowledged it.
    by: Term,
    last: Index,
}

impl Durable {
    /// A record of the next append; `replaces` = another entry was at its place.
    pub fn take(&mut self, record: Record, replaces: bool) {
        match record {
            Record::Entry(at) => {
                if replaces {
                    self.cut(Index(at.index.0 - 1), at.term);
                }
                self.gather(at.index);
            }
            Record::State { term, vote, .. } => self.gathered.state = Some((term, vote)),
            Record::Snapshot(at) => {
                self.cut(Index(at.index.0 - u64::from(replaces)), at.term);
                self.gather(at.index);
            }
            // The log of an heir begins behind the rows that were flushed before.
            Record::Base(at) if self.is_new() => self.gather(at.index),
            Record::Base(_)
            | Record::View
            | Record::Replica
            | Record::Seal
            | Record::Sealed(_)
            | Record::Ceiling(_)
            | Record::Vector => {}
        }
    }

    /// Whether nothing was written of it yet.
    fn is_new(&self) -> bool {
        self.last == Index::ZERO && self.waiting.is_empty() && self.gathered.last.is_none()
    }

    /// Whether a replica may say in a term that it has the entries up to an index.
    pub fn holds(&self, term: Term, index: Index) -> bool {
        index <= self.last || term < self.replaced.by && index <= self.replaced.last
    }

    fn gather(&mut self, index: Index) {
        self.gathered.last = Some(index);
        self.gathered.reaches = self.gathered.reaches.max(Some(index));
    }

    /// The append is complete.
    pub fn appended(&mut self, ticket: u64) {
        let batch = std::mem::take(&mut self.gathered);
        if batch != Batch::default() {
            self.waiting.push_back((ticket, batch));
        }
    }

    /// All appends up to a ticket are synced.
    pub fn synced(&mut self, ticket: u64) {
        while let Some((_, batch)) = self.waiting.pop_front_if(|(waiting, _)| *waiting <= ticket) {
            self.last = self.last.max(batch.last.unwrap_or_default());
            if batch.reaches > batch.last {
                self.replaced.last = self.replaced.last.max(batch.reaches.unwrap_or_default());
            }
            self.state = batch.state.unwrap_or(self.state);
        }
    }

    /// The log was read, and reaches up to here: all of it is synced again. An entry says its term as well: it may be there while
    /// the record of the term, which stands behind it, was lost before it was synced.
    pub fn recovered(&mut self, last: Index, of_term: Term) {
        (self.last, self.replaced) = (last, Replaced::default());
        let (term, vote) = std::mem::take(&mut self.gathered).state.unwrap_or_default();
        self.state = (term.max(of_term), vote);
    }

    /// Term and vote of a log that is being read.
    pub fn state_read(&self) -> (Term, ReplicaId) {
        self.gathered.state.unwrap_or_default()
    }

    /// Entries behind this one are replaced, by a leader of this term or a later one.
    fn cut(&mut self, last: Index, term: Term) {
        let newest = self.waiting.iter().rev().find_map(|(_, batch)| batch.state).unwrap_or(self.state);
        let (by, _) = self.gathered.state.unwrap_or(newest);
        self.replaced.by = self.replaced.by.max(by).max(term);
        if self.last > last {
            self.replaced.last = self.replaced.last.max(self.last);
            self.last = last;
        }
        for batch in self.waiting.iter_mut().map(|(_, batch)| batch).chain([&mut self.gathered]) {
            batch.last = batch.last.map(|index| index.min(last));
        }
    }
}
