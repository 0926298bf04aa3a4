//! A cluster whose first keyspace is laid out by zones: one node founds it, keeps the directory alone, and holds rows only while no
//! node that names a zone is there.
//!
//! Under `primary` each zone may say how many secondaries a write waits for that is led in it ([`Zone`]); with fewer members that live it
//! waits for those. What a zone says goes with its last node.

use kv::keyspace::SyncMode;
use kv::{NodeId, Protocol};

use crate::event::NODES_MAX;
use crate::map::{Arrangement, DEFAULT, DIRECTORY, Map, Zone};
use crate::refusal::Refusal;
use crate::{Founder, Founding};

/// Replicas of a shard under `primary`: as many as its zone has nodes.
const REPLICAS: u16 = kv::keyspace::REPLICAS_MAX;

impl Map {
    /// The first map of such a cluster: of this founder, with so many shards that agree so: `single`, or `primary`, which then waits for
    /// all that are in sync and goes on alone.
    pub fn founding_by_zones(founder: Founder, shards: u32, protocol: Protocol) -> Map {
        assert!(
            matches!(protocol, Protocol::Single | Protocol::Primary),
            "a zone of one can be by {protocol}"
        );
        let founding =
            Founding { cluster: None, nodes: vec![founder], shards, replicas: 1, protocol: Protocol::Raft };
        let mut map = Map::founding(&founding);
        map.keyspaces.entry(DIRECTORY.into()).and_modify(|directory| directory.replicas = 1);
        map.keyspaces.entry(DEFAULT.into()).and_modify(|keyspace| {
            (keyspace.protocol, keyspace.arrangement) = (protocol, Arrangement::Zones);
            keyspace.replicas = if protocol == Protocol::Primary { REPLICAS } else { 1 };
            keyspace.sync = (protocol == Protocol::Primary).then_some(SyncMode::All { min_copies: 1 });
        });
        let shards = map.shards.values_mut().filter(|shard| shard.keyspace == DEFAULT);
        shards.for_each(|shard| shard.protocol = protocol);
        map.name_masters();
        map.check().expect("a founding is sound");
        assert!(map.shards.values().all(|shard| shard.leader == NodeId(1)), "one node has everything");
        map
    }

    pub(crate) fn zone(&mut self, name: &str, secondaries: Option<u16>) -> Result<(), Refusal> {
        match secondaries {
            None => drop(self.zones.remove(name)),
            Some(_) if self.zones.len() >= NODES_MAX && !self.zones.contains_key(name) => {
                return Err(Refusal::Invalid(format!(
                    "{NODES_MAX} zones have a word of their own: that is all"
                )));
            }
            Some(secondaries) => drop(self.zones.insert(name.into(), Zone { secondaries })),
        }
        Ok(())
    }

    /// A node is no member any more.
    pub(crate) fn forget_node(&mut self, node: NodeId) {
        let Some(gone) = self.nodes.remove(&node) else { return };
        if self.nodes.values().all(|node| node.zone != gone.zone) {
            self.zones.remove(&gone.zone);
        }
    }
}

#[cfg(test)]
mod tests {
    use kv::cluster::Liveness;
    use kv::keyspace::Awaited;

    use super::*;
    use crate::map::{Node, NodeDuty};
    use crate::{Limits, plan};

    /// Of ten shards under `single`.
    fn map() -> Map {
        Map::founding_by_zones(Founder { name: "m".into(), peer: "m:1".into() }, 10, Protocol::Single)
    }

    fn join(map: &mut Map, zone: &str) {
        let id = map.next_node;
        let (name, incarnation) = (format!("n{id}"), id.0);
        let (duty, state) = (NodeDuty::Serve, Liveness::Alive);
        let (peer, address, zone) = (format!("{name}:1"), format!("{name}:2"), zone.into());
        map.nodes.insert(id, Node { name, incarnation, peer, address, zone, duty, state });
        map.next_node.0 += 1;
    }

    /// How many moved, and then the node of each shard in the order of their slots.
    fn settled(map: &mut Map) -> (usize, String) {
        let mut moved = 0;
        while let Some(next) = plan(map, &Limits { changes: 100, per_node: 100 }) {
            moved += next.changes.len();
            *map = next.completed();
            assert_eq!(map.check(), Ok(()));
        }
        let at =
            |map: &Map| map.shards_of(DEFAULT).iter().map(|(_, shard)| shard.leader.to_string()).collect();
        (moved, at(map))
    }

    #[test]
    fn servers_have_ranges_in_the_order_of_their_zones_and_the_founder_only_the_directory() {
        let mut map = map();
        assert_eq!(settled(&mut map), (0, "1111111111".into()));
        join(&mut map, "1");
        assert_eq!(settled(&mut map), (10, "2222222222".into()));
        join(&mut map, "2");
        assert_eq!(settled(&mut map), (5, "2222233333".into()));
        join(&mut map, "3");
        assert_eq!(settled(&mut map).1.matches('4').count(), 3, "the last in order has as much as others");
        assert_eq!(map.shards[&kv::ShardId::DIRECTORY].members.len(), 1);
    }

    #[test]
    fn last_server_that_leaves_gives_everything_to_the_founder() {
        let mut map = map();
        join(&mut map, "1");
        settled(&mut map);
        let leave = crate::Event::Leave { name: "n2".into(), fewer: true };
        map = map.apply(&leave).unwrap();
        assert_eq!(settled(&mut map), (10, "1111111111".into()));
        assert!(!map.nodes.contains_key(&NodeId(2)), "it is a node no more");
    }

    #[test]
    fn zone_says_whom_the_writes_in_it_wait_for_until_its_last_node_has_left() {
        let mut map =
            Map::founding_by_zones(Founder { name: "m".into(), peer: "m:1".into() }, 10, Protocol::Primary);
        let says = |map: &mut Map, zone: &str, secondaries| {
            *map = map.apply(&crate::Event::Zone { name: zone.into(), secondaries }).unwrap();
            assert_eq!(Map::decode(&map.encode()).as_ref(), Ok(&*map));
        };
        says(&mut map, "1", Some(2));
        ["1", "2", "1"].iter().for_each(|zone| join(&mut map, zone));
        // As the primaries would ask, once those that come have everything.
        for (id, node) in [(1, 2), (10, 3)] {
            let shard = map.shards.get_mut(&kv::ShardId(id)).unwrap();
            shard.members[0].node = NodeId(node);
            shard.leader = NodeId(node);
        }
        let all = Awaited::from(SyncMode::All { min_copies: 1 });
        let of = |map: &Map| [1, 10].map(|id| map.sync_of(kv::ShardId(id)));
        assert_eq!(of(&map), [Awaited::at_most(2), all]);
        says(&mut map, "2", Some(0));
        assert_eq!(of(&map), [Awaited::at_most(2), Awaited::at_most(0)]);
        says(&mut map, "2", None);
        assert_eq!(of(&map)[1], all);
        map.forget_node(NodeId(4));
        assert!(map.zones.contains_key("1"), "another node is in it");
        map.forget_node(NodeId(2));
        assert!(map.zones.is_empty(), "{:?}", map.zones);
    }

    #[test]
    fn nodes_of_one_zone_have_the_same_shards() {
        let mut map =
            Map::founding_by_zones(Founder { name: "m".into(), peer: "m:1".into() }, 10, Protocol::Primary);
        ["1", "2", "1", "1"].iter().for_each(|zone| join(&mut map, zone));
        let shard = map.shards_of(DEFAULT)[0].0;
        let next = plan(&map, &Limits { changes: 100, per_node: 100 }).unwrap();
        let to = next.changes[&shard].to.iter().map(|member| member.node.0).collect::<Vec<u64>>();
        assert_eq!(to, [2, 4, 5]);
    }
}
