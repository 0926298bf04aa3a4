//! How a cluster begins: all of its first nodes compute the same map, and it is as the plan would have it.

use bytes::Bytes;
use kv::keyspace::{Votes, Weighed, Weights};
use kv::{ClusterId, Expect, NodeId, Op, Protocol, SLOTS, ShardId, Slot};
use placement::map::{DEFAULT, DIRECTORY, Map};
use placement::{Event, Founder, Founding, Limits, Refusal, plan};

fn founding(nodes: usize, shards: u32, replicas: u16) -> Founding {
    let founder = |number| Founder { name: format!("n{number:03}"), peer: format!("10.0.0.{number}:7421") };
    let nodes = (1..=nodes).map(founder).collect();
    Founding { cluster: ClusterId::new(7), nodes, shards, replicas, protocol: Protocol::Raft }
}

#[test]
fn founding_is_settled_whatever_its_size() {
    for (nodes, shards, replicas) in
        [(1, 4, 3), (2, 1, 3), (3, 4, 3), (4, 7, 3), (5, 4, 3), (9, 64, 5), (50, 1024, 5)]
    {
        let map = Map::founding(&founding(nodes, shards, replicas));
        assert_eq!(map.check(), Ok(()));
        assert_eq!(plan(&map, &Limits { changes: 100, per_node: 100 }), None, "{nodes} {shards} {replicas}");
        let counts: Vec<usize> = map.nodes.keys().map(|node| led(&map, *node)).collect();
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(most - least <= 1, "leaders of {nodes} {shards} {replicas}: {counts:?}");
    }
}

fn led(map: &Map, node: NodeId) -> usize {
    map.led_by(node).filter(|(_, shard)| shard.keyspace == DEFAULT).count()
}

#[test]
fn founding_is_the_same_in_whatever_order_the_nodes_are_named() {
    let mut other = founding(5, 9, 3);
    other.nodes.reverse();
    let map = Map::founding(&other);
    assert_eq!(map, Map::founding(&founding(5, 9, 3)));
    assert_eq!(map.nodes[&NodeId(1)].name, "n001");
    assert_eq!(map.node_named("n004").map(|(id, _)| id), Some(NodeId(4)));
}

#[test]
fn founding_with_one_shard_has_the_first_node_by_name_lead_it() {
    for nodes in 1..6 {
        let map = Map::founding(&founding(nodes, 1, 15));
        assert_eq!(map.shards[&ShardId(1)].leader, NodeId(1), "{nodes} nodes");
    }
}

#[test]
fn founding_with_weights_gives_them_to_the_nodes_in_the_order_of_their_names() {
    let weighed = |weights: &[u32]| Weighed {
        weights: Weights::new(weights).unwrap(),
        votes: Votes { read: 2, write: 3 },
    };
    let mut begins = Founding { protocol: Protocol::Quorum, ..founding(3, 1, 3) };
    begins.nodes.reverse();
    let map = Map::founding_weighed(&begins, weighed(&[1, 2, 1]));
    assert_eq!(map.check(), Ok(()));
    assert_eq!(map.keyspaces[DEFAULT].weighed, Some(weighed(&[1, 2, 1])));
    let members = map.shards[&ShardId(1)].members.iter();
    let weights: Vec<(u64, u32)> = members.map(|member| (member.node.0, member.weight)).collect();
    assert_eq!(weights, [(1, 1), (2, 2), (3, 1)]);
    assert_eq!(map.nodes[&NodeId(2)].name, "n002");
    assert_eq!(map.votes_of(ShardId(1), 4), Votes { read: 2, write: 3 });
    assert_eq!(plan(&map, &Limits { changes: 100, per_node: 100 }), None, "they stay where they are");
}

#[test]
fn founding_puts_the_directory_on_the_first_odd_number_of_nodes() {
    for (nodes, members) in [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (6, 5)] {
        let map = Map::founding(&founding(nodes, 1, 3));
        let on: Vec<u64> =
            map.shards[&ShardId::DIRECTORY].members.iter().map(|member| member.node.0).collect();
        assert_eq!(on, (1..=members).collect::<Vec<u64>>());
    }
}

#[test]
fn slots_find_the_shard_that_covers_them() {
    let map = Map::founding(&founding(3, 7, 3));
    let slots = map.slots(DEFAULT).unwrap();
    for slot in (0..SLOTS).map(Slot) {
        assert!(map.shards[&slots.shard_of(slot)].slots.contains(slot));
    }
    assert_eq!(map.slots(DIRECTORY).unwrap().shard_of(Slot(SLOTS - 1)), ShardId::DIRECTORY);
    assert_eq!(map.slots("other"), None);
}

#[test]
fn founding_of_the_largest_keyspace_is_one_transaction() {
    let map = Map::founding(&founding(200, 1024, 5));
    let op = Map::transaction(&Map::default(), &map);
    assert_eq!(op.validate(), Ok(()));
    let Op::Transaction { conditions, then, .. } = op else { panic!("it is a transaction") };
    assert_eq!(conditions[0].expect, Expect::Absent);
    assert_eq!(then.len(), map.rows().len());
    assert_eq!(Map::decode(&map.encode()), Ok(map));
}

#[test]
fn transaction_writes_what_differs_and_holds_only_on_what_was_read() {
    let old = Map::founding(&founding(3, 4, 3));
    let mut new = old.clone();
    new.revision += 1;
    let gone = new.nodes.remove(&NodeId(3));
    assert!(gone.is_some());
    new.nodes.get_mut(&NodeId(1)).unwrap().zone = "east".into();
    let Op::Transaction { conditions, then, otherwise } = Map::transaction(&old, &new) else {
        panic!("it is one")
    };
    assert_eq!(conditions[0].expect, Expect::Value(old.rows()["revision".as_bytes()].clone()));
    let keys: Vec<&Bytes> = then
        .iter()
        .map(|op| match op {
            Op::Put { key, .. } | Op::Delete { key, .. } => key,
            _ => panic!("only puts and deletes"),
        })
        .collect();
    assert_eq!(keys, ["node/00000000000000000001", "revision", "node/00000000000000000003"]);
    assert!(otherwise.is_empty());
}

#[test]
fn node_joins_where_it_can_reach_all_others() {
    let join = Event::Join {
        name: "n2".into(),
        incarnation: 20,
        peer: "n2:7421".into(),
        address: "n2:7401".into(),
        zone: String::new(),
    };
    let mut alone = founding(1, 4, 3);
    assert!(Map::founding(&alone).apply(&join).is_ok());
    alone.nodes[0].peer.clear();
    let refused = Map::founding(&alone).apply(&join);
    assert_eq!(refused, Err(Refusal::Alone("n001".into())));
    assert!(refused.unwrap_err().to_string().contains("start it with --listen-peer HOST:PORT"));
}
