//! What every driver of a node knows of the node.
//!
//! That is its settings and the map as it is known, a version clock, what the other nodes tell and are told, and what concerns all shards
//! together: a checkpoint, a full disk, a stop. Each driver keeps it for itself,
//! from the same words ([`crate::cores`]), and announces the replicas of its own core. What is the node's as a whole is the first
//! core's: the map in the log, and the question for a later one. What is done to shards is a core's
//! ([`crate::driver`]): a core reads this in its turn and changes nothing here.

pub mod checkpoint;
pub mod clock;
pub mod peers;

use std::sync::Arc;

use kv::cluster::Status;
use kv::{NodeId, ShardId, Version};
use placement::map::Map;
use replication::{Instant, View};

use crate::Config;
use crate::session::mix;
use crate::wire::{Announced, Announcement};
use checkpoint::Checkpoint;
use clock::{Now, VersionClock};
use peers::{ANNOUNCE_MICROS, Peers};

/// A later map is asked for at most so often.
const MAP_ASK_MICROS: u64 = 100_000;
/// It is asked for within this time of hearing of it: all nodes hear of it at once.
const MAP_JITTER_MICROS: u64 = 50_000;

/// After so many announcements of what changed comes one of all replicas.
const PARTIAL_ANNOUNCEMENTS: u32 = 15;

/// The node's part of a driver.
pub(crate) struct Node {
    /// With the newest map that is known.
    pub config: Config,
    /// Which of the node's cores it is.
    place: usize,
    /// The time of this turn.
    pub now: Instant,
    pub clock: VersionClock,
    pub peers: Peers,
    /// This core's part of the checkpoint that is under way.
    pub checkpoint: Option<Checkpoint>,
    /// Its disk has no room for new work.
    pub disk_full: bool,
    /// It takes no new work and hands leaderships over.
    pub stopping: bool,
    announce_at: Instant,
    /// Announcements until the next one that is whole.
    partial: u32,
    /// The revision of a map that all cores act on and that is in the log; the first core knows it, for the others it is 0.
    pub kept: u64,
    /// The latest revision of the map that was heard of.
    map_heard: u64,
    /// Whom to ask for it, and when.
    map_wanted: Option<(NodeId, Instant)>,
    /// When it was last asked for.
    map_asked: Option<Instant>,
}

impl Node {
    /// One core's, of a node whose disk holds no version above `last`.
    pub fn new(config: Config, place: usize, last: Version, now: Now) -> Node {
        assert!(config.is_sound(), "a node has an id, and a core");
        Node {
            place,
            now: now.instant,
            clock: VersionClock::new(config.map.nodes.len(), last, now),
            peers: Peers::new(names(&config), config.deal.cores(), now.instant),
            checkpoint: None,
            disk_full: false,
            stopping: false,
            announce_at: now.instant,
            partial: 0,
            kept: 0,
            map_heard: config.map.revision,
            map_wanted: None,
            map_asked: None,
            config,
        }
    }

    /// Whether this is the first core: what concerns the node as a whole is done there.
    pub fn is_first(&self) -> bool {
        self.place == 0
    }

    /// Which of the node's cores it is, from 0.
    pub fn place(&self) -> usize {
        self.place
    }

    /// Whether a shard is of this core.
    pub fn drives(&self, shard: ShardId) -> bool {
        self.config.deal.core_of(shard) == self.place
    }

    /// Takes a map, if it is later than the known one; returns the nodes that are members no more.
    pub fn take_map(&mut self, map: Arc<Map>) -> Option<Vec<NodeId>> {
        if map.revision <= self.config.map.revision {
            return None;
        }
        self.config.map = map;
        self.map_heard = self.map_heard.max(self.config.map.revision);
        self.clock.of_nodes(self.config.map.nodes.len());
        Some(self.peers.become_those(names(&self.config), &self.config.map, self.now))
    }

    /// A node knows a map of this revision: a later one is asked for a moment later, for others hear of it as well.
    pub fn hear_of_map(&mut self, from: NodeId, revision: u64) {
        self.map_heard = self.map_heard.max(revision);
        if self.is_first() && revision > self.config.map.revision && self.map_wanted.is_none() {
            let jitter = mix(self.config.seed ^ revision) % MAP_JITTER_MICROS;
            let asked = self.map_asked.map_or(self.now, |asked| asked.plus(MAP_ASK_MICROS).max(self.now));
            self.map_wanted = Some((from, asked.plus(jitter)));
        }
    }

    /// Whether a later map is known to be there.
    pub fn is_map_behind(&self) -> bool {
        self.map_heard > self.config.map.revision
    }

    /// The node to be asked for a later map now.
    pub fn takes_map_question(&mut self) -> Option<NodeId> {
        let (from, _) = self.map_wanted.take_if(|(_, at)| *at <= self.now)?;
        if !self.is_map_behind() {
            return None;
        }
        self.map_asked = Some(self.now);
        Some(from)
    }

    /// A turn begins.
    pub fn begin_turn(&mut self, now: Now) {
        assert!(now.instant >= self.now, "the monotonic clock does not go back");
        self.now = now.instant;
        self.clock.advance(now);
    }

    /// Whether the others are to hear from this node again; if so, not before the next second is over.
    pub fn takes_announcement(&mut self) -> bool {
        let is_due = self.now >= self.announce_at;
        if is_due {
            self.announce_at = self.now.plus(ANNOUNCE_MICROS);
        }
        is_due
    }

    /// Whether the next announcement says how all replicas are.
    pub fn takes_whole_announcement(&mut self) -> bool {
        let is_whole = self.partial == 0;
        self.partial = if is_whole { PARTIAL_ANNOUNCEMENTS } else { self.partial - 1 };
        is_whole
    }

    /// What it tells of itself and of its replicas.
    pub fn announcement(&self, replicas: Vec<Announced>) -> Announcement {
        Announcement {
            clock: self.clock.micros(),
            clock_settled: self.clock.is_settled(),
            pid: self.config.pid,
            address: self.config.address.clone(),
            peer: self.config.peer.clone(),
            zone: self.config.zone.clone(),
            incarnation: self.config.incarnation,
            disk_full: self.disk_full,
            stopping: self.stopping,
            map: self.config.map.revision,
            kept: self.kept,
            replicas,
        }
    }

    /// Whose full disks leave no majority of a shard's members that could take a write, if so. The leader's own must have
    /// room anyway: what it orders stays in its memory until it is written.
    pub fn full_disks(&self, members: &View) -> Option<&'static str> {
        match !members.has_majority(|id| !self.peers.has_full_disk(id)) {
            _ if self.disk_full => Some("the leading node"),
            true => Some("too many nodes"),
            false => None,
        }
    }

    /// The other voter of a shard that may be given a role, and of those the one whose replica is furthest.
    pub fn furthest_peer(&self, shard: ShardId, members: &View) -> Option<NodeId> {
        let living = members.voters().filter(|id| self.peers.takes_roles(*id, self.now));
        living.max_by_key(|id| self.peers.replica(*id, shard).map_or(0, |told| told.applied))
    }

    /// The cluster as this node sees it, with what it announces of its own replicas.
    pub fn status(&self, replicas: Vec<Announced>) -> Status {
        let own = self.announcement(replicas);
        self.peers.status(self.config.me, &own, &self.config.map, self.now)
    }
}

/// The other nodes and their names, as the map has them.
fn names(config: &Config) -> impl Iterator<Item = (NodeId, String)> + '_ {
    let others = config.map.nodes.iter().filter(|(id, _)| **id != config.me);
    others.map(|(id, node)| (*id, node.name.clone()))
}
