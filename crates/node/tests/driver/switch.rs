//! A snapshot that came in whole is used only when the log's record of the switch is durable.

use std::collections::VecDeque;

use kv::{NodeId, ShardId};
use node::{Input, Job, Ran, SnapshotPart, Work};
use storage::Clock;

use crate::cluster::{Cluster, SentSnapshot};

const LATE: NodeId = NodeId(3);
const SHARD: ShardId = ShardId(1);
const STREAM: u64 = 1;
/// Together more than the leader keeps for nodes that are late.
const VALUES: usize = 4;

fn put(key: usize) -> kv::Op {
    let value = vec![key as u8; 1 << 20].into();
    kv::Op::Put { key: format!("k{key}").into(), value, deadline: None, previous: false }
}

/// A cluster whose leader sends a snapshot to a node that was cut off.
fn cluster_with_a_late_node() -> (Cluster, SentSnapshot) {
    let mut cluster = Cluster::new(3, 1);
    cluster.cut(LATE);
    let leader = cluster.leader();
    for key in 0..VALUES {
        cluster.call(leader, put(key)).unwrap();
    }
    cluster.mend(LATE);
    for _ in 0..100 {
        cluster.step();
        if let Some(sent) = cluster.snapshots.pop() {
            assert_eq!((sent.shard, sent.to), (SHARD, LATE));
            return (cluster, sent);
        }
    }
    panic!("the leader sends no snapshot");
}

/// What a node hands out while the log does not come to its work: the tickets of its appends, and its jobs in order, done.
#[derive(Default)]
struct HandedOut {
    appends: Vec<u64>,
    jobs: Vec<String>,
    taken: Vec<bool>,
}

impl HandedOut {
    fn loads(&self) -> Vec<&str> {
        self.jobs.iter().map(String::as_str).filter(|job| job.starts_with("Load")).collect()
    }
}

fn take_in(cluster: &mut Cluster, input: Input) -> HandedOut {
    let (mut inputs, mut out) = (VecDeque::from([input]), HandedOut::default());
    while let Some(input) = inputs.pop_front() {
        for work in cluster.turn_of(LATE, input) {
            match work {
                Work::Append { ticket, .. } => out.appends.push(ticket),
                Work::Run(job) => {
                    out.jobs.push(format!("{job:?}"));
                    inputs.push_back(Input::Done(run(cluster, job)));
                }
                Work::SnapshotTaken { taken, .. } => out.taken.push(taken),
                _ => {}
            }
        }
    }
    out
}

fn run(cluster: &mut Cluster, job: Job) -> node::Done {
    match cluster.node(LATE).executor_mut().run(job).unwrap() {
        Ran::Done(done) => done,
        Ran::Later(later) => later().unwrap(),
    }
}

fn count(cluster: &Cluster) -> usize {
    let table = cluster.nodes[&LATE].executor().table();
    let get = |key| kv::Op::Get { key: format!("k{key}").into(), at: None };
    let is_there = |key: &usize| match table.read(SHARD, &get(*key), Clock::Shard).unwrap() {
        storage::Read::Done { result, .. } => matches!(result.unwrap(), kv::Answer::Row(Some(_))),
        other => panic!("{other:?}"),
    };
    (0..VALUES).filter(is_there).count()
}

#[test]
fn snapshot_is_in_use_only_when_its_switch_is_durable() {
    let (mut cluster, SentSnapshot { from, header, mut snapshot, .. }) = cluster_with_a_late_node();
    let part = |part| Input::Snapshot { stream: STREAM, from, shard: SHARD, part };
    take_in(&mut cluster, part(SnapshotPart::Begin(header)));
    while let Some(chunk) = snapshot.next_chunk(1 << 20).unwrap() {
        assert_eq!(take_in(&mut cluster, part(SnapshotPart::Chunk(chunk))).taken, [true]);
    }
    let ended = take_in(&mut cluster, part(SnapshotPart::End));
    assert!(ended.jobs.iter().any(|job| job.starts_with("Flush")), "{:?}", ended.jobs);
    let switch = *ended.appends.last().expect("the switch is handed to the log");
    assert_eq!(ended.loads(), [""; 0], "its record is not durable");
    assert_eq!(ended.taken, [], "nor is it said to be in use");
    assert_eq!(count(&cluster), 0, "the copy from before is in use");

    let switched = take_in(&mut cluster, Input::Durable { ticket: switch });
    assert_eq!(switched.loads().len(), 1, "{:?}", switched.jobs);
    assert_eq!(switched.taken, [true], "it is in use, and said to be");
    assert_eq!(count(&cluster), VALUES);
}
