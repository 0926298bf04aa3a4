//! Requests for a shard that is cut, or that is no more, are planned again.
//!
//! What waits for it, comes back from it, or comes for it from whoever knows an older map, goes back to the owner with the id that it
//! has. By the newest map it becomes the parts of other shards, and their answers one answer.

use kv::keyspace::SHARDS_TOTAL_MAX;
use kv::{Error, ShardId, Stamped};
use mutant::Mutant;
use placement::map::Map;
use replication::{Instant, Token};

use super::super::Work;
use super::super::core::Core;
use super::super::open::{Client, Kind, Part, State};
use super::super::requests::run_before;
use crate::gather;
use crate::node::Node;
use crate::route::ShardMap;

/// So long an id of a request may come again at most, as tables have it.
const IDS_LAST_MICROS: u64 = 60 * 60 * 1_000_000;

/// Where requests for a shard go, as a map has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::driver) enum Asked {
    /// To the shard.
    There,
    /// To it, once a later map is known.
    Later,
    /// To others: it is cut, or is no more.
    Elsewhere,
}

pub(in crate::driver) fn asked(map: &Map, shard: ShardId) -> Asked {
    if map.is_asked(shard) {
        Asked::There
    } else if !map.shards.contains_key(&shard) && (shard >= map.next_shard || map.part(shard).is_some()) {
        Asked::Later
    } else {
        Asked::Elsewhere
    }
}

impl Core {
    /// Notes which shards were cut that a map has no more, for what is still open of them. The others went with their keyspace: a new
    /// one of the same name is another.
    pub(in crate::driver) fn note_gone_shards(&mut self, before: &Map, node: &Node) {
        let after = &node.config.map;
        let is_there = |shard: &ShardId| after.shards.contains_key(shard) || after.part(*shard).is_some();
        self.unordered_before.retain(|keyspace, _| after.keyspaces.contains_key(keyspace));
        for (shard, row) in before.shards.iter().filter(|(shard, _)| !after.shards.contains_key(shard)) {
            if row.protocol.is_merged() {
                self.unordered_before.insert(row.keyspace.clone(), node.now);
            }
            if before.parts_of(*shard).iter().any(|part| is_there(&part.shard)) {
                self.cut_before.insert(*shard, row.clone());
            } else {
                self.cut_before.retain(|_, cut| cut.keyspace != row.keyspace);
            }
        }
        while self.cut_before.len() > SHARDS_TOTAL_MAX {
            self.cut_before.pop_first();
        }
    }

    /// Whether a write for a shard that may have been run before may have been run without an order: then nobody remembers it any more. That
    /// is so while an id of that time may come again: since the change, or since this node began, which may know nothing of it.
    pub(in crate::driver) fn may_be_forgotten(&self, node: &Node, shard: ShardId) -> bool {
        let map = &node.config.map;
        let row = map.shards.get(&shard).cloned().or_else(|| map.row_of_part(shard));
        let Some(row) = row.filter(|row| !row.protocol.is_merged()) else { return false };
        let was_unordered = map.keyspaces.get(&row.keyspace).is_some_and(|keyspace| keyspace.was_unordered());
        let is_lately = |at: Instant| node.now.since(at) < IDS_LAST_MICROS;
        let known = self.unordered_before.get(&row.keyspace);
        was_unordered && (is_lately(self.begun) || known.is_some_and(|at| is_lately(*at)))
    }

    /// Plans again what is open of shards that were cut. Of those that went with their keyspace it ends.
    pub(in crate::driver) fn end_requests_of_gone(&mut self, node: &Node) {
        let map = &node.config.map;
        let is_known = |shard: &ShardId| map.shards.contains_key(shard) || map.part(*shard).is_some();
        self.sessions.retain(|shard, _| is_known(shard));
        for token in self.open.pick(|open| asked(map, open.shard) == Asked::Elsewhere && !open.is_local()) {
            let Some(open) = self.open.get_mut(token) else { continue };
            if matches!(open.attempt().map(|attempt| attempt.state), Some(State::Forwarded(..))) {
                open.doubt();
            }
            self.replan(node, token);
        }
    }

    /// Plans a client's part again, which is not for its shard any more, and gives it back; or ends it, if the shard is gone for good.
    pub(in crate::driver) fn replan(&mut self, node: &Node, token: Token) {
        let Some(open) = self.open.get(token) else { return };
        let (shard, map) = (open.shard, &node.config.map);
        let cut = map.shards.get(&shard).or_else(|| self.cut_before.get(&shard));
        let client = open.attempt().map(|attempt| attempt.client);
        let (Some(cut), Some(Client::Owner(client))) = (cut, client) else {
            let why = format!("shard {shard} is no more: its keyspace was dropped");
            return self.finish(token, Err(Error::Unavailable(why)));
        };
        // What was remembered of it has gone with the shard.
        if cut.protocol.is_merged() && open.is_in_doubt() && !open.is_read() {
            return self.finish(token, Err(run_before()));
        }
        let (keyspace, slots) = (cut.keyspace.clone(), cut.slots);
        let open = self.open.remove(token).expect("it was just looked at");
        let is_in_doubt = open.is_in_doubt() && !mutant::is(Mutant::DoubtForgottenWhenPlannedAgain);
        let timeout_micros = open.deadline.since(node.now);
        let (attempt, level) = match open.kind {
            Kind::Read(attempt, read) => (attempt, Some(read.level)),
            Kind::Write(attempt, _) => (attempt, None),
            other => unreachable!("{other:?} is no client's"),
        };
        let Stamped { id, op } = Stamped::decode(&attempt.stamped).expect("what was encoded here decodes");
        let (charge, here) = (attempt.charge, attempt.here);
        let part = Part { shard, op, level, id, timeout_micros, charge, in_doubt: is_in_doubt, here };
        let planned = gather::replan(&ShardMap::of_keyspace(map, &keyspace).within(slots), part);
        self.work.push(Work::Replan { client, planned });
    }
}
