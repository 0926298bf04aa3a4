//! The model of ops over several keys.

use std::collections::BTreeMap;

use kv::{Answer, Key, Op, SlotRange};

use super::cells::{self, Cell};
use super::kv::{describe, show};
use super::{Call, Initial, Model, Partition, Unjudged, lower};
use crate::history::Operation;

/// Of a partition's name, so many keys are told: more help nobody.
const KEYS_NAMED_MAX: usize = 4;

/// Judges transactions, get-alls, put-alls and ranges beside ops of single keys. Keys that an op names together are judged
/// together; a range or delete-range connects all keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// What each key begins with. With [`Initial::Unknown`], all keys that an op connects begin with nothing or with the
    /// same value.
    pub initial: Initial,
    /// What of a get-all or put-all is atomic.
    pub atomicity: Atomicity,
}

/// What of an op over several keys is atomic. Transactions always are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Atomicity {
    /// All of it.
    #[default]
    Whole,
    /// Each shard's part, in a keyspace of so many shards; of a range or delete-range each key.
    Shard(u32),
    /// Each key.
    Key,
}

impl Model for Batch {
    type State = BTreeMap<Key, Cell>;

    fn calls(&self, index: usize, operation: &Operation) -> Result<Vec<Call>, Unjudged> {
        lower::unjudged_read(&operation.op).map_or(Ok(()), Err)?;
        let Some(call) = lower::whole(index, operation) else { return Ok(Vec::new()) };
        Ok(match self.atomicity {
            Atomicity::Whole => lower::grouped(call, |_| ()),
            Atomicity::Shard(count) => lower::grouped(call, |key| shard(key, count)),
            Atomicity::Key => lower::grouped(call, Key::clone),
        })
    }

    fn partition(&self, mut calls: Vec<Call>) -> Vec<Partition> {
        if self.atomicity != Atomicity::Whole {
            let keys = lower::named_keys(&calls);
            let by_key =
                |call: Call| if is_range(&call.op) { lower::by_key(call, &keys) } else { vec![call] };
            calls = calls.into_iter().flat_map(by_key).collect();
        }
        let mut sets = Sets::default();
        for call in &calls {
            sets.join_keys(&call.op);
        }
        if calls.iter().any(|call| is_range(&call.op)) {
            sets.join_all();
        }
        let mut parts: BTreeMap<usize, Vec<Call>> = BTreeMap::new();
        for call in calls {
            let set = sets.of(&call.op);
            parts.entry(set).or_default().push(call);
        }
        let mut names = sets.names();
        let mut name = |set| names.remove(&set).unwrap_or_else(|| "all keys".into());
        parts.into_iter().map(|(set, calls)| Partition { name: name(set), calls }).collect()
    }

    fn initial(&self, calls: &[Call]) -> Vec<BTreeMap<Key, Cell>> {
        let mut keys: Vec<&Key> = Vec::new();
        calls.iter().for_each(|call| call.op.for_each_key(&mut |key| keys.push(key)));
        let all = |cell: Option<Cell>| {
            let cell = cell.iter();
            cell.flat_map(|cell| keys.iter().map(|key| ((*key).clone(), cell.clone()))).collect()
        };
        self.initial.cells(calls).into_iter().map(all).collect()
    }

    fn step(&self, state: &Self::State, call: &Call) -> Vec<Self::State> {
        cells::step(state, call)
    }

    fn is_pure(&self, op: &Op, answer: Option<&Answer>) -> bool {
        cells::is_pure(op, answer)
    }

    fn bytes(&self, state: &Self::State) -> usize {
        state.values().map(|cell| size_of::<(Key, Cell)>() + cell.value.len()).sum()
    }

    fn describe(&self, state: &Self::State) -> String {
        let cells = state.iter().map(|(key, cell)| format!("{}: {}", show(key), describe(Some(cell))));
        let cells: Vec<String> = cells.collect();
        if cells.is_empty() { "no values".into() } else { cells.join(", ") }
    }
}

fn is_range(op: &Op) -> bool {
    matches!(op, Op::Range(_) | Op::DeleteRange { .. })
}

fn shard(key: &Key, count: u32) -> u32 {
    let slot = kv::Slot::of(key);
    (0..count).find(|index| SlotRange::nth(*index, count).contains(slot)).expect("the ranges cover all slots")
}

/// Keys that ops connect (union-find).
#[derive(Default)]
struct Sets {
    index: BTreeMap<Key, usize>,
    parent: Vec<usize>,
}

impl Sets {
    fn join_keys(&mut self, op: &Op) {
        let mut first = None;
        op.for_each_key(&mut |key| {
            let fresh = self.parent.len();
            let index = *self.index.entry(key.clone()).or_insert(fresh);
            if index == fresh {
                self.parent.push(fresh);
            }
            let first = *first.get_or_insert(index);
            self.join(first, index);
        });
    }

    fn join_all(&mut self) {
        (1..self.parent.len()).for_each(|index| self.join(0, index));
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        // The earlier key stays the root, so that parts keep the order in which their keys came up.
        self.parent[one.max(other)] = one.min(other);
    }

    fn root(&mut self, mut index: usize) -> usize {
        while self.parent[index] != index {
            self.parent[index] = self.parent[self.parent[index]];
            index = self.parent[index];
        }
        index
    }

    /// The set of an op's keys. Ranges are in the one set there is; ops without any key are too.
    fn of(&mut self, op: &Op) -> usize {
        let mut first = None;
        op.for_each_key(&mut |key| first = first.or_else(|| self.index.get(key).copied()));
        first.map_or(0, |index| self.root(index))
    }

    /// What each set's keys are called.
    fn names(&mut self) -> BTreeMap<usize, String> {
        let keys: Vec<(String, usize)> = self.index.iter().map(|(key, index)| (show(key), *index)).collect();
        let mut names: BTreeMap<usize, (Vec<String>, usize)> = BTreeMap::new();
        for (key, index) in keys {
            let (named, count) = names.entry(self.root(index)).or_default();
            *count += 1;
            if named.len() < KEYS_NAMED_MAX {
                named.push(key);
            }
        }
        names.into_iter().map(|(set, (named, count))| (set, listed(named, count))).collect()
    }
}

fn listed(mut named: Vec<String>, count: usize) -> String {
    if count > named.len() {
        named.push(format!("and {} more", count - named.len()));
    }
    named.join(", ")
}
