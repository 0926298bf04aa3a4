//! The plan: which shards get other members now, so that in the end each is where it should be.
//!
//! # The problem
//!
//! Nodes join, leave and die. Every shard should keep its replicas on different nodes, and in different zones where there are
//! enough; no node should have more to do than another; and every replica that goes elsewhere is copied over the network and to a
//! disk, while clients wait for both. So as few as possible should move, few at a time, and none that need not. All the while
//! nothing may be lost: a replica that is not there yet protects nothing.
//!
//! # How it is solved
//!
//! [`plan`] is a function of the map alone, and is asked again whenever the map has changed. It remembers nothing: what is under
//! way stands in the map, and whoever is asked next, on whichever node, after whichever crash, goes on from there.
//!
//! 1. **Where should everything be?** (`arrange`, `balance`, `contiguous`, `zoned`.) A target for each shard that can change now: of all
//!    placements that keep what must be kept, the most even ones, and of those the one that moves the fewest replicas. What
//!    is under way counts as done. Shards too few of whose replicas live cannot be changed, and are counted as they are.
//! 2. **What is begun now?** Shards whose target is not where they are, the urgent first: what was lost, then what lacks replicas,
//!    then what is to be cut, then what leaves a node, then what is only uneven. At most [`Limits::changes`] at once, and at most
//!    [`Limits::per_node`] that copy from or to one node. Each becomes a row `change/SHARD`, on which the nodes act.
//! 3. **Who leads?** (`leaders`.) Roles are dealt out anew at once where they are uneven: that copies nothing.
//! 4. **What has become pointless?** A change to a node that is to take nothing any more, or to members most of whom are gone, is
//!    given up while it only copies. A shard whose heir is gone goes back, or to another one (`returns`). A node that leaves or is gone, and has no
//!    replica any more, nor one of a dropped keyspace (`dropped`), is no member any more.
//!
//! What must be kept, in this order; none is given up for a later one:
//!
//! | | |
//! |---|---|
//! | on nodes that take replicas | nothing on those that are drained, leave or are gone |
//! | on different nodes | as many replicas as the keyspace asks for, or as there are nodes for |
//! | in different zones | no zone has more of a shard than it must |
//! | even in each keyspace | the least sum of squares of counts: equal within one, unless zones or what cannot move forbid it |
//! | even in all | the same over all keyspaces (but the directory, which is small) |
//! | fewest moves | |
//!
//! # An example
//!
//! Four shards of three replicas on `n1` to `n3`, at most two changes at once; `n4` joins. There are 12 replicas for 4 nodes,
//! so each is to have 3: three have to move, and three is what the plan moves.
//!
//! ```text
//!                n1        n2        n3        n4        begun
//!                1 2 3 4   1 2 3 4   1 2 3 4   -         shard 1: n1 → n4, shard 2: n2 → n4
//!    1 is done     2 3 4   1 2 3 4   1 2 3 4   1         shard 3: n3 → n4
//!    2 is done     2 3 4   1   3 4   1 2 3 4   1 2
//!    3 is done     2 3 4   1   3 4   1 2   4   1 2 3     nothing: this is the end
//! ```
//!
//! In what order they are done, or that one was given up half way, changes nothing: the target is computed anew from where
//! everything is.
//!
//! # Guarantee
//!
//! - *Nothing is lost*: a change is begun only while a majority of the old members lives, and of the new ones too; under `primary` while one
//!   that is in sync does, and stays. The old ones stay members until the new ones have all they had; that is the protocol's part.
//! - *Fewest*: what is still to be moved is the least number there is for the map as it stands. So no replica is moved twice for one
//!   event, whatever the limits; a further event may make another target the best one.
//! - *It ends*: each change that is done makes what is left smaller by what it moved. When nothing is left, [`plan`] answers
//!   `None` until the next event. [`lost`] names the shards that only people can help.
//!
//! # Caveats
//!
//! A replica counts one, whatever its size and its load. A node that is dead is waited for: whoever drives the plan decides after
//! which grace it is gone ([`crate::Event::Replace`]), and has to, or its replicas are never made again. The numbers of replicas
//! are never given twice within an epoch, and there are 1023: a shard that has used them all up stays where it is.
//! Leaders are even among the members as they are; members are not chosen for it. 1,024 shards of five replicas on 50 nodes take
//! some milliseconds; time and memory grow with the square of the nodes, and with the keyspaces.

pub(crate) mod arrange;
mod balance;
mod circles;
mod contiguous;
pub(crate) mod leaders;
mod returns;
pub(crate) mod takers;
pub(crate) mod zoned;

use std::collections::{BTreeMap, BTreeSet};

use kv::view::{Duty, Member};
use kv::{NodeId, Protocol, ReplicaId, ShardId};

use crate::check::epoch_of_change;
use crate::living::needed;
use crate::map::{Change, Map, NodeDuty, Phase, Shard, Why};
use crate::recast::opens_whole;
use crate::revise::is_in_sync;

/// How much is under way at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Changes of shards.
    pub changes: usize,
    /// Of those, at most so many that copy from or to one node.
    pub per_node: usize,
}

impl Default for Limits {
    /// Few enough that a node still serves while it copies, enough that a cluster of many nodes is not long about it.
    fn default() -> Limits {
        Limits { changes: 16, per_node: 2 }
    }
}

/// The map with all that is to be begun, given up and dealt out now, its revision one higher; `None` = nothing is.
///
/// Whoever has written the answer asks again: of several targets that are as good, the next one may have more that can be begun.
pub fn plan(map: &Map, limits: &Limits) -> Option<Map> {
    let mut next = map.clone();
    next.changes.retain(|id, change| {
        let is_pointless = is_pointless(map, &map.shards[id], change)
            || map.is_recast_in_vain(*id, change)
            || map.never_opens(*id, change);
        change.phase == Phase::Switch || !is_pointless
    });
    next.give_up_parts();
    returns::return_shards(&mut next);
    returns::replace_lone(&mut next);
    for (id, leader) in leaders::leaders(&next) {
        next.shards.get_mut(&id).expect("a leader is of a shard").leader = leader;
    }
    begin(&mut next, limits);
    let former: Vec<NodeId> = map.nodes.keys().copied().filter(|node| is_former(&next, *node)).collect();
    former.iter().for_each(|node| next.forget_node(*node));
    if next == *map {
        return None;
    }
    next.revision += 1;
    Some(next)
}

/// The shards that cannot be helped by other nodes: so many of their replicas are on nodes that are gone for good that the others
/// are no majority, or, where all copies are needed, any of them is. They stay as they are, and keep their nodes in the map.
pub fn lost(map: &Map) -> Vec<ShardId> {
    let gone = |member: &&Member| map.nodes[&member.node].duty == NodeDuty::Gone;
    let is_lost = |shard: &Shard| {
        if shard.protocol == Protocol::Primary {
            return shard.members.iter().filter(|member| is_in_sync(member)).all(|member| gone(&member));
        }
        let left = shard.members.len() - shard.members.iter().filter(gone).count();
        left < needed(shard.protocol, shard.members.len())
    };
    map.shards.iter().filter(|(_, shard)| is_lost(shard)).map(|(id, _)| *id).collect()
}

/// Whether a change would bring a replica to a node that is to take none any more, or leave the shard to members most of whom are gone.
fn is_pointless(map: &Map, shard: &Shard, change: &Change) -> bool {
    let comes = |member: &&Member| shard.member(member.node).is_none();
    let is_gone = |member: &&Member| map.nodes[&member.node].duty == NodeDuty::Gone;
    let gone = change.to.iter().filter(is_gone).count();
    2 * gone >= change.to.len()
        || change.to.iter().filter(comes).any(|member| !takers::takes(map, member.node))
}

/// Whether a node was to leave, or is gone, and has no replica any more, nor of what was dropped, as far as is known.
fn is_former(map: &Map, node: NodeId) -> bool {
    let goes = matches!(map.nodes[&node].duty, NodeDuty::Leave | NodeDuty::Gone);
    goes && map.replicas_of(node).next().is_none() && !map.is_holder(node)
}

/// Begins as many changes as there may be, the urgent first.
fn begin(map: &mut Map, limits: &Limits) {
    let mut due: Vec<(Urgency, ShardId, Vec<NodeId>)> = Vec::new();
    let splits = |keyspace: &str| map.splits.keys().any(|id| map.shards[id].keyspace == keyspace);
    let mut settled = BTreeSet::new();
    for (id, nodes) in arrange::arrange(map) {
        let shard = &map.shards[&id];
        settled.insert(id);
        if shard.members.iter().map(|member| member.node).ne(nodes.iter().copied()) {
            let why = why(map, shard, nodes.len());
            settled.remove(&id);
            // Counts are made even when the number of shards is what it is to be: else what is moved now would move again.
            if why != Why::Balance || !splits(&shard.keyspace) {
                due.push((urgency(why), id, nodes));
            }
        }
    }
    let waits = map.splits.iter().filter(|(_, split)| split.parts.is_empty());
    let nodes = |id| map.shards[id].members.iter().map(|member| member.node).collect();
    due.extend(waits.map(|(id, _)| (urgency(Why::Split), *id, nodes(id))));
    let recast = |id: &ShardId| map.can_be_recast(*id, settled.contains(id)).is_some();
    due.extend(map.shards.keys().filter(|id| recast(id)).map(|id| (urgency(Why::Protocol), *id, nodes(id))));
    due.sort();
    let mut busy = Busy::of(map);
    for (of, id, nodes) in due {
        if map.changes.len() >= limits.changes {
            return;
        }
        if map.changes.contains_key(&id) {
            continue;
        }
        if of == urgency(Why::Split) {
            begin_split(map, &mut busy, id, limits);
            continue;
        }
        if of == urgency(Why::Protocol) {
            begin_recast(map, &mut busy, (id, settled.contains(&id)), limits);
            continue;
        }
        let shard = &map.shards[&id];
        let comes = |node: &&NodeId| shard.member(**node).is_none();
        let ready = nodes.iter().filter(comes).all(|node| takers::takes_now(map, *node));
        // With fewer copies than it takes writes with it stays as it is until there are nodes.
        let is_few = shard.protocol == Protocol::Primary
            && nodes.len() < shard.members.len().min(map.sync_of(id).least.into());
        if is_few || !ready || !busy.has_room(map, shard, &nodes, limits.per_node) {
            continue;
        }
        let (why, epoch) = (why(map, shard, nodes.len()), epoch_of_change(shard));
        let Some((to, next_replica)) = members(map, shard, &nodes) else { continue };
        if !can_end(map, shard, &to) {
            continue;
        }
        busy.add(map, shard, &nodes);
        map.shards.get_mut(&id).expect("it was arranged").next_replica = next_replica;
        map.changes.insert(id, Change { to, epoch, phase: Phase::Copy, why });
    }
}

/// Whether a change to these members can end as their nodes are: under `primary` any that stays and is in sync goes on alone, elsewhere a
/// majority of them has to agree.
fn can_end(map: &Map, shard: &Shard, to: &[Member]) -> bool {
    let goes_on =
        |member: &Member| map.lives(member.node) && shard.member(member.node).is_some_and(is_in_sync);
    shard.protocol == Protocol::Primary && to.iter().any(goes_on) || map.has_majority(to)
}

/// Begins to cut a shard, if its members have time for it, and those live that have to open its parts.
fn begin_split(map: &mut Map, busy: &mut Busy, id: ShardId, limits: &Limits) {
    let shard = &map.shards[&id];
    let nodes: Vec<NodeId> = shard.members.iter().map(|member| member.node).collect();
    let live = match opens_whole(shard.protocol) {
        true => nodes.iter().all(|node| map.lives(*node)),
        false => map.has_majority(&shard.members),
    };
    if live && !shard.has_astray() && busy.have_room(&nodes, limits.per_node) {
        busy.count(&nodes);
        map.begin_split(id);
    }
}

/// Begins to have a shard go on under another protocol, if its members have time for it.
fn begin_recast(map: &mut Map, busy: &mut Busy, (id, is_settled): (ShardId, bool), limits: &Limits) {
    let nodes: Vec<NodeId> = map.shards[&id].members.iter().map(|member| member.node).collect();
    let to = map.can_be_recast(id, is_settled).filter(|_| busy.have_room(&nodes, limits.per_node));
    if let Some(protocol) = to {
        busy.count(&nodes);
        map.begin_recast(id, protocol);
    }
}

/// The members on these nodes, those that come with new numbers, and the number that is next; `None` = there are not so many.
fn members(map: &Map, shard: &Shard, nodes: &[NodeId]) -> Option<(Vec<Member>, ReplicaId)> {
    let mut next = shard.next_replica;
    let mut members = Vec::with_capacity(nodes.len());
    for &node in nodes {
        members.push(match shard.member(node) {
            // Who orders and who is in sync is the shard's row's to say, not the change's.
            Some(member) => Member { duty: Duty::Voter, ..*member },
            None if next > ReplicaId::MAX => return None,
            None => {
                let replica = next;
                next.0 += 1;
                let incarnation = map.nodes[&node].incarnation;
                Member { node, replica, incarnation, duty: Duty::Voter, weight: 1 }
            }
        });
    }
    Some((members, next))
}

/// Why a shard is to have other members, of which there are to be so many.
fn why(map: &Map, shard: &Shard, wants: usize) -> Why {
    let on = |duties: &[NodeDuty]| {
        shard.members.iter().map(|member| member.node).find(|node| duties.contains(&map.nodes[node].duty))
    };
    match (on(&[NodeDuty::Gone]), on(&[NodeDuty::Drain, NodeDuty::Leave])) {
        (Some(gone), _) => Why::Lost(gone),
        (None, _) if shard.members.len() < wants => Why::Repair,
        (None, Some(leaving)) => Why::Leaves(leaving),
        (None, None) => Why::Balance,
    }
}

/// What is lower comes first.
type Urgency = u8;

fn urgency(why: Why) -> Urgency {
    match why {
        Why::Lost(_) => 0,
        Why::Repair => 1,
        Why::Split => 2,
        Why::Protocol => 3,
        Why::Leaves(_) => 4,
        Why::Balance => 5,
    }
}

/// How many changes copy from or to each node.
struct Busy(BTreeMap<NodeId, usize>);

impl Busy {
    fn of(map: &Map) -> Busy {
        let mut busy = Busy(BTreeMap::new());
        for (id, change) in &map.changes {
            let to: Vec<NodeId> = change.to.iter().map(|member| member.node).collect();
            match change.why {
                Why::Split | Why::Protocol => busy.count(&to),
                _ => busy.add(map, &map.shards[id], &to),
            }
        }
        busy
    }

    fn add(&mut self, map: &Map, shard: &Shard, to: &[NodeId]) {
        self.count(&copying(map, shard, to));
    }

    /// These copy something more; the members of a shard that is cut each within themselves.
    fn count(&mut self, nodes: &[NodeId]) {
        nodes.iter().for_each(|node| *self.0.entry(*node).or_default() += 1);
    }

    fn has_room(&self, map: &Map, shard: &Shard, to: &[NodeId], most: usize) -> bool {
        self.have_room(&copying(map, shard, to), most)
    }

    fn have_room(&self, nodes: &[NodeId], most: usize) -> bool {
        nodes.iter().all(|node| self.0.get(node).is_none_or(|count| *count < most))
    }
}

/// The nodes that a change copies to and the one that it copies from: the leader, or another where that is dead.
fn copying(map: &Map, shard: &Shard, to: &[NodeId]) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = to.iter().copied().filter(|node| shard.member(*node).is_none()).collect();
    if !nodes.is_empty() {
        let lives = |node: &NodeId| map.lives(*node);
        let others = shard.members.iter().map(|member| member.node);
        nodes.extend(std::iter::once(shard.leader).chain(others).find(lives));
    }
    nodes
}
