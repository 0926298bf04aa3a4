//! The waist: the one interface between those who ask and those who answer.

use std::time::Duration;

use crate::{Charge, Error, Level, Op, Reply, RequestId};

/// An op, and how it is to be treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The keyspace. The one there is: `default`.
    pub keyspace: String,
    /// What is asked.
    pub op: Op,
    /// How fresh a read must be; `None` = the strongest the keyspace promises.
    pub level: Option<Level>,
    /// Makes retries happen once; `None` = the node that accepts the request gives it one.
    pub id: Option<RequestId>,
    /// How long to wait before it is answered as unavailable or in doubt.
    pub timeout: Duration,
    /// It was sent before, under the same id, and may have been run: where nobody remembers the id it is answered in doubt, and not run.
    pub again: bool,
    /// Nobody but the node at hand is asked: [`Error::WrongNode`] where it has no replica of the key's shard, and of a write where
    /// another node orders it. A read is as old as its level allows only where the replica here cannot answer a fresh one. For dialects
    /// whose clients find the node themselves; the native wire does not carry it.
    pub here: bool,
}

impl Request {
    /// The keyspace that is there from the start.
    pub const KEYSPACE: &'static str = "default";
    /// How long a request waits when nothing else is said: longer than an election.
    pub const TIMEOUT: Duration = Duration::from_secs(5);

    /// A request to the default keyspace with nothing special about it.
    pub fn new(op: Op) -> Request {
        Request {
            keyspace: Self::KEYSPACE.into(),
            op,
            level: None,
            id: None,
            timeout: Self::TIMEOUT,
            again: false,
            here: false,
        }
    }
}

/// Takes the answers to a batch of requests: each index exactly once, in any order, on any thread.
pub trait Completions: Send {
    /// The answer to the request at `index` of the batch.
    fn complete(&mut self, index: usize, result: Result<Reply, Error>);

    /// What the batch is counted against: held by the store until the last answer is given, and grown by what it reads.
    fn charge(&self) -> Charge {
        Charge::default()
    }
}

impl<F: FnMut(usize, Result<Reply, Error>) + Send> Completions for F {
    fn complete(&mut self, index: usize, result: Result<Reply, Error>) {
        self(index, result)
    }
}

/// Whoever answers requests: a node, a dialect's client, a simulated cluster.
pub trait KeyValue: Send + Sync {
    /// Asks a batch of requests. They are independent: no order among them, each may fail alone. Returns at once;
    /// every request is answered by one call of `completions`, within its timeout and a little.
    fn submit(&self, requests: Vec<Request>, completions: Box<dyn Completions>);
}
