//! What the logs of all replicas hold, as their records tell: indexes and terms, and what is known to be committed.

use std::collections::{BTreeMap, VecDeque};

use kv::cluster::Role;
use kv::{Index, NodeId, Position, ShardId, Term};

use super::durable::Durable;
use super::{Record, Seen};

/// All logs.
#[derive(Default)]
pub(crate) struct Logs {
    replicas: BTreeMap<(NodeId, ShardId), Log>,
    committed: BTreeMap<ShardId, Committed>,
    roles: BTreeMap<(NodeId, ShardId), (Role, Term)>,
    durable: BTreeMap<(NodeId, ShardId), Durable>,
}

/// One replica's log: the terms of the entries behind a base.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    base: Position,
    terms: VecDeque<Term>,
    /// The last snapshot that replaced it; 0 = none did.
    snapshot: Position,
}

/// What is committed of a shard: the terms by index.
#[derive(Default)]
pub(crate) struct Committed {
    terms: BTreeMap<Index, Term>,
    /// In which term an entry was, at the latest: the leader of an earlier one need not have it.
    within: BTreeMap<Index, Term>,
}

impl Log {
    pub fn last(&self) -> Index {
        self.base.index + self.terms.len() as u64
    }

    pub fn term(&self, index: Index) -> Option<Term> {
        match index.0.checked_sub(self.base.index.0)? {
            0 => Some(self.base.term),
            place => self.terms.get(place as usize - 1).copied(),
        }
    }

    fn restart(&mut self, at: Position) {
        (self.base, self.terms) = (at, VecDeque::new());
    }

    /// As the protocols' recovery understands records. True when an entry with another term was replaced.
    fn take(&mut self, record: Record) -> bool {
        match record {
            // A checkpoint writes again what is there.
            Record::Entry(at) if self.term(at.index) == Some(at.term) => {}
            Record::Entry(at) if at.index > self.base.index && at.index <= self.last().next() => {
                let replaces = self.term(at.index).is_some_and(|before| before != at.term);
                self.terms.truncate(at.index.since(self.base.index) as usize - 1);
                self.terms.push_back(at.term);
                return replaces;
            }
            Record::Entry(at) => self.restart(at),
            Record::Base(at) if self.term(at.index) == Some(at.term) => {}
            // A checkpoint while that snapshot is on its way: it writes it again next.
            Record::Base(at) if at.index < self.snapshot.index => {}
            Record::Base(at) => self.restart(at),
            Record::Snapshot(at) => {
                self.restart(at);
                self.snapshot = at;
            }
            Record::State { .. }
            | Record::View
            | Record::Replica
            | Record::Seal
            | Record::Sealed(_)
            | Record::Ceiling(_)
            | Record::Vector => {}
        }
        false
    }
}

impl Committed {
    /// The last entry that was committed in a term below `term`: index and its own term.
    pub fn last_below(&self, term: Term) -> Option<Position> {
        let below = |(_, within): &(&Index, &Term)| **within < term;
        let (index, _) = self.within.iter().rev().find(below)?;
        Some(Position { index: *index, term: self.terms[index] })
    }

    pub fn term(&self, index: Index) -> Option<Term> {
        self.terms.get(&index).copied()
    }

    pub fn last(&self) -> Option<Index> {
        self.terms.last_key_value().map(|(index, _)| *index)
    }
}

impl Logs {
    pub fn log(&self, node: NodeId, shard: ShardId) -> Option<&Log> {
        self.replicas.get(&(node, shard))
    }

    pub fn committed(&self, shard: ShardId) -> Option<&Committed> {
        self.committed.get(&shard)
    }

    /// Of all shards, the last index that is committed.
    pub fn committed_shards(&self) -> impl Iterator<Item = (ShardId, Index)> + '_ {
        self.committed.iter().filter_map(|(shard, committed)| Some((*shard, committed.last()?)))
    }

    /// What of a log is synced.
    pub fn durable(&self, node: NodeId, shard: ShardId) -> Option<&Durable> {
        self.durable.get(&(node, shard))
    }

    /// What of a node's logs is synced.
    pub fn durables_of(&self, node: NodeId) -> impl Iterator<Item = (ShardId, &Durable)> {
        self.durable
            .range((node, ShardId(0))..=(node, ShardId(u32::MAX)))
            .map(|((_, shard), durable)| (*shard, durable))
    }

    pub fn role(&self, node: NodeId, shard: ShardId) -> Option<(Role, Term)> {
        self.roles.get(&(node, shard)).copied()
    }

    pub fn see(&mut self, seen: &Seen<'_>, noted: &mut Vec<&'static str>) {
        match *seen {
            Seen::Recovering { node } | Seen::Wiped { node } | Seen::GivenBack { node } => {
                self.replicas.retain(|(other, _), _| *other != node);
                self.durable.retain(|(other, _), _| *other != node);
            }
            Seen::Gone { node, shard } => {
                self.replicas.remove(&(node, shard));
                self.durable.remove(&(node, shard));
                self.roles.remove(&(node, shard));
            }
            Seen::Ended { node } => self.roles.retain(|(other, _), _| *other != node),
            Seen::Recovered { node, applied, .. } => {
                for (&shard, applied) in applied {
                    let log = self.replicas.entry((node, shard)).or_default();
                    let at = Position::new(applied.index, applied.term);
                    if log.term(at.index) != Some(at.term) {
                        log.restart(at);
                    }
                    let last = log.last();
                    let of_term = log.term(last).unwrap_or_default();
                    self.durable.entry((node, shard)).or_default().recovered(last, of_term);
                }
            }
            Seen::Record { node, shard, record, .. } => {
                let log = self.replicas.entry((node, shard)).or_default();
                // A checkpoint writes a snapshot again that is on its way: a log that it replaces does not have its entry.
                if matches!(record, Record::Snapshot(at) if log.term(at.index) == Some(at.term)) {
                    return;
                }
                let replaces = match record {
                    Record::Entry(at) | Record::Snapshot(at) => {
                        log.term(at.index).is_some_and(|before| before != at.term)
                    }
                    _ => false,
                };
                self.durable.entry((node, shard)).or_default().take(record, replaces);
                if log.take(record) {
                    noted.push("an entry that was not agreed on was overwritten");
                }
            }
            Seen::Status { node, shard, status } => {
                let before = self.roles.insert((node, shard), (status.role, status.term));
                if before.is_some_and(|(role, _)| role == Role::Leader) && status.role != Role::Leader {
                    noted.push("a leader was deposed");
                    if status.last > status.commit {
                        noted.push("a leader was deposed with entries in flight");
                    }
                }
                self.commit(node, shard, status.commit, status.term);
            }
            Seen::Appended { node, ticket } => {
                self.durables_of_mut(node).for_each(|durable| durable.appended(ticket))
            }
            Seen::Durable { node, ticket } => {
                self.durables_of_mut(node).for_each(|durable| durable.synced(ticket))
            }
            Seen::Foreign { .. } | Seen::Members { .. } => {}
            Seen::Sent { .. } | Seen::Heard { .. } | Seen::Apply { .. } | Seen::Applied { .. } => {}
            Seen::Generation { .. } | Seen::Load { .. } | Seen::Owns { .. } => {}
        }
    }

    fn durables_of_mut(&mut self, node: NodeId) -> impl Iterator<Item = &mut Durable> {
        self.durable.range_mut((node, ShardId(0))..=(node, ShardId(u32::MAX))).map(|(_, durable)| durable)
    }

    /// A replica says in a term that all up to an index is committed.
    fn commit(&mut self, node: NodeId, shard: ShardId, commit: Index, within: Term) {
        let Some(log) = self.replicas.get(&(node, shard)) else { return };
        let committed = self.committed.entry(shard).or_default();
        let known = committed.terms.last_key_value().map_or(Index::ZERO, |(index, _)| *index);
        for index in known.max(log.base.index).next().0..=commit.0 {
            let index = Index(index);
            if let Some(term) = log.term(index) {
                committed.terms.insert(index, term);
                committed.within.entry(index).or_insert(within);
            }
        }
    }
}
