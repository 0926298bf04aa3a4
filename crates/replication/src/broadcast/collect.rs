//! Tombstones that nobody needs any more go, without a clock.
//!
//! A tombstone hides older values of its key. It may go where no such value is left, and none can come any more. The vectors tell:
//!
//! ```text
//!   n1 has 1:12 2:10 3:11      n2 has 1:11 2:12 3:10      n3 has 1:12 2:12 3:12         all have all up to 10, durably
//! ```
//!
//! What all members have of all, and what each has promised to make nothing below, is *settled* up to the least of that. A tombstone at or below it is at every
//! member, or was there; all that it hides came before it, everywhere. What comes again of before, late or doubled, is of a link that was taken, or has a
//! version that was had, and is not taken again ([`spread`](super::spread), [`compare`](super::compare)). So each member drops it by itself.
//!
//! A write is made above what its member has promised, so it stands above a tombstone that nobody sees any more.
//!
//! # Caveats
//!
//! A member that is away says nothing new: nothing is settled, and no tombstone that was made meanwhile goes until it is back.

use kv::merged::Found;
use kv::merged::Look;
use kv::{Op, Version};
use mutant::Mutant;

use super::{Broadcast, Whose};
use crate::{Instant, Output, Token};

/// So often tombstones are looked for while there may be any.
const INTERVAL_MICROS: u64 = 5_000_000;
/// So many go at once.
const TOMBSTONES_AT_ONCE: usize = 1024;

/// What a member knows of its tombstones.
#[derive(Debug)]
pub(super) struct Collector {
    /// The table may hold some that are settled.
    may_have: bool,
    /// It was looked for those that are settled up to here.
    looked: Version,
    is_looking: bool,
    /// What was collected last goes with this op: nothing is looked for before that.
    collects: Token,
    /// Not before this they are looked for.
    next: Instant,
}

impl Default for Collector {
    fn default() -> Collector {
        let (looked, is_looking, collects, next) = Default::default();
        Collector { may_have: true, looked, is_looking, collects, next }
    }
}

impl Collector {
    /// Something was applied: it may be a tombstone, or be the end of a value whose time is over.
    pub(super) fn applied(&mut self) {
        (self.may_have, self.looked) = (true, Version::ZERO);
    }
}

impl Broadcast {
    fn may_collect(&self) -> bool {
        let Collector { may_have, looked, is_looking, collects, .. } = self.collector;
        let is_done = !is_looking && self.intake.applied >= collects;
        may_have && is_done && self.settled > looked && !self.writes.is_looking()
    }

    /// When tombstones are looked for next.
    pub(super) fn collect_due(&self) -> Instant {
        if self.may_collect() { self.collector.next } else { Instant::MAX }
    }

    /// Looks for tombstones.
    pub(super) fn begin_collect(&mut self, out: &mut Vec<Output>) {
        if self.may_collect() && self.collector.next <= self.now {
            self.collector.next = self.now.plus(INTERVAL_MICROS);
            (self.collector.is_looking, self.collector.may_have) = (true, false);
            self.look(Whose::Collect, Look::Tombstones { after: None }, out);
        }
    }

    /// Drops those of the tombstones that are settled.
    pub(super) fn found_tombstones(&mut self, found: Found, out: &mut Vec<Output>) {
        self.collector.is_looking = false;
        let Found::Names { names, next } = found else { return };
        let settled = match mutant::is(Mutant::TombstoneDroppedEarly) {
            true => Version::MAX,
            false => self.settled,
        };
        let (mut gone, later): (Vec<_>, Vec<_>) =
            names.into_iter().partition(|(_, rank)| rank.version <= settled);
        let is_all = next.is_none() && gone.len() <= TOMBSTONES_AT_ONCE;
        gone.truncate(TOMBSTONES_AT_ONCE);
        self.collector.may_have |= !later.is_empty() || !is_all || !gone.is_empty();
        if is_all && gone.is_empty() {
            self.collector.looked = self.settled;
        }
        if gone.is_empty() {
            if let Some(after) = next {
                (self.collector.is_looking, self.collector.may_have) = (true, true);
                self.look(Whose::Collect, Look::Tombstones { after: Some(after) }, out);
            }
            return;
        }
        let count = gone.len() as u64;
        if self.intake.push(vec![Op::Collect { tombstones: gone }]) {
            self.counts.collected += count;
            self.collector.collects = self.intake.last;
        }
        // Of those with more revisions before them than one step takes some are left.
        self.collector.next = self.now;
    }
}
