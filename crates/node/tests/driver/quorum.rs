//! Writes without an order that are sent again: they happen once, or are in doubt.

use kv::{Answer, Error, NodeId, Op, Protocol, Reply, RequestId, ShardId, Version};
use node::Part;
use node::wire::Frame;
use placement::map::Map;
use placement::{Founder, Founding};

use crate::cluster::Cluster;

const ID: RequestId = RequestId { client: 7, sequence: 1, valid_until: Version::MAX, answered_below: 1 };
/// Enough for nodes to meet.
const STEPS: usize = 10;
const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const N3: NodeId = NodeId(3);

/// So many nodes, three of which have the one shard; and one that has not, if there is one.
fn cluster(nodes: u64) -> (Cluster, Option<NodeId>) {
    let founder = |id| Founder { name: format!("n{id}"), peer: format!("h{id}:1") };
    let founders = (1..=nodes).map(founder).collect();
    let founding =
        Founding { cluster: None, nodes: founders, shards: 1, replicas: 3, protocol: Protocol::Quorum };
    let map = Map::founding(&founding);
    let row = &map.shards[&ShardId(1)];
    let without = (1..=nodes).map(NodeId).find(|node| row.member(*node).is_none());
    let mut cluster = Cluster::of_map(&vec![1; nodes as usize], map);
    cluster.steps(STEPS);
    (cluster, without)
}

fn put(value: &str) -> Op {
    Op::Put { key: "k".into(), value: value.to_owned().into(), deadline: None, previous: false }
}

fn first(cluster: &mut Cluster, node: NodeId, value: &str) -> Result<Reply, Error> {
    let client = cluster.ask_with(node, put(value), Some(ID));
    cluster.wait_for(client)
}

/// The same request, by who says that it may have been run.
fn again(cluster: &mut Cluster, node: NodeId, value: &str) -> Result<Reply, Error> {
    let client = cluster.ask_part(node, put(value), |part| Part { id: Some(ID), in_doubt: true, ..part });
    cluster.wait_for(client)
}

fn value(cluster: &mut Cluster, node: NodeId) -> bytes::Bytes {
    match cluster.call(node, Op::Get { key: "k".into(), at: None }).unwrap().answer {
        Answer::Row(Some(row)) => row.value,
        other => panic!("{other:?}"),
    }
}

#[test]
fn write_that_comes_again_at_another_node_is_in_doubt_and_brings_nothing_old_back() {
    let (mut cluster, _) = cluster(3);
    let version = first(&mut cluster, N1, "old").unwrap().receipt.version;
    cluster.call(N3, put("new")).unwrap();
    assert!(matches!(again(&mut cluster, N2, "old"), Err(Error::InDoubt(_))));
    assert_eq!(value(&mut cluster, N2), "new");
    let repeated = again(&mut cluster, N1, "old").unwrap();
    assert_eq!(repeated.receipt.version, version, "the node that took it knows what became of it");
    assert_eq!(value(&mut cluster, N2), "new");
}

#[test]
fn write_that_comes_again_at_a_node_that_was_started_again_is_in_doubt() {
    let (mut cluster, _) = cluster(3);
    first(&mut cluster, N1, "old").unwrap();
    cluster.call(N3, put("new")).unwrap();
    cluster.crash(N1);
    cluster.steps(STEPS);
    assert!(matches!(again(&mut cluster, N1, "old"), Err(Error::InDoubt(_))));
    assert_eq!(value(&mut cluster, N1), "new");
}

#[test]
fn write_that_was_forwarded_to_a_node_that_died_is_not_run_by_its_next_life() {
    let (mut cluster, without) = cluster(4);
    let without = without.unwrap();
    cluster.call(without, put("before")).unwrap();
    let forwards = |cluster: &Cluster| {
        let of = |(from, to, frame): &(NodeId, NodeId, Frame)| match frame {
            Frame::Forward { again, .. } if *from == without => Some((*to, *again)),
            _ => None,
        };
        Vec::from_iter(cluster.sent.iter().filter_map(of))
    };
    cluster.sent.clear();
    cluster.deaf.push(without);
    let client = cluster.ask_with(without, put("old"), Some(ID));
    cluster.step();
    let [(to, false)] = forwards(&cluster)[..] else { panic!("{:?}", forwards(&cluster)) };
    assert_eq!(value(&mut cluster, to), "old", "it was run, and the answer lost");
    cluster.crash(to);
    cluster.deaf.clear();
    let other = cluster.nodes.keys().copied().find(|node| *node != to && *node != without).unwrap();
    cluster.call(other, put("new")).unwrap();
    assert!(matches!(cluster.wait_for(client), Err(Error::InDoubt(_))));
    let later = forwards(&cluster).split_off(1);
    assert!(later.iter().all(|forward| *forward == (to, true)), "{later:?}");
    assert_eq!(value(&mut cluster, other), "new");
}
