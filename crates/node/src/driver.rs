//! The driver: one turn of a core of a node.
//!
//! A turn reads the clock once, takes its inputs, and ends when every replica has been given what follows from them. It
//! waits for nothing. What it hands out is to be carried out in order, per kind of work.
//!
//! It has two parts. The [`Node`] is what every driver of a node knows of it: settings, clock, peers, this core's part of a
//! checkpoint. The [`Core`] is what is this core's alone: its shards' replicas, open requests, and what is on its way to log and
//! table; each of its subjects is a file here. A core reads its node and never changes it. How a node's cores go together is told
//! in [`crate::cores`].
//!
//! ```text
//!   driver       the turn; takes each input to the part that it concerns
//!   dealt        which cores of a node an input is for
//!   frames       what other nodes say, and what is said to them
//!   maps         the map on its way: from nodes, to nodes, into the log
//!   kept         which map the node does not fall back behind
//!   directory    who decides about the map, and what is asked of it
//!   checkpoint   what must be kept is written again, so that old segments can go
//!   core         gives replicas their inputs, and the time to those that want it (agenda)
//!     handover   a shard goes on with other replicas, in a later epoch
//!     split      a shard is cut into several, in a later epoch
//!     hosting    which replicas there are: made and dropped as the map says
//!     fence      which words of other replicas are for the one here
//!     requests   parts (open): where each is served, and what it is answered
//!     rules      what shards go by: the settings of their keyspaces, and whether those are full
//!     output     what replicas want done: appends, writes, reads
//!     advance    a shard's version is raised, to remove what is due (expiries)
//!     install    a snapshot that comes in
//!     watches    who wants to hear of changes, here and from other nodes
//!     leaders    roles that others depend on are dealt out, and handed over
//! ```
//!
//! Nobody here knows a protocol. A replica says where a request is served ([`replication::Replicate::route`]), when it wants
//! the time (`due`), what to say first to another node (`hello`) and who its members are (`view`); its status is for people.

mod advance;
mod agenda;
mod appends;
mod astray;
mod checkpoint;
mod core;
mod dealt;
mod directory;
mod expiries;
mod fence;
mod frames;
mod handover;
mod hosting;
mod install;
mod kept;
mod leaders;
mod maps;
mod open;
mod output;
mod reads;
mod replica;
mod requests;
mod rules;
mod split;
#[cfg(test)]
mod tests;
mod watches;
mod word;
mod writes;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kv::admin::{Answer, Ask};
use kv::cluster::{Liveness, Status};
use kv::view::View;
use kv::{ClusterId, Error, NodeId, Position, Reply, ShardId};
use placement::map::Map;
use storage::{Applied, ShardSnapshot};

use self::appends::Flush;
use self::core::Core;
use self::directory::Office;
use self::hosting::Leaving;
use self::kept::KeptMaps;
use self::open::Client;
use self::replica::Replica;
use self::watches::Puller;
use crate::gather::Split;
use crate::job::{Done, Job};
use crate::node::Node;
use crate::node::clock::Now;
use crate::recovery::{Recovery, RecoveryError};
use crate::watch::{Pull, Pulled};
use crate::wire::{Announced, Copied};
use crate::{Config, record};

pub use install::SnapshotPart;
pub use open::{OPEN_BYTES_MAX, OPEN_MAX, Part};
pub use word::Word;

/// What happens to a node. What names no shard is for all its cores, but completions, which go to who asked.
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
    /// So much of the snapshot of [`Work::SendSnapshot`] has been sent. For people.
    SnapshotProgress {
        /// Its shard.
        shard: ShardId,
        /// The node.
        to: NodeId,
        /// How far it is.
        copied: Copied,
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
    /// This is where everything is now, by who decides it ([`Work::Decided`]). Others hear of it at once.
    Map(Arc<Map>),
    /// Which cluster this is, as soon as it is known. For the first core.
    Cluster(ClusterId),
    /// How replicas of a core of the node are ([`Work::Announced`]).
    Announced(Vec<Announced>),
    /// The directory is asked. For the first core. Ends in [`Work::Administered`] with the same name.
    Administer {
        /// The owner's name for it.
        client: u64,
        /// What is asked.
        ask: Ask,
        /// How long to try, in microseconds.
        timeout_micros: u64,
    },
    /// Another core of the node says something ([`Work::Tell`]).
    Told(Word),
    /// A watch asks a shard what comes next. Ends in [`Work::Pulled`] with the same name.
    Pull {
        /// The owner's name for it.
        client: u64,
        /// What is asked.
        pull: Pull,
    },
    /// Hand leaderships over, take no new work.
    Stop,
}

/// What a core of a node wants done.
pub enum Work {
    /// Append these records to the log in one batch and sync it.
    Append {
        /// Rises by one per append of this core, from 1.
        ticket: u64,
        /// The records.
        records: Vec<wal::Record>,
        /// This core's part of a checkpoint begins with this append: segments wholly before it go at the next [`Work::Release`].
        checkpoint: bool,
    },
    /// Send a frame to a node; drop it when there is no connection.
    Send {
        /// The node.
        to: NodeId,
        /// [`Frame`] bytes.
        frame: Bytes,
        /// It answers, votes or acknowledges: what leaves late from a node that is slow on purpose ([`crate::faults`]).
        is_response: bool,
    },
    /// Publish a frame to all other members of a shard, over its keyspace's broker ([`Map::broker_of`]); it may be lost.
    Publish(ShardId, Bytes),
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
    /// This core's part of the checkpoint is complete.
    Release,
    /// This core's part of the checkpoint could not be completed (the disk is full): try another one later.
    CheckpointFailed,
    /// A client's part was planned again, under its id: its shard is cut, or was. Its answer is that of what came of it.
    Replan {
        /// The client's name.
        client: u64,
        /// Its parts now.
        planned: Result<Split, Error>,
    },
    /// Give this to another core of the node, or to this one: [`Input::Told`] there.
    Tell {
        /// Which core.
        core: usize,
        /// What.
        word: Word,
    },
    /// A map is decided: give it to all cores ([`Input::Map`]).
    Decided(Arc<Map>),
    /// How replicas of this core are: give it to all cores ([`Input::Announced`]), where there are several.
    Announced(Vec<Announced>),
    /// Answer who asked the directory.
    Administered {
        /// Its name.
        client: u64,
        /// The answer.
        result: Result<Answer, Error>,
    },
    /// Answer a watch.
    Pulled {
        /// Its name.
        client: u64,
        /// The answer.
        answer: Pulled,
    },
    /// A later map is known: who routes requests or connects to nodes goes by it. By the first core.
    Map(Arc<Map>),
}

/// All that a core does to its shards.
pub struct Driver {
    node: Node,
    core: Core,
    /// Of the first core.
    office: Option<Office>,
    kept: KeptMaps,
}

impl Driver {
    /// The drivers of a node, one a core in their order, with what the log and the table have kept of its replicas: `applied` is
    /// where the table of each of [`Recovery::replicas`] is, loaded at its generation.
    pub fn all(
        config: Config,
        mut recovery: Recovery,
        applied: &BTreeMap<ShardId, Applied>,
        now: Now,
    ) -> Result<Vec<Driver>, RecoveryError> {
        let last = applied.values().map(|applied| applied.last).max().unwrap_or_default();
        let deal = config.deal;
        let driver = |place| Driver {
            core: Core::new(&config, now.instant),
            node: Node::new(config.clone(), place, last, now),
            office: (place == 0).then(|| Office::new(&config)),
            kept: KeptMaps::new(deal.cores()),
        };
        let mut drivers: Vec<Driver> = (0..deal.cores()).map(driver).collect();
        for (shard, gone) in recovery.gone() {
            drivers[deal.core_of(shard)].core.leaving.insert(shard, Leaving::recovered(gone));
        }
        for shard in recovery.replicas(config.me, &config.map).into_keys() {
            let applied = applied.get(&shard).copied().unwrap_or_default();
            let lately = recovery.lately(shard);
            let (begun, is_new) = recovery.replica(&config, shard, applied)?;
            let core = &mut drivers[deal.core_of(shard)].core;
            let at = Position::new(applied.index, applied.term);
            let replica = Replica::new(shard, begun, at, applied.last);
            core.begin_replica(Replica { standing: applied.standing, ..replica }, is_new);
            if let Some(lately) = lately {
                core.feeds.resume(shard, lately, now.instant);
            }
        }
        if recovery.map_revision() < config.map.revision {
            drivers[0].core.records.push(record::map(&config.map));
        }
        drivers.iter_mut().for_each(Driver::begin);
        Ok(drivers)
    }

    fn begin(&mut self) {
        self.core.drop_unwanted(&self.node);
        self.note_map();
        self.core.rule(&self.node);
        self.core.tell_views(&self.node);
        self.core.forget_leftovers();
        self.core.forget_gone();
    }

    /// One turn: takes all `inputs`, adds what is to be done to `work`.
    pub fn turn(&mut self, now: Now, inputs: &mut Vec<Input>, work: &mut Vec<Work>) {
        self.node.begin_turn(now);
        self.core.tick(&self.node);
        self.tick_directory();
        self.ask_for_map();
        if self.node.takes_announcement() {
            self.announce();
            self.core.want_members(&self.node);
            self.core.hand_over_shards(&self.node);
            self.note_silent();
            self.core.balance(&self.node);
            self.core.rule(&self.node);
        }
        self.core.sweep(&self.node);
        for input in inputs.drain(..) {
            self.take(input);
            self.core.settle(&self.node);
        }
        self.announce_members();
        self.tell_directory();
        self.core.end_turn(&self.node);
        if std::mem::take(&mut self.core.has_news) {
            self.announce();
        }
        assert!(
            inputs.is_empty() && !self.core.has_inputs(),
            "a turn ends when all that follows is handed out"
        );
        work.append(&mut self.core.work);
    }

    /// The version clock, in microseconds since 1970.
    pub fn clock_micros(&self) -> u64 {
        self.node.clock.micros()
    }

    /// The time that clients count from, in microseconds since 1970: the version clock, or the newest version of a shard where
    /// that is later. A shard may be ahead of all clocks, when a node with a wrong one led it for a while; deadlines and request
    /// ids are measured by its versions, so what counts from an earlier time would be over when it arrives.
    pub fn clients_micros(&self) -> u64 {
        self.node.clock.micros().max(self.core.newest.micros())
    }

    /// How many shards this core leads.
    pub fn leads(&self) -> usize {
        self.core.replicas.values().filter(|replica| replica.orders()).count()
    }

    /// Whether a stop, which this core knows of, need not wait for leaderships any more: none is held that another node could
    /// take.
    pub fn has_handed_over(&self) -> bool {
        let Node { peers, now, stopping, .. } = &self.node;
        *stopping && (self.leads() == 0 || peers.ids().all(|id| peers.liveness(id, *now) == Liveness::Dead))
    }

    /// Whether it was asked to [stop](Input::Stop).
    pub fn is_stopping(&self) -> bool {
        self.node.stopping
    }

    /// How many parts of requests are open.
    pub fn open_parts(&self) -> usize {
        self.core.open.len()
    }

    /// How a replica of this core is.
    pub fn replica_status(&self, shard: ShardId) -> Option<replication::Status> {
        self.core.replicas.get(&shard).map(|replica| replica.protocol.status())
    }

    /// Who belongs to a shard, as far as its replica of this core knows.
    pub fn view(&self, shard: ShardId) -> Option<&View> {
        self.core.replicas.get(&shard).map(Replica::view)
    }

    /// Whether the changes of a shard from this version on are kept here for watches, or would be.
    pub fn keeps_changes_from(&self, shard: ShardId, version: kv::Version) -> bool {
        self.core.feeds.keeps_from(shard, version)
    }

    /// The newest map that is known.
    pub fn map(&self) -> &Arc<Map> {
        &self.node.config.map
    }

    /// How the replicas of this core are, as other nodes are told.
    pub fn announced(&self) -> Vec<Announced> {
        self.core.announced()
    }

    /// The cluster as this node sees it, with what its other cores [announce](Driver::announced).
    pub fn status(&self, mut others: Vec<Announced>) -> Status {
        others.extend(self.core.announced());
        self.node.status(others)
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Part { client, part } => self.core.take_part(&self.node, Client::Owner(client), part),
            Input::Frame { from, bytes } => self.take_frame(from, &bytes),
            Input::PeerUp { node } => self.peer_up(node),
            Input::PeerDown { node } => self.peer_down(node),
            Input::Durable { ticket } => {
                self.core.durable(ticket);
                self.core.open_heirs(&self.node);
                self.core.open_parts(&self.node);
                self.core.open_returned(&self.node);
                self.checkpoint_durable(ticket);
                self.look_at_kept();
            }
            Input::Done(Done::Flushed { token, result }) => match self.core.take_flush(token) {
                Flush::Checkpoint => self.checkpoint_flushed(result),
                Flush::Install(shard, stream) => self.core.install_flushed(shard, stream, result),
                Flush::Parts(from) => self.core.parts_flushed(from, result),
                Flush::Heir(shard, generation) => self.core.heir_flushed(shard, generation, result),
                Flush::Returning(shard, epoch) => self.core.returning_flushed(shard, epoch, result),
            },
            Input::Done(done) => self.core.done(&self.node, done),
            Input::DiskFull(full) => {
                self.node.disk_full = full;
                // A leader whose majority has no room must not wait for it.
                self.announce();
            }
            Input::Snapshot { stream, from: _, shard, part } => self.core.take_snapshot(stream, shard, part),
            Input::SnapshotProgress { shard, to, copied } => self.core.copied(shard, to, Some(copied)),
            Input::SnapshotSent { shard, to, arrived } => {
                if !arrived {
                    self.core.copied(shard, to, None);
                }
                if !self.core.copy_sent(shard, to) {
                    self.core.give(shard, replication::Input::SnapshotSent { to, arrived });
                }
            }
            Input::Map(map) => {
                self.take_map(map);
                self.announce();
            }
            Input::Cluster(cluster) => {
                self.office.iter_mut().for_each(|office| office.cluster = Some(cluster));
            }
            Input::Announced(replicas) => self.core.announced_beside(&self.node, replicas),
            Input::Administer { client, ask, timeout_micros } => {
                self.direct(crate::directory::Input::Ask { client, ask, timeout_micros });
            }
            Input::Told(Word::Kept { core, revision }) => self.kept_by(core, revision),
            Input::Told(Word::Revise { shard, change }) => self.ask_for_members(shard, change),
            Input::Told(Word::Split(word)) => self.core.take_word(&self.node, word),
            Input::Pull { client, pull } => self.core.take_pull(&self.node, Puller::Owner(client), pull),
            Input::Checkpoint => self.begin_checkpoint(),
            Input::Stop => {
                self.node.stopping = true;
                // First: who takes a role over must not give it back.
                self.announce();
                self.core.hand_over(&self.node);
                self.core.end_pulls();
            }
        }
    }
}
