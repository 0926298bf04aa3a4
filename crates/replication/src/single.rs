//! `single`: one copy, on one node.
//!
//! ```text
//!   Propose ─▶ Append ─▶ (log) ─▶ Durable ─▶ Apply ─▶ (table) ─▶ Applied
//!   Read ────▶ Fetch ──▶ (table) ─▶ Fetched ─▶ Answer
//! ```
//!
//! Guarantee: linearizable, and what was acknowledged survives a crash of its node. An op is acknowledged after its entry
//! is synced and applied, so the table holds everything that was acknowledged, and a read may look at it at once.
//!
//! # Caveats
//!
//! Down with its node, and lost with its disk. After a restart reads wait until the entries that were in the log are applied
//! again: the table may have forgotten what it had not flushed.

use std::collections::{BTreeSet, VecDeque};

use kv::cluster::Role;
use kv::{Error, Level, NodeId, Version};

use crate::batch::Batch;
use crate::entries::{Entries, LogEntry, Position};
use crate::record::{self, Record};
pub use crate::recovery::Recovery;
use crate::{Input, Output, Protocol, READS_MAX, Status, Token, UNAPPLIED_BYTES_MAX, UNSYNCED_MAX};

/// The one replica of a shard.
pub struct Single {
    id: NodeId,
    clock: Version,
    batch: Batch,
    log: Entries,
    /// Entries that are appended and not synced, in order: ticket is their index less `ticket_base`.
    unsynced: VecDeque<Vec<Token>>,
    /// Index before the first append of this run: ticket 1 is the next one.
    ticket_base: u64,
    /// Entries up to here were given out to be applied.
    given: u64,
    applied: u64,
    /// Reads wait until this is applied.
    recovered: u64,
    reads: BTreeSet<Token>,
    early: BTreeSet<Token>,
}

/// Entries are missing: between what the table has applied and what the log holds, or at the end of the log, which is never
/// behind the table unless its end is lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the only copy of a shard has lost entries: its table has applied what is up to {applied}, and its log {} at {last}; \
     restore its node's data folder", if .last < .applied { "ends before that," } else { "begins behind that and ends" }
)]
pub struct Lost {
    /// The last entry the table has.
    pub applied: u64,
    /// The last entry of the log.
    pub last: u64,
}

impl Single {
    /// The replica on node `id`, from its log and its table (index and term of the last entry it has applied; the term is 0).
    pub fn new(id: NodeId, recovery: Recovery, applied: (u64, u64)) -> Result<Single, Lost> {
        let recovered = recovery.finish(Position { index: applied.0, term: applied.1 });
        let too_short = (recovered.ended < applied.0).then_some(recovered.ended);
        if let Some(last) = recovered.lost.or(too_short) {
            return Err(Lost { applied: applied.0, last });
        }
        let last = recovered.log.last();
        Ok(Single {
            id,
            clock: Version::ZERO,
            batch: Batch::default(),
            log: recovered.log,
            unsynced: VecDeque::new(),
            ticket_base: last,
            given: applied.0,
            applied: applied.0,
            recovered: last,
            reads: BTreeSet::new(),
            early: BTreeSet::new(),
        })
    }

    fn durable(&self) -> u64 {
        self.log.last() - self.unsynced.len() as u64
    }

    /// Gives out to be applied what the log held at the start.
    fn recover(&mut self, out: &mut Vec<Output>) {
        while self.given < self.recovered {
            self.apply(Vec::new(), out);
        }
    }

    fn append(&mut self, out: &mut Vec<Output>) {
        while self.unsynced.len() < UNSYNCED_MAX && self.log.unapplied_bytes() < UNAPPLIED_BYTES_MAX {
            let Some((data, tokens)) = self.batch.next(self.clock) else { return };
            let index = self.log.last() + 1;
            let (record, entry) = record::own(LogEntry { index, term: 0, kind: 0, data });
            self.log.put(entry);
            self.unsynced.push_back(tokens);
            out.push(Output::Append {
                ticket: index - self.ticket_base,
                records: vec![record],
                install: false,
            });
        }
    }

    fn synced(&mut self, ticket: u64, out: &mut Vec<Output>) {
        while self.durable() < self.ticket_base + ticket {
            let Some(tokens) = self.unsynced.pop_front() else { return };
            self.apply(tokens, out);
        }
    }

    fn apply(&mut self, tokens: Vec<Token>, out: &mut Vec<Output>) {
        self.given += 1;
        let entry =
            self.log.get(self.given).expect("an entry stays in memory until it is applied").data.clone();
        out.push(Output::Apply { index: self.given, term: 0, entry, tokens, copies: 1 });
    }

    fn applied(&mut self, index: u64, out: &mut Vec<Output>) {
        assert!(
            index <= self.given,
            "entry {index} was applied before it was given: {} was the last",
            self.given
        );
        self.applied = self.applied.max(index);
        self.log.applied(index);
        self.log.evict(0);
        if self.applied >= self.recovered && !self.early.is_empty() {
            let tokens = Vec::from_iter(std::mem::take(&mut self.early));
            self.reads.extend(&tokens);
            out.push(Output::Fetch { tokens });
        }
    }

    fn read(&mut self, token: Token, out: &mut Vec<Output>) {
        if self.reads.len() + self.early.len() >= READS_MAX {
            out.push(Output::Refuse { token, error: too_many_reads() });
        } else if self.applied < self.recovered {
            self.early.insert(token);
        } else {
            self.reads.insert(token);
            out.push(Output::Fetch { tokens: vec![token] });
        }
    }
}

impl Protocol for Single {
    fn step(&mut self, input: Input, out: &mut Vec<Output>) {
        self.recover(out);
        match input {
            Input::Tick { clock, .. } => self.clock = clock,
            Input::Propose { ops } => {
                for (token, op) in ops {
                    if let Err(error) = self.batch.push(token, op) {
                        out.push(Output::Refuse { token, error });
                    }
                }
            }
            Input::Read { token, .. } => self.read(token, out),
            Input::Fetched { token } if self.reads.remove(&token) => {
                out.push(Output::Answer { token, reached: Level::Linearizable, staleness_micros: 0 });
            }
            Input::Forget { token } => {
                let _ = self.reads.remove(&token) || self.early.remove(&token) || self.batch.forget(token);
            }
            Input::Durable { ticket } => self.synced(ticket, out),
            Input::Applied { index } => self.applied(index, out),
            // There is nobody else.
            Input::Fetched { .. }
            | Input::Message { .. }
            | Input::Connected { .. }
            | Input::Disconnected { .. }
            | Input::WholeAt { .. }
            | Input::SnapshotMade { .. }
            | Input::SnapshotSent { .. }
            | Input::Transfer { .. } => (),
            Input::SnapshotReceived { .. } => out.push(Output::DiscardSnapshot),
        }
        self.append(out);
    }

    fn status(&self) -> Status {
        Status {
            role: Role::Leader,
            leader: Some(self.id),
            term: 0,
            last: self.log.last(),
            durable: self.durable(),
            commit: self.durable(),
            applied: self.applied,
        }
    }

    fn acknowledged(&self, node: NodeId) -> Option<u64> {
        (node == self.id).then(|| self.durable())
    }

    fn checkpoint(&self) -> Vec<bytes::Bytes> {
        let base = Record::Base(Position { index: self.applied, term: 0 });
        let entries = self.log.above(self.applied).cloned().map(Record::Entry);
        std::iter::once(base).chain(entries).map(|record| record.encode()).collect()
    }
}

/// Why a read is refused when too many wait.
pub(crate) fn too_many_reads() -> Error {
    Error::Unavailable(format!(
        "cannot take the read: {READS_MAX} of its shard wait already; try again in a moment"
    ))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::Instant;

    fn step(single: &mut Single, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        single.step(input, &mut out);
        out
    }

    fn propose(single: &mut Single, token: Token) -> Vec<Output> {
        step(single, Input::Propose { ops: vec![(token, Bytes::from_static(b"op"))] })
    }

    fn single() -> Single {
        let mut single = Single::new(NodeId(1), Recovery::default(), (0, 0)).unwrap();
        let clock = Version::new(9, kv::ReplicaId(1));
        assert!(step(&mut single, Input::Tick { now: Instant(1), clock }).is_empty());
        single
    }

    fn records(out: &[Output]) -> Vec<Bytes> {
        out.iter()
            .flat_map(
                |output| if let Output::Append { records, .. } = output { records.clone() } else { vec![] },
            )
            .collect()
    }

    fn applies(out: &[Output]) -> Vec<(u64, Vec<Token>)> {
        let apply = |output: &Output| match output {
            Output::Apply { index, tokens, .. } => Some((*index, tokens.clone())),
            _ => None,
        };
        out.iter().filter_map(apply).collect()
    }

    #[test]
    fn single_write_is_applied_once_synced() {
        let mut single = single();
        let out = propose(&mut single, 7);
        assert!(matches!(&out[..], [Output::Append { ticket: 1, install: false, .. }]), "{out:?}");
        let out = step(&mut single, Input::Durable { ticket: 1 });
        assert_eq!(applies(&out), [(1, vec![7])]);
        step(&mut single, Input::Applied { index: 1 });
        assert_eq!((single.status().durable, single.status().applied), (1, 1));
    }

    #[test]
    fn single_writes_beyond_two_unsynced_entries_share_the_next() {
        let mut single = single();
        for token in 1..=5 {
            assert_eq!(propose(&mut single, token).len(), usize::from(token <= UNSYNCED_MAX as u64));
        }
        let out = step(&mut single, Input::Durable { ticket: 2 });
        assert_eq!(applies(&out), [(1, vec![1]), (2, vec![2])]);
        assert_eq!(records(&out).len(), 1);
        assert_eq!(applies(&step(&mut single, Input::Durable { ticket: 3 })), [(3, vec![3, 4, 5])]);
    }

    #[test]
    fn single_read_is_let_go_at_once_and_answered_once() {
        let mut single = single();
        let out = step(&mut single, Input::Read { token: 3, level: Level::Local });
        assert!(matches!(&out[..], [Output::Fetch { tokens }] if tokens == &[3]));
        let out = step(&mut single, Input::Fetched { token: 3 });
        assert!(matches!(
            &out[..],
            [Output::Answer { token: 3, reached: Level::Linearizable, staleness_micros: 0 }]
        ));
        assert!(step(&mut single, Input::Fetched { token: 3 }).is_empty());
    }

    #[test]
    fn single_read_after_restart_waits_for_the_log_to_be_applied_again() {
        let mut first = single();
        let mut written = records(&propose(&mut first, 1));
        written.extend(records(&propose(&mut first, 2)));
        let mut recovery = Recovery::default();
        written.iter().for_each(|record| recovery.replay(record).unwrap());
        let mut single = Single::new(NodeId(1), recovery, (1, 0)).unwrap();
        let out = step(&mut single, Input::Read { token: 5, level: Level::Linearizable });
        assert_eq!(applies(&out), [(2, vec![])]);
        assert_eq!(out.len(), 1, "no fetch yet");
        let out = step(&mut single, Input::Applied { index: 2 });
        assert!(matches!(&out[..], [Output::Fetch { tokens }] if tokens == &[5]));
    }

    #[test]
    fn single_checkpoint_stands_for_all_earlier_records() {
        let mut first = single();
        propose(&mut first, 1);
        propose(&mut first, 2);
        step(&mut first, Input::Durable { ticket: 2 });
        step(&mut first, Input::Applied { index: 1 });
        let mut recovery = Recovery::default();
        first.checkpoint().iter().for_each(|record| recovery.replay(record).unwrap());
        let mut single = Single::new(NodeId(1), recovery, (1, 0)).unwrap();
        assert_eq!(applies(&propose(&mut single, 3)), [(2, vec![])]);
        assert_eq!(single.status().last, 3);
    }

    #[test]
    fn single_table_behind_its_log_is_refused() {
        let mut recovery = Recovery::default();
        recovery.replay(&Record::Base(Position { index: 7, term: 0 }).encode()).unwrap();
        let lost = Single::new(NodeId(1), recovery, (5, 0)).err().unwrap();
        assert_eq!(lost, Lost { applied: 5, last: 7 });
        assert!(lost.to_string().contains("up to 5, and its log begins behind that and ends at 7"), "{lost}");
    }

    #[test]
    fn single_log_that_ends_before_its_table_is_refused() {
        let mut first = single();
        let written = [records(&propose(&mut first, 1)), records(&propose(&mut first, 2))].concat();
        for kept in 0..=2 {
            let mut recovery = Recovery::default();
            written[..kept].iter().for_each(|record| recovery.replay(record).unwrap());
            let found = Single::new(NodeId(1), recovery, (2, 0)).err();
            assert_eq!(found, (kept < 2).then_some(Lost { applied: 2, last: kept as u64 }));
        }
        let lost = Lost { applied: 2, last: 1 }.to_string();
        assert!(lost.contains("up to 2, and its log ends before that, at 1"), "{lost}");
    }

    #[test]
    fn single_forgotten_requests_leave_nothing() {
        let mut single = single();
        (1..=3).for_each(|token| drop(propose(&mut single, token)));
        step(&mut single, Input::Read { token: 9, level: Level::Local });
        step(&mut single, Input::Forget { token: 3 });
        step(&mut single, Input::Forget { token: 9 });
        assert!(step(&mut single, Input::Fetched { token: 9 }).is_empty());
        assert!(records(&step(&mut single, Input::Durable { ticket: 2 })).is_empty());
    }
}
