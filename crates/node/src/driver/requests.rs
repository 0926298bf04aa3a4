//! Requests of clients and of other nodes: each part is served here, forwarded, or waits and is tried again.

use bytes::Bytes;
use kv::{Class, Error, Level, NodeId, Protocol, Reply, RequestId, ShardId, Stamped};
use mutant::Mutant;
use replication::{Input, Route, Token};

use super::Work;
use super::core::Core;
use super::open::{Asker, Attempt, Client, Kind, Open, Part, Read, State, Write};
use super::replica::Replica;
use super::split::{Asked, asked};
use crate::node::Node;
use crate::session::{Sessions, mix};
use crate::wire::Frame;

/// A part whose attempt was turned away is tried again after this: long enough for news of a leader to arrive.
pub(super) const RETRY_MICROS: u64 = 20_000;
/// A part whose attempt is in doubt is tried again after this.
const RETRY_IN_DOUBT_MICROS: u64 = 100_000;
/// A forwarded part without an answer is forwarded again after this: frames may be lost with a connection.
const RESEND_MICROS: u64 = 1_000_000;
/// The shortest time a part is tried, however little its request allows.
const TIMEOUT_MICROS_MIN: u64 = 1_000;

impl Core {
    pub fn take_part(&mut self, node: &Node, client: Client, part: Part) {
        let is_own_asked = matches!(client, Client::Astray(..));
        assert!(is_own_asked || !part.op.is_own(), "an op of the store's own comes from no client");
        if node.stopping {
            return self.answer(client, Err(part.refusal("this node is stopping: ask another one")));
        }
        if self.open.is_full(part.op.bytes()) {
            let why = "this node has too many open requests: send fewer at once, or to other nodes";
            return self.answer(client, Err(part.refusal(why)));
        }
        let is_write = part.op.class() != Class::Read;
        if part.in_doubt && is_write && self.may_be_forgotten(node, part.shard) {
            return self.answer(client, Err(run_before()));
        }
        let Part { shard, op, level, id, timeout_micros, charge, in_doubt, here } = part;
        let timeout_micros = timeout_micros.max(TIMEOUT_MICROS_MIN);
        let deadline = node.now.plus(timeout_micros);
        let attempt = |stamped: &Stamped| Attempt::new(client, stamped.encode(), node.now, charge, here);
        let open = if op.class() == Class::Read {
            let stamped = Stamped { id, op };
            let attempt = attempt(&stamped);
            let level = level.unwrap_or_else(|| usual_level(node, shard));
            Open::read(shard, deadline, attempt, Read::new(stamped.op, level))
        } else {
            let class = op.class();
            // What the directory asks holds in one revision of its rows, and what is brought to a ledger counts once: it happens once
            // without being remembered, and must not be refused because too much is.
            let is_once = matches!(client, Client::Directory(_) | Client::Astray(..));
            let own_id = (id.is_none() && !is_once).then(|| self.own_id(node, shard, timeout_micros));
            let attempt = attempt(&Stamped { id: id.or(own_id), op });
            Open::write(shard, deadline, attempt, Write { in_doubt, ..Write::new(class, own_id) })
        };
        let token = self.open.insert(open);
        self.dispatch(node, token);
    }

    /// An id for a request that came without one.
    fn own_id(&mut self, node: &Node, shard: ShardId, timeout_micros: u64) -> RequestId {
        let own = self.replicas.get(&shard).map(|replica| replica.last);
        let newest = own.unwrap_or(self.newest).micros().max(node.clock.micros());
        let seed = || mix(node.config.seed.wrapping_add(u64::from(shard.0) << 32));
        let sessions = self.sessions.entry(shard).or_insert_with(|| Sessions::new(seed()));
        sessions.next(newest, timeout_micros)
    }

    pub fn take_forward(
        &mut self,
        node: &Node,
        asker: Asker,
        shard: ShardId,
        level: Level,
        (millis, again): (u64, bool),
        op: Bytes,
    ) {
        assert_ne!(asker.node, node.config.me, "what a node asks of itself it does not forward");
        let answer = |core: &mut Core, error: Error| {
            core.send(asker.node, &Frame::Answer { token: asker.token, shard, result: Err(error) });
        };
        let Ok(stamped) = Stamped::decode(&op) else {
            return answer(
                self,
                Error::Invalid("another version of capstan forwarded an op unknown here".into()),
            );
        };
        let class = stamped.op.class();
        if !self.replicas.get(&shard).is_some_and(|replica| replica.serves(class)) {
            return answer(self, Error::WrongNode { try_next: None });
        }
        if again && class != Class::Read && !self.remembers(shard, &op) {
            return answer(self, run_before());
        }
        if self.open.is_full(op.len()) {
            return answer(
                self,
                Error::Unavailable("the leading node has too many open requests: send fewer at once".into()),
            );
        }
        let deadline = node.now.plus(millis.saturating_mul(1000));
        let open = if class == Class::Read {
            // What may be stale its own node would have served, if it could: it wants more, whatever the level.
            let ensured = strongest_here(&self.replicas[&shard], level);
            let read = Read { ensured, ..Read::new(stamped.op, level) };
            Open::forwarded_read(shard, deadline, asker, read, op.len())
        } else {
            Open::forwarded_write(shard, deadline, asker, op)
        };
        let token = self.open.insert(open);
        self.serve(node, token);
    }

    /// Serves a client's part here or forwards it, as the shard's protocol says.
    fn dispatch(&mut self, node: &Node, token: Token) {
        let Some(open) = self.open.get_mut(token) else { return };
        let attempt = open.attempt().expect("only what a client asks is tried again");
        if matches!(attempt.state, State::Forwarded(..)) && !mutant::is(Mutant::ReroutedWriteNotInDoubt) {
            // Whoever has it may run it yet, wherever it goes next.
            open.doubt();
        }
        match asked(&node.config.map, open.shard) {
            Asked::Elsewhere => return self.replan(node, token),
            Asked::Later => return self.wait(node, token, RETRY_MICROS),
            Asked::There => {}
        }
        let is_here = self.open.get(token).is_some_and(|open| self.replicas.contains_key(&open.shard));
        if self.is_run_once(node, token, is_here) {
            return;
        }
        let Some(open) = self.open.get_mut(token) else { return };
        let left_out = open.reads().is_some_and(|read| read.hidden);
        let is_here_only = open.attempt().is_some_and(|attempt| attempt.here);
        let (class, level) = if left_out { (Class::Blind, Level::Linearizable) } else { open.wants() };
        let replica = self.replicas.get(&open.shard);
        if let (Some(replica), Some(read), true) = (replica, open.reads_mut(), is_here_only) {
            read.ensured = strongest_here(replica, read.level);
        }
        let route = match replica {
            Some(replica) if !replica.later.is_over() => replica.protocol.route(class, level),
            _ if is_here_only => return self.finish(token, Err(Error::WrongNode { try_next: None })),
            _ => route_elsewhere(node, open),
        };
        let why = match route {
            Route::Here => return self.serve(node, token),
            Route::To(_) if is_here_only && class == Class::Read => {
                "the replica here may not answer at present"
            }
            Route::To(_) if is_here_only => {
                return self.finish(token, Err(Error::WrongNode { try_next: None }));
            }
            Route::To(other) if node.peers.is_connected(other) => return self.forward(node, token, other),
            Route::To(_) => "the node that serves it cannot be reached from this one",
            Route::Nobody(why) => why,
        };
        open.attempt_mut().expect("only what a client asks waits").unserved = Some(why);
        self.wait(node, token, RETRY_MICROS);
    }

    /// Where writes have no order, the node that took one knows alone whether it was run: it is asked again, or nobody is.
    fn is_run_once(&mut self, node: &Node, token: Token, is_here: bool) -> bool {
        let Some(open) = self.open.get(token) else { return true };
        let (shard, attempt) = (open.shard, open.attempt());
        let map = &node.config.map;
        let protocol = map.shards.get(&shard).map(|row| row.protocol);
        let protocol = protocol.or_else(|| map.row_of_part(shard).map(|row| row.protocol));
        if !open.is_in_doubt() || !protocol.is_some_and(Protocol::is_merged) {
            return false;
        }
        if is_here && attempt.is_some_and(|attempt| self.remembers(shard, &attempt.stamped)) {
            return false;
        }
        match attempt.map(|attempt| attempt.state) {
            Some(State::Forwarded(to, _)) if node.peers.is_connected(to) => self.forward(node, token, to),
            _ => self.finish(token, Err(run_before())),
        }
        true
    }

    /// Whether a write that may have been run before happens once if the replica here gets it.
    fn remembers(&self, shard: ShardId, stamped: &Bytes) -> bool {
        let id = Stamped::decode(stamped).ok().and_then(|stamped| stamped.id);
        let replica = self.replicas.get(&shard);
        let remembers = |id| replica.is_some_and(|replica| replica.protocol.remembers(&id));
        id.is_some_and(remembers) || mutant::is(Mutant::RetryElsewhereRunAgain)
    }

    /// Gives a part to the local replica.
    fn serve(&mut self, node: &Node, token: Token) {
        let Some(open) = self.open.get_mut(token) else { return };
        let shard = open.shard;
        if let Some(attempt) = open.attempt_mut() {
            attempt.state = State::Local;
        }
        if let Some(read) = open.reads_mut() {
            read.hidden = false;
            // Others than that answer from their own table.
            if self.replicas[&shard].kind != Protocol::Quorum {
                let input = read.input(token);
                return self.give(shard, input);
            }
            let why = kv::merged::refusal(Protocol::Quorum, &read.op)
                .unwrap_or("there is nothing of that where writes have no order");
            return match read.gather(token) {
                Some(read) => self.gather(shard, read),
                None => self.finish(token, Err(Error::Invalid(why.into()))),
            };
        }
        let op = match &open.kind {
            Kind::Write(attempt, _) => attempt.stamped.clone(),
            Kind::ForwardedWrite(_, stamped) => stamped.clone(),
            other => unreachable!("{other:?} is no request"),
        };
        if let Some(whose) = node.full_disks(self.replicas[&shard].view()) {
            let why = format!(
                "the disk of {whose} is full, or it is out of file descriptors: its journal says what to free; reads go on"
            );
            return self.finish(token, Err(Error::Unavailable(why)));
        }
        if self.replicas[&shard].lacks_rules() {
            self.order_rules_of(node, shard);
        }
        self.propose(shard, token, op);
        tracing::trace!("a write is given to its replica");
    }

    fn forward(&mut self, node: &Node, token: Token, to: NodeId) {
        assert_ne!(to, node.config.me, "what is led here is served here");
        let Some(open) = self.open.get_mut(token) else { return };
        let millis = open.deadline.since(node.now) / 1000;
        let level = open.reads().map_or_else(Level::default, |read| read.level);
        let shard = open.shard;
        let attempt = open.attempt_mut().expect("only what a client asks is forwarded");
        attempt.state = State::Forwarded(to, node.now);
        let op = attempt.stamped.clone();
        let again = open.is_in_doubt();
        self.send(to, &Frame::Forward { token, shard, level, millis, again, op });
    }

    /// Puts a client's part aside until something may have changed.
    fn wait(&mut self, node: &Node, token: Token, micros: u64) {
        let Some(open) = self.open.get_mut(token) else { return };
        let shard = open.shard;
        let attempt = open.attempt_mut().expect("only what a client asks waits");
        attempt.state = State::Waiting(node.now.plus(micros));
        self.waiting.entry(shard).or_default().push(token);
    }

    /// Tries the parts that wait and whose time to be tried has come.
    pub fn retry_waiting(&mut self, node: &Node) {
        let waits = |core: &Core, token: Token| match core.open.get(token)?.attempt()?.state {
            State::Waiting(at) => Some(at),
            _ => None,
        };
        for (shard, waiting) in std::mem::take(&mut self.waiting) {
            let is_later = |token: &Token| waits(self, *token).is_some_and(|at| at > node.now);
            let (later, due): (Vec<Token>, Vec<Token>) = waiting.into_iter().partition(is_later);
            if !later.is_empty() {
                self.waiting.insert(shard, later);
            }
            for token in due {
                // One that waits twice is tried once.
                if waits(self, token).is_some() {
                    self.dispatch(node, token);
                }
            }
        }
    }

    /// An attempt of a part ended without its result: another one, or the end.
    pub fn turned_away(&mut self, node: &Node, token: Token, error: Error) {
        let Some(open) = self.open.get_mut(token) else { return };
        let is_doubt = matches!(error, Error::InDoubt(_));
        if open.is_advance() {
            return self.advance_failed(node, token);
        }
        let Some(attempt) = open.attempt_mut() else {
            let error = match error {
                // Nothing happened here, and the node that forwarded it tries the next leader.
                Error::Unavailable(_) => Error::WrongNode { try_next: None },
                error => error,
            };
            return self.finish(token, Err(error));
        };
        attempt.why = Some(error);
        if is_doubt {
            open.doubt();
        }
        self.wait(node, token, if is_doubt { RETRY_IN_DOUBT_MICROS } else { RETRY_MICROS });
    }

    /// Answers a part and forgets it. It may have been answered before: what was given up may yet happen.
    pub fn finish(&mut self, token: Token, result: Result<Reply, Error>) {
        let Some(open) = self.open.remove(token) else { return };
        let result = match result {
            // An earlier attempt may have been run, so this failure is no proof that nothing happened.
            Err(error)
                if open.is_in_doubt() && matches!(error, Error::Unavailable(_) | Error::WrongNode { .. }) =>
            {
                Err(open.verdict())
            }
            result => open.count_answer(result),
        };
        if let Kind::Write(_, write) = &open.kind
            && let (Some(id), Some(sessions)) = (&write.own_id, self.sessions.get_mut(&open.shard))
        {
            sessions.close(id);
        }
        match open.kind {
            Kind::Write(attempt, _) | Kind::Read(attempt, _) => {
                self.answer(attempt.client, result);
            }
            Kind::ForwardedWrite(asker, _) | Kind::ForwardedRead(asker, _) => {
                let frame = Frame::Answer { token: asker.token, shard: open.shard, result }.encode();
                // Until it has left, it counts.
                let frame = asker.charge.answer.keep_with(frame);
                self.work.push(Work::Send { to: asker.node, frame, is_response: true });
            }
            Kind::Advance => unreachable!("an advance ends with its readers"),
        }
    }

    /// Answers who asked here.
    fn answer(&mut self, client: Client, result: Result<Reply, Error>) {
        match client {
            Client::Owner(client) => self.work.push(Work::Answer { client, result }),
            Client::Directory(number) => self.directory_answers.push((number, result)),
            Client::Astray(shard, number) => self.astray_answers.push((shard, number, result)),
        }
    }

    /// Gives up the parts whose time is up; sends again what was forwarded and not answered.
    pub fn give_up_overdue(&mut self, node: &Node) {
        for token in self.open.pick(|open| open.deadline <= node.now) {
            let Some(open) = self.open.get(token) else { continue };
            let (shard, is_advance, verdict) = (open.shard, open.is_advance(), open.verdict());
            if open.is_local() {
                self.give(shard, Input::Forget { token });
            }
            if is_advance {
                self.advance_failed(node, token);
            } else {
                self.finish(token, Err(verdict));
            }
        }
        let is_stale =
            |state: State| matches!(state, State::Forwarded(_, at) if node.now.since(at) >= RESEND_MICROS);
        for token in self.open.pick(|open| open.attempt().is_some_and(|attempt| is_stale(attempt.state))) {
            self.dispatch(node, token);
        }
    }
}

/// Whether a write happened that was sent before: where writes have no order nobody can tell but the one that took it, while it runs.
pub(super) fn run_before() -> Error {
    let why = "the write may have happened when it was sent before, and where writes have no order nobody else can tell: read to see what is \
               there before you write again";
    Error::InDoubt(why.into())
}

/// How fresh a read is that does not say it: as fresh as the shard can answer it.
fn usual_level(node: &Node, shard: ShardId) -> Level {
    let map = &node.config.map;
    let row = map.shards.get(&shard).cloned().or_else(|| map.row_of_part(shard));
    match row.is_some_and(|row| row.protocol == Protocol::Broadcast) {
        true => Level::Local,
        false => Level::default(),
    }
}

/// What a replica makes sure of for a read of which nobody else is asked: it is as old as its level allows only where it cannot be fresh.
fn strongest_here(replica: &Replica, level: Level) -> Level {
    if replica.kind == Protocol::Broadcast {
        return level;
    }
    match replica.protocol.route(Class::Read, Level::Linearizable) {
        Route::Here => Level::Linearizable,
        Route::To(_) | Route::Nobody(_) => level,
    }
}

/// Where a part of a shard is tried that has no replica here: first where it is led, as far as announcements tell, then at the
/// others that the map names, one after the other.
fn route_elsewhere(node: &Node, open: &mut Open) -> Route {
    let shard = open.shard;
    let leader = node.peers.leader(shard, node.now);
    let others = node.config.seats(shard).filter(|other| Some(*other) != leader);
    let all: Vec<NodeId> = leader.into_iter().chain(others).collect();
    let connected: Vec<NodeId> = all.into_iter().filter(|other| node.peers.is_connected(*other)).collect();
    let attempt = open.attempt_mut().expect("only what a client asks goes elsewhere");
    let turn = attempt.turns;
    attempt.turns += 1;
    match connected.get(turn % connected.len().max(1)) {
        Some(other) => Route::To(*other),
        None => Route::Nobody("none of the nodes that have a replica can be reached from this one"),
    }
}
