//! A node that came back with nothing.
//!
//! Its old data folder is lost, and with it entries that it had acknowledged and votes that it had given. So it takes
//! part in no election until a leader, which has every agreed entry, has said how far its log goes, and it has all of
//! that. Then it is a replica like any other.

use kv::cluster::Role;
use kv::{NodeId, ShardId};

use crate::driver::{Driver, Work};
use crate::wire::Frame;

impl Driver {
    pub(crate) fn begin_rejoin(&mut self) {
        if !self.config.rejoining {
            return;
        }
        for &shard in self.replicas.keys() {
            self.rejoin.insert(shard, None);
            self.inputs.push_back((shard, replication::Input::WholeAt { index: u64::MAX }));
        }
    }

    /// A rejoining node announced itself: it is told how far the shards led here go.
    pub(crate) fn tell_rejoining(&mut self, node: NodeId) {
        let leading = self.replicas.values().filter_map(|replica| {
            let status = replica.protocol.status();
            (status.role == Role::Leader).then_some((replica.shard, status.last))
        });
        let leading: Vec<(ShardId, u64)> = leading.collect();
        for (shard, index) in leading {
            self.send(node, &Frame::WholeAt { shard, index, rejoining: true });
        }
    }

    /// A leader has told how far a shard goes. The first word about it counts: what was asked for when this node knew
    /// nothing may arrive when it is whole long since, and then asks for what it never had.
    pub(crate) fn told_whole_at(&mut self, shard: ShardId, index: u64, rejoining: bool) {
        let told = self.rejoin.get_mut(&shard);
        if rejoining && !matches!(told, Some(None)) {
            return;
        }
        told.into_iter().for_each(|told| drop(told.get_or_insert(index)));
        tracing::warn!(%shard, index, "this node lacks entries it may have acknowledged: no vote until it has them");
        self.inputs.push_back((shard, replication::Input::WholeAt { index }));
    }

    /// Ends the rejoining when every shard is whole.
    pub(crate) fn end_rejoin(&mut self) {
        if self.rejoin.is_empty() {
            return;
        }
        let whole = self.rejoin.iter().all(|(shard, told)| {
            let durable = self.replicas.get(shard).map_or(0, |replica| replica.protocol.status().durable);
            told.is_some_and(|index| durable >= index)
        });
        if whole {
            self.rejoin.clear();
            self.config.rejoining = false;
            tracing::info!("this node is whole again and votes");
            self.work.push(Work::Rejoined);
        }
    }
}
