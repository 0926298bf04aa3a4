//! The names of dropped keyspaces.

use kv::admin::{Answer, Ask};
use kv::cluster::Liveness;
use kv::keyspace::Wish;
use kv::{Error, NodeId, Protocol};
use replication::raft::LEASE_MICROS_MAX;

use super::room::{Room, STEP_MICROS};

fn create() -> Ask {
    Ask::CreateKeyspace { name: "tea".into(), wish: Wish::default() }
}

/// A keyspace on three nodes is dropped, of which nobody has heard but who leads the directory; the revision of that.
fn dropped(wish: Wish) -> (Room, u64) {
    let mut room = Room::founded(3, 1);
    assert_eq!(room.call(1, Ask::CreateKeyspace { name: "tea".into(), wish }), Ok(Answer::Done));
    let before = room.store.map().revision;
    [1, 2, 3].into_iter().for_each(|id| room.keeps(id, before));
    assert_eq!(room.call(1, Ask::DropKeyspace { name: "tea".into() }), Ok(Answer::Done));
    let revision = room.store.map().dropped["tea"].revision;
    room.keeps(1, revision);
    (room, revision)
}

fn is_free(room: &Room) -> bool {
    !room.store.map().dropped.contains_key("tea")
}

#[test]
fn name_waits_for_a_majority_and_then_for_the_leases_that_were_left() {
    let (mut room, revision) = dropped(Wish::default());
    room.pass(60_000_000);
    let Err(Error::Unavailable(why)) = room.call(2, create()) else { panic!("nodes 2 and 3 may serve it") };
    assert!(why.contains("(n2, n3)"), "{why}");
    room.keeps(2, revision - 1);
    room.pass(60_000_000);
    assert!(!is_free(&room));
    room.keeps(2, revision + 1);
    room.pass(LEASE_MICROS_MAX - STEP_MICROS);
    let Err(Error::Unavailable(why)) = room.call(2, create()) else { panic!("node 3 may have a lease") };
    assert!(why.contains("ask again in a second"), "{why}");
    room.pass(500_000);
    assert!(is_free(&room));
    assert_eq!(room.call(2, create()), Ok(Answer::Done));
}

#[test]
fn name_waits_for_the_one_node_that_had_it() {
    let (mut room, revision) =
        dropped(Wish { protocol: Some(Protocol::Single), replicas: Some(1), ..Wish::default() });
    let [holders] = &room.store.map().dropped["tea"].holders[..] else { panic!("one set of nodes") };
    let [NodeId(holder)] = holders.nodes[..] else { panic!("a shard of one copy is on one node") };
    (1..=3).for_each(|id| room.keeps(id, if id == holder { revision - 1 } else { revision }));
    room.pass(60_000_000);
    assert!(!is_free(&room));
    room.keeps(holder, revision);
    room.pass(1_000_000);
    assert!(is_free(&room));
}

#[test]
fn another_leader_sees_who_has_heard_and_lets_leases_pass_from_its_own_beginning() {
    let (mut room, revision) = dropped(Wish::default());
    room.keeps(2, revision);
    room.pass(LEASE_MICROS_MAX - 2 * STEP_MICROS);
    room.lead(2);
    room.pass(LEASE_MICROS_MAX - 2 * STEP_MICROS);
    assert!(!is_free(&room));
    room.pass(500_000);
    assert!(is_free(&room));
}

#[test]
fn name_of_a_keyspace_whose_nodes_are_gone_waits_until_people_say_that_they_are_off() {
    let (mut room, _) = dropped(Wish::default());
    // The node leads the directory, and has the keyspace with two that are lost one after the other.
    for (id, name) in [(2, "n2"), (3, "n3")] {
        room.hear(id, Some(Liveness::Dead));
        room.keeps(id, 1);
        room.pass(10_000_000);
        let replace = |lose| Ask::Replace { name: name.into(), lose, dry_run: false };
        if id == 2 {
            assert_eq!(room.call(1, replace(false)), Ok(Answer::Done));
            room.pass(10_000_000);
            assert!(!is_free(&room), "it may run, cut off");
        }
        assert_eq!(room.call(1, replace(true)), Ok(Answer::Done));
    }
    room.pass(1_000_000);
    assert!(is_free(&room));
}
