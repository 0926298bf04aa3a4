//! Shards whose writes wait for nobody, and whose primary is lost.

use kv::admin::{Answer, Ask};
use kv::cluster::Liveness;
use kv::keyspace::{Secondaries, Wish};
use kv::view::{Change, Duty, Member};
use kv::{NodeId, Protocol, ShardId};

use super::room::Room;
use crate::wire::Newcomers;

/// Three nodes, the third of which leads the directory, and a shard of a keyspace that the first one orders alone in sync.
fn begin(sync: Secondaries) -> (Room, ShardId) {
    let mut room = Room::founded(3, 1);
    room.lead(3);
    let wish = Wish { protocol: Some(Protocol::Primary), sync: Some(sync), ..Wish::default() };
    assert_eq!(room.call(3, Ask::CreateKeyspace { name: "tea".into(), wish }), Ok(Answer::Done));
    let map = room.store.map();
    let (shard, row) = map.shards_of("tea")[0];
    let by = *row.members.iter().find(|member| member.duty == Duty::Primary).unwrap();
    let duty = |node| if node == NodeId(1) { Duty::Primary } else { Duty::Learner };
    let members = row.members.iter().map(|member| Member { duty: duty(member.node), ..*member }).collect();
    let change = Change { epoch: row.epoch, revision: row.revision, by, members };
    assert_eq!(room.call(3, Ask::Revise { shard, change }), Ok(Answer::Done));
    room.pass(4_000_000);
    (room, shard)
}

/// So much the replicas on these nodes have applied, as they said last.
fn have(room: &mut Room, shard: ShardId, applied: &[(u64, u64)]) {
    let nodes: Vec<u64> = applied.iter().map(|(node, _)| *node).collect();
    room.say(shard, &nodes, 0, Newcomers::Ready);
    let told = room.seen.shards.get_mut(&shard).unwrap();
    applied.iter().for_each(|(node, applied)| told.get_mut(&NodeId(*node)).unwrap().applied = *applied);
}

fn duties(room: &Room, shard: ShardId) -> Vec<Duty> {
    room.store.map().shards[&shard].members.iter().map(|member| member.duty).collect()
}

const BEFORE: [Duty; 3] = [Duty::Primary, Duty::Learner, Duty::Learner];

fn is_seen(room: &mut Room, node: u64, state: Liveness) {
    room.seen.nodes.get_mut(&NodeId(node)).unwrap().state = Some(state);
    room.pass(2_000_000);
}

#[test]
fn primary_that_is_dead_is_followed_by_who_has_most_where_writes_wait_for_nobody() {
    let (mut room, shard) = begin(Secondaries::Count(0));
    have(&mut room, shard, &[(1, 9), (2, 7), (3, 6)]);
    is_seen(&mut room, 1, Liveness::Suspect);
    assert_eq!(duties(&room, shard), BEFORE, "it may be about to come back");
    room.seen.nodes.get_mut(&NodeId(1)).unwrap().state = Some(Liveness::Dead);
    room.pass(1_000_000);
    assert_eq!(duties(&room, shard), BEFORE, "who decides may have stood still");
    is_seen(&mut room, 1, Liveness::Dead);
    assert_eq!(duties(&room, shard), [Duty::Astray, Duty::Primary, Duty::Astray]);
    assert_eq!(room.store.map().shards[&shard].leader, NodeId(2));
    let revision = room.store.map().shards[&shard].revision;
    is_seen(&mut room, 1, Liveness::Alive);
    assert_eq!(room.store.map().shards[&shard].revision, revision, "it is done once");
}

#[test]
fn primary_that_is_dead_is_waited_for_where_writes_wait_for_others() {
    for sync in [Secondaries::All, Secondaries::Count(1)] {
        let (mut room, shard) = begin(sync);
        have(&mut room, shard, &[(1, 9), (2, 7), (3, 6)]);
        is_seen(&mut room, 1, Liveness::Dead);
        assert_eq!(duties(&room, shard), BEFORE, "{sync:?}");
    }
}

#[test]
fn primary_that_is_dead_is_not_followed_by_who_has_nothing_or_is_away() {
    let (mut room, shard) = begin(Secondaries::Count(0));
    have(&mut room, shard, &[(1, 9), (3, 0)]);
    is_seen(&mut room, 1, Liveness::Dead);
    assert_eq!(duties(&room, shard), BEFORE, "one has not said, the other has nothing");
    have(&mut room, shard, &[(1, 9), (2, 7), (3, 6)]);
    is_seen(&mut room, 2, Liveness::Suspect);
    let there = duties(&room, shard);
    assert_eq!(there, BEFORE, "most nodes are not heard of");
    is_seen(&mut room, 2, Liveness::Alive);
    assert_eq!(duties(&room, shard), [Duty::Astray, Duty::Primary, Duty::Astray]);
}
