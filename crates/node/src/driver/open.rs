//! What is open at a node: parts of requests that are not answered, and the store's own work that needs a token like them.

use std::collections::BTreeMap;

use bytes::Bytes;
use kv::merged::Look;
use kv::{Answer, Charge, Class, Error, Level, NodeId, Op, Reply, RequestId, ShardId, Version};
use mutant::Mutant;
use replication::{Instant, Token};

use crate::session::mix;

/// So many parts may be open at a node, at each core its share of them; more are refused.
pub const OPEN_MAX: usize = 16_384;
/// So many bytes of ops may be open at a node, shared out likewise, at least one of the largest; more are refused.
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
    /// It may have been run before, by those who had its keys then.
    pub in_doubt: bool,
    /// Nobody but this node is asked.
    pub here: bool,
}

impl Part {
    /// Why it is not taken here. That proves nothing where an earlier attempt may have been run.
    pub fn refusal(&self, why: &str) -> Error {
        match self.in_doubt && self.op.class() != Class::Read {
            true => Error::InDoubt(format!(
                "the request may have been run before, and is not sent again: {why}; read the key, or send the same request \
                 again under its request id"
            )),
            false => Error::Unavailable(why.into()),
        }
    }
}

/// Something that is open.
#[derive(Debug)]
pub(crate) struct Open {
    pub shard: ShardId,
    /// It is given up then.
    pub deadline: Instant,
    pub kind: Kind,
    /// It is counted with so many bytes.
    bytes: usize,
}

/// What is open, with all that its kind needs and nothing else.
#[derive(Debug)]
pub(crate) enum Kind {
    /// A client's write: served here or forwarded, tried again while there is time.
    Write(Attempt, Write),
    /// A client's read: likewise.
    Read(Attempt, Read),
    /// A write that another node forwarded ([`kv::Stamped`] bytes): served here or turned away.
    ForwardedWrite(Asker, Bytes),
    /// A read that another node forwarded: likewise.
    ForwardedRead(Asker, Read),
    /// This node raises the shard's version.
    Advance,
}

/// Who asks for a part here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// A client of the owner, which has this name for it.
    Owner(u64),
    /// The node's own directory: the number of its request.
    Directory(u64),
    /// The store's own: what a replica that is astray asks of who orders, under this number.
    Astray(ShardId, u64),
}

/// The way of a client's part to its answer.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub client: Client,
    /// The op as it travels.
    pub stamped: Bytes,
    pub state: State,
    /// Why the last attempt was not served.
    pub why: Option<Error>,
    /// Why nobody was found to serve it, when it was last looked for somebody.
    pub unserved: Option<&'static str>,
    /// How often it was tried where there is no replica.
    pub turns: usize,
    pub charge: Charge,
    /// Nobody but this node is asked.
    pub here: bool,
}

/// Where a client's part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It waits to be tried (again), not before this.
    Waiting(Instant),
    /// The local replica has it.
    Local,
    /// Another node has it, since then.
    Forwarded(NodeId, Instant),
}

/// What a client's write has beside its way.
#[derive(Debug)]
pub(crate) struct Write {
    pub class: Class,
    /// The id, when this node gave it.
    pub own_id: Option<RequestId>,
    /// An earlier attempt may have been run.
    pub in_doubt: bool,
}

/// A read on its way.
#[derive(Debug)]
pub(crate) struct Read {
    pub op: Op,
    /// What was asked for.
    pub level: Level,
    /// What the replica here makes sure of: what may be stale would age on its way to another node.
    pub ensured: Level,
    /// What was read, until it may be answered.
    pub fetched: Option<(Result<Answer, Error>, Version)>,
    /// Something was left out of what was read that others may find yet.
    pub hidden: bool,
    /// Rows counted by earlier steps of a count.
    pub counted: u64,
}

/// What the replicas of a shard without an order are asked for a read: whose it is, what, and how fresh.
pub(crate) type Gather = (Token, Look, Level);

/// The node that forwarded a part.
#[derive(Debug)]
pub(crate) struct Asker {
    pub node: NodeId,
    /// Its name for it.
    pub token: u64,
    pub charge: Charge,
}

impl Attempt {
    /// Not tried yet.
    pub fn new(client: Client, stamped: Bytes, now: Instant, charge: Charge, here: bool) -> Attempt {
        let state = State::Waiting(now);
        Attempt { client, stamped, state, why: None, unserved: None, turns: 0, charge, here }
    }

    /// Whether another node has it.
    pub fn is_at(&self, node: NodeId) -> bool {
        matches!(self.state, State::Forwarded(to, _) if to == node)
    }
}

impl Write {
    /// Not tried yet.
    pub fn new(class: Class, own_id: Option<RequestId>) -> Write {
        assert_ne!(class, Class::Read, "what changes nothing is a read");
        Write { class, own_id, in_doubt: false }
    }
}

impl Read {
    /// Nothing is read yet.
    pub fn new(op: Op, level: Level) -> Read {
        Read { op, level, ensured: level, fetched: None, hidden: false, counted: 0 }
    }

    /// What do the replicas hold of it? `None` = it is not answered from rows of keys.
    pub fn gather(&self, token: Token) -> Option<Gather> {
        Some((token, kv::merged::look(&self.op)?, self.ensured))
    }

    /// May it be served? For its replica.
    pub fn input(&self, token: Token) -> replication::Input {
        replication::Input::Read { token, scope: self.op.scope(), level: self.ensured }
    }
}

impl Open {
    /// A client's write.
    pub fn write(shard: ShardId, deadline: Instant, attempt: Attempt, write: Write) -> Open {
        let bytes = attempt.stamped.len();
        Open { shard, deadline, kind: Kind::Write(attempt, write), bytes }
    }

    /// A client's read.
    pub fn read(shard: ShardId, deadline: Instant, attempt: Attempt, read: Read) -> Open {
        let bytes = attempt.stamped.len();
        Open { shard, deadline, kind: Kind::Read(attempt, read), bytes }
    }

    /// A write of another node's client.
    pub fn forwarded_write(shard: ShardId, deadline: Instant, asker: Asker, stamped: Bytes) -> Open {
        let bytes = stamped.len();
        Open { shard, deadline, kind: Kind::ForwardedWrite(asker, stamped), bytes }
    }

    /// A read of another node's client, whose op came in so many bytes.
    pub fn forwarded_read(shard: ShardId, deadline: Instant, asker: Asker, read: Read, bytes: usize) -> Open {
        Open { shard, deadline, kind: Kind::ForwardedRead(asker, read), bytes }
    }

    /// A raise of the shard's version.
    pub fn advance(shard: ShardId, deadline: Instant) -> Open {
        Open { shard, deadline, kind: Kind::Advance, bytes: 0 }
    }

    /// Whether nothing can have happened through it.
    pub fn is_read(&self) -> bool {
        matches!(self.kind, Kind::Read(..) | Kind::ForwardedRead(..))
    }

    pub fn is_advance(&self) -> bool {
        matches!(self.kind, Kind::Advance)
    }

    /// Where it is to be served: by its class, and how fresh. A read that was turned away wants what every replica trusts.
    pub fn wants(&self) -> (Class, Level) {
        match &self.kind {
            Kind::Write(_, write) => (write.class, Level::Linearizable),
            Kind::Read(attempt, read) if attempt.why.is_none() || attempt.here => (Class::Read, read.level),
            Kind::Read(..) | Kind::ForwardedRead(..) => (Class::Read, Level::Linearizable),
            Kind::ForwardedWrite(..) | Kind::Advance => (Class::Blind, Level::Linearizable),
        }
    }

    /// The way of a client's part.
    pub fn attempt(&self) -> Option<&Attempt> {
        match &self.kind {
            Kind::Write(attempt, _) | Kind::Read(attempt, _) => Some(attempt),
            _ => None,
        }
    }

    /// The way of a client's part.
    pub fn attempt_mut(&mut self) -> Option<&mut Attempt> {
        match &mut self.kind {
            Kind::Write(attempt, _) | Kind::Read(attempt, _) => Some(attempt),
            _ => None,
        }
    }

    /// What is read.
    pub fn reads(&self) -> Option<&Read> {
        match &self.kind {
            Kind::Read(_, read) | Kind::ForwardedRead(_, read) => Some(read),
            _ => None,
        }
    }

    /// What is read.
    pub fn reads_mut(&mut self) -> Option<&mut Read> {
        match &mut self.kind {
            Kind::Read(_, read) | Kind::ForwardedRead(_, read) => Some(read),
            _ => None,
        }
    }

    /// Whether the local replica has it.
    pub fn is_local(&self) -> bool {
        self.attempt().is_none_or(|attempt| attempt.state == State::Local)
    }

    /// What its answer is counted against, of what somebody asked.
    pub fn charge(&self) -> Option<&Charge> {
        match &self.kind {
            Kind::Write(attempt, _) | Kind::Read(attempt, _) => Some(&attempt.charge),
            Kind::ForwardedWrite(asker, _) | Kind::ForwardedRead(asker, _) => Some(&asker.charge),
            Kind::Advance => None,
        }
    }

    /// Whether an earlier attempt of a write may have been run, so that no failure proves that nothing happened.
    pub fn is_in_doubt(&self) -> bool {
        matches!(&self.kind, Kind::Write(_, write) if write.in_doubt)
    }

    /// A write may have been run by who had it.
    pub fn doubt(&mut self) {
        if let Kind::Write(_, write) = &mut self.kind {
            write.in_doubt = true;
        }
    }

    /// Counts an answer that was not counted as it was read here: of a write, or of another node. One for which there is
    /// no room is not told.
    pub fn count_answer(&self, result: Result<Reply, Error>) -> Result<Reply, Error> {
        let bytes = result.as_ref().map_or(0, |reply| reply.answer.bytes());
        let was_counted = self.is_read() && self.is_local();
        let has_room = |charge: &Charge| charge.answer.try_add(bytes);
        if bytes == 0 || was_counted || self.charge().is_none_or(has_room) {
            return result;
        }
        Err(Error::no_room(self.is_read() || result.is_ok_and(|reply| reply.answer.is_unmet())))
    }

    /// What it is answered when it is given up now.
    pub fn verdict(&self) -> Error {
        let sent = self.attempt().is_none_or(|attempt| !matches!(attempt.state, State::Waiting(_)));
        if !self.is_read() && (self.is_in_doubt() || sent) && !mutant::is(Mutant::InDoubtToldAsFailed) {
            return Error::InDoubt(format!(
                "no answer from shard {} in time: the write may have happened or may yet happen; read the key, or \
                 send the same request again under its request id",
                self.shard
            ));
        }
        let attempt = self.attempt();
        if let Some(Error::Unavailable(why)) = attempt.and_then(|attempt| attempt.why.as_ref()) {
            return Error::Unavailable(why.clone());
        }
        let why = attempt.and_then(|attempt| attempt.unserved).unwrap_or("no node has answered in time");
        Error::Unavailable(format!(
            "shard {} is not served at present: {why}; check with 'capstan cluster status' that a majority of its nodes is \
             up, and try again",
            self.shard
        ))
    }
}

/// All that is open by token.
#[derive(Debug)]
pub(crate) struct OpenParts {
    /// Boxed: they are large, and the tree moves what it holds at each change.
    parts: BTreeMap<Token, Box<Open>>,
    bytes: usize,
    next: Token,
    parts_max: usize,
    bytes_max: usize,
}

impl OpenParts {
    /// None yet, at one of so many cores. The tokens of two lives of a node must not meet: what the first one forwarded may be
    /// answered to the second.
    pub fn new(seed: u64, cores: usize) -> OpenParts {
        let mut open =
            OpenParts { parts: BTreeMap::new(), bytes: 0, next: mix(seed) >> 1, parts_max: 0, bytes_max: 0 };
        open.share_with(cores);
        open
    }

    /// It is at one of so many cores from now on.
    pub fn share_with(&mut self, cores: usize) {
        self.parts_max = OPEN_MAX / cores;
        self.bytes_max = (OPEN_BYTES_MAX / cores).max(kv::OP_BYTES_MAX);
    }

    /// Whether one more of so many bytes would be too much.
    pub fn is_full(&self, bytes: usize) -> bool {
        self.parts.len() >= self.parts_max || self.bytes + bytes > self.bytes_max
    }

    pub fn insert(&mut self, open: Open) -> Token {
        self.next += 1;
        self.bytes += open.bytes;
        let before = self.parts.insert(self.next, Box::new(open));
        assert!(before.is_none(), "a token names one part in the life of a node");
        self.next
    }

    pub fn get(&self, token: Token) -> Option<&Open> {
        self.parts.get(&token).map(Box::as_ref)
    }

    pub fn get_mut(&mut self, token: Token) -> Option<&mut Open> {
        self.parts.get_mut(&token).map(Box::as_mut)
    }

    pub fn remove(&mut self, token: Token) -> Option<Open> {
        let open = *self.parts.remove(&token)?;
        assert!(self.bytes >= open.bytes, "what goes was counted when it came");
        self.bytes -= open.bytes;
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
    pub fn pick(&self, which: impl Fn(&Open) -> bool) -> Vec<Token> {
        self.parts.iter().filter(|(_, open)| which(open)).map(|(token, _)| *token).collect()
    }
}
