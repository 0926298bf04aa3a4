//! What a node sees of the cluster: what its directory goes by, beside the map.

use std::collections::BTreeMap;
use std::sync::Arc;

use kv::cluster::Liveness;
use kv::keyspace::Usage;
use kv::view::{Duty, Member};
use kv::{NodeId, ShardId};
use replication::Instant;

use crate::session::mix;
use crate::wire::Announced;

/// All that is seen at a moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// The nodes that the known map names, this one too.
    pub nodes: BTreeMap<NodeId, SeenNode>,
    /// Of the shards that change, and of those that another one is to order: what each replica says of itself.
    pub shards: BTreeMap<ShardId, BTreeMap<NodeId, Announced>>,
    /// What each keyspace holds; none of which nobody says it of some shard.
    pub usage: Arc<BTreeMap<String, Usage>>,
}

impl Seen {
    /// What the leader of a shard that changes says: of those that say they are it, or that take requests where nobody leads, the one of the
    /// latest epoch and term.
    pub fn leader(&self, shard: ShardId) -> Option<&Announced> {
        let leads = self.shards.get(&shard)?.values().filter(|told| told.role.takes_requests());
        leads.max_by_key(|told| (told.epoch, told.term, told.revision))
    }
}

/// A node as it is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeenNode {
    /// Whether it was heard of lately; `None` = never, by this node in its present life.
    pub state: Option<Liveness>,
    /// When something came from it last; `None` = never, likewise.
    pub heard: Option<Instant>,
    /// Whether there is a connection to it: one to a process that was killed breaks at once.
    pub is_connected: bool,
    /// What it says of itself; `None` = it has said nothing yet.
    pub says: Option<Says>,
    /// The revision of a map behind which it does not fall back; 0 = it has said of none.
    pub kept: u64,
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

/// A number by which members and their duties are told from others, short enough to be announced every second.
pub(crate) fn digest(members: &[Member]) -> u64 {
    members.iter().fold(0, |sum, member| {
        let duty = match member.duty {
            Duty::Voter => 1,
            Duty::Primary => 2,
            Duty::Learner | Duty::Joining | Duty::Leaving => 0,
            Duty::Astray => 3,
        };
        mix(mix(mix(sum ^ member.node.0) ^ u64::from(member.replica.0)) ^ duty)
    })
}
