//! On which node a replica is.
//!
//! Replicas call each other by their numbers in the group, and a number is never given twice: a node that was a member and is
//! one again has another replica, and nobody takes the new one's words for the old one's. Where a number is, the members say;
//! of a number that is not among them, who spoke in its name. For a follower may lag behind the entry that made its leader a
//! member.

use std::collections::BTreeMap;

use bytes::Bytes;
use kv::{NodeId, ReplicaId};

use super::core::Core;
use super::message::Message;
use super::replica::Raft;
use crate::View;

/// Where those are that are not members, as far as they have spoken. There are at most as many as numbers: 1,023.
#[derive(Default)]
pub(super) struct Addresses(BTreeMap<ReplicaId, NodeId>);

impl Raft {
    /// The node of a replica, if it is known.
    pub(super) fn node_of(&self, replica: ReplicaId) -> Option<NodeId> {
        let member = self.core.view().replica(replica).map(|member| member.node);
        member.or_else(|| self.addresses.0.get(&replica).copied())
    }

    /// The member on a node.
    pub(super) fn replica_on(&self, node: NodeId) -> Option<ReplicaId> {
        self.core.view().member(node).map(|member| member.replica)
    }

    /// Does something with the member on a node, if there is one.
    pub(super) fn with_member(&mut self, node: NodeId, then: impl FnOnce(&mut Core, ReplicaId)) {
        if let Some(replica) = self.replica_on(node) {
            then(&mut self.core, replica);
        }
    }

    /// The replica of this number spoke from a node. Whether that can be: a member's number is on the member's node.
    pub(super) fn spoke(&mut self, replica: ReplicaId, node: NodeId) -> bool {
        match self.core.view().replica(replica) {
            Some(member) => member.node == node,
            None => {
                self.addresses.0.insert(replica, node);
                true
            }
        }
    }

    /// The message, if it is sound and for this replica. From a node, if that is known.
    pub(super) fn addressed(&mut self, from: Option<NodeId>, body: &Bytes) -> Option<Message> {
        let message = Message::decode(body).ok()?;
        let is_sound = message.is_sound(self.core.view().epoch, self.core.last());
        let is_ours = message.to == self.replica && message.from != self.replica;
        (is_sound && is_ours && from.is_none_or(|node| self.spoke(message.from, node))).then_some(message)
    }

    /// The other members.
    pub(super) fn others(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        self.core
            .view()
            .members
            .iter()
            .map(|member| member.replica)
            .filter(|replica| *replica != self.replica)
    }
}

/// Whether a node's replica is a majority by itself.
pub(super) fn is_alone(view: &View, node: NodeId) -> bool {
    view.has_majority(|other| other == node)
}
