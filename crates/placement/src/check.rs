//! What must hold of every map.

use std::collections::BTreeSet;

use kv::view::{Duty, Member};
use kv::{Epoch, NodeId, Protocol, ReplicaId, SLOTS, ShardId};

use crate::map::{Arrangement, Change, DIRECTORY, Map, NodeDuty, Shard};

impl Map {
    /// Checks all that must hold of a map, whatever happened; the first that does not is named.
    ///
    /// - Ids of nodes and shards are below the next ones; names of nodes that are not gone, and lives of folders, are unique.
    /// - Each keyspace has shards, and each of its slots is in exactly one of them. The directory is the shard 0 alone.
    /// - The members of a shard, and those of its change, all vote, and are on different known nodes, in order; their numbers are
    ///   unique and below the next one; its leader is one of them, and under `two-phase` the one that orders.
    /// - A change gives other members; those that stay in an epoch keep their numbers, and the epoch rises only where the protocol
    ///   does not change members itself.
    /// - A shard that is cut keeps its nodes; its parts have its slots, and ids of their own. So does the one that goes on under another
    ///   protocol, or it keeps one of them.
    /// - A keyspace is there, or its name waits for nodes that are known.
    pub fn check(&self) -> Result<(), String> {
        if self.revision == 0 {
            return ensure(*self == Map::default(), || "a map of revision 0 knows nothing".into());
        }
        self.check_nodes()?;
        self.check_keyspaces()?;
        for (id, shard) in &self.shards {
            self.check_shard(*id, shard).map_err(|why| format!("shard {id}: {why}"))?;
        }
        for (id, change) in &self.changes {
            let shard = self.shards.get(id).ok_or_else(|| format!("change of shard {id}, which is none"))?;
            self.check_change(shard, change).map_err(|why| format!("change of shard {id}: {why}"))?;
        }
        self.check_splits()?;
        self.check_dropped()
    }

    fn check_nodes(&self) -> Result<(), String> {
        let (mut names, mut lives) = (BTreeSet::new(), BTreeSet::new());
        for (id, node) in &self.nodes {
            ensure(*id > NodeId(0) && *id < self.next_node, || {
                format!("node {id} is not between 1 and the next id, {}", self.next_node)
            })?;
            ensure(node.duty == NodeDuty::Gone || names.insert(&node.name), || {
                format!("two nodes are {}", node.name)
            })?;
            ensure(node.incarnation == 0 || lives.insert(node.incarnation), || {
                format!("two nodes have the folder of {}", node.name)
            })?;
        }
        Ok(())
    }

    fn check_keyspaces(&self) -> Result<(), String> {
        let directory = self.shards_of(DIRECTORY);
        ensure(directory.iter().map(|(id, _)| *id).eq([ShardId::DIRECTORY]), || {
            format!("{DIRECTORY} is not shard {} alone", ShardId::DIRECTORY)
        })?;
        for (name, keyspace) in &self.keyspaces {
            ensure(keyspace.replicas > 0, || format!("keyspace {name} wants no replicas"))?;
            let is_directory = keyspace.arrangement == Arrangement::First;
            ensure(is_directory == (name == DIRECTORY), || {
                format!("keyspace {name} is arranged as another")
            })?;
            let mut next = 0;
            for (id, shard) in self.shards_of(name) {
                let (first, last) = (u32::from(shard.slots.first.0), u32::from(shard.slots.last.0));
                ensure(first == next && last >= first, || {
                    format!(
                        "keyspace {name}: slot {next} does not begin a shard; shard {id} has {first} to {last}"
                    )
                })?;
                next = last + 1;
            }
            ensure(next == u32::from(SLOTS), || format!("keyspace {name} covers {next} slots"))?;
        }
        Ok(())
    }

    fn check_shard(&self, id: ShardId, shard: &Shard) -> Result<(), String> {
        ensure(id < self.next_shard, || format!("the next id is {}", self.next_shard))?;
        ensure(self.keyspaces.contains_key(&shard.keyspace), || format!("no keyspace {}", shard.keyspace))?;
        ensure(shard.epoch > Epoch(0), || "its epoch is 0".into())?;
        ensure(shard.next_replica.0 <= ReplicaId::MAX.0 + 1, || "its next number is beyond the last".into())?;
        self.check_row(shard)
    }

    /// What must hold of the members of a shard, or of a part of one.
    pub(crate) fn check_row(&self, shard: &Shard) -> Result<(), String> {
        self.check_members(shard, &shard.members)?;
        let order = shard.members.iter().filter(|member| member.duty == Duty::Primary).count();
        let has_one = matches!(shard.protocol, Protocol::Primary | Protocol::TwoPhase);
        ensure(order == usize::from(has_one), || format!("{order} of its members order"))?;
        ensure(shard.member(shard.leader).is_some(), || {
            format!("its leader, node {}, is no member", shard.leader)
        })
    }

    fn check_members(&self, shard: &Shard, members: &[Member]) -> Result<(), String> {
        let rises = members.is_sorted_by(|one, other| one.node < other.node);
        ensure(!members.is_empty() && rises, || "its members are none, or not in order".into())?;
        ensure(shard.protocol != Protocol::Single || members.len() == 1, || {
            format!("{} has {} members", shard.protocol, members.len())
        })?;
        let mut numbers = BTreeSet::new();
        for Member { node, replica, duty, .. } in members {
            let orders = shard.protocol == Protocol::TwoPhase && *node == shard.leader;
            let is_kept = shard.protocol == Protocol::Primary
                && matches!(duty, Duty::Primary | Duty::Voter | Duty::Learner | Duty::Astray);
            ensure(is_kept || *duty == if orders { Duty::Primary } else { Duty::Voter }, || {
                format!(
                    "node {node} does not vote, or is not the one that orders: only a protocol knows of others"
                )
            })?;
            ensure(self.nodes.contains_key(node), || format!("no node {node}"))?;
            ensure(*replica > ReplicaId(0) && *replica < shard.next_replica, || {
                format!("replica {replica} is not between 1 and the next number, {}", shard.next_replica)
            })?;
            ensure(numbers.insert(replica), || format!("two replicas are {replica}"))?;
        }
        Ok(())
    }

    fn check_change(&self, shard: &Shard, change: &Change) -> Result<(), String> {
        if change.why.makes_parts() {
            return Map::check_split_change(shard, change);
        }
        self.check_members(shard, &change.to)?;
        ensure(change.to != shard.members, || "it changes nothing".into())?;
        for member in &change.to {
            let stays = change.epoch == shard.epoch;
            let same = |old: &&Member| stays && old.node == member.node || old.replica == member.replica;
            let old = shard.members.iter().find(same);
            ensure(old.is_none_or(|old| (old.node, old.replica) == (member.node, member.replica)), || {
                format!("node {} is to have replica {}, a number that was given", member.node, member.replica)
            })?;
        }
        let epoch = epoch_of_change(shard);
        // Heirs that are lost leave their epochs behind.
        let is_so = change.epoch == epoch || epoch > shard.epoch && change.epoch > epoch;
        ensure(is_so, || format!("it gives epoch {}, not {epoch}", change.epoch))
    }
}

/// The epoch that a shard has after a change of its members, unless heirs are lost meanwhile.
pub(crate) fn epoch_of_change(shard: &Shard) -> Epoch {
    match shard.protocol {
        Protocol::Raft | Protocol::Primary => shard.epoch,
        Protocol::Single | Protocol::TwoPhase | Protocol::Quorum | Protocol::Broadcast => {
            Epoch(shard.epoch.0.saturating_add(1))
        }
    }
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
