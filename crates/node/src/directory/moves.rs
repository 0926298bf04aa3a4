//! Which replicas go where: those on their way, and those that would.

use kv::admin::{Move, Phase};
use kv::view::Revision;
use kv::{NodeId, ShardId};
use placement::map::{self, Change, Map};
use placement::{Event, Limits, plan};
use replication::Instant;

use super::duties::Reign;
use crate::wire::Copied;

/// All at once.
const ALL: Limits = Limits { changes: usize::MAX, per_node: usize::MAX };
/// Rounds of a plan of which nothing is held back: more than it takes, whatever the map.
const ROUNDS_MAX: usize = 16;

/// The replicas on their way, and then those that will be when the limits let them.
pub(super) fn moves(reign: &Reign, now: Instant) -> Vec<Move> {
    let map = &reign.map;
    let mut moves = Vec::new();
    for (shard, change) in &map.changes {
        let elapsed_micros = reign.begun.get(shard).map_or(0, |begun| now.since(*begun));
        let told = reign.seen.leader(*shard);
        let copied = |to| told?.copied.iter().find(|(node, _)| *node == to).map(|(_, copied)| *copied);
        for mut one in of_change(map, *shard, change) {
            let Copied { done, total } = one.to.and_then(copied).unwrap_or_default();
            (one.bytes_done, one.bytes_total, one.elapsed_micros) = (done, total, elapsed_micros);
            moves.push(one);
        }
    }
    moves.extend(planned(map));
    moves.sort_by_key(|one| one.shard);
    moves
}

/// The replicas that a map makes go, beside those on their way, if nothing else happens: as many as it takes until there is nothing
/// to plan.
pub(super) fn planned(map: &Map) -> Vec<Move> {
    let (mut map, mut moves) = (map.clone(), Vec::new());
    for _ in 0..ROUNDS_MAX {
        let Some(next) = plan(&map, &ALL) else { break };
        for (shard, change) in &next.changes {
            if map.changes.get(shard).is_none_or(|before| before.to != change.to) {
                let begins = |one| Move { phase: Phase::Planned, ..one };
                moves.extend(of_change(&next, *shard, change).into_iter().map(begins));
            }
        }
        map = completed(next);
    }
    moves.sort_by_key(|one| one.shard);
    moves
}

/// The map when all changes are done.
fn completed(mut map: Map) -> Map {
    for (shard, change) in map.changes.clone() {
        let row = &map.shards[&shard];
        let before = if change.epoch == row.epoch { row.revision } else { Revision(0) };
        let done = Event::Done { shard, revision: Revision(before.0 + 1) };
        map = map.apply(&done).expect("a change that is under way can be done");
    }
    map
}

/// The replicas that a change moves: of those that go and those that come, one each together, in the order of their nodes.
fn of_change(map: &Map, shard: ShardId, change: &Change) -> Vec<Move> {
    let row = &map.shards[&shard];
    let nodes =
        |members: &[kv::view::Member]| -> Vec<NodeId> { members.iter().map(|member| member.node).collect() };
    let (before, after) = (nodes(&row.members), nodes(&change.to));
    let mut goes = before.iter().filter(|node| !after.contains(node));
    let mut comes = after.iter().filter(|node| !before.contains(node));
    let next = || match (goes.next(), comes.next()) {
        (None, None) => None,
        (from, to) => Some(Move {
            shard,
            keyspace: row.keyspace.clone(),
            from: from.copied(),
            to: to.copied(),
            phase: match change.phase {
                map::Phase::Copy => Phase::Copy,
                map::Phase::Switch => Phase::Switch,
            },
            why: change.why,
            bytes_done: 0,
            bytes_total: 0,
            elapsed_micros: 0,
        }),
    };
    std::iter::from_fn(next).collect()
}
