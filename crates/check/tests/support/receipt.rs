//! Answers as a store sends them.

use kv::{Answer, Epoch, Level, NodeId, Protocol, Receipt, Reply, ShardId, Version};

/// An answer with a receipt.
pub fn reply(answer: Answer) -> Reply {
    let receipt = Receipt {
        version: Version::ZERO,
        shard: ShardId(1),
        protocol: Protocol::Raft,
        epoch: Epoch(1),
        asked: Level::Linearizable,
        reached: Level::Linearizable,
        copies: 1,
        staleness_micros: 0,
        node: NodeId(1),
    };
    Reply { answer, receipt }
}
