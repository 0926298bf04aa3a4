//! Replicas that are astray: the operator had another one order that was not in sync, and what is here may have gone another way.
//!
//! Such a replica serves nobody; it asks to begin anew, and the map gives it another number: then it is dropped and made again, as
//! any ([`super::hosting`]). Whoever watches here goes on elsewhere at once, and nothing of what changed here is kept for watches.

use kv::ShardId;
use kv::view::Duty;

use super::core::Core;
use super::replica::Replica;
use crate::node::Node;

impl Core {
    /// Of the replicas that something happened to, those that have gone astray give their watches away.
    pub fn note_astray(&mut self, node: &Node) {
        let is_new = |shard: &&ShardId| {
            self.replicas.get(shard).is_some_and(|replica| !replica.went_astray && replica.is_astray())
        };
        for shard in Vec::from_iter(self.touched.iter().filter(is_new).copied()) {
            tracing::warn!(%shard, "another replica of a shard was made to order by force: the one here begins anew");
            if let Some(replica) = self.replicas.get_mut(&shard) {
                replica.went_astray = true;
            }
            self.forget_pulls(node, shard);
        }
    }
}

impl Replica {
    /// Whether another one was made to order that was not in sync.
    pub fn is_astray(&self) -> bool {
        self.view().replica(self.made.number).is_some_and(|member| member.duty == Duty::Astray)
    }
}
