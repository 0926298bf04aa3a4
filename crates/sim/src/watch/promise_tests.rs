//! Each promise that nodes give each other is watched: what breaks it is seen.

use std::collections::BTreeSet;

use kv::cluster::Role;
use kv::view::Duty;
use kv::{ReplicaId, Term};
use replication::MemberStatus;

use super::messages::Kind;
use super::*;

const SHARD: ShardId = ShardId(1);

fn message(kind: Kind, term: u64, index: u64, round: &'static str) -> Message {
    Message {
        kind,
        from: ReplicaId(0),
        to: ReplicaId(0),
        term: Term(term),
        index: Index(index),
        reject: false,
        forced: false,
        round: Bytes::from(round),
    }
}

/// Replicas have the numbers of their nodes.
fn sent(watch: &mut Watch, node: u16, to: u16, message: &Message, now: u64) {
    let message = &Message { from: ReplicaId(node), to: ReplicaId(to), ..message.clone() };
    let (node, to) = (NodeId(node.into()), NodeId(to.into()));
    watch.see(&Seen::Sent { node, to, shard: SHARD, message, now, clock: now });
}

fn entry(watch: &mut Watch, node: u64, index: u64, term: u64) {
    let (record, body) = (Record::Entry(Position::new(index, term)), &Bytes::from_static(b"x"));
    watch.see(&Seen::Record { node: NodeId(node), shard: SHARD, record, body });
}

fn status(watch: &mut Watch, node: u64, role: Role, [term, last, durable, commit]: [u64; 4]) {
    let [last, durable, commit] = [last, durable, commit].map(Index);
    let member = MemberStatus {
        node: NodeId(node),
        replica: ReplicaId(1),
        duty: Duty::Voter,
        matched: durable,
        snapshot: false,
        ready: true,
        log_bytes: (0, 0),
    };
    let status = &Status {
        role,
        leader: None,
        term: Term(term),
        last,
        durable,
        commit,
        applied: Index::ZERO,
        members: vec![member],
        wants_the_gone: false,
        lease_reads: 0,
        counts: Default::default(),
    };
    watch.see(&Seen::Status { node: NodeId(node), shard: SHARD, status });
}

fn appended(watch: &mut Watch, node: u64, ticket: u64) {
    watch.see(&Seen::Appended { node: NodeId(node), ticket });
}

fn synced(watch: &mut Watch, node: u64, ticket: u64) {
    watch.see(&Seen::Durable { node: NodeId(node), ticket });
}

/// Node 1 starts again, and its log has one entry, of term 1.
fn restarted_with_one_entry(watch: &mut Watch) {
    watch.see(&Seen::Ended { node: NodeId(1) });
    watch.see(&Seen::Recovering { node: NodeId(1) });
    entry(watch, 1, 1, 1);
    let applied = &BTreeMap::from([(SHARD, Applied::default())]);
    watch.see(&Seen::Recovered { node: NodeId(1), applied, now: 0 });
    status(watch, 1, Role::Follower, [1, 1, 1, 0]);
}

#[track_caller]
fn assert_broken(watch: &mut Watch, name: &str) {
    let broken = watch.take_broken();
    assert!(broken.len() == 1 && broken[0].starts_with(name), "{broken:?}");
}

#[test]
fn acknowledgement_before_the_sync_is_seen() {
    let mut watch = Watch::new();
    entry(&mut watch, 1, 1, 0);
    appended(&mut watch, 1, 7);
    sent(&mut watch, 1, 2, &message(Kind::AppendResponse, 0, 1, ""), 0);
    assert_broken(&mut watch, "durable before visible");
    status(&mut watch, 1, Role::Follower, [0, 1, 1, 0]);
    assert_broken(&mut watch, "durable before visible");
    synced(&mut watch, 1, 7);
    sent(&mut watch, 1, 2, &message(Kind::AppendResponse, 0, 1, ""), 0);
    status(&mut watch, 1, Role::Follower, [0, 1, 1, 0]);
    assert_eq!(watch.take_broken(), [""; 0]);
    sent(&mut watch, 1, 2, &message(Kind::VoteResponse, 3, 0, ""), 0);
    assert_broken(&mut watch, "durable before visible");
}

#[test]
fn snapshot_that_a_checkpoint_writes_again_takes_no_entry_back() {
    let mut watch = Watch::new();
    let snapshot = |watch: &mut Watch| {
        let (record, body) = (Record::Snapshot(Position::new(5, 2)), &Bytes::new());
        watch.see(&Seen::Record { node: NodeId(1), shard: SHARD, record, body });
    };
    snapshot(&mut watch);
    appended(&mut watch, 1, 1);
    entry(&mut watch, 1, 6, 2);
    appended(&mut watch, 1, 2);
    let (record, body) = (Record::Base(Position::new(3, 1)), &Bytes::new());
    watch.see(&Seen::Record { node: NodeId(1), shard: SHARD, record, body });
    snapshot(&mut watch);
    entry(&mut watch, 1, 6, 2);
    appended(&mut watch, 1, 3);
    synced(&mut watch, 1, 1);
    status(&mut watch, 1, Role::Follower, [0, 6, 6, 5]);
    assert_broken(&mut watch, "durable before visible");
    synced(&mut watch, 1, 2);
    status(&mut watch, 1, Role::Follower, [0, 6, 6, 5]);
    assert_eq!(watch.take_broken(), [""; 0]);
}

#[test]
fn acknowledgement_of_entries_that_a_later_term_replaced_may_be_late() {
    let mut watch = Watch::new();
    let record = Record::State { term: Term(1), vote: ReplicaId(0), commit: Index::ZERO };
    watch.see(&Seen::Record { node: NodeId(1), shard: SHARD, record, body: &Bytes::new() });
    (1..=2).for_each(|index| entry(&mut watch, 1, index, 1));
    appended(&mut watch, 1, 1);
    entry(&mut watch, 1, 1, 2);
    appended(&mut watch, 1, 2);
    sent(&mut watch, 1, 2, &message(Kind::AppendResponse, 1, 2, ""), 0);
    assert_broken(&mut watch, "durable before visible");
    synced(&mut watch, 1, 1);
    sent(&mut watch, 1, 2, &message(Kind::AppendResponse, 1, 2, ""), 0);
    assert_eq!(watch.take_broken(), [""; 0]);
    sent(&mut watch, 1, 3, &message(Kind::AppendResponse, 2, 1, ""), 0);
    assert_broken(&mut watch, "durable before visible");
}

#[test]
fn snapshot_whose_record_was_not_synced_need_not_be_there_after_a_start() {
    let mut watch = Watch::new();
    entry(&mut watch, 1, 1, 1);
    appended(&mut watch, 1, 1);
    synced(&mut watch, 1, 1);
    let (record, body) = (Record::Snapshot(Position::new(1, 2)), &Bytes::new());
    watch.see(&Seen::Record { node: NodeId(1), shard: SHARD, record, body });
    appended(&mut watch, 1, 2);
    restarted_with_one_entry(&mut watch);
    assert_eq!(watch.take_broken(), [""; 0]);
}

#[test]
fn durable_entries_that_are_gone_after_a_start_are_seen() {
    let mut watch = Watch::new();
    (1..=2).for_each(|index| entry(&mut watch, 1, index, 1));
    appended(&mut watch, 1, 1);
    synced(&mut watch, 1, 1);
    restarted_with_one_entry(&mut watch);
    assert_broken(&mut watch, "what is durable survives");
}

#[test]
fn election_under_a_lease_is_seen_also_after_a_restart() {
    let mut watch = Watch::new();
    sent(&mut watch, 1, 2, &message(Kind::Heartbeat, 0, 0, "round"), 1000);
    sent(&mut watch, 2, 1, &message(Kind::HeartbeatResponse, 0, 0, "round"), 2000);
    sent(&mut watch, 3, 2, &message(Kind::PreVote, 0, 0, ""), 3000);
    assert!(watch.take_seen().contains(&"an election was asked for under a lease"));
    sent(&mut watch, 2, 3, &message(Kind::PreVoteResponse, 0, 0, ""), 3000);
    assert_broken(&mut watch, "confirmed leases are kept");
    sent(&mut watch, 2, 3, &message(Kind::PreVoteResponse, 0, 0, ""), 500_000);
    assert_eq!(watch.take_broken(), [""; 0]);
    let applied = &BTreeMap::from([(SHARD, Applied::default())]);
    watch.see(&Seen::Recovered { node: NodeId(2), applied, now: 600_000 });
    sent(&mut watch, 2, 3, &message(Kind::PreVoteResponse, 0, 0, ""), 700_000);
    assert_broken(&mut watch, "confirmed leases are kept");
}

#[test]
fn who_is_alone_by_its_log_may_vote_under_a_lease() {
    let mut watch = Watch::new();
    let applied = &BTreeMap::from([(SHARD, Applied::default())]);
    watch.see(&Seen::Recovered { node: NodeId(2), applied, now: 0 });
    let members = |nodes: &[NodeId]| kv::view::View::of(Epoch(1), nodes);
    for (nodes, is_broken) in
        [(&[NodeId(2)][..], false), (&[NodeId(2), NodeId(3)], true), (&[NodeId(3)], true)]
    {
        let at = Position::new(1, 1);
        let body = &replication::inherited(kv::Protocol::Raft, members(nodes), at);
        watch.see(&Seen::Record { node: NodeId(2), shard: SHARD, record: Record::Base(at), body });
        sent(&mut watch, 2, 3, &message(Kind::PreVoteResponse, 0, 0, ""), 1000);
        assert_eq!(!watch.take_broken().is_empty(), is_broken, "{nodes:?}");
    }
}

#[test]
fn heartbeats_too_near_to_each_other_are_seen() {
    let mut watch = Watch::new();
    for now in [0, 100_000, 150_000] {
        sent(&mut watch, 1, 2, &message(Kind::Heartbeat, 0, 0, ""), now);
    }
    assert_eq!(watch.take_broken(), [""; 0]);
    sent(&mut watch, 1, 2, &message(Kind::Heartbeat, 0, 0, ""), 151_000);
    assert_broken(&mut watch, "ticks keep to the clock");
}

#[test]
fn commit_of_an_earlier_term_is_seen() {
    let mut watch = Watch::new();
    entry(&mut watch, 1, 1, 1);
    entry(&mut watch, 1, 2, 2);
    status(&mut watch, 1, Role::Leader, [2, 2, 0, 0]);
    status(&mut watch, 1, Role::Leader, [2, 2, 0, 1]);
    assert_broken(&mut watch, "a leader commits entries of its own term");
    status(&mut watch, 1, Role::Leader, [2, 2, 0, 2]);
    assert_eq!(watch.take_broken(), [""; 0]);
}

#[test]
fn vote_of_a_wiped_node_that_is_not_whole_is_seen() {
    let mut watch = Watch::new();
    entry(&mut watch, 1, 1, 1);
    status(&mut watch, 1, Role::Leader, [1, 1, 0, 0]);
    status(&mut watch, 1, Role::Leader, [1, 1, 0, 1]);
    watch.see(&Seen::Wiped { node: NodeId(2) });
    sent(&mut watch, 2, 3, &message(Kind::VoteResponse, 0, 0, ""), 0);
    let broken = watch.take_broken();
    assert!(
        broken.iter().any(|why| why.starts_with("who lost its folder votes when it is whole")),
        "{broken:?}"
    );
}

#[test]
fn read_is_proven_by_a_round_or_a_lease_that_was_not_given_away() {
    let (mut proofs, one, two) = (Proofs::default(), NodeId(1), NodeId(2));
    let begins = |proofs: &mut Proofs, round, now| {
        let message = &message(Kind::Heartbeat, 1, 0, round);
        proofs.see(&Seen::Sent { node: one, to: two, shard: SHARD, message, now, clock: now }, &|by| {
            by.len() >= 2
        })
    };
    let confirms = |proofs: &mut Proofs, round, now| {
        let message = &message(Kind::HeartbeatResponse, 1, 0, round);
        proofs
            .see(&Seen::Heard { node: one, from: two, shard: SHARD, message, now }, &|by| by.len() >= 2)
            .unwrap();
    };
    begins(&mut proofs, "a", 1000).unwrap();
    assert_eq!(proofs.of_read(one, SHARD, 500, 2000), None);
    confirms(&mut proofs, "a", 2000);
    assert_eq!(proofs.of_read(one, SHARD, 500, 2000), Some(Proof::Round));
    assert_eq!(proofs.of_read(one, SHARD, 1500, 2000), Some(Proof::Lease));
    assert_eq!(proofs.of_read(one, SHARD, 1500, 500_000), None);
    assert!(begins(&mut proofs, "a", 3000).is_err(), "it was confirmed, and has the same name");
    let message = &message(Kind::TimeoutNow, 1, 0, "");
    proofs
        .see(&Seen::Sent { node: one, to: two, shard: SHARD, message, now: 0, clock: 0 }, &|by| by.len() >= 2)
        .unwrap();
    begins(&mut proofs, "b", 4000).unwrap();
    confirms(&mut proofs, "b", 4100);
    assert_eq!(proofs.of_read(one, SHARD, 4050, 4200), None);
}

#[test]
fn round_that_those_who_count_now_have_not_confirmed_may_be_asked_for_until_they_have() {
    let (mut proofs, one, two, three) = (Proofs::default(), NodeId(1), NodeId(2), NodeId(3));
    let (asks, confirms) =
        (&message(Kind::Heartbeat, 1, 0, "a"), &message(Kind::HeartbeatResponse, 1, 0, "a"));
    let asks = |now| Seen::Sent { node: one, to: two, shard: SHARD, message: asks, now, clock: now };
    let hears = |from, now| Seen::Heard { node: one, from, shard: SHARD, message: confirms, now };
    let before = |by: &BTreeSet<NodeId>| by.contains(&two);
    let since = |by: &BTreeSet<NodeId>| by.contains(&two) && by.contains(&three);
    proofs.see(&asks(1000), &before).unwrap();
    proofs.see(&hears(two, 2000), &before).unwrap();
    proofs.see(&asks(3000), &since).unwrap();
    // In one turn it asks once more, and then hears of the answer that was missing.
    proofs.see(&hears(three, 4000), &since).unwrap();
    proofs.see(&asks(4000), &since).unwrap();
    assert!(proofs.see(&asks(5000), &since).is_err(), "it was confirmed, and has the same name");
}

#[test]
fn round_is_confirmed_by_those_who_count_since_then() {
    let (mut proofs, one, two) = (Proofs::default(), NodeId(1), NodeId(2));
    let of_three = |by: &BTreeSet<NodeId>| by.len() >= 2 && by.contains(&NodeId(3));
    let (asks, confirms) =
        (&message(Kind::Heartbeat, 1, 0, "a"), &message(Kind::HeartbeatResponse, 1, 0, "a"));
    let sent = |now| Seen::Sent { node: one, to: two, shard: SHARD, message: asks, now, clock: now };
    proofs.see(&sent(1000), &of_three).unwrap();
    proofs
        .see(&Seen::Heard { node: one, from: two, shard: SHARD, message: confirms, now: 2000 }, &of_three)
        .unwrap();
    proofs.recount(one, SHARD, Term(1), 2500, &of_three);
    assert_eq!(proofs.of_read(one, SHARD, 500, 3000), None, "who has answered does not count");
    proofs.recount(one, SHARD, Term(2), 2500, &|by| by.contains(&two));
    assert_eq!(proofs.of_read(one, SHARD, 500, 3000), None, "it was of another term");
    proofs.recount(one, SHARD, Term(1), 3000, &|by| by.contains(&two));
    assert_eq!(proofs.of_read(one, SHARD, 500, 3000), Some(Proof::Round));
    let again = sent(4000);
    assert!(proofs.see(&again, &|by| by.contains(&two)).is_err(), "it was confirmed, and has the same name");
}
