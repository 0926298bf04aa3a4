//! Who lives, and what a shard can do with those.

use kv::cluster::Liveness;
use kv::view::Member;
use kv::{NodeId, Protocol, ReplicaId, ShardId};

use crate::map::{Map, NodeDuty, Shard};
use crate::revise::is_in_sync;

impl Map {
    /// Whether a node is neither dead nor gone.
    pub(crate) fn lives(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.state != Liveness::Dead && node.duty != NodeDuty::Gone)
    }

    /// Whether the members of a shard can be changed: a majority of them lives, and there are numbers for new ones.
    pub(crate) fn can_change(&self, shard: &Shard) -> bool {
        let has_enough = match shard.protocol {
            // Any of those in sync has all that was acknowledged.
            Protocol::Primary => {
                shard.members.iter().any(|member| is_in_sync(member) && self.lives(member.node))
            }
            // No copy is made here: under quorum others come by way of raft.
            Protocol::TwoPhase | Protocol::Quorum | Protocol::Broadcast => false,
            Protocol::Single | Protocol::Raft => self.has_majority(&shard.members),
        };
        has_enough && shard.next_replica <= ReplicaId::MAX
    }

    /// Whether a majority of some members lives.
    pub(crate) fn has_majority(&self, members: &[Member]) -> bool {
        members.iter().filter(|member| self.lives(member.node)).count() > members.len() / 2
    }

    /// Whether the members of a shard can be others after a while: they can be changed, or it goes on under a protocol that can, and back.
    pub(crate) fn can_change_in_the_end(&self, id: ShardId, shard: &Shard) -> bool {
        self.can_change(shard) || shard.protocol == Protocol::Quorum && self.go_on(id, shard).is_some()
    }
}

/// How many of so many members are needed, for what a shard holds to be safe and served.
pub fn needed(protocol: Protocol, members: usize) -> usize {
    match protocol {
        Protocol::TwoPhase => members,
        // Each serves by itself.
        Protocol::Broadcast => 1,
        Protocol::Single | Protocol::Raft | Protocol::Primary | Protocol::Quorum => members / 2 + 1,
    }
}
