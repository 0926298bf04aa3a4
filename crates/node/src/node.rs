//! What every driver of a node knows of the node.
//!
//! That is its settings and its map, a version clock, what the other nodes tell and are told, and what concerns all shards
//! together: a checkpoint, a full disk, a stop, and the way back of a node that lost its folder. Each driver keeps it for itself,
//! from the same words ([`crate::cores`]), and announces the replicas of its own core. What is done to shards is a core's
//! ([`crate::driver`]): a core reads this in its turn and changes nothing here.

pub mod checkpoint;
pub mod clock;
pub mod peers;

use kv::cluster::Status;
use kv::{NodeId, ShardId, Version};
use replication::{Instant, View};

use crate::Config;
use crate::wire::{Announced, Announcement};
use checkpoint::Checkpoint;
use clock::{Now, VersionClock};
use peers::{ANNOUNCE_MICROS, Peers};

/// The node's part of a driver.
pub(crate) struct Node {
    pub config: Config,
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
}

impl Node {
    /// A node whose disk holds no version above `last`.
    pub fn new(config: Config, last: Version, now: Now) -> Node {
        assert!(config.is_sound(), "a node is one of its cluster, whose nodes are in order, and has shards");
        let others = config.nodes.iter().filter(|(id, _)| *id != config.me).cloned();
        Node {
            now: now.instant,
            clock: VersionClock::new(config.nodes.len(), last, now),
            peers: Peers::new(others, config.deal().cores()),
            checkpoint: None,
            disk_full: false,
            stopping: false,
            announce_at: now.instant,
            config,
        }
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

    /// What it tells of itself and of its replicas.
    pub fn announcement(&self, replicas: Vec<Announced>) -> Announcement {
        Announcement {
            clock: self.clock.micros(),
            clock_settled: self.clock.is_settled(),
            pid: self.config.pid,
            address: self.config.address.clone(),
            rejoining: self.config.rejoining,
            disk_full: self.disk_full,
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

    /// The other node that is well, and of those the one whose replica of a shard is furthest.
    pub fn furthest_peer(&self, shard: ShardId) -> Option<NodeId> {
        let living = self.peers.ids().filter(|id| self.peers.is_well(*id, self.now));
        living.max_by_key(|id| self.peers.replica(*id, shard).map_or(0, |told| told.applied))
    }

    /// The cluster as this node sees it, with what it announces of its own replicas.
    pub fn status(&self, replicas: Vec<Announced>) -> Status {
        let me = self.config.nodes.iter().find(|(id, _)| *id == self.config.me);
        let me = me.expect("a node is one of its cluster");
        let own = self.announcement(replicas);
        self.peers.status((me.0, &me.1), &own, self.config.map.shards(), self.config.protocol, self.now)
    }
}
