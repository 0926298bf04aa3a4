//! Checkpoints: the log is let go when what it must keep is written again and synced, and the table is flushed.

use kv::NodeId;
use node::{Done, Input, Job, Work};

use crate::cluster::Cluster;

const NODE: NodeId = NodeId(1);

/// A node whose start is in the log.
fn settled() -> Cluster {
    let mut cluster = Cluster::new(1, 2);
    cluster.steps(1);
    cluster
}

/// Begins a checkpoint; returns its last ticket, and the name of its flush.
fn begin(cluster: &mut Cluster) -> (u64, u64) {
    let work = cluster.turn_of(NODE, Input::Checkpoint);
    let appends = work.iter().filter_map(|work| match work {
        Work::Append { ticket, checkpoint, .. } => Some((*ticket, *checkpoint)),
        _ => None,
    });
    let appends: Vec<(u64, bool)> = appends.collect();
    let begins: Vec<bool> = appends.iter().map(|(_, begins)| *begins).collect();
    assert_eq!(begins, [true, false], "it begins with the first of its appends, one a shard");
    let flush = work.iter().find_map(|work| match work {
        Work::Run(Job::Flush { token }) => Some(*token),
        _ => None,
    });
    (appends[1].0, flush.expect("a checkpoint flushes the table"))
}

/// What a turn says of the checkpoint: whether it is complete, if anything.
fn end(work: &[Work]) -> Option<bool> {
    work.iter().find_map(|work| match work {
        Work::Release => Some(true),
        Work::CheckpointFailed => Some(false),
        _ => None,
    })
}

fn flushed(token: u64, result: Result<(), String>) -> Input {
    Input::Done(Done::Flushed { token, result })
}

#[test]
fn checkpoint_is_complete_when_it_is_synced_and_flushed_in_either_order() {
    let mut cluster = settled();
    let (ticket, token) = begin(&mut cluster);
    assert_eq!(end(&cluster.turn_of(NODE, Input::Durable { ticket: ticket - 1 })), None);
    assert_eq!(end(&cluster.turn_of(NODE, Input::Durable { ticket })), None);
    assert_eq!(end(&cluster.turn_of(NODE, flushed(token, Ok(())))), Some(true));
    let (ticket, token) = begin(&mut cluster);
    assert_eq!(end(&cluster.turn_of(NODE, flushed(token, Ok(())))), None);
    assert_eq!(end(&cluster.turn_of(NODE, Input::Durable { ticket })), Some(true));
}

#[test]
fn checkpoint_whose_flush_fails_lets_nothing_go_and_another_may_begin() {
    let mut cluster = settled();
    let (ticket, token) = begin(&mut cluster);
    assert_eq!(end(&cluster.turn_of(NODE, flushed(token, Err("the disk is full".into())))), Some(false));
    assert_eq!(end(&cluster.turn_of(NODE, Input::Durable { ticket })), None);
    let (ticket, token) = begin(&mut cluster);
    cluster.turn_of(NODE, Input::Durable { ticket });
    assert_eq!(end(&cluster.turn_of(NODE, flushed(token, Ok(())))), Some(true));
}

#[test]
fn checkpoint_that_is_asked_for_twice_is_made_once() {
    let mut cluster = settled();
    begin(&mut cluster);
    let work = cluster.turn_of(NODE, Input::Checkpoint);
    assert!(!work.iter().any(|work| matches!(work, Work::Append { .. } | Work::Run(_))));
}
