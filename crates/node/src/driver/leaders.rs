//! Roles that others depend on: they are dealt out evenly, and handed over before a stop.

use kv::{NodeId, ShardId};
use replication::Input;

use super::core::Core;
use super::replica::Replica;
use crate::node::Node;

/// A role is offered to its preferred node at most so often: an offer to a node that is just being brought up to date comes
/// to nothing, and writes wait while one is under way.
const BALANCE_MICROS: u64 = 3_000_000;

impl Core {
    /// Whether the local replica of a shard orders its writes, as far as it knows.
    pub fn is_ordered_here(&self, shard: ShardId) -> bool {
        self.replicas.get(&shard).is_some_and(Replica::orders)
    }

    /// Offers roles to the nodes that should have them, when those are well and do not stop.
    pub fn balance(&mut self, node: &Node) {
        if node.stopping {
            return self.hand_over(node);
        }
        let mut offers = Vec::new();
        for replica in self.replicas.values_mut() {
            let Some(to) = preferred(node, replica) else { continue };
            let lately = replica.offered.is_some_and(|at| node.now.since(at) < BALANCE_MICROS);
            if to != node.config.me && !lately && node.peers.takes_roles(to, node.now) && replica.orders() {
                assert!(node.peers.contains(to), "a role is offered within the cluster");
                replica.offered = Some(node.now);
                offers.push((replica.shard, to));
            }
        }
        for (shard, to) in offers {
            self.give(shard, Input::Yield { to });
        }
    }

    /// Before the end: every role goes to the living node that is furthest.
    pub fn hand_over(&mut self, node: &Node) {
        for shard in Vec::from_iter(self.replicas.keys().copied()) {
            let Some(view) = self.replicas.get(&shard).map(Replica::view) else { continue };
            if let Some(to) = node.furthest_peer(shard, view) {
                self.give(shard, Input::Yield { to });
            }
        }
    }
}

/// The node that a shard depends on when all are well, as the map has it: such roles are dealt out evenly. While members change
/// that is their own matter: one that is to go has handed its role over already.
fn preferred(node: &Node, replica: &Replica) -> Option<NodeId> {
    let map = &node.config.map;
    if map.changes.contains_key(&replica.shard) {
        return None;
    }
    let leader = map.shards.get(&replica.shard)?.leader;
    replica.view().voters().find(|voter| *voter == leader)
}
