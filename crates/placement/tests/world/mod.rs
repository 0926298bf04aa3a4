//! Maps for tests: made literally, and driven through plans until nothing is to be done.

#![allow(dead_code)] // each test file uses a part

use std::collections::BTreeMap;

use kv::cluster::Liveness;
use kv::view::{Revision, View};
use kv::{Epoch, NodeId, Protocol, ReplicaId, ShardId, SlotRange};
use placement::map::{Arrangement, DIRECTORY, Keyspace, Map, Node, NodeDuty, Shard};
use placement::{Event, Limits, plan};

/// As many as it takes.
pub const UNLIMITED: Limits = Limits { changes: usize::MAX, per_node: usize::MAX };

/// A node: its duty and its zone; 0 = one of its own.
pub type About = (NodeDuty, u8);

/// A map of these nodes, with ids from 1, all alive, and the directory on the first of them.
pub fn map(nodes: &[About]) -> Map {
    let mut map = Map { revision: 1, next_node: NodeId(1), next_shard: ShardId(0), ..Map::default() };
    for &(duty, zone) in nodes {
        let id = map.next_node;
        let zone = if zone == 0 { String::new() } else { format!("z{zone}") };
        let peer = format!("n{id}:7421");
        let (name, address, state) = (format!("n{id}"), format!("n{id}:7401"), Liveness::Alive);
        map.nodes.insert(id, Node { name, incarnation: id.0 * 100, peer, address, zone, duty, state });
        map.next_node.0 += 1;
    }
    add(&mut map, DIRECTORY, Arrangement::First, 5, &[vec![1]]);
    map
}

/// Adds a keyspace whose shards are on these nodes; protocol `single` where `replicas` is 1.
pub fn add(map: &mut Map, name: &str, arrangement: Arrangement, replicas: u16, shards: &[Vec<u64>]) {
    let is_single = replicas == 1 && arrangement != Arrangement::First;
    let protocol = if is_single { Protocol::Single } else { Protocol::Raft };
    map.keyspaces.insert(name.into(), Keyspace::new(protocol, replicas, arrangement));
    for (index, nodes) in shards.iter().enumerate() {
        let nodes: Vec<NodeId> = nodes.iter().copied().map(NodeId).collect();
        let View { epoch, members, .. } = View::of(Epoch(1), &nodes);
        let shard = Shard {
            keyspace: name.into(),
            slots: SlotRange::nth(index as u32, shards.len() as u32),
            protocol,
            epoch,
            revision: Revision(1),
            leader: members[index % members.len()].node,
            next_replica: ReplicaId(members.len() as u16 + 1),
            members,
        };
        map.shards.insert(map.next_shard, shard);
        map.next_shard.0 += 1;
    }
}

/// The nodes of a shard, once what is under way is done.
pub fn wanted(map: &Map, id: ShardId) -> Vec<u64> {
    let members = map.changes.get(&id).map_or(&map.shards[&id].members, |change| &change.to);
    members.iter().map(|member| member.node.0).collect()
}

/// How many replicas come to nodes where they were not, by the changes under way.
pub fn copies(map: &Map) -> usize {
    let comes = |id: &ShardId| {
        let shard = &map.shards[id];
        map.changes[id].to.iter().filter(|member| shard.member(member.node).is_none()).count()
    };
    map.changes.keys().map(comes).sum()
}

/// The map with a change done.
pub fn done(map: &Map, shard: ShardId) -> Map {
    let change = &map.changes[&shard];
    let before = &map.shards[&shard];
    let revision = if change.epoch > before.epoch { Revision(1) } else { Revision(before.revision.0 + 1) };
    map.apply(&Event::Done { shard, revision }).expect("it is under way")
}

/// Plans, and finishes the change that `choose` picks of those under way, until nothing is to be done: the last map, and how
/// many replicas were copied on the way. Every map on the way holds what must.
pub fn settle(map: &Map, limits: &Limits, mut choose: impl FnMut(usize) -> usize) -> (Map, usize) {
    let (mut map, mut copied) = (map.clone(), 0);
    // Each shard moves once for one event; more rounds would mean that it never ends.
    for _ in 0..=2 * map.shards.len() + map.nodes.len() + 2 {
        while let Some(next) = plan(&map, limits) {
            assert_eq!(next.check(), Ok(()), "{next:#?}");
            assert_eq!(next.revision, map.revision + 1);
            assert!(
                next.changes.len() <= limits.changes.max(map.changes.len()),
                "no more changes than allowed"
            );
            copied += copies(&next) - copies(&map);
            map = next;
        }
        let ids: Vec<ShardId> = map.changes.keys().copied().collect();
        if ids.is_empty() {
            return (map, copied);
        }
        map = done(&map, ids[choose(ids.len()) % ids.len()]);
        assert_eq!(map.check(), Ok(()));
    }
    panic!("it does not end: {map:#?}");
}

/// How many replicas each node has, of a keyspace.
pub fn counts(map: &Map, keyspace: &str) -> BTreeMap<u64, usize> {
    let mut counts: BTreeMap<u64, usize> = map.nodes.keys().map(|id| (id.0, 0)).collect();
    for (_, shard) in map.shards_of(keyspace) {
        shard.members.iter().for_each(|member| *counts.get_mut(&member.node.0).expect("it is known") += 1);
    }
    counts
}

/// How many shards of a keyspace each node leads.
pub fn leads(map: &Map, keyspace: &str) -> BTreeMap<u64, usize> {
    let mut counts: BTreeMap<u64, usize> = map.nodes.keys().map(|id| (id.0, 0)).collect();
    map.shards_of(keyspace)
        .iter()
        .for_each(|(_, shard)| *counts.get_mut(&shard.leader.0).expect("known") += 1);
    counts
}

/// The difference between the most and the fewest of some counts.
pub fn spread(counts: &BTreeMap<u64, usize>) -> usize {
    let most = counts.values().max().copied().unwrap_or(0);
    most - counts.values().min().copied().unwrap_or(0)
}
