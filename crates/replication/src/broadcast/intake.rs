//! What a member takes in: rows of its own writes, of other members', and the word of how far it has what each of them made.
//!
//! Rows are ops of entries of the own log ([`Op::Merge`]); what comes while two entries are on their way to the disk shares the next one. Beside the rows
//! the log says up to where the member has what each other made: in the same append as the last row of it, so that after a crash it has what it
//! says.
//!
//! ```text
//!   rows, up to n2:9 ─▶ batch ─▶ Append [entry, has 2:9] ─▶ Durable: it may be said ─▶ Apply ─▶ (table) ─▶ Applied: writes are answered
//!        got                          logged                    have
//! ```

use std::collections::VecDeque;

use bytes::Bytes;
use kv::merged::Row;
use kv::{Index, Op, ReplicaId, Stamped, Term, Version};
use mutant::Mutant;

use super::Broadcast;
use crate::batch::Batch;
use crate::entries::{LogEntry, OPS};
use crate::quorum::stores::merges;
use crate::record::{Record, Vector};
use crate::{Output, Ticket, Token};

/// What is to be merged, and how far that reaches.
pub(super) struct Intake {
    batch: Batch,
    /// That of its entries: the one with which the shard came to it.
    term: Term,
    /// The last op that was put in, that is in an entry, that is durable, and that is applied.
    pub(super) last: Token,
    pub(super) taken: Token,
    pub(super) durable: Token,
    pub(super) applied: Token,
    /// With this op it has all that one made up to a version.
    staged: VecDeque<(Token, ReplicaId, Version)>,
    /// What it has of each, counting what is in the batch; what is in the log; and what is durable there, and given to the table.
    pub(super) got: Vector,
    pub(super) logged: Vector,
    pub(super) have: Vector,
    unsynced: VecDeque<(Ticket, Token, Vector)>,
    entries: VecDeque<(Index, Token)>,
    /// The newest version that it heard of.
    pub(super) newest: Version,
    /// Rises when rows of others come in.
    pub(super) merges: u64,
}

impl Intake {
    pub(super) fn new(term: Term, have: Vector) -> Intake {
        let newest = have.values().copied().max().unwrap_or_default();
        let (got, logged) = (have.clone(), have.clone());
        let (staged, unsynced, entries) = Default::default();
        let (last, taken, durable, applied, merges) = Default::default();
        let batch = Batch::default();
        Intake {
            batch,
            term,
            last,
            taken,
            durable,
            applied,
            staged,
            got,
            logged,
            have,
            unsynced,
            entries,
            newest,
            merges,
        }
    }

    /// Puts ops in. Whether there was room for all of them.
    pub(super) fn push(&mut self, ops: Vec<Op>) -> bool {
        ops.into_iter().all(|op| {
            self.last += 1;
            self.batch.push(self.last, Stamped { id: None, op }.encode()).is_ok()
        })
    }

    /// Puts rows of others in. Whether there was room for all of them.
    pub(super) fn merge(&mut self, rows: Vec<Row>) -> bool {
        self.merges += 1;
        self.newest = rows.iter().map(|row| row.version).fold(self.newest, Version::max);
        rows.is_empty() || self.push(merges(rows))
    }

    /// The same; of a row that was here before, and is made again by a trim, the floor counts alone.
    pub(super) fn merge_trims(&mut self, mut rows: Vec<Row>) -> bool {
        rows.iter_mut().for_each(|row| row.known = row.floor > Version::ZERO && self.had(row.version));
        self.merge(rows)
    }

    /// With what was put in so far, it has all that one made up to a version.
    pub(super) fn stage(&mut self, origin: ReplicaId, upto: Version) {
        self.newest = self.newest.max(upto);
        if raise(&mut self.got, origin, upto) {
            self.staged.push_back((self.last, origin, upto));
        }
    }

    /// What it has of one.
    pub(super) fn got(&self, origin: ReplicaId) -> Version {
        self.got.get(&origin).copied().unwrap_or_default()
    }

    /// Whether a row of this version was here, if it was anywhere: if it is not now, it is dropped for good.
    pub(super) fn had(&self, version: Version) -> bool {
        version <= self.got(version.replica())
    }

    /// Drops what is not in an entry.
    pub(super) fn drop_all(&mut self) {
        self.batch.drain().for_each(drop);
        self.staged.clear();
        self.got.clone_from(&self.logged);
    }
}

impl Broadcast {
    /// Appends what waits, as much as may be.
    pub(super) fn append(&mut self, out: &mut Vec<Output>) {
        while self.journal.has_room() {
            let next = self.intake.batch.next(self.clock);
            if next.is_none() && self.ceiling.is_none() && self.intake.staged.is_empty() {
                return;
            }
            let mut records = self.take_notes();
            if let Some((data, tokens)) = next {
                let index = self.journal.last().next();
                records.push(self.journal.put(LogEntry { index, term: self.intake.term, kind: OPS, data }));
                self.intake.taken = tokens.last().copied().unwrap_or(self.intake.taken);
                self.intake.entries.push_back((index, self.intake.taken));
            }
            records.extend(self.next_vector());
            self.append_records(records, out);
        }
    }

    /// The record of what it has with the entries that are in the log, if that is news.
    fn next_vector(&mut self) -> Option<Bytes> {
        let head = self.head();
        let Intake { staged, taken, logged, .. } = &mut self.intake;
        let mut is_news = false;
        while let Some((_, origin, upto)) = staged.pop_front_if(|(with, ..)| *with <= *taken) {
            is_news |= raise(logged, origin, upto);
        }
        is_news.then(|| Record::Vector(logged.clone()).encode(head))
    }

    /// Appends records, a ceiling among them if one is wanted.
    pub(super) fn append_records(&mut self, records: Vec<Bytes>, out: &mut Vec<Output>) -> Ticket {
        let ticket = self.journal.append(records, out);
        if self.ceiling.take().is_some() {
            self.issue.appended(ticket);
        }
        self.intake.unsynced.push_back((ticket, self.intake.taken, self.intake.logged.clone()));
        ticket
    }

    /// All appends up to this ticket are synced.
    pub(super) fn synced(&mut self, ticket: Ticket) {
        self.journal.synced(ticket);
        self.issue.is_synced(ticket);
        self.seal.iter_mut().for_each(|seal| seal.synced(ticket));
        let intake = &mut self.intake;
        while let Some((_, taken, vector)) = intake.unsynced.pop_front_if(|(own, ..)| *own <= ticket) {
            (intake.durable, intake.have) = (taken, vector);
        }
    }

    /// Hands what is synced to the table.
    pub(super) fn give(&mut self, out: &mut Vec<Output>) {
        let unsynced = mutant::is(Mutant::MergedBeforeDurable);
        let until = if unsynced { self.journal.last() } else { self.journal.durable() };
        while let Some(entry) = self.journal.give(until) {
            out.push(Output::Apply { at: entry.at(), entry: entry.data, tokens: Vec::new(), copies: 1 });
        }
    }

    /// The table has applied all entries up to here.
    pub(super) fn applied(&mut self, index: Index, out: &mut Vec<Output>) {
        self.journal.is_applied(index, 0);
        let intake = &mut self.intake;
        while let Some((_, taken)) = intake.entries.pop_front_if(|(own, _)| *own <= index) {
            intake.applied = taken;
        }
        self.collector.applied();
        self.written(out);
    }
}

/// Raises what a vector has of one; whether that is news.
pub(super) fn raise(vector: &mut Vector, origin: ReplicaId, upto: Version) -> bool {
    let is_news = upto > vector.get(&origin).copied().unwrap_or_default();
    if is_news {
        vector.insert(origin, upto);
    }
    is_news
}

/// Whether one vector has all that another has of some.
pub(super) fn covers(vector: &Vector, other: &Vector, of: impl Fn(ReplicaId) -> bool) -> bool {
    let has = |(origin, upto): (&ReplicaId, &Version)| vector.get(origin) >= Some(upto) || !of(*origin);
    other.iter().all(has)
}
