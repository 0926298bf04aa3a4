//! Histories: what concurrent clients asked, and what came of it.
//!
//! A history is a list of [`Operation`]s in the order of their calls. Each call and each return is an event; events are
//! numbered in the order in which they were seen, and that order is all the checker relies on. Times are for the reader.

pub mod edn;
pub mod jepsen;
pub mod json_lines;
mod recorder;
mod value;
mod words;

use kv::{Answer, Op};

pub use recorder::{Recorder, Ticket};
pub(crate) use value::show;

/// What concurrent clients asked, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    operations: Vec<Operation>,
    events: usize,
    shards: Option<u32>,
}

/// One op of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who asked. A process has one op under way at a time, but for those whose outcome stayed unknown.
    pub process: u64,
    /// What was asked.
    pub op: Op,
    /// What came of it.
    pub outcome: Outcome,
    /// When it was asked.
    pub called: Moment,
    /// When the client learned the outcome; `None` = it never did.
    pub returned: Option<Moment>,
    /// What the store's clock showed when it ran, as far as that is known: it decides what had expired.
    pub clock: Clock,
}

/// A time of the store's clock, in microseconds since 1970: at least `from`, at most `to`. The default is any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// What has a deadline up to here was gone.
    pub from: u64,
    /// What has a deadline after this was not.
    pub to: u64,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock { from: 0, to: u64::MAX }
    }
}

/// What came of an op.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It happened; `None` = what it answered was not recorded.
    Done(Option<Answer>),
    /// It did not happen and never will.
    Failed,
    /// It may have happened, or may yet, or never.
    Unknown,
}

/// When an event was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Its number among all events of the history. Starts at 0.
    pub index: usize,
    /// Its time in microseconds, from wherever the recorder counts.
    pub micros: Option<u64>,
}

/// Names an operation of the history it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationId(usize);

/// A file that is no history.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct Unreadable {
    /// The line where reading stopped. Starts at 1.
    pub line: usize,
    /// What is wrong there.
    pub why: String,
}

impl History {
    /// A history without operations.
    pub fn new() -> History {
        History::default()
    }

    /// The next event: a process asks.
    pub fn invoke(&mut self, process: u64, op: Op, micros: Option<u64>) -> OperationId {
        let called = self.next_moment(micros);
        let (outcome, clock) = (Outcome::Unknown, Clock::default());
        self.operations.push(Operation { process, op, outcome, called, returned: None, clock });
        OperationId(self.operations.len() - 1)
    }

    /// The next event: the outcome is known (or known to stay unknown).
    pub fn complete(&mut self, id: OperationId, outcome: Outcome, micros: Option<u64>) {
        let moment = self.next_moment(micros);
        let operation = &mut self.operations[id.0];
        assert!(operation.returned.is_none(), "an operation returns once");
        operation.outcome = outcome;
        operation.returned = Some(moment);
    }

    /// What the store's clock showed when an operation ran.
    pub fn set_clock(&mut self, id: OperationId, clock: Clock) {
        self.operations[id.0].clock = clock;
    }

    /// All operations, in the order of their calls.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Keys were dealt to so many shards by their slots: an op over several keys was atomic in each.
    pub fn set_shards(&mut self, count: u32) {
        self.shards = Some(count);
    }

    /// How many shards keys were dealt to, where that is known.
    pub fn shards(&self) -> Option<u32> {
        self.shards
    }

    /// How many events there are.
    pub fn events(&self) -> usize {
        self.events
    }

    /// Whether nothing was asked.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    fn next_moment(&mut self, micros: Option<u64>) -> Moment {
        self.events += 1;
        Moment { index: self.events - 1, micros }
    }
}

impl Operation {
    /// What it answered, where that is known.
    pub fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Done(answer) => answer.as_ref(),
            Outcome::Failed | Outcome::Unknown => None,
        }
    }

    /// The event by which it must have happened; `None` = it may happen at any later time.
    pub fn deadline(&self) -> Option<usize> {
        match self.outcome {
            Outcome::Done(_) => self.returned.map(|moment| moment.index),
            Outcome::Failed | Outcome::Unknown => None,
        }
    }
}

/// A row of which only the value is known.
pub(crate) fn row(key: &kv::Key, value: kv::Value) -> kv::Row {
    let unknown = kv::Version::ZERO;
    kv::Row { key: key.clone(), value, version: unknown, created: unknown, changes: 0, deadline: None }
}
