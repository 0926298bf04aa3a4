//! Replicas come and go by the map, and a node without one serves all the same.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use kv::view::{Member, Revision};
use kv::{Answer, NodeId, Op, ReplicaId, ShardId};
use node::wire::Frame;
use node::{Input, Work};
use placement::map::{Change, Map, Phase, Why};

use crate::cluster::{Cluster, ELECTION_STEPS};
use crate::maps::founding;

const SHARD: ShardId = ShardId(1);
/// Announcements, the question for a map and its answer: within two seconds.
const SPREAD_STEPS: usize = 80;
/// Kinds of records, as the log has them.
const KIND_MADE: u8 = 2;
const KIND_GONE: u8 = 3;
const KIND_MAP: u8 = 4;

/// Four nodes and one shard with replicas on three of them; and the one that has none.
fn cluster() -> (Cluster, NodeId) {
    let map = founding(4, 1, 3);
    let members: BTreeSet<NodeId> = map.shards[&SHARD].members.iter().map(|member| member.node).collect();
    let cluster = Cluster::of_map(&[1; 4], map);
    let without = cluster.nodes.keys().copied().find(|id| !members.contains(id));
    (cluster, without.expect("one has no replica"))
}

fn put(key: &'static str, value: &'static str) -> Op {
    Op::Put { key: key.into(), value: value.into(), deadline: None, previous: false }
}

fn value(cluster: &mut Cluster, node: NodeId, key: &'static str) -> Bytes {
    match cluster.call(node, Op::Get { key: key.into(), at: None }).unwrap().answer {
        Answer::Row(Some(row)) => row.value,
        answer => panic!("a key that was put is found: {answer:?}"),
    }
}

/// The next map, in which a node is to take the place of another in the shard.
fn changing(map: &Map, from: NodeId, to: NodeId) -> Map {
    let mut map = Map { revision: map.revision + 1, ..map.clone() };
    let row = map.shards.get_mut(&SHARD).unwrap();
    let replica = row.next_replica;
    row.next_replica = ReplicaId(replica.0 + 1);
    let mut members = row.members.clone();
    members.retain(|member| member.node != from);
    members.push(Member { node: to, replica, ..row.members[0] });
    members.sort_by_key(|member| member.node);
    let (epoch, phase, why) = (row.epoch, Phase::Copy, Why::Balance);
    map.changes.insert(SHARD, Change { to: members, epoch, phase, why });
    map
}

/// The next map, in which that is done.
fn changed(map: &Map) -> Map {
    let mut map = Map { revision: map.revision + 1, ..map.clone() };
    let change = map.changes.remove(&SHARD).unwrap();
    let row = map.shards.get_mut(&SHARD).unwrap();
    row.leader = change.to[0].node;
    (row.members, row.revision) = (change.to, Revision(row.revision.0 + 10));
    map
}

/// A node is given a map, and all hear of it.
fn spread(cluster: &mut Cluster, at: NodeId, map: Map) {
    let map = Arc::new(map);
    cluster.map = map.clone();
    cluster.input(at, Input::Map(map));
    cluster.steps(SPREAD_STEPS);
}

fn has_replica(cluster: &Cluster, node: NodeId) -> bool {
    cluster.nodes[&node].driver().replica_status(SHARD).is_some()
}

/// The kinds of the node's own records, in order, of the shard and of the node.
fn kinds(cluster: &Cluster, node: NodeId, stream: u32) -> Vec<u8> {
    let own = cluster.nodes[&node].log.iter().filter(|record| record.stream == stream && record.kind > 1);
    own.map(|record| record.kind).collect()
}

#[test]
fn node_without_a_replica_serves_clients_through_those_that_have_one() {
    let (mut cluster, without) = cluster();
    cluster.leader_of(SHARD);
    cluster.steps(4 * ELECTION_STEPS);
    assert!(!has_replica(&cluster, without));
    cluster.call(without, put("k", "v")).unwrap();
    assert_eq!(value(&mut cluster, without, "k"), "v");
    let asked = |(from, _, frame): &&(NodeId, NodeId, Frame)| {
        *from == without && matches!(frame, Frame::Forward { .. })
    };
    let asked: Vec<NodeId> = cluster.sent.iter().filter(asked).map(|(_, to, _)| *to).collect();
    let leader = cluster.leader_of(SHARD);
    assert_eq!(asked, [leader, leader], "announcements tell who leads");
}

#[test]
fn node_without_a_replica_tries_the_others_in_turn_when_the_leader_is_lost() {
    let (mut cluster, without) = cluster();
    let leader = cluster.leader_of(SHARD);
    cluster.steps(ELECTION_STEPS);
    cluster.cut(leader);
    // Nobody has announced another one yet.
    cluster.call(without, put("k", "v")).unwrap();
    let others = cluster.nodes.keys().copied().filter(|id| *id != leader && *id != without);
    let is_asked = |to: NodeId| {
        let forward = |(from, at, frame): &(NodeId, NodeId, Frame)| {
            (*from, *at) == (without, to) && matches!(frame, Frame::Forward { .. })
        };
        cluster.sent.iter().any(forward)
    };
    assert!(others.filter(|other| is_asked(*other)).count() > 0);
}

#[test]
fn map_is_asked_for_once_by_who_is_behind_and_kept_in_the_log() {
    let (mut cluster, without) = cluster();
    cluster.steps(SPREAD_STEPS);
    cluster.sent.clear();
    let map = changing(&cluster.map.clone(), NodeId(1), without);
    spread(&mut cluster, NodeId(2), map.clone());
    for node in [1, 3, 4].map(NodeId) {
        let asks = |(from, _, frame): &&(NodeId, NodeId, Frame)| *from == node && *frame == Frame::WantMap;
        assert_eq!(cluster.sent.iter().filter(asks).count(), 1, "{node}");
        assert_eq!(kinds(&cluster, node, u32::MAX), [KIND_MAP, KIND_MAP], "the first one, and this one");
    }
    // A start needs nobody to say it.
    cluster.cut(NodeId(3));
    cluster.restart(NodeId(3));
    cluster.sent.clear();
    cluster.steps(SPREAD_STEPS);
    let told = cluster.sent.iter().filter_map(|(from, _, frame)| match frame {
        Frame::Announce(announcement) if *from == NodeId(3) => Some(announcement.map),
        _ => None,
    });
    assert_eq!(BTreeSet::from_iter(told), BTreeSet::from([map.revision]));
}

#[test]
fn earlier_map_says_nothing() {
    let (mut cluster, without) = cluster();
    let first = cluster.map.clone();
    let second = changing(&first, NodeId(1), without);
    spread(&mut cluster, without, second);
    assert!(has_replica(&cluster, without));
    cluster.input(without, Input::Map(first));
    cluster.steps(2);
    assert!(has_replica(&cluster, without));
}

#[test]
fn replica_that_is_made_greets_the_others_and_is_greeted() {
    let (mut cluster, without) = cluster();
    cluster.leader_of(SHARD);
    cluster.sent.clear();
    let map = changing(&cluster.map.clone(), NodeId(1), without);
    spread(&mut cluster, NodeId(2), map);
    assert!(has_replica(&cluster, without));
    assert_eq!(kinds(&cluster, without, SHARD.0)[0], KIND_MADE, "the log knows of it before anything else");
    for other in cluster.nodes.keys().copied().filter(|other| *other != without) {
        let greets = |from: NodeId, to: NodeId, asks: bool| {
            let is_greeting = |frame: &Frame| matches!(frame, Frame::Greet { greetings, wants } if *wants == asks && greetings.len() == 1);
            cluster
                .sent
                .iter()
                .filter(|(at, by, frame)| (*at, *by) == (from, to) && is_greeting(frame))
                .count()
        };
        assert_eq!((greets(without, other, true), greets(other, without, false)), (1, 1), "{other}");
    }
}

#[test]
fn replica_that_the_map_names_no_more_goes_with_its_rows_when_the_log_says_so() {
    let (mut cluster, without) = cluster();
    let leader = cluster.leader_of(SHARD);
    cluster.call(leader, put("k", "v")).unwrap();
    cluster.steps(ELECTION_STEPS);
    let first = cluster.map.clone();
    let map = Arc::new(changed(&changing(&first, leader, without)));
    let work = cluster.turn_of(leader, Input::Map(map.clone()));
    assert!(cluster.nodes[&leader].driver().replica_status(SHARD).is_none());
    let jobs = |work: &[Work]| -> Vec<String> {
        let job = |work: &Work| match work {
            Work::Run(job) => Some(format!("{job:?}")),
            _ => None,
        };
        work.iter().filter_map(job).collect()
    };
    assert!(matches!(&jobs(&work)[..], [close] if close.starts_with("Close")), "{:?}", jobs(&work));
    let append = work.iter().find_map(|work| match work {
        Work::Append { ticket, records, .. } => {
            Some((*ticket, records.iter().map(|record| record.kind).collect()))
        }
        _ => None,
    });
    let (ticket, kinds): (u64, Vec<u8>) = append.expect("the log is to know");
    assert_eq!(kinds, [KIND_MAP, KIND_GONE]);
    let closed = Input::Done(node::Done::Closed { shard: SHARD });
    assert_eq!(jobs(&cluster.turn_of(leader, closed)), [""; 0], "it is not durable");
    let forgets = jobs(&cluster.turn_of(leader, Input::Durable { ticket }));
    assert!(forgets.len() == 2 && forgets.iter().all(|job| job.starts_with("Forget")), "{forgets:?}");
}

#[test]
fn part_that_a_dropped_replica_had_is_served_elsewhere() {
    let (mut cluster, without) = cluster();
    let leader = cluster.leader_of(SHARD);
    cluster.steps(ELECTION_STEPS);
    let map = changed(&changing(&cluster.map.clone(), leader, without));
    // Of the read nothing is known yet when the replica goes.
    let read = cluster.ask(leader, Op::Get { key: "k".into(), at: None });
    let write = cluster.ask(leader, put("k", "v"));
    cluster.input(leader, Input::Map(Arc::new(map)));
    cluster.steps(4 * ELECTION_STEPS);
    assert!(matches!(cluster.answers[&read].as_ref().unwrap().answer, Answer::Row(None)));
    cluster.answers[&write].as_ref().unwrap();
    assert!(!has_replica(&cluster, leader));
    assert_eq!(value(&mut cluster, leader, "k"), "v");
}

#[test]
fn dropped_replica_is_not_made_again_by_a_start_that_knows_an_older_map() {
    let (mut cluster, without) = cluster();
    let leader = cluster.leader_of(SHARD);
    cluster.call(leader, put("k", "v")).unwrap();
    let first = cluster.map.clone();
    cluster.input(leader, Input::Map(Arc::new(changed(&changing(&first, leader, without)))));
    cluster.steps(4);
    assert!(!has_replica(&cluster, leader));
    // The map was another core's to write, and is not durable.
    cluster.node(leader).log.retain(|record| record.kind != KIND_MAP);
    cluster.cut(leader);
    cluster.restart(leader);
    cluster.steps(2);
    assert!(!has_replica(&cluster, leader), "it would have forgotten what it had promised");
}

#[test]
fn replica_that_is_made_again_begins_with_nothing_beside_the_rows_of_the_one_before() {
    let (mut cluster, without) = cluster();
    let leader = cluster.leader_of(SHARD);
    cluster.call(leader, put("k", "v")).unwrap();
    cluster.steps(ELECTION_STEPS);
    let first = cluster.map.clone();
    let second = changed(&changing(&first, leader, without));
    let third = changing(&second, without, leader);
    cluster.input(leader, Input::Map(Arc::new(second)));
    cluster.input(leader, Input::Map(Arc::new(third)));
    cluster.step();
    let executor = cluster.nodes[&leader].executor();
    assert!(has_replica(&cluster, leader));
    assert_eq!(executor.table().applied(SHARD).index, 0, "an empty copy");
    let kinds = kinds(&cluster, leader, SHARD.0);
    assert_eq!(kinds[kinds.len() - 2..], [KIND_GONE, KIND_MADE]);
    // And so does the next start find it, while rows of the one before may be there.
    cluster.cut(leader);
    cluster.restart(leader);
    cluster.steps(2);
    assert_eq!(cluster.nodes[&leader].executor().table().applied(SHARD).index, 0);
}

#[test]
fn replica_that_another_one_took_the_place_of_while_its_node_heard_nothing_makes_room() {
    let (mut cluster, without) = cluster();
    let leader = cluster.leader_of(SHARD);
    cluster.call(leader, put("k", "v")).unwrap();
    cluster.steps(ELECTION_STEPS);
    let first = cluster.map.clone();
    let third = changing(&changed(&changing(&first, leader, without)), without, leader);
    cluster.input(leader, Input::Map(Arc::new(third)));
    cluster.step();
    assert!(has_replica(&cluster, leader));
    assert_eq!(cluster.nodes[&leader].executor().table().applied(SHARD).index, 0, "it is another one");
}

#[test]
fn checkpoint_repeats_that_a_replica_is_gone_until_a_flush_has_come_after_its_last_row() {
    let (mut cluster, without) = cluster();
    let leader = cluster.leader_of(SHARD);
    cluster.call(leader, put("k", "v")).unwrap();
    let second = changed(&changing(&cluster.map.clone(), leader, without));
    cluster.input(leader, Input::Map(Arc::new(second)));
    cluster.steps(10);
    let mut repeated = Vec::new();
    for _ in 0..3 {
        let before = kinds(&cluster, leader, SHARD.0).len();
        cluster.input(leader, Input::Checkpoint);
        cluster.steps(4);
        repeated.push(kinds(&cluster, leader, SHARD.0)[before..].to_vec());
    }
    assert_eq!(repeated, [vec![KIND_GONE], vec![], vec![]]);
}

#[test]
fn announcement_says_what_changed_and_sometimes_all() {
    let mut cluster = Cluster::new(3, 20);
    cluster.steps(8 * ELECTION_STEPS);
    cluster.sent.clear();
    cluster.steps(40 * 20);
    let counts: Vec<usize> = cluster
        .sent
        .iter()
        .filter_map(|(from, to, frame)| match frame {
            Frame::Announce(announcement) if (*from, *to) == (NodeId(1), NodeId(2)) => {
                Some(announcement.replicas.len())
            }
            _ => None,
        })
        .collect();
    assert!(counts.contains(&20) && counts.contains(&0), "{counts:?}");
    assert!(counts.iter().filter(|count| **count == 20).count() <= 2, "{counts:?}");
}
