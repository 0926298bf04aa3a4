//! A node that came back with nothing.
//!
//! Its old data folder is lost, and with it entries that it had acknowledged and votes that it had given. So it takes
//! part in nothing until a leader, which has every agreed entry, has said how far its log goes, and in no election until it
//! has all of that. Then it is a replica like any other.
//!
//! The leader's word counts only if it surely leads after the old folder was lost, and without this node's help: it proves
//! that as it does for a read, by its lease or by a round. One that was deposed with this node's vote and has not noticed
//! gets no majority for it, and its term is below the one that was told.

use std::collections::BTreeMap;

use kv::ShardId;

/// How far each shard goes of a node that is rejoining, once a leader has told; empty on any other node.
#[derive(Debug, Default)]
pub(crate) struct Rejoin {
    shards: BTreeMap<ShardId, Option<u64>>,
}

impl Rejoin {
    /// Nothing is known of this shard yet.
    pub fn lacks(&mut self, shard: ShardId) {
        let before = self.shards.insert(shard, None);
        assert!(before.is_none(), "a shard is lost once in a node's life");
    }

    /// Whether this node is on its way back.
    pub fn is_under_way(&self) -> bool {
        !self.shards.is_empty()
    }

    /// A leader has told how far a shard goes; whether that counts. To who is rejoining the first proven word counts: what
    /// was asked for when this node knew nothing may arrive when it is whole long since, and then asks for what it never had.
    pub fn takes_word(&mut self, shard: ShardId, index: u64, to_rejoiner: bool) -> bool {
        let is_under_way = self.is_under_way();
        match self.shards.get_mut(&shard) {
            Some(told @ None) if to_rejoiner => {
                *told = Some(index);
                true
            }
            None => !to_rejoiner && !is_under_way,
            Some(_) => false,
        }
    }

    /// Ends it when every shard is as far as was told; whether it ended now. `durable` = how far a shard is here.
    pub fn ends(&mut self, durable: impl Fn(ShardId) -> u64) -> bool {
        let is_whole =
            |(shard, told): (&ShardId, &Option<u64>)| told.is_some_and(|index| durable(*shard) >= index);
        let ends = self.is_under_way() && self.shards.iter().all(is_whole);
        if ends {
            self.shards.clear();
        }
        ends
    }
}
