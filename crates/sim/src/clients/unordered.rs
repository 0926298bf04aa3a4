//! What a shard without an order offers: ops that depend on what is there, or on older revisions, become puts, deletes and gets.
//!
//! Each put has a value that nobody else writes, so that one that has failed is known wherever it shows.

use check::generate::Place;
use kv::{Function, Key, NodeId, Op, Value};

use crate::world::World;

/// The op, or one in its place; `unique` draws values.
pub(super) fn offered(op: Op, unique: &mut dyn FnMut() -> Value) -> Op {
    let mut put = |key: Key, deadline| Op::Put { key, value: unique(), deadline, previous: false };
    match op {
        Op::Put { key, deadline, .. } | Op::Expire { key, deadline } => put(key, deadline),
        Op::Update { key, function: Function::Pop { .. } } => Op::Delete { key, previous: false },
        Op::Update { key, function } => match function {
            Function::Insert { deadline, .. } | Function::CompareAndPut { deadline, .. } => {
                put(key, deadline)
            }
            _ => put(key, None),
        },
        Op::PutAll { rows } => {
            Op::PutAll { rows: rows.into_iter().map(|(key, _)| (key, unique())).collect() }
        }
        Op::Transaction { then, otherwise, .. } => {
            let mut keys = Vec::new();
            then.iter().chain(&otherwise).for_each(|op| op.for_each_key(&mut |key| keys.push(key.clone())));
            keys.sort_unstable();
            keys.dedup();
            Op::PutAll { rows: keys.into_iter().map(|key| (key, unique())).collect() }
        }
        Op::Delete { key, .. } | Op::Trim { key, .. } => Op::Delete { key, previous: false },
        Op::TrimRange { from, to, .. } => Op::DeleteRange { from, to },
        Op::History { key, .. } => Op::Get { key, at: None },
        op => op,
    }
}

/// Of 100 ops so many are deletes at the node whose clock is furthest ahead.
const DELETES_AHEAD_PERCENT: u64 = 15;

impl World {
    /// The op, or one that tombstones are tried by: a delete where the clock is furthest ahead, and a put where it is furthest behind, of a key
    /// whose tombstone has just gone.
    pub(super) fn aimed_at_tombstones(&mut self, client: usize, op: Op) -> Op {
        let gone = self.watch.merged.take_gone();
        // Others of that key are spent: their writes in doubt are too many to be judged.
        let gone = gone.filter(|key| Place::of(key).is_none_or(|place| !self.is_spent(&place)));
        let up = || self.ids().filter(|id| self.machine(*id).life().is_some());
        let clock = |id: &NodeId| self.machine(*id).version_clock();
        let (behind, ahead) = (up().min_by_key(clock), up().max_by_key(clock));
        let state = &mut self.clients[client];
        if let Some(key) = gone {
            state.home = behind.unwrap_or(state.home);
            return Op::Put { key, value: state.unique_value(), deadline: None, previous: false };
        }
        if state.random.percent(DELETES_AHEAD_PERCENT) {
            state.home = ahead.unwrap_or(state.home);
            return Op::Delete { key: state.key(), previous: false };
        }
        op
    }
}

#[cfg(test)]
mod tests {
    use check::generate::{Generator, Keys, Workload};

    use super::*;

    #[test]
    fn ops_of_all_workloads_become_ones_that_are_offered() {
        let mut drawn = 0;
        let mut unique = || {
            drawn += 1;
            Value::from(drawn.to_string())
        };
        for workload in Workload::ALL {
            let mut generator = Generator::client(workload, Keys { count: 3, skew: 0.0 }, 1, 1);
            for _ in 0..300 {
                let op = offered(generator.next_op(), &mut unique);
                assert_eq!(kv::merged::refusal(kv::Protocol::Quorum, &op), None, "{op:?}");
            }
        }
    }
}
