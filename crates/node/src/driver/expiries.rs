//! Which shard is next to remove what is due.

use kv::ShardId;
use replication::Instant;

use super::agenda::Agenda;

/// What is due, and the last time that a shard was advanced to remove some of it.
pub(super) struct Expiries {
    /// When an advance of each shard finds something, in microseconds since 1970.
    due: Agenda<u64>,
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
    /// Without shards.
    pub fn new(now: Instant) -> Expiries {
        Expiries { due: Agenda::new(), cleaned: Cleaned { shard: ShardId::default(), at: now, parts: 0 } }
    }

    /// A shard begins: until its table has told, it counts as if something were there.
    pub fn look(&mut self, shard: ShardId) {
        self.due.set(shard, Some(0));
    }

    /// The table has told when an advance of a shard finds something; `None` = nothing is there.
    pub fn set(&mut self, shard: ShardId, due: Option<u64>) {
        self.due.set(shard, due);
    }

    /// The next shard in turn after the one that was cleaned last, of those that have something due at `micros` and that
    /// `can` picks: one with much to remove does not keep the others waiting.
    pub fn next(&self, micros: u64, can: impl Fn(ShardId) -> bool) -> Option<ShardId> {
        let due = self.due.due(micros).filter(|shard| can(*shard));
        due.min_by_key(|shard| (*shard <= self.cleaned.shard, *shard))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiries_due_take_turns_and_others_are_left_alone() {
        let mut expiries = Expiries::new(Instant(0));
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
