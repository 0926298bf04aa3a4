//! Requests for a shard that is cut, or that is no more, are planned again.
//!
//! What waits for it, comes back from it, or comes for it from whoever knows an older map, goes back to the owner with the id that it
//! has. By the newest map it becomes the parts of other shards, and their answers one answer.

use kv::keyspace::SHARDS_TOTAL_MAX;
use kv::{ShardId, Stamped};
use placement::map::Map;
use replication::Token;

use super::super::Work;
use super::super::core::Core;
use super::super::open::{Client, Kind, Part, State};
use crate::node::Node;

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
    /// Notes what the shards were of that a map has no more, for what is still open of them.
    pub(in crate::driver) fn note_gone_shards(&mut self, before: &Map, after: &Map) {
        let is_gone = |shard: &ShardId| !after.shards.contains_key(shard);
        let gone = before.shards.iter().filter(|(shard, _)| is_gone(shard));
        self.gone_shards.extend(gone.map(|(shard, row)| (*shard, (row.keyspace.clone(), row.slots))));
        while self.gone_shards.len() > SHARDS_TOTAL_MAX {
            self.gone_shards.pop_first();
        }
    }

    /// Plans again what is open of shards that are no more; of keyspaces that are no more it is answered so.
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

    /// Gives a client's part, which nobody here has, back to be planned again. Whether it could.
    pub(in crate::driver) fn replan(&mut self, node: &Node, token: Token) -> bool {
        let Some(open) = self.open.get(token) else { return false };
        let shard = open.shard;
        let of_row = node.config.map.shards.get(&shard).map(|row| (row.keyspace.clone(), row.slots));
        let Some((keyspace, slots)) = of_row.or_else(|| self.gone_shards.get(&shard).cloned()) else {
            return false;
        };
        let Some(Client::Owner(client)) = open.attempt().map(|attempt| attempt.client) else { return false };
        let open = self.open.remove(token).expect("it was just looked at");
        let (is_in_doubt, timeout_micros) = (open.is_in_doubt(), open.deadline.since(node.now));
        let (attempt, level) = match open.kind {
            Kind::Read(attempt, read) => (attempt, Some(read.level)),
            Kind::Write(attempt, _) => (attempt, None),
            other => unreachable!("{other:?} is no client's"),
        };
        let Stamped { id, op } = Stamped::decode(&attempt.stamped).expect("what was encoded here decodes");
        let charge = attempt.charge;
        let part = Part { shard, op, level, id, timeout_micros, charge, in_doubt: is_in_doubt };
        self.work.push(Work::Replan { client, keyspace, slots, part });
        true
    }
}
