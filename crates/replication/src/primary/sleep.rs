//! A shard that nobody needs sleeps: nobody says anything, and no clock is looked at.
//!
//! A primary to whom nobody came for a while, and whose members have all that it has, says so once more and is silent. Who sleeps waits
//! for nothing; it wakes when something is wanted of it, when another member speaks, or when the node of its primary breaks off or is
//! silent. A primary that sleeps holds no lease and lends none. Who did not hear that it may sleep calls its primary, which wakes.

use std::collections::BTreeSet;

use kv::NodeId;

use super::message::{Kind, Message};
use super::replica::{Primary, is_in_sync};
use crate::{Duty, Instant, Member, Output};

/// A primary to whom nobody came for so many graces lets its shard sleep.
const IDLE_GRACES: u64 = 2;

/// Whether a replica sleeps, and may.
#[derive(Default)]
pub(super) struct Sleep {
    pub(super) asleep: bool,
    /// Since when it does not.
    pub(super) awake_since: Instant,
    /// When something was last wanted of it.
    busy: Instant,
    /// Nodes whose connections stand, so that it would be said if they broke.
    connected: BTreeSet<NodeId>,
}

impl Primary {
    /// Something is wanted of the replica: it is awake from now on.
    pub(super) fn wake(&mut self) {
        self.sleep.busy = self.now;
        if std::mem::take(&mut self.sleep.asleep) {
            (self.sleep.awake_since, self.heard) = (self.now, self.now);
            (self.looked, self.called) = (Instant::default(), Instant::default());
            if let Some(order) = &mut self.order {
                order.beat = None;
            }
        }
    }

    /// A message wakes it too. An answer to a beat is nothing that is wanted, and may come when it sleeps.
    pub(super) fn wake_on(&mut self, message: &Message) {
        match message.kind {
            Kind::Sleep => (),
            Kind::Ack if message.lease.is_none() => (),
            Kind::Append if !self.sleep.asleep => (),
            _ => self.wake(),
        }
    }

    /// The connection to a node stands.
    pub(super) fn note_connected(&mut self, node: NodeId) {
        self.sleep.connected.insert(node);
        if self.order.is_some() || self.depends_on(node) {
            self.wake();
        }
    }

    /// A node whose replica speaks is connected. Two that came to the shard at the same time said no hello to each other.
    pub(super) fn note_speaks(&mut self, node: NodeId) {
        self.sleep.connected.insert(node);
    }

    /// Whether the connection to a node stands.
    pub(super) fn is_connected(&self, node: NodeId) -> bool {
        self.sleep.connected.contains(&node)
    }

    /// The connection to a node broke.
    pub(super) fn disconnected(&mut self, node: NodeId) {
        self.sleep.connected.remove(&node);
        let replica = self.view.member(node).map(|member| member.replica);
        if let (Some(order), Some(replica)) = (&mut self.order, replica)
            && let Some(follower) = order.followers.get_mut(&replica)
        {
            follower.progress.begin_again();
        }
        self.note_silent(node);
    }

    /// A node has said nothing for long: who sleeps because its primary there is well does so no longer.
    pub(super) fn note_silent(&mut self, node: NodeId) {
        if self.sleep.asleep && self.depends_on(node) {
            self.wake();
        }
    }

    fn depends_on(&self, node: NodeId) -> bool {
        self.primary().is_some_and(|primary| primary.node == node)
    }

    /// Lets the shard sleep, if this replica orders and nothing is left to be done.
    pub(super) fn let_sleep(&mut self, out: &mut Vec<Output>) {
        if !self.may_let_sleep() {
            return;
        }
        let last = self.log.last();
        let at = kv::Position { index: last, term: self.log.term(last).unwrap_or_default() };
        for to in Vec::from_iter(self.others()) {
            let message = self.message(Kind::Sleep, to, at);
            self.send(&Message { commit: self.commit, ..message }, out);
        }
        if let Some(order) = &mut self.order {
            order.followers.values_mut().for_each(|follower| follower.promise.drop());
        }
        self.sleep.asleep = true;
    }

    fn may_let_sleep(&self) -> bool {
        let patience = IDLE_GRACES * self.config.grace_micros;
        let is_idle = !self.sleep.asleep && self.now.since(self.sleep.busy) >= patience;
        is_idle
            && self.order.as_ref().is_some_and(|order| order.opened.is_some() && order.joining.is_empty())
            && self.wishes.is_idle()
            && self.is_settled()
            && (self.applied.index == self.log.last() || self.seal.end().is_some())
            && self.known.view().revision == self.view.revision
            && self.view.members.iter().all(|member| self.may_sleep(member))
    }

    /// Whether a member has all that is here, or is not in sync and cannot be reached.
    fn may_sleep(&self, member: &Member) -> bool {
        let is_there = self.sleep.connected.contains(&member.node);
        if member.duty == Duty::Astray {
            return !is_there;
        }
        let order = self.order.as_ref();
        let follower = order.and_then(|order| order.followers.get(&member.replica));
        let Some(follower) = follower else { return member.replica == self.replica };
        let has_all = follower.progress.is_heard && follower.progress.matched == self.log.last();
        if is_in_sync(member) { is_there && has_all } else { !is_there || has_all && self.is_for_few() }
    }

    /// Whether all that is in its log is synced and agreed on, and no read waits.
    fn is_settled(&self) -> bool {
        let last = self.log.last();
        (self.syncs.durable(), self.commit) == (last, last)
            && self.syncs.waiting() == 0
            && self.installing.is_none()
            && self.batch.is_empty()
            && self.reads.is_empty()
    }

    /// The primary says that everybody may sleep.
    pub(super) fn told_to_sleep(&mut self, message: &Message) {
        let primary = self.primary().map(|primary| primary.node);
        let is_watched = primary.is_some_and(|node| self.sleep.connected.contains(&node));
        let has_all = message.at.index == self.log.last() && self.verified == self.log.last();
        if has_all {
            self.commit = self.commit.max(message.at.index);
        }
        if is_watched && has_all && self.is_settled() {
            self.sleep.asleep = true;
        }
    }

    /// When it wants to know the time next.
    pub(super) fn next_due(&self) -> Instant {
        if self.life.is_none() {
            return Instant::default();
        }
        let waits = self.is_in_sync() || self.is_astray() || !self.reads.is_empty();
        match &self.order {
            _ if self.sleep.asleep || !waits => Instant::MAX,
            Some(order) if order.opened.is_none() => {
                let free = self.promised.others_over_at(self.replica);
                self.looked.plus(self.config.beat_micros).min(free.max(self.looked.plus(1)))
            }
            Some(order) => self.looked.plus(self.config.beat_micros).min(self.next_feed(order)),
            None => self.looked.plus(self.config.beat_micros),
        }
    }
}
