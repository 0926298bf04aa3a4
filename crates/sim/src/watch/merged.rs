//! Shards without an order: rows that every copy takes in as they come, and that merge by the highest version (Gifford, "Weighted voting
//! for replicated data" (1979); Attiya, Bar-Noy, Dolev, "Sharing memory robustly in message-passing systems" (1995)).
//!
//! The logs of such copies are each for itself, so nothing is said of their order. What holds instead:
//!
//! - A key and a version name one row, whoever has it; an expiry has the version of its value.
//! - A node that was started again issues no version that it may have issued before.
//! - A write runs once, wherever it is sent again: each value that clients put has one version.
//! - What is asked after an answer does not go back behind it: a write has a later version than all that was answered of its key before, and a
//!   linearizable read shows no earlier one.
//! - What is acknowledged, and what a linearizable read shows, is in the synced logs of members that weigh W.
//! - A tombstone goes when all members have it, and nothing that is older comes to a copy that has let it go.
//! - Where members take requests by themselves, what is acknowledged is in the synced log of the one that took it, and so is what others take in.
//! - What has failed is nowhere.
//! - A copy shows of each key the newest row that it has taken in.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use kv::keyspace::Votes;
use kv::merged::{Found, Look, Named, Rank, Row};
use kv::{
    Answer, Class, Entry, Index, Key, KeyAnswer, NodeId, Op, Protocol, ReplicaId, Reply, ShardId, Value,
    Version,
};
use node::Part;
use placement::map::Map;
use replication::quorum::Counts;
use storage::Table;

use super::logs::Logs;
use super::{Record, Seen};

mod broadcast;

/// The shards without an order, and what their logs hold.
#[derive(Default)]
pub(crate) struct Merged {
    members: BTreeMap<ShardId, Vec<Weighed>>,
    /// Those whose members take requests by themselves.
    broadcast: BTreeSet<ShardId>,
    /// When a member began, and what the others had made and synced by then.
    begun: BTreeMap<(NodeId, ShardId), broadcast::Begun>,
    /// All rows that ever were in a log.
    rows: BTreeMap<(ShardId, Key, Rank), Row>,
    versions: BTreeMap<(ShardId, Version), BTreeSet<Key>>,
    copies: BTreeMap<(NodeId, ShardId), Copy>,
    counts: BTreeMap<(NodeId, ShardId), Counts>,
    /// What was to be written and has failed.
    failed: BTreeSet<(Key, Value)>,
    values: BTreeMap<(Key, Value), Version>,
    /// The newest version of each key that was acknowledged or shown.
    answered: BTreeMap<(ShardId, Key), Version>,
    /// Of the tombstones that went a moment ago the latest.
    gone_lately: Option<(Version, Key)>,
}

/// A member.
struct Weighed {
    node: NodeId,
    replica: ReplicaId,
    weight: u64,
}

/// What the log of a copy holds.
#[derive(Default)]
struct Copy {
    /// The newest of each key that is synced, or was before it went with the log's older part.
    held: BTreeMap<Key, Rank>,
    /// What is not synced yet, by its entry.
    waiting: VecDeque<(Index, Vec<Named>)>,
    /// Tombstones that were let go, and with which entry.
    gone: BTreeMap<Key, (Rank, Index)>,
    ceiling: Ceiling,
}

/// Up to where versions may have been issued here.
#[derive(Default)]
struct Ceiling {
    /// In the append that is being looked at.
    gathered: Option<Version>,
    unsynced: VecDeque<(u64, Version)>,
    synced: Version,
    /// In former lives.
    former: Version,
}

impl Ceiling {
    fn appended(&mut self, ticket: u64) {
        self.unsynced.extend(self.gathered.take().map(|ceiling| (ticket, ceiling)));
    }

    fn synced(&mut self, ticket: u64) {
        while let Some((_, ceiling)) = self.unsynced.pop_front_if(|(own, _)| *own <= ticket) {
            self.synced = self.synced.max(ceiling);
        }
    }

    fn recovered(&mut self) {
        self.synced = self.synced.max(self.gathered.take().unwrap_or_default());
    }

    fn ended(&mut self) {
        (self.gathered, self.former) = (None, self.synced);
        self.unsynced.clear();
    }
}

impl Merged {
    /// A map is written, or is what all begin with.
    pub fn know(&mut self, map: &Map) {
        for (id, row) in map.shards.iter().filter(|(_, row)| row.protocol.is_merged()) {
            let weighed = row.members.iter().map(|member| Weighed {
                node: member.node,
                replica: member.replica,
                weight: u64::from(member.weight),
            });
            self.members.insert(*id, weighed.collect());
            if row.protocol == Protocol::Broadcast {
                self.broadcast.insert(*id);
            }
        }
    }

    /// Whether a shard has no order.
    pub fn has(&self, shard: ShardId) -> bool {
        self.members.contains_key(&shard)
    }

    /// What is wrong with what was seen.
    pub fn see(&mut self, seen: &Seen<'_>, logs: &Logs, noted: &mut Vec<&'static str>) -> Vec<String> {
        match *seen {
            Seen::Record { node, shard, record, body } if self.has(shard) => match record {
                Record::Entry(at) => return self.appended(node, shard, at.index, body),
                Record::Ceiling(ceiling) => {
                    self.copies.entry((node, shard)).or_default().ceiling.gathered = Some(ceiling);
                }
                _ => {}
            },
            Seen::Appended { node, ticket } => {
                self.of_node(node).for_each(|(_, copy)| copy.ceiling.appended(ticket));
            }
            Seen::Durable { node, ticket } => {
                self.of_node(node).for_each(|(_, copy)| copy.ceiling.synced(ticket));
                self.synced(node, logs);
            }
            // What was read is synced.
            Seen::Recovered { node, now, .. } => {
                self.of_node(node).for_each(|(_, copy)| copy.ceiling.recovered());
                self.synced(node, logs);
                self.begins(node, now);
            }
            Seen::Ended { node } => self.ended(node, logs),
            Seen::Wiped { node } => self.copies.retain(|(other, _), _| *other != node),
            Seen::Gone { node, shard } => drop(self.copies.remove(&(node, shard))),
            Seen::Status { node, shard, status } if self.has(shard) => {
                let before = self.counts.insert((node, shard), status.counts).unwrap_or_default();
                note_counts(&before, &status.counts, noted);
            }
            _ => {}
        }
        Vec::new()
    }

    fn of_node(&mut self, node: NodeId) -> impl Iterator<Item = (ShardId, &mut Copy)> {
        let all = (node, ShardId(0))..=(node, ShardId(u32::MAX));
        self.copies.range_mut(all).map(|((_, shard), copy)| (*shard, copy))
    }

    fn synced(&mut self, node: NodeId, logs: &Logs) {
        for (shard, copy) in self.of_node(node) {
            let last = logs.durable(node, shard).map_or(Index::ZERO, |durable| durable.last);
            while let Some((_, rows)) = copy.waiting.pop_front_if(|(index, _)| *index <= last) {
                for (key, rank) in rows {
                    let held = copy.held.entry(key).or_insert(rank);
                    *held = rank.max(*held);
                }
            }
        }
    }

    /// What was not synced may be lost, or not.
    fn ended(&mut self, node: NodeId, logs: &Logs) {
        self.counts.retain(|(other, _), _| *other != node);
        for (shard, copy) in self.of_node(node) {
            let last = logs.durable(node, shard).map_or(Index::ZERO, |durable| durable.last);
            copy.waiting.clear();
            copy.ceiling.ended();
            copy.gone.retain(|_, (_, index)| *index <= last);
        }
    }

    /// An entry is written: what is wrong with it.
    fn appended(&mut self, node: NodeId, shard: ShardId, index: Index, body: &Bytes) -> Vec<String> {
        let entry = replication::observe::ops(body).and_then(|data| Entry::decode(&data).ok());
        let (mut wrong, mut names) = (Vec::new(), Vec::new());
        for op in entry.into_iter().flat_map(|entry| entry.ops).map(|stamped| stamped.op) {
            match op {
                Op::Merge { rows } => {
                    for row in rows {
                        names.push((row.key.clone(), row.rank()));
                        wrong.extend(self.comes(node, shard, index, row));
                    }
                }
                Op::Collect { tombstones } => {
                    for (key, rank) in tombstones {
                        wrong.extend(self.goes(shard, &key, rank));
                        let copy = self.copies.entry((node, shard)).or_default();
                        copy.gone.insert(key.clone(), (rank, index));
                        self.gone_lately = Some((rank.version, key)).max(self.gone_lately.take());
                    }
                }
                _ => {}
            }
        }
        let copy = self.copies.entry((node, shard)).or_default();
        copy.waiting.push_back((index, names));
        wrong
    }

    /// A row comes into a log.
    fn comes(&mut self, node: NodeId, shard: ShardId, index: Index, row: Row) -> Option<String> {
        let (key, rank) = (row.key.clone(), row.rank());
        let copy = self.copies.entry((node, shard)).or_default();
        let gone = copy.gone.get(&key).filter(|(gone, at)| rank < *gone && index > *at);
        if let Some((gone, _)) = gone {
            return Some(format!(
                "what was deleted stays so: {key:?} at {rank:?} comes to shard {shard} on {node}, where the tombstone {gone:?} went"
            ));
        }
        if let Some(known) = self.rows.get(&(shard, key.clone(), rank)) {
            return (*known != row).then(|| {
                format!(
                    "a key and a version name one row: shard {shard} on {node} has {row:?}, others {known:?}"
                )
            });
        }
        let value = row.value.clone().map(|value| (key.clone(), value));
        if let Some((key, value)) = value.as_ref().filter(|value| self.failed.contains(*value)) {
            return Some(format!(
                "what has failed is nowhere: {node} stores {value:?} at {key:?} of shard {shard}"
            ));
        }
        if let Some((key, value)) = value {
            let first = *self.values.entry((key.clone(), value)).or_insert(rank.version);
            if first != rank.version {
                return Some(format!(
                    "a write runs once: {node} stores at {} of shard {shard} what was put at {key:?} at {first}",
                    rank.version
                ));
            }
        }
        let of_value = Rank { expired: false, ..rank };
        if rank.expired && !self.rows.contains_key(&(shard, key.clone(), of_value)) {
            return Some(format!(
                "an expiry has the version of its value: {row:?} of shard {shard} on {node} is of none"
            ));
        }
        let former = self.copies[&(node, shard)].ceiling.former;
        self.versions.entry((shard, row.version)).or_default().insert(key.clone());
        self.rows.insert((shard, key, rank), row);
        let issuer = self.members[&shard].iter().find(|member| member.replica == rank.version.replica());
        let Some(issuer) = issuer else {
            return Some(format!(
                "members issue versions: {} of shard {shard} on {node} is nobody's",
                rank.version
            ));
        };
        let is_own = issuer.node == node;
        (is_own && !rank.expired && rank.version <= former).then(|| {
            format!(
                "versions are issued once: {node} issues {} in shard {shard}, and may have issued all up to {former} in former lives",
                rank.version
            )
        })
    }

    /// A tombstone is let go.
    fn goes(&self, shard: ShardId, key: &Key, rank: Rank) -> Option<String> {
        let lacks = |member: &&Weighed| {
            let copy = self.copies.get(&(member.node, shard));
            copy.and_then(|copy| copy.held.get(key)).is_none_or(|held| held.version < rank.version)
        };
        let member = self.members[&shard].iter().find(lacks)?;
        Some(format!(
            "a tombstone goes when all have it: that of {key:?} at {rank:?} in shard {shard} is let go, and {} has not synced it",
            member.node
        ))
    }

    /// A part of a request is asked: the newest version of its keys that was answered before. Nothing where it may have been run before then.
    pub fn floor(&self, part: &Part) -> Version {
        let mut floor = Version::ZERO;
        part.op.for_each_key(&mut |key| {
            let known = self.answered.get(&(part.shard, key.clone())).copied();
            floor = floor.max(known.filter(|_| !part.in_doubt).unwrap_or_default());
        });
        floor
    }

    /// A node answers a part of a request that was asked when `floor` was the newest version of its keys: what is wrong with it.
    pub fn answered(&mut self, op: &Op, floor: Version, reply: &Reply) -> Option<String> {
        let (shard, version) = (reply.receipt.shard, reply.receipt.version);
        let is_linearizable = reply.receipt.reached == kv::Level::Linearizable;
        let of = match (op, &reply.answer) {
            _ if !self.has(shard) || !is_linearizable => None,
            (Op::Get { key, .. }, Answer::Row(row)) => {
                row.as_ref().map(|row| (row.version, BTreeSet::from([key.clone()])))
            }
            (op, _) if op.class() == Class::Read => None,
            // One that has removed nothing has no row.
            _ => Some((version, self.versions.get(&(shard, version)).cloned().unwrap_or_default())),
        };
        if let Some((version, keys)) = of {
            let is_behind = version < floor || version == floor && op.class() != Class::Read;
            if is_behind && floor > Version::ZERO {
                return Some(format!(
                    "nothing goes back behind an answer: {op:?} is answered {version}, and {floor} was before it was asked"
                ));
            }
            for key in keys {
                let newest = self.answered.entry((shard, key)).or_default();
                *newest = version.max(*newest);
            }
        }
        self.lacking(op, reply).or_else(|| self.undurable(op, reply))
    }

    /// What of an answer is not where enough members have it.
    fn lacking(&self, op: &Op, reply: &Reply) -> Option<String> {
        let (shard, version) = (reply.receipt.shard, reply.receipt.version);
        let none = BTreeSet::new();
        let lacking = match (op, &reply.answer) {
            _ if !self.has(shard) || reply.receipt.reached != kv::Level::Linearizable => None,
            (Op::Get { key, .. }, Answer::Row(Some(row))) => self.lacks(shard, key, row.version),
            (Op::GetAll { .. }, Answer::Many(answers)) => {
                let shown = |answer: &KeyAnswer| {
                    let row = answer.result.as_ref().ok()?.as_ref()?;
                    self.lacks(shard, &answer.key, row.version)
                };
                answers.iter().find_map(shown)
            }
            (Op::Range(_), Answer::Page(page)) => {
                page.rows.iter().find_map(|row| self.lacks(shard, &row.key, row.version))
            }
            (Op::Get { .. }, _) => None,
            _ => {
                let keys = self.versions.get(&(shard, version)).unwrap_or(&none);
                keys.iter().find_map(|key| self.lacks(shard, key, version))
            }
        };
        lacking
            .map(|why| format!("what is acknowledged weighs enough: {op:?} is answered {reply:?}, and {why}"))
    }

    /// Why a row is not where enough members will find it.
    fn lacks(&self, shard: ShardId, key: &Key, version: Version) -> Option<String> {
        let members = &self.members[&shard];
        let total: u64 = members.iter().map(|member| member.weight).sum();
        let votes = Votes::majority(u32::try_from(total).unwrap_or(u32::MAX));
        let has = |member: &&Weighed| {
            let copy = self.copies.get(&(member.node, shard));
            copy.and_then(|copy| copy.held.get(key)).is_some_and(|held| held.version >= version)
        };
        let weight: u64 = members.iter().filter(has).map(|member| member.weight).sum();
        (weight < u64::from(votes.write))
            .then(|| format!("{key:?} at {version} is synced at members that weigh {weight} of {total}"))
    }

    /// A client's put has failed: where it is all the same.
    pub fn failed(&mut self, key: &Key, value: &Value) -> Option<String> {
        let put = (key.clone(), value.clone());
        let is_there = self.values.contains_key(&put);
        self.failed.insert(put);
        is_there.then(|| format!("what has failed is nowhere: {value:?} was stored at {key:?}"))
    }

    /// A copy that has applied all of its log: where it does not show the newest that it has taken in.
    pub fn compare(&self, node: NodeId, shard: ShardId, table: &Table) -> Option<String> {
        let copy = self.copies.get(&(node, shard)).filter(|copy| copy.waiting.is_empty())?;
        copy.held.iter().find_map(|(key, held)| {
            let why = self.is_wrong(shard, table, key, *held)?;
            Some(format!("a copy shows the newest that it has: shard {shard} on {node} {why} came in"))
        })
    }

    /// The key of the latest tombstone that went a moment ago: what is written there now is above it, though nobody has it any more.
    pub fn take_gone(&mut self) -> Option<Key> {
        self.gone_lately.take().map(|(_, key)| key)
    }

    /// The newest version of a shard that was ever written.
    pub fn newest_version(&self, shard: ShardId) -> Version {
        let of_shard = (shard, Version::ZERO)..=(shard, Version::MAX);
        self.versions.range(of_shard).next_back().map_or(Version::ZERO, |((_, version), _)| *version)
    }

    /// The newest that is synced of each key at any member.
    fn newest(&self, shard: ShardId) -> BTreeMap<&Key, Rank> {
        let mut newest = BTreeMap::new();
        for ((_, of), copy) in &self.copies {
            for (key, rank) in copy.held.iter().filter(|_| *of == shard) {
                let known = newest.entry(key).or_insert(*rank);
                *known = (*rank).max(*known);
            }
        }
        newest
    }

    /// The keys that a shard has now, of those without a deadline.
    pub fn present(&self, shard: ShardId) -> BTreeSet<Key> {
        let is_there = |(key, rank): &(&Key, Rank)| {
            let row = self.rows.get(&(shard, (*key).clone(), *rank));
            row.is_some_and(|row| row.value.is_some() && row.deadline.is_none())
        };
        self.newest(shard).into_iter().filter(is_there).map(|(key, _)| key.clone()).collect()
    }

    /// At rest every copy shows what is newest anywhere: where this one does not.
    pub fn converged(&self, node: NodeId, shard: ShardId, table: &Table) -> Option<String> {
        self.newest(shard).into_iter().find_map(|(key, newest)| {
            let why = self.is_wrong(shard, table, key, newest)?;
            Some(format!("copies converge: shard {shard} on {node} {why} is the newest"))
        })
    }

    /// What a copy shows of a key in place of a row, or of nothing where that is a tombstone.
    fn is_wrong(&self, shard: ShardId, table: &Table, key: &Key, newest: Rank) -> Option<String> {
        let shown = match table.look(shard, &Look::Keys(vec![key.clone()])) {
            Ok(Found::Rows { rows, .. }) => rows.first().map(Row::rank),
            _ => None,
        };
        let row = self.rows.get(&(shard, key.clone(), newest));
        // A copy finds by itself that a value has run out.
        let may_expire = row.is_some_and(|row| row.deadline.is_some());
        let expiry = Rank { expired: true, ..newest };
        let may_be_gone = may_expire || row.is_some_and(|row| row.value.is_none());
        let is_right = match shown {
            Some(shown) => shown == newest || may_expire && shown == expiry,
            None => may_be_gone,
        };
        (!is_right).then(|| format!("shows {shown:?} of {key:?}, and {newest:?}"))
    }
}

/// What a member did since it was looked at last.
fn note_counts(before: &Counts, now: &Counts, noted: &mut Vec<&'static str>) {
    let all = [
        (before.write_backs, now.write_backs, "a read was written back"),
        (before.skipped, now.skipped, "a read needed no write-back"),
        (before.hints_replayed, now.hints_replayed, "a row that waited for a node was sent to it"),
        (before.repaired, now.repaired, "repair brought a row"),
        (before.collected, now.collected, "a tombstone was collected"),
    ];
    noted.extend(all.into_iter().filter(|(before, now, _)| now > before).map(|(.., what)| what));
}

#[cfg(test)]
mod tests;
