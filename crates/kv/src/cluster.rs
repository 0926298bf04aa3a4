//! What a node tells of the cluster: who lives, who leads, where a key is.

use std::fmt;

use crate::view::Member;
use crate::{ClusterId, Epoch, Error, Key, NodeId, Protocol, ShardId, Slot, SlotRange};

/// Answers questions about the cluster from what the node at hand knows.
pub trait Cluster: Send + Sync {
    /// Which cluster it is. [`Error::Unavailable`] while the node at hand belongs to none yet: the text says what it waits
    /// for. It never changes afterwards.
    fn id(&self) -> Result<ClusterId, Error>;
    /// What its nodes have in common. It never changes.
    fn terms(&self) -> Terms;
    /// Nodes and shards.
    fn status(&self) -> Status;
    /// Where a key of a keyspace is, as the node at hand sees it; [`Error::NoKeyspace`] when there is none of that name.
    fn locate(&self, keyspace: &str, key: &Key, answer: Located);
}

/// Takes where a key is, on any thread.
pub type Located = Box<dyn FnOnce(Result<Location, Error>) + Send>;

/// Version of what nodes say to each other: a cluster is of nodes of one version.
pub const PEER_VERSION: u32 = 14;

/// What all nodes of a cluster have in common for ever: founders are started with it, and who joins takes it over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How many shards the keyspace `default` was founded with.
    pub shards: u32,
    /// On how many nodes each of them is, where there are so many; at least 1.
    pub replicas: u16,
    /// How many revisions of a key are kept; `None` = all.
    pub history: Option<u32>,
    /// How long those of a deleted key are kept, in microseconds; `u64::MAX` = for ever.
    pub deleted_micros: u64,
}

impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Terms { shards, replicas, history, deleted_micros } = self;
        let history = history.map_or("all".into(), |count| count.to_string());
        write!(f, "shards={shards} replicas={replicas} history={history} deleted={deleted_micros}us")
    }
}

/// The cluster as one node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// All nodes by id, the dead ones too.
    pub nodes: Vec<NodeStatus>,
    /// The shards of all keyspaces by id; the directory's own is apart.
    pub shards: Vec<ShardStatus>,
    /// The directory's own shard: who leads it decides over the map. `None` = the node at hand does not know it.
    pub directory: Option<ShardStatus>,
    /// The revision of the map that the node at hand acts on. Starts at 1; 0 = it has none.
    pub revision: u64,
    /// The brokers that the node at hand is to be connected to.
    pub buses: Vec<BusStatus>,
}

/// A broker that carries the writes of keyspaces, as the node at hand sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BusStatus {
    /// Its address, without a password.
    pub broker: String,
    /// Why there is no connection to it; `None` = there is one.
    pub down: Option<String>,
    /// Messages that wait for it.
    pub waiting: u64,
    /// Messages that were dropped since the node started, for too many waited.
    pub dropped: u64,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where its clients connect: HOST:PORT; empty while it was never heard of.
    pub address: String,
    /// Its process on its machine; 0 while it was never heard of.
    pub pid: u32,
    /// Whether it was heard of lately.
    pub state: Liveness,
    /// How many shards it leads.
    pub leads: u32,
    /// How many shards it is a member of.
    pub replicas: u32,
    /// Where other nodes connect: HOST:PORT; empty while that is not known.
    pub peer: String,
    /// What fails together with it; empty = a zone of its own.
    pub zone: String,
    /// What it is asked to do.
    pub duty: NodeDuty,
}

/// What a node is asked to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeDuty {
    /// It takes replicas.
    #[default]
    Serve,
    /// Its replicas go elsewhere; it stays a member of the cluster.
    Drain,
    /// Its replicas go elsewhere, then it is no member any more.
    Leave,
    /// It is gone for good: its replicas are made again elsewhere, then it is no member any more.
    Gone,
}

impl NodeDuty {
    /// Its name in commands.
    pub fn name(self) -> &'static str {
        match self {
            NodeDuty::Serve => "serve",
            NodeDuty::Drain => "drain",
            NodeDuty::Leave => "leave",
            NodeDuty::Gone => "gone",
        }
    }
}

/// Whether a node was heard of lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// Within the last two announcements.
    Alive,
    /// Missed two.
    Suspect,
    /// Missed five.
    Dead,
}

impl Liveness {
    /// Its name in commands.
    pub fn name(self) -> &'static str {
        match self {
            Liveness::Alive => "alive",
            Liveness::Suspect => "suspect",
            Liveness::Dead => "dead",
        }
    }
}

/// One shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardStatus {
    /// Its id.
    pub id: ShardId,
    /// Its keyspace.
    pub keyspace: String,
    /// Its slots.
    pub slots: SlotRange,
    /// How its replicas agree.
    pub protocol: Protocol,
    /// Its epoch.
    pub epoch: Epoch,
    /// Who leads it, or one of those that take requests where nobody leads; `None` = nobody that this node knows.
    pub leader: Option<NodeId>,
    /// The leader's term; 0 where the protocol has none.
    pub term: u64,
    /// Its copies by node.
    pub replicas: Vec<ReplicaStatus>,
    /// Its members, in the order of their nodes; empty while that is not known.
    pub members: Vec<Member>,
}

/// One copy of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// Where it is.
    pub node: NodeId,
    /// What it is at present.
    pub role: Role,
    /// The last entry it applied. Starts at 1; 0 = none.
    pub applied: u64,
    /// Linearizable reads that it has answered under a lease, without asking the node that orders, since its node began.
    pub lease_reads: u64,
}

/// What a replica is at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Orders the writes.
    Leader,
    /// Takes any request, as the others do: nobody leads.
    Member,
    /// Follows.
    #[default]
    Follower,
    /// Asks to be elected.
    Candidate,
    /// Its node was not heard of lately.
    Unknown,
}

impl Role {
    /// Whether requests are to be sent to it.
    pub fn takes_requests(self) -> bool {
        matches!(self, Role::Leader | Role::Member)
    }

    /// Its name in commands.
    pub fn name(self) -> &'static str {
        match self {
            Role::Leader => "leader",
            Role::Member => "member",
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Unknown => "unknown",
        }
    }
}

/// Where a key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Its slot.
    pub slot: Slot,
    /// Its shard.
    pub shard: ShardId,
    /// Who leads the shard.
    pub leader: Option<NodeId>,
    /// Where that node's clients connect.
    pub address: Option<String>,
}
