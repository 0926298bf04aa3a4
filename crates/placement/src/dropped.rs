//! The names of keyspaces that were dropped: when they may be given again.
//!
//! # The problem
//!
//! A keyspace is dropped by a map that is without it, and each node lets go of its replicas when it hears of that map. Who is cut off
//! from the directory does not hear of it. If such nodes are a majority of a shard they elect a leader, and serve it as before: of
//! a keyspace that is dropped nobody may expect otherwise. But when another one of the same name is created meanwhile, who asks them
//! by that name is shown what the former one held. No fence helps: requests say a name, and these nodes know one keyspace of it.
//!
//! # How it is solved
//!
//! A drop leaves a row: the revision from which on maps are without the keyspace, and the sets of nodes that had a shard together.
//! The name is given again when none of these sets can serve: of each so many have the map, or a later one, in their logs, that
//! those who do not know of the drop are no majority; all, where each member serves alone. Who leads the directory sees that, lets the leases of leaders pass that were
//! left alone, and forgets the row ([`Event::Free`](crate::Event::Free)).
//!
//! ```text
//!    tea on n1 n2 n3         drop: revision 7
//!    n1 has map 7            n2 n3 are a majority, and may serve tea
//!    n2 has map 8            n3 alone can serve it as long as its lease lasts
//!    a lease later           the row is forgotten: tea may be created
//! ```
//!
//! Which nodes those are follows from the rows at that moment: the members of each shard; and where they change over, those that it
//! is to have as well. Of the latter some may be left out ([`Map::left_of`]), and who heard of that when is not known: they count as
//! those who have not heard, and are not waited for. Replicas of earlier epochs and of earlier members serve nobody, drop or no drop.
//!
//! # Who is gone
//!
//! A node that was dead for the grace counts as gone, and may run all the same, cut off, with clients of its own. So it counts as one
//! that has not heard. It never will; when too many of a set are gone, only people can say that they are off: by
//! [`Event::Replace`](crate::Event::Replace) with `lose`, which gives up what a node has for good. Until then its row stays, for its
//! name; so does that of a node that leaves.
//!
//! # Caveats
//!
//! What may be stale is: reads of the level `local`, and watches, at a node that has not heard. They show the former keyspace until it has.

use std::collections::BTreeSet;

use kv::keyspace::check_name;
use kv::view::Member;
use kv::{NodeId, Protocol};
use mutant::Mutant;

use crate::map::{DEFAULT, Dropped, Holders, Map, NodeDuty, Phase};
use crate::refusal::Refusal;

impl Map {
    pub(crate) fn drop_keyspace(&mut self, name: &str) -> Result<(), Refusal> {
        if name == DEFAULT {
            return Err(Refusal::Stays(name.into()));
        }
        check_name(name).map_err(Refusal::Invalid)?;
        let holders = self.holders(name);
        if self.keyspaces.remove(name).is_none() {
            return Ok(());
        }
        self.shards.retain(|_, shard| shard.keyspace != name);
        self.changes.retain(|id, _| self.shards.contains_key(id));
        self.splits.retain(|id, _| self.shards.contains_key(id));
        self.dropped.insert(name.into(), Dropped { revision: self.revision + 1, holders });
        Ok(())
    }

    /// Who may serve a shard of a keyspace, each set once.
    fn holders(&self, name: &str) -> Vec<Holders> {
        let mut all = BTreeSet::new();
        for (id, shard) in self.shards_of(name) {
            let switches = self.changes.get(&id).filter(|change| change.phase == Phase::Switch);
            all.insert(Holders::of(shard.protocol, &shard.members, &shard.members));
            all.extend(switches.map(|change| {
                let protocol = self.protocol_after(id, shard);
                Holders::of(protocol, &change.to, &self.left_of(shard, change))
            }));
        }
        Vec::from_iter(all)
    }

    /// Nodes of a name that are gone are off for good: they serve nothing any more. Whether something was waiting for that.
    pub(crate) fn are_off(&mut self, name: &str) -> bool {
        let is_off = |node: &NodeId| {
            let node = &self.nodes[node];
            node.name == name && node.duty == NodeDuty::Gone
        };
        let mut waited = false;
        for holders in self.dropped.values_mut().map(|dropped| &mut dropped.holders) {
            let before = holders.clone();
            holders.iter_mut().for_each(|holders| holders.nodes.retain(|node| !is_off(node)));
            holders.retain(|holders| holders.nodes.len() > usize::from(holders.harmless));
            waited |= before != *holders;
        }
        waited
    }

    /// Whether a node is one that may serve a keyspace that was dropped.
    pub(crate) fn is_holder(&self, node: NodeId) -> bool {
        let mut holders = self.dropped.values().flat_map(|dropped| &dropped.holders);
        holders.any(|holders| holders.nodes.contains(&node))
    }

    /// Whether a name is not free.
    pub fn holds_back(&self, name: &str) -> bool {
        self.dropped.contains_key(name) && !mutant::is(Mutant::NameFreeAtOnce)
    }

    /// Why a name is not free: it waits for these nodes; none = for leases.
    pub fn still_served(&self, keyspace: &str, waits_for: &BTreeSet<NodeId>) -> Refusal {
        if waits_for.is_empty() {
            return Refusal::JustDropped(keyspace.into());
        }
        let names: Vec<&str> = waits_for.iter().map(|node| self.nodes[node].name.as_str()).collect();
        Refusal::StillServed { keyspace: keyspace.into(), nodes: names.join(", ") }
    }

    /// What must hold of the names of keyspaces that were dropped.
    pub(crate) fn check_dropped(&self) -> Result<(), String> {
        for (name, dropped) in &self.dropped {
            if self.keyspaces.contains_key(name) {
                return Err(format!("keyspace {name} is there, and its name is not free"));
            }
            if dropped.revision == 0 || dropped.revision > self.revision {
                return Err(format!("keyspace {name} was dropped by a map that is not there yet"));
            }
            for Holders { nodes, harmless } in &dropped.holders {
                let rises = nodes.is_sorted_by(|one, other| one < other);
                let is_known = nodes.iter().all(|node| self.nodes.contains_key(node));
                if !rises || !is_known || nodes.len() <= usize::from(*harmless) {
                    return Err(format!("keyspace {name} was on nodes that cannot have had it"));
                }
            }
        }
        Ok(())
    }
}

impl Dropped {
    /// The nodes for which the name waits, by who has heard that the keyspace was dropped; none = nobody serves it any more, but for
    /// the leases that were given.
    pub fn waits_for(&self, has_heard: impl Fn(NodeId) -> bool) -> BTreeSet<NodeId> {
        let mut waits_for = BTreeSet::new();
        for Holders { nodes, harmless } in &self.holders {
            let silent: Vec<NodeId> = nodes.iter().copied().filter(|node| !has_heard(*node)).collect();
            if silent.len() > usize::from(*harmless) {
                waits_for.extend(silent);
            }
        }
        waits_for
    }
}

impl Holders {
    /// The nodes of some members that are left; the others may not have heard, and count all the same. Of `raft` a majority serves, of
    /// any other protocol each member may answer reads alone.
    fn of(protocol: Protocol, members: &[Member], left: &[Member]) -> Holders {
        let nodes = left.iter().map(|member| member.node).collect();
        let harmless = if protocol == Protocol::Raft { members.len() / 2 } else { 0 };
        Holders { nodes, harmless: harmless.saturating_sub(members.len() - left.len()) as u16 }
    }
}
