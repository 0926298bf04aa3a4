//! Nodes with several cores: each core has a driver over some of the shards, and nobody who asks a node can tell.

use std::collections::BTreeSet;

use bytes::Bytes;
use kv::{Answer, Error, NodeId, Op};
use node::route::ShardMap;
use node::{Input, Job, Work};

use crate::cluster::{Cluster, ELECTION_STEPS};

const SHARDS: u32 = 6;

/// A key of each shard.
fn keys() -> Vec<Bytes> {
    let (map, mut shards) = (ShardMap::of(SHARDS), BTreeSet::new());
    let keys = (0..).map(|number| Bytes::from(format!("k{number}")));
    keys.filter(|key| shards.insert(map.shard_of(key))).take(SHARDS as usize).collect()
}

fn put(key: &Bytes, value: impl Into<Bytes>) -> Op {
    Op::Put { key: key.clone(), value: value.into(), deadline: None, previous: false }
}

fn value(cluster: &mut Cluster, node: NodeId, key: &Bytes) -> Bytes {
    match cluster.call(node, Op::Get { key: key.clone(), at: None }).unwrap().answer {
        Answer::Row(Some(row)) => row.value,
        answer => panic!("a key that was put is found: {answer:?}"),
    }
}

/// Lets all shards find their leaders.
fn settle(cluster: &mut Cluster) {
    for _ in 0..4 * ELECTION_STEPS {
        if cluster.nodes.values().map(|node| node.leads()).sum::<usize>() == SHARDS as usize {
            return cluster.steps(2 * ELECTION_STEPS);
        }
        cluster.step();
    }
    panic!("some shard has no leader");
}

#[test]
fn nodes_with_other_numbers_of_cores_serve_every_shard_through_each_of_them() {
    let mut cluster = Cluster::of_cores(&[1, 2, 3], SHARDS);
    settle(&mut cluster);
    let ids: Vec<NodeId> = cluster.nodes.keys().copied().collect();
    for key in &keys() {
        for &asked in &ids {
            cluster.call(asked, put(key, format!("by {asked}"))).unwrap();
            for &reader in &ids {
                assert_eq!(value(&mut cluster, reader, key), format!("by {asked}"));
            }
        }
    }
    let forwarded = cluster.seen.iter().filter(|(_, what)| *what == "forward").count();
    assert!(forwarded > 0, "some were led by other nodes");
    let leading: Vec<usize> = cluster.nodes.values().map(|node| node.leads()).collect();
    assert_eq!(leading, [2, 2, 2], "roles are dealt out over nodes, whatever cores they have");
    let cores: Vec<usize> = cluster.nodes[&NodeId(2)].cores.iter().map(|core| core.driver.leads()).collect();
    assert_eq!(cores, [1, 1], "and over the cores of a node");
}

#[test]
fn status_of_a_node_tells_of_all_shards_of_nodes_with_several_cores() {
    let mut cluster = Cluster::of_cores(&[3, 3, 3], SHARDS);
    settle(&mut cluster);
    for node in cluster.nodes.values() {
        let [first, others @ ..] = &node.cores[..] else { panic!("it has cores") };
        let status = first.driver.status(others.iter().flat_map(|core| core.driver.announced()).collect());
        assert!(status.shards.iter().all(|shard| shard.leader.is_some()), "{status:?}");
        assert_eq!(status.nodes.iter().map(|node| node.leads).sum::<u32>(), SHARDS);
        let applied = status.shards.iter().flat_map(|shard| &shard.replicas).map(|replica| replica.applied);
        assert_eq!(applied.filter(|applied| *applied > 0).count(), 3 * SHARDS as usize);
    }
}

#[test]
fn full_disk_is_known_to_all_cores() {
    let mut cluster = Cluster::of_cores(&[2], SHARDS);
    cluster.steps(2);
    for full in [true, false] {
        cluster.input(NodeId(1), Input::DiskFull(full));
        for key in &keys() {
            let result = cluster.call(NodeId(1), put(key, "v"));
            assert_eq!(matches!(result, Err(Error::Unavailable(_))), full, "{result:?}");
        }
    }
}

#[test]
fn stop_hands_over_what_each_core_leads() {
    let mut cluster = Cluster::of_cores(&[2, 2, 2], SHARDS);
    settle(&mut cluster);
    let handed_over = |cluster: &Cluster| {
        cluster.nodes[&NodeId(1)].cores.iter().map(|core| core.driver.has_handed_over()).collect::<Vec<_>>()
    };
    assert_eq!(handed_over(&cluster), [false, false]);
    cluster.input(NodeId(1), Input::Stop);
    cluster.steps(4);
    assert_eq!(handed_over(&cluster), [true, true]);
    // The map would have it lead again, and nobody gives a role to a node that stops.
    for _ in 0..4 * ELECTION_STEPS {
        cluster.step();
        assert_eq!(handed_over(&cluster), [true, true]);
    }
    for key in &keys() {
        cluster.call(NodeId(2), put(key, "v")).unwrap();
    }
}

#[test]
fn checkpoint_has_a_part_a_core_with_all_of_its_shards() {
    let mut cluster = Cluster::of_cores(&[2], SHARDS);
    cluster.steps(2);
    let mut streams = BTreeSet::new();
    for core in 0..2 {
        let work = cluster.turn_of_core(NodeId(1), core, Input::Checkpoint);
        let begins = |work: &&Work| matches!(work, Work::Append { checkpoint: true, .. });
        assert_eq!(work.iter().filter(begins).count(), 1);
        assert!(work.iter().any(|work| matches!(work, Work::Run(Job::Flush { .. }))));
        for work in work {
            if let Work::Append { records, .. } = work {
                let of_shards = records.iter().filter(|record| record.stream != u32::MAX);
                streams.extend(of_shards.map(|record| (record.stream, core)));
            }
        }
    }
    assert_eq!(streams.len(), SHARDS as usize, "each shard is of one core");
    assert_eq!(streams.iter().filter(|(_, core)| *core == 0).count(), SHARDS as usize / 2);
}
