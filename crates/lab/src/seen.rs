//! What the clients of a run saw: each request, who asked it, when, and what it came to.

use kv::{Answer, Class, Error, Key, Level, Op, Outcome, Reply, Request, Version};

/// One request of one client. Times are in microseconds since the run began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The node that its client stays with: its place among the nodes of the cluster.
    pub node: usize,
    /// What was asked.
    pub kind: Kind,
    /// The key.
    pub key: Key,
    /// When it was asked.
    pub called: u64,
    /// When its client knew what it came to.
    pub returned: u64,
    /// What it came to.
    pub came: Came,
}

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A put, an append or a compare-and-put.
    Write,
    /// A linearizable get.
    Read,
    /// A get that may miss the writes of so many last milliseconds.
    Bounded(u64),
    /// A get of what the node at hand has.
    Local,
}

/// What a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// It wrote, at this version.
    Written(Version),
    /// Its condition did not hold, so it wrote nothing. That is an answer too.
    Unmet,
    /// It read.
    Read {
        /// Since when the value was there; zero = there was none.
        version: Version,
        /// So many last microseconds it may miss, by its receipt.
        staleness_micros: u64,
    },
    /// It did not happen and never will; of a read: there was no answer.
    Failed,
    /// It may have happened.
    InDoubt,
}

impl Kind {
    /// Of a request.
    pub fn of(request: &Request) -> Kind {
        match (request.op.class(), request.level) {
            (Class::Read, Some(Level::Bounded(millis))) => Kind::Bounded(millis),
            (Class::Read, Some(Level::Local)) => Kind::Local,
            (Class::Read, _) => Kind::Read,
            _ => Kind::Write,
        }
    }
}

impl Came {
    /// Of what was answered to a request.
    pub fn of(kind: Kind, result: &Result<Reply, Error>) -> Came {
        match result {
            Ok(Reply { answer, .. }) if answer.is_unmet() => Came::Unmet,
            Ok(Reply { answer: Answer::Row(row), receipt }) => Came::Read {
                version: row.as_ref().map_or(Version::ZERO, |row| row.version),
                staleness_micros: receipt.staleness_micros,
            },
            Ok(Reply { receipt, .. }) => Came::Written(receipt.version),
            Err(error) if kind == Kind::Write && error.outcome() == Outcome::InDoubt => Came::InDoubt,
            Err(_) => Came::Failed,
        }
    }

    /// Whether there was an answer.
    pub fn is_done(self) -> bool {
        matches!(self, Came::Written(_) | Came::Unmet | Came::Read { .. })
    }
}

/// The one key of an op of single keys.
pub fn key(op: &Op) -> Key {
    let mut found = None;
    op.for_each_key(&mut |key| found = found.take().or(Some(key.clone())));
    found.expect("an op of a workload has a key")
}
