//! The driver: one turn of a node.
//!
//! A turn reads the clock once, takes its inputs, and ends when every replica has been given what follows from them. It
//! waits for nothing. What it hands out is to be carried out in order, per kind of work.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kv::cluster::{Liveness, Role, Status};
use kv::{Class, Epoch, Error, Level, NodeId, Op, Reply, ShardId, Stamped, Version};
use mutant::Mutant;
use replication::{Instant, Token};
use storage::{Applied, ShardSnapshot};

use crate::clock::{Now, VersionClock};
use crate::install::SnapshotPart;
use crate::job::{Done, Job};
use crate::open::{Open, OpenParts, Origin, Part, State};
use crate::peers::{ANNOUNCE_MICROS, Peers};
use crate::recovery::{Recovery, RecoveryError, generation_record};
use crate::replica::Replica;
use crate::session::mix;
use crate::wire::{Announced, Announcement, Frame};
use crate::{Config, recovery};

/// A part whose attempt was turned away is tried again after this: long enough for news of a leader to arrive.
const RETRY_MICROS: u64 = 20_000;
/// A part whose attempt is in doubt is tried again after this.
const RETRY_IN_DOUBT_MICROS: u64 = 100_000;
/// A forwarded part without an answer is forwarded again after this: frames may be lost with a connection.
const RESEND_MICROS: u64 = 1_000_000;
/// All replicas are told the time at least so often: a fifth of a protocol's tick.
const TICK_MICROS: u64 = 10_000;
/// How often parts are looked through for those whose time is up.
const SWEEP_MICROS: u64 = 20_000;
/// A leadership is offered to its preferred node at most so often: an offer to a node that is just being brought up to date
/// comes to nothing, and writes wait while one is under way.
const BALANCE_MICROS: u64 = 3_000_000;
/// A follower this far behind (in entries) is not offered a leadership.
const BALANCE_LAG_MAX: u64 = 1_000;
/// The shortest time a part is tried, however little its request allows.
const TIMEOUT_MICROS_MIN: u64 = 1_000;

/// What happens to a node.
pub enum Input {
    /// A client asks. Ends in [`Work::Answer`] with the same name.
    Part {
        /// The owner's name for it.
        client: u64,
        /// What is asked.
        part: Part,
    },
    /// A frame of another node came in.
    Frame {
        /// The node.
        from: NodeId,
        /// [`Frame`] bytes.
        bytes: Bytes,
    },
    /// The connection to a node stands: what is sent from now on arrives in order or not at all.
    PeerUp {
        /// The node.
        node: NodeId,
    },
    /// The connection to a node broke.
    PeerDown {
        /// The node.
        node: NodeId,
    },
    /// All appends up to this ticket are synced.
    Durable {
        /// A ticket of [`Work::Append`].
        ticket: u64,
    },
    /// A job is done.
    Done(Done),
    /// The disk has no room for new work, or has again.
    DiskFull(bool),
    /// A piece of a snapshot came in. Answered by [`Work::SnapshotTaken`].
    Snapshot {
        /// The owner's name for the stream.
        stream: u64,
        /// The node that sends it.
        from: NodeId,
        /// Its shard.
        shard: ShardId,
        /// The piece.
        part: SnapshotPart,
    },
    /// The snapshot of [`Work::SendSnapshot`] arrived there, or not.
    SnapshotSent {
        /// Its shard.
        shard: ShardId,
        /// The node.
        to: NodeId,
        /// Whether it arrived and was taken.
        arrived: bool,
    },
    /// The log has grown: write what must be kept at its head. Ends in [`Work::Release`] or [`Work::CheckpointFailed`].
    Checkpoint,
    /// Hand leaderships over, take no new work.
    Stop,
}

/// What a node wants done.
pub enum Work {
    /// Append these records to the log in one batch and sync it.
    Append {
        /// Rises by one per append, from 1.
        ticket: u64,
        /// The records.
        records: Vec<wal::Record>,
        /// A checkpoint begins with this append: segments wholly before it go at the next [`Work::Release`].
        checkpoint: bool,
    },
    /// Send a frame to a node; drop it when there is no connection.
    Send {
        /// The node.
        to: NodeId,
        /// [`Frame`] bytes.
        frame: Bytes,
    },
    /// Run a job on the table.
    Run(Job),
    /// Answer a client.
    Answer {
        /// Its name.
        client: u64,
        /// The result.
        result: Result<Reply, Error>,
    },
    /// Send a snapshot to a node over the bulk connection, then give [`Input::SnapshotSent`].
    SendSnapshot {
        /// Its shard.
        shard: ShardId,
        /// The node.
        to: NodeId,
        /// For [`SnapshotPart::Begin`].
        header: Bytes,
        /// The rows.
        snapshot: Box<ShardSnapshot>,
    },
    /// A piece of an incoming snapshot is taken: send the next one, or stop.
    SnapshotTaken {
        /// The owner's name for the stream.
        stream: u64,
        /// Whether to go on (or, after its end, whether it is in use now).
        taken: bool,
    },
    /// The last checkpoint is complete.
    Release,
    /// The last checkpoint could not be completed (the disk is full): try another one later.
    CheckpointFailed,
    /// The node came back with nothing and is whole again: the next start is like any other.
    Rejoined,
}

/// All that a node does to its shards.
pub struct Driver {
    pub(crate) config: Config,
    pub(crate) clock: VersionClock,
    pub(crate) now: Instant,
    pub(crate) peers: Peers,
    pub(crate) replicas: BTreeMap<ShardId, Replica>,
    pub(crate) open: OpenParts,
    /// What is still to be given to replicas in this turn.
    pub(crate) inputs: VecDeque<(ShardId, replication::Input)>,
    pub(crate) work: Vec<Work>,
    /// Appends on their way: node ticket, shard, the replica's own ticket.
    pub(crate) appends: VecDeque<(u64, ShardId, u64)>,
    pub(crate) next_ticket: u64,
    pub(crate) flushes: BTreeMap<u64, Flush>,
    pub(crate) next_flush: u64,
    checkpoint: Option<Checkpoint>,
    tick_at: Instant,
    announce_at: Instant,
    sweep_at: Instant,
    disk_full: bool,
    stopping: bool,
    /// While this node is rejoining: how far each shard goes, once a leader has told.
    pub(crate) rejoin: BTreeMap<ShardId, Option<u64>>,
}

/// What a flush of the table is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flush {
    Checkpoint,
    /// Of what came in on this stream.
    Install(ShardId, u64),
}

#[derive(Clone, Copy, Debug)]
struct Checkpoint {
    ticket: u64,
    durable: bool,
    flushed: bool,
}

impl Driver {
    /// A node with what the log and the table have kept of it.
    pub fn new(
        config: Config,
        mut recovery: Recovery,
        applied: &BTreeMap<ShardId, Applied>,
        now: Now,
    ) -> Result<Driver, RecoveryError> {
        let mut replicas = BTreeMap::new();
        for &(shard, _) in config.map.shards() {
            let applied = applied.get(&shard).copied().unwrap_or_default();
            let generation = recovery.generation(shard);
            let protocol = recovery.replica(&config, shard, applied)?;
            let seed = mix(config.seed.wrapping_add(u64::from(shard.0) << 32));
            replicas.insert(shard, Replica::new(shard, protocol, generation, applied.last, seed));
        }
        let last = applied.values().map(|applied| applied.last).max().unwrap_or_default();
        let others = config.nodes.iter().filter(|(id, _)| *id != config.me).cloned();
        let mut driver = Driver {
            clock: VersionClock::new(config.me, config.nodes.len(), last, now),
            now: now.instant,
            peers: Peers::new(others),
            replicas,
            open: OpenParts::new(config.seed),
            inputs: VecDeque::new(),
            work: Vec::new(),
            appends: VecDeque::new(),
            next_ticket: 0,
            flushes: BTreeMap::new(),
            next_flush: 0,
            checkpoint: None,
            tick_at: now.instant,
            announce_at: now.instant,
            sweep_at: now.instant,
            disk_full: false,
            stopping: false,
            rejoin: BTreeMap::new(),
            config,
        };
        driver.forget_leftovers();
        driver.begin_rejoin();
        Ok(driver)
    }

    /// One turn: takes all `inputs`, adds what is to be done to `work`.
    pub fn turn(&mut self, now: Now, inputs: &mut Vec<Input>, work: &mut Vec<Work>) {
        self.now = now.instant;
        self.clock.advance(now);
        self.tick();
        for input in inputs.drain(..) {
            self.take(input);
            self.settle();
        }
        self.retry_waiting();
        self.propose();
        self.settle();
        work.append(&mut self.work);
    }

    /// The version clock, in microseconds since 1970.
    pub fn clock_micros(&self) -> u64 {
        self.clock.micros()
    }

    /// How many shards this node leads.
    pub fn leads(&self) -> usize {
        self.replicas.values().filter(|replica| replica.protocol.status().role == Role::Leader).count()
    }

    /// Whether a stop need not wait for leaderships any more: none is held that another node could take.
    pub fn has_handed_over(&self) -> bool {
        self.leads() == 0 || self.peers.ids().all(|id| self.peers.liveness(id, self.now) == Liveness::Dead)
    }

    /// How many parts of requests are open.
    pub fn open_parts(&self) -> usize {
        self.open.len()
    }

    /// How a replica is.
    pub fn replica_status(&self, shard: ShardId) -> Option<replication::Status> {
        self.replicas.get(&shard).map(|replica| replica.protocol.status())
    }

    fn tick(&mut self) {
        let now = self.now;
        if now >= self.tick_at {
            self.tick_at = now.plus(TICK_MICROS);
            let mut outputs = Vec::new();
            for shard in self.config.map.shards().iter().map(|(shard, _)| *shard).collect::<Vec<_>>() {
                self.tick_replica(shard, &mut outputs);
            }
            self.settle();
        }
        if now >= self.announce_at {
            self.announce_at = now.plus(ANNOUNCE_MICROS);
            self.announce();
            self.balance();
            self.end_rejoin();
        }
        if now >= self.sweep_at {
            self.sweep_at = now.plus(SWEEP_MICROS);
            self.sweep();
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Part { client, part } => self.take_part(client, part),
            Input::Frame { from, bytes } => self.take_frame(from, &bytes),
            Input::PeerUp { node } => self.peer_up(node),
            Input::PeerDown { node } => self.peer_down(node),
            Input::Durable { ticket } => self.durable(ticket),
            Input::Done(done) => self.done(done),
            Input::DiskFull(full) => {
                self.disk_full = full;
                // A leader whose majority has no room must not wait for it.
                self.announce();
            }
            Input::Snapshot { stream, from, shard, part } => self.take_snapshot(stream, from, shard, part),
            Input::SnapshotSent { shard, to, arrived } => {
                self.inputs.push_back((shard, replication::Input::SnapshotSent { to, arrived }));
            }
            Input::Checkpoint => self.begin_checkpoint(),
            Input::Stop => {
                self.stopping = true;
                self.hand_over();
            }
        }
    }

    /// Gives replicas their inputs until none is left.
    fn settle(&mut self) {
        let mut outputs = Vec::new();
        while let Some((shard, input)) = self.inputs.pop_front() {
            self.tick_replica(shard, &mut outputs);
            let Some(replica) = self.replicas.get_mut(&shard) else { continue };
            replica.protocol.step(input, &mut outputs);
            for output in outputs.drain(..) {
                self.output(shard, output);
            }
        }
    }

    /// Tells a replica the time, once a turn and before anything else: those that nothing happens to need it seldom.
    fn tick_replica(&mut self, shard: ShardId, outputs: &mut Vec<replication::Output>) {
        let (now, clock) = (self.now, self.clock.version());
        let Some(replica) = self.replicas.get_mut(&shard).filter(|replica| replica.ticked != Some(now))
        else {
            return;
        };
        replica.ticked = Some(now);
        // A proposed version behind the shard's newest would be moved past it one by one.
        let clock = clock.max(Version::new(replica.last.micros(), clock.node()));
        replica.protocol.step(replication::Input::Tick { now, clock }, outputs);
        for output in outputs.drain(..) {
            self.output(shard, output);
        }
    }

    /// What the turn collected for each replica becomes one input.
    fn propose(&mut self) {
        for replica in self.replicas.values_mut().filter(|replica| !replica.proposals.is_empty()) {
            let ops = std::mem::take(&mut replica.proposals);
            self.inputs.push_back((replica.shard, replication::Input::Propose { ops }));
        }
    }

    // --- requests -----------------------------------------------------------------------------------------------

    fn take_part(&mut self, client: u64, part: Part) {
        let Part { shard, op, level, id, timeout_micros } = part;
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
            counted: 0,
        });
        self.dispatch(token);
    }

    fn take_forward(
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
            counted: 0,
        });
        self.serve(token);
    }

    /// Serves a part here or forwards it, by who leads its shard.
    pub(crate) fn dispatch(&mut self, token: Token) {
        let Some(open) = self.open.get_mut(token) else { return };
        // Whoever has it may run it yet, wherever it goes next.
        open.in_doubt |= matches!(open.state, State::Forwarded(..));
        let Some(replica) = self.replicas.get(&open.shard) else { return };
        let here =
            open.is_read() && matches!(open.level, Level::Local | Level::Bounded(_)) && open.why.is_none();
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
        open.state = State::Local;
        if open.is_read() {
            let level = open.level;
            self.inputs.push_back((open.shard, replication::Input::Read { token, level }));
        } else if let Some(whose) = full {
            open.state = State::Waiting(self.now);
            let why = format!(
                "the disk of {whose} is full: free space on the disk of the data folder; reads go on"
            );
            self.finish(token, Err(Error::Unavailable(why)));
        } else {
            replica.proposals.push((token, open.stamped.clone()));
        }
    }

    /// Whose full disks leave no majority that could take a write, if so. The leader's own must have room anyway: what it
    /// orders stays in its memory until it is written.
    fn full_disks(&self) -> Option<&'static str> {
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
    fn retry_waiting(&mut self) {
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
            result => result,
        };
        if let (Some(id), Some(replica)) = (&open.own_id, self.replicas.get_mut(&open.shard)) {
            replica.sessions.close(id);
        }
        match open.origin {
            Origin::Client(client) => self.work.push(Work::Answer { client, result }),
            Origin::Peer(node, token) => self.send(node, &Frame::Answer { token, result }),
            Origin::Advance | Origin::Rejoiner(_) => {}
        }
    }

    /// Gives up the parts whose time is up; sends again what was forwarded and not answered.
    fn sweep(&mut self) {
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

    // --- other nodes --------------------------------------------------------------------------------------------

    pub(crate) fn send(&mut self, to: NodeId, frame: &Frame) {
        self.work.push(Work::Send { to, frame: frame.encode() });
    }

    fn take_frame(&mut self, from: NodeId, bytes: &Bytes) {
        if !self.peers.contains(from) {
            return;
        }
        self.peers.hear(from, self.now);
        let frame = match Frame::decode(bytes) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::warn!(node = %from, %error, "dropped a frame that cannot be understood: is it another version?");
                return;
            }
        };
        match frame {
            Frame::Protocol { shard, epoch, body } if epoch == EPOCH => {
                self.inputs.push_back((shard, replication::Input::Message { from, body }));
            }
            Frame::Protocol { .. } => {}
            Frame::Forward { token, shard, level, millis, op } => {
                self.take_forward(from, token, shard, level, millis, op);
            }
            Frame::Answer { token, result } => self.take_answer(from, token, result),
            Frame::Lasts(lasts) => self.take_lasts(from, lasts),
            Frame::WholeAt { shard, index, term, rejoining } => {
                self.told_whole_at(shard, index, term, rejoining)
            }
            Frame::Announce(announcement) => {
                self.clock.hear(from, announcement.clock, announcement.clock_settled);
                if announcement.rejoining {
                    self.tell_rejoining(from);
                }
                self.peers.announced(from, announcement);
            }
        }
    }

    fn take_answer(&mut self, from: NodeId, token: u64, result: Result<Reply, Error>) {
        let Some(open) = self.open.get(token) else { return };
        if !matches!(open.state, State::Forwarded(to, _) if to == from) {
            // Of an attempt that was given up: a definite result is still good for a write (the same id ran once).
            if open.is_read() || result.is_err() || open.state == State::Local {
                return;
            }
        }
        match result {
            Err(error @ (Error::WrongNode { .. } | Error::InDoubt(_))) => self.turned_away(token, error),
            result => self.finish(token, result),
        }
    }

    /// What a node has in its log, against what it acknowledged: first of all on a new connection.
    fn take_lasts(&mut self, from: NodeId, lasts: Vec<(ShardId, u64)>) {
        for (shard, last) in lasts {
            let Some(replica) = self.replicas.get(&shard) else { continue };
            if let Some(acknowledged) = replica.protocol.acknowledged(from).filter(|index| *index > last) {
                tracing::warn!(node = %from, %shard, acknowledged, last, "a node has lost entries it had acknowledged");
                // To earlier leaders it may have acknowledged more, but nothing agreed on that is not in this log.
                let replication::Status { last: index, term, .. } = replica.protocol.status();
                self.send(from, &Frame::WholeAt { shard, index, term, rejoining: false });
            }
            self.inputs.push_back((shard, replication::Input::Connected { node: from, last }));
        }
    }

    fn peer_up(&mut self, node: NodeId) {
        self.peers.set_connected(node, true);
        let lasts = self.replicas.values().map(|replica| (replica.shard, replica.protocol.status().durable));
        let lasts = Frame::Lasts(lasts.collect());
        self.send(node, &lasts);
        let announcement = Frame::Announce(self.announcement());
        self.send(node, &announcement);
    }

    fn peer_down(&mut self, node: NodeId) {
        self.peers.set_connected(node, false);
        for token in self.open.pick(|open| matches!(open.state, State::Forwarded(to, _) if to == node)) {
            self.turned_away(token, Error::InDoubt("the connection to the leading node broke".into()));
            self.hasten(token);
        }
        for &shard in self.replicas.keys() {
            self.inputs.push_back((shard, replication::Input::Disconnected { node }));
        }
    }

    /// A broken connection is news enough: no need to wait as long as for other doubts.
    fn hasten(&mut self, token: Token) {
        if let Some(Open { state: State::Waiting(at), .. }) = self.open.get_mut(token) {
            *at = self.now.plus(RETRY_MICROS);
        }
    }

    fn announcement(&self) -> Announcement {
        let replicas = self.replicas.values().map(|replica| {
            let status = replica.protocol.status();
            let (role, leader, term, applied) = (status.role, status.leader, status.term, status.applied);
            Announced { shard: replica.shard, role, leader, term, applied }
        });
        Announcement {
            clock: self.clock.micros(),
            clock_settled: self.clock.is_settled(),
            pid: self.config.pid,
            address: self.config.address.clone(),
            rejoining: self.config.rejoining,
            disk_full: self.disk_full,
            replicas: replicas.collect(),
        }
    }

    fn announce(&mut self) {
        let frame = Frame::Announce(self.announcement()).encode();
        let peers: Vec<NodeId> = self.peers.ids().collect();
        self.work.extend(peers.into_iter().map(|to| Work::Send { to, frame: frame.clone() }));
    }

    /// Offers leaderships to the nodes that should have them, when those are well.
    fn balance(&mut self) {
        if self.stopping {
            return self.hand_over();
        }
        let now = self.now;
        for replica in self.replicas.values_mut() {
            let to = self.config.preferred_leader(replica.shard);
            let status = replica.protocol.status();
            let lately = replica.transferred.is_some_and(|at| now.since(at) < BALANCE_MICROS);
            if to == self.config.me || status.role != Role::Leader || lately {
                continue;
            }
            let told = self.peers.replica(to, replica.shard);
            let near = told.is_some_and(|told| {
                told.term == status.term && told.applied + BALANCE_LAG_MAX >= status.commit
            });
            if near && self.peers.is_connected(to) && self.peers.liveness(to, now) == Liveness::Alive {
                replica.transferred = Some(now);
                self.inputs.push_back((replica.shard, replication::Input::Transfer { to }));
            }
        }
    }

    /// Before the end: every leadership goes to the living node that is furthest.
    fn hand_over(&mut self) {
        let now = self.now;
        for replica in self.replicas.values() {
            let living = self.peers.ids().filter(|id| self.peers.is_connected(*id));
            let living = living.filter(|id| self.peers.liveness(*id, now) == Liveness::Alive);
            let applied = |id: &NodeId| self.peers.replica(*id, replica.shard).map_or(0, |told| told.applied);
            if let Some(to) = living.max_by_key(applied) {
                self.inputs.push_back((replica.shard, replication::Input::Transfer { to }));
            }
        }
    }

    // --- the log ------------------------------------------------------------------------------------------------

    pub(crate) fn append(&mut self, records: Vec<wal::Record>, checkpoint: bool) -> u64 {
        self.next_ticket += 1;
        self.work.push(Work::Append { ticket: self.next_ticket, records, checkpoint });
        self.next_ticket
    }

    fn durable(&mut self, ticket: u64) {
        while let Some(&(appended, shard, own)) =
            self.appends.front().filter(|(appended, ..)| *appended <= ticket)
        {
            self.appends.pop_front();
            self.switch_generation(shard, appended);
            self.inputs.push_back((shard, replication::Input::Durable { ticket: own }));
        }
        if let Some(checkpoint) = &mut self.checkpoint {
            checkpoint.durable |= checkpoint.ticket <= ticket;
            self.end_checkpoint();
        }
    }

    fn begin_checkpoint(&mut self) {
        if self.checkpoint.is_some() {
            return;
        }
        let mut first = true;
        let shards: Vec<ShardId> = self.replicas.keys().copied().collect();
        for shard in shards {
            let replica = &self.replicas[&shard];
            let mut records = vec![generation_record(shard, replica.generation_logged())];
            records
                .extend(replica.protocol.checkpoint().into_iter().map(|body| protocol_record(shard, body)));
            self.append(records, std::mem::take(&mut first));
        }
        let flushed = mutant::is(Mutant::CheckpointWithoutFlush);
        self.checkpoint = Some(Checkpoint { ticket: self.next_ticket, durable: false, flushed });
        self.flush(Flush::Checkpoint);
    }

    pub(crate) fn flush(&mut self, what: Flush) {
        self.next_flush += 1;
        self.flushes.insert(self.next_flush, what);
        self.work.push(Work::Run(Job::Flush { token: self.next_flush }));
    }

    fn flushed(&mut self, token: u64, result: Result<(), String>) {
        match self.flushes.remove(&token) {
            Some(Flush::Checkpoint) if result.is_ok() => {
                if let Some(checkpoint) = &mut self.checkpoint {
                    checkpoint.flushed = true;
                    self.end_checkpoint();
                }
            }
            Some(Flush::Checkpoint) => {
                self.checkpoint = None;
                self.work.push(Work::CheckpointFailed);
            }
            Some(Flush::Install(shard, stream)) => self.install_flushed(shard, stream, result),
            None => {}
        }
    }

    fn end_checkpoint(&mut self) {
        if self.checkpoint.is_some_and(|checkpoint| checkpoint.durable && checkpoint.flushed) {
            self.checkpoint = None;
            self.work.push(Work::Release);
        }
    }

    // --- the table ----------------------------------------------------------------------------------------------

    fn done(&mut self, done: Done) {
        match done {
            Done::Applied { shard, index, last, results } => self.applied(shard, index, last, results),
            Done::Read { shard, token, read } => self.read_done(shard, token, read),
            Done::Snapshot { shard, to, snapshot } => {
                let at = snapshot.applied;
                if let Some(replica) = self.replicas.get_mut(&shard) {
                    replica.snapshots.insert(to, snapshot);
                }
                let at = Some((at.index, at.term));
                self.inputs.push_back((shard, replication::Input::SnapshotMade { to, at }));
            }
            Done::Installed { shard, generation, result } => self.installed(shard, generation, result),
            Done::Loaded { shard, generation, last } => self.loaded(shard, generation, last),
            Done::Forgot { shard, generation, more } => {
                if more && self.replicas.get(&shard).is_some_and(|replica| !replica.uses(generation)) {
                    self.work.push(Work::Run(Job::Forget { shard, generation }));
                }
            }
            Done::Flushed { token, result } => self.flushed(token, result),
        }
    }

    // --- what others ask about the cluster ------------------------------------------------------------------------

    /// The cluster as this node sees it.
    pub fn status(&self) -> Status {
        let me = self
            .config
            .nodes
            .iter()
            .find(|(id, _)| *id == self.config.me)
            .expect("a node is one of its cluster");
        let own = self.announcement();
        self.peers.status((me.0, &me.1), &own, self.config.map.shards(), self.config.protocol, self.now)
    }
}

/// The one epoch there is as long as members, bounds and protocol of a shard are fixed.
pub(crate) const EPOCH: Epoch = Epoch(1);

pub(crate) fn protocol_record(shard: ShardId, body: Bytes) -> wal::Record {
    wal::Record { stream: shard.0, kind: recovery::KIND_PROTOCOL, body }
}

/// An op that raises a shard's version.
pub(crate) fn advance_op(to: Version) -> Bytes {
    Stamped { id: None, op: Op::Advance { to } }.encode()
}
