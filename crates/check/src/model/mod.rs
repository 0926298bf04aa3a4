//! Models: what one copy of the data would answer, one op after the other.
//!
//! [`Kv`] judges ops of single keys, key by key; as a register it has an initial value. [`Batch`] judges ops of several
//! keys too, and judges keys together as far as ops connect them. Both share one meaning of an op (`cells`).

mod batch;
mod cells;
mod kv;
mod lower;

use std::hash::Hash;

use ::kv::{Answer, Function, Op};

use crate::history::{Clock, Operation};

pub use batch::{Atomicity, Batch};
pub use cells::Cell;
pub(crate) use kv::show;
pub use kv::{Initial, Kv};

/// What one copy of the data would answer.
pub trait Model {
    /// All that a copy remembers.
    type State: Clone + Eq + Hash;

    /// The calls that an operation of a history stands for: none when it constrains nothing, several when it is not
    /// atomic as a whole. `index` is the operation's place in the history.
    fn calls(&self, index: usize, operation: &Operation) -> Result<Vec<Call>, Unjudged>;

    /// Parts of the calls that can be judged apart.
    fn partition(&self, calls: Vec<Call>) -> Vec<Partition>;

    /// The states in which a part may begin.
    fn initial(&self, calls: &[Call]) -> Vec<Self::State>;

    /// The states that the call may leave when it finds `state`. Empty = it cannot have been answered so.
    fn step(&self, state: &Self::State, call: &Call) -> Vec<Self::State>;

    /// Whether the op, when it answers this, leaves every state as it was.
    fn is_pure(&self, op: &Op, answer: Option<&Answer>) -> bool;

    /// Whether the op may answer this in every state, and leaves the same state whatever it finds.
    fn is_blind(&self, _op: &Op, _answer: Option<&Answer>) -> bool {
        false
    }

    /// Whether the op only ever adds to what it finds, so that [`Model::may_lead`] holds over it.
    fn grows(&self, _op: &Op) -> bool {
        false
    }

    /// Whether ops that only grow could lead from `state` to one where `op` answers `answer`.
    fn may_lead(&self, _state: &Self::State, _op: &Op, _answer: Option<&Answer>) -> bool {
        true
    }

    /// Groups of calls that can be left out without making an allowed history forbidden. Pure calls may always be.
    fn removable(&self, _calls: &[Call]) -> Vec<Vec<usize>> {
        Vec::new()
    }

    /// The memory that a state takes, roughly.
    fn bytes(&self, state: &Self::State) -> usize;

    /// The state, for people.
    fn describe(&self, state: &Self::State) -> String;
}

/// An atomic op as the checker orders it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its operation's place in the history.
    pub operation: usize,
    /// What was asked.
    pub op: Op,
    /// What it answered; `None` = whatever.
    pub answer: Option<Answer>,
    /// The event before which it did not happen.
    pub called: usize,
    /// The event by which it had happened; `None` = it may happen at any later time, or never.
    pub returned: Option<usize>,
    /// What the store's clock showed then.
    pub clock: Clock,
}

/// Calls that are judged together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// What they have in common: their key, or keys.
    pub name: String,
    /// The calls, in the order in which they were called.
    pub calls: Vec<Call>,
}

/// An operation that a model has no meaning for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unjudged {
    /// Why.
    pub why: String,
    /// It changes data: without it nothing can be said of the rest.
    pub writes: bool,
}

impl Partition {
    /// Rounds the clocks down to the deadlines that there are: nothing expires in between, so calls that ask and answer the
    /// same are alike again.
    pub(crate) fn round_clocks(&mut self) {
        let mut deadlines: Vec<u64> = Vec::new();
        self.calls.iter().for_each(|call| add_deadlines(&call.op, &mut deadlines));
        deadlines.sort_unstable();
        let round = |time: u64| match deadlines.partition_point(|deadline| *deadline <= time) {
            0 => 0,
            after => deadlines[after - 1],
        };
        for Call { clock, .. } in &mut self.calls {
            *clock = Clock { from: round(clock.from), to: round(clock.to) };
        }
    }
}

fn add_deadlines(op: &Op, to: &mut Vec<u64>) {
    match op {
        Op::Put { deadline, .. } | Op::Expire { deadline, .. } => to.extend(deadline),
        Op::Update {
            function: Function::Insert { deadline, .. } | Function::CompareAndPut { deadline, .. },
            ..
        } => to.extend(deadline),
        Op::Transaction { then, otherwise, .. } => {
            then.iter().chain(otherwise).for_each(|op| add_deadlines(op, to));
        }
        _ => {}
    }
}
