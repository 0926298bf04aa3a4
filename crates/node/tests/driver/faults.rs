//! What a node promises when something is wrong.

use crate::cluster::{Cluster, ELECTION_STEPS};
use kv::{Answer, Error, Function, NodeId, Op, Outcome, RequestId, Row, Side, Version};
use node::Input;
use node::wire::Frame;

const KEY: &str = "k";

fn append(text: &'static str) -> Op {
    Op::Update { key: KEY.into(), function: Function::Append { side: Side::Right, value: text.into() } }
}

fn put_until(deadline: u64) -> Op {
    Op::Put { key: KEY.into(), value: "v".into(), deadline: Some(deadline), previous: false }
}

fn get(cluster: &mut Cluster, node: NodeId) -> Option<Row> {
    match cluster.call(node, Op::Get { key: KEY.into(), at: None }).unwrap().answer {
        Answer::Row(row) => row,
        answer => panic!("a get answers a row, not {answer:?}"),
    }
}

fn others(cluster: &Cluster, leader: NodeId) -> Vec<NodeId> {
    cluster.nodes.keys().copied().filter(|id| *id != leader).collect()
}

#[test]
fn append_while_the_leader_is_cut_off_happens_once_under_the_next_one() {
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.leader();
    let survivor = others(&cluster, leader)[0];
    cluster.call(survivor, append("a")).unwrap();
    cluster.cut(leader);
    let reply = cluster.call(survivor, append("b")).unwrap();
    assert_ne!(reply.receipt.node, leader);
    assert_eq!(get(&mut cluster, survivor).unwrap().value, "ab");
}

#[test]
fn append_sent_twice_under_one_id_happens_once_and_is_answered_alike() {
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.leader();
    let id = RequestId { client: 7, sequence: 1, valid_until: Version::MAX, answered_below: 1 };
    let first = cluster.ask_with(leader, append("a"), Some(id));
    let second = cluster.ask_with(others(&cluster, leader)[0], append("a"), Some(id));
    cluster.steps(8);
    let first = cluster.answers.remove(&first).unwrap().unwrap();
    let second = cluster.answers.remove(&second).unwrap().unwrap();
    assert_eq!((&first.answer, first.receipt.version), (&second.answer, second.receipt.version));
    assert_eq!(get(&mut cluster, leader).unwrap().value, "a");
}

#[test]
fn write_without_a_majority_is_in_doubt_and_a_read_has_failed() {
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.leader();
    cluster.steps(8);
    for other in others(&cluster, leader) {
        cluster.cut(other);
    }
    let written = cluster.call(leader, append("a")).unwrap_err();
    assert_eq!(written.outcome(), Outcome::InDoubt, "{written}");
    let read = cluster.call(leader, Op::Get { key: KEY.into(), at: None }).unwrap_err();
    assert_eq!(read.outcome(), Outcome::Failed, "{read}");
}

#[test]
fn write_whose_forwarding_was_never_answered_is_in_doubt() {
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.leader();
    cluster.steps(8);
    let deaf = others(&cluster, leader)[0];
    cluster.deaf.push(deaf);
    let written = cluster.call(deaf, append("a")).unwrap_err();
    assert_eq!(written.outcome(), Outcome::InDoubt, "{written}");
    cluster.deaf.clear();
    assert_eq!(get(&mut cluster, leader).unwrap().value, "a", "it had happened");
}

#[test]
fn names_of_forwarded_requests_differ_between_two_lives_of_a_node() {
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.leader();
    cluster.steps(8);
    let asker = others(&cluster, leader)[0];
    for life in 1..=2 {
        cluster.begin_anew(asker, 100 + life);
        cluster.steps(8);
        cluster.ask(asker, append("a"));
        cluster.steps(2);
    }
    let forwarded = cluster.sent.iter().filter_map(|(from, _, frame)| match frame {
        Frame::Forward { token, .. } if *from == asker => Some(*token),
        _ => None,
    });
    let mut tokens: Vec<u64> = forwarded.collect();
    let count = tokens.len();
    tokens.sort_unstable();
    tokens.dedup();
    assert!(count >= 2 && tokens.len() == count, "{count} requests were forwarded under {tokens:?}");
}

#[test]
fn write_that_no_leader_ever_saw_has_failed() {
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.leader();
    let alone = others(&cluster, leader)[0];
    for other in cluster.nodes.keys().copied().filter(|id| *id != alone).collect::<Vec<_>>() {
        cluster.cut(other);
    }
    cluster.steps(ELECTION_STEPS);
    let written = cluster.call(alone, append("a")).unwrap_err();
    assert!(matches!(written, Error::Unavailable(_)), "{written:?}");
}

#[test]
fn disk_full_refuses_writes_and_serves_reads_until_there_is_space() {
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.leader();
    cluster.call(leader, append("a")).unwrap();
    cluster.input(leader, Input::DiskFull(true));
    let refused = cluster.call(leader, append("b")).unwrap_err();
    assert!(refused.to_string().contains("disk"), "{refused}");
    assert_eq!(refused.outcome(), Outcome::Failed);
    assert_eq!(get(&mut cluster, leader).unwrap().value, "a");
    cluster.input(leader, Input::DiskFull(false));
    cluster.call(leader, append("c")).unwrap();
    assert_eq!(get(&mut cluster, leader).unwrap().value, "ac");
}

#[test]
fn value_expires_at_its_deadline_and_not_before_whatever_one_wall_clock_says() {
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.leader();
    cluster.steps(2 * ELECTION_STEPS);
    let deadline = cluster.nodes[&leader].driver().clock_micros() + 10_000_000;
    cluster.call(leader, put_until(deadline)).unwrap();
    cluster.node(leader).wall_offset = 3_600_000_000;
    cluster.steps(200);
    assert!(get(&mut cluster, leader).is_some(), "five seconds have passed");
    cluster.node(leader).wall_offset = -3_600_000_000;
    cluster.steps(240);
    assert!(get(&mut cluster, leader).is_none(), "eleven seconds have passed");
}

#[test]
fn read_at_a_version_of_now_is_repeatable() {
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.leader();
    cluster.call(leader, append("a")).unwrap();
    let at = Some(Version::end_of(cluster.nodes[&leader].driver().clock_micros()));
    let read = |cluster: &mut Cluster| {
        let reply = cluster.call(leader, Op::Get { key: KEY.into(), at }).unwrap();
        let Answer::Row(Some(row)) = reply.answer else { panic!("the key is there") };
        row.value
    };
    assert_eq!(read(&mut cluster), "a");
    cluster.call(leader, append("b")).unwrap();
    assert_eq!(read(&mut cluster), "a");
    assert_eq!(get(&mut cluster, leader).unwrap().value, "ab");
}

#[test]
fn stop_hands_the_leadership_over() {
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.leader();
    cluster.steps(2 * ELECTION_STEPS);
    let leader = if cluster.nodes[&leader].driver().leads() > 0 { leader } else { cluster.leader() };
    cluster.input(leader, Input::Stop);
    cluster.steps(20);
    assert!(cluster.nodes[&leader].driver().has_handed_over());
    assert_eq!(cluster.nodes.values().map(|node| node.driver().leads()).sum::<usize>(), 1);
}

#[test]
fn stop_hands_an_idle_leadership_over_to_a_node_that_was_away() {
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.leader();
    cluster.steps(2 * ELECTION_STEPS);
    let leader = if cluster.nodes[&leader].driver().leads() > 0 { leader } else { cluster.leader() };
    for node in others(&cluster, leader) {
        cluster.input(leader, Input::PeerDown { node });
        cluster.input(leader, Input::PeerUp { node });
        cluster.input(node, Input::PeerDown { node: leader });
        cluster.input(node, Input::PeerUp { node: leader });
    }
    // Long enough for the nodes to hear of each other, and nothing is written.
    cluster.steps(ELECTION_STEPS);
    cluster.input(leader, Input::Stop);
    cluster.steps(10);
    assert!(cluster.nodes[&leader].driver().has_handed_over());
}
