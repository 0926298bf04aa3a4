//! Contiguous ranges: the shards of a keyspace, in the order of their slots, cut into one piece a node, in the order in which the
//! nodes joined.
//!
//! Pieces are equal within one. Which of them are the longer ones is free, and so decides how many shards move: the best choice
//! is found piece by piece (dynamic programming over the nodes so far and the longer pieces among them). With several replicas, the
//! others of a piece are on the nodes that come next, round from the last to the first.

use std::collections::BTreeMap;

use kv::{NodeId, ShardId};

use super::takers::{takes, takes_now};
use crate::map::{Map, Shard};

/// The nodes, in order, of each shard of a keyspace.
pub(crate) fn contiguous(map: &Map, keyspace: &str) -> BTreeMap<ShardId, Vec<NodeId>> {
    owners(map, keyspace).into_iter().map(|(id, (_, nodes))| (id, nodes)).collect()
}

/// The node whose piece each shard of a keyspace is in, and the nodes, in order, that it should be on.
pub(crate) fn owners(map: &Map, keyspace: &str) -> BTreeMap<ShardId, (NodeId, Vec<NodeId>)> {
    let shards = map.shards_of(keyspace);
    let has_any = |node: NodeId| {
        shards.iter().any(|(id, shard)| map.wanted(*id, shard).iter().any(|member| member.node == node))
    };
    let nodes: Vec<NodeId> = map.nodes.keys().copied().collect();
    let nodes: Vec<NodeId> = nodes
        .into_iter()
        .filter(|node| takes_now(map, *node) || (takes(map, *node) && has_any(*node)))
        .collect();
    if nodes.is_empty() {
        return BTreeMap::new();
    }
    let replicas = usize::from(map.keyspaces[keyspace].replicas).min(nodes.len());
    let of_piece = |piece: usize| {
        let mut of_it: Vec<NodeId> = (0..replicas).map(|next| nodes[(piece + next) % nodes.len()]).collect();
        of_it.sort_unstable();
        of_it
    };
    let pieces = cut(map, &shards, nodes.len(), &of_piece);
    let owned = shards.iter().zip(pieces).map(|((id, _), piece)| (*id, (nodes[piece], of_piece(piece))));
    owned.collect()
}

/// The piece of each shard, so that the most replicas stay where they are.
pub(super) fn cut(
    map: &Map,
    shards: &[(ShardId, &Shard)],
    pieces: usize,
    of_piece: &dyn Fn(usize) -> Vec<NodeId>,
) -> Vec<usize> {
    let (short, longer) = (shards.len() / pieces, shards.len() % pieces);
    let starts = |piece: usize, longer: usize| piece * short + longer;
    let staying = |piece: usize, from: usize, to: usize| {
        let nodes = of_piece(piece);
        let stay = |(id, shard): &(ShardId, &Shard)| {
            map.wanted(*id, shard).iter().filter(|member| nodes.contains(&member.node)).count()
        };
        shards[from..to].iter().map(stay).sum::<usize>()
    };
    // By pieces so far and longer ones among them: the most that stay, and whether the last piece is a longer one.
    let mut best: Vec<Vec<Option<(usize, bool)>>> = vec![vec![None; longer + 1]; pieces + 1];
    best[0][0] = Some((0, false));
    for piece in 0..pieces {
        for so_far in 0..=longer {
            let Some((stayed, _)) = best[piece][so_far] else { continue };
            for is_long in [true, false] {
                let then = so_far + usize::from(is_long);
                if then > longer {
                    continue;
                }
                let stays = stayed + staying(piece, starts(piece, so_far), starts(piece + 1, then));
                let next = &mut best[piece + 1][then];
                if next.is_none_or(|(most, _)| stays > most) {
                    *next = Some((stays, is_long));
                }
            }
        }
    }
    let mut cuts = vec![0; shards.len()];
    let mut left = longer;
    for piece in (0..pieces).rev() {
        let (_, is_long) = best[piece + 1][left].expect("the pieces take all shards");
        let before = left - usize::from(is_long);
        cuts[starts(piece, before)..starts(piece + 1, left)].fill(piece);
        left = before;
    }
    cuts
}
