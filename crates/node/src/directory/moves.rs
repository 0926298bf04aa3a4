//! Which replicas go where: those on their way, and those that would.

use std::collections::BTreeMap;

use kv::admin::{Move, Phase};
use kv::{NodeId, ShardId};
use placement::map::{self, Change, Map, Shard};
use placement::{Limits, plan};
use replication::Instant;

use super::seen::Seen;
use crate::wire::Copied;

/// All at once.
const ALL: Limits = Limits { changes: usize::MAX, per_node: usize::MAX };
/// Rounds of a plan of which nothing is held back: more than it takes, whatever the map.
const ROUNDS_MAX: usize = 16;

/// The replicas on their way: since when, as far as is known, and how far by what is seen.
pub(super) fn under_way(
    map: &Map,
    begun: &BTreeMap<ShardId, Instant>,
    seen: &Seen,
    now: Instant,
) -> Vec<Move> {
    let mut moves = Vec::new();
    for (shard, change) in &map.changes {
        let elapsed_micros = begun.get(shard).map_or(0, |begun| now.since(*begun));
        let told = seen.leader(*shard);
        let copied = |to| told?.copied.iter().find(|(node, _)| *node == to).map(|(_, copied)| *copied);
        for mut one in of_change(map, *shard, change) {
            let Copied { done, total } = one.to.and_then(copied).unwrap_or_default();
            (one.bytes_done, one.bytes_total, one.elapsed_micros) = (done, total, elapsed_micros);
            moves.push(one);
        }
    }
    moves
}

/// The replicas that a map makes go, beside those on their way, if nothing else happens: as many as it takes until there is nothing
/// to plan. Found plan by plan, for a plan of many shards takes its time, and its node serves meanwhile.
#[derive(Clone, Debug)]
pub(super) struct Preview {
    map: Map,
    moves: Vec<Move>,
    rounds: usize,
    is_whole: bool,
}

impl Preview {
    /// Of a map; nothing is found yet.
    pub fn of(map: &Map) -> Preview {
        Preview { map: map.clone(), moves: Vec::new(), rounds: 0, is_whole: false }
    }

    /// All of it, once it is found.
    pub fn whole(&self) -> Option<&[Move]> {
        self.is_whole.then_some(&self.moves)
    }

    /// Makes one more plan.
    pub fn go_on(&mut self) {
        self.rounds += 1;
        let next = plan(&self.map, &ALL).filter(|_| !self.is_whole && self.rounds <= ROUNDS_MAX);
        let Some(next) = next else {
            self.is_whole = true;
            return self.moves.sort_by_key(|one| one.shard);
        };
        for (shard, change) in &next.changes {
            if self.map.changes.get(shard).is_none_or(|before| before.to != change.to) {
                let begins = |one| Move { phase: Phase::Planned, ..one };
                self.moves.extend(of_change(&next, *shard, change).into_iter().map(begins));
            }
        }
        self.map = next.completed();
    }
}

/// The replicas that a change moves: of those that go and those that come, one each together, in the order of their nodes.
fn of_change(map: &Map, shard: ShardId, change: &Change) -> Vec<Move> {
    let row = &map.shards[&shard];
    let nodes =
        |members: &[kv::view::Member]| -> Vec<NodeId> { members.iter().map(|member| member.node).collect() };
    let (before, after) = (nodes(&row.members), nodes(&change.to));
    if change.why.makes_parts() {
        // Nothing leaves its node.
        return vec![one_of(row, shard, change, (None, None))];
    }
    let mut goes = before.iter().filter(|node| !after.contains(node));
    let mut comes = after.iter().filter(|node| !before.contains(node));
    let next = || match (goes.next(), comes.next()) {
        (None, None) => None,
        (from, to) => Some(one_of(row, shard, change, (from.copied(), to.copied()))),
    };
    std::iter::from_fn(next).collect()
}

fn one_of(
    row: &Shard,
    shard: ShardId,
    change: &Change,
    (from, to): (Option<NodeId>, Option<NodeId>),
) -> Move {
    let phase = match change.phase {
        map::Phase::Copy => Phase::Copy,
        map::Phase::Switch => Phase::Switch,
    };
    let (keyspace, why) = (row.keyspace.clone(), change.why);
    Move { shard, keyspace, from, to, phase, why, bytes_done: 0, bytes_total: 0, elapsed_micros: 0 }
}
