//! A keyspace goes on where writes have no order, and comes back, while clients write: what was acknowledged is there, whoever crashes.

use std::collections::BTreeMap;

use bytes::Bytes;
use kv::admin::{Answer as Told, Ask};
use kv::keyspace::{Votes, Weights, Wish};
use kv::{Answer, Error, NodeId, Op, Protocol, RequestId, ShardId, Version};
use node::Part;
use placement::map::DEFAULT;

use crate::cluster::Cluster;
use crate::directory::{administer, founded_of, knows};

/// Keys that are written.
const KEYS: u64 = 12;
const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
/// Cores of each node.
const CORES: [usize; 3] = [1, 2, 1];
/// Turns that a change of protocol may take.
const STEPS_MAX: usize = 6000;

/// Somebody who puts rising numbers under one key after the other.
struct Writer {
    sequence: u64,
    /// Client, and since when it waits.
    asked: Option<(u64, u64)>,
    /// Of each key the last number that was acknowledged, and the last that was asked for.
    keys: BTreeMap<u64, (u64, u64)>,
    /// Its node may lose what it has asked.
    may_fail: bool,
    /// Whom it asks in turn.
    nodes: Vec<NodeId>,
    /// How many were acknowledged.
    done: u64,
}

fn key(number: u64) -> Bytes {
    format!("k{number}").into()
}

impl Writer {
    fn new() -> Writer {
        Writer {
            sequence: 0,
            asked: None,
            keys: BTreeMap::new(),
            may_fail: false,
            nodes: NODES.to_vec(),
            done: 0,
        }
    }

    /// Takes its answer, or asks for the next.
    fn go_on(&mut self, cluster: &mut Cluster) {
        if let Some((client, waited)) = &mut self.asked {
            *waited += 1;
            let is_lost = self.may_fail && *waited > 300;
            match cluster.answers.remove(client) {
                Some(Ok(_)) => {
                    self.keys.get_mut(&(self.sequence % KEYS)).expect("it was asked for").0 = self.sequence;
                    self.done += 1;
                }
                // The end of an epoch may come before the end of a write.
                Some(Err(Error::InDoubt(_))) => {}
                Some(Err(error)) => assert!(self.may_fail, "a write waits and does not fail: {error}"),
                None if is_lost => {}
                None => return,
            }
            self.asked = None;
        }
        self.sequence += 1;
        let (client, sequence) = (7, self.sequence);
        let id = RequestId { client, sequence, valid_until: Version::MAX, answered_below: sequence };
        self.keys.entry(sequence % KEYS).or_default().1 = sequence;
        let value = sequence.to_string().into();
        let put = Op::Put { key: key(sequence % KEYS), value, deadline: None, previous: false };
        let node = self.nodes[sequence as usize % self.nodes.len()];
        self.asked = Some((cluster.ask_with(node, put, Some(id)), 0));
    }

    /// Every key has what was acknowledged last, or what was asked for later and is in doubt.
    fn check(&mut self, cluster: &mut Cluster) {
        for &node in &self.nodes {
            for (number, (done, asked)) in &self.keys {
                let reply = cluster.call(node, Op::Get { key: key(*number), at: None }).unwrap();
                let found = match reply.answer {
                    Answer::Row(Some(row)) => String::from_utf8_lossy(&row.value).parse().unwrap(),
                    _ => 0,
                };
                assert!(
                    (*done..=*asked).contains(&found),
                    "k{number} at {node}: {found}, not {done} to {asked}"
                );
            }
        }
    }
}

fn wish(protocol: Protocol) -> Wish {
    Wish { protocol: Some(protocol), ..Wish::default() }
}

fn alter(cluster: &mut Cluster, wish: Wish) {
    let ask = Ask::AlterKeyspace { name: DEFAULT.into(), wish, dry_run: false };
    assert_eq!(administer(cluster, NodeId(2), ask), Ok(Told::Done));
}

fn step(cluster: &mut Cluster, writer: &mut Writer) {
    cluster.step();
    cluster.stream_snapshots();
    writer.go_on(cluster);
}

/// The shards of the keyspace as a node knows them, if all are under a protocol and none changes.
fn gone_over(cluster: &Cluster, node: NodeId, to: Protocol) -> Option<Vec<ShardId>> {
    let map = cluster.nodes[&node].cores[0].driver.map();
    let shards = map.shards_of(DEFAULT);
    let is_done = shards.iter().all(|(id, shard)| shard.protocol == to && !map.changes.contains_key(id));
    is_done.then(|| shards.into_iter().map(|(id, _)| id).collect())
}

/// Writes until the keyspace is under a protocol at all nodes.
fn write_until(cluster: &mut Cluster, writer: &mut Writer, to: Protocol) {
    for _ in 0..STEPS_MAX {
        step(cluster, writer);
        if writer.nodes.iter().all(|id| gone_over(cluster, *id, to).is_some()) {
            return;
        }
    }
    let maps = NODES.map(|id| cluster.nodes[&id].cores[0].driver.map().changes.clone());
    panic!("it is not under {to}: {maps:?}");
}

#[test]
fn keyspace_goes_to_quorum_while_clients_write_and_they_only_wait() {
    let (mut cluster, mut writer) = (founded_of(&CORES, 2), Writer::new());
    (0..100).for_each(|_| step(&mut cluster, &mut writer));
    alter(&mut cluster, wish(Protocol::Quorum));
    write_until(&mut cluster, &mut writer, Protocol::Quorum);
    let before = writer.done;
    (0..200).for_each(|_| step(&mut cluster, &mut writer));
    assert!(writer.done > before, "it is written to");
    writer.check(&mut cluster);
}

#[test]
fn weights_are_those_that_were_wished_in_the_order_of_nodes() {
    let (mut cluster, mut writer) = (founded_of(&CORES, 1), Writer::new());
    let weights = Some(Weights::new(&[1, 2, 1]).unwrap());
    alter(&mut cluster, Wish { weights, read: Some(2), write: Some(3), ..wish(Protocol::Quorum) });
    write_until(&mut cluster, &mut writer, Protocol::Quorum);
    let map = cluster.nodes[&NodeId(1)].cores[0].driver.map();
    let (shard, row) = map.shards_of(DEFAULT)[0];
    assert_eq!(row.members.iter().map(|member| member.weight).collect::<Vec<_>>(), [1, 2, 1]);
    assert_eq!(map.votes_of(shard, 4), Votes { read: 2, write: 3 });
}

/// Nodes crash at one of many points of a change of protocol.
fn crash_in_every_place(path: [Protocol; 2], nodes: &[NodeId]) {
    let begin = || {
        let (mut cluster, mut writer) = (founded_of(&CORES, 1), Writer::new());
        writer.may_fail = true;
        if path[0] != Protocol::Raft {
            alter(&mut cluster, wish(path[0]));
            write_until(&mut cluster, &mut writer, path[0]);
        }
        (0..50).for_each(|_| step(&mut cluster, &mut writer));
        alter(&mut cluster, wish(path[1]));
        (cluster, writer)
    };
    let (mut cluster, mut writer) = begin();
    let first = cluster.turns;
    write_until(&mut cluster, &mut writer, path[1]);
    for turns in (first..cluster.turns + 60).step_by(131) {
        let (mut cluster, mut writer) = begin();
        cluster.crash = Some((turns, nodes.to_vec()));
        while cluster.crash.is_some() {
            step(&mut cluster, &mut writer);
        }
        nodes.iter().for_each(|id| knows(&mut cluster, *id));
        write_until(&mut cluster, &mut writer, path[1]);
        writer.check(&mut cluster);
    }
}

#[test]
fn crash_at_any_point_of_a_change_to_quorum_loses_nothing() {
    crash_in_every_place([Protocol::Raft, Protocol::Quorum], &NODES[..1]);
    crash_in_every_place([Protocol::Raft, Protocol::Quorum], &NODES);
}

#[test]
fn keyspace_comes_back_from_quorum_while_clients_write_and_they_only_wait() {
    let (mut cluster, mut writer) = (founded_of(&CORES, 2), Writer::new());
    for other in [Protocol::Raft, Protocol::Primary, Protocol::TwoPhase, Protocol::Single] {
        go(&mut cluster, &mut writer, Protocol::Quorum);
        go(&mut cluster, &mut writer, other);
    }
    go(&mut cluster, &mut writer, Protocol::Quorum);
}

/// A keyspace goes on under a protocol, and is written to and read there.
fn go(cluster: &mut Cluster, writer: &mut Writer, to: Protocol) {
    let replicas = Some(if to == Protocol::Single { 1 } else { 3 });
    alter(cluster, Wish { replicas, ..wish(to) });
    write_until(cluster, writer, to);
    let before = writer.done;
    (0..150).for_each(|_| step(cluster, writer));
    assert!(writer.done > before, "it is written to under {to}");
    writer.check(cluster);
}

#[test]
fn crash_at_any_point_of_a_change_from_quorum_loses_nothing() {
    crash_in_every_place([Protocol::Quorum, Protocol::Raft], &NODES[..1]);
    crash_in_every_place([Protocol::Quorum, Protocol::Raft], &NODES);
}

#[test]
fn keyspace_comes_back_from_quorum_without_a_node_that_is_dead() {
    let (mut cluster, mut writer) = (founded_of(&CORES, 1), Writer::new());
    alter(&mut cluster, wish(Protocol::Quorum));
    write_until(&mut cluster, &mut writer, Protocol::Quorum);
    (0..60).for_each(|_| step(&mut cluster, &mut writer));
    let away = NODES[2];
    (writer.may_fail, writer.nodes) = (true, NODES[..2].to_vec());
    cluster.cut(away);
    (0..60).for_each(|_| step(&mut cluster, &mut writer));
    alter(&mut cluster, wish(Protocol::Raft));
    write_until(&mut cluster, &mut writer, Protocol::Raft);
    writer.check(&mut cluster);
    // It comes back as one that has nothing, and what it had alone is nowhere.
    cluster.mend(away);
    writer.nodes = NODES.to_vec();
    write_until(&mut cluster, &mut writer, Protocol::Raft);
    (0..200).for_each(|_| step(&mut cluster, &mut writer));
    writer.check(&mut cluster);
    let map = cluster.nodes[&away].cores[0].driver.map();
    assert_eq!(map.shards_of(DEFAULT)[0].1.members.len(), NODES.len());
}

#[test]
fn write_that_comes_again_after_a_change_from_quorum_is_in_doubt_and_brings_nothing_old_back() {
    let (mut cluster, mut writer) = (founded_of(&CORES, 1), Writer::new());
    go(&mut cluster, &mut writer, Protocol::Quorum);
    let id = RequestId { client: 9, sequence: 1, valid_until: Version::MAX, answered_below: 1 };
    let put = |value: &str| Op::Put {
        key: "k".into(),
        value: value.to_owned().into(),
        deadline: None,
        previous: false,
    };
    let first = cluster.ask_with(NODES[0], put("old"), Some(id));
    cluster.wait_for(first).unwrap();
    cluster.call(NODES[1], put("new")).unwrap();
    go(&mut cluster, &mut writer, Protocol::Raft);
    // A node that was started since knows nothing of the change.
    cluster.crash(NODES[0]);
    knows(&mut cluster, NODES[0]);
    for node in NODES {
        let again = cluster.ask_part(node, put("old"), |part| Part { id: Some(id), in_doubt: true, ..part });
        assert!(matches!(cluster.wait_for(again), Err(Error::InDoubt(_))), "at {node}");
        let reply = cluster.call(node, Op::Get { key: "k".into(), at: None }).unwrap();
        assert!(matches!(reply.answer, Answer::Row(Some(row)) if row.value == "new"), "at {node}");
    }
}
