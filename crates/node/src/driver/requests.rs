//! Requests of clients and of other nodes: each part is served here, forwarded, or waits and is tried again.

use bytes::Bytes;
use kv::cluster::Role;
use kv::{Charge, Class, Error, Level, NodeId, Reply, ShardId, Stamped};
use replication::Token;

use super::{Driver, RETRY_MICROS, Work};
use crate::open::{Open, Origin, Part, State};
use crate::replica::Replica;
use crate::wire::Frame;

/// A part whose attempt is in doubt is tried again after this.
const RETRY_IN_DOUBT_MICROS: u64 = 100_000;
/// A forwarded part without an answer is forwarded again after this: frames may be lost with a connection.
const RESEND_MICROS: u64 = 1_000_000;
/// The shortest time a part is tried, however little its request allows.
const TIMEOUT_MICROS_MIN: u64 = 1_000;

impl Driver {
    pub(super) fn take_part(&mut self, client: u64, part: Part) {
        let Part { shard, op, level, id, timeout_micros, charge } = part;
        let class = op.class();
        let refuse = |driver: &mut Driver, why: &str| {
            let result = Err(Error::Unavailable(why.into()));
            driver.work.push(Work::Answer { client, result });
        };
        let Some(replica) = self.replicas.get_mut(&shard) else {
            return refuse(self, &format!("this node has no shard {shard}"));
        };
        if self.stopping {
            return refuse(self, "this node is stopping: ask another one");
        }
        if self.open.is_full(op.bytes()) {
            return refuse(
                self,
                "this node has too many open requests: send fewer at once, or to other nodes",
            );
        }
        let timeout_micros = timeout_micros.max(TIMEOUT_MICROS_MIN);
        let newest = self.clock.version().max(replica.last);
        let own_id =
            (class != Class::Read && id.is_none()).then(|| replica.sessions.next(newest, timeout_micros));
        let stamped = Stamped { id: id.or(own_id), op };
        let token = self.open.insert(Open {
            origin: Origin::Client(client),
            shard,
            class,
            stamped: stamped.encode(),
            op: (class == Class::Read).then_some(stamped.op),
            level: level.unwrap_or_default(),
            own_id,
            deadline: self.now.plus(timeout_micros),
            state: State::Waiting(self.now),
            in_doubt: false,
            why: None,
            fetched: None,
            hidden: false,
            counted: 0,
            charge,
        });
        self.dispatch(token);
    }

    pub(super) fn take_forward(
        &mut self,
        from: NodeId,
        token: u64,
        shard: ShardId,
        level: Level,
        millis: u64,
        op: Bytes,
    ) {
        let answer = |driver: &mut Driver, error: Error| {
            driver.send(from, &Frame::Answer { token, result: Err(error) });
        };
        let Ok(stamped) = Stamped::decode(&op) else {
            return answer(
                self,
                Error::Invalid("another version of capstan forwarded an op unknown here".into()),
            );
        };
        let leads = |replica: &Replica| replica.protocol.status().role == Role::Leader;
        if !self.replicas.get(&shard).is_some_and(leads) {
            return answer(self, Error::WrongNode { try_next: None });
        }
        if self.open.is_full(op.len()) {
            return answer(
                self,
                Error::Unavailable("the leading node has too many open requests: send fewer at once".into()),
            );
        }
        let class = stamped.op.class();
        let charge = Charge { answer: self.peers.answers(from).share(), ..Charge::default() };
        let token = self.open.insert(Open {
            origin: Origin::Peer(from, token),
            shard,
            class,
            stamped: op,
            op: (class == Class::Read).then_some(stamped.op),
            level,
            own_id: None,
            deadline: self.now.plus(millis.saturating_mul(1000)),
            state: State::Waiting(self.now),
            in_doubt: false,
            why: None,
            fetched: None,
            hidden: false,
            counted: 0,
            charge,
        });
        self.serve(token);
    }

    /// Serves a part here or forwards it, by who leads its shard.
    pub(crate) fn dispatch(&mut self, token: Token) {
        let Some(open) = self.open.get_mut(token) else { return };
        // Whoever has it may run it yet, wherever it goes next.
        open.in_doubt |= matches!(open.state, State::Forwarded(..));
        let Some(replica) = self.replicas.get(&open.shard) else { return };
        // What may be no older than now is only to be had from the leader.
        let stale = matches!(open.level, Level::Local | Level::Bounded(1..));
        let here = open.is_read() && stale && open.why.is_none();
        match replica.protocol.status().leader {
            _ if here => self.serve(token),
            Some(leader) if leader == self.config.me => self.serve(token),
            Some(leader) if self.peers.is_connected(leader) => self.forward(token, leader),
            _ => self.wait(token, RETRY_MICROS),
        }
    }

    /// Gives a part to the local replica.
    fn serve(&mut self, token: Token) {
        let full = self.full_disks();
        let Some(open) = self.open.get_mut(token) else { return };
        let Some(replica) = self.replicas.get_mut(&open.shard) else { return };
        (open.state, open.hidden) = (State::Local, false);
        if open.is_read() {
            let level = open.level;
            self.inputs.push_back((open.shard, replication::Input::Read { token, level }));
        } else if let Some(whose) = full {
            open.state = State::Waiting(self.now);
            let why = format!(
                "the disk of {whose} is full, or it is out of file descriptors: its journal says what to free; reads go on"
            );
            self.finish(token, Err(Error::Unavailable(why)));
        } else {
            replica.proposals.push((token, open.stamped.clone()));
        }
    }

    /// Whose full disks leave no majority that could take a write, if so. The leader's own must have room anyway: what it
    /// orders stays in its memory until it is written.
    pub(super) fn full_disks(&self) -> Option<&'static str> {
        let others = self.peers.ids().filter(|id| self.peers.has_full_disk(*id)).count();
        match self.config.nodes.len() - others < self.config.majority() as usize {
            _ if self.disk_full => Some("the leading node"),
            true => Some("too many nodes"),
            false => None,
        }
    }

    fn forward(&mut self, token: Token, to: NodeId) {
        let Some(open) = self.open.get_mut(token) else { return };
        open.state = State::Forwarded(to, self.now);
        let millis = open.deadline.since(self.now) / 1000;
        let (shard, level, op) = (open.shard, open.level, open.stamped.clone());
        self.send(to, &Frame::Forward { token, shard, level, millis, op });
    }

    /// Puts a part aside until something may have changed.
    pub(crate) fn wait(&mut self, token: Token, micros: u64) {
        let at = self.now.plus(micros);
        let Some(open) = self.open.get_mut(token) else { return };
        open.state = State::Waiting(at);
        if let Some(replica) = self.replicas.get_mut(&open.shard) {
            replica.waiting.push(token);
        }
    }

    /// Tries the parts that wait and whose time to be tried has come.
    pub(super) fn retry_waiting(&mut self) {
        let due = |driver: &Driver, token: &Token| match driver.open.get(*token).map(|open| open.state) {
            Some(State::Waiting(at)) => at <= driver.now,
            _ => true,
        };
        let shards: Vec<ShardId> = self
            .replicas
            .values()
            .filter(|replica| !replica.waiting.is_empty())
            .map(|replica| replica.shard)
            .collect();
        for shard in shards {
            let Some(replica) = self.replicas.get_mut(&shard) else { continue };
            let waiting = std::mem::take(&mut replica.waiting);
            let (due, later): (Vec<Token>, Vec<Token>) =
                waiting.into_iter().partition(|token| due(self, token));
            if let Some(replica) = self.replicas.get_mut(&shard) {
                replica.waiting = later;
            }
            let is_waiting = |open: &Open| matches!(open.state, State::Waiting(_));
            for token in due {
                if self.open.get(token).is_some_and(is_waiting) {
                    self.dispatch(token);
                }
            }
        }
    }

    /// An attempt of a part ended without its result: another one, or the end.
    pub(crate) fn turned_away(&mut self, token: Token, error: Error) {
        let Some(open) = self.open.get_mut(token) else { return };
        if open.origin == Origin::Advance {
            return self.advance_failed(token);
        }
        let from_client = matches!(open.origin, Origin::Client(_));
        let error = match error {
            // Nothing happened here, and the node that forwarded it tries the next leader.
            Error::Unavailable(_) if !from_client => Error::WrongNode { try_next: None },
            error => error,
        };
        let micros = match &error {
            Error::InDoubt(_) => {
                open.in_doubt = true;
                RETRY_IN_DOUBT_MICROS
            }
            _ => RETRY_MICROS,
        };
        open.why = Some(error.clone());
        if from_client { self.wait(token, micros) } else { self.finish(token, Err(error)) }
    }

    /// Answers a part and forgets it.
    pub(crate) fn finish(&mut self, token: Token, result: Result<Reply, Error>) {
        let Some(open) = self.open.remove(token) else { return };
        let result = match result {
            // An earlier attempt may have been run, so this failure is no proof that nothing happened.
            Err(error) if open.in_doubt && !open.is_read() && matches!(error, Error::Unavailable(_)) => {
                Err(open.verdict())
            }
            result => open.count_answer(result),
        };
        if let (Some(id), Some(replica)) = (&open.own_id, self.replicas.get_mut(&open.shard)) {
            replica.sessions.close(id);
        }
        match open.origin {
            Origin::Client(client) => self.work.push(Work::Answer { client, result }),
            Origin::Peer(node, token) => {
                let frame = Frame::Answer { token, result }.encode();
                // Until it has left, it counts.
                let frame = open.charge.answer.keep_with(frame);
                self.work.push(Work::Send { to: node, frame });
            }
            Origin::Advance | Origin::Rejoiner(_) => {}
        }
    }

    /// Gives up the parts whose time is up; sends again what was forwarded and not answered.
    pub(super) fn sweep(&mut self) {
        let now = self.now;
        for token in self.open.pick(|open| open.deadline <= now) {
            let Some(open) = self.open.get(token) else { continue };
            let (shard, state, verdict) = (open.shard, open.state, open.verdict());
            let is_advance = open.origin == Origin::Advance;
            if state == State::Local {
                self.inputs.push_back((shard, replication::Input::Forget { token }));
            }
            if is_advance {
                self.advance_failed(token);
            } else {
                self.finish(token, Err(verdict));
            }
        }
        let stale =
            |open: &Open| matches!(open.state, State::Forwarded(_, at) if now.since(at) >= RESEND_MICROS);
        for token in self.open.pick(stale) {
            self.dispatch(token);
        }
        self.settle();
    }
}
