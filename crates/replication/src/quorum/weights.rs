//! What members weigh.

use std::collections::BTreeSet;

use kv::NodeId;
use mutant::Mutant;

use super::Quorum;

impl Quorum {
    /// What a member weighs.
    pub(super) fn weight_of(&self, node: NodeId) -> u64 {
        self.view
            .member(node)
            .filter(|member| member.duty.will_count())
            .map_or(0, |member| u64::from(member.weight))
    }

    /// What these weigh together, each counted once.
    pub(super) fn weigh(&self, nodes: &BTreeSet<NodeId>) -> u64 {
        self.weigh_all(nodes.iter().copied())
    }

    /// Likewise; each comes once.
    fn weigh_all(&self, nodes: impl Iterator<Item = NodeId> + Clone) -> u64 {
        if mutant::is(Mutant::WeightsCountedAsNodes) && 2 * nodes.clone().count() > self.view.members.len() {
            return u64::from(self.config.votes.write.max(self.config.votes.read));
        }
        nodes.map(|node| self.weight_of(node)).sum()
    }

    /// Whether these weigh enough for a read.
    pub(super) fn reads_enough(&self, nodes: &BTreeSet<NodeId>) -> bool {
        self.weigh(nodes) >= u64::from(self.config.votes.read)
    }

    /// Whether these weigh enough for a write.
    pub(super) fn writes_enough(&self, nodes: &BTreeSet<NodeId>) -> bool {
        self.are_enough_for_writes(nodes.iter().copied())
    }

    /// Likewise; each comes once.
    pub(super) fn are_enough_for_writes(&self, nodes: impl Iterator<Item = NodeId> + Clone) -> bool {
        self.weigh_all(nodes) >= u64::from(self.config.votes.write)
    }

    /// All members.
    pub(super) fn members(&self) -> BTreeSet<NodeId> {
        self.view.members.iter().map(|member| member.node).collect()
    }

    /// This member, and those that are within reach.
    pub(super) fn within_reach(&self) -> BTreeSet<NodeId> {
        let near = self.peers.iter().filter(|(_, peer)| peer.is_near()).map(|(node, _)| *node);
        near.chain([self.config.id]).collect()
    }
}
