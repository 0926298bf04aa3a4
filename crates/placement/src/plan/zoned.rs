//! A range of slots for each zone: the shards of a keyspace, in the order of their slots, cut into one piece a zone, in the order of
//! the names of the zones; all nodes of a zone have all of its piece.
//!
//! Pieces are equal within one, and which are the longer ones is what lets the most replicas stay (`contiguous`). A node that names no
//! zone has something only while there is none that does: then the first of them has everything. So a node can look after the
//! directory and hold the rows of nobody else.
//!
//! In its zone a node is one of many replicas, as far as the keyspace has so many: the first ones by id, those that live before others.
//! Who leads a shard, is the first of them that lives.

use std::collections::BTreeMap;

use kv::{NodeId, ShardId};

use super::contiguous::cut;
use super::takers::{takes, takes_now};
use crate::map::{Map, Shard};

/// The nodes, in order, of each shard of a keyspace.
pub(super) fn zoned(map: &Map, keyspace: &str) -> BTreeMap<ShardId, Vec<NodeId>> {
    let shards = map.shards_of(keyspace);
    let zones = groups(map, &shards, usize::from(map.keyspaces[keyspace].replicas));
    if zones.is_empty() {
        return BTreeMap::new();
    }
    let pieces = cut(map, &shards, zones.len(), &|piece| zones[piece].clone());
    shards.iter().zip(pieces).map(|((id, _), piece)| (*id, zones[piece].clone())).collect()
}

/// The nodes of each zone, the zones in their order: at most so many of each, and none of a zone without any.
fn groups(map: &Map, shards: &[(ShardId, &Shard)], replicas: usize) -> Vec<Vec<NodeId>> {
    let has_any = |node: NodeId| {
        shards.iter().any(|(id, shard)| map.wanted(*id, shard).iter().any(|member| member.node == node))
    };
    let mut zones: BTreeMap<&str, Vec<NodeId>> = BTreeMap::new();
    for (id, node) in &map.nodes {
        if takes_now(map, *id) || (takes(map, *id) && has_any(*id)) {
            zones.entry(&node.zone).or_default().push(*id);
        }
    }
    let without = zones.remove("");
    if zones.is_empty() {
        return without.and_then(|nodes| nodes.first().copied()).map(|node| vec![node]).into_iter().collect();
    }
    let first = |mut nodes: Vec<NodeId>| {
        nodes.sort_by_key(|node| !map.lives(*node));
        nodes.truncate(replicas);
        nodes.sort_unstable();
        nodes
    };
    zones.into_values().map(first).collect()
}

/// Who leads a shard: the first of its members that lives and takes replicas; `None` = the one that does.
pub(super) fn leader(map: &Map, shard: &Shard) -> Option<NodeId> {
    let mut members = shard.members.iter().map(|member| member.node);
    members.find(|node| takes(map, *node) && map.lives(*node))
}
