//! The name of a dropped keyspace, from end to end: it is given again when too few nodes are left that may serve the former one.

use kv::admin::{Answer, Ask};
use kv::keyspace::Wish;
use kv::{Error, NodeId, Protocol, ShardId};

use crate::cluster::Cluster;
use crate::directory::{administer, directory_leader, founded_of, run_until};

/// Five seconds.
const STEPS: usize = 200;

fn create(name: &str, wish: Wish) -> Ask {
    Ask::CreateKeyspace { name: name.into(), wish }
}

fn drop_it(name: &str) -> Ask {
    Ask::DropKeyspace { name: name.into() }
}

/// The only shard of a keyspace, and the nodes that have it, by what a node knows.
fn shard_of(cluster: &Cluster, at: NodeId, keyspace: &str) -> Option<(ShardId, Vec<NodeId>)> {
    let map = cluster.nodes[&at].driver().map();
    let (id, shard) = *map.shards_of(keyspace).first()?;
    Some((id, shard.members.iter().map(|member| member.node).collect()))
}

/// Makes a keyspace that the node which leads the directory does not have, or has with others; its name, its shard, and the others.
fn made(cluster: &mut Cluster, leader: NodeId, wish: Wish) -> (String, ShardId, Vec<NodeId>) {
    for number in 0..5 {
        let name = format!("tea{number}");
        assert_eq!(administer(cluster, leader, create(&name, wish.clone())), Ok(Answer::Done));
        let (shard, mut nodes) = shard_of(cluster, leader, &name).unwrap();
        run_until(cluster, "it is served", |cluster| {
            nodes.iter().all(|node| cluster.nodes[node].replica_status(shard).is_some())
        });
        nodes.retain(|node| *node != leader);
        if nodes.len() == 2 || wish.replicas == Some(1) && nodes.len() == 1 {
            return (name, shard, nodes);
        }
    }
    panic!("shards are dealt out evenly");
}

#[test]
fn name_waits_for_the_node_that_has_the_only_copy_and_is_cut_off() {
    let mut cluster = founded_of(&[1; 3], 1);
    let leader = directory_leader(&mut cluster);
    let wish = Wish { protocol: Some(Protocol::Single), replicas: Some(1), ..Wish::default() };
    let (name, shard, holder) = made(&mut cluster, leader, wish);
    cluster.cut(holder[0]);
    assert_eq!(administer(&mut cluster, leader, drop_it(&name)), Ok(Answer::Done));
    cluster.steps(STEPS);
    let refused = administer(&mut cluster, leader, create(&name, Wish::default()));
    assert!(matches!(&refused, Err(Error::Unavailable(why)) if why.contains(&format!("(n{})", holder[0]))));
    assert!(cluster.nodes[&holder[0]].replica_status(shard).is_some(), "it serves it");
    cluster.mend(holder[0]);
    cluster.steps(STEPS);
    assert_eq!(administer(&mut cluster, leader, create(&name, Wish::default())), Ok(Answer::Done));
    assert!(cluster.nodes[&holder[0]].replica_status(shard).is_none());
}

#[test]
fn name_waits_for_a_majority_and_not_for_the_last_node() {
    let mut cluster = founded_of(&[1; 5], 1);
    let leader = directory_leader(&mut cluster);
    let (name, shard, others) = made(&mut cluster, leader, Wish::default());
    others.iter().for_each(|node| cluster.cut(*node));
    assert_eq!(administer(&mut cluster, leader, drop_it(&name)), Ok(Answer::Done));
    cluster.steps(STEPS);
    let refused = administer(&mut cluster, leader, create(&name, Wish::default()));
    assert!(matches!(refused, Err(Error::Unavailable(_))), "two of three are a majority: {refused:?}");
    cluster.mend(others[0]);
    cluster.steps(STEPS);
    assert_eq!(administer(&mut cluster, leader, create(&name, Wish::default())), Ok(Answer::Done));
    let has = |node: NodeId| cluster.nodes[&node].replica_status(shard).is_some();
    assert_eq!((has(others[0]), has(others[1])), (false, true));
}
