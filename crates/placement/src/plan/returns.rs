//! Shards that go back: their heirs are gone for good.
//!
//! A shard that is handed over is sealed, and a seal is not undone. When the node that was to go on with it is gone, nobody serves
//! it. Who had it before has all that it held when it was sealed. So it is the next heir, of an epoch of its own: the lost one may
//! have begun the one before. Nothing is copied, and where the shard should be is planned anew when it is served again.
//!
//! Of a shard that goes on under `single` the one node that has its part may be gone likewise. All others that had everything where the
//! shard was sealed have it still: another one of them is to open a part of its own, under an id that was never given.

use kv::view::{Duty, Member};
use kv::{Epoch, ReplicaId, ShardId};

use crate::map::{Change, Map, NodeDuty, Part, Phase, Shard, Why};

/// Hands shards back to those who had them, where their heirs are gone.
pub(super) fn return_shards(map: &mut Map) {
    let all: Vec<ShardId> = map.changes.keys().copied().collect();
    for id in all {
        if let Some(change) = returned(map, &map.shards[&id], &map.changes[&id]) {
            let row = map.shards.get_mut(&id).expect("what changes is there");
            row.next_replica = ReplicaId(row.next_replica.0 + change.to.len() as u16);
            map.changes.insert(id, change);
        }
    }
}

/// Has others go on alone, where who was to is gone.
pub(super) fn replace_lone(map: &mut Map) {
    let all: Vec<ShardId> = map.changes.keys().copied().collect();
    for id in all {
        let (row, change) = (&map.shards[&id], &map.changes[&id]);
        let is_gone = |member: &Member| map.nodes[&member.node].duty == NodeDuty::Gone;
        let is_stuck =
            change.why == Why::Protocol && change.phase == Phase::Switch && change.to.iter().all(is_gone);
        let Some(heir) = map.goes_on_alone(row).filter(|_| is_stuck) else { continue };
        let (part, slots) = (map.next_shard, row.slots);
        map.next_shard.0 += 1;
        let to = vec![Member { replica: ReplicaId(1), duty: Duty::Voter, ..heir }];
        if let (Some(split), Some(change)) = (map.splits.get_mut(&id), map.changes.get_mut(&id)) {
            split.parts = vec![Part { shard: part, slots, leader: heir.node }];
            change.to = to;
        }
    }
}

/// The change by which a shard goes back, if it has to and can.
fn returned(map: &Map, row: &Shard, change: &Change) -> Option<Change> {
    let is_gone = |member: &&Member| map.nodes[&member.node].duty == NodeDuty::Gone;
    let is_handed_over =
        change.epoch > row.epoch && change.phase == Phase::Switch && !change.why.makes_parts();
    let gone = change.to.iter().find(is_gone).filter(|_| is_handed_over)?.node;
    let first = row.next_replica.0;
    let last = first + row.members.len() as u16 - 1;
    if row.members.iter().any(|member| is_gone(&member)) || ReplicaId(last) > ReplicaId::MAX {
        return None;
    }
    let next = |(replica, member): (u16, &Member)| Member { replica: ReplicaId(replica), ..*member };
    let to = (first..).zip(&row.members).map(next).collect();
    Some(Change { to, epoch: Epoch(change.epoch.0 + 1), phase: Phase::Switch, why: Why::Lost(gone) })
}
