//! Epochs fence: a replica hears of its own epoch only.
//!
//! A message names the epoch and the revision that its sender knew, and so does an announcement. Who is behind is answered with
//! the members as they are now; who is ahead is asked for them first. Neither is dropped in silence: a node that has missed a
//! change learns of it from the first word it says or hears.
//!
//! ```text
//!   message of epoch    here 4
//!          3            View{4} back: its sender has missed a change
//!          4            to the replica; if its revision is later, WantView back as well
//!          5            WantView back: this node has missed a change
//! ```
//!
//! An epoch rises when a shard is handed over ([`super::handover`]). A replica of which its node knows that it is over serves nobody:
//! what clients ask goes to those who lead the later one, until the map says that the replica is to go. What is forwarded names no
//! epoch: it is served by who can serve it, whichever epoch that is in.

use std::collections::BTreeSet;

use bytes::Bytes;
use kv::{Epoch, NodeId, ShardId};
use mutant::Mutant;
use replication::{Input, Instant, Revision, View};

use super::core::Core;
use super::replica::Replica;
use crate::node::Node;
use crate::wire::{Announced, Frame, Greeting};

/// Later members are asked for at most so often a shard: who is ahead says something many times a second.
pub(super) const ASK_MICROS: u64 = 100_000;

/// What a replica's node knows of what came after its view.
#[derive(Debug, Default)]
pub(super) struct Later {
    /// When later members were last asked for.
    asked: Option<Instant>,
    /// The latest epoch that was heard of, when it is later than the replica's.
    epoch: Option<Epoch>,
}

impl Later {
    /// Whether the replica's epoch is over.
    pub fn is_over(&self) -> bool {
        self.epoch.is_some() && !mutant::is(Mutant::SealedOwnerServes)
    }

    fn hear(&mut self, from: NodeId, shard: ShardId, own: Epoch, epoch: Epoch) {
        assert!(epoch > own, "an epoch that is heard of is later than the replica's");
        if self.epoch < Some(epoch) {
            self.epoch = Some(epoch);
            tracing::info!(node = %from, %shard, %epoch, %own, "a shard has gone on in a later epoch: its replica here is over");
        }
    }
}

/// How a word stands to the replica that it is said to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fenced {
    /// Its sender is behind.
    Behind,
    /// It is of the replica's epoch; its sender may know of later members in it.
    Ours { is_ahead: bool },
    /// Its sender is ahead.
    Ahead,
}

impl Core {
    /// A replica on another node says something to the one here.
    pub fn take_message(
        &mut self,
        node: &Node,
        from: NodeId,
        shard: ShardId,
        known: (Epoch, Revision),
        body: Bytes,
    ) {
        if self.passes(node, from, shard, known) {
            self.give(shard, Input::Message { from, revision: known.1, body });
        }
    }

    /// The replicas on another node say hello: first of all on a new connection, or when they were just made.
    pub fn take_greetings(&mut self, node: &Node, from: NodeId, greetings: Vec<Greeting>, wants: bool) {
        let asked: BTreeSet<ShardId> = greetings.iter().map(|greeting| greeting.shard).collect();
        let answers = if wants { self.greetings(from, |shard| asked.contains(&shard)) } else { Vec::new() };
        if !answers.is_empty() {
            self.send(from, &Frame::Greet { greetings: answers, wants: false });
        }
        for Greeting { shard, epoch, hello } in greetings {
            if self.passes(node, from, shard, (epoch, Revision::default())) {
                self.give(shard, Input::Connected { node: from, hello });
            }
        }
    }

    /// A node says how its replicas are: of idle shards too it learns what it has missed, and tells it.
    pub fn compare_views(&mut self, node: &Node, from: NodeId, replicas: &[Announced]) {
        for replica in replicas {
            self.passes(node, from, replica.shard, (replica.epoch, replica.revision));
        }
    }

    /// What the replicas here of some shards say first to those on another node.
    pub fn greetings(&self, to: NodeId, of: impl Fn(ShardId) -> bool) -> Vec<Greeting> {
        let greeting = |(&shard, replica): (&ShardId, &Replica)| {
            let (epoch, hello) = (replica.view().epoch, replica.protocol.hello(to));
            Greeting { shard, epoch, hello }
        };
        self.replicas.iter().filter(|(shard, _)| of(**shard)).map(greeting).collect()
    }

    /// Another node wants to know the members of a shard.
    pub fn tell_view(&mut self, to: NodeId, shard: ShardId) {
        if let Some(replica) = self.replicas.get(&shard) {
            let view = replica.view().clone();
            self.send(to, &Frame::View { shard, view });
        }
    }

    /// Another node says who the members of a shard are.
    pub fn take_view(&mut self, from: NodeId, shard: ShardId, view: View) {
        let Some(replica) = self.replicas.get_mut(&shard) else { return };
        let own = replica.protocol.view();
        if view.epoch == own.epoch && own.is_before(&view) {
            self.give(shard, Input::View(view));
        } else if view.epoch > own.epoch {
            replica.later.hear(from, shard, own.epoch, view.epoch);
        }
    }

    /// Whether a word is for the replica here. If not, or if its sender knows of later members, that is said.
    fn passes(&mut self, node: &Node, from: NodeId, shard: ShardId, known: (Epoch, Revision)) -> bool {
        let Some(replica) = self.replicas.get_mut(&shard) else { return false };
        let own = replica.protocol.view();
        let (fenced, own) = (fence(own, known), own.epoch);
        if fenced == Fenced::Ahead {
            replica.later.hear(from, shard, own, known.0);
        }
        match fenced {
            Fenced::Behind if mutant::is(Mutant::EpochDroppedInSilence) => {}
            Fenced::Behind => self.tell_view(from, shard),
            Fenced::Ours { is_ahead: false } => {}
            Fenced::Ours { is_ahead: true } | Fenced::Ahead => self.want_view(node, from, shard),
        }
        matches!(fenced, Fenced::Ours { .. })
    }

    /// Asks a node that knows more for the members of a shard, now and then.
    fn want_view(&mut self, node: &Node, from: NodeId, shard: ShardId) {
        let Some(replica) = self.replicas.get_mut(&shard) else { return };
        if replica.later.asked.is_none_or(|at| node.now.since(at) >= ASK_MICROS) {
            replica.later.asked = Some(node.now);
            self.send(from, &Frame::WantView { shard });
        }
    }
}

fn fence(own: &View, (epoch, revision): (Epoch, Revision)) -> Fenced {
    match epoch.cmp(&own.epoch) {
        std::cmp::Ordering::Less => Fenced::Behind,
        std::cmp::Ordering::Equal => Fenced::Ours { is_ahead: revision > own.revision },
        std::cmp::Ordering::Greater => Fenced::Ahead,
    }
}
