//! Nodes that join while copies of folders are about: what they were told decides, whoever comes first.

use super::copies::{meet_all, met};
use super::*;

/// A node that was let in as the fourth by another, and has met nobody.
fn newcomer(by: &Node) -> Node {
    let mut nodes = by.greeter.nodes().clone();
    let (name, incarnation) = ("n4", 41);
    let address = format!("{name}:7421");
    nodes.members.insert(NodeId(4), Member { name: name.into(), address, incarnation });
    nodes.revision += 1;
    nodes.next = NodeId(5);
    let mut numbers = [incarnation, process()].into_iter();
    let joiner = Joiner::new(name, "", &mut || numbers.next().unwrap());
    let identity = joiner.joined(NodeId(4), by.cluster().unwrap(), "shards=1".into());
    let lives = decode_lives(encode_lives(&by.greeter.acquaintances())).unwrap();
    let known = introduced(NodeId(4), Lives::new(), lives);
    Node { greeter: Greeter::new(identity.clone(), known.clone(), nodes), identity, known, full: false }
}

/// Has a node hear of the newcomer.
fn hear(node: &mut Node, newcomer: &Node) {
    node.greeter.set_nodes(newcomer.greeter.nodes().clone());
}

#[test]
fn newcomer_refuses_a_copy_that_comes_first_and_lets_the_true_folder_in() {
    for by in 0..3 {
        let mut nodes = met();
        let mut copy = nodes[1].clone();
        nodes[1].restart();
        meet_all(&mut nodes);
        let mut four = newcomer(&nodes[by]);
        copy.restart();
        hear(&mut copy, &four);
        // They count the same start, and the copy may have been started more often.
        for _ in 0..2 {
            let Met::NotNow(why) = call(&mut four, &mut copy.clone()) else { panic!("told by {by}") };
            assert!(why.contains("in another process: a copy of the folder"), "{why}");
            assert!(matches!(call(&mut copy.clone(), &mut four), Met::Hopeless(_)));
            copy.restart();
        }
        for node in &mut nodes {
            hear(node, &four);
            assert_eq!(call(node, &mut four), Met::Ours);
            node.restart();
            assert_eq!(call(&mut four, node), Met::Ours, "what was told becomes old, not wrong");
        }
    }
}

#[test]
fn newcomer_that_is_told_by_who_was_taken_in_is_taken_in_too() {
    let mut nodes = met();
    let mut copy = nodes[1].clone();
    copy.restart();
    let mut true_one = nodes[1].clone();
    true_one.restart();
    assert_eq!(call(&mut copy, &mut nodes[2]), Met::Ours);
    let mut four = newcomer(&nodes[2]);
    hear(&mut true_one, &four);
    // Two branches of one folder: what it had agreed on with the one stands, and nobody lets the other in beside it.
    for by in [&mut nodes[2], &mut four] {
        assert!(matches!(call(&mut true_one.clone(), by), Met::Hopeless(_)));
    }
}

#[test]
fn what_is_told_never_takes_the_place_of_what_was_met_later_or_under_another_folder() {
    let life = |incarnation, starts| Life { incarnation, starts, process: 100 * incarnation + starts };
    let lives =
        |lives: &[(u64, Life)]| -> Lives { lives.iter().map(|(id, life)| (NodeId(*id), *life)).collect() };
    let known = lives(&[(1, life(11, 5)), (2, life(21, 5)), (3, life(31, 5))]);
    let heard =
        lives(&[(1, life(11, 4)), (2, life(21, 6)), (3, life(32, 9)), (4, life(41, 7)), (5, life(51, 1))]);
    let now = lives(&[(1, life(11, 5)), (2, life(21, 6)), (3, life(31, 5)), (5, life(51, 1))]);
    assert_eq!(introduced(NodeId(4), known, heard), now, "and of itself it knows best");
}

#[test]
fn lives_that_are_told_round_trip_and_none_are_no_bytes_too() {
    let [one, ..] = met();
    let lives = one.greeter.acquaintances();
    assert_eq!(lives.keys().copied().collect::<Vec<_>>(), [NodeId(1), NodeId(2), NodeId(3)]);
    let bytes = encode_lives(&lives);
    assert_eq!(decode_lives(bytes.clone()), Ok(lives));
    assert_eq!(
        decode_lives(bytes::Bytes::new()),
        Ok(Lives::new()),
        "a node of an earlier version tells none"
    );
    assert!(decode_lives(bytes.slice(..bytes.len() - 1)).is_err());
}
