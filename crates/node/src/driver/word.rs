//! What the cores of a node say to each other: they have nothing in common, so each word is an input of a turn.

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
    /// Of a shard that is cut.
    Split(split::Word),
}
