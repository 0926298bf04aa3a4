//! What is answered, and what was really achieved.

use std::fmt;

use crate::{Epoch, Error, Key, NodeId, ShardId, Value, Version};

/// The answer to a request, and its receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What was asked for.
    pub answer: Answer,
    /// How well it was kept.
    pub receipt: Receipt,
}

/// The answer to an op; which one belongs to which op stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The row of a key; `None` = not found.
    Row(Option<Row>),
    /// One result per key, in the order asked.
    Many(Vec<KeyAnswer>),
    /// Rows of a range.
    Page(Page),
    /// A page of the revisions of a key. Empty = nothing is kept of it (before the version that was given).
    History {
        /// Newest first.
        revisions: Vec<Revision>,
        /// There are older ones: ask again with this as `before`.
        next: Option<Version>,
    },
    /// Stored; the row as it was before, when that was asked for.
    Put {
        /// The row before.
        previous: Option<Row>,
    },
    /// Removed.
    Deleted {
        /// How many keys were there and are gone.
        count: u64,
        /// The row before, when that was asked for.
        previous: Option<Row>,
        /// A delete-range stopped at its limit: go on from this key.
        next: Option<Key>,
    },
    /// Forgotten.
    Trimmed {
        /// How many revisions; where writes have no order, of how many keys: each replica drops what it has of them.
        count: u64,
        /// It stopped at its limit: go on from this key. Of the trim of one key it is that key: ask the same again.
        next: Option<Key>,
    },
    /// Whether the key was there to get a deadline.
    Expire(bool),
    /// Length of the value after an append, in bytes.
    Length(u64),
    /// What was popped: `None` = no such key, empty = the value was empty.
    Popped(Option<Value>),
    /// The number after an increment.
    Number(i64),
    /// Whether an insert or compare-and-put found what it expected, hence stored its value.
    Condition {
        /// It did.
        met: bool,
        /// The row that was found instead.
        current: Option<Row>,
    },
    /// Which branch ran, and the answers of its ops in order.
    Transaction {
        /// All conditions held.
        succeeded: bool,
        /// One answer per op of the branch.
        answers: Vec<Answer>,
    },
}

impl Answer {
    /// Whether a write has changed nothing because its condition did not hold.
    pub fn is_unmet(&self) -> bool {
        matches!(self, Answer::Condition { met: false, .. })
    }

    /// The answer to a write that was sent before and may have been run then: keys whose part failed this time are in doubt,
    /// see [`Error::after_doubt`].
    pub fn after_doubt(mut self) -> Answer {
        if let Answer::Many(keys) = &mut self {
            for key in keys {
                if let Err(error) = &mut key.result {
                    let found = std::mem::replace(error, Error::InDoubt(String::new()));
                    *error = found.after_doubt();
                }
            }
        }
        self
    }

    /// Bytes of the keys and values in it.
    pub fn bytes(&self) -> usize {
        let row = |row: &Option<Row>| row.as_ref().map_or(0, Row::bytes);
        match self {
            Answer::Row(found)
            | Answer::Put { previous: found }
            | Answer::Condition { current: found, .. } => row(found),
            Answer::Deleted { previous, .. } => row(previous),
            Answer::Many(keys) => keys.iter().map(|key| key.result.as_ref().map_or(0, row)).sum(),
            Answer::Page(page) => page.rows.iter().map(Row::bytes).sum(),
            Answer::History { revisions, .. } => {
                revisions.iter().map(|revision| revision.value.as_ref().map_or(0, Value::len)).sum()
            }
            Answer::Popped(value) => value.as_ref().map_or(0, Value::len),
            Answer::Transaction { answers, .. } => answers.iter().map(Answer::bytes).sum(),
            Answer::Trimmed { .. } | Answer::Expire(_) | Answer::Length(_) | Answer::Number(_) => 0,
        }
    }
}

impl Row {
    fn bytes(&self) -> usize {
        self.key.len() + self.value.len()
    }
}

/// The result for one key of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyAnswer {
    /// The key.
    pub key: Key,
    /// Its row (of a put: as stored, without the value), or why its shard has none.
    pub result: Result<Option<Row>, Error>,
}

/// A key's value and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub key: Key,
    /// The value; empty when only keys were asked for.
    pub value: Value,
    /// When this value was written.
    pub version: Version,
    /// When the key came into being (after it last was absent).
    pub created: Version,
    /// Writes since it came into being, the first included. Starts at 1.
    pub changes: u64,
    /// When it expires, in microseconds since 1970.
    pub deadline: Option<u64>,
}

/// A page of a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The rows, in the order asked.
    pub rows: Vec<Row>,
    /// There is more: ask again with this as `page`.
    pub next: Option<Key>,
    /// The number of rows here; with `count_only`, of all rows of the range.
    pub count: u64,
}

/// A past (or the present) state of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Since when.
    pub version: Version,
    /// The value; `None` = it was deleted then.
    pub value: Option<Value>,
}

/// What was achieved: the promise that this very answer keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Of a write, its version; of a read, the newest version of the shard it saw: that of every write acknowledged before it, or,
    /// under `two-phase`, of every such write of the keys that it looked at. Over several shards the highest.
    pub version: Version,
    /// The shard; the lowest of several.
    pub shard: ShardId,
    /// How the shard's replicas agree.
    pub protocol: Protocol,
    /// The shard's epoch.
    pub epoch: Epoch,
    /// The level that was asked for.
    pub asked: Level,
    /// The level that was reached.
    pub reached: Level,
    /// On how many nodes the answer's state is synced to disk, as far as the serving node knows. 0 = on none: the node keeps
    /// nothing on the disk, or nobody says.
    pub copies: u32,
    /// The answer may miss writes acknowledged in so many microseconds before it. 0 = none.
    pub staleness_micros: u64,
    /// The node that served it.
    pub node: NodeId,
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// It sees every write acknowledged before it was asked.
    #[default]
    Linearizable,
    /// It misses at most the writes of so many last milliseconds.
    Bounded(u64),
    /// What the node at hand has.
    Local,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Level::Linearizable => f.write_str("linearizable"),
            Level::Bounded(millis) => write!(f, "bounded({millis})"),
            Level::Local => f.write_str("local"),
        }
    }
}

impl std::str::FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Level, String> {
        let bounded = text.strip_prefix("bounded(").and_then(|rest| rest.strip_suffix(')'));
        match (text, bounded.map(str::parse)) {
            ("linearizable", _) => Ok(Level::Linearizable),
            ("local", _) => Ok(Level::Local),
            (_, Some(Ok(millis))) => Ok(Level::Bounded(millis)),
            _ => Err(format!("'{text}' is no level: use linearizable, local, or bounded(MILLISECONDS)")),
        }
    }
}

/// How the replicas of a shard agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// One copy.
    Single,
    /// Consensus of a majority.
    Raft,
    /// One orders, all that are in sync have it before it is acknowledged.
    Primary,
    /// All copies, or none.
    TwoPhase,
    /// Each request at as many copies as it takes, without a leader.
    Quorum,
    /// Any copy takes a request by itself, and passes writes on.
    Broadcast,
}

impl Protocol {
    /// Its name in commands and receipts.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Single => "single",
            Protocol::Raft => "raft",
            Protocol::Primary => "primary",
            Protocol::TwoPhase => "two-phase",
            Protocol::Quorum => "quorum",
            Protocol::Broadcast => "broadcast",
        }
    }

    /// Whether its writes have no order: rows merge ([`crate::merged`]).
    pub fn is_merged(self) -> bool {
        matches!(self, Protocol::Quorum | Protocol::Broadcast)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Protocol, String> {
        match text {
            "single" => Ok(Protocol::Single),
            "raft" => Ok(Protocol::Raft),
            "primary" => Ok(Protocol::Primary),
            "two-phase" => Ok(Protocol::TwoPhase),
            "quorum" => Ok(Protocol::Quorum),
            "broadcast" => Ok(Protocol::Broadcast),
            _ => Err(format!(
                "'{text}' is no protocol: use single, raft, primary, two-phase, quorum or broadcast"
            )),
        }
    }
}
