//! Which shards want something by when, found without asking those that want nothing.

use std::collections::{BTreeMap, BTreeSet};

use kv::ShardId;

/// A point in time for each shard that wants something.
#[derive(Debug)]
pub(super) struct Agenda<T> {
    shards: BTreeMap<ShardId, T>,
    order: BTreeSet<(T, ShardId)>,
}

impl<T: Copy + Ord> Agenda<T> {
    /// Nothing is wanted.
    pub fn new() -> Agenda<T> {
        Agenda { shards: BTreeMap::new(), order: BTreeSet::new() }
    }

    /// A shard wants something at this time; `None` = nothing.
    pub fn set(&mut self, shard: ShardId, at: Option<T>) {
        let before = match at {
            Some(at) => self.shards.insert(shard, at),
            None => self.shards.remove(&shard),
        };
        if before == at {
            return;
        }
        if let Some(before) = before {
            let was_there = self.order.remove(&(before, shard));
            assert!(was_there, "a shard that wants something has its place");
        }
        self.order.extend(at.map(|at| (at, shard)));
        assert_eq!(self.shards.len(), self.order.len(), "each shard has one place");
    }

    /// The shards whose time has come, the earliest first.
    pub fn due(&self, now: T) -> impl Iterator<Item = ShardId> + '_ {
        self.order.iter().take_while(move |(at, _)| *at <= now).map(|(_, shard)| *shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agenda_gives_what_is_due_in_order_and_forgets_what_is_not_wanted() {
        let mut agenda = Agenda::new();
        for (shard, at) in [(1, Some(10)), (2, Some(3)), (3, Some(5)), (4, Some(99)), (3, None), (2, Some(7))]
        {
            agenda.set(ShardId(shard), at);
        }
        let due = |now| agenda.due(now).map(|shard| shard.0).collect::<Vec<u32>>();
        assert_eq!(due(6), [0; 0]);
        assert_eq!(due(10), [2, 1]);
        assert_eq!(due(u64::MAX), [2, 1, 4]);
    }
}
