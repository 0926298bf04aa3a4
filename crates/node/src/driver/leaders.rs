//! Who leads what: leaderships are dealt out evenly, and handed over before a stop.

use kv::ShardId;
use kv::cluster::Role;
use replication::Input;

use super::core::Core;
use crate::node::Node;

/// A leadership is offered to its preferred node at most so often: an offer to a node that is just being brought up to date
/// comes to nothing, and writes wait while one is under way.
const BALANCE_MICROS: u64 = 3_000_000;
/// A follower this far behind (in entries) is not offered a leadership.
const BALANCE_LAG_MAX: u64 = 1_000;

impl Core {
    /// Whether the local replica of a shard leads it, as far as it knows.
    pub fn is_led_here(&self, node: &Node, shard: ShardId) -> bool {
        let replica = self.replicas.get(&shard);
        replica.is_some_and(|replica| replica.protocol.status().leader == Some(node.config.me))
    }

    /// Offers leaderships to the nodes that should have them, when those are well.
    pub fn balance(&mut self, node: &Node) {
        if node.stopping {
            return self.hand_over(node);
        }
        let mut offers = Vec::new();
        for replica in self.replicas.values_mut() {
            let to = node.config.preferred_leader(replica.shard);
            let status = replica.protocol.status();
            let lately = replica.transferred.is_some_and(|at| node.now.since(at) < BALANCE_MICROS);
            if to == node.config.me || status.role != Role::Leader || lately {
                continue;
            }
            let told = node.peers.replica(to, replica.shard);
            let near = told.is_some_and(|told| {
                told.term == status.term && told.applied + BALANCE_LAG_MAX >= status.commit
            });
            if near && node.peers.is_well(to, node.now) {
                assert!(node.peers.contains(to), "a leadership is offered within the cluster");
                replica.transferred = Some(node.now);
                offers.push((replica.shard, to));
            }
        }
        for (shard, to) in offers {
            self.give(shard, Input::Transfer { to });
        }
    }

    /// Before the end: every leadership goes to the living node that is furthest.
    pub fn hand_over(&mut self, node: &Node) {
        for shard in Vec::from_iter(self.replicas.keys().copied()) {
            if let Some(to) = node.furthest_peer(shard) {
                self.give(shard, Input::Transfer { to });
            }
        }
    }
}
