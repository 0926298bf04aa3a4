//! What a node's drivers know from their start. All but the map is fixed for their life.

use std::collections::BTreeSet;
use std::sync::Arc;

use kv::keyspace::History;
use kv::{NodeId, ShardId};
use placement::Limits;
use placement::map::Map;

use crate::cores::Deal;
use crate::directory::GRACE_MICROS;
use crate::seat::Seat;

/// The settings of one node, for the drivers of all its cores.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub me: NodeId,
    /// Where everything is, as the node knows it when it starts: [`crate::Recovery::map`].
    pub map: Arc<Map>,
    /// Which of its cores drives which shards.
    pub deal: Deal,
    /// Differs between nodes and between starts: the source of session ids and of election jitter.
    pub seed: u64,
    /// Bytes of entries that all replicas together keep in memory for followers that lag.
    pub entry_cache_bytes: usize,
    /// This node's process id, for its announcements.
    pub pid: u32,
    /// Where this node's clients connect, for its announcements.
    pub address: String,
    /// Where other nodes connect, for its announcements; empty = nowhere.
    pub peer: String,
    /// What fails together with this node, for its announcements; empty = a zone of its own.
    pub zone: String,
    /// The life of its data folder, for its announcements; 0 = it has none.
    pub incarnation: u64,
    /// A node that has been dead for so long is gone for good, as this node sees it if it leads the directory.
    pub grace_micros: u64,
    /// How much moves at once, if this node leads the directory.
    pub limits: Limits,
    /// Nothing of this node outlives its process: no answer is on a disk, and receipts say so.
    pub volatile: bool,
    /// What a key keeps under [`kv::Protocol::Broadcast`] where its keyspace says nothing of it; `None` = as the table is opened.
    pub history: Option<History>,
}

impl Config {
    /// Of a node with one core that has no addresses and keeps no entries in memory; the rest is as usual.
    pub fn new(me: NodeId, map: Arc<Map>) -> Config {
        Config {
            me,
            deal: Deal::new(1, map.nodes.len()),
            map,
            seed: 1,
            entry_cache_bytes: 0,
            pid: 1,
            address: String::new(),
            peer: String::new(),
            zone: String::new(),
            incarnation: 0,
            grace_micros: GRACE_MICROS,
            limits: Limits::default(),
            volatile: false,
            history: None,
        }
    }

    /// How many of its cores have a shard, wherever that is: clients ask them.
    pub(crate) fn cores_asked(&self) -> usize {
        let cores: BTreeSet<usize> = self.map.shards.keys().map(|shard| self.deal.core_of(*shard)).collect();
        cores.len().max(1)
    }

    /// The other nodes that have a replica of a shard, or are about to.
    pub(crate) fn seats(&self, shard: ShardId) -> impl Iterator<Item = NodeId> + '_ {
        let row = self.map.shards.get(&shard).into_iter().flat_map(|row| &row.members);
        let change = self.map.changes.get(&shard).into_iter().flat_map(|change| &change.to);
        let part = self.map.part(shard).into_iter().flat_map(|(_, _, change, _)| &change.to);
        let change = change.chain(part);
        let nodes: BTreeSet<NodeId> = row.chain(change).map(|member| member.node).collect();
        nodes.into_iter().filter(|node| *node != self.me)
    }

    /// How many replicas it has, or one.
    pub(crate) fn replicas(&self) -> usize {
        let has_seat = |shard: &&ShardId| Seat::of(&self.map, **shard, self.me).is_some();
        self.map.shards.keys().filter(has_seat).count().max(1)
    }

    /// Whether it is sound: what the driver rests on.
    pub(crate) fn is_sound(&self) -> bool {
        self.me.0 > 0
    }
}
