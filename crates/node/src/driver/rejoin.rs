//! The way back of a node that lost its folder.
//!
//! With it are lost entries that it had acknowledged and votes that it had given. So its replicas take part in nothing until
//! each has again what it had promised: how, is its protocol's. Then it is a node like any other.

use kv::{Index, ShardId};

use super::core::Core;
use super::{Driver, Work};

impl Driver {
    pub(super) fn begin_rejoin(&mut self) {
        if self.node.config.rejoining {
            self.core.lost = self.core.replicas.keys().copied().collect();
        }
    }

    /// Ends the rejoining when every shard is whole.
    pub(super) fn end_rejoin(&mut self) {
        if self.node.config.rejoining && self.core.lost.is_empty() {
            self.node.config.rejoining = false;
            tracing::info!("this node is whole again and votes");
            self.core.work.push(Work::Rejoined);
        }
    }
}

impl Core {
    /// A replica learned that it lacks what it had acknowledged.
    pub fn lacks(&mut self, shard: ShardId, last: Index) {
        tracing::warn!(%shard, %last, "this node lacks entries it may have acknowledged: no vote until it has them");
    }

    /// A replica has again all that it had acknowledged.
    pub fn is_whole(&mut self, shard: ShardId) {
        tracing::info!(%shard, "what was lacking of a shard is here again");
        self.lost.remove(&shard);
    }
}
