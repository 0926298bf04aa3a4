//! A group that nobody needs sleeps.
//!
//! A node may have a thousand shards, and most have nothing to do. A heartbeat of each ten times a second would cost more than
//! the few that work. So a leader whose followers have all that it has says so once more ([`super::message::Kind::Sleep`]) and is
//! silent from then on; a follower that has it all stops waiting for heartbeats. Neither looks at the clock. Who cannot be reached
//! is not waited for, as long as a majority has all: a node that is down for long must not keep its thousand groups awake on the
//! others. The connection to it wakes their leaders, and each sends it what it lacks.
//!
//! ```text
//!   n1, leads                       n2                         n3
//!     │ ── sleep: you have up to 7 ─▶ │                          │
//!     │ ─────────────────────────────┼─────────────────────────▶ │
//!   silent                          silent                     silent
//!     │ ◀── put k ─── a client        │                          │
//!     │ ── entry 8 ─────────────────▶ │ awake                    │ awake
//!
//!   n1's node is gone                 n2 and n3 hear of that from their nodes, and wait for n1 as if it had just spoken:
//!                                     one election timeout later one of them asks to be elected.
//! ```
//!
//! It wakes on any message of the group, on anything that a client wants, and when its owner says that the node of its leader
//! broke off or is silent ([`crate::Input::Disconnected`], [`crate::Input::Silent`]). For that somebody must watch the nodes: so
//! a replica sleeps only while its node is connected to those it relies on.
//!
//! A leader that sleeps holds no lease: nobody waits for its heartbeats, so others may elect one without its notice. The first
//! read wakes the group and takes a round. A last word that is lost does no harm: the follower that missed it soon asks to be
//! elected, which wakes the others, and its leader goes on.

use std::collections::BTreeSet;

use kv::NodeId;
use kv::cluster::Role;

use super::core::Progress;
use super::message::{Kind, Message};
use super::replica::Raft;
use crate::{Instant, Member, Output};

/// A leader to whom nobody came for so many election timeouts lets its group sleep.
const IDLE_TIMEOUTS: u64 = 2;

/// Whether a replica sleeps, and may.
#[derive(Default)]
pub(super) struct Sleep {
    pub(super) asleep: bool,
    /// When something was last wanted of it.
    busy: Instant,
    /// Nodes whose connections stand, so that it would be said if they broke.
    connected: BTreeSet<NodeId>,
}

impl Raft {
    /// Something is wanted of the replica: it is awake from now on.
    pub(super) fn wake(&mut self) {
        self.sleep.busy = self.now;
        if std::mem::take(&mut self.sleep.asleep) {
            self.core.wake();
        }
    }

    /// A message of the group wakes it too. A leader's heartbeat is nothing that is wanted, and neither is the answer to one,
    /// which may come when the leader sleeps.
    pub(super) fn wake_on(&mut self, message: &Message) {
        match message.kind {
            Kind::Sleep => {}
            Kind::HeartbeatResponse if message.round.is_empty() => {}
            Kind::Heartbeat if message.round.is_empty() && !self.sleep.asleep => {}
            _ => self.wake(),
        }
    }

    /// The connection to a node stands: a leader has something to say to a member there.
    pub(super) fn note_connected(&mut self, node: NodeId) {
        self.sleep.connected.insert(node);
        if self.core.role() == Role::Leader || self.depends_on(node) {
            self.wake();
        }
    }

    /// The connection to a node broke.
    pub(super) fn note_disconnected(&mut self, node: NodeId) {
        self.sleep.connected.remove(&node);
        self.note_silent(node);
    }

    /// A node has said nothing for long: whoever sleeps because its leader there is well does so no longer.
    pub(super) fn note_silent(&mut self, node: NodeId) {
        if self.sleep.asleep && self.core.role() != Role::Leader && self.depends_on(node) {
            self.wake();
        }
    }

    fn depends_on(&self, node: NodeId) -> bool {
        self.core.leader().is_none_or(|leader| self.node_of(leader) == Some(node))
    }

    /// Lets the group sleep, if this replica leads it and nothing is left to be done.
    pub(super) fn let_sleep(&mut self, out: &mut Vec<Output>) {
        if !self.may_let_sleep() {
            return;
        }
        let (term, last) = (self.core.term(), self.core.last());
        let others = Vec::from_iter(self.others());
        let words = others.into_iter().filter_map(|to| self.say(Kind::Sleep, to, term, last));
        out.extend(words);
        self.lease.sleep();
        self.sleep.asleep = true;
    }

    fn may_let_sleep(&self) -> bool {
        let patience_micros = IDLE_TIMEOUTS * self.config.election_ticks as u64 * self.config.tick_micros;
        self.core.role() == Role::Leader
            && !self.sleep.asleep
            && self.now.since(self.sleep.busy) >= patience_micros
            && self.core.has_committed()
            && self.core.transferee().is_none()
            && self.is_settled()
            && (self.applied.index == self.core.last() || self.seal.end().is_some())
            && self.wanted.is_none()
            && !self.core.view().is_joint()
            && self.batch.is_empty()
            && !self.owes_words()
            && self.known.view().revision == self.core.view().revision
            && self.is_shared()
    }

    /// Whether the members that can be reached, and would be missed, have all that is here, and are a majority.
    fn is_shared(&self) -> bool {
        let view = self.core.view();
        let is_there = |node: NodeId| node == self.config.id || self.sleep.connected.contains(&node);
        let there = |member: &&Member| is_there(member.node);
        view.has_majority(is_there) && view.members.iter().filter(there).all(|member| self.has_all(member))
    }

    /// Whether a member has all that is here, and knows that it is agreed on.
    fn has_all(&self, member: &Member) -> bool {
        let last = self.core.last();
        let has = |progress: Progress| (progress.matched, progress.commit) == (last, last);
        member.replica == self.replica || self.core.progress(member.replica).is_some_and(has)
    }

    /// Whether all that is in its log is synced and agreed on, and no read waits.
    fn is_settled(&self) -> bool {
        let last = self.core.last();
        (self.core.durable(), self.core.commit()) == (last, last)
            && self.installing.is_none()
            && self.outbox.is_idle()
            && self.reads.is_empty()
    }

    /// The leader says that everybody may sleep.
    pub(super) fn told_to_sleep(&mut self, message: &Message) {
        let is_leader = message.term == self.core.term() && self.core.leader() == Some(message.from);
        let is_watched = self.node_of(message.from).is_some_and(|node| self.sleep.connected.contains(&node));
        let has_all = message.at.index == self.core.last() && self.guard.is_whole(self.core.durable());
        if is_leader && self.core.role() == Role::Follower && is_watched && has_all && self.is_settled() {
            self.sleep.asleep = true;
        }
    }
}
