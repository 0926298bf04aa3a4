//! Folders that are copied, or put back from a copy: who is refused, and how often it may try.

use super::*;

/// Three nodes of which each has met each.
pub(super) fn met() -> [Node; 3] {
    let mut nodes = three();
    meet_all(&mut nodes);
    nodes
}

pub(super) fn meet_all(nodes: &mut [Node; 3]) {
    for (caller, called) in [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)] {
        let mut answers = nodes[called].clone();
        assert_eq!(call(&mut nodes[caller], &mut answers), Met::Ours, "{caller} calls {called}");
        nodes[called] = answers;
    }
}

/// Calls another until it knows better; what it is refused with.
fn refused(node: &mut Node, by: &mut Node) -> String {
    let Met::Hopeless(why) = call(node, by) else { panic!("it must not be let in") };
    assert_eq!(node.identity.copy.as_ref(), Some(&why), "the folder says so from now on");
    why
}

#[test]
fn start_of_a_folder_counts_and_is_let_in_under_every_later_one() {
    let mut nodes = met();
    for start in 2..5 {
        nodes[1].restart();
        assert_eq!(nodes[1].identity.lineage.life.starts, start);
        meet_all(&mut nodes);
        assert_eq!(nodes[0].known[&NodeId(2)], nodes[1].identity.lineage.life);
    }
    // Those that nobody saw are passed over.
    (0..3).for_each(|_| nodes[1].restart());
    meet_all(&mut nodes);
    assert_eq!(nodes[2].known[&NodeId(2)].starts, 7);
}

#[test]
fn folder_put_back_from_an_old_copy_is_refused_by_all_that_know_better_and_never_starts_again() {
    let mut nodes = met();
    let mut old = nodes[1].clone();
    for _ in 0..3 {
        nodes[1].restart();
        meet_all(&mut nodes);
    }
    old.restart();
    for by in [0, 2] {
        let mut back = old.clone();
        let why = refused(&mut back, &mut nodes[by]);
        assert!(
            why.starts_with("node n2 comes with its data folder as of start 2, and was met as of start 4"),
            "{why}"
        );
        assert!(
            why.contains("start the folder that ran last") && why.contains("capstan cluster replace n2"),
            "{why}"
        );
        // Called, it is known for what it is, and the caller stays.
        let Met::NotNow(why) = call(&mut nodes[by], &mut back) else { panic!("frames must not flow") };
        assert!(why.contains("restored from an old copy"), "{why}");
    }
    // The others and the folder that ran last are as well as before.
    meet_all(&mut nodes);
    nodes[1].restart();
    meet_all(&mut nodes);
}

#[test]
fn folder_put_back_is_refused_although_it_was_started_more_often_than_it_was_met() {
    let mut nodes = met();
    let mut old = nodes[1].clone();
    for _ in 0..3 {
        nodes[1].restart();
        meet_all(&mut nodes);
    }
    // Nobody was there whenever it started.
    (0..Lineage::EARLIER_MAX).for_each(|_| old.restart());
    for by in [0, 2] {
        let mut back = old.clone();
        let why = refused(&mut back, &mut nodes[by]);
        assert!(
            why.starts_with("node n2 was met as of start 4 of its data folder in another process"),
            "{why}"
        );
    }
    // The true one may have been started as often.
    (0..2 * Lineage::EARLIER_MAX).for_each(|_| nodes[1].restart());
    meet_all(&mut nodes);
}

#[test]
#[should_panic(expected = "a folder that is a copy is not started")]
fn folder_that_was_refused_as_a_copy_is_not_started_however_often_it_would_count() {
    let mut nodes = met();
    let mut old = nodes[1].clone();
    nodes[1].restart();
    meet_all(&mut nodes);
    old.restart();
    refused(&mut old, &mut nodes[0]);
    old.restart();
}

#[test]
fn copy_of_a_folder_that_runs_is_refused_and_the_one_that_was_met_first_stays() {
    let mut nodes = met();
    // Of one that was stopped: both count the same start.
    let mut copy = nodes[1].clone();
    nodes[1].restart();
    copy.restart();
    assert_eq!(nodes[1].identity.lineage.life.starts, copy.identity.lineage.life.starts);
    meet_all(&mut nodes);
    let why = refused(&mut copy, &mut nodes[0]);
    assert!(why.starts_with("node n2 was met as of start 2 of its data folder in another process"), "{why}");
    assert!(
        matches!(call(&mut nodes[2], &mut copy), Met::NotNow(why) if why.contains("a copy of the folder"))
    );
    meet_all(&mut nodes);
}

#[test]
fn later_start_of_a_copied_folder_takes_the_place_of_the_one_that_runs() {
    let mut nodes = met();
    let mut copy = nodes[1].clone();
    copy.restart();
    assert_eq!(call(&mut copy, &mut nodes[0]), Met::Ours);
    assert_eq!(
        nodes[0].greeter.lives()[&NodeId(2)],
        copy.identity.lineage.life,
        "connections of the one before are over"
    );
    let [one, two, _] = &mut nodes;
    let why = refused(two, one);
    assert!(why.contains("a copy of it was started elsewhere later"), "{why}");
}

#[test]
fn copy_that_cannot_be_noted_as_one_is_refused_on() {
    let mut nodes = met();
    let mut old = nodes[1].clone();
    nodes[1].restart();
    meet_all(&mut nodes);
    old.restart();
    old.full = true;
    for _ in 0..2 {
        let welcome = answer(&old, &mut nodes[0]).unwrap();
        assert!(matches!(welcome, Welcome::Copy(_)));
        assert_eq!(old.decide(|greeter| greeter.meet(NodeId(1), &welcome)), None);
    }
    old.full = false;
    refused(&mut old, &mut nodes[0]);
}

#[test]
fn node_with_an_old_copy_ends_nobody() {
    let mut nodes = met();
    let mut old = nodes[2].clone();
    nodes[2].restart();
    meet_all(&mut nodes);
    // It remembers the second under a folder that it has no more.
    old.known.get_mut(&NodeId(2)).unwrap().incarnation += 1;
    old.restart();
    let Met::NotNow(why) = call(&mut nodes[1], &mut old) else { panic!("the other one is wrong") };
    assert!(
        why.starts_with("it comes with an old copy of its folder, and says: node n2 comes with another"),
        "{why}"
    );
    refused(&mut old, &mut nodes[1]);
}
