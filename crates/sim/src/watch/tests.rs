//! Each invariant sees what breaks it, and nothing else.

use kv::cluster::Role;
use kv::{Epoch, Level, Protocol, Receipt, ReplicaId, Row, Term};

use super::*;

const SHARD: ShardId = ShardId(1);

fn status(role: Role, term: u64, last: u64, commit: u64, applied: u64) -> Status {
    let [last, commit, applied] = [last, commit, applied].map(Index);
    Status {
        role,
        leader: None,
        term: Term(term),
        last,
        durable: Index::ZERO,
        commit,
        applied,
        members: vec![],
        wants_the_gone: false,
        lease_reads: 0,
        counts: Default::default(),
    }
}

fn see_status(watch: &mut Watch, node: u64, status: Status) {
    watch.see(&Seen::Status { node: NodeId(node), shard: SHARD, status: &status });
}

fn entry(watch: &mut Watch, node: u64, index: u64, term: u64, body: &'static str) {
    let record = Record::Entry(Position::new(index, term));
    watch.see(&Seen::Record { node: NodeId(node), shard: SHARD, record, body: &Bytes::from(body) });
}

fn apply(watch: &mut Watch, node: u64, index: u64, entry: &'static str) {
    let at = Position::new(index, 1);
    watch.see(&Seen::Apply { node: NodeId(node), shard: SHARD, at, entry: &Bytes::from(entry) });
}

fn version(number: i64) -> Version {
    Version::from_i64(number).unwrap()
}

#[track_caller]
fn assert_broken(watch: &mut Watch, name: &str) {
    let broken = watch.take_broken();
    assert!(broken.len() == 1 && broken[0].starts_with(name), "{broken:?}");
}

#[test]
fn second_leader_of_a_term_is_seen() {
    let mut watch = Watch::new();
    see_status(&mut watch, 1, status(Role::Leader, 2, 0, 0, 0));
    see_status(&mut watch, 2, status(Role::Leader, 3, 0, 0, 0));
    see_status(&mut watch, 1, status(Role::Leader, 2, 0, 0, 0));
    assert_eq!(watch.take_broken(), [""; 0]);
    see_status(&mut watch, 3, status(Role::Leader, 2, 0, 0, 0));
    assert_broken(&mut watch, "one leader per term");
}

#[test]
fn second_vote_in_a_term_is_seen_also_after_a_restart() {
    let mut watch = Watch::new();
    let vote = |watch: &mut Watch, term, vote| {
        let (record, body) =
            (Record::State { term: Term(term), vote: ReplicaId(vote), commit: Index::ZERO }, &Bytes::new());
        watch.see(&Seen::Record { node: NodeId(1), shard: SHARD, record, body });
    };
    vote(&mut watch, 1, 0);
    vote(&mut watch, 1, 2);
    vote(&mut watch, 2, 3);
    watch.see(&Seen::Recovering { node: NodeId(1) });
    vote(&mut watch, 2, 3);
    assert_eq!(watch.take_broken(), [""; 0]);
    vote(&mut watch, 2, 1);
    assert_broken(&mut watch, "one vote per term");
}

#[test]
fn logs_that_do_not_match_are_seen() {
    let mut watch = Watch::new();
    entry(&mut watch, 1, 1, 1, "a");
    entry(&mut watch, 1, 2, 2, "b");
    entry(&mut watch, 2, 1, 1, "a");
    entry(&mut watch, 2, 2, 1, "an entry that is never agreed on");
    assert_eq!(watch.take_broken(), [""; 0]);
    entry(&mut watch, 3, 1, 1, "another");
    assert_broken(&mut watch, "log matching");
    entry(&mut watch, 3, 1, 2, "c");
    entry(&mut watch, 3, 2, 2, "b");
    assert_broken(&mut watch, "log matching");
}

#[test]
fn entry_that_its_node_alone_had_and_lost_may_be_another_one_in_its_next_life() {
    let mut watch = Watch::new();
    let node = NodeId(1);
    let restart = |watch: &mut Watch, terms: &[u64]| {
        watch.see(&Seen::Recovering { node });
        (1..).zip(terms).for_each(|(index, term)| entry(watch, 1, index, *term, "x"));
        watch.see(&Seen::Recovered { node, applied: &BTreeMap::new(), now: 1 });
    };
    entry(&mut watch, 1, 1, 1, "x");
    entry(&mut watch, 1, 2, 1, "x");
    // It was to be in the place of another, behind which there is nothing; that one is there again.
    entry(&mut watch, 1, 2, 2, "lost");
    entry(&mut watch, 1, 3, 2, "lost");
    restart(&mut watch, &[1, 1]);
    entry(&mut watch, 1, 2, 2, "y");
    entry(&mut watch, 1, 3, 2, "y");
    assert_eq!(watch.take_broken(), [""; 0]);
    // Another has it.
    entry(&mut watch, 2, 1, 1, "x");
    entry(&mut watch, 2, 2, 2, "y");
    restart(&mut watch, &[1, 1]);
    entry(&mut watch, 1, 2, 2, "z");
    assert_broken(&mut watch, "log matching");
}

#[test]
fn leader_that_lacks_a_committed_entry_is_seen() {
    let mut watch = Watch::new();
    for index in 1..=2 {
        entry(&mut watch, 1, index, 1, "x");
    }
    entry(&mut watch, 2, 1, 1, "x");
    see_status(&mut watch, 1, status(Role::Leader, 1, 2, 1, 0));
    see_status(&mut watch, 2, status(Role::Leader, 2, 1, 1, 0));
    assert_eq!(watch.take_broken(), [""; 0], "only the first is committed");
    see_status(&mut watch, 1, status(Role::Leader, 1, 2, 2, 0));
    see_status(&mut watch, 2, status(Role::Leader, 3, 1, 1, 0));
    assert_broken(&mut watch, "leader completeness");
}

#[test]
fn applied_beyond_the_commit_and_falling_commit_are_seen() {
    let mut watch = Watch::new();
    see_status(&mut watch, 1, status(Role::Follower, 1, 5, 3, 4));
    assert_broken(&mut watch, "applied up to committed");
    see_status(&mut watch, 1, status(Role::Follower, 1, 5, 3, 3));
    see_status(&mut watch, 1, status(Role::Follower, 1, 5, 2, 2));
    assert_broken(&mut watch, "applied up to committed");
    watch.see(&Seen::Ended { node: NodeId(1) });
    see_status(&mut watch, 1, status(Role::Follower, 1, 5, 0, 0));
    assert_eq!(watch.take_broken(), [""; 0], "a new life may begin behind");
}

#[test]
fn entry_left_out_or_applied_differently_is_seen() {
    let mut watch = Watch::new();
    apply(&mut watch, 1, 1, "a");
    apply(&mut watch, 2, 1, "a");
    assert_eq!(watch.take_broken(), [""; 0]);
    apply(&mut watch, 1, 3, "c");
    assert_broken(&mut watch, "entries are applied in order");
    apply(&mut watch, 2, 2, "b");
    apply(&mut watch, 3, 1, "another");
    assert_broken(&mut watch, "state machine safety");
}

#[test]
fn different_results_of_one_entry_are_seen() {
    let mut watch = Watch::new();
    let results = |number| vec![(Ok(Answer::Number(number)), version(7))];
    let mut applied = |node, number| {
        let (index, last) = (Index(1), version(7));
        watch.see(&Seen::Applied {
            node: NodeId(node),
            shard: SHARD,
            index,
            entry: &Bytes::new(),
            last,
            asked: Asked::default(),
            results: &results(number),
        });
        watch.take_broken()
    };
    assert!(applied(1, 5).is_empty() && applied(2, 5).is_empty());
    assert!(applied(3, 6)[0].starts_with("applying is deterministic"));
}

#[test]
fn copies_that_differ_are_seen() {
    let mut digests = Digests::default();
    assert!(digests.see(NodeId(1), SHARD, 4, 77).is_ok());
    assert!(digests.see(NodeId(2), SHARD, 5, 78).is_ok());
    assert!(digests.see(NodeId(2), SHARD, 4, 79).is_err());
}

/// What a client is told: asked, left and arrived at those times.
fn told(watch: &mut Watch, op: &Op, answer: Answer, at: [u64; 3], receipt: Receipt) -> Vec<String> {
    let [asked_at, left, now] = at;
    let (id, level, clock) = (None, receipt.asked, 0);
    let reply = &Reply { answer, receipt };
    watch.told(&ShardMap::of(1), &Told { op, id, level, reply, asked_at, left, now, clock })
}

fn receipt(number: i64, reached: Level, staleness_micros: u64) -> Receipt {
    receipt_of(version(number), reached, staleness_micros)
}

pub(super) fn receipt_of(version: Version, reached: Level, staleness_micros: u64) -> Receipt {
    Receipt {
        version,
        shard: SHARD,
        protocol: Protocol::Raft,
        epoch: Epoch(1),
        asked: reached,
        reached,
        copies: 2,
        staleness_micros,
        node: NodeId(1),
    }
}

fn put() -> Op {
    Op::Put { key: "k".into(), value: "v".into(), deadline: None, previous: false }
}

#[test]
fn read_staler_than_its_receipt_is_seen() {
    let (mut watch, get) = (Watch::new(), Op::Get { key: "k".into(), at: None });
    let written = Answer::Put { previous: None };
    assert!(told(&mut watch, &put(), written, [0, 5, 10], receipt(100, Level::Linearizable, 0)).is_empty());
    let mut read = |at, receipt| told(&mut watch, &get, Answer::Row(None), at, receipt);
    assert!(read([5, 15, 20], receipt(90, Level::Linearizable, 0)).is_empty(), "it was asked before");
    assert_eq!(read([11, 15, 20], receipt(90, Level::Linearizable, 0)).len(), 1);
    assert!(read([11, 30, 40], receipt(90, Level::Local, 25)).is_empty());
    assert_eq!(read([11, 30, 40], receipt(90, Level::Local, 10)).len(), 1);
}

#[test]
fn version_given_twice_is_seen() {
    let mut watch = Watch::new();
    let mut write = |at, number| {
        let (answer, receipt) = (Answer::Put { previous: None }, receipt(number, Level::Linearizable, 0));
        told(&mut watch, &put(), answer, at, receipt).len()
    };
    assert_eq!(write([0, 5, 10], 100), 0);
    assert_eq!(write([0, 5, 10], 99), 0, "side by side in any order");
    assert_eq!(write([0, 6, 11], 100), 1);
}

#[test]
fn read_at_a_version_that_changes_is_seen() {
    let mut watch = Watch::new();
    let mut read = |value: &'static str, number: i64| {
        let row = Row {
            key: "k".into(),
            value: value.into(),
            version: version(number),
            created: version(1),
            changes: 1,
            deadline: None,
        };
        let answer = Answer::Row(Some(row));
        let op = Op::Get { key: "k".into(), at: Some(version(50)) };
        watch.versions.read(&op, &Ok(Reply { answer, receipt: receipt(60, Level::Linearizable, 0) }))
    };
    assert_eq!(read("a", 40), None);
    assert_eq!(read("a", 40), None);
    assert!(read("b", 45).is_some());
    assert!(read("a", 55).is_some(), "it is of later");
}

#[test]
fn answer_of_another_kind_is_seen() {
    let mut watch = Watch::new();
    let broken = told(&mut watch, &put(), Answer::Number(1), [0, 5, 10], receipt(1, Level::Linearizable, 0));
    assert!(broken[0].starts_with("answers fit their ops"), "{broken:?}");
}

#[test]
fn generation_loaded_before_its_switch_is_durable_is_seen() {
    let (mut watch, node) = (Watch::new(), NodeId(1));
    let load = |watch: &mut Watch| watch.see(&Seen::Load { node, shard: SHARD, generation: 2 });
    let switch = Seen::Generation { node, shard: SHARD, generation: 2 };
    watch.see(&switch);
    watch.see(&Seen::Appended { node, ticket: 5 });
    watch.see(&Seen::Durable { node, ticket: 5 });
    load(&mut watch);
    watch.see(&Seen::Recovering { node });
    watch.see(&switch);
    watch.see(&Seen::Recovered { node, applied: &BTreeMap::new(), now: 1 });
    load(&mut watch);
    assert_eq!(watch.take_broken(), [""; 0], "synced, or read at the start");
    watch.see(&Seen::Recovering { node });
    watch.see(&Seen::Recovered { node, applied: &BTreeMap::new(), now: 2 });
    watch.see(&switch);
    watch.see(&Seen::Appended { node, ticket: 6 });
    watch.see(&Seen::Durable { node, ticket: 5 });
    load(&mut watch);
    assert_broken(&mut watch, "a generation is loaded when its switch is durable");
}

#[test]
fn word_of_an_earlier_epoch_that_is_not_answered_is_seen() {
    let mut watch = Watch::new();
    let (node, from, shard) = (NodeId(1), NodeId(2), SHARD);
    let turn = |watch: &mut Watch| see_status(watch, 1, status(Role::Follower, 1, 0, 0, 0));
    watch.see(&Seen::Foreign { node, from, shard, is_earlier: true });
    turn(&mut watch);
    watch.see(&Seen::Members { node, to: from, shard });
    watch.see(&Seen::Foreign { node, from, shard, is_earlier: false });
    turn(&mut watch);
    turn(&mut watch);
    watch.see(&Seen::Foreign { node, from, shard, is_earlier: true });
    watch.see(&Seen::Gone { node, shard });
    turn(&mut watch);
    turn(&mut watch);
    assert_eq!(watch.take_broken(), [""; 0]);
    watch.see(&Seen::Foreign { node, from, shard, is_earlier: true });
    turn(&mut watch);
    turn(&mut watch);
    assert_broken(&mut watch, "who is behind is told");
}
