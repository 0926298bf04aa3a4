//! What a member takes in: rows of its own writes, of other members', of hints and of repair.
//!
//! Each store is an op of an entry of the own log ([`Op::Merge`]), and what comes while two entries are on their way to the disk shares the
//! next one. It is acknowledged when the table has applied the entry: so whoever looks after that finds it, here and after a crash.
//!
//! ```text
//!   store ─▶ batch ─▶ Append ─▶ (log) ─▶ Durable ─▶ Apply ─▶ (table) ─▶ Applied ─▶ stored
//! ```

use std::collections::BTreeMap;

use kv::merged::{Named, Row};
use kv::{Index, KEYS_PER_OP_MAX, NodeId, OP_BYTES_MAX, Op, Stamped, Term, Version};
use mutant::Mutant;

use super::Quorum;
use super::message::{Said, Step};
use super::rounds::Got;
use crate::batch::Batch;
use crate::entries::{LogEntry, OPS};
use crate::{Output, Ticket, Token};

/// What is to be merged, and who waits for it.
pub(super) struct Stores {
    batch: Batch,
    /// That of its entries: the one with which the shard came to it.
    term: Term,
    /// Who waits for the ops that are in the batch or in an entry.
    acks: BTreeMap<Token, Ack>,
    last: Token,
    /// The ops of the entries that are not applied.
    entries: BTreeMap<Index, Vec<Token>>,
}

/// Who waits for an op.
#[derive(Clone, Copy, Debug)]
enum Ack {
    Own(Step),
    Peer(NodeId, u64, Step),
}

impl Stores {
    pub(super) fn new(term: Term) -> Stores {
        Stores { batch: Batch::default(), term, acks: BTreeMap::new(), last: 0, entries: BTreeMap::new() }
    }

    /// Puts ops in, the last of which is waited for; when there is no room nobody waits.
    fn push(&mut self, ops: Vec<Op>, ack: Ack) {
        for op in ops {
            self.last += 1;
            if self.batch.push(self.last, Stamped { id: None, op }.encode()).is_err() {
                return;
            }
        }
        self.acks.insert(self.last, ack);
    }
}

impl Quorum {
    /// Rows of a round of its own.
    pub(super) fn store_own(&mut self, at: Step, rows: Vec<Row>) {
        self.merge(rows, Ack::Own(at));
    }

    /// Rows that another member sends; what is of a round that is over comes too late.
    pub(super) fn store_of(&mut self, node: NodeId, life: u64, at: Step, rows: Vec<Row>) {
        let is_closed = self.peers.get(&node).is_none_or(|peer| peer.is_closed(life, at.round));
        if !is_closed || mutant::is(Mutant::ClosedRoundStores) {
            self.merge(rows, Ack::Peer(node, life, at));
        }
    }

    fn merge(&mut self, rows: Vec<Row>, ack: Ack) {
        self.stores.push(merges(rows), ack);
    }

    /// No version of the shard is above this one. Whether there was room to say so.
    pub(super) fn store_last(&mut self, to: Version) -> bool {
        let stamped = Stamped { id: None, op: Op::Advance { to, rules: None } };
        self.stores.last += 1;
        self.stores.batch.push(self.stores.last, stamped.encode()).is_ok()
    }

    /// Whether nothing waits to be appended.
    pub(super) fn has_stored_all(&self) -> bool {
        self.stores.batch.is_empty()
    }

    /// Tombstones that all members have go.
    pub(super) fn store_collect(&mut self, from: Option<(NodeId, u64)>, at: Step, tombstones: Vec<Named>) {
        let ack = from.map_or(Ack::Own(at), |(node, life)| Ack::Peer(node, life, at));
        self.stores.push(vec![Op::Collect { tombstones }], ack);
    }

    /// Appends what waits, as much as may be.
    pub(super) fn append(&mut self, out: &mut Vec<Output>) {
        while self.journal.has_room() {
            let next = self.stores.batch.next(self.clock);
            if next.is_none() && self.ceiling.is_none() {
                return;
            }
            let mut records = self.take_notes();
            if let Some((data, tokens)) = next {
                let index = self.journal.last().next();
                records.push(self.journal.put(LogEntry { index, term: self.stores.term, kind: OPS, data }));
                self.stores.entries.insert(index, tokens);
            }
            self.append_records(records, out);
        }
    }

    /// Appends records, a ceiling among them if one is wanted.
    pub(super) fn append_records(&mut self, records: Vec<bytes::Bytes>, out: &mut Vec<Output>) -> Ticket {
        let ticket = self.journal.append(records, out);
        if self.ceiling.take().is_some() {
            self.issue.appended(ticket);
        }
        ticket
    }

    /// Hands what is synced to the table.
    pub(super) fn give(&mut self, out: &mut Vec<Output>) {
        let unsynced = mutant::is(Mutant::MergedBeforeDurable);
        let until = if unsynced { self.journal.last() } else { self.journal.durable() };
        while let Some(entry) = self.journal.give(until) {
            out.push(Output::Apply { at: entry.at(), entry: entry.data, tokens: Vec::new(), copies: 1 });
        }
    }

    /// The table has applied all entries up to here: who waits for what is in them is told.
    pub(super) fn applied(&mut self, index: Index, out: &mut Vec<Output>) {
        self.journal.is_applied(index, 0);
        let later = self.stores.entries.split_off(&index.next());
        let applied = std::mem::replace(&mut self.stores.entries, later);
        for token in applied.into_values().flatten() {
            self.collector.applied();
            match self.stores.acks.remove(&token) {
                Some(Ack::Own(at)) => self.got(self.config.id, at, Got::Stored, out),
                Some(Ack::Peer(node, life, at)) => self.answer(node, life, at, Said::Stored, out),
                None => {}
            }
        }
    }

    /// Drops what is not appended: nobody is told.
    pub(super) fn drop_stores(&mut self) {
        self.stores.batch.drain().for_each(drop);
    }
}

/// The ops that merge some rows, each within the limits of an op.
pub(crate) fn merges(rows: Vec<Row>) -> Vec<Op> {
    let (mut ops, mut part, mut bytes) = (Vec::new(), Vec::new(), 0);
    for row in rows {
        let is_full = part.len() >= KEYS_PER_OP_MAX || bytes + row.bytes() > OP_BYTES_MAX;
        if is_full && !part.is_empty() {
            ops.push(Op::Merge { rows: std::mem::take(&mut part) });
            bytes = 0;
        }
        bytes += row.bytes();
        part.push(row);
    }
    ops.push(Op::Merge { rows: part });
    ops
}
