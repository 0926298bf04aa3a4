//! One who watches.

use kv::watch::{Filter, Reach, Reached, Start};
use kv::{NodeId, Version};
use node::watch::{Pulled, Watched};

use crate::random::Random;

/// In so many of 100 cases a watcher is slow for a while.
const SLOW_PERCENT: u64 = 15;

/// One who watches some keys.
pub(crate) struct Watcher {
    pub filter: Filter,
    /// Up to where it has been given everything, by slots.
    pub reached: Reached,
    /// Its watch, while it has one.
    pub at: Option<At>,
    pub is_slow: bool,
    pub random: Random,
    serial: u64,
}

/// A watch at a process.
pub(crate) struct At {
    pub node: NodeId,
    pub life: u64,
    /// Tells it from those before.
    pub serial: u64,
    pub watched: Watched,
}

impl Watcher {
    pub fn new(filter: Filter, random: Random) -> Watcher {
        Watcher { filter, reached: Reached::default(), at: None, is_slow: false, random, serial: 0 }
    }

    /// Where its next watch begins: where it was, or else in the past if there is one, or now.
    pub fn begins(&mut self, past: Option<Version>) -> (Start, Filter) {
        let slots = self.filter.slots();
        if let Some(past) = past.filter(|_| self.reached.least().is_none()) {
            self.reached.note(Reach { slots, through: past.before() });
        }
        let from = if self.reached.least().is_none() { Start::Now } else { super::start(&self.reached) };
        (from, self.filter.clone())
    }

    /// It watches at a process.
    pub fn watches(&mut self, node: NodeId, life: u64, watched: Watched) {
        self.serial = (self.serial + 1) & 0xffff;
        self.at = Some(At { node, life, serial: self.serial, watched });
    }

    /// What it has is of no use any more.
    pub fn begins_anew(&mut self) {
        self.reached = Reached::default();
    }

    /// Up to where it has been given all its slots, if all have begun.
    pub fn progress(&self, filter: &Filter) -> Option<Version> {
        let (mut next, end) = (filter.slots().first.0, filter.slots().last.0);
        for reach in self.reached.iter() {
            if reach.slots.first.0 <= next && next <= reach.slots.last.0 {
                next = reach.slots.last.0 + 1;
            }
        }
        self.reached.least().filter(|_| next > end)
    }

    /// How long until it looks again.
    pub fn pause(&mut self, calm: bool) -> u64 {
        if self.random.permille(5) {
            self.is_slow = self.random.percent(SLOW_PERCENT);
        }
        match self.is_slow && !calm {
            true => self.random.between(200_000, 3_000_000),
            false => self.random.between(1_000, 60_000),
        }
    }
}

/// What a pull was answered, without values.
pub(super) fn text(answer: &Pulled) -> String {
    match answer {
        Pulled::Given(given) => format!("{} changes through {}", given.changes.len(), given.through),
        answer => format!("{answer:?}"),
    }
}
