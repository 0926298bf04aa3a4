//! What the leader does of its own accord.

use kv::admin::{Answer, Ask, Move, Phase, Why};
use kv::cluster::{Liveness, NodeDuty};
use kv::{Error, NodeId, ShardId};
use placement::Limits;
use placement::map::{self, Change};

use super::room::{GRACE_MICROS, Room, STEP_MICROS, joining};
use crate::directory::Directory;
use crate::directory::seen::digest;
use crate::seat::wanted_of;
use crate::wire::Newcomers;

/// Has changes go on until there is none.
fn settle(room: &mut Room) {
    for _ in 0..100 {
        let shards: Vec<ShardId> = room.store.map().changes.keys().copied().collect();
        if shards.is_empty() {
            return;
        }
        shards.into_iter().for_each(|shard| room.go_on(shard));
        room.pass(500_000);
    }
    panic!("changes come to an end");
}

fn moves(room: &mut Room, ask: Ask) -> Vec<Move> {
    match room.call(2, ask) {
        Ok(Answer::Moves(moves)) => moves,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nodes_that_have_said_what_they_are_have_it_in_their_rows() {
    let mut room = Room::founded(3, 1);
    let node = room.store.map().nodes[&NodeId(3)].clone();
    assert_eq!((node.incarnation, node.address.as_str()), (103, "h3:2"));
    room.seen.nodes.get_mut(&NodeId(3)).unwrap().says.as_mut().unwrap().zone = "z".into();
    room.pass(500_000);
    assert_eq!(room.store.map().nodes[&NodeId(3)].zone, "z");
    // Another folder under a known id is refused, again and again, and changes nothing.
    let revision = room.store.map().revision;
    room.seen.nodes.get_mut(&NodeId(3)).unwrap().says.as_mut().unwrap().incarnation = 9;
    room.pass(2_000_000);
    assert_eq!(room.store.map().revision, revision);
}

#[test]
fn node_is_dead_when_it_was_for_a_while_and_alive_likewise() {
    let mut room = Room::founded(3, 1);
    let state = |room: &Room| room.store.map().nodes[&NodeId(3)].state;
    room.hear(3, Some(Liveness::Dead));
    room.pass(1_500_000);
    assert_eq!(state(&room), Liveness::Alive);
    room.pass(1_000_000);
    assert_eq!(state(&room), Liveness::Dead);
    let revision = room.store.map().revision;
    room.hear(3, Some(Liveness::Alive));
    room.pass(1_000_000);
    room.hear(3, Some(Liveness::Dead));
    room.pass(3_000_000);
    assert_eq!(room.store.map().revision, revision, "what passes is not written");
    room.hear(3, Some(Liveness::Alive));
    room.pass(3_000_000);
    assert_eq!(state(&room), Liveness::Alive);
}

#[test]
fn new_leader_takes_nobody_for_dead_before_all_could_be_heard() {
    let mut room = Room::founded(3, 1);
    (1..=3).for_each(|id| room.hear(id, Some(Liveness::Dead)));
    room.lead(2);
    room.pass(2_500_000);
    let alive =
        |room: &Room| room.store.map().nodes.values().filter(|node| node.state == Liveness::Alive).count();
    assert_eq!(alive(&room), 3);
    room.pass(1_000_000);
    assert_eq!(alive(&room), 0);
}

#[test]
fn node_that_joins_is_given_replicas_one_change_after_the_other() {
    let mut room = Room::founded(3, 4);
    room.hear(4, Some(Liveness::Alive));
    room.call(1, joining(4)).unwrap();
    room.pass(500_000);
    let map = room.store.map();
    assert_eq!(map.changes.len(), 2, "two at once copy to it");
    settle(&mut room);
    let map = room.store.map();
    let counts: Vec<usize> = (1..=4)
        .map(|id| {
            map.shards_of("default").iter().filter(|(_, shard)| shard.member(NodeId(id)).is_some()).count()
        })
        .collect();
    assert_eq!(counts, [3; 4]);
    let revision = map.revision;
    room.pass(5_000_000);
    assert_eq!(room.store.map().revision, revision, "then nothing is left to do");
}

#[test]
fn plan_counts_on_nobody_who_is_not_heard_of_whatever_is_written() {
    let mut room = Room::founded(3, 4);
    room.call(1, joining(4)).unwrap();
    room.pass(5_000_000);
    let map = room.store.map();
    assert_eq!(map.nodes[&NodeId(4)].state, Liveness::Alive, "it is given time to start");
    assert!(map.changes.is_empty(), "and nothing before it was heard of");
    room.hear(4, Some(Liveness::Alive));
    room.pass(500_000);
    assert_eq!(room.store.map().changes.len(), 2);
}

#[test]
fn nothing_is_planned_by_a_new_leader_nor_while_most_nodes_are_not_alive() {
    let mut room = Room::founded(3, 4);
    room.lead(2);
    room.hear(4, Some(Liveness::Alive));
    room.call(2, joining(4)).unwrap();
    room.pass(1_000_000);
    assert!(room.store.map().changes.is_empty());
    [3, 4].into_iter().for_each(|id| room.hear(id, Some(Liveness::Suspect)));
    room.pass(5_000_000);
    assert!(room.store.map().changes.is_empty());
    room.hear(4, Some(Liveness::Alive));
    room.pass(4_000_000);
    assert!(!room.store.map().changes.is_empty());
}

#[test]
fn dead_node_is_gone_after_the_grace_and_its_replicas_are_made_again() {
    let mut room = Room::founded(4, 4);
    room.hear(3, Some(Liveness::Dead));
    room.pass(GRACE_MICROS - 1_000_000);
    let before = room.store.map();
    assert_eq!((before.nodes[&NodeId(3)].duty, before.changes.len()), (NodeDuty::Serve, 0));
    room.pass(2_000_000);
    assert_eq!(room.store.map().nodes[&NodeId(3)].duty, NodeDuty::Gone);
    assert!(room.store.map().changes.values().any(|change| change.why == Why::Lost(NodeId(3))));
    settle(&mut room);
    let map = room.store.map();
    assert!(!map.nodes.contains_key(&NodeId(3)), "it has nothing any more, and is no member");
    assert!(map.shards_of("default").iter().all(|(_, shard)| shard.members.len() == 3));
}

#[test]
fn node_that_has_just_died_is_replaced_when_that_is_asked_and_one_that_may_live_is_not() {
    let mut room = Room::founded(4, 4);
    let replace = |dry_run| Ask::Replace { name: "n3".into(), lose: false, dry_run };
    let is_alive = room.call(2, replace(false));
    assert!(matches!(&is_alive, Err(Error::Invalid(why)) if why.contains("stop it first")), "{is_alive:?}");
    room.hear(3, Some(Liveness::Suspect));
    room.pass(200_000);
    let too_early = room.call(2, replace(false));
    assert!(too_early.as_ref().is_err_and(Error::is_transient), "{too_early:?}");
    room.hear(3, Some(Liveness::Dead));
    room.pass(200_000);
    assert_eq!(room.store.map().nodes[&NodeId(3)].state, Liveness::Alive, "that is not written yet");
    assert!(!moves(&mut room, replace(true)).is_empty());
    assert_eq!(room.call(2, replace(false)), Ok(Answer::Done));
    assert_eq!(room.store.map().nodes[&NodeId(3)].duty, NodeDuty::Gone);
}

#[test]
fn shards_that_change_at_once_are_no_more_than_was_said() {
    for changes in [1, 3] {
        let mut room = Room::new(4, 16);
        for id in 1..=4 {
            let limits = Limits { changes, per_node: 16 };
            room.place(id).directory = Directory::new(GRACE_MICROS, limits, id);
        }
        room.lead(1);
        room.pass(4_000_000);
        let drain = Ask::Node { name: "n1".into(), duty: NodeDuty::Drain, fewer: false, dry_run: false };
        room.call(1, drain).unwrap();
        room.pass(1_000_000);
        assert_eq!(room.store.map().changes.len(), changes);
        assert!(moves(&mut room, Ask::Moves).len() > changes, "the others are still to come");
    }
}

#[test]
fn dead_node_that_comes_back_in_the_grace_keeps_its_replicas() {
    let mut room = Room::founded(4, 4);
    let shards = room.store.map().shards;
    room.hear(3, Some(Liveness::Dead));
    room.pass(GRACE_MICROS - 1_000_000);
    room.hear(3, Some(Liveness::Alive));
    room.pass(2 * GRACE_MICROS);
    let map = room.store.map();
    assert_eq!((map.shards, map.nodes[&NodeId(3)].state), (shards, Liveness::Alive));
}

#[test]
fn nobody_is_gone_while_most_nodes_are_not_alive() {
    let mut room = Room::founded(5, 2);
    [3, 4, 5].into_iter().for_each(|id| room.hear(id, Some(Liveness::Dead)));
    room.pass(2 * GRACE_MICROS);
    let map = room.store.map();
    assert!(map.nodes.values().all(|node| node.duty == NodeDuty::Serve));
    assert_eq!(map.nodes[&NodeId(5)].state, Liveness::Dead);
}

/// A node is drained in favour of another that joins: the shard and its change.
fn changing(room: &mut Room) -> (ShardId, Change) {
    room.hear(4, Some(Liveness::Alive));
    room.call(1, joining(4)).unwrap();
    room.call(1, Ask::Node { name: "n1".into(), duty: NodeDuty::Drain, fewer: false, dry_run: false })
        .unwrap();
    room.pass(500_000);
    let change = room.store.map().changes[&ShardId(1)].clone();
    assert_eq!(change.to.iter().map(|member| member.node.0).collect::<Vec<_>>(), [2, 3, 4]);
    (ShardId(1), change)
}

/// The node that was to come is dead, and replaced for good.
fn n4_is_given_up(room: &mut Room) {
    room.hear(4, Some(Liveness::Dead));
    room.pass(3_000_000);
    let replace = Ask::Replace { name: "n4".into(), lose: false, dry_run: false };
    assert_eq!(room.call(2, replace), Ok(Answer::Done));
}

fn phase(room: &Room, shard: ShardId) -> Option<map::Phase> {
    room.store.map().changes.get(&shard).map(|change| change.phase)
}

#[test]
fn members_change_over_only_when_those_that_come_have_caught_up() {
    let mut room = Room::founded(3, 1);
    let (shard, _) = changing(&mut room);
    let map = room.store.map();
    let learning = digest(&wanted_of(&map, shard, &map.shards[&shard]));
    for (members, newcomers) in [(77, Newcomers::Ready), (learning, Newcomers::Behind)] {
        room.say(shard, &[2, 3], members, newcomers);
        room.pass(500_000);
        assert_eq!(phase(&room, shard), Some(map::Phase::Copy));
    }
    room.say(shard, &[2, 3], learning, Newcomers::Ready);
    room.pass(500_000);
    assert_eq!(phase(&room, shard), Some(map::Phase::Switch));
    let refused = room.call(2, Ask::Abort { shard });
    assert!(matches!(&refused, Err(Error::Unavailable(why)) if why.contains("changing over")), "{refused:?}");
}

#[test]
fn change_whose_newcomer_was_let_go_begins_anew_with_another_number() {
    let mut room = Room::founded(3, 1);
    let (shard, change) = changing(&mut room);
    let members = digest(&room.store.map().shards[&shard].members);
    room.say(shard, &[2, 3], members, Newcomers::Gone);
    room.pass(2_000_000);
    assert_eq!(room.store.map().changes[&shard], change, "that may have been said of another one");
    room.pass(1_500_000);
    let again = room.store.map().changes[&shard].clone();
    let numbers = |change: &Change| {
        change.to.iter().map(|member| (member.node.0, member.replica.0)).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&change), [(2, 2), (3, 3), (4, 4)]);
    assert_eq!((numbers(&again), again.phase), (vec![(2, 2), (3, 3), (4, 5)], map::Phase::Copy));
}

#[test]
fn change_is_done_when_most_of_the_members_it_is_to_have_know_that_they_are() {
    let mut room = Room::founded(3, 1);
    let (shard, change) = changing(&mut room);
    room.go_on(shard);
    room.pass(500_000);
    // Who leads may be lost, and those that have not heard of it would wait for those that are dropped.
    room.say(shard, &[2], digest(&change.to), Newcomers::Ready);
    room.pass(500_000);
    assert_eq!(phase(&room, shard), Some(map::Phase::Switch));
    room.say(shard, &[2, 4], digest(&change.to), Newcomers::Ready);
    room.pass(500_000);
    let (row, said) = (&room.store.map().shards[&shard], room.seen.leader(shard).unwrap().revision);
    assert_eq!((&row.members, row.revision, phase(&room, shard)), (&change.to, said, None));
}

#[test]
fn change_that_cannot_be_given_up_ends_without_who_was_to_come_and_is_gone() {
    for has_changed_over in [false, true] {
        let mut room = Room::founded(3, 1);
        let (shard, change) = changing(&mut room);
        room.go_on(shard);
        room.pass(500_000);
        n4_is_given_up(&mut room);
        room.pass(500_000);
        assert_eq!(phase(&room, shard), Some(map::Phase::Switch), "it may have changed over meanwhile");
        let left = [change.to[0], change.to[1]];
        let members = if has_changed_over { &change.to[..] } else { &left };
        room.say(shard, &[2, 3], digest(members), Newcomers::Ready);
        room.pass(500_000);
        let map = room.store.map();
        assert_eq!((&map.shards[&shard].members[..], map.check()), (members, Ok(())));
    }
}

#[test]
fn change_that_came_about_before_it_was_planned_is_done() {
    let mut room = Room::founded(3, 1);
    let (shard, change) = changing(&mut room);
    room.go_on(shard);
    room.pass(500_000);
    n4_is_given_up(&mut room);
    // The map calls the change done with who is gone, when the shard has left that one out already.
    room.say(shard, &[2, 3], digest(&change.to), Newcomers::Ready);
    while room.store.map().changes.get(&shard).is_none_or(|now| now.to == change.to) {
        room.pass(STEP_MICROS);
    }
    let left = [change.to[0], change.to[1]];
    assert_eq!(
        (phase(&room, shard), room.store.map().shards[&shard].members.len()),
        (Some(map::Phase::Copy), 3)
    );
    room.say(shard, &[2, 3], digest(&left), Newcomers::Ready);
    room.pass(1_000_000);
    let map = room.store.map();
    assert_eq!((&map.shards[&shard].members[..], phase(&room, shard)), (&left[..], None));
}

#[test]
fn change_is_not_done_by_what_was_said_before_it() {
    let mut room = Room::founded(2, 1);
    let shard = ShardId(1);
    room.say(shard, &[1, 2], digest(&room.store.map().shards[&shard].members), Newcomers::Ready);
    let earlier = room.seen.shards[&shard].clone();
    room.hear(3, Some(Liveness::Alive));
    room.call(1, joining(3)).unwrap();
    room.pass(500_000);
    settle(&mut room);
    room.hear(3, Some(Liveness::Dead));
    room.pass(GRACE_MICROS + 3_000_000);
    assert_eq!(phase(&room, shard), Some(map::Phase::Switch), "nobody has to catch up");
    let removes = room.store.map().changes[&shard].clone();
    assert_eq!(
        digest(&removes.to),
        earlier[&NodeId(1)].members,
        "it is to have the members that it had at first"
    );
    room.seen.shards.insert(shard, earlier);
    room.pass(1_000_000);
    assert_eq!(room.store.map().changes.get(&shard), Some(&removes));
    room.go_on(shard);
    room.pass(1_000_000);
    assert_eq!(room.store.map().changes.get(&shard), None);
}

#[test]
fn change_that_is_given_up_is_over() {
    let mut room = Room::founded(3, 1);
    room.hear(4, Some(Liveness::Alive));
    room.call(1, joining(4)).unwrap();
    let drain = Ask::Node { name: "n1".into(), duty: NodeDuty::Drain, fewer: false, dry_run: false };
    room.call(1, drain).unwrap();
    room.pass(500_000);
    let shard = *room.store.map().changes.keys().next().unwrap();
    room.call(1, Ask::Node { name: "n1".into(), duty: NodeDuty::Serve, fewer: false, dry_run: false })
        .unwrap();
    let abort = room.call(3, Ask::Abort { shard });
    room.pass(500_000);
    assert_eq!((abort, room.store.map().changes.contains_key(&shard)), (Ok(Answer::Done), false));
}

#[test]
fn new_leader_goes_on_with_what_is_under_way() {
    let mut room = Room::founded(3, 4);
    room.hear(4, Some(Liveness::Alive));
    room.call(1, joining(4)).unwrap();
    room.pass(500_000);
    let changes = room.store.map().changes;
    room.lead(3);
    for _ in 0..2 {
        changes.keys().for_each(|shard| room.go_on(*shard));
        room.pass(500_000);
    }
    assert!(room.store.map().changes.is_empty(), "what is done is done at once, the next is planned later");
    room.pass(5_000_000);
    settle(&mut room);
}

#[test]
fn dry_run_says_what_happens_then_and_changes_nothing() {
    let mut room = Room::founded(4, 4);
    let before = room.store.map();
    let drain = |dry_run| Ask::Node { name: "n2".into(), duty: NodeDuty::Leave, fewer: false, dry_run };
    let said = moves(&mut room, drain(true));
    assert_eq!(room.store.map(), before);
    assert!(said.iter().all(|one| one.phase == Phase::Planned && one.from == Some(NodeId(2))), "{said:?}");
    let had = before.shards.values().filter(|shard| shard.member(NodeId(2)).is_some()).count();
    assert_eq!(said.len(), had);
    room.call(2, drain(false)).unwrap();
    let said_now = moves(&mut room, Ask::Moves);
    let ends = |moves: &[Move]| moves.iter().map(|one| (one.shard, one.from, one.to)).collect::<Vec<_>>();
    assert_eq!(ends(&said_now), ends(&said));
    room.pass(500_000);
    settle(&mut room);
    room.pass(1_000_000);
    assert!(!room.store.map().nodes.contains_key(&NodeId(2)));
    assert_eq!(moves(&mut room, Ask::Moves), []);
    let refused =
        room.call(2, Ask::Node { name: "n2".into(), duty: NodeDuty::Leave, fewer: false, dry_run: true });
    assert!(matches!(refused, Err(Error::Invalid(_))));
}

#[test]
fn moves_say_how_far_they_are() {
    let mut room = Room::founded(3, 4);
    room.hear(4, Some(Liveness::Alive));
    room.call(1, joining(4)).unwrap();
    room.pass(500_000);
    let shard = *room.store.map().changes.keys().next().unwrap();
    room.say(shard, &[2], 77, Newcomers::Behind);
    room.pass(1_000_000 - STEP_MICROS);
    let said = moves(&mut room, Ask::Moves);
    let one = said.iter().find(|one| one.shard == shard).unwrap();
    assert_eq!((one.phase, one.to, one.why), (Phase::Copy, Some(NodeId(4)), Why::Balance));
    assert_eq!((one.bytes_done, one.bytes_total), (30, 40));
    assert!((1_000_000..2_000_000).contains(&one.elapsed_micros), "{one:?}");
    let phases: Vec<Phase> = said.iter().map(|one| one.phase).collect();
    assert_eq!(phases.iter().filter(|phase| **phase == Phase::Planned).count(), 1, "the third is to come");
}

#[test]
fn node_that_was_never_heard_of_is_replaced_when_one_that_fell_silent_would_be() {
    let mut room = Room::founded(3, 1);
    room.seen.nodes.get_mut(&NodeId(3)).unwrap().state = None;
    room.lead(2);
    let replace = Ask::Replace { name: "n3".into(), lose: false, dry_run: false };
    room.pass(3_000_000);
    let early = room.call(2, replace.clone());
    assert!(matches!(&early, Err(Error::Unavailable(why)) if why.contains("silent")), "{early:?}");
    room.pass(3_000_000);
    assert_eq!(room.call(2, replace), Ok(Answer::Done));
}
