//! The map: what the directory holds, as a value.
//!
//! Nodes, keyspaces, shards, and the changes under way, under one revision that rises by one with each change. The directory
//! keeps it as rows (`cluster`, `node/ID`, `keyspace/NAME`, `shard/ID`, `change/SHARD`, `revision`); every node and client knows
//! it as of some revision.

use std::collections::BTreeMap;

pub use kv::admin::Why;
use kv::cluster::Liveness;
pub use kv::cluster::NodeDuty;
use kv::view::{Member, Revision, View};
use kv::{ClusterId, Epoch, NodeId, Protocol, ReplicaId, ShardId, SlotRange};

/// The reserved keyspace that the directory's own state is in.
pub const DIRECTORY: &str = "_directory";
/// The keyspace of who names none.
pub const DEFAULT: &str = "default";

/// The state of a cluster as its directory holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    /// Rises by one with each change. 0 = nothing is known yet.
    pub revision: u64,
    /// Which cluster it is; `None` = it is not founded yet.
    pub cluster: Option<ClusterId>,
    /// The nodes that belong to it.
    pub nodes: BTreeMap<NodeId, Node>,
    /// The keyspaces by name, [`DIRECTORY`] too.
    pub keyspaces: BTreeMap<String, Keyspace>,
    /// The shards of all keyspaces.
    pub shards: BTreeMap<ShardId, Shard>,
    /// The changes of shards that are under way, at most one a shard.
    pub changes: BTreeMap<ShardId, Change>,
    /// The id that the next node is given: ids are never given twice.
    pub next_node: NodeId,
    /// The id that the next shard is given.
    pub next_shard: ShardId,
}

/// A node that belongs to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// For people. No two nodes have the same.
    pub name: String,
    /// The life of its data folder; 0 = it has not been heard of yet.
    pub incarnation: u64,
    /// Where other nodes connect: HOST:PORT, as they reach it.
    pub peer: String,
    /// Where its clients connect: HOST:PORT; empty = it has not been heard of yet.
    pub address: String,
    /// What fails together with it: no two replicas of a shard are in one zone where that can be. Empty = a zone of its own.
    pub zone: String,
    /// What it is asked to do.
    pub duty: NodeDuty,
    /// Whether it was heard of lately, as the directory's leader saw it.
    pub state: Liveness,
}

/// A named set of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyspace {
    /// How the replicas of its shards agree.
    pub protocol: Protocol,
    /// Replicas of each shard, where there are nodes enough.
    pub replicas: u16,
    /// Which nodes its shards are put on.
    pub arrangement: Arrangement,
}

/// Which nodes the shards of a keyspace are put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrangement {
    /// Counts of replicas and of leaders are equal within one.
    Even,
    /// Each node has a contiguous range of slots, in the order in which the nodes joined.
    Contiguous,
    /// On the first 1, 3 or 5 nodes: the directory's own.
    First,
}

/// One shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Its keyspace.
    pub keyspace: String,
    /// Its keys.
    pub slots: SlotRange,
    /// How its replicas agree.
    pub protocol: Protocol,
    /// Rises when it is handed over.
    pub epoch: Epoch,
    /// The revision of its members that the directory knows of, within the epoch.
    pub revision: Revision,
    /// Its members, in the order of their nodes.
    pub members: Vec<Member>,
    /// The member that leads it when all are well.
    pub leader: NodeId,
    /// The number that its next replica is given: numbers are never given twice within an epoch.
    pub next_replica: ReplicaId,
}

/// A change of a shard that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The members that it is to have, in the order of their nodes; those that stay keep their numbers.
    pub to: Vec<Member>,
    /// The epoch that it is to have: its own where the protocol changes members itself, else the next one.
    pub epoch: Epoch,
    /// How far it is.
    pub phase: Phase,
    /// Why it is made.
    pub why: Why,
}

/// How far a change of a shard is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// New members are brought up to date; the shard serves as before.
    Copy,
    /// The members change over. It cannot be given up any more.
    Switch,
}

impl Shard {
    /// Its members as the directory knows them.
    pub fn view(&self) -> View {
        View { epoch: self.epoch, revision: self.revision, members: self.members.clone() }
    }
}
