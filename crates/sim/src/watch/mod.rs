//! What must hold at every moment of a run, whatever happens: one small file for each invariant, with its source.
//!
//! The watch sees each driver's turn from outside: the records it appends, the entries it hands to its table, what the
//! table makes of them, how its replicas say they are. It knows all nodes at once, which no node does.

mod answers;
mod apply_order;
mod behind_told;
mod changes;
mod commit_order;
mod copies;
mod decided;
mod deterministic_apply;
mod digests;
mod durable;
mod durable_survives;
mod durable_visible;
mod in_sync;
mod leader_completeness;
mod leases;
mod lent;
mod log_matching;
mod logs;
mod maps;
mod merged;
mod messages;
mod one_leader;
mod one_vote;
mod own_term;
mod owners;
mod pace;
#[cfg(test)]
mod promise_tests;
mod proofs;
mod receipts;
mod repeats;
mod requests;
mod rows;
mod shown;
#[cfg(test)]
mod shown_tests;
mod state_machine_safety;
mod switch_durable;
#[cfg(test)]
mod tests;
mod timeline;
pub(crate) mod versions;
mod wiped_votes;
mod work;

use std::collections::BTreeMap;

use bytes::Bytes;
use kv::{
    Answer, Epoch, Error, Index, Level, NodeId, Op, Position, Receipt, Reply, Request, RequestId, ShardId,
    Version,
};
use node::route::ShardMap;
use placement::map::Map;
use replication::Status;
pub(crate) use replication::observe::Record;
use storage::{Applied, Asked};

use changes::Changes;
use copies::Copies;
use decided::Decided;
pub(crate) use digests::Digests;
use in_sync::InSync;
use lent::Lent;
use logs::Logs;
use maps::Maps;
use merged::Merged;
pub(crate) use messages::{Kind, Message, in_frame, of_primary_in_frame};
pub(crate) use proofs::{Proof, Proofs};
use receipts::Receipts;
use repeats::Repeats;
pub(crate) use rows::Rows;
pub(crate) use timeline::Bounds;
use versions::Versions;

/// Something that was seen.
pub(crate) enum Seen<'a> {
    /// A process begins to read its log; its records come next.
    Recovering { node: NodeId },
    /// It has read its log, and its table is here.
    Recovered { node: NodeId, applied: &'a BTreeMap<ShardId, Applied>, now: u64 },
    /// A process ended.
    Ended { node: NodeId },
    /// A node has another data folder than its own: an empty one, or an old copy.
    Wiped { node: NodeId },
    /// It has its own one again.
    GivenBack { node: NodeId },
    /// A record was appended, or read at recovery.
    Record { node: NodeId, shard: ShardId, record: Record, body: &'a Bytes },
    /// A record that makes a generation current was appended, or read at recovery.
    Generation { node: NodeId, shard: ShardId, generation: u32 },
    /// A replica was dropped: of what its log holds, nothing counts any more.
    Gone { node: NodeId, shard: ShardId },
    /// The records of an append were seen; the append's ticket.
    Appended { node: NodeId, ticket: u64 },
    /// All appends up to a ticket are synced, as the log tells.
    Durable { node: NodeId, ticket: u64 },
    /// A message leaves: in true time, and by its sender's clock.
    Sent { node: NodeId, to: NodeId, shard: ShardId, message: &'a Message, now: u64, clock: u64 },
    /// A message is taken in.
    Heard { node: NodeId, from: NodeId, shard: ShardId, message: &'a Message, now: u64 },
    /// A message of another epoch than that of the replica it came to.
    Foreign { node: NodeId, from: NodeId, shard: ShardId, is_earlier: bool },
    /// A node says who the members of a shard are.
    Members { node: NodeId, to: NodeId, shard: ShardId },
    /// How a replica is after a turn.
    Status { node: NodeId, shard: ShardId, status: &'a Status },
    /// The one replica that serves a shard, of a protocol without terms, after a turn.
    Owns { node: NodeId, shard: ShardId, epoch: Epoch },
    /// The table is asked to make a generation current that came in.
    Load { node: NodeId, shard: ShardId, generation: u32 },
    /// An entry is handed to the table.
    Apply { node: NodeId, shard: ShardId, at: Position, entry: &'a Bytes },
    /// The table has applied it, and asked so much of its rows.
    Applied {
        node: NodeId,
        shard: ShardId,
        index: Index,
        entry: &'a Bytes,
        last: Version,
        results: &'a [(Result<Answer, Error>, Version)],
        asked: Asked,
    },
}

impl Seen<'_> {
    /// The one shard that it is about.
    fn shard(&self) -> Option<ShardId> {
        match *self {
            Seen::Record { shard, .. }
            | Seen::Generation { shard, .. }
            | Seen::Gone { shard, .. }
            | Seen::Sent { shard, .. }
            | Seen::Heard { shard, .. }
            | Seen::Foreign { shard, .. }
            | Seen::Members { shard, .. }
            | Seen::Status { shard, .. }
            | Seen::Owns { shard, .. }
            | Seen::Load { shard, .. }
            | Seen::Apply { shard, .. }
            | Seen::Applied { shard, .. } => Some(shard),
            Seen::Recovering { .. } | Seen::Recovered { .. } | Seen::Ended { .. } => None,
            Seen::Wiped { .. } | Seen::GivenBack { .. } => None,
            Seen::Appended { .. } | Seen::Durable { .. } => None,
        }
    }
}

/// Something that must hold.
trait Invariant {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Whether it holds as well of a shard without an order, whose copies each have a log of their own.
    fn holds_of_merged(&self) -> bool {
        false
    }

    /// Looks at what was seen. `logs` is what all nodes' logs hold, before it.
    fn see(&mut self, seen: &Seen<'_>, logs: &Logs) -> Result<(), String>;

    /// What was seen last put it to the test: a case that must come up.
    fn tested(&mut self) -> Option<&'static str> {
        None
    }
}

/// An answer as a client got it.
pub(crate) struct Told<'a> {
    pub op: &'a Op,
    pub id: Option<RequestId>,
    /// The level that was asked for.
    pub level: Level,
    pub reply: &'a Reply,
    /// When the client asked, and when it has the answer.
    pub asked_at: u64,
    pub now: u64,
    /// When the answer left its node.
    pub left: u64,
    /// No version clock is beyond this, in microseconds since 1970.
    pub clock: u64,
}

/// All invariants.
pub(crate) struct Watch {
    logs: Logs,
    invariants: Vec<Box<dyn Invariant>>,
    pub receipts: Receipts,
    pub versions: Versions,
    pub digests: Digests,
    pub proofs: Proofs,
    pub rows: Rows,
    pub changes: Changes,
    pub maps: Maps,
    pub merged: Merged,
    pub lent: Lent,
    repeats: Repeats,
    copies: Copies,
    decided: Decided,
    in_sync: InSync,
    /// The generation of each replica, as its log names it.
    generations: BTreeMap<(NodeId, ShardId), u32>,
    /// A shard has no one history any more: nothing is looked at but the rows of the directory.
    looks_away: bool,
    broken: Vec<String>,
    seen: Vec<&'static str>,
}

impl Watch {
    pub fn new() -> Watch {
        let invariants: Vec<Box<dyn Invariant>> = vec![
            Box::new(one_leader::OneLeader::default()),
            Box::new(owners::OneOwner::default()),
            Box::new(one_vote::OneVote::default()),
            Box::new(durable_visible::DurableVisible::default()),
            Box::new(durable_survives::DurableSurvives::default()),
            Box::new(leases::Leases::default()),
            Box::new(pace::Pace::default()),
            Box::new(own_term::OwnTerm::default()),
            Box::new(wiped_votes::WipedVotes::default()),
            Box::new(log_matching::LogMatching::default()),
            Box::new(leader_completeness::LeaderCompleteness::default()),
            Box::new(commit_order::CommitOrder::default()),
            Box::new(apply_order::ApplyOrder::default()),
            Box::new(state_machine_safety::StateMachineSafety::default()),
            Box::new(deterministic_apply::DeterministicApply::default()),
            Box::new(switch_durable::SwitchDurable::default()),
            Box::new(behind_told::BehindTold::default()),
            Box::new(work::Work),
        ];
        Watch {
            logs: Logs::default(),
            invariants,
            receipts: Receipts::default(),
            versions: Versions::default(),
            digests: Digests::default(),
            proofs: Proofs::default(),
            rows: Rows::default(),
            changes: Changes::default(),
            maps: Maps::default(),
            merged: Merged::default(),
            lent: Lent::default(),
            repeats: Repeats::default(),
            copies: Copies::default(),
            decided: Decided::default(),
            in_sync: InSync::default(),
            generations: BTreeMap::new(),
            looks_away: false,
            broken: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// From now on nothing is looked at.
    pub fn look_away(&mut self) {
        self.looks_away = true;
    }

    pub fn see(&mut self, seen: &Seen<'_>) {
        if self.looks_away {
            // What is written of the map is compared at the end.
            if let Seen::Applied { shard: shard @ ShardId::DIRECTORY, index, entry, results, .. } = *seen {
                self.broken.extend(self.rows.applied(shard, index.0, entry, results));
            }
            return;
        }
        if let Seen::Ended { node } = *seen {
            self.lent.ended(node);
        }
        if let Seen::Recovering { node } | Seen::Wiped { node } = *seen {
            self.generations.retain(|(other, _), _| *other != node);
        }
        let is_merged = seen.shard().is_some_and(|shard| self.merged.has(shard));
        for invariant in &mut self.invariants {
            if is_merged && !invariant.holds_of_merged() {
                continue;
            }
            if let Err(why) = invariant.see(seen, &self.logs) {
                self.broken.push(format!("{}: {why}", invariant.name()));
            }
            self.seen.extend(invariant.tested());
        }
        // Nobody leads there, and nothing is agreed on by its place.
        if !(is_merged && matches!(seen, Seen::Status { .. })) {
            self.copies.see(seen, &self.logs);
            self.broken.extend(self.in_sync.see(seen, &self.logs, &mut self.seen));
            self.logs.see(seen, &mut self.seen);
        }
        self.broken.extend(self.merged.see(seen, &self.logs, &mut self.seen));
        if is_merged {
            return;
        }
        self.broken.extend(self.decided.see(seen, &self.logs));
        if let Seen::Applied { shard, index, entry, last, results, .. } = *seen {
            self.broken.extend(self.rows.applied(shard, index.0, entry, results));
            self.copies.applied(shard, index, last);
            self.seen.extend(self.repeats.seen(shard, index.0, last, results));
        }
    }

    /// A map is written, or is what all begin with.
    pub fn know(&mut self, map: &Map) {
        if self.looks_away {
            return;
        }
        self.decided.know(map);
        self.merged.know(map);
        self.in_sync.know(map);
    }

    /// A map is written: shards that are cut go on as their parts.
    pub fn follow(&mut self, map: &Map) {
        for (from, split) in &map.splits {
            for part in &split.parts {
                self.rows.is_cut(*from, part.shard, part.slots);
                self.changes.is_cut(*from, part.shard, part.slots);
            }
        }
        let others = map.shards.iter().filter(|(_, shard)| shard.keyspace != Request::KEYSPACE);
        for (id, _) in others {
            self.changes.leave_out(*id);
            map.parts_of(*id).iter().for_each(|part| self.changes.leave_out(part.shard));
        }
    }

    /// What an entry changed, which the rows know of: what is wrong with it.
    pub fn changed(
        &mut self,
        shard: ShardId,
        index: u64,
        changes: &[kv::watch::Change],
        last: Version,
    ) -> Vec<String> {
        match shard {
            _ if self.looks_away || self.merged.has(shard) => Vec::new(),
            ShardId::DIRECTORY => Vec::new(),
            shard => self.changes.applied(shard, index, changes, last, &self.rows),
        }
    }

    /// A record of the log, of whichever kind.
    pub fn record(&mut self, node: NodeId, record: &wal::Record) {
        let shard = ShardId(record.stream);
        if let Some(generation) = node::observe::generation(record) {
            self.generations.insert((node, shard), generation);
            self.see(&Seen::Generation { node, shard, generation });
        }
        // A checkpoint says it again, when another one may have been made.
        if let Some(next) = node::observe::gone(record)
            && self.generations.get(&(node, shard)).is_none_or(|generation| *generation < next)
        {
            self.generations.remove(&(node, shard));
            self.seen.push("a replica was dropped");
            self.see(&Seen::Gone { node, shard });
        }
        if let Some(parsed) = node::observe::record(record) {
            if let Record::Base(_) = parsed {
                self.rows.begin_part(shard);
            }
            self.see(&Seen::Record {
                node,
                shard: ShardId(record.stream),
                record: parsed,
                body: &record.body,
            });
        }
    }

    /// What was broken since the last look.
    pub fn take_broken(&mut self) -> Vec<String> {
        std::mem::take(&mut self.broken)
    }

    /// What was seen since the last look, to be counted.
    pub fn take_seen(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.seen)
    }

    /// A client got an answer.
    pub fn told(&mut self, map: &ShardMap, told: &Told<'_>) -> Vec<String> {
        if self.looks_away {
            return Vec::new();
        }
        self.versions.told(told);
        let mut broken = Vec::from_iter(answers::check(told));
        broken.extend(self.receipts.told(map, told));
        if told.reply.receipt.protocol.is_merged() {
            return broken;
        }
        broken.extend(self.receipts.told_over_shards(map, told, &self.rows));
        broken.extend(self.rows.told(map, told));
        broken
    }

    /// A node answers a part of a request: what is wrong with the copies that it tells.
    pub fn copies_told(&self, receipt: &Receipt) -> Option<String> {
        if self.merged.has(receipt.shard) {
            return None;
        }
        self.copies.told(receipt, &self.logs)
    }
}
