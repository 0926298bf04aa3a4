//! What the logs of all replicas hold, as their records tell: indexes and terms, and what is known to be committed.

use std::collections::{BTreeMap, VecDeque};

use kv::cluster::Role;
use kv::{NodeId, ShardId};

use super::durable::Durable;
use super::{Record, Seen};

/// The tag of a protocol's record in the node's log (`node`'s recovery).
const KIND_PROTOCOL: u8 = 1;

/// All logs.
#[derive(Default)]
pub(crate) struct Logs {
    replicas: BTreeMap<(NodeId, ShardId), Log>,
    committed: BTreeMap<ShardId, Committed>,
    roles: BTreeMap<(NodeId, ShardId), (Role, u64)>,
    durable: BTreeMap<(NodeId, ShardId), Durable>,
}

/// One replica's log: the terms of the entries behind a base.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    base: (u64, u64),
    terms: VecDeque<u64>,
}

/// What is committed of a shard: the terms by index.
#[derive(Default)]
pub(crate) struct Committed {
    terms: BTreeMap<u64, u64>,
}

impl Log {
    pub fn last(&self) -> u64 {
        self.base.0 + self.terms.len() as u64
    }

    pub fn term(&self, index: u64) -> Option<u64> {
        match index.checked_sub(self.base.0)? {
            0 => Some(self.base.1),
            place => self.terms.get(place as usize - 1).copied(),
        }
    }

    fn restart(&mut self, index: u64, term: u64) {
        (self.base, self.terms) = ((index, term), VecDeque::new());
    }

    /// As the protocols' recovery understands records. True when an entry with another term was replaced.
    fn take(&mut self, record: Record) -> bool {
        match record {
            // A checkpoint writes again what is there.
            Record::Entry { index, term } if self.term(index) == Some(term) => {}
            Record::Entry { index, term } if index > self.base.0 && index <= self.last() + 1 => {
                let replaces = self.term(index).is_some_and(|before| before != term);
                self.terms.truncate((index - self.base.0) as usize - 1);
                self.terms.push_back(term);
                return replaces;
            }
            Record::Entry { index, term } => self.restart(index, term),
            Record::Base { index, term } if self.term(index) == Some(term) => {}
            Record::Base { index, term } | Record::Snapshot { index, term } => self.restart(index, term),
            Record::State { .. } => {}
        }
        false
    }
}

impl Committed {
    /// The last committed entry of a term below `term`: index and term.
    pub fn last_below(&self, term: u64) -> Option<(u64, u64)> {
        let below = |(_, committed): &(&u64, &u64)| **committed < term;
        self.terms.iter().rev().find(below).map(|(index, term)| (*index, *term))
    }

    pub fn term(&self, index: u64) -> Option<u64> {
        self.terms.get(&index).copied()
    }

    pub fn last(&self) -> Option<u64> {
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
    pub fn committed_shards(&self) -> impl Iterator<Item = (ShardId, u64)> + '_ {
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

    pub fn role(&self, node: NodeId, shard: ShardId) -> Option<(Role, u64)> {
        self.roles.get(&(node, shard)).copied()
    }

    pub fn see(&mut self, seen: &Seen<'_>, noted: &mut Vec<&'static str>) {
        match *seen {
            Seen::Recovering { node } | Seen::Wiped { node } => {
                self.replicas.retain(|(other, _), _| *other != node);
                self.durable.retain(|(other, _), _| *other != node);
            }
            Seen::Ended { node } => self.roles.retain(|(other, _), _| *other != node),
            Seen::Recovered { node, applied, .. } => {
                for (&shard, applied) in applied {
                    let log = self.replicas.entry((node, shard)).or_default();
                    if log.term(applied.index) != Some(applied.term) {
                        log.restart(applied.index, applied.term);
                    }
                    let last = log.last();
                    self.durable.entry((node, shard)).or_default().recovered(last);
                }
            }
            Seen::Record { node, shard, record, .. } => {
                let log = self.replicas.entry((node, shard)).or_default();
                let replaces = match record {
                    Record::Entry { index, term } | Record::Snapshot { index, term } => {
                        log.term(index).is_some_and(|before| before != term)
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
                self.commit(node, shard, status.commit);
            }
            Seen::Appended { node, ticket } => {
                self.durables_of_mut(node).for_each(|durable| durable.appended(ticket))
            }
            Seen::Durable { node, ticket } => {
                self.durables_of_mut(node).for_each(|durable| durable.synced(ticket))
            }
            Seen::Sent { .. } | Seen::Heard { .. } | Seen::Apply { .. } | Seen::Applied { .. } => {}
            Seen::Generation { .. } | Seen::Load { .. } => {}
        }
    }

    fn durables_of_mut(&mut self, node: NodeId) -> impl Iterator<Item = &mut Durable> {
        self.durable.range_mut((node, ShardId(0))..=(node, ShardId(u32::MAX))).map(|(_, durable)| durable)
    }

    /// A replica says that all up to an index is committed.
    fn commit(&mut self, node: NodeId, shard: ShardId, commit: u64) {
        let Some(log) = self.replicas.get(&(node, shard)) else { return };
        let committed = self.committed.entry(shard).or_default();
        let known = committed.terms.last_key_value().map_or(0, |(index, _)| *index);
        for index in known.max(log.base.0) + 1..=commit {
            if let Some(term) = log.term(index) {
                committed.terms.insert(index, term);
            }
        }
    }
}

/// A protocol's record, from the words in which it describes itself.
pub(crate) fn parse(record: &wal::Record) -> Option<Record> {
    if record.kind != KIND_PROTOCOL {
        return None;
    }
    let text = replication::describe_record(&record.body);
    let (kind, rest) = text.split_once(' ')?;
    let place = || {
        let (index, term) = rest.split_once('/')?;
        Some((index.parse().ok()?, term.parse().ok()?))
    };
    match kind {
        "entry" => place().map(|(index, term)| Record::Entry { index, term }),
        "base" => place().map(|(index, term)| Record::Base { index, term }),
        "snapshot" => place().map(|(index, term)| Record::Snapshot { index, term }),
        "state" => {
            let mut words = rest.split(' ');
            let mut number = || words.nth(1).and_then(|number| number.parse().ok());
            Some(Record::State { term: number()?, vote: number()? })
        }
        _ => None,
    }
}
