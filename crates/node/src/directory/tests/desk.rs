//! What people ask at a node: passed on, sent again, and in the end answered with what is known.

use std::collections::VecDeque;

use kv::admin::{Answer, Ask};
use kv::cluster::{Liveness, NodeDuty};
use kv::keyspace::Wish;
use kv::{Error, NodeId, ShardId};

use super::room::{Room, STEP_MICROS, joining};
use crate::directory::{Asker, Input};

#[test]
fn ask_without_a_leader_changes_nothing_and_says_so() {
    let mut room = Room::new(3, 1);
    let refused = room.call(2, joining(4));
    assert!(
        matches!(&refused, Err(Error::Unavailable(why)) if why.contains("nothing was changed")),
        "{refused:?}"
    );
}

#[test]
fn ask_waits_for_a_leader() {
    let mut room = Room::founded(3, 1);
    for place in room.places.values_mut() {
        (place.leads, place.believes) = (false, None);
    }
    let client = room.ask(3, joining(4));
    room.pass(2_000_000);
    assert!(room.answers.is_empty());
    room.lead(2);
    assert!(room.wait_for(client).is_ok());
}

#[test]
fn ask_to_one_that_does_not_lead_is_tried_elsewhere() {
    let mut room = Room::founded(3, 1);
    room.place(3).believes = Some(NodeId(2));
    let client = room.ask(3, joining(4));
    room.pass(500_000);
    assert!(room.answers.is_empty() && room.store.map().nodes.len() == 3);
    room.lead(1);
    assert!(room.wait_for(client).is_ok());
}

#[test]
fn ask_that_was_lost_is_sent_again() {
    let mut room = Room::founded(3, 1);
    room.deaf.push(NodeId(1));
    let client = room.ask(2, joining(4));
    room.pass(500_000);
    room.deaf.clear();
    assert!(room.wait_for(client).is_ok());
}

#[test]
fn ask_that_comes_once_more_when_it_was_answered_is_not_done_once_more() {
    let mut room = Room::founded(3, 1);
    let create = || Ask::CreateKeyspace { name: "tea".into(), wish: Wish::default() };
    let drop = || Ask::DropKeyspace { name: "tea".into() };
    assert_eq!(room.call(3, create()), Ok(Answer::Done));
    // It is sent once more, and that is on its way while the first one is answered.
    let asker = Asker::Node { node: NodeId(2), token: 7 };
    room.step(NodeId(1), Input::Passed { asker, ask: drop() });
    room.pass(STEP_MICROS);
    assert!(!room.store.map().keyspaces.contains_key("tea"));
    // Its name is free in a moment.
    room.pass(1_000_000);
    assert_eq!(room.call(3, create()), Ok(Answer::Done));
    room.step(NodeId(1), Input::Passed { asker, ask: drop() });
    room.pass(1_000_000);
    assert!(room.store.map().keyspaces.contains_key("tea"));
    assert_eq!(room.call(2, drop()), Ok(Answer::Done), "who asks anew is heard");
    assert!(!room.store.map().keyspaces.contains_key("tea"));
}

#[test]
fn ask_that_somebody_may_have_done_is_in_doubt_and_a_question_is_not() {
    for breaks in [false, true] {
        let mut room = Room::founded(3, 1);
        room.place(1).held = Some(VecDeque::new());
        let (change, question) = (room.ask(2, joining(4)), room.ask(2, Ask::Dump));
        room.pass(STEP_MICROS);
        if breaks {
            room.step(NodeId(2), Input::Disconnected(NodeId(1)));
            room.place(2).believes = None;
        }
        let answers = (room.wait_for(change), room.wait_for(question));
        assert!(matches!(answers, (Err(Error::InDoubt(_)), Err(Error::Unavailable(_)))), "{answers:?}");
    }
}

#[test]
fn ask_that_was_lost_and_then_refused_by_one_that_does_not_lead_is_in_doubt() {
    let mut room = Room::founded(3, 1);
    room.deaf.push(NodeId(1));
    let client = room.ask(2, joining(4));
    room.pass(500_000);
    room.lead(0);
    room.place(2).believes = Some(NodeId(3));
    let answer = room.wait_for(client);
    assert!(matches!(answer, Err(Error::InDoubt(_))), "{answer:?}");
}

#[test]
fn refusal_of_what_may_be_done_already_is_in_doubt() {
    let mut room = Room::founded(3, 1);
    room.call(1, joining(4)).unwrap();
    room.pass(1_000_000);
    let leave = Ask::Node { name: "n4".into(), duty: NodeDuty::Leave, fewer: false, dry_run: false };
    room.place(1).held = Some(VecDeque::new());
    let client = room.ask(2, leave);
    room.pass(STEP_MICROS);
    let (number, op) = room.take_held(1);
    room.store.run(&op);
    room.step(NodeId(1), Input::Answered { number, result: Err(Error::InDoubt("no answer".into())) });
    // It has nothing, so it is gone before it is asked again.
    let gone = room.store.map();
    let gone = placement::plan(&gone, &placement::Limits { changes: 1, per_node: 1 }).unwrap();
    assert!(!gone.nodes.contains_key(&NodeId(4)));
    room.store.rows = gone.rows();
    room.place(1).held = None;
    let answer = room.wait_for(client);
    assert!(matches!(&answer, Err(Error::InDoubt(why)) if why.contains("'n4'")), "{answer:?}");
}

#[test]
fn ask_that_cannot_be_meant_is_refused_at_once() {
    let mut room = Room::founded(3, 1);
    let client =
        room.ask(2, Ask::Node { name: "n1".into(), duty: NodeDuty::Gone, fewer: false, dry_run: false });
    assert!(matches!(room.answers[&client], Err(Error::Invalid(_))));
    let refused = room.call(2, Ask::Abort { shard: ShardId(1) });
    assert!(
        matches!(&refused, Err(Error::Invalid(why)) if why.contains("no change under way")),
        "{refused:?}"
    );
    let refused = room.call(2, Ask::Replace { name: "n1".into(), lose: false, dry_run: false });
    assert!(matches!(&refused, Err(Error::Invalid(why)) if why.contains("stop it first")), "{refused:?}");
}

#[test]
fn too_much_at_once_is_refused() {
    let mut room = Room::new(1, 1);
    let clients: Vec<u64> = (0..300).map(|_| room.ask(1, Ask::Moves)).collect();
    let refused = |client: &&u64| matches!(room.answers.get(client), Some(Err(Error::Unavailable(_))));
    assert_eq!(clients.iter().filter(refused).count(), 44);
}

#[test]
fn rows_are_shown_as_text_under_their_keys() {
    let mut room = Room::founded(1, 1);
    let Ok(Answer::Rows(rows)) = room.call(1, Ask::Dump) else { panic!("rows are shown") };
    let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
    let stored: Vec<String> =
        room.store.rows.keys().map(|key| String::from_utf8(key.to_vec()).unwrap()).collect();
    assert_eq!(keys, stored);
    let text = |key: &str| rows.iter().find(|row| row.key == key).unwrap().value.clone();
    assert_eq!(
        text("node/00000000000000000001"),
        "n1 serve alive peer=h1:1 address=h1:2 incarnation=0000000000000065"
    );
    assert_eq!(
        text("shard/0000000001"),
        "default slots=0-16383 raft epoch=1 revision=1 members=1#1 leader=1 next-replica=2"
    );
}

#[test]
fn ask_that_costs_replicas_or_data_is_refused_unless_that_is_accepted() {
    let mut room = Room::founded(3, 1);
    let drain = |fewer| Ask::Node { name: "n2".into(), duty: NodeDuty::Drain, fewer, dry_run: true };
    let refused = room.call(1, drain(false));
    assert!(matches!(&refused, Err(Error::Invalid(why)) if why.contains("--fewer-replicas")), "{refused:?}");
    assert!(matches!(room.call(1, drain(true)), Ok(Answer::Moves(_))));
    // Two of three replicas are dead: each of them may have what nobody else has.
    for id in [2, 3] {
        room.hear(id, Some(Liveness::Dead));
    }
    room.pass(10_000_000);
    let replace = |name: &str, lose| Ask::Replace { name: name.into(), lose, dry_run: false };
    for name in ["n2", "n3"] {
        let refused = room.call(1, replace(name, false));
        assert!(matches!(&refused, Err(Error::Invalid(why)) if why.contains("--lose-data")), "{refused:?}");
    }
    room.call(1, replace("n3", true)).unwrap();
}
