//! Open requests: every part of a request from the moment this node takes it until it is answered.
//!
//! A part that cannot be served now (no leader is known, the leader's connection broke, another leader took over) waits
//! and is tried again under its own id until its time is up. What it is answered then depends on whether any attempt may
//! have been run: only then is it in doubt.

use std::collections::BTreeMap;

use bytes::Bytes;
use kv::{Answer, Charge, Class, Error, Level, NodeId, Op, Reply, RequestId, ShardId, Version};
use mutant::Mutant;
use replication::Instant;

use crate::session::mix;

/// So many parts may be open at a node; more are refused.
pub const OPEN_MAX: usize = 16_384;
/// So many bytes of ops may be open at a node; more are refused.
pub const OPEN_BYTES_MAX: usize = 256 << 20;

/// One shard's part of a request.
#[derive(Clone, Debug)]
pub struct Part {
    /// The shard.
    pub shard: ShardId,
    /// What to do there.
    pub op: Op,
    /// How fresh a read must be; `None` = as fresh as can be.
    pub level: Option<Level>,
    /// Its id; `None` = it gets one here.
    pub id: Option<RequestId>,
    /// How long to try, in microseconds.
    pub timeout_micros: u64,
    /// What it is counted against until it is answered, and its answer until that has left.
    pub charge: Charge,
}

/// Who is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A client of this node, under the owner's name.
    Client(u64),
    /// Another node, under its name.
    Peer(NodeId, u64),
    /// This node itself: it orders an advance of a shard's version.
    Advance,
    /// This node itself: it proves that it leads, to a node that lost its folder.
    Rejoiner(NodeId),
}

/// Where a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It waits to be tried (again), not before this.
    Waiting(Instant),
    /// The local replica has it.
    Local,
    /// The leading node has it, since then.
    Forwarded(NodeId, Instant),
}

/// An open part.
#[derive(Debug)]
pub(crate) struct Open {
    pub origin: Origin,
    pub shard: ShardId,
    pub class: Class,
    /// What to read; writes are in `stamped` only.
    pub op: Option<Op>,
    /// The op as it travels.
    pub stamped: Bytes,
    pub level: Level,
    /// The id, when this node gave it.
    pub own_id: Option<RequestId>,
    pub deadline: Instant,
    pub state: State,
    /// An earlier attempt may have been run.
    pub in_doubt: bool,
    /// Why the last attempt was not served.
    pub why: Option<Error>,
    /// What was read, until it may be answered.
    pub fetched: Option<(Result<Answer, Error>, Version)>,
    /// Something was left out of what was read that others may find yet.
    pub hidden: bool,
    /// Rows counted by earlier steps of a count.
    pub counted: u64,
    /// What it and its answer are counted against.
    pub charge: Charge,
}

impl Open {
    pub fn is_read(&self) -> bool {
        self.class == Class::Read
    }

    /// Counts an answer that was not counted as it was read here: of a write, or of another node. One for which there is
    /// no room is not told.
    pub fn count_answer(&self, result: Result<Reply, Error>) -> Result<Reply, Error> {
        let bytes = result.as_ref().map_or(0, |reply| reply.answer.bytes());
        let was_counted = self.is_read() && self.state == State::Local;
        if bytes == 0 || was_counted || self.charge.answer.try_add(bytes) {
            return result;
        }
        Err(Error::no_room(self.is_read() || result.is_ok_and(|reply| reply.answer.is_unmet())))
    }

    /// What it is answered when it is given up now.
    pub fn verdict(&self) -> Error {
        let sent = !matches!(self.state, State::Waiting(_));
        if !self.is_read() && (self.in_doubt || sent) && !mutant::is(Mutant::InDoubtToldAsFailed) {
            return Error::InDoubt(format!(
                "no answer from shard {} in time: the write may have happened or may yet happen; read the key, or \
                 send the same request again under its request id",
                self.shard
            ));
        }
        match &self.why {
            Some(Error::Unavailable(why)) => Error::Unavailable(why.clone()),
            _ => Error::Unavailable(format!(
                "shard {} has no leader that can be reached: check with 'capstan cluster status' that a majority of its \
                 nodes is up, and try again",
                self.shard
            )),
        }
    }
}

/// All open parts by token.
#[derive(Debug)]
pub(crate) struct OpenParts {
    parts: BTreeMap<u64, Open>,
    bytes: usize,
    next: u64,
}

impl OpenParts {
    /// None yet. The tokens of two lives of a node must not meet: what the first one forwarded may be answered to the second.
    pub fn new(seed: u64) -> OpenParts {
        OpenParts { parts: BTreeMap::new(), bytes: 0, next: mix(seed) >> 1 }
    }

    /// Whether one more of so many bytes would be too much.
    pub fn is_full(&self, bytes: usize) -> bool {
        self.parts.len() >= OPEN_MAX || self.bytes + bytes > OPEN_BYTES_MAX
    }

    pub fn insert(&mut self, open: Open) -> u64 {
        self.next += 1;
        self.bytes += open.stamped.len();
        self.parts.insert(self.next, open);
        self.next
    }

    pub fn get(&self, token: u64) -> Option<&Open> {
        self.parts.get(&token)
    }

    pub fn get_mut(&mut self, token: u64) -> Option<&mut Open> {
        self.parts.get_mut(&token)
    }

    pub fn remove(&mut self, token: u64) -> Option<Open> {
        let open = self.parts.remove(&token)?;
        self.bytes -= open.stamped.len();
        Some(open)
    }

    /// A number that rises with each part that is taken.
    pub fn taken(&self) -> u64 {
        self.next
    }

    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// The tokens of all that `which` picks, in order.
    pub fn pick(&self, which: impl Fn(&Open) -> bool) -> Vec<u64> {
        self.parts.iter().filter(|(_, open)| which(open)).map(|(token, _)| *token).collect()
    }
}
