//! What a node sees of the cluster: what its directory goes by, beside the map.

use std::collections::BTreeMap;

use kv::cluster::Liveness;
use kv::view::{Duty, Member, Revision};
use kv::{Epoch, NodeId, ShardId};

use crate::session::mix;
use crate::wire::Copied;

/// All that is seen at a moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// The nodes that the known map names, this one too.
    pub nodes: BTreeMap<NodeId, SeenNode>,
    /// What the leaders of shards say, of those shards that change.
    pub shards: BTreeMap<ShardId, SeenShard>,
}

/// A node as it is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeenNode {
    /// Whether it was heard of lately; `None` = never, by this node in its present life.
    pub state: Option<Liveness>,
    /// What it says of itself; `None` = it has said nothing yet.
    pub says: Option<Says>,
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Says {
    /// The life of its data folder; 0 = it does not say.
    pub incarnation: u64,
    /// Where other nodes connect.
    pub peer: String,
    /// Where its clients connect.
    pub address: String,
    /// What fails together with it.
    pub zone: String,
}

/// A shard as its leader says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeenShard {
    /// Its epoch.
    pub epoch: Epoch,
    /// The revision of its members.
    pub revision: Revision,
    /// Its members, as a [`digest`].
    pub members: u64,
    /// Whether they are changing over.
    pub is_joint: bool,
    /// What has been copied to those that learn, as far as the leader says.
    pub copied: BTreeMap<NodeId, Copied>,
    /// The nodes that it is handed over to and that have a copy.
    pub heirs: Vec<NodeId>,
}

/// A number by which members and their duties are told from others, short enough to be announced every second.
pub(crate) fn digest(members: &[Member]) -> u64 {
    members.iter().fold(0, |sum, member| {
        let duty = u64::from(member.duty == Duty::Voter);
        mix(mix(mix(sum ^ member.node.0) ^ u64::from(member.replica.0)) ^ duty)
    })
}
