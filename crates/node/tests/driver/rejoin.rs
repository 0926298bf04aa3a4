//! A node that lost its folder, and what leaders tell it.

use kv::NodeId;
use node::Input;
use node::wire::{Announcement, Frame};

use crate::cluster::Cluster;

/// How often a node was told how far a shard goes.
fn told(cluster: &Cluster, to: NodeId) -> usize {
    let is_word = |frame: &Frame| matches!(frame, Frame::WholeAt { rejoining: true, .. });
    cluster.sent.iter().filter(|(_, other, frame)| *other == to && is_word(frame)).count()
}

#[test]
fn leader_tells_a_rejoining_node_how_far_it_is_only_when_it_surely_leads() {
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.leader();
    cluster.steps(40);
    let rejoining = cluster.nodes.keys().copied().find(|id| *id != leader).unwrap();
    cluster.deaf.push(leader);
    let announcement = Announcement { rejoining: true, ..Announcement::default() };
    let bytes = Frame::Announce(announcement).encode();
    cluster.input(leader, Input::Frame { from: rejoining, bytes: bytes.clone() });
    cluster.steps(8);
    assert_eq!(told(&cluster, rejoining), 0, "nobody has confirmed that it leads");
    cluster.deaf.clear();
    cluster.input(leader, Input::Frame { from: rejoining, bytes });
    cluster.steps(8);
    assert_eq!(told(&cluster, rejoining), 1);
}

#[test]
fn node_that_is_whole_is_not_asked_for_more_by_a_late_word() {
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.leader();
    cluster.steps(8);
    let others: Vec<NodeId> = cluster.nodes.keys().copied().filter(|id| *id != leader).collect();
    let shard = kv::ShardId(1);
    let word = Frame::WholeAt { shard, index: 1000, term: 1, rejoining: true };
    cluster.input(others[0], Input::Frame { from: leader, bytes: word.encode() });
    cluster.step();
    cluster.cut(leader);
    assert!(others.contains(&cluster.leader()), "both of the others vote");
}
