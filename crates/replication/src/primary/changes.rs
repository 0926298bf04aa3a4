//! What a member asks the directory for: other members in sync, another primary.
//!
//! | who asks | when | for |
//! |---|---|---|
//! | the primary | a member has promised nothing for a lease, and reads under none of it | the members in sync without it |
//! | the primary | a member that is not in sync has all that there is, synced | the members in sync with it |
//! | the primary | the directory wants other members | those that come, learning; then those that stay alone |
//! | the primary | its role is to go to another | that one as the primary |
//! | a primary that has restarted | at once | the same, under a new revision |
//! | a member that is astray | all that its log holds is applied | another number, to begin anew with |
//! | a secondary | it has heard nothing for the grace | itself as the primary, without the old one |
//!
//! The directory takes a change only while epoch and revision are those that who asks knows. Of several one comes about; whoever asked
//! hears of it as of any other, and asks again if it is still not as it should be. A question may come late: until another revision
//! is known, who asked acts as if it may have come about or not.

use std::collections::BTreeSet;

use kv::{NodeId, ReplicaId};

use super::order::{Follower, Order};
use super::replica::{Primary, is_in_sync};
use crate::{Change, Duty, Instant, Member, Output};

/// What was not answered is asked again after so many beats.
const PATIENCE_BEATS: u64 = 5;
/// What the directory wants it says again before that.
const WANTED_MICROS: u64 = 5_000_000;
/// A member that lacks at most so many entries is waited for, and may come in sync.
const CAUGHT_UP_ENTRIES: u64 = 64;

/// What is asked for, and was.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// What was asked for last, and when.
    asked: Option<(Vec<Member>, Instant)>,
    /// It has asked in this term to have them in sync no more.
    removing: BTreeSet<ReplicaId>,
    /// It has asked in this term to have them in sync.
    adding: BTreeSet<ReplicaId>,
    /// Who is to have its role, and since when.
    successor: Option<(NodeId, Instant)>,
    /// Whom the directory wants the shard to have, and since when it does.
    wanted: Option<(Vec<Member>, Instant)>,
}

impl Wishes {
    /// A new view has come.
    pub(super) fn taken(&mut self) {
        *self = Wishes { wanted: self.wanted.take(), ..Wishes::default() };
    }

    /// Whether it has asked to have a member in sync no more.
    pub(super) fn has_asked_without(&self, replica: ReplicaId) -> bool {
        self.removing.contains(&replica)
    }

    /// Whether a member is about to be in sync no more, or no member.
    pub(super) fn removes(&self, replica: ReplicaId) -> bool {
        self.removing.contains(&replica) || !self.wants(replica)
    }

    /// Whom it has asked to have in sync.
    pub(super) fn adding(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        self.adding.iter().copied()
    }

    /// Whether the directory wants a member to stay, or to come.
    pub(super) fn wants(&self, replica: ReplicaId) -> bool {
        let names =
            |(members, _): &(Vec<Member>, Instant)| members.iter().any(|member| member.replica == replica);
        self.wanted.as_ref().is_none_or(names)
    }

    /// Whether nothing is asked for.
    pub(super) fn is_idle(&self) -> bool {
        self.asked.is_none() && self.successor.is_none() && self.wanted.is_none()
    }
}

impl Primary {
    /// Asks for what is to be changed, and was not asked for lately.
    pub(super) fn ask_directory(&mut self, out: &mut Vec<Output>) {
        let patience = PATIENCE_BEATS * self.config.beat_micros;
        let Some(members) = self.next_members() else {
            self.wishes.asked = None;
            return;
        };
        let is_asked =
            |(asked, at): &(Vec<Member>, Instant)| *asked == members && self.now.since(*at) < patience;
        if self.wishes.asked.as_ref().is_some_and(is_asked) {
            return;
        }
        let Some(by) = self.view.replica(self.replica).copied() else { return };
        self.wishes.asked = Some((members.clone(), self.now));
        let (epoch, revision) = (self.view.epoch, self.view.revision);
        out.push(Output::Ask(Change { epoch, revision, by, members }));
    }

    /// The members that there should be; `None` = those that there are.
    fn next_members(&mut self) -> Option<Vec<Member>> {
        if self.is_lossy || self.life.is_none() || self.sleep.asleep {
            return None;
        }
        if let Some(order) = self.order.take() {
            let (order, members) = self.as_primary(order);
            self.order = Some(order);
            return members;
        }
        // Another life of it may have ordered in this term.
        if self.is_primary() {
            return Some(self.view.members.clone());
        }
        if self.is_astray() {
            return (self.is_whole_astray() && self.forks.is_released).then(|| self.view.members.clone());
        }
        let is_over = self.is_in_sync() && self.now.since(self.heard) >= self.config.grace_micros;
        is_over.then(|| self.led_by(self.replica, Duty::Learner))
    }

    /// The members, another one of whom orders; the one that does now has that duty then.
    fn led_by(&self, replica: ReplicaId, before: Duty) -> Vec<Member> {
        let duty = |member: &Member| match member.duty {
            _ if member.replica == replica => Duty::Primary,
            Duty::Primary => before,
            duty => duty,
        };
        self.view.members.iter().map(|member| Member { duty: duty(member), ..*member }).collect()
    }

    fn as_primary(&mut self, mut order: Order) -> (Order, Option<Vec<Member>>) {
        let Some(opened) = order.opened else { return (order, None) };
        let over = Instant(self.now.0.saturating_sub(WANTED_MICROS));
        self.wishes.wanted.take_if(|(_, since)| *since < over);
        self.note_lost(&order, opened);
        self.note_ready(&mut order);
        let (removing, adding) = (&self.wishes.removing, &self.wishes.adding);
        let duty = |member: &Member| match member.duty {
            Duty::Voter if removing.contains(&member.replica) => Duty::Learner,
            Duty::Learner if adding.contains(&member.replica) => Duty::Voter,
            duty => duty,
        };
        let members: Vec<Member> =
            self.view.members.iter().map(|member| Member { duty: duty(member), ..*member }).collect();
        let members = self.as_wanted(&order, members);
        if members != self.view.members {
            return (order, Some(members));
        }
        let members = self.next_primary(&order);
        (order, members)
    }

    /// These, with who is to come, which learns; and without who is to go, once those that stay are in sync and what was lent to it is
    /// over. A primary that is to go hands its role over first.
    fn as_wanted(&mut self, order: &Order, mut members: Vec<Member>) -> Vec<Member> {
        let Some((wanted, _)) = &self.wishes.wanted else { return members };
        let is_new = |member: &&Member| members.iter().all(|other| other.node != member.node);
        let come: Vec<Member> =
            wanted.iter().filter(is_new).map(|member| Member { duty: Duty::Learner, ..*member }).collect();
        members.extend(come);
        members.sort_by_key(|member| member.node);
        let is_there = |member: &Member| {
            let there = self.view.replica(member.replica);
            there.is_some_and(|there| there.node == member.node && is_in_sync(there))
        };
        // Who is away is not waited for, as long as enough are in sync for writes to go on.
        let is_away = |member: &Member| !is_there(member) && !self.is_connected(member.node);
        let there = wanted.iter().filter(|member| is_there(member)).count();
        let follows = |member: &Member| self.is_for_few() && order.follows(member.replica);
        let reached = wanted.iter().filter(|member| !is_away(member)).count();
        let is_enough = there >= self.min_copies().clamp(1, wanted.len().max(1))
            && there >= usize::from(self.config.sync.most.unwrap_or(1)).min(reached);
        if !is_enough || !wanted.iter().all(|member| is_there(member) || follows(member) || is_away(member)) {
            return members;
        }
        if !self.wishes.wants(self.replica) {
            let heir = wanted.iter().find(|heir| is_there(heir) && self.is_connected(heir.node));
            let heir = heir.map(|heir| (heir.node, self.now));
            self.wishes.successor = self.wishes.successor.or(heir);
        }
        let goes = |member: &Member| {
            let may_go = member.duty == Duty::Learner || self.lent.over_at(member.replica) <= self.now;
            member.replica != self.replica && !self.wishes.wants(member.replica) && may_go
        };
        let gone = Vec::from_iter(members.extract_if(.., |member| goes(member)));
        // It is lent nothing any more in this term, whatever the directory wants next.
        self.wishes.removing.extend(gone.into_iter().map(|member| member.replica));
        members
    }

    /// Who is to be in sync no more: it has not promised for a lease not to take over, and whatever it was lent is over. In its first
    /// lease a primary removes nobody: what the one before it has lent may not be over.
    fn note_lost(&mut self, order: &Order, opened: Instant) {
        let lease = self.config.lease_micros;
        if order.since.is_none_or(|since| self.now.since(since) < lease) {
            return;
        }
        let since = opened.max(self.sleep.awake_since);
        let is_lost_for = |follower: &Follower, micros: u64| {
            let from = follower.promise.from().unwrap_or_default().max(since);
            follower.is_lossy || self.now.since(from) >= micros
        };
        // Those that it would leave without enough copies may go on without it: they are given the time to ask.
        let is_heard = |replica: &ReplicaId| {
            order.followers.get(replica).is_none_or(|follower| !is_lost_for(follower, lease))
        };
        let may_count = |member: &&Member| is_in_sync(member) || self.is_for_few();
        let count =
            self.view.members.iter().filter(may_count).filter(|member| is_heard(&member.replica)).count();
        let is_few = count < self.min_copies();
        let patience = if is_few { lease + self.config.grace_micros } else { lease };
        let surplus = self.surplus();
        let is_lost = |replica: &ReplicaId| {
            let follower = order.followers.get(replica);
            Some(*replica) == surplus || follower.is_some_and(|follower| is_lost_for(follower, patience))
        };
        let in_sync = self.view.members.iter().filter(|member| member.duty == Duty::Voter);
        let lost = in_sync
            .map(|member| member.replica)
            .filter(|replica| is_lost(replica) && self.lent.over_at(*replica) <= self.now);
        let lost = Vec::from_iter(lost);
        self.wishes.removing.extend(lost);
    }

    /// Who is to be in sync: from now on nothing is acknowledged without it, and once it has synced all that is, it is asked for.
    fn note_ready(&mut self, order: &mut Order) {
        let last = self.log.last();
        let mut room = self.room_in_sync(order);
        for member in self.view.members.iter().filter(|member| member.duty == Duty::Learner) {
            let Some(follower) = order.followers.get(&member.replica) else { continue };
            let progress = &follower.progress;
            let is_here = follower.promise.is_valid(self.now) && !follower.is_lossy && !progress.snapshot;
            if self.wishes.adding.contains(&member.replica) || !self.wishes.wants(member.replica) {
                continue;
            }
            let is_near = !progress.probes && last.since(progress.matched) <= CAUGHT_UP_ENTRIES;
            match order.joining.get(&member.replica).copied() {
                Some(_) if !is_here => drop(order.joining.remove(&member.replica)),
                Some(needs) if progress.matched >= needs.max(self.commit) => {
                    self.wishes.adding.insert(member.replica);
                }
                None if is_here && is_near && room > 0 => {
                    room -= 1;
                    order.joining.insert(member.replica, last);
                }
                _ => (),
            }
        }
    }

    /// The members with the role at who is to have it, once that one has all.
    fn next_primary(&mut self, order: &Order) -> Option<Vec<Member>> {
        let (to, since) = self.wishes.successor?;
        let member = self.view.member(to).copied();
        let can_be = |member: &Member| {
            let follower = order.followers.get(&member.replica);
            is_in_sync(member) && follower.is_some_and(|follower| follower.promise.is_valid(self.now))
        };
        match member.filter(can_be) {
            Some(member) if self.now.since(since) < self.config.grace_micros => {
                Some(self.led_by(member.replica, Duty::Voter))
            }
            _ => {
                self.wishes.successor = None;
                None
            }
        }
    }

    /// Its role is to go to another node.
    pub(super) fn yield_to(&mut self, to: NodeId) {
        if to != self.config.id && self.order.is_some() && self.wishes.successor.is_none() {
            self.wishes.successor = Some((to, self.now));
        }
    }

    /// The directory wants the shard to have these members. Only who orders is asked, again and again: it forgets it after a while.
    pub(super) fn want(&mut self, members: Vec<Member>) {
        if self.order.is_some() && !self.is_sealed() {
            self.wake();
            self.wishes.wanted = Some((members, self.now));
        }
    }
}
