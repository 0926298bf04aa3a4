//! A node that people declare dead for good: the shards of a keyspace under `two-phase` go on without its replicas.
//!
//! # The problem
//!
//! Under `two-phase` a write is on all copies or on none, and nobody takes the place of one that is away: not after any grace, for who is
//! only cut off goes on answering reads. People may know that a node never comes back.
//!
//! # How it is solved
//!
//! The row of each of its shards loses the member, under the next revision. Where it ordered, the first of the others does that lives.
//! How they go on from there is the protocol's (`replication`'s two-phase).
//!
//! ```text
//!   revision 1    n1 orders    n2    n3        n1 burnt down: no writes
//!   declared      n2 orders    n3              revision 2: writes are on both
//! ```
//!
//! # Caveats
//!
//! The copies are one fewer from then on, for they stay where they are: another protocol, and `two-phase` after that, has them made again.
//! A shard that is changing over to others waits for all that had it, and is none that a member can be taken from.

use kv::admin::Ruled;
use kv::cluster::Liveness;
use kv::view::{Duty, Revision};
use kv::{NodeId, Protocol, ShardId};

use crate::map::{Map, NodeDuty, Phase};
use crate::refusal::Refusal;

impl Map {
    pub(crate) fn declare_dead(&mut self, keyspace: &str, name: &str) -> Result<Vec<Ruled>, Refusal> {
        let shards = self.shards_under(keyspace, Protocol::TwoPhase, |keyspace, protocol| {
            Refusal::GoesOnItself { keyspace, protocol }
        })?;
        let has_some = |node: NodeId| shards.iter().any(|id| self.shards[id].member(node).is_some());
        let mut of_name =
            self.nodes.iter().filter(|(_, node)| node.name == name).map(|(id, node)| (*id, node));
        // Another one of its name may have taken its place.
        let meant = of_name.clone().find(|(id, _)| has_some(*id)).or_else(|| of_name.next());
        let (id, node) = meant.ok_or_else(|| Refusal::UnknownNode(name.into()))?;
        match (node.duty, node.state) {
            (NodeDuty::Gone, _) | (_, Liveness::Dead) => {
                Ok(shards.into_iter().map(|shard| self.declare_dead_in(shard, id)).collect())
            }
            _ => Err(Refusal::MayLive(name.into())),
        }
    }

    fn declare_dead_in(&mut self, id: ShardId, node: NodeId) -> Ruled {
        let (done, why) = match self.may_lose_member(id, node) {
            Err(why) => (false, why),
            Ok(()) => {
                let left = self.lose_member(id, node);
                let orders = self.name_of(self.shards[&id].leader);
                let copies = if left == 1 { "copy is" } else { "copies are" };
                (
                    true,
                    format!(
                        "it goes on without {}, {left} {copies} left; {orders} orders it",
                        self.name_of(node)
                    ),
                )
            }
        };
        Ruled { shard: id, done, why }
    }

    fn may_lose_member(&self, id: ShardId, node: NodeId) -> Result<(), String> {
        let shard = &self.shards[&id];
        let name = self.name_of(node);
        if shard.protocol != Protocol::TwoPhase {
            return Err(format!("it is under {} yet, which goes on without who is away", shard.protocol));
        }
        if shard.member(node).is_none() {
            return Err(format!("{name} has no replica of it"));
        }
        if shard.members.len() == 1 {
            return Err(format!("{name} has its only copy"));
        }
        match self.changes.get(&id) {
            Some(change) if change.phase == Phase::Switch => {
                Err("it has ended, and goes on as other shards: that needs all who had it".into())
            }
            _ => Ok(()),
        }
    }

    /// The shard goes on without its member on a node. What was under way with it is given up. How many members are left.
    fn lose_member(&mut self, id: ShardId, node: NodeId) -> usize {
        self.changes.remove(&id);
        self.give_up_parts();
        let lives = |other: &NodeId| self.lives(*other);
        let others =
            || self.shards[&id].members.iter().map(|member| member.node).filter(|other| *other != node);
        let next = others().find(lives).or_else(|| others().next());
        let Some(shard) = self.shards.get_mut(&id) else { return 0 };
        shard.members.retain(|member| member.node != node);
        shard.revision = Revision(shard.revision.0 + 1);
        if let Some(next) = next.filter(|_| shard.leader == node) {
            shard.leader = next;
            for member in shard.members.iter_mut().filter(|member| member.node == next) {
                member.duty = Duty::Primary;
            }
        }
        shard.members.len()
    }
}
