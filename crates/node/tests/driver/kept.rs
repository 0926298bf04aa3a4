//! A node says behind which map it does not fall back: the names of dropped keyspaces wait for that.

use std::sync::Arc;

use kv::keyspace::Wish;
use kv::{NodeId, ShardId};
use node::wire::Frame;
use node::{Input, Work};
use placement::Event;
use placement::map::Map;

use crate::cluster::{Cluster, ELECTION_STEPS};
use crate::maps::founding;

const NODE: NodeId = NodeId(1);
/// Enough for each of several cores.
const SHARDS: u32 = 6;
const KIND_GONE: u8 = 3;

/// Three nodes with so many cores and a keyspace; and the map in which it is dropped.
fn cluster(cores: usize) -> (Cluster, Arc<Map>) {
    let wish = Wish { shards: Some(SHARDS), ..Wish::default() };
    let map = founding(3, 1, 3).apply(&Event::Create { name: "tea".into(), wish }).unwrap();
    let next = map.apply(&Event::Drop { name: "tea".into() }).unwrap();
    let mut cluster = Cluster::of_map(&[cores; 3], map);
    cluster.steps(4 * ELECTION_STEPS);
    (cluster, Arc::new(next))
}

/// What the node says that it has kept: a full disk that is none is announced at once.
fn kept(cluster: &mut Cluster) -> u64 {
    let work = cluster.turn_of(NODE, Input::DiskFull(false));
    let told = work.iter().find_map(|work| match work {
        Work::Send { frame, .. } => match Frame::decode(frame).unwrap() {
            Frame::Announce(announcement) => Some(announcement.kept),
            _ => None,
        },
        _ => None,
    });
    told.expect("it announces itself")
}

/// Gives one core of the node something; what it says to the first one goes there, and its appends are synced only if that is wanted.
fn give(cluster: &mut Cluster, core: usize, input: Input, syncs: bool) {
    for work in cluster.turn_of_core(NODE, core, input) {
        match work {
            Work::Append { ticket, .. } if syncs => give(cluster, core, Input::Durable { ticket }, syncs),
            Work::Tell { core, word } => give(cluster, core, Input::Told(word), syncs),
            _ => {}
        }
    }
}

#[test]
fn map_is_kept_when_all_cores_of_a_node_act_on_it() {
    let (mut cluster, map) = cluster(3);
    for core in [1, 0, 2] {
        assert_eq!(kept(&mut cluster), map.revision - 1, "core {core} serves what was dropped");
        give(&mut cluster, core, Input::Map(map.clone()), true);
    }
    assert_eq!(kept(&mut cluster), map.revision);
}

#[test]
fn map_is_not_kept_before_it_is_synced() {
    let (mut cluster, map) = cluster(1);
    give(&mut cluster, 0, Input::Map(map.clone()), false);
    assert_eq!(cluster.nodes[&NODE].driver().map().revision, map.revision);
    assert_eq!(kept(&mut cluster), map.revision - 1);
}

#[test]
fn who_leads_the_directory_hears_at_once_that_a_drop_is_kept() {
    let (mut cluster, map) = cluster(1);
    let leader = cluster.leader_of(ShardId::DIRECTORY);
    cluster.input(leader, Input::Map(map.clone()));
    cluster.sent.clear();
    // It is asked for within some steps, of 25 ms each; an announcement comes once a second.
    cluster.steps(10);
    for node in cluster.nodes.keys().filter(|node| **node != leader) {
        let says = |(from, to, frame): &(NodeId, NodeId, Frame)| {
            let is_kept = matches!(frame, Frame::Announce(told) if told.kept == map.revision);
            (*from, *to) == (*node, leader) && is_kept
        };
        assert!(cluster.sent.iter().any(says), "{node}");
    }
}

#[test]
fn replica_that_the_map_in_the_log_does_not_want_is_not_there_after_a_start() {
    let (mut cluster, map) = cluster(1);
    let dropped: Vec<ShardId> =
        cluster.map.shards.keys().copied().filter(|shard| !map.shards.contains_key(shard)).collect();
    cluster.input(NODE, Input::Map(map));
    cluster.steps(10);
    // What another core wrote of it was not synced.
    cluster.node(NODE).log.retain(|record| record.kind != KIND_GONE);
    cluster.restart(NODE);
    cluster.step();
    assert_eq!(dropped.len(), SHARDS as usize);
    assert!(dropped.iter().all(|shard| cluster.nodes[&NODE].replica_status(*shard).is_none()));
}
