//! What has expired is shown to nobody, and goes even where nobody writes.

use crate::cluster::{Cluster, ELECTION_STEPS};
use kv::{Answer, Level, NodeId, Op, Range, Receipt, RequestId, ShardId, Version};

const KEY: &str = "k";
/// Steps of the cluster in which the deadline of [`put_for_a_while`] passes.
const WHILE_STEPS: usize = 130;

/// Puts a key that is gone three seconds later, at a leader; returns it and the other nodes.
fn put_for_a_while(cluster: &mut Cluster) -> (NodeId, Vec<NodeId>) {
    // Until the one leads that should.
    cluster.steps(2 * ELECTION_STEPS);
    let leader = cluster.leader();
    let deadline = Some(cluster.node(leader).driver().clock_micros() + 3_000_000);
    let put = Op::Put { key: KEY.into(), value: "v".into(), deadline, previous: false };
    cluster.call(leader, put).unwrap();
    cluster.steps(4);
    (leader, cluster.nodes.keys().copied().filter(|id| *id != leader).collect())
}

/// How many rows a node shows at a level, by every kind of read; and the receipt of the last.
fn rows(cluster: &mut Cluster, node: NodeId, level: Level) -> (usize, Receipt) {
    let count = Range { count_only: true, ..Range::default() };
    let reads = [
        Op::Get { key: KEY.into(), at: None },
        Op::GetAll { keys: vec![KEY.into()], at: None },
        Op::Range(Range::default()),
        Op::Range(count),
    ];
    let mut found = Vec::new();
    let mut receipt = None;
    for read in reads {
        let reply = cluster.read(node, read, level);
        receipt = Some(reply.receipt);
        found.push(match reply.answer {
            Answer::Row(row) => row.iter().count(),
            Answer::Many(keys) => keys.iter().flat_map(|key| key.result.as_ref().unwrap()).count(),
            Answer::Page(page) => page.count as usize,
            answer => panic!("{answer:?} has no rows"),
        });
    }
    assert!(found.iter().all(|rows| *rows == found[0]), "{found:?} at {level} on node {node}");
    (found[0], receipt.unwrap())
}

#[test]
fn read_of_expired_shows_nothing_at_any_level_on_any_node() {
    let mut cluster = Cluster::new(3, 1);
    let (leader, others) = put_for_a_while(&mut cluster);
    for level in [Level::Linearizable, Level::Bounded(0), Level::Bounded(60_000), Level::Local] {
        for node in [leader, others[0], others[1]] {
            assert_eq!(
                rows(&mut cluster, node, level).0,
                1,
                "before its deadline, at {level} on node {node}"
            );
        }
    }
    cluster.steps(WHILE_STEPS);
    // Followers first, and the weakest level first: nothing has had the shard advance yet.
    for level in [Level::Local, Level::Bounded(60_000), Level::Bounded(0), Level::Linearizable] {
        for node in [others[0], others[1], leader] {
            assert_eq!(rows(&mut cluster, node, level).0, 0, "after its deadline, at {level} on node {node}");
        }
    }
}

#[test]
fn read_bounded_by_nothing_is_a_linearizable_one() {
    let mut cluster = Cluster::new(3, 1);
    let (leader, others) = put_for_a_while(&mut cluster);
    for node in [others[0], leader] {
        let (_, receipt) = rows(&mut cluster, node, Level::Bounded(0));
        assert_eq!((receipt.asked, receipt.reached), (Level::Bounded(0), Level::Linearizable));
        assert_eq!((receipt.node, receipt.staleness_micros), (leader, 0));
    }
}

#[test]
fn read_that_a_follower_leaves_something_out_of_is_not_called_linearizable() {
    let mut cluster = Cluster::new(3, 1);
    let (_, others) = put_for_a_while(&mut cluster);
    // Until a little before its deadline.
    cluster.steps(WHILE_STEPS - 40);
    let get = || Op::Get { key: KEY.into(), at: None };
    let mut found = Vec::new();
    for _ in 0..80 {
        let reply = cluster.read(others[0], get(), Level::Bounded(60_000));
        let Receipt { node, reached, .. } = reply.receipt;
        found.push((matches!(reply.answer, Answer::Row(Some(_))), node == others[0], reached));
    }
    let last = found.iter().rposition(|(there, ..)| *there).expect("it was there at first");
    let (_, by_itself, reached) = found[last + 1];
    assert!(
        !by_itself || reached != Level::Linearizable,
        "what only its own clock has passed is the leader's to say"
    );
}

#[test]
fn shard_that_is_idle_lets_go_of_what_is_due() {
    for nodes in [1, 3] {
        let mut cluster = Cluster::new(nodes, 1);
        let (leader, _) = put_for_a_while(&mut cluster);
        let valid_until = Version::end_of(cluster.node(leader).driver().clock_micros() + 2_000_000);
        for client in 1..=1_000 {
            let id = RequestId { client, sequence: 1, valid_until, answered_below: 1 };
            cluster.ask_with(leader, Op::Delete { key: "other".into(), previous: false }, Some(id));
        }
        cluster.steps(8);
        let held = |cluster: &Cluster| {
            cluster
                .nodes
                .values()
                .map(|node| node.executor().table().sessions(ShardId(1)))
                .collect::<Vec<_>>()
        };
        assert!(held(&cluster).iter().all(|sessions| *sessions >= 1_000), "{:?}", held(&cluster));
        cluster.steps(5 * WHILE_STEPS);
        assert!(held(&cluster).iter().all(|sessions| *sessions <= 1), "{:?}", held(&cluster));
        for node in cluster.nodes.values_mut() {
            let mut snapshot = node.executor_mut().table_mut().snapshot(ShardId(1));
            let bytes = snapshot.next_chunk(usize::MAX).unwrap().unwrap().len();
            assert!(bytes < 1_000, "no row is left but few: {bytes} bytes");
        }
    }
}

#[test]
fn shard_with_nothing_due_writes_nothing() {
    let mut cluster = Cluster::new(1, 1);
    put_for_a_while(&mut cluster);
    cluster.steps(4 * WHILE_STEPS);
    cluster.seen.clear();
    cluster.steps(100 * WHILE_STEPS);
    let appends = cluster.seen.iter().filter(|(_, what)| *what == "append").count();
    assert!(appends <= 1, "{appends} appends on an idle node: one for the session of its put");
}
