//! Epochs fence: a replica hears of its own epoch only.
//!
//! A message names the epoch and the revision that its sender knew. Who is behind is answered with the members as they are
//! now; who is ahead is asked for them first. Neither is dropped in silence: a node that has missed a change learns of it from
//! the first word it says or hears.

use bytes::Bytes;
use kv::{Epoch, NodeId, ShardId};
use replication::{Input, Revision, View};

use super::core::Core;
use crate::wire::{Frame, Greeting};

impl Core {
    /// A replica on another node says something to the one here.
    pub fn take_message(&mut self, from: NodeId, shard: ShardId, known: (Epoch, Revision), body: Bytes) {
        if self.fence(from, shard, known.0, Some(known.1)) {
            self.give(shard, Input::Message { from, revision: known.1, body });
        }
    }

    /// The replicas on another node say hello: first of all on a new connection.
    pub fn take_greetings(&mut self, from: NodeId, greetings: Vec<Greeting>) {
        for Greeting { shard, epoch, hello } in greetings {
            if self.fence(from, shard, epoch, None) {
                self.give(shard, Input::Connected { node: from, hello });
            }
        }
    }

    /// What the replicas here say first to those on another node.
    pub fn greetings(&self, to: NodeId) -> Vec<Greeting> {
        let greeting = |(&shard, replica): (&ShardId, &super::replica::Replica)| {
            let (epoch, hello) = (replica.protocol.view().epoch, replica.protocol.hello(to));
            Greeting { shard, epoch, hello }
        };
        self.replicas.iter().map(greeting).collect()
    }

    /// Another node wants to know the members of a shard.
    pub fn tell_view(&mut self, to: NodeId, shard: ShardId) {
        if let Some(replica) = self.replicas.get(&shard) {
            let view = replica.protocol.view().clone();
            self.send(to, &Frame::View { shard, view });
        }
    }

    /// Another node says who the members of a shard are.
    pub fn take_view(&mut self, from: NodeId, shard: ShardId, view: View) {
        let Some(own) = self.replicas.get(&shard).map(|replica| replica.protocol.view()) else { return };
        if view.epoch == own.epoch && own.is_before(&view) {
            self.give(shard, Input::View(view));
        } else if view.epoch > own.epoch {
            let (epoch, own) = (view.epoch, own.epoch);
            tracing::warn!(node = %from, %shard, %epoch, %own, "a shard has gone on without this node: its replica here is out of date");
        }
    }

    /// Whether a word of this epoch is for the replica here. If not, or if its sender knows of later members, that is said.
    fn fence(&mut self, from: NodeId, shard: ShardId, epoch: Epoch, revision: Option<Revision>) -> bool {
        let Some(own) = self.replicas.get(&shard).map(|replica| replica.protocol.view()) else {
            return false;
        };
        let (is_ours, is_behind) = (epoch == own.epoch, epoch < own.epoch);
        let is_ahead =
            epoch > own.epoch || is_ours && revision.is_some_and(|revision| revision > own.revision);
        if is_behind {
            self.tell_view(from, shard);
        } else if is_ahead {
            self.send(from, &Frame::WantView { shard });
        }
        is_ours
    }
}
