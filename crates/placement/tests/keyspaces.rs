//! Keyspaces that come, change and go.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use kv::cluster::Liveness;
use kv::keyspace::{History, KEYSPACES_MAX, Keep, Weights, Wish};
use kv::view::Duty;
use kv::{NodeId, Protocol, ShardId};
use placement::map::{DEFAULT, DIRECTORY, Map};
use placement::{Event, Founder, Founding, Limits, Refusal, plan};

fn founded(nodes: u64) -> Map {
    let founder = |id| Founder { name: format!("n{id}"), peer: format!("10.0.0.{id}:1") };
    let nodes = (1..=nodes).map(founder).collect();
    Map::founding(&Founding { cluster: None, nodes, shards: 4, replicas: 3, protocol: Protocol::Raft })
}

fn create(map: &Map, name: &str, wish: Wish) -> Result<Map, Refusal> {
    map.apply(&Event::Create { name: name.into(), wish })
}

fn shards(count: u32) -> Wish {
    Wish { shards: Some(count), ..Wish::default() }
}

fn drop_it(map: &Map, name: &str) -> Result<Map, Refusal> {
    map.apply(&Event::Drop { name: name.into() })
}

fn free(map: &Map, name: &str) -> Map {
    map.apply(&Event::Free { name: name.into() }).unwrap()
}

#[test]
fn keyspace_is_created_evenly_and_nothing_that_is_there_moves() {
    let mut map = founded(5);
    let before = map.shards.clone();
    for (name, count) in [("a", 1), ("b", 7), ("c", 3), ("d", 16)] {
        map = create(&map, name, shards(count)).unwrap();
        assert_eq!(map.check(), Ok(()));
        assert!(map.shards_of(name).iter().all(|(_, shard)| shard.members.len() == 3));
        let counts: Vec<usize> = (1..=5)
            .map(|node| {
                map.replicas_of(NodeId(node)).filter(|(_, shard)| shard.keyspace != DIRECTORY).count()
            })
            .collect();
        assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{name}: {counts:?}");
    }
    assert!(before.iter().all(|(id, shard)| map.shards[id].members == shard.members));
    assert!(plan(&map, &Limits::default()).is_none_or(|next| next.changes.is_empty()), "nothing has to move");
}

#[test]
fn ids_of_shards_are_never_given_again() {
    let mut map = founded(3);
    let mut seen: BTreeSet<ShardId> = map.shards.keys().copied().collect();
    for _ in 0..5 {
        map = create(&map, "a", shards(3)).unwrap();
        assert!(map.shards_of("a").iter().all(|(id, _)| seen.insert(*id)));
        map = drop_it(&map, "a").unwrap();
        assert!(map.shards_of("a").is_empty() && map.check().is_ok());
        map = free(&map, "a");
    }
}

#[test]
fn what_is_so_already_is_done_and_what_is_otherwise_is_refused() {
    let map = create(&founded(3), "a", shards(2)).unwrap();
    assert_eq!(create(&map, "a", shards(2)).as_ref(), Ok(&map));
    assert_eq!(create(&map, "a", Wish::default()).as_ref(), Ok(&map));
    assert!(matches!(create(&map, "a", shards(3)), Err(Refusal::OtherKeyspace { .. })));
    let quota = Wish { quota_keys: Some(7), ..Wish::default() };
    assert!(matches!(create(&map, "a", quota), Err(Refusal::OtherKeyspace { .. })));
    assert_eq!(drop_it(&map, "b").as_ref(), Ok(&map));
}

#[test]
fn keyspace_under_quorum_keeps_its_copies() {
    let wish = |protocol| Wish { protocol: Some(protocol), ..Wish::default() };
    let map = create(&founded(3), "a", wish(Protocol::Quorum)).unwrap();
    assert_eq!(map.check(), Ok(()));
    let (_, shard) = map.shards_of("a")[0];
    assert!(shard.members.len() == 3 && shard.members.iter().all(|member| member.duty == Duty::Voter));
    let alter = |map: &Map, name: &str, wish| map.apply(&Event::Alter { name: name.into(), wish });
    let more = Wish { replicas: Some(1), ..Wish::default() };
    assert!(matches!(alter(&map, "a", more), Err(Refusal::ReplicasStay(_))));
    assert!(matches!(alter(&map, "a", shards(2)), Err(Refusal::Invalid(_))));
    let few = create(&founded(2), "a", wish(Protocol::Quorum));
    assert!(matches!(few, Err(Refusal::TooFewForAll { replicas: 3, nodes: 2 })));
}

#[test]
fn keyspace_with_limits_that_need_an_order_goes_to_quorum_without_them() {
    let quorum = Wish { protocol: Some(Protocol::Quorum), ..Wish::default() };
    let alter = |map: &Map, wish| map.apply(&Event::Alter { name: DEFAULT.into(), wish });
    let history = Some(History::Count(9));
    let limits = Wish { ttl_micros: Some(7), quota_keys: Some(9), history, ..Wish::default() };
    let map = alter(&founded(3), limits).unwrap();
    let told = |refused: Result<Map, Refusal>, says: &str| match refused {
        Err(Refusal::Invalid(why)) => assert!(why.contains(says), "{why}"),
        other => panic!("{other:?}"),
    };
    told(alter(&map, quorum.clone()), "Take it away with --ttl never");
    told(alter(&map, Wish { ttl_micros: Some(0), ..quorum.clone() }), "Take it away with --quota-keys none");
    let map = alter(&map, Wish { ttl_micros: Some(0), quota_keys: Some(0), ..quorum.clone() }).unwrap();
    let settings = map.keyspaces[DEFAULT].settings();
    assert_eq!((settings.keep, settings.weighed.unwrap().weights.each()), (Keep::default(), vec![1, 1, 1]));
    // What weighs anything stays so until nobody is asked by it.
    let back = Wish { protocol: Some(Protocol::Raft), ..Wish::default() };
    let others = Wish { weights: Some(Weights::new(&[1, 2, 1]).unwrap()), ..quorum };
    let begun = plan(&map, &Limits::default()).unwrap();
    let taken_back = alter(&begun, back.clone()).unwrap();
    assert!(matches!(alter(&taken_back, others.clone()), Err(Refusal::Recast { .. })));
    assert_eq!(taken_back.keyspaces[DEFAULT].settings().weighed, None);
    assert!(alter(&alter(&map, back).unwrap(), others).is_ok());
}

#[test]
fn what_cannot_be_is_refused() {
    let map = founded(3);
    for name in ["", "_a", "a b", DIRECTORY] {
        assert!(matches!(create(&map, name, Wish::default()), Err(Refusal::Invalid(_))), "{name}");
        assert!(matches!(drop_it(&map, name), Err(Refusal::Invalid(_))), "{name}");
    }
    assert!(matches!(drop_it(&map, DEFAULT), Err(Refusal::Stays(_))));
    let alter = |name: &str, wish| map.apply(&Event::Alter { name: name.into(), wish });
    assert!(matches!(alter("a", Wish::default()), Err(Refusal::UnknownKeyspace(_))));
    let both = Wish { protocol: Some(Protocol::Primary), shards: Some(8), ..Wish::default() };
    assert!(
        matches!(alter(DEFAULT, both), Err(Refusal::Invalid(_))),
        "one after the other, and no waiting helps"
    );
    assert!(matches!(alter(DIRECTORY, Wish::default()), Err(Refusal::UnknownKeyspace(_))));
    assert!(matches!(alter(DEFAULT, shards(3)), Err(Refusal::FewerShards { shards: 4, .. })));
    let mut full = map;
    while full.shards.len() < 16_000 {
        full = create(&full, &format!("k{}", full.keyspaces.len()), shards(4_000)).unwrap();
    }
    assert!(matches!(create(&full, "more", shards(4_000)), Err(Refusal::TooManyShards { .. })));
}

#[test]
fn name_waits_until_no_shard_can_have_a_majority_of_those_who_have_not_heard() {
    let mut map = create(&founded(5), "a", shards(7)).unwrap();
    let sets: Vec<Vec<NodeId>> = map
        .shards_of("a")
        .iter()
        .map(|(_, shard)| shard.members.iter().map(|member| member.node).collect())
        .collect();
    map = drop_it(&map, "a").unwrap();
    assert_eq!(Map::decode(&map.encode()).as_ref(), Ok(&map));
    assert_eq!(map.dropped["a"].revision, map.revision);
    for heard in 0..1u32 << 5 {
        let has_heard = |node: NodeId| heard >> (node.0 - 1) & 1 == 1;
        let silent = |set: &Vec<NodeId>| set.iter().filter(|node| !has_heard(**node)).count();
        let can_serve = sets.iter().any(|set| silent(set) > set.len() / 2);
        let waits_for = map.dropped["a"].waits_for(has_heard);
        assert_eq!(can_serve, !waits_for.is_empty(), "{heard:b}: {waits_for:?}");
        assert!(!waits_for.iter().any(|node| has_heard(*node)));
    }
    assert!(matches!(create(&map, "a", Wish::default()), Err(Refusal::StillServed { .. })));
    assert!(create(&free(&map, "a"), "a", Wish::default()).is_ok());
}

#[test]
fn name_waits_for_each_member_where_each_serves_alone() {
    let two_phase = Wish { protocol: Some(Protocol::TwoPhase), replicas: Some(3), ..Wish::default() };
    let map = create(&founded(3), "a", two_phase).unwrap();
    let map = drop_it(&map, "a").unwrap();
    for silent in [1, 2, 3].map(NodeId) {
        let waits_for = map.dropped["a"].waits_for(|node| node != silent);
        assert_eq!(Vec::from_iter(waits_for), [silent]);
    }
    assert!(map.dropped["a"].waits_for(|_| true).is_empty());
}

#[test]
fn names_that_are_not_free_count_as_keyspaces() {
    let mut map = founded(3);
    let name = |number: usize| format!("k{number}");
    for number in 1..KEYSPACES_MAX {
        map = create(&map, &name(number), Wish::default()).unwrap();
        map = drop_it(&map, &name(number)).unwrap();
    }
    assert!(matches!(create(&map, "more", Wish::default()), Err(Refusal::TooManyKeyspaces(KEYSPACES_MAX))));
    assert!(create(&free(&map, "k1"), "more", Wish::default()).is_ok());
}

#[test]
fn altered_settings_stand_in_the_rows_and_replicas_follow_by_the_plan() {
    let map = create(&founded(5), "a", shards(2)).unwrap();
    let wish = Wish {
        replicas: Some(5),
        history: Some(History::Micros(7)),
        ttl_micros: Some(9),
        quota_bytes: Some(1 << 40),
        ..Wish::default()
    };
    let map = map.apply(&Event::Alter { name: "a".into(), wish }).unwrap();
    assert_eq!(Map::from_rows(&map.rows()).as_ref(), Ok(&map));
    assert_eq!(map.keyspaces["a"].settings().keep.history, Some(History::Micros(7)));
    let all = Limits { changes: usize::MAX, per_node: usize::MAX };
    let next = plan(&map, &all).unwrap().completed();
    assert!(next.shards_of("a").iter().all(|(_, shard)| shard.members.len() == 5));
}

#[test]
fn two_phase_has_all_its_copies_and_its_master_from_the_beginning_and_they_stay() {
    let two_phase = |replicas, shards| Wish {
        protocol: Some(Protocol::TwoPhase),
        replicas: Some(replicas),
        shards: Some(shards),
        ..Wish::default()
    };
    let map = founded(3);
    let too_few = Refusal::TooFewForAll { replicas: 4, nodes: 3 };
    assert_eq!(create(&map, "a", two_phase(4, 1)), Err(too_few));
    let map = create(&map, "a", two_phase(2, 6)).unwrap();
    assert_eq!((map.check(), Map::from_rows(&map.rows()).as_ref()), (Ok(()), Ok(&map)));
    let masters = |map: &Map, node| {
        let of = |shard: &placement::map::Shard| {
            let orders = shard.members.iter().filter(|member| member.duty == Duty::Primary);
            assert!(
                orders.map(|member| member.node).eq([shard.leader]),
                "its leader orders, and nobody else"
            );
            shard.leader == NodeId(node)
        };
        map.shards_of("a").iter().filter(|(_, shard)| of(shard)).count()
    };
    assert_eq!([1, 2, 3].map(|node| masters(&map, node)), [2, 2, 2], "masters are dealt out evenly");
    let replicas = Wish { replicas: Some(3), ..Wish::default() };
    let altered = map.apply(&Event::Alter { name: "a".into(), wish: replicas });
    assert_eq!(altered, Err(Refusal::ReplicasStay("a".into())));
    let join = |id: u64| Event::Join {
        name: format!("n{id}"),
        incarnation: id,
        peer: format!("10.0.0.{id}:1"),
        address: String::new(),
        zone: String::new(),
    };
    let map = map.apply(&join(4)).unwrap();
    let drain = map.apply(&Event::Drain { name: "n1".into(), fewer: false });
    assert_eq!(drain, Err(Refusal::CopiesStay("a".into())));
    let moved = plan(&map, &Limits::default()).map_or(map.clone(), |next| next.completed());
    let members =
        |map: &Map| Vec::from_iter(map.shards_of("a").iter().map(|(_, shard)| shard.members.clone()));
    assert_eq!(members(&moved), members(&map), "what joins later takes none of them");
    // A node with one of them is not given up: nobody makes that copy again.
    let dead = map.apply(&Event::Health { node: NodeId(1), state: Liveness::Dead }).unwrap();
    let replace = |lose| dead.apply(&Event::Replace { name: "n1".into(), lose });
    assert!(matches!(replace(false), Err(Refusal::LastCopy { .. })));
    assert!(plan::lost(&replace(true).unwrap()).len() >= 4, "four shards had a copy there");
    // Its shards are cut where they are, and the parts have their master.
    let map = map.apply(&Event::Alter { name: "a".into(), wish: shards(7) }).unwrap();
    let all = Limits { changes: usize::MAX, per_node: usize::MAX };
    let map = plan(&map, &all).unwrap();
    assert_eq!(map.check(), Ok(()));
    let map = map.completed();
    assert_eq!((map.check(), map.shards_of("a").len()), (Ok(()), 7));
    assert_eq!((1..=4).map(|node| masters(&map, node)).sum::<usize>(), 7);
}

#[test]
fn name_of_a_dropped_two_phase_keyspace_waits_for_each_of_its_copies() {
    let wish = Wish { protocol: Some(Protocol::TwoPhase), replicas: Some(3), ..Wish::default() };
    let map = drop_it(&create(&founded(3), "a", wish).unwrap(), "a").unwrap();
    let waits_for = |heard: &[u64]| map.dropped["a"].waits_for(|node| heard.contains(&node.0));
    assert_eq!(waits_for(&[1, 2]), BTreeSet::from([NodeId(3)]), "it answers reads alone");
    assert!(waits_for(&[1, 2, 3]).is_empty());
}
