//! One replica as the driver keeps it: its protocol, and what is on its way.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kv::{Class, Epoch, Index, Level, NodeId, ReplicaId, ShardId, Version};
use replication::{Instant, Replicate, Route, Ticket, Token};
use storage::ShardSnapshot;

use super::install::{Install, Stage};
use crate::session::Sessions;

/// A replica of a shard on this node.
pub(super) struct Replica {
    pub shard: ShardId,
    pub protocol: Box<dyn Replicate>,
    /// When it wants to be told the time, as the core has noted it.
    pub wakes: Instant,
    /// The current generation of its rows.
    pub generation: u32,
    /// When it was last told the time.
    pub ticked: Option<Instant>,
    /// The newest version that its table has told.
    pub last: Version,
    /// When an advance finds something to remove, in microseconds since 1970; at first as if something were there.
    pub due: Option<u64>,
    /// Ids for requests that came without.
    pub sessions: Sessions,
    /// What this turn proposes, given to the protocol at its end.
    pub proposals: Vec<(Token, Bytes)>,
    /// Its last ticket of an append, 0 = none yet.
    pub appended: Ticket,
    /// Entries that the table is applying.
    pub applying: VecDeque<Applying>,
    /// Parts that wait for a leader.
    pub waiting: Vec<Token>,
    /// Reads that wait until the shard's version is raised.
    pub advance: Option<Advance>,
    /// Snapshots taken and not yet sent.
    pub snapshots: BTreeMap<NodeId, Box<ShardSnapshot>>,
    /// A snapshot that is coming in.
    pub install: Option<Install>,
    /// So many jobs of dropped installs are still to be done.
    pub stale_jobs: u64,
    /// When its role was last offered to another node.
    pub offered: Option<Instant>,
}

/// An entry handed to the table.
pub(super) struct Applying {
    pub index: Index,
    pub tokens: Vec<Token>,
    pub copies: u32,
}

/// A raise of the version that is on its way.
pub(super) struct Advance {
    pub token: Token,
    pub readers: Vec<Token>,
}

impl Replica {
    pub fn new(
        shard: ShardId,
        protocol: Box<dyn Replicate>,
        generation: u32,
        last: Version,
        seed: u64,
    ) -> Replica {
        Replica {
            shard,
            wakes: protocol.due(),
            protocol,
            generation,
            ticked: None,
            last,
            due: Some(0),
            sessions: Sessions::new(seed),
            proposals: Vec::new(),
            appended: Ticket::default(),
            applying: VecDeque::new(),
            waiting: Vec::new(),
            advance: None,
            snapshots: BTreeMap::new(),
            install: None,
            stale_jobs: 0,
            offered: None,
        }
    }

    /// Whether it orders the writes of its shard, as far as it knows.
    pub fn orders(&self) -> bool {
        self.protocol.route(Class::Blind, Level::Linearizable) == Route::Here
    }

    /// Its number in its shard.
    pub fn number(&self, me: NodeId) -> ReplicaId {
        self.protocol.view().member(me).expect("a replica is a member of its shard").replica
    }

    /// The epoch that it serves.
    pub fn epoch(&self) -> Epoch {
        self.protocol.view().epoch
    }

    /// The table is about to apply an entry.
    pub fn applies(&mut self, entry: Applying) {
        let before = self.applying.back().map(|before| before.index);
        assert!(before.is_none_or(|before| entry.index > before), "entries are applied in order");
        assert!(
            self.install.as_ref().is_none_or(|install| !install.is_switching()),
            "nothing is applied until a switch of generations is durable"
        );
        self.applying.push_back(entry);
    }

    /// Whether the rows of a generation are current or coming in.
    pub fn uses(&self, generation: u32) -> bool {
        self.generation == generation
            || self.install.as_ref().is_some_and(|install| install.generation == generation)
    }

    /// The generation that the log names: the current one, or the one whose switch is on its way to the disk.
    pub fn generation_logged(&self) -> u32 {
        let taken = self.install.as_ref().filter(|install| install.stage != Stage::Coming);
        taken.map_or(self.generation, |install| install.generation)
    }
}
