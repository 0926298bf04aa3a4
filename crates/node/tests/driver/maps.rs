//! The maps that clusters of tests begin with.

use kv::{Protocol, ShardId};
use placement::map::Map;
use placement::{Founder, Founding};

/// The first map of a cluster.
pub fn founding(nodes: u64, shards: u32, replicas: u16) -> Map {
    let founder = |id| Founder { name: format!("n{id}"), peer: format!("h{id}:1") };
    let protocol = if nodes == 1 { Protocol::Single } else { Protocol::Raft };
    let nodes = (1..=nodes).map(founder).collect();
    Map::founding(&Founding { cluster: None, nodes, shards, replicas, protocol })
}

/// A map of what clients see alone, whose shards the nodes are to lead in turn: fewer leaders to wait for.
pub fn without_directory(mut map: Map) -> Map {
    map.shards.remove(&ShardId::DIRECTORY);
    for (place, shard) in map.shards.values_mut().enumerate() {
        shard.leader = shard.members[place % shard.members.len()].node;
    }
    map
}
