//! Which member leads each shard when all are well: as many on each node as on any other, within one where the members allow it.
//!
//! Another leader costs nothing to speak of, so this is done at once for all shards, with the fewest changes. Nobody leads whose
//! node does not take replicas, if another can. In an arrangement of contiguous ranges the node whose range it is leads; in the
//! directory whoever does. Where the directory says which member orders (`two-phase`) it is dealt out once, and stays.

use std::collections::BTreeMap;

use kv::view::Duty;
use kv::{NodeId, ShardId};

use super::balance::{Board, Thing, balance};
use super::contiguous::owners;
use super::takers::{keyspaces, takes};
use super::zoned;
use crate::map::{Arrangement, Map, Shard};

/// The leader that each shard should have, of those that may get another one now.
pub(crate) fn leaders(map: &Map) -> BTreeMap<ShardId, NodeId> {
    let mut leaders = BTreeMap::new();
    for (name, keyspace) in &map.keyspaces {
        match keyspace.arrangement {
            Arrangement::Even => {}
            Arrangement::First => {
                let shards = map.shards_of(name).into_iter();
                leaders.extend(shards.filter_map(|(id, shard)| Some((id, any(map, shard)?))));
            }
            Arrangement::Contiguous => {
                let owners = owners(map, name).into_iter().map(|(id, (owner, _))| (id, owner));
                leaders.extend(owners.filter(|(id, owner)| map.shards[id].member(*owner).is_some()));
            }
            Arrangement::Zones => {
                let shards = map.shards_of(name).into_iter();
                leaders.extend(shards.filter_map(|(id, shard)| Some((id, zoned::leader(map, shard)?))));
            }
        }
    }
    let even = even(map, &leaders);
    leaders.extend(even);
    leaders.retain(|id, _| !map.changes.contains_key(id));
    leaders
}

/// Whether its leader stays for good.
fn is_settled(shard: &Shard) -> bool {
    shard.members.iter().any(|member| member.duty == Duty::Primary)
}

/// Its leader, if that takes replicas, else the first member that does.
fn any(map: &Map, shard: &Shard) -> Option<NodeId> {
    let candidates = || shard.members.iter().map(|member| member.node).filter(|node| takes(map, *node));
    candidates().find(|node| *node == shard.leader).or_else(|| candidates().next())
}

/// Those of all keyspaces that are arranged evenly, placed together. `placed`: those of the others.
fn even(map: &Map, placed: &BTreeMap<ShardId, NodeId>) -> BTreeMap<ShardId, NodeId> {
    let names = keyspaces(map, Arrangement::Even);
    let nodes: Vec<NodeId> = map.nodes.keys().copied().filter(|node| takes(map, *node)).collect();
    let place = |node: NodeId| nodes.binary_search(&node).ok();
    let mut board = Board {
        zones: vec![0; nodes.len()],
        base: vec![vec![0; nodes.len()]; names.len()],
        rest: vec![0; nodes.len()],
    };
    let (mut ids, mut things) = (Vec::new(), Vec::new());
    for (id, shard) in &map.shards {
        let leads = place(shard.leader);
        match names.binary_search(&shard.keyspace.as_str()) {
            Ok(group) if map.changes.contains_key(id) || is_settled(shard) => {
                leads.into_iter().for_each(|node| board.base[group][node] += 1);
            }
            Ok(group) => {
                let may: Vec<usize> = shard.members.iter().filter_map(|member| place(member.node)).collect();
                if !may.is_empty() {
                    ids.push(*id);
                    things.push(Thing { group, wants: 1, had: leads.into_iter().collect(), may });
                }
            }
            Err(_) if map.keyspaces[&shard.keyspace].is_in_pieces() => {
                let leads = placed.get(id).copied().unwrap_or(shard.leader);
                place(leads).into_iter().for_each(|node| board.rest[node] += 1);
            }
            Err(_) => {}
        }
    }
    let placed = balance(&board, &things).into_iter().map(|at| nodes[at[0]]);
    ids.into_iter().zip(placed).collect()
}
