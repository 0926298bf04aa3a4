//! A node that lost its folder is told by leaders what it lacks, see [`crate::node::rejoin`].

use kv::cluster::Role;
use kv::{Level, NodeId, ShardId};
use replication::{Input, Token};

use super::core::Core;
use super::open::{Kind, Open};
use super::{Driver, Work};
use crate::node::Node;
use crate::node::peers::ANNOUNCE_MICROS;
use crate::wire::Frame;

impl Driver {
    pub(super) fn begin_rejoin(&mut self) {
        if !self.node.config.rejoining {
            return;
        }
        for shard in Vec::from_iter(self.core.replicas.keys().copied()) {
            self.node.rejoin.lacks(shard);
            self.core.give(shard, Input::WholeAt { index: u64::MAX, term: 0 });
        }
    }

    /// A leader has told how far a shard goes.
    pub(super) fn told_whole_at(&mut self, shard: ShardId, index: u64, term: u64, rejoining: bool) {
        if self.node.rejoin.takes_word(shard, index, rejoining) {
            tracing::warn!(%shard, index, "this node lacks entries it may have acknowledged: no vote until it has them");
            self.core.give(shard, Input::WholeAt { index, term });
        }
    }

    /// Ends the rejoining when every shard is whole.
    pub(super) fn end_rejoin(&mut self) {
        let replicas = &self.core.replicas;
        let durable = |shard| replicas.get(&shard).map_or(0, |replica| replica.protocol.status().durable);
        if self.node.rejoin.ends(durable) {
            self.node.config.rejoining = false;
            tracing::info!("this node is whole again and votes");
            self.core.work.push(Work::Rejoined);
        }
    }
}

impl Core {
    /// A rejoining node announced itself: it is told how far the shards led here go, once it is proven that they are.
    pub fn tell_rejoining(&mut self, node: &Node, rejoiner: NodeId) {
        let is_asked =
            |open: &Open| matches!(open.kind, Kind::Proof { rejoiner: other } if other == rejoiner);
        if !self.open.pick(is_asked).is_empty() {
            return;
        }
        // It announces itself again.
        let deadline = node.now.plus(ANNOUNCE_MICROS);
        let leads = |shard: &ShardId| self.replicas[shard].protocol.status().role == Role::Leader;
        for shard in Vec::from_iter(self.replicas.keys().copied().filter(leads)) {
            let token = self.open.insert(Open::proof(shard, deadline, rejoiner));
            self.give(shard, Input::Read { token, level: Level::Linearizable });
        }
    }

    /// It is proven that a shard is led here: the rejoining node that waits for that is told.
    pub fn proven(&mut self, shard: ShardId, token: Token, rejoiner: NodeId) {
        let open = self.open.remove(token).expect("a proof that is given was asked for");
        assert_eq!(open.shard, shard, "a replica proves that it leads its own shard");
        let status = self.replicas.get(&shard).map(|replica| replica.protocol.status());
        if let Some(status) = status.filter(|status| status.role == Role::Leader) {
            let (index, term) = (status.last, status.term);
            self.send(rejoiner, &Frame::WholeAt { shard, index, term, rejoining: true });
        }
    }
}
