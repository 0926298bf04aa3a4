//! What a node's drivers are told at their start. Fixed for their life.

use kv::{NodeId, Protocol};

use crate::cores::Deal;
use crate::route::ShardMap;

/// The settings of one node, for the drivers of all its cores.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub me: NodeId,
    /// All nodes with their names, this one included, in the order of their ids.
    pub nodes: Vec<(NodeId, String)>,
    /// How the replicas of each shard agree.
    pub protocol: Protocol,
    /// The shards; each has a replica on every node.
    pub map: ShardMap,
    /// How many cores its shards are dealt to at most, 1 or more.
    pub cores: usize,
    /// Differs between nodes and between starts: the source of session ids and of election jitter.
    pub seed: u64,
    /// Bytes of entries that all replicas together keep in memory for followers that lag.
    pub entry_cache_bytes: usize,
    /// This node's process id, for its announcements.
    pub pid: u32,
    /// Where this node's clients connect, for its announcements.
    pub address: String,
    /// This node came back with nothing: it votes again only when a leader has made it whole.
    pub rejoining: bool,
    /// Nothing of this node outlives its process: no answer is on a disk, and receipts say so.
    pub volatile: bool,
}

impl Config {
    /// Which of its cores drives which of its shards.
    pub fn deal(&self) -> Deal {
        Deal::new(self.map.shards().len(), self.nodes.len(), self.cores)
    }

    /// Whether it is sound: what the driver rests on.
    pub(crate) fn is_sound(&self) -> bool {
        let in_order = self.nodes.is_sorted_by(|(one, _), (other, _)| one < other);
        let is_member = self.nodes.iter().any(|(id, _)| *id == self.me);
        in_order && is_member && !self.map.shards().is_empty() && self.cores > 0
    }
}
