//! The driver: one turn of a node.
//!
//! A turn reads the clock once, takes its inputs, and ends when every replica has been given what follows from them. It
//! waits for nothing. What it hands out is to be carried out in order, per kind of work.

mod advance;
mod durability;
mod nodes;
mod requests;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kv::cluster::{Liveness, Role, Status};
use kv::{Epoch, Error, NodeId, Reply, ShardId, Version};
use replication::Instant;
use storage::{Applied, ShardSnapshot};

use crate::clock::{Now, VersionClock};
use crate::install::SnapshotPart;
use crate::job::{Done, Job};
use crate::open::{OpenParts, Part};
use crate::peers::{ANNOUNCE_MICROS, Peers};
use crate::recovery::{Recovery, RecoveryError};
use crate::replica::Replica;
use crate::session::mix;
use crate::{Config, recovery};

/// A part whose attempt was turned away is tried again after this: long enough for news of a leader to arrive.
const RETRY_MICROS: u64 = 20_000;
/// All replicas are told the time at least so often: a fifth of a protocol's tick.
const TICK_MICROS: u64 = 10_000;
/// How often parts are looked through for those whose time is up.
const SWEEP_MICROS: u64 = 20_000;

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
    /// Which shard was last advanced to remove what is due, when, and how many parts had been taken by then.
    cleaned: ShardId,
    cleaned_at: Instant,
    cleaned_at_part: u64,
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
            clock: VersionClock::new(config.replica(), config.nodes.len(), last, now),
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
            cleaned: ShardId::default(),
            cleaned_at: now.instant,
            cleaned_at_part: 0,
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
            self.clean();
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
        let clock = clock.max(Version::new(replica.last.micros(), clock.replica()));
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

    fn done(&mut self, done: Done) {
        match done {
            Done::Applied { shard, index, last, due, results } => {
                if let Some(replica) = self.replicas.get_mut(&shard) {
                    replica.due = due;
                }
                self.applied(shard, index, last, results);
            }
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
            Done::Loaded { shard, generation, last, due } => self.loaded(shard, generation, (last, due)),
            Done::Forgot { shard, generation, more } => {
                if more && self.replicas.get(&shard).is_some_and(|replica| !replica.uses(generation)) {
                    self.work.push(Work::Run(Job::Forget { shard, generation }));
                }
            }
            Done::Flushed { token, result } => self.flushed(token, result),
        }
    }

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
