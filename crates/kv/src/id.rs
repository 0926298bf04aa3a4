//! Names of nodes, shards, epochs and requests: one type each, so that none is taken for another.

use std::fmt;

use crate::Version;

/// A node of the cluster. 1 to 1023 (it has 10 bits in a [`Version`]); 0 is no node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u16);

impl NodeId {
    /// The highest id a node may have.
    pub const MAX: NodeId = NodeId(1023);
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A shard of the cluster. Starts at 1; 0 is no shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u32);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Rises when a shard's protocol, bounds or (where the directory decides them) members change. Starts at 1; 0 is before
/// every epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Makes a retried request happen once.
///
/// A shard remembers the answer to each request of a client until `answered_below` passes its sequence number or the
/// shard's newest version passes `valid_until`. A retry after that is refused as in doubt, never run; and so is a retry
/// whose answer was too large to be kept. Another request under the same id is invalid. A client has at most
/// [`crate::SESSION_WINDOW`] unanswered requests under one `client`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    /// The session: a random number that the client drew once. Not 0.
    pub client: u64,
    /// Number of the request in its session. Starts at 1, rises by one.
    pub sequence: u64,
    /// The last version at which the request may still be run.
    pub valid_until: Version,
    /// All requests of the session below this number have their answer (or were given up) and are never sent again.
    pub answered_below: u64,
}
