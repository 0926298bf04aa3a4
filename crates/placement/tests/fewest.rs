//! The plan moves no replica more than it must: compared with every placement that there is, on small maps, and with what a
//! node that comes or goes must move at least, on large ones.

mod world;

use std::collections::{BTreeMap, BTreeSet};

use kv::{NodeId, ShardId};
use placement::map::{Arrangement, Map, NodeDuty};
use placement::{Limits, plan};
use proptest::prelude::*;
use world::{About, UNLIMITED, add, copies, counts, leads, map, settle, spread, wanted};

/// How good a placement is; the least is the best. Sum of squares in keyspaces, in all, and moves.
type Cost = (usize, usize, usize);

/// Ways to choose so many of some nodes, no more of a zone than must be.
fn ways(nodes: &[u64], zones: &BTreeMap<u64, u8>, wants: usize) -> Vec<Vec<u64>> {
    let all = (0..1u32 << nodes.len()).map(|bits| {
        nodes
            .iter()
            .enumerate()
            .filter(|(bit, _)| bits >> bit & 1 == 1)
            .map(|(_, node)| *node)
            .collect::<Vec<u64>>()
    });
    let most = |way: &Vec<u64>| {
        let mut counts: BTreeMap<(u8, u64), usize> = BTreeMap::new();
        way.iter().for_each(|node| {
            let zone = zones[node];
            *counts.entry((zone, if zone == 0 { *node } else { 0 })).or_default() += 1;
        });
        counts.into_values().max().unwrap_or(0)
    };
    let right: Vec<Vec<u64>> = all.filter(|way| way.len() == wants).collect();
    let least = right.iter().map(most).min().expect("there is a way");
    right.into_iter().filter(|way| most(way) == least).collect()
}

/// The cost of the best of all placements of all shards of the evenly arranged keyspaces.
fn best(map: &Map, zones: &BTreeMap<u64, u8>) -> Cost {
    let takers: Vec<u64> =
        map.nodes.iter().filter(|(_, node)| node.duty == NodeDuty::Serve).map(|(id, _)| id.0).collect();
    let names: Vec<&String> = map.keyspaces.keys().filter(|name| !name.starts_with('_')).collect();
    // What counts of each keyspace on each node can be reached, and with how few moves.
    let mut reached: BTreeMap<Vec<usize>, usize> = BTreeMap::from([(vec![0; names.len() * takers.len()], 0)]);
    for shard in map.shards.values().filter(|shard| !shard.keyspace.starts_with('_')) {
        let group = names.iter().position(|name| **name == shard.keyspace).expect("it has one");
        let wants = usize::from(map.keyspaces[&shard.keyspace].replicas).min(takers.len());
        let mut next: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
        for way in ways(&takers, zones, wants) {
            let moves = way.iter().filter(|node| shard.member(NodeId(**node)).is_none()).count();
            for (counts, before) in &reached {
                let mut counts = counts.clone();
                way.iter().for_each(|node| {
                    let place = takers.iter().position(|taker| taker == node).expect("it takes");
                    counts[group * takers.len() + place] += 1;
                });
                let least = next.entry(counts).or_insert(usize::MAX);
                *least = (*least).min(before + moves);
            }
        }
        reached = next;
    }
    reached.iter().map(|(counts, moves)| cost(counts, takers.len(), *moves)).min().expect("some are reached")
}

fn cost(counts: &[usize], nodes: usize, moves: usize) -> Cost {
    let total = |node: usize| counts.iter().skip(node).step_by(nodes).sum::<usize>();
    (counts.iter().map(|n| n * n).sum(), (0..nodes).map(|node| total(node).pow(2)).sum(), moves)
}

/// The cost of what is planned.
fn planned(map: &Map) -> Cost {
    let takers: Vec<u64> =
        map.nodes.iter().filter(|(_, node)| node.duty == NodeDuty::Serve).map(|(id, _)| id.0).collect();
    let mut after = plan(map, &UNLIMITED).unwrap_or_else(|| map.clone());
    after.changes.remove(&ShardId::DIRECTORY);
    let names: Vec<&String> = map.keyspaces.keys().filter(|name| !name.starts_with('_')).collect();
    let mut all = vec![0; names.len() * takers.len()];
    for (id, shard) in after.shards.iter().filter(|(_, shard)| !shard.keyspace.starts_with('_')) {
        let group = names.iter().position(|name| **name == shard.keyspace).expect("it has one");
        for node in wanted(&after, *id) {
            let place = takers.iter().position(|taker| *taker == node).expect("it takes");
            all[group * takers.len() + place] += 1;
        }
    }
    cost(&all, takers.len(), copies(&after))
}

/// Small maps: up to five nodes, three zones, one or two keyspaces with up to six shards anywhere.
fn small() -> impl Strategy<Value = (Map, BTreeMap<u64, u8>)> {
    let node = (prop_oneof![4 => Just(NodeDuty::Serve), 1 => Just(NodeDuty::Drain)], 0u8..3);
    let nodes = prop::collection::vec(node, 1..=4);
    let shard = prop::collection::vec(any::<bool>(), 4);
    let keyspace = || (1u16..=3, prop::collection::vec(shard.clone(), 1..=6));
    let second = prop::option::weighted(0.4, (1u16..=2, prop::collection::vec(shard.clone(), 1..=3)));
    (nodes, keyspace(), second).prop_map(|(mut nodes, first, second)| {
        nodes[0].0 = NodeDuty::Serve;
        let mut map = map(&nodes);
        for (name, (replicas, shards)) in [("a", Some(first)), ("b", second)]
            .into_iter()
            .filter_map(|(name, keyspace)| Some((name, keyspace?)))
        {
            add(&mut map, name, Arrangement::Even, replicas, &on(&nodes, replicas, &shards));
        }
        let zones = (1..).zip(nodes.iter().map(|(_, zone)| *zone)).collect();
        (map, zones)
    })
}

/// The nodes of shards that are marked; the first where none is; one only where one replica is wanted.
fn on(nodes: &[About], replicas: u16, shards: &[Vec<bool>]) -> Vec<Vec<u64>> {
    let of = |marks: &Vec<bool>| {
        let marked = (1..).zip(marks).take(nodes.len()).filter(|(_, is)| **is).map(|(node, _)| node);
        let mut marked: Vec<u64> = marked.take(if replicas == 1 { 1 } else { 4 }).collect();
        if marked.is_empty() {
            marked.push(1);
        }
        marked
    };
    shards.iter().map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn plan_is_the_best_of_all_placements((map, zones) in small()) {
        prop_assert_eq!(map.check(), Ok(()));
        prop_assert_eq!(planned(&map), best(&map, &zones));
    }

    #[test]
    fn limits_change_nothing_of_what_is_moved((map, _) in small(), seed in any::<u64>(), changes in 1usize..4) {
        let least = plan(&map, &UNLIMITED).map_or(0, |next| copies(&next));
        let mut state = seed;
        let choose = |count| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % count
        };
        let (end, copied) = settle(&map, &Limits { changes, per_node: 2 }, choose);
        prop_assert_eq!(copied, least);
        prop_assert_eq!(plan(&end, &UNLIMITED), None);
        for name in ["a", "b"].into_iter().filter(|name| end.keyspaces.contains_key(*name)) {
            for (_, shard) in end.shards_of(name) {
                prop_assert!(shard.members.iter().all(|at| end.nodes[&at.node].duty == NodeDuty::Serve));
            }
        }
    }
}

/// A settled map of so many nodes and shards.
fn settled(nodes: u64, shards: usize, replicas: u16) -> Map {
    let mut map = map(&vec![(NodeDuty::Serve, 0); nodes as usize]);
    let of = |index: u64| {
        let mut nodes: Vec<u64> = (0..u64::from(replicas)).map(|at| 1 + (index + at) % nodes).collect();
        nodes.sort_unstable();
        nodes
    };
    add(&mut map, "a", Arrangement::Even, replicas, &(0..shards as u64).map(of).collect::<Vec<_>>());
    settle(&map, &UNLIMITED, |_| 0).0
}

#[test]
fn node_that_joins_takes_its_share_and_nothing_else_moves() {
    for (nodes, shards, replicas) in [(3, 4, 3), (3, 100, 3), (5, 64, 3), (9, 200, 5), (49, 300, 5)] {
        let before = settled(nodes, shards, replicas);
        let mut joined = map(&vec![(NodeDuty::Serve, 0); nodes as usize + 1]);
        joined.shards = before.shards.clone();
        joined.keyspaces = before.keyspaces.clone();
        joined.next_shard = before.next_shard;
        let share = shards * usize::from(replicas) / (nodes as usize + 1);
        let (end, copied) = settle(&joined, &UNLIMITED, |_| 0);
        let of_the_directory =
            end.shards[&ShardId::DIRECTORY].members.len() - before.shards[&ShardId::DIRECTORY].members.len();
        assert_eq!(copied - of_the_directory, share, "{nodes} {shards} {replicas}");
        assert_eq!(counts(&end, "a")[&(nodes + 1)], share);
        assert!(spread(&counts(&end, "a")) <= 1);
        assert!(spread(&leads(&end, "a")) <= 1);
    }
}

#[test]
fn node_that_goes_moves_what_it_had_and_nothing_else() {
    for (nodes, shards, replicas) in [(4, 4, 3), (4, 100, 3), (6, 64, 3), (10, 200, 5), (50, 300, 5)] {
        let mut map = settled(nodes, shards, replicas);
        let had = counts(&map, "a")[&nodes];
        map.nodes.get_mut(&NodeId(nodes)).unwrap().duty = NodeDuty::Leave;
        let (end, copied) = settle(&map, &UNLIMITED, |count| count / 2);
        let of_the_directory: BTreeSet<u64> = wanted(&end, ShardId::DIRECTORY).into_iter().collect();
        let before: BTreeSet<u64> = wanted(&map, ShardId::DIRECTORY).into_iter().collect();
        assert_eq!(copied, had + of_the_directory.difference(&before).count(), "{nodes} {shards} {replicas}");
        assert!(!end.nodes.contains_key(&NodeId(nodes)), "it is no member any more");
        assert!(spread(&counts(&end, "a")) <= 1);
        assert!(spread(&leads(&end, "a")) <= 1);
    }
}

#[test]
fn keyspaces_are_even_together_too() {
    // Ten keyspaces of one shard each, all on the first two of five nodes.
    let mut map = map(&[(NodeDuty::Serve, 0); 5]);
    for name in 0..10 {
        add(&mut map, &format!("k{name}"), Arrangement::Even, 2, &[vec![1, 2]]);
    }
    let (end, copied) = settle(&map, &Limits { changes: 3, per_node: 2 }, |_| 0);
    let mut all: BTreeMap<u64, usize> = BTreeMap::new();
    for name in 0..10 {
        counts(&end, &format!("k{name}"))
            .into_iter()
            .for_each(|(node, count)| *all.entry(node).or_default() += count);
    }
    assert_eq!(all.into_values().collect::<Vec<_>>(), [4; 5]);
    let of_the_directory = end.shards[&ShardId::DIRECTORY].members.len() - 1;
    assert_eq!(copied - of_the_directory, 12, "20 replicas, of which 8 stay");
}

#[test]
fn nodes_that_are_drained_together_move_what_they_had_and_nothing_else() {
    for (nodes, shards, replicas) in [(5, 7, 3), (6, 20, 3), (6, 9, 1), (8, 31, 5)] {
        let before = settled(nodes, shards, replicas);
        for other in 1..nodes {
            let mut map = before.clone();
            let both = [other, nodes];
            both.into_iter().for_each(|id| map.nodes.get_mut(&NodeId(id)).unwrap().duty = NodeDuty::Drain);
            let had: usize = both.into_iter().map(|id| counts(&map, "a")[&id]).sum();
            let directory = |map: &Map| BTreeSet::from_iter(wanted(map, ShardId::DIRECTORY));
            let was = directory(&map);
            let (end, copied) = settle(&map, &Limits { changes: 3, per_node: 2 }, |count| count / 2);
            let of_the_directory = directory(&end).difference(&was).count();
            assert_eq!(copied, had + of_the_directory, "{nodes} {shards} {replicas}: {both:?}");
        }
    }
}
