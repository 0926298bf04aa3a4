//! The walk of one put, as ARCHITECTURE.md tells it.

use crate::cluster::Cluster;
use kv::{Answer, NodeId, Op};

fn put(key: &'static str, value: &'static str) -> Op {
    Op::Put { key: key.into(), value: value.into(), deadline: None, previous: false }
}

#[test]
fn put_on_one_node_is_synced_then_applied_then_answered() {
    let mut cluster = Cluster::new(1, 1);
    cluster.steps(4);
    cluster.seen.clear();
    let reply = cluster.call(NodeId(1), put("k", "v")).unwrap();
    assert_eq!(reply.answer, Answer::Put { previous: None });
    assert_eq!(reply.receipt.copies, 1);
    let stations: Vec<&str> = cluster.seen.iter().map(|(_, station)| *station).collect();
    assert_eq!(stations, ["append", "apply", "answer"]);
}

#[test]
fn put_on_a_follower_is_forwarded_and_synced_on_a_majority_before_it_is_answered() {
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.leader();
    cluster.steps(4);
    let follower = *cluster.nodes.keys().find(|id| **id != leader).unwrap();
    cluster.seen.clear();
    let reply = cluster.call(follower, put("k", "v")).unwrap();
    assert_eq!(reply.receipt.node, leader);
    assert!(reply.receipt.copies >= 2);
    let answered = cluster.seen.iter().position(|seen| *seen == (follower, "answer")).unwrap();
    let before = &cluster.seen[..answered];
    assert_eq!(before[0], (follower, "forward"));
    assert!(before.contains(&(leader, "apply")));
    let synced = before.iter().filter(|(_, station)| *station == "append").count();
    assert!(synced >= 2, "{before:?}");
}
