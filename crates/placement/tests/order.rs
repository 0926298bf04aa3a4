//! Contiguous ranges and leaders: the plan compared with every way there is, on small maps.

mod world;

use kv::{NodeId, ShardId};
use placement::map::{Arrangement, Map, NodeDuty};
use placement::{Limits, plan};
use proptest::prelude::*;
use world::{UNLIMITED, add, copies, leads, map, settle, wanted};

/// All ways to cut so many shards into so many pieces in order, equal within one: how long each is.
fn cuts(shards: usize, pieces: usize) -> Vec<Vec<usize>> {
    let (short, longer) = (shards / pieces, shards % pieces);
    let marks = (0..1u32 << pieces).filter(|marks| marks.count_ones() as usize == longer);
    marks.map(|marks| (0..pieces).map(|piece| short + (marks >> piece & 1) as usize).collect()).collect()
}

/// The fewest replicas that come to a node where they were not.
fn fewest(map: &Map, takers: &[u64], replicas: usize) -> usize {
    let shards = map.shards_of("p");
    let moves = |lengths: &Vec<usize>| {
        let pieces =
            lengths.iter().enumerate().flat_map(|(piece, length)| std::iter::repeat_n(piece, *length));
        let of_shard = |(piece, (_, shard)): (usize, &(ShardId, &placement::map::Shard))| {
            let nodes = (0..replicas.min(takers.len())).map(|next| takers[(piece + next) % takers.len()]);
            nodes.filter(|node| shard.member(NodeId(*node)).is_none()).count()
        };
        pieces.zip(&shards).map(of_shard).sum::<usize>()
    };
    cuts(shards.len(), takers.len()).iter().map(moves).min().expect("there is a way")
}

/// Every way to choose a leader of each shard among its members that serve: the least of the sum of squares, then of changes.
fn best_leaders(map: &Map) -> (usize, usize) {
    let mut ways: Vec<(Vec<usize>, usize)> = vec![(vec![0; map.nodes.len() + 1], 0)];
    for (_, shard) in map.shards_of("a") {
        let serves = |node: &NodeId| map.nodes[node].duty == NodeDuty::Serve;
        let mut may: Vec<NodeId> = shard.members.iter().map(|member| member.node).filter(serves).collect();
        if may.is_empty() {
            may.push(shard.leader);
        }
        let with = |(counts, changes): &(Vec<usize>, usize), node: NodeId| {
            let mut counts = counts.clone();
            counts[node.0 as usize] += usize::from(serves(&node));
            (counts, changes + usize::from(node != shard.leader))
        };
        ways = ways.iter().flat_map(|way| may.iter().map(move |node| with(way, *node))).collect();
    }
    ways.iter().map(|(counts, changes)| (counts.iter().map(|n| n * n).sum(), *changes)).min().expect("a way")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ranges_are_cut_with_the_fewest_moves(
        serves in prop::collection::vec(any::<bool>(), 1..=5),
        owners in prop::collection::vec(1u64..=5, 1..=12),
        replicas in 1u16..=2,
        changes in 1usize..4,
    ) {
        let mut duties: Vec<_> =
            serves.iter().map(|serves| (if *serves { NodeDuty::Serve } else { NodeDuty::Drain }, 0)).collect();
        duties[0].0 = NodeDuty::Serve;
        let count = duties.len() as u64;
        let takers: Vec<u64> = (1..).zip(&duties).filter(|(_, (duty, _))| *duty == NodeDuty::Serve).map(|(id, _)| id).collect();
        let mut before = map(&duties);
        let shards: Vec<Vec<u64>> = owners.iter().map(|owner| vec![(owner - 1) % count + 1]).collect();
        add(&mut before, "p", Arrangement::Contiguous, replicas, &shards);
        let least = fewest(&before, &takers, usize::from(replicas));
        let planned = plan(&before, &UNLIMITED).map_or(0, |mut next| {
            next.changes.remove(&ShardId::DIRECTORY);
            copies(&next)
        });
        prop_assert_eq!(planned, least);
        // However few at a time, no more are moved, and what is first in the order of joining has the first slots.
        let directory = plan(&before, &UNLIMITED).map_or(0, |next| copies(&next)) - planned;
        let (end, copied) = settle(&before, &Limits { changes, per_node: 2 }, |count| count / 2);
        prop_assert_eq!(copied, least + directory);
        let order: Vec<u64> = end.shards_of("p").iter().map(|(_, shard)| shard.leader.0).collect();
        prop_assert!(order.is_sorted(), "{:?}", order);
        for (id, _) in end.shards_of("p") {
            prop_assert_eq!(wanted(&end, id).len(), usize::from(replicas).min(takers.len()));
        }
    }

    #[test]
    fn leaders_are_the_most_even_with_the_fewest_changes(
        duties in prop::collection::vec(prop_oneof![4 => Just(NodeDuty::Serve), 1 => Just(NodeDuty::Drain)], 2..=4),
        shards in prop::collection::vec(prop::collection::vec(any::<bool>(), 4), 1..=6),
    ) {
        let mut before = map(&duties.iter().map(|duty| (*duty, 0)).collect::<Vec<_>>());
        let of = |marks: &Vec<bool>| {
            let mut nodes: Vec<u64> = (1..).zip(marks).take(duties.len()).filter(|(_, is)| **is).map(|(id, _)| id).collect();
            if nodes.is_empty() {
                nodes.push(1);
            }
            nodes
        };
        add(&mut before, "a", Arrangement::Even, 3, &shards.iter().map(of).collect::<Vec<_>>());
        let after = plan(&before, &Limits { changes: 0, per_node: 0 }).unwrap_or_else(|| before.clone());
        let squares: usize = leads(&after, "a")
            .into_iter()
            .filter(|(id, _)| after.nodes[&NodeId(*id)].duty == NodeDuty::Serve)
            .map(|(_, count)| count * count)
            .sum();
        let changes = after.shards_of("a").iter().filter(|(id, shard)| shard.leader != before.shards[id].leader).count();
        prop_assert_eq!((squares, changes), best_leaders(&before));
    }
}
