//! Deadlines: values that expire, and deadlines that are set and taken away.
//!
//! Some deadlines have passed when they arrive, some are near, and now and then many are at one instant, so that much
//! expires at once. Where appended texts are judged as a whole, what expires lies under keys of its own.

use check::generate::Workload;
use kv::{Function, Key, Op};

use crate::random::Random;
use crate::world::World;

/// Where values expire, so many of 100 other writes change a deadline instead.
const EXPIRE_PERCENT: u64 = 8;
/// So many of 100 requests of the workload of appends go to keys that expire.
const ASIDE_PERCENT: u64 = 20;

/// Where many deadlines are at one instant, it is a multiple of this.
const INSTANT_MICROS: u64 = 2_000_000;

impl World {
    /// What a client asks, with deadlines.
    pub(super) fn with_deadlines(&mut self, client: usize, op: Op) -> Op {
        let clock = self.machine(self.clients[client].home).version_clock();
        let (percent, together) = (self.settings.mortal_percent, self.settings.together_percent);
        let random = &mut self.clients[client].random;
        let op = match op {
            op if self.workload == Workload::Appends => {
                if !random.percent(ASIDE_PERCENT) {
                    return op;
                }
                aside(op)
            }
            op => op,
        };
        // Before its first turn a node has no time.
        if clock == 0 || !random.percent(percent) {
            return op;
        }
        let mut draw = Draw { random, clock, together };
        mortal(&mut draw, op)
    }
}

/// Draws deadlines.
struct Draw<'a> {
    random: &'a mut Random,
    clock: u64,
    together: u64,
}

impl Draw<'_> {
    fn deadline(&mut self) -> u64 {
        if self.random.percent(self.together) {
            return (self.clock / INSTANT_MICROS + 1) * INSTANT_MICROS;
        }
        match self.random.below(100) {
            0..8 => self.clock - self.random.below(2_000_000),
            8..35 => self.clock + self.random.between(1_000, 100_000),
            35..80 => self.clock + self.random.between(100_000, 2_000_000),
            _ => self.clock + self.random.between(2_000_000, 20_000_000),
        }
    }
}

fn mortal(draw: &mut Draw<'_>, op: Op) -> Op {
    match op {
        Op::Put { key, value, previous, .. } => {
            Op::Put { key, value, deadline: Some(draw.deadline()), previous }
        }
        Op::Update { key, function: Function::Insert { value, .. } } => {
            Op::Update { key, function: Function::Insert { value, deadline: Some(draw.deadline()) } }
        }
        Op::Update { key, function: Function::CompareAndPut { expect, value, .. } } => {
            let deadline = Some(draw.deadline());
            Op::Update { key, function: Function::CompareAndPut { expect, value, deadline } }
        }
        Op::Transaction { conditions, then, otherwise } => {
            let mut all = |ops: Vec<Op>| ops.into_iter().map(|op| mortal(draw, op)).collect();
            Op::Transaction { conditions, then: all(then), otherwise: all(otherwise) }
        }
        Op::Update { key, .. } | Op::Delete { key, .. } if draw.random.percent(EXPIRE_PERCENT) => {
            let deadline = draw.random.percent(75).then(|| draw.deadline());
            Op::Expire { key, deadline }
        }
        op => op,
    }
}

/// The same of a key that expires, beside one that only grows.
fn aside(op: Op) -> Op {
    let beside = |key: Key| -> Key { [&key[..], b"#"].concat().into() };
    match op {
        Op::Update { key, function: Function::Append { value, .. } } => {
            Op::Put { key: beside(key), value, deadline: None, previous: false }
        }
        Op::Get { key, at } => Op::Get { key: beside(key), at },
        op => op,
    }
}
