//! Rows that are no map are refused, each with the reason, and so is a map that does not hold what it must.

mod world;

use std::collections::BTreeMap;

use bytes::Bytes;
use kv::view::Duty;
use kv::{ClusterId, Epoch, Key, NodeId, ReplicaId, ShardId, Slot, Value};
use placement::map::{Arrangement, Map, NodeDuty, Why};
use placement::plan;
use world::{UNLIMITED, add, map};

/// Three nodes and a fourth that a replica goes to; one keyspace of two shards.
fn sound() -> Map {
    let mut map = map(&[(NodeDuty::Serve, 0); 4]);
    map.cluster = ClusterId::new(7);
    add(&mut map, "a", Arrangement::Even, 3, &[vec![1, 2, 3], vec![1, 2, 3]]);
    let map = plan(&map, &UNLIMITED).expect("it is not even");
    assert_eq!(map.check(), Ok(()));
    assert!(map.changes.contains_key(&ShardId(1)) && map.changes.contains_key(&ShardId(0)));
    map
}

#[test]
fn map_is_the_same_after_its_rows_and_its_bytes() {
    let mut map = sound();
    for (why, duty) in [
        (Why::Balance, NodeDuty::Serve),
        (Why::Leaves(NodeId(1)), NodeDuty::Drain),
        (Why::Lost(NodeId(300)), NodeDuty::Gone),
        (Why::Repair, NodeDuty::Leave),
    ] {
        map.changes.get_mut(&ShardId(1)).unwrap().why = why;
        map.nodes.get_mut(&NodeId(2)).unwrap().duty = duty;
        assert_eq!(Map::from_rows(&map.rows()), Ok(map.clone()));
        assert_eq!(Map::decode(&map.encode()), Ok(map.clone()));
    }
    assert_eq!(Map::from_rows(&BTreeMap::new()), Ok(Map::default()));
}

#[test]
fn map_that_breaks_a_rule_is_refused_with_it() {
    let shard = |map: &mut Map, change: fn(&mut placement::map::Shard)| {
        change(map.shards.get_mut(&ShardId(1)).unwrap())
    };
    let change =
        |map: &mut Map, to: fn(&mut placement::map::Change)| to(map.changes.get_mut(&ShardId(1)).unwrap());
    type Break<'a> = &'a dyn Fn(&mut Map);
    let breaks: &[(Break, &str)] = &[
        (&|map| map.revision = 0, "revision 0"),
        (&|map| map.next_node = NodeId(4), "node 4 is not between 1 and the next id"),
        (&|map| map.nodes.get_mut(&NodeId(2)).unwrap().name = "n1".into(), "two nodes are n1"),
        (&|map| map.nodes.get_mut(&NodeId(2)).unwrap().incarnation = 100, "two nodes have the folder"),
        (&|map| drop(map.nodes.remove(&NodeId(3))), "no node 3"),
        (&|map| assert!(map.keyspaces.remove("a").is_some()), "no keyspace a"),
        (&|map| map.keyspaces.get_mut("a").unwrap().replicas = 0, "wants no replicas"),
        (&|map| map.keyspaces.get_mut("a").unwrap().arrangement = Arrangement::First, "arranged as another"),
        (
            &|map| map.shards.get_mut(&ShardId(0)).unwrap().keyspace = "a".into(),
            "_directory is not shard 0 alone",
        ),
        (&|map| map.next_shard = ShardId(2), "the next id is 2"),
        (&|map| shard(map, |shard| shard.slots.last = Slot(9)), "slot 10 does not begin a shard"),
        (&|map| shard(map, |shard| shard.slots.last = Slot(u16::MAX)), "does not begin a shard"),
        (&|map| shard(map, |shard| shard.epoch = Epoch(0)), "its epoch is 0"),
        (&|map| shard(map, |shard| shard.members.clear()), "its members are none"),
        (&|map| shard(map, |shard| shard.members.swap(0, 1)), "not in order"),
        (&|map| shard(map, |shard| shard.members[0].duty = Duty::Learner), "does not vote"),
        (&|map| shard(map, |shard| shard.members[1].replica = ReplicaId(1)), "two replicas are 1"),
        (&|map| shard(map, |shard| shard.members[1].replica = ReplicaId(9)), "replica 9 is not between"),
        (&|map| shard(map, |shard| shard.next_replica = ReplicaId(1025)), "beyond the last"),
        (&|map| shard(map, |shard| shard.leader = NodeId(4)), "its leader, node 4, is no member"),
        (&|map| shard(map, |shard| shard.protocol = kv::Protocol::Single), "single has 3 members"),
        (&|map| change(map, |change| change.epoch = Epoch(2)), "it gives epoch 2, not 1"),
        (&|map| change(map, |change| change.to.swap(0, 1)), "not in order"),
        (&|map| change(map, |change| change.to[0].replica = ReplicaId(4)), "two replicas are 4"),
        (
            &|map| change(map, |change| change.to.last_mut().unwrap().replica = ReplicaId(1)),
            "a number that was given",
        ),
        (
            &|map| map.changes.get_mut(&ShardId(1)).unwrap().to = map.shards[&ShardId(1)].members.clone(),
            "changes nothing",
        ),
        (
            &|map| drop(map.changes.insert(ShardId(9), map.changes[&ShardId(1)].clone())),
            "change of shard 9, which is none",
        ),
    ];
    for (number, (break_it, why)) in breaks.iter().enumerate() {
        let mut map = sound();
        break_it(&mut map);
        let found = map.check().expect_err(why);
        assert!(found.contains(why), "{number}: {found}, not {why}");
    }
}

#[test]
fn rows_that_are_none_are_refused_with_the_row() {
    let change: fn(&mut BTreeMap<Key, Value>, &'static str, &[u8]) = |rows, key, value| {
        rows.insert(Bytes::from_static(key.as_bytes()), Bytes::copy_from_slice(value));
    };
    type Break<'a> = &'a dyn Fn(&mut BTreeMap<Key, Value>);
    let breaks: &[(Break, &str)] = &[
        (&|rows| change(rows, "other", &[1]), "'other': malformed bytes: there is no row of this name"),
        (&|rows| change(rows, "other/1", &[1]), "'other/1': malformed bytes: there is no row of this name"),
        (&|rows| change(rows, "revision", &[2, 1]), "'revision': malformed bytes: it has an unknown format"),
        (&|rows| change(rows, "revision", &[1, 1, 1]), "bytes behind the end"),
        (&|rows| change(rows, "revision", &[]), "ends too early"),
        (&|rows| change(rows, "shard/1", &[1]), "the id in its key is none"),
        (&|rows| change(rows, "shard/+000000001", &[1]), "the id in its key is none"),
        (&|rows| change(rows, "shard/9999999999", &[1]), "the id in its key is none"),
        (&|rows| change(rows, "keyspace/b", &[1, 2, 3, 9]), "an arrangement has an unknown tag"),
        (&|rows| drop(rows.remove("cluster".as_bytes())), "do not fit together"),
        (&|rows| drop(rows.remove("revision".as_bytes())), "do not fit together"),
        (&|rows| drop(rows.remove("node/00000000000000000004".as_bytes())), "no node 4"),
    ];
    for (break_it, why) in breaks {
        let mut rows = sound().rows();
        break_it(&mut rows);
        let found = Map::from_rows(&rows).expect_err(why).to_string();
        assert!(found.contains(why), "{found}, not {why}");
    }
}

#[test]
fn bytes_with_a_row_twice_or_more_behind_are_refused() {
    let bytes = sound().encode();
    let longer = Bytes::from([&bytes[..], &[0]].concat());
    assert!(Map::decode(&longer).expect_err("there is more").to_string().contains("bytes behind the end"));
    assert!(Map::decode(&bytes.slice(..bytes.len() - 1)).is_err());
    let twice = Bytes::from_static(b"\x02\x01a\x01\x01\x01a\x01\x01");
    assert!(Map::decode(&twice).expect_err("a row is twice").to_string().contains("a row is there twice"));
}
