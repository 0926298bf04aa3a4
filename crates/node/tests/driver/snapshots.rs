//! Snapshots that come in, one after another broken one.

use bytes::Bytes;
use kv::{NodeId, ShardId};
use node::{Done, Input, Job, SnapshotPart, Work};

use crate::cluster::Cluster;

const NODE: NodeId = NodeId(2);
const SHARD: ShardId = ShardId(1);

fn part(stream: u64, part: SnapshotPart) -> Input {
    Input::Snapshot { stream, from: NodeId(1), shard: SHARD, part }
}

fn begin(stream: u64) -> Input {
    part(stream, SnapshotPart::Begin(Bytes::from_static(b"header")))
}

fn installed() -> Input {
    Input::Done(Done::Installed { shard: SHARD, generation: 1, result: Ok(()) })
}

/// The word on each piece of a snapshot, by stream.
fn words(work: &[Work]) -> Vec<(u64, bool)> {
    let word = |work: &Work| match work {
        Work::SnapshotTaken { stream, taken } => Some((*stream, *taken)),
        _ => None,
    };
    work.iter().filter_map(word).collect()
}

fn flush(work: &[Work]) -> u64 {
    let token = |work: &Work| match work {
        Work::Run(Job::Flush { token }) => Some(*token),
        _ => None,
    };
    work.iter().find_map(token).expect("what came in whole is flushed")
}

#[test]
fn flush_of_a_broken_stream_says_nothing_of_the_next_one() {
    let mut cluster = Cluster::new(3, 1);
    cluster.turn_of(NODE, begin(1));
    assert_eq!(words(&cluster.turn_of(NODE, installed())), [(1, true)]);
    let token = flush(&cluster.turn_of(NODE, part(1, SnapshotPart::End)));
    cluster.turn_of(NODE, part(1, SnapshotPart::Broken));
    cluster.turn_of(NODE, begin(2));
    assert_eq!(words(&cluster.turn_of(NODE, installed())), [(2, true)]);
    let work = cluster.turn_of(NODE, Input::Done(Done::Flushed { token, result: Ok(()) }));
    assert_eq!(words(&work), [], "only its beginning has come");
}

#[test]
fn piece_of_a_broken_stream_that_is_done_late_is_not_taken_for_the_next_ones() {
    let mut cluster = Cluster::new(3, 1);
    cluster.turn_of(NODE, begin(1));
    cluster.turn_of(NODE, part(1, SnapshotPart::Broken));
    cluster.turn_of(NODE, begin(2));
    assert_eq!(words(&cluster.turn_of(NODE, installed())), []);
    assert_eq!(words(&cluster.turn_of(NODE, installed())), [(2, true)]);
}
