//! How many are in sync where a write waits for a number of secondaries, and when the others get what is written.
//!
//! ```text
//!   sync: 1      n1 primary ──── at once ────▶ n2 in sync ── has it ──▶ n1 acknowledges
//!                          ╰── every interval ─▶ n3 learner, answers what may be old
//! ```
//!
//! `k + 1` are in sync: with fewer a learner is waited for and comes in, as any that has caught up ([`changes`](super::changes)); with more one
//! goes once nothing is lent to it. While a place is free all get what is written at once: one that lags by an interval never catches up.
//! With fewer nothing is acknowledged where a write waits for just so many ([`SyncMode`](kv::keyspace::SyncMode)); where it waits for at
//! most so many ([`Awaited::at_most`](kv::keyspace::Awaited::at_most)) those are in sync that there are.

use kv::keyspace::Awaited;
use kv::{Index, Level, ReplicaId};

use super::order::{Follower, Order};
use super::replica::{Primary, is_in_sync};
use crate::lease::Asked;
use crate::{Duty, Instant};

impl Primary {
    /// Whether a write waits for a number of secondaries, and not for all.
    pub(super) fn is_for_few(&self) -> bool {
        self.config.sync.most.is_some()
    }

    /// With fewer in sync nothing is acknowledged.
    pub(super) fn min_copies(&self) -> usize {
        usize::from(self.config.sync.least)
    }

    /// Whether a replica that is not in sync may answer at a level.
    pub(super) fn answers_old(&self, level: Level) -> bool {
        let Awaited { most, least, interval_micros } = self.config.sync;
        // Where there is room for all in sync, as many as there are, it is about to be.
        let is_to_be_in_sync =
            most.is_none_or(|most| most > least && usize::from(most) >= self.view.members.len());
        match level {
            Level::Local => true,
            // One that asks for less than its interval can have would wait for nothing.
            Level::Bounded(millis) => {
                !is_to_be_in_sync
                    && millis.saturating_mul(1000) >= interval_micros + 2 * self.config.beat_micros
            }
            Level::Linearizable => false,
        }
    }

    /// How many more may come in sync.
    pub(super) fn room_in_sync(&self, order: &Order) -> usize {
        let Some(copies) = self.config.sync.most else { return usize::MAX };
        let stays =
            |replica: &ReplicaId| self.wishes.wants(*replica) && !self.wishes.has_asked_without(*replica);
        let counted = self.in_sync().filter(stays).count() + order.joining.len();
        usize::from(copies).saturating_sub(counted)
    }

    /// Who is in sync and need not be.
    pub(super) fn surplus(&self) -> Option<ReplicaId> {
        let copies = usize::from(self.config.sync.most?);
        let stays =
            |replica: &ReplicaId| self.wishes.wants(*replica) && !self.wishes.has_asked_without(*replica);
        let is_over = self.in_sync().filter(stays).count() > copies;
        let secondaries = self.view.members.iter().filter(|member| member.duty == Duty::Voter);
        secondaries.map(|member| member.replica).rfind(stays).filter(|_| is_over)
    }

    /// How often a member gets what is written; `None` = at once.
    pub(super) fn interval_for(&self, order: &Order, to: ReplicaId) -> Option<u64> {
        let interval_micros = self.config.sync.most.map(|_| self.config.sync.interval_micros)?;
        let in_sync = self.view.replica(to).is_some_and(is_in_sync);
        let is_awaited = in_sync || order.joining.contains_key(&to) || self.room_in_sync(order) > 0;
        (!is_awaited).then_some(interval_micros)
    }

    /// When a member is to get next what no write waits for.
    pub(super) fn next_feed(&self, order: &Order) -> Instant {
        let last = self.log.last();
        let next = |(replica, follower): (&ReplicaId, &Follower)| {
            let interval = self.interval_for(order, *replica)?;
            let fed = follower.fed.filter(|_| follower.progress.next <= last)?;
            Some(fed.0.plus(interval))
        };
        order.followers.iter().filter_map(next).min().unwrap_or(Instant::MAX)
    }

    /// The primary answers a question, to who is in sync with a lease; that it is of this life.
    pub(super) fn takes_answer(&mut self, asked: Asked, life: u64) -> bool {
        if self.is_in_sync() {
            return self.lease.granted(asked, life, self.now);
        }
        asked.life == life && asked.at <= self.now
    }
}

impl Order {
    /// Whether a member has said in this term where its log meets this one, and gets what comes behind.
    pub(super) fn follows(&self, replica: ReplicaId) -> bool {
        let progress = self.followers.get(&replica).map(|follower| &follower.progress);
        progress.is_some_and(|progress| progress.is_heard && !progress.probes && !progress.snapshot)
    }
}

impl Follower {
    /// Whether it is not to get more yet. When its time has come it gets all that there is now, however many messages that takes.
    pub(super) fn is_held_back(&mut self, now: Instant, interval_micros: u64, last: Index) -> bool {
        let next = self.progress.next;
        if next > last || self.fed.is_some_and(|(_, until)| next <= until) {
            return false;
        }
        if self.fed.is_some_and(|(at, _)| now.since(at) < interval_micros) {
            return true;
        }
        self.fed = Some((now, last));
        false
    }
}
