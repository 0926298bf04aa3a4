//! A shard is cut into several while clients write: none of them fails, and nothing is lost or done twice.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use kv::admin::{Answer as Told, Ask};
use kv::keyspace::Wish;
use kv::{Answer, Function, NodeId, Op, Outcome, RequestId, ShardId, Side, Version};
use node::{Input, Part, Work};
use placement::map::DEFAULT;

use crate::cluster::{Cluster, SentSnapshot};
use crate::directory::{administer, founded_of, knows, run_until};

/// Keys that are written: enough that each part has some.
const KEYS: u64 = 24;
const SHARD: ShardId = ShardId(1);
const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
/// Cores of each node.
const CORES: [usize; 3] = [1, 2, 3];

/// Somebody who appends to one key after the other, each number once.
struct Writer {
    sequence: u64,
    asked: Option<(u64, u64, u64)>,
    /// How often each key was acknowledged.
    done: BTreeMap<u64, u64>,
}

fn key(number: u64) -> Bytes {
    format!("k{number}").into()
}

fn append(number: u64) -> Op {
    let function = Function::Append { side: Side::Right, value: ".".into() };
    Op::Update { key: key(number), function }
}

impl Writer {
    fn new() -> Writer {
        Writer { sequence: 0, asked: None, done: BTreeMap::new() }
    }

    /// Takes its answer, or asks; what is lost with its node is asked again under its id.
    fn go_on(&mut self, cluster: &mut Cluster) {
        let mut again = None;
        if let Some((client, number, waited)) = &mut self.asked {
            *waited += 1;
            match cluster.answers.remove(client) {
                Some(Ok(reply)) => {
                    let done = self.done.entry(*number).or_default();
                    *done += 1;
                    assert!(matches!(reply.answer, Answer::Length(length) if length == *done), "{reply:?}");
                    self.asked = None;
                }
                Some(Err(error)) => {
                    assert!(
                        cluster.crash.is_some() || *waited > 150,
                        "a write waits and does not fail: {error}"
                    );
                    again = Some(*number);
                }
                None if *waited > 200 => again = Some(*number),
                None => return,
            }
        }
        let is_new = again.is_none();
        self.sequence += u64::from(is_new);
        let number = again.unwrap_or(self.sequence % KEYS);
        let (client, sequence) = (7, self.sequence);
        let id = RequestId { client, sequence, valid_until: Version::MAX, answered_below: sequence };
        let node = NODES[(self.sequence as usize + usize::from(!is_new)) % NODES.len()];
        self.asked = Some((cluster.ask_with(node, append(number), Some(id)), number, 0));
    }
}

/// Shards that hold clients' keys, as a node knows them.
fn shards(cluster: &Cluster, node: NodeId) -> Vec<ShardId> {
    let map = cluster.nodes[&node].cores[0].driver.map();
    map.shards_of(DEFAULT).into_iter().map(|(shard, _)| shard).collect()
}

fn split(cluster: &mut Cluster, shards: u32) {
    let ask = Ask::AlterKeyspace {
        name: DEFAULT.into(),
        wish: Wish { shards: Some(shards), ..Wish::default() },
        dry_run: false,
    };
    assert_eq!(administer(cluster, NodeId(2), ask), Ok(Told::Done));
}

fn step(cluster: &mut Cluster, writer: &mut Writer) {
    cluster.step();
    cluster.stream_snapshots();
    writer.go_on(cluster);
}

/// Writes until all nodes know so many shards.
fn write_until_split(cluster: &mut Cluster, writer: &mut Writer, count: usize) {
    for _ in 0..4000 {
        step(cluster, writer);
        if NODES.iter().all(|id| shards(cluster, *id).len() == count) {
            return;
        }
    }
    let maps = NODES.map(|id| cluster.nodes[&id].cores[0].driver.map().changes.clone());
    panic!("it is not split: {maps:?}");
}

/// Every key has what was acknowledged, and each append once.
fn check(cluster: &mut Cluster, writer: &mut Writer) {
    for _ in 0..400 {
        if writer.asked.is_none_or(|(client, ..)| cluster.answers.contains_key(&client)) {
            break;
        }
        cluster.step();
        cluster.stream_snapshots();
    }
    // What its node lost in a crash may have been done.
    if let Some((client, number, _)) = writer.asked.take() {
        let is_done = cluster.answers.remove(&client).is_some_and(|answer| answer.is_ok());
        *writer.done.entry(number).or_default() += u64::from(is_done);
    }
    for (number, done) in writer.done.clone() {
        let reply = cluster.call(NODES[number as usize % 3], Op::Get { key: key(number), at: None }).unwrap();
        let Answer::Row(Some(row)) = reply.answer else { panic!("k{number} is lost: {reply:?}") };
        let written = row.value.len() as u64;
        assert!((done..=done + 1).contains(&written), "k{number}: {written} of {done}");
    }
}

#[test]
fn shard_is_split_while_clients_write_and_they_only_wait() {
    let mut cluster = founded_of(&CORES, 1);
    let mut writer = Writer::new();
    (0..200).for_each(|_| step(&mut cluster, &mut writer));
    split(&mut cluster, 4);
    write_until_split(&mut cluster, &mut writer, 4);
    (0..200).for_each(|_| step(&mut cluster, &mut writer));
    check(&mut cluster, &mut writer);
    let parts = shards(&cluster, NodeId(1));
    assert!(parts.iter().all(|shard| shard.0 > 1), "each part has an id of its own: {parts:?}");
    // And again, while they lie on other cores.
    split(&mut cluster, 7);
    write_until_split(&mut cluster, &mut writer, 7);
    check(&mut cluster, &mut writer);
    for node in NODES {
        run_until(&mut cluster, "nothing is left of what was split", |cluster| {
            let has = |shard| cluster.nodes[&node].replica_status(ShardId(shard)).is_some();
            !has(1) && shards(cluster, node).iter().all(|shard| has(shard.0))
        });
    }
}

/// The turns of a split, and what is asked meanwhile.
fn turns_of_a_split() -> Range<usize> {
    let (mut cluster, mut writer) = (founded_of(&CORES, 1), Writer::new());
    (0..50).for_each(|_| step(&mut cluster, &mut writer));
    split(&mut cluster, 2);
    let begin = cluster.turns;
    write_until_split(&mut cluster, &mut writer, 2);
    begin..cluster.turns + 60
}

/// Nodes crash at one of many points of a split.
fn crash_in_every_place(nodes: &[NodeId]) {
    for turns in turns_of_a_split().step_by(37) {
        let (mut cluster, mut writer) = (founded_of(&CORES, 1), Writer::new());
        (0..50).for_each(|_| step(&mut cluster, &mut writer));
        split(&mut cluster, 2);
        cluster.crash = Some((turns, nodes.to_vec()));
        while cluster.crash.is_some() {
            step(&mut cluster, &mut writer);
        }
        nodes.iter().for_each(|id| knows(&mut cluster, *id));
        write_until_split(&mut cluster, &mut writer, 2);
        check(&mut cluster, &mut writer);
    }
}

#[test]
fn crash_of_a_node_at_any_point_of_a_split_loses_nothing() {
    crash_in_every_place(&NODES[..1]);
    crash_in_every_place(&NODES[2..]);
}

#[test]
fn crash_of_all_at_any_point_of_a_split_loses_nothing() {
    crash_in_every_place(&NODES);
}

#[test]
fn node_that_was_away_when_a_shard_was_split_is_brought_up_by_the_others() {
    let (mut cluster, mut writer) = (founded_of(&CORES, 1), Writer::new());
    (0..100).for_each(|_| step(&mut cluster, &mut writer));
    let away = NodeId(3);
    cluster.cut(away);
    let ask = Ask::AlterKeyspace {
        name: DEFAULT.into(),
        wish: Wish { shards: Some(2), ..Wish::default() },
        dry_run: false,
    };
    assert_eq!(administer(&mut cluster, NodeId(1), ask), Ok(Told::Done));
    run_until(&mut cluster, "the others have split it", |cluster| shards(cluster, NodeId(1)).len() == 2);
    cluster.mend(away);
    run_until(&mut cluster, "it has replicas of the parts", |cluster| {
        let has = |shard: &ShardId| {
            let status = |node: NodeId| cluster.nodes[&node].replica_status(*shard);
            let of_others = status(NodeId(1)).map(|status| status.commit);
            status(away).is_some_and(|status| status.applied.0 > 0 && Some(status.applied) == of_others)
        };
        let parts = shards(cluster, away);
        parts.len() == 2 && parts.iter().all(has)
    });
}

/// Two members have sealed a shard that is cut, and of these one cannot open the parts: the third one's are needed.
#[test]
fn replica_that_a_snapshot_brought_to_the_end_of_its_shard_gives_its_parts_their_rows() {
    let mut cluster = founded_of(&[1; 3], 1);
    let leader = cluster.leader_of(SHARD);
    let [late, away] = NODES.into_iter().filter(|id| *id != leader).collect::<Vec<_>>()[..] else {
        panic!("there are three")
    };
    cluster.cut(away);
    // More than a log keeps for who is behind.
    for number in 0..KEYS {
        let put =
            Op::Put { key: key(number), value: vec![b'.'; 100_000].into(), deadline: None, previous: false };
        cluster.call(leader, put).unwrap();
    }
    cluster.opens_late = Some(late);
    let ask = Ask::AlterKeyspace {
        name: DEFAULT.into(),
        wish: Wish { shards: Some(2), ..Wish::default() },
        dry_run: false,
    };
    assert_eq!(administer(&mut cluster, leader, ask), Ok(Told::Done));
    run_until(&mut cluster, "one of them opens its parts late", |cluster| cluster.slow == [late]);
    // It has the rows of the end before it hears that the shard is cut.
    cluster.mapless = Some(away);
    cluster.mend(away);
    let applied =
        |cluster: &Cluster, id: NodeId| cluster.nodes[&id].replica_status(SHARD).map(|it| it.applied);
    let mut snapshots = 0;
    for _ in 0..1000 {
        cluster.step();
        let comes = |sent: &SentSnapshot| (sent.to, sent.shard) == (away, SHARD);
        snapshots += cluster.snapshots.iter().filter(|sent| comes(sent)).count();
        cluster.stream_snapshots();
        if applied(&cluster, away) == applied(&cluster, leader) {
            break;
        }
    }
    assert!(snapshots > 0, "the last entries alone do not bring it to the end");
    assert_eq!(shards(&cluster, away), [SHARD], "it does not know yet");
    cluster.mapless = None;
    run_until(&mut cluster, "the parts of two members are enough", |cluster| {
        shards(cluster, away).len() == 2
    });
    for number in 0..KEYS {
        let reply = cluster.call(away, Op::Get { key: key(number), at: None }).unwrap();
        assert!(matches!(reply.answer, Answer::Row(Some(row)) if row.value.len() == 100_000), "k{number}");
    }
}

#[test]
fn node_that_stops_leaves_what_was_planned_again_in_doubt() {
    let mut cluster = Cluster::new(3, 1);
    let node = NODES[0];
    cluster.leader();
    cluster.turn_of(node, Input::Stop);
    let mut refused = |op: Op, in_doubt: bool| {
        let (level, id, charge, here) = Default::default();
        let part = Part { shard: SHARD, op, level, id, timeout_micros: 3_000_000, charge, in_doubt, here };
        let answered =
            cluster.turn_of(node, Input::Part { client: 99, part }).into_iter().find_map(|work| match work {
                Work::Answer { client: 99, result } => Some(result),
                _ => None,
            });
        answered.unwrap().unwrap_err().outcome()
    };
    assert_eq!(refused(append(1), false), Outcome::Failed);
    assert_eq!(refused(append(1), true), Outcome::InDoubt);
    assert_eq!(refused(Op::Get { key: key(1), at: None }, true), Outcome::Failed);
}
