//! Who leads, what it reads and writes, and what becomes of what was asked of it.

use bytes::Bytes;
use std::collections::VecDeque;

use kv::admin::{Answer, Ask};
use kv::cluster::NodeDuty;
use kv::keyspace::Wish;
use kv::{ClusterId, Error, NodeId, Op};
use placement::map::Map;

use super::room::{CLUSTER, Room, STEP_MICROS, joining};
use crate::directory::Input;

#[test]
fn first_leader_without_rows_founds_when_the_cluster_is_known() {
    let mut room = Room::new(3, 2);
    let first = room.place(2).map.clone();
    room.seen.nodes.clear();
    room.cluster = None;
    room.lead(2);
    room.pass(1_000_000);
    assert!(room.store.rows.is_empty() && room.decides(2).is_none());
    room.cluster = ClusterId::new(CLUSTER);
    room.pass(STEP_MICROS);
    let expected = Map { revision: 2, cluster: ClusterId::new(CLUSTER), ..(*first).clone() };
    assert_eq!(
        room.decides(2),
        Some(&expected),
        "the first that is written is the founding with the cluster's id"
    );
    room.pass(1_000_000);
    let written = room.store.map();
    assert_eq!((room.decides(2), &*room.places[&NodeId(2)].map), (Some(&written), &written));
}

#[test]
fn two_that_found_at_once_agree_on_what_the_first_wrote() {
    let mut room = Room::new(2, 1);
    for id in [1, 2] {
        room.place(id).leads = true;
        room.place(id).held = Some(VecDeque::new());
    }
    room.pass(STEP_MICROS);
    for id in [1, 2] {
        let read = room.take_held(id);
        room.answer(id, read);
    }
    let (first, second) = (room.take_held(1), room.take_held(2));
    room.answer(2, second);
    assert!(room.decides(2).is_some());
    room.answer(1, first);
    assert!(room.decides(1).is_none(), "its condition did not hold: it reads again");
    room.place(1).held = None;
    room.pass(STEP_MICROS);
    assert_eq!(room.decides(1), Some(&room.store.map()));
}

#[test]
fn map_that_is_read_goes_to_the_node_that_leads() {
    let mut room = Room::founded(3, 1);
    let written = room.store.map();
    assert!(room.place(3).map.revision < written.revision);
    room.lead(3);
    room.pass(STEP_MICROS);
    assert_eq!(*room.place(3).map, written);
}

#[test]
fn node_that_joins_twice_has_one_id_and_a_name_that_is_taken_is_refused() {
    let mut room = Room::founded(3, 1);
    let cluster = ClusterId::new(CLUSTER).unwrap();
    let joined = room.call(2, joining(4)).expect("through a node that does not lead");
    let map = room.store.map();
    assert_eq!(joined, Answer::Joined { node: NodeId(4), cluster, map: map.encode(), lives: Bytes::new() });
    assert_eq!(map.nodes[&NodeId(4)].name, "n4");
    assert_eq!(room.call(1, joining(4)), Ok(joined));
    assert_eq!(room.store.map().nodes.len(), 4);
    let Ask::Join(mut other) = joining(4) else { unreachable!() };
    other.incarnation = 9;
    let refused = room.call(3, Ask::Join(other));
    assert!(matches!(&refused, Err(Error::Invalid(why)) if why.contains("'n4'")), "{refused:?}");
}

#[test]
fn of_two_leaders_only_the_one_with_the_present_map_changes_it() {
    let mut room = Room::founded(3, 1);
    room.place(2).leads = true;
    room.pass(STEP_MICROS);
    assert_eq!(room.decides(1), room.decides(2), "both believe to lead");
    // Both give the next id, one of them in vain: it reads again, and gives the one after.
    room.place(1).held = Some(VecDeque::new());
    room.place(2).held = Some(VecDeque::new());
    let (one, other) = (room.ask(1, joining(7)), room.ask(2, joining(8)));
    room.pass(STEP_MICROS);
    let (first, second) = (room.take_held(1), room.take_held(2));
    room.answer(2, second);
    room.answer(1, first);
    room.place(1).held = None;
    room.place(2).held = None;
    let (one, other) = (room.wait_for(one), room.wait_for(other));
    let node = |answer| match answer {
        Ok(Answer::Joined { node, .. }) => node.0,
        other => panic!("{other:?}"),
    };
    assert_eq!((node(other), node(one)), (4, 5));
}

#[test]
fn leader_learns_what_the_one_before_wrote_after_it_had_read() {
    let mut room = Room::founded(3, 1);
    room.place(1).held = Some(VecDeque::new());
    room.ask(1, joining(7));
    room.pass(STEP_MICROS);
    let late = room.take_held(1);
    room.place(1).held = None;
    room.lead(2);
    room.pass(STEP_MICROS);
    room.answer(1, late);
    assert_ne!(room.decides(2), Some(&room.store.map()));
    room.pass(10_000_000);
    assert_eq!(room.decides(2), Some(&room.store.map()));
}

#[test]
fn stale_leader_says_nothing_that_is_over() {
    let mut room = Room::founded(3, 1);
    room.call(1, joining(4)).unwrap();
    room.place(2).leads = true;
    room.pass(STEP_MICROS);
    let serve = |duty| Ask::Node { name: "n4".into(), duty, fewer: false, dry_run: false };
    room.call(2, serve(NodeDuty::Drain)).unwrap();
    // Node 2 has a map in which it is drained; meanwhile node 1, which leads as well, takes that back.
    room.call(1, serve(NodeDuty::Serve)).unwrap();
    assert_eq!(room.store.map().nodes[&NodeId(4)].duty, NodeDuty::Serve);
    assert_eq!(room.call(2, serve(NodeDuty::Drain)), Ok(Answer::Done));
    assert_eq!(
        room.store.map().nodes[&NodeId(4)].duty,
        NodeDuty::Drain,
        "it is done anew, not taken for done"
    );
}

#[test]
fn asks_that_are_sent_again_while_the_leader_waits_take_no_room() {
    let mut room = Room::founded(3, 1);
    room.place(1).held = Some(VecDeque::new());
    let clients: Vec<u64> = (0..30).map(|_| room.ask(2, Ask::Dump)).collect();
    room.pass(4_000_000);
    let first = room.take_held(1);
    room.place(1).held = None;
    room.answer(1, first);
    for client in clients {
        assert!(room.wait_for(client).is_ok());
    }
}

#[test]
fn ask_whose_write_is_in_doubt_is_asked_again_and_done_once() {
    for was_written in [true, false] {
        let mut room = Room::founded(3, 1);
        let before = room.store.map();
        room.place(1).held = Some(VecDeque::new());
        let client = room.ask(3, joining(4));
        room.pass(STEP_MICROS);
        let (number, op) = room.take_held(1);
        if was_written {
            room.store.run(&op);
        }
        let result = Err(Error::InDoubt("no answer".into()));
        room.step(NodeId(1), Input::Answered { number, result });
        assert!(room.decides(1).is_none(), "it does not know what the rows are");
        room.place(1).held = None;
        let cluster = ClusterId::new(CLUSTER).unwrap();
        let answer = room.wait_for(client);
        let has_joined = |answer| matches!(answer, Ok(Answer::Joined { node: NodeId(4), cluster: id, .. }) if id == cluster);
        assert!(has_joined(answer));
        assert_eq!(room.store.map().next_node.0, before.next_node.0 + 1);
    }
}

#[test]
fn leader_that_loses_the_role_forgets_all_and_another_one_is_asked() {
    let mut room = Room::founded(3, 1);
    room.place(1).held = Some(VecDeque::new());
    let (first, second) = (room.ask(3, joining(4)), room.ask(3, joining(5)));
    room.pass(STEP_MICROS);
    let written = room.take_held(1);
    room.lead(2);
    let answers = (room.wait_for(first), room.wait_for(second));
    assert!(matches!(answers, (Ok(Answer::Joined { .. }), Ok(Answer::Joined { .. }))), "{answers:?}");
    // What the first one has asked comes to its end now: it fails, and says nothing to anybody.
    let map = room.store.map();
    room.answer(1, written);
    assert_eq!((room.store.map(), room.decides(1)), (map, None));
}

#[test]
fn role_that_comes_back_begins_with_the_rows() {
    let mut room = Room::founded(3, 1);
    room.place(1).held = Some(VecDeque::new());
    room.ask(1, joining(4));
    room.pass(STEP_MICROS);
    let written = room.take_held(1);
    room.lead(2);
    room.pass(STEP_MICROS);
    room.lead(1);
    room.pass(STEP_MICROS);
    let read = room.take_held(1);
    assert!(matches!(read.1, Op::Range(_)));
    // The answer to what it asked in its first time is none to what it asks now.
    room.answer(1, written);
    assert!(room.decides(1).is_none());
    room.answer(1, read);
    assert_eq!(room.decides(1), Some(&room.store.map()));
}

#[test]
fn rows_of_several_pages_are_of_one_moment() {
    let mut room = Room::founded(3, 4);
    room.store.page_rows = 5;
    let before = room.store.map();
    room.place(3).held = Some(VecDeque::new());
    room.place(3).leads = true;
    room.pass(STEP_MICROS);
    let first = room.take_held(3);
    room.answer(3, first);
    // Rows of the first page and of later ones are written before these are read.
    room.call(1, joining(4)).unwrap();
    room.call(1, Ask::Node { name: "n1".into(), duty: NodeDuty::Drain, fewer: false, dry_run: false })
        .unwrap();
    while let Some(next) = room.place(3).held.as_mut().unwrap().pop_front() {
        room.answer(3, next);
    }
    assert_eq!(room.decides(3), Some(&before));
}

#[test]
fn rows_older_than_what_was_seen_are_refused() {
    let mut room = Room::founded(3, 1);
    let old = room.store.rows.clone();
    room.call(1, joining(4)).unwrap();
    let newer = room.place(1).map.clone();
    room.store.rows = old;
    room.place(2).map = newer;
    room.lead(2);
    let refused = room.call(3, joining(5));
    assert!(matches!(&refused, Err(Error::Unavailable(why)) if why.contains("old copies")), "{refused:?}");
    room.store.rows.clear();
    room.lead(1);
    assert!(room.call(1, joining(5)).is_err(), "nor is a cluster founded twice");
    assert!(room.store.rows.is_empty());
}

#[test]
fn rows_that_cannot_be_read_are_left_alone() {
    let mut room = Room::founded(3, 1);
    room.store.rows.insert("node/x".into(), "?".into());
    let rows = room.store.rows.clone();
    room.lead(2);
    let refused = room.call(2, joining(4));
    assert!(matches!(&refused, Err(Error::Unavailable(why)) if why.contains("node/x")), "{refused:?}");
    room.pass(5_000_000);
    assert_eq!(room.store.rows, rows);
}

#[test]
fn keyspace_is_created_on_nodes_that_can_be_reached_now() {
    let mut room = Room::founded(5, 1);
    let create = |name: &str| Ask::CreateKeyspace { name: name.into(), wish: Wish::default() };
    // It was let in just now, has nothing yet, and may never start.
    assert!(matches!(room.call(1, joining(6)), Ok(Answer::Joined { .. })));
    // They were killed just now: they were heard of a moment ago, and count as alive yet.
    let cut = |room: &mut Room, ids: [u64; 2]| {
        for id in ids {
            room.seen.nodes.get_mut(&NodeId(id)).unwrap().is_connected = false;
        }
    };
    cut(&mut room, [2, 4]);
    assert_eq!(room.call(1, create("tea")), Ok(Answer::Done));
    let map = room.store.map();
    let members = map.shards_of("tea").into_iter().flat_map(|(_, shard)| &shard.members);
    assert_eq!(members.map(|member| member.node.0).collect::<Vec<_>>(), [1, 3, 5]);
    cut(&mut room, [3, 5]);
    let refused = room.call(1, create("rum"));
    assert!(matches!(&refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert!(room.store.map().shards_of("rum").is_empty());
}

#[test]
fn keyspace_is_created_on_nodes_that_say_a_word_when_it_is_asked_for() {
    let mut room = Room::founded(5, 1);
    let create = |name: &str| Ask::CreateKeyspace { name: name.into(), wish: Wish::default() };
    let members = |room: &Room, name: &str| {
        let map = room.store.map();
        let members = map.shards_of(name).into_iter().flat_map(|(_, shard)| shard.members.clone());
        members.map(|member| member.node.0).collect::<Vec<_>>()
    };
    // All speak: nothing is waited for.
    let client = room.ask(1, create("ale"));
    room.pass(2 * STEP_MICROS);
    assert_eq!(room.answers.remove(&client), Some(Ok(Answer::Done)));
    // They were cut off just now: their connections stand, they were heard of a moment ago, and count as alive yet.
    room.silent = vec![NodeId(2), NodeId(4)];
    assert_eq!(room.call(1, create("tea")), Ok(Answer::Done));
    assert_eq!(members(&room, "tea"), [1, 3, 5]);
    // One of three is enough for nothing, and who is asked meanwhile waits with it.
    room.silent.extend([NodeId(3), NodeId(5)]);
    let (rum, ale) = (room.ask(1, create("rum")), room.ask(1, Ask::DropKeyspace { name: "ale".into() }));
    assert!(matches!(room.wait_for(rum), Err(Error::Unavailable(_))));
    assert_eq!(room.wait_for(ale), Ok(Answer::Done));
    room.silent.clear();
    assert_eq!(room.call(1, create("rum")), Ok(Answer::Done));
}
