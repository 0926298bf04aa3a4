//! Names of clusters, nodes, shards, epochs and requests: one type each, so that none is taken for another.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use crate::Version;

/// A cluster: a random number that its founder drew once. Never derived from names or addresses, which another cluster may
/// have too. As text it is 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub NonZeroU64);

impl ClusterId {
    /// The id with this number; `None` for 0, which is no cluster.
    pub fn new(number: u64) -> Option<ClusterId> {
        NonZeroU64::new(number).map(ClusterId)
    }

    /// Its number.
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for ClusterId {
    type Err = String;

    fn from_str(text: &str) -> Result<ClusterId, String> {
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u64::from_str_radix(text, 16).ok().filter(|_| digits);
        let id = number.and_then(ClusterId::new);
        id.ok_or_else(|| format!("'{}' is no id of a cluster: 16 hexadecimal digits", text.escape_debug()))
    }
}

/// A node of the cluster. Given once and never again to another data folder. Starts at 1; 0 is no node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl NodeId {
    /// After every node.
    pub const MAX: NodeId = NodeId(u64::MAX);
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A replica within its shard: what tells the versions of one from those of another ([`Version`] has 10 bits for it). Given
/// with the shard's members, never twice within an epoch. 1 to 1023; 0 issues nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(pub u16);

impl ReplicaId {
    /// The highest there is.
    pub const MAX: ReplicaId = ReplicaId(1023);
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A shard of the cluster. Starts at 1; 0 is the directory's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u32);

impl ShardId {
    /// The shard that the directory's own state is in.
    pub const DIRECTORY: ShardId = ShardId(0);
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_id_is_the_same_after_printing_and_reading() {
        for number in [1, 0xabc, u64::MAX] {
            let id = ClusterId::new(number).expect("it is not 0");
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for text in
            ["", "0000000000000000", "abc", "+00000000000000a", "00000000000000001", "\u{e4}0000000000000a"]
        {
            assert!(text.parse::<ClusterId>().is_err(), "{text}");
        }
    }
}
