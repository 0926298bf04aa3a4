//! Which shards have something that is due to be removed, found without asking those that have nothing.

use std::collections::{BTreeMap, BTreeSet};

use kv::ShardId;
use replication::Instant;

/// When an advance of each shard finds something to remove, in microseconds since 1970.
pub(super) struct Expiries {
    shards: BTreeMap<ShardId, u64>,
    order: BTreeSet<(u64, ShardId)>,
    pub cleaned: Cleaned,
}

/// The last time that a shard was advanced to remove what is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cleaned {
    pub shard: ShardId,
    pub at: Instant,
    /// How many parts had been taken by then.
    pub parts: u64,
}

impl Expiries {
    /// Until its table has told, a shard counts as if something were there.
    pub fn new(shards: impl Iterator<Item = ShardId>, now: Instant) -> Expiries {
        let shards: BTreeMap<ShardId, u64> = shards.map(|shard| (shard, 0)).collect();
        let order = shards.iter().map(|(shard, due)| (*due, *shard)).collect();
        Expiries { shards, order, cleaned: Cleaned { shard: ShardId::default(), at: now, parts: 0 } }
    }

    /// The table has told when an advance of a shard finds something; `None` = nothing is there.
    pub fn set(&mut self, shard: ShardId, due: Option<u64>) {
        let before = match due {
            Some(due) => self.shards.insert(shard, due),
            None => self.shards.remove(&shard),
        };
        if let Some(before) = before {
            let was_there = self.order.remove(&(before, shard));
            assert!(was_there, "what is due is in order");
        }
        self.order.extend(due.map(|due| (due, shard)));
        assert_eq!(self.shards.len(), self.order.len(), "each shard has one place");
    }

    /// The next shard in turn after the one that was cleaned last, of those that have something due at `micros` and that
    /// `can` picks: one with much to remove does not keep the others waiting.
    pub fn next(&self, micros: u64, can: impl Fn(ShardId) -> bool) -> Option<ShardId> {
        let due = self.order.iter().take_while(|(due, _)| *due <= micros).map(|(_, shard)| *shard);
        due.filter(|shard| can(*shard)).min_by_key(|shard| (*shard <= self.cleaned.shard, *shard))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiries_due_take_turns_and_others_are_left_alone() {
        let mut expiries = Expiries::new((1..=4).map(ShardId), Instant(0));
        for (shard, due) in [(1, Some(10)), (2, None), (3, Some(5)), (4, Some(99))] {
            expiries.set(ShardId(shard), due);
        }
        let mut turns = Vec::new();
        for _ in 0..3 {
            let shard = expiries.next(10, |_| true).expect("two shards are due");
            expiries.cleaned.shard = shard;
            turns.push(shard.0);
        }
        assert_eq!(turns, [1, 3, 1]);
        assert_eq!(expiries.next(4, |_| true), None);
        assert_eq!(expiries.next(99, |shard| shard.0 > 3), Some(ShardId(4)));
    }
}
