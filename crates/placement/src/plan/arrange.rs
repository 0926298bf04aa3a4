//! Which nodes each shard should be on, given where it is.
//!
//! Only shards that can change are given a place: those under change, and those whose majority is not alive, stay as they are and
//! are counted. A node takes replicas when its duty is to serve. What is dead keeps what it has, and counts: it may come back. A
//! shard that lacks a replica gets one on a node that is alive; one that is only moved for the balance may wait for a node that is
//! not.

use std::collections::BTreeMap;

use kv::{NodeId, ShardId};

use super::balance::{Board, Thing, balance};
use super::contiguous::contiguous;
use super::takers::{keyspaces, takes, takes_now, zones};
use super::zoned::zoned;
use crate::map::{Arrangement, Map, Shard};

/// The nodes, in order, that each shard which can change should be on; at least one.
pub(crate) fn arrange(map: &Map) -> BTreeMap<ShardId, Vec<NodeId>> {
    arrange_those(map, is_free)
}

/// The nodes, in order, that each shard should be on which has no members yet, where all others stay.
pub(crate) fn arrange_new(map: &Map) -> BTreeMap<ShardId, Vec<NodeId>> {
    arrange_those(map, |map, id| map.shards[&id].members.is_empty())
}

/// The nodes of the shards that are free to have others.
fn arrange_those(map: &Map, is_free: IsFree) -> BTreeMap<ShardId, Vec<NodeId>> {
    let mut places = BTreeMap::new();
    for (name, keyspace) in &map.keyspaces {
        match keyspace.arrangement {
            Arrangement::Even => {}
            Arrangement::First => {
                let first = |(id, shard): (ShardId, &Shard)| Some((id, first(map, id, shard)?));
                places.extend(map.shards_of(name).into_iter().filter_map(first));
            }
            Arrangement::Contiguous => places.extend(contiguous(map, name)),
            Arrangement::Zones => places.extend(zoned(map, name)),
        }
    }
    let even = even(map, &places, is_free);
    places.extend(even);
    places.retain(|id, _| is_free(map, *id));
    places
}

/// Says which shards may be given other members now.
type IsFree = fn(&Map, ShardId) -> bool;

/// Whether a shard may be given other members now: it has none, or it can change, does not yet, and does not wait for another
/// protocol first, nor for somebody to tell what only it has.
fn is_free(map: &Map, id: ShardId) -> bool {
    let shard = &map.shards[&id];
    let is_idle = !map.changes.contains_key(&id) && map.may_be_arranged(shard);
    shard.members.is_empty() || is_idle && map.can_change(shard) && !map.waits_for_astray(shard)
}

/// The first 5, 3 or 1 nodes: those of its own that take replicas, the living first, then others in the order in which they
/// joined; in different zones where that can be.
fn first(map: &Map, id: ShardId, shard: &Shard) -> Option<Vec<NodeId>> {
    let here = |node: &NodeId| shard.member(*node).is_some();
    let (mut own, others): (Vec<NodeId>, Vec<NodeId>) =
        map.nodes.keys().copied().filter(|node| takes(map, *node)).partition(here);
    own.sort_by_key(|node| !map.lives(*node));
    let nodes: Vec<NodeId> =
        own.into_iter().chain(others.into_iter().filter(|node| takes_now(map, *node))).collect();
    let wants = usize::from(map.keyspaces[&map.shards[&id].keyspace].replicas).min(nodes.len());
    let wants = wants.checked_sub(1)? / 2 * 2 + 1;
    let zones = zones(map);
    let take = |most: usize| {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        let mut fits = |node: &&NodeId| {
            let count = counts.entry(zones[*node]).or_default();
            *count += 1;
            *count <= most
        };
        nodes.iter().filter(&mut fits).take(wants).copied().collect::<Vec<NodeId>>()
    };
    let mut taken = (1..=wants).map(take).find(|taken| taken.len() == wants)?;
    taken.sort_unstable();
    Some(taken)
}

/// The shards of all keyspaces that are arranged evenly, placed together. `placed`: those of the others.
fn even(
    map: &Map,
    placed: &BTreeMap<ShardId, Vec<NodeId>>,
    is_free: IsFree,
) -> BTreeMap<ShardId, Vec<NodeId>> {
    let names: Vec<&str> = keyspaces(map, Arrangement::Even);
    let takers = map.nodes.keys().copied().filter(|node| takes(map, *node));
    let takers: Vec<Taker> =
        takers.map(|node| Taker { node, now: takes_now(map, node), lives: map.lives(node) }).collect();
    let place = |node: NodeId| takers.binary_search_by_key(&node, |taker| taker.node).ok();
    let zones = zones(map);
    let mut board = Board {
        zones: takers.iter().map(|taker| zones[&taker.node]).collect(),
        base: vec![vec![0; takers.len()]; names.len()],
        rest: vec![0; takers.len()],
    };
    let (mut ids, mut things) = (Vec::new(), Vec::new());
    for (id, shard) in &map.shards {
        let group = names.binary_search(&shard.keyspace.as_str());
        match group {
            Ok(group) if is_free(map, *id) => {
                if let Some(thing) = thing(map, shard, group, &takers) {
                    ids.push(*id);
                    things.push(thing);
                }
            }
            Ok(group) => {
                wanted(map, *id, shard).filter_map(place).for_each(|node| board.base[group][node] += 1)
            }
            Err(_) if map.keyspaces[&shard.keyspace].is_in_pieces() => {
                let there: Vec<NodeId> = match placed.get(id) {
                    Some(nodes) if is_free(map, *id) => nodes.clone(),
                    _ => wanted(map, *id, shard).collect(),
                };
                there.into_iter().filter_map(place).for_each(|node| board.rest[node] += 1);
            }
            // The directory is where it is, and is not counted.
            Err(_) => {}
        }
    }
    let placed = balance(&board, &things).into_iter();
    ids.into_iter().zip(placed.map(|at| at.into_iter().map(|place| takers[place].node).collect())).collect()
}

/// Where a shard is to be, once what is under way is done.
fn wanted<'a>(map: &'a Map, id: ShardId, shard: &'a Shard) -> impl Iterator<Item = NodeId> + 'a {
    map.wanted(id, shard).iter().map(|member| member.node)
}

/// A node that takes replicas.
struct Taker {
    node: NodeId,
    /// Whether it can be given one now.
    now: bool,
    /// Whether it can give one away.
    lives: bool,
}

/// A shard as something to be placed on nodes; `None` = there is no node for it.
fn thing(map: &Map, shard: &Shard, group: usize, takers: &[Taker]) -> Option<Thing> {
    let replicas = usize::from(map.keyspaces[&shard.keyspace].replicas);
    let here = |taker: &Taker| shard.member(taker.node).is_some();
    let stays = takers.iter().filter(|taker| here(taker)).count();
    // A shard that has all that it should can wait for who is not alive.
    let can_wait = stays == shard.members.len() && stays >= replicas.min(takers.len());
    // One that has more than it should lets go of who is dead, and first of whom nothing was heard lately.
    let has_enough = |is_so: fn(&Taker) -> bool| {
        shard.members.len() > replicas
            && takers.iter().filter(|taker| here(taker) && is_so(taker)).count() >= replicas
    };
    let (are_alive, live) = (has_enough(|taker| taker.now), has_enough(|taker| taker.lives));
    let may_stay = |taker: &Taker| taker.now || !are_alive && (taker.lives || !live);
    let (mut had, mut may, mut places) = (Vec::new(), Vec::new(), 0);
    for (place, taker) in takers.iter().enumerate() {
        let stays = here(taker) && may_stay(taker);
        let moves = if here(taker) { stays && taker.lives } else { can_wait || taker.now };
        had.extend(stays.then_some(place));
        may.extend(moves.then_some(place));
        places += usize::from(stays || moves);
    }
    (places > 0).then(|| Thing { group, wants: replicas.min(places), had, may })
}
