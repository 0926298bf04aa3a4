//! The meaning of every op: what it answers and leaves, given the cells it finds.
//!
//! It follows the documentation of [`kv::Op`]. Versions, change counts and receipts are not kept. A value is gone for an op
//! that ran when the store's clock had reached its deadline; as far as the history does not hold that clock, it may vanish
//! before the op or not. A compare with a version may go either way.

mod range;
mod update;

use std::collections::BTreeMap;

use kv::{Answer, Expect, Key, Op, Row, Value};

use super::Call;
use crate::history::Clock;

/// A key's present value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cell {
    /// The value.
    pub value: Value,
    /// When it expires, in microseconds since 1970.
    pub deadline: Option<u64>,
}

impl Cell {
    /// A value without a deadline.
    pub fn new(value: Value) -> Cell {
        Cell { value, deadline: None }
    }
}

/// The cells of a state.
pub(super) trait Cells: Clone + PartialEq {
    fn cell(&self, key: &Key) -> Option<&Cell>;
    fn set(&mut self, key: &Key, cell: Option<Cell>);
    /// The keys with a value, ascending; `None` where a state has one key and does not know its name.
    fn keys(&self) -> Option<Vec<Key>>;
}

impl Cells for Option<Cell> {
    fn cell(&self, _key: &Key) -> Option<&Cell> {
        self.as_ref()
    }

    fn set(&mut self, _key: &Key, cell: Option<Cell>) {
        *self = cell;
    }

    fn keys(&self) -> Option<Vec<Key>> {
        None
    }
}

impl Cells for BTreeMap<Key, Cell> {
    fn cell(&self, key: &Key) -> Option<&Cell> {
        self.get(key)
    }

    fn set(&mut self, key: &Key, cell: Option<Cell>) {
        match cell {
            Some(cell) => drop(self.insert(key.clone(), cell)),
            None => drop(self.remove(key)),
        }
    }

    fn keys(&self) -> Option<Vec<Key>> {
        Some(self.keys().cloned().collect())
    }
}

/// All cells that the call may leave when it finds `cells`.
pub(super) fn step<C: Cells>(cells: &C, call: &Call) -> Vec<C> {
    let (op, seen) = (&call.op, call.answer.as_ref());
    let mut left: Vec<C> = Vec::with_capacity(1);
    for found in with_expiry(cells, op, &call.clock) {
        let guesses: &[bool] = if compares_versions(op) { &[true, false] } else { &[true] };
        for guess in guesses {
            let mut next = found.clone();
            if run(&mut next, op, seen, *guess) {
                remove_stillborn(&mut next, op, &call.clock);
                if !left.contains(&next) {
                    left.push(next);
                }
            }
        }
    }
    left
}

/// Whether the op leaves all cells as they are whenever it answers this.
pub(super) fn is_pure(op: &Op, answer: Option<&Answer>) -> bool {
    match (op, answer) {
        (Op::Get { .. } | Op::GetAll { .. } | Op::Range(_) | Op::History { .. }, _) => true,
        (Op::Trim { .. } | Op::TrimRange { .. } | Op::Note(_), _) => true,
        (op, _) if op.is_own() => true,
        (_, Some(Answer::Condition { met: false, .. } | Answer::Popped(None) | Answer::Expire(false))) => {
            true
        }
        (_, Some(Answer::Deleted { count: 0, .. })) => true,
        (Op::Transaction { then, otherwise, .. }, Some(Answer::Transaction { succeeded, answers })) => {
            let ops = if *succeeded { then } else { otherwise };
            ops.len() == answers.len()
                && ops.iter().zip(answers).all(|(op, answer)| is_pure(op, Some(answer)))
        }
        (Op::Transaction { then, otherwise, .. }, None) => {
            then.iter().chain(otherwise).all(|op| is_pure(op, None))
        }
        _ => false,
    }
}

/// Runs one op. False = it cannot answer that here; the cells are then no state.
fn run<C: Cells>(cells: &mut C, op: &Op, seen: Option<&Answer>, guess: bool) -> bool {
    match op {
        Op::Get { at: Some(_), .. } | Op::GetAll { at: Some(_), .. } => true,
        Op::Get { key, .. } => sees(seen, |seen| match seen {
            Answer::Row(row) => same(row.as_ref(), cells.cell(key)),
            _ => false,
        }),
        Op::GetAll { .. } => sees(seen, |seen| match seen {
            Answer::Many(rows) => rows.iter().all(|answer| match &answer.result {
                Ok(row) => same(row.as_ref(), cells.cell(&answer.key)),
                Err(_) => true,
            }),
            _ => false,
        }),
        Op::Put { key, value, deadline, previous } => {
            let allowed = sees(seen, |seen| match seen {
                Answer::Put { previous: row } => !previous || same(row.as_ref(), cells.cell(key)),
                _ => false,
            });
            cells.set(key, Some(Cell { value: value.clone(), deadline: *deadline }));
            allowed
        }
        Op::PutAll { rows } => {
            rows.iter().for_each(|(key, value)| cells.set(key, Some(Cell::new(value.clone()))));
            true
        }
        Op::Delete { key, previous } => {
            let allowed = sees(seen, |seen| match seen {
                Answer::Deleted { count, previous: row, .. } => {
                    let found = cells.cell(key);
                    *count == u64::from(found.is_some()) && (!previous || same(row.as_ref(), found))
                }
                _ => false,
            });
            cells.set(key, None);
            allowed
        }
        Op::Expire { key, deadline } => {
            let found = cells.cell(key).cloned();
            let allowed = sees(seen, |seen| *seen == Answer::Expire(found.is_some()));
            cells.set(key, found.map(|cell| Cell { deadline: *deadline, ..cell }));
            allowed
        }
        Op::Update { key, function } => {
            let mut cell = cells.cell(key).cloned();
            let allowed = update::run(&mut cell, function, seen, guess);
            cells.set(key, cell);
            allowed
        }
        Op::Transaction { conditions, then, otherwise } => {
            let succeeds = conditions
                .iter()
                .all(|condition| holds(&condition.expect, cells.cell(&condition.key), guess));
            run_branch(cells, if succeeds { then } else { otherwise }, succeeds, seen, guess)
        }
        Op::Range(range) => range::read(cells, range, seen),
        Op::DeleteRange { from, to } => range::delete(cells, from, to.as_ref(), seen),
        Op::Trim { .. }
        | Op::TrimRange { .. }
        | Op::History { .. }
        | Op::Advance { .. }
        | Op::Note(_)
        | Op::Merge { .. }
        | Op::Collect { .. } => true,
    }
}

fn run_branch<C: Cells>(
    cells: &mut C,
    ops: &[Op],
    succeeds: bool,
    seen: Option<&Answer>,
    guess: bool,
) -> bool {
    match seen {
        None => ops.iter().all(|op| run(cells, op, None, guess)),
        Some(Answer::Transaction { succeeded, answers }) => {
            *succeeded == succeeds
                && answers.len() == ops.len()
                && ops.iter().zip(answers).all(|(op, answer)| run(cells, op, Some(answer), guess))
        }
        Some(_) => false,
    }
}

/// The cells that the op may find: without the values that it meets and that had expired, and with or without those that
/// may have.
fn with_expiry<C: Cells>(cells: &C, op: &Op, clock: &Clock) -> Vec<C> {
    let mut variants = vec![cells.clone()];
    let mut vanish = |key: &Key| match cells.cell(key).and_then(|cell| cell.deadline) {
        Some(deadline) if deadline <= clock.from => {
            variants.iter_mut().for_each(|cells| cells.set(key, None));
        }
        Some(deadline) if deadline <= clock.to => {
            let mut vanished = variants.clone();
            vanished.iter_mut().for_each(|cells| cells.set(key, None));
            vanished.retain(|cells| !variants.contains(cells));
            variants.extend(vanished);
        }
        _ => {}
    };
    match op {
        Op::Range(_) | Op::DeleteRange { .. } => cells.keys().iter().flatten().for_each(vanish),
        op => op.for_each_key(&mut vanish),
    }
    variants
}

/// Removes what the op stored with a deadline that had passed.
fn remove_stillborn<C: Cells>(cells: &mut C, op: &Op, clock: &Clock) {
    op.for_each_key(&mut |key| {
        let deadline = cells.cell(key).and_then(|cell| cell.deadline);
        if deadline.is_some_and(|deadline| deadline <= clock.from) {
            cells.set(key, None);
        }
    });
}

fn compares_versions(op: &Op) -> bool {
    let versioned = |expect: &Expect| matches!(expect, Expect::Version(_));
    match op {
        Op::Update { function: kv::Function::CompareAndPut { expect, .. }, .. } => versioned(expect),
        Op::Transaction { conditions, then, otherwise } => {
            conditions.iter().any(|condition| versioned(&condition.expect))
                || then.iter().chain(otherwise).any(compares_versions)
        }
        _ => false,
    }
}

fn holds(expect: &Expect, found: Option<&Cell>, guess: bool) -> bool {
    match expect {
        Expect::Absent => found.is_none(),
        Expect::Present => found.is_some(),
        Expect::Value(value) => found.is_some_and(|cell| cell.value == value),
        Expect::Version(_) => guess && found.is_some(),
    }
}

/// Whether what was seen, if anything was, is as `agrees` wants it.
fn sees(seen: Option<&Answer>, agrees: impl FnOnce(&Answer) -> bool) -> bool {
    seen.is_none_or(agrees)
}

fn same(seen: Option<&Row>, found: Option<&Cell>) -> bool {
    seen.map(|row| &row.value) == found.map(|cell| &cell.value)
}
