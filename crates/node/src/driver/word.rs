//! What the cores of a node say to each other: they have nothing in common, so each word is an input of a turn.

use kv::ShardId;
use kv::view::Change;

use super::split;

/// What one core says to another.
pub enum Word {
    /// To the first core: a core acts on the map of a revision, and what it wrote for that is in the log.
    Kept {
        /// The core.
        core: usize,
        /// The revision.
        revision: u64,
    },
    /// To the first core, which has the directory: a replica here asks for other members of its shard.
    Revise {
        /// The shard.
        shard: ShardId,
        /// What it asks.
        change: Change,
    },
    /// Of a shard that is cut.
    Split(split::Word),
}
