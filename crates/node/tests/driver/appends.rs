//! Appends: what a turn wants written goes to the log in one piece, whatever shards it is of.

use std::collections::BTreeSet;

use kv::{NodeId, Op};
use node::route::ShardMap;

use crate::cluster::Cluster;

const NODE: NodeId = NodeId(1);
const SHARDS: u32 = 4;

#[test]
fn writes_of_one_turn_to_all_shards_are_one_append() {
    let mut cluster = Cluster::new(1, SHARDS);
    cluster.steps(2);
    cluster.seen.clear();
    let map = ShardMap::of(SHARDS);
    let (mut shards, mut asked) = (BTreeSet::new(), Vec::new());
    for number in 0..64 {
        let key = bytes::Bytes::from(format!("k{number}"));
        shards.insert(map.shard_of(&key));
        let put = Op::Put { key, value: bytes::Bytes::from_static(b"v"), deadline: None, previous: false };
        asked.push(cluster.ask(NODE, put));
    }
    assert_eq!(shards.len(), SHARDS as usize, "the keys are of all shards");
    cluster.step();
    assert!(asked.iter().all(|client| cluster.answers.contains_key(client)), "all are answered");
    let appends = cluster.seen.iter().filter(|(_, what)| *what == "append").count();
    assert_eq!(appends, 1);
}
