//! A point of the search: what happened, and which of the calls under way are behind it.

use super::bits::Bits;
use super::schedule::{Schedule, Turn};

/// A point of the search, before the return of a turn's call.
///
/// A blind call (one that leaves the same whatever it finds) may happen unseen: right before another blind call, which
/// wipes its traces. Such a call is never chosen; once another blind call was chosen while it was under way, it is
/// `covered`, and may return without having been chosen.
#[derive(Clone)]
pub(super) struct Configuration<B> {
    pub turn: usize,
    pub state: u32,
    /// The pure calls under way that happened.
    pub read: B,
    /// The blind calls under way that happened for others to see.
    pub shown: B,
    /// The blind calls under way that may have happened unseen, and may yet be shown.
    pub covered: B,
    /// The other calls under way that happened.
    pub done: B,
    /// The open calls that happened.
    pub used: B,
    /// So many of them happened at this turn.
    pub used_now: u32,
    /// The call of this turn was covered, and shall be shown all the same.
    pub committed: bool,
    /// The last call chosen was blind, at this turn, and nothing has seen what it left.
    pub idle: bool,
}

/// What may be compared in one glance: configurations that differ here are not comparable.
pub(super) type Key<B> = (u32, u32, B, bool);

/// The rest, by which one configuration can be better than another.
#[derive(Clone)]
pub(super) struct Rest<B> {
    read: B,
    shown: B,
    covered: B,
    used: B,
    used_now: u32,
}

impl<B: Bits> Configuration<B> {
    /// Where the search begins.
    pub fn first(state: u32, schedule: &Schedule) -> Configuration<B> {
        let slots = B::empty(schedule.slots);
        Configuration {
            turn: 0,
            state,
            read: slots.clone(),
            shown: slots.clone(),
            covered: slots.clone(),
            done: slots,
            used: B::empty(schedule.opens.len()),
            used_now: 0,
            committed: false,
            idle: false,
        }
    }

    /// Whether the call in a slot happened, unseen ones aside.
    pub fn happened(&self, slot: usize) -> bool {
        self.read.get(slot) || self.shown.get(slot) || self.done.get(slot)
    }

    /// Goes past the return of the turn's call.
    pub fn advance(&mut self, turn: &Turn) {
        let slot = turn.slot as usize;
        for set in [&mut self.read, &mut self.shown, &mut self.covered, &mut self.done] {
            set.clear(slot);
        }
        self.turn += 1;
        self.used_now = 0;
        self.committed = false;
        self.idle = false;
    }

    pub fn key(&self) -> Key<B> {
        (self.turn as u32, self.state, self.done.clone(), self.committed)
    }

    pub fn rest(&self) -> Rest<B> {
        Rest {
            read: self.read.clone(),
            shown: self.shown.clone(),
            covered: self.covered.clone(),
            used: self.used.clone(),
            used_now: self.used_now,
        }
    }
}

impl<B: Bits> Rest<B> {
    /// Whether whatever can follow the other can follow this: it read all that the other read, used no open call that the
    /// other did not, and each blind call is as it is there, or covered.
    pub fn is_as_good_as(&self, other: &Rest<B>) -> bool {
        self.used.is_subset(&other.used)
            && self.used_now <= other.used_now
            && other.read.is_subset(&self.read)
            && self.shown.is_subset(&other.shown)
            && other.shown.is_within(&self.shown, &self.covered)
            && other.covered.is_subset(&self.covered)
    }
}
