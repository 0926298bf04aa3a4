//! Copies of a shard that applied the same entries are equal, byte for byte (the guarantee of `storage`).

use std::collections::BTreeMap;

use kv::{NodeId, ShardId};

/// The digests that were seen, by shard and applied index.
#[derive(Default)]
pub(crate) struct Digests {
    seen: BTreeMap<(ShardId, u64), (NodeId, u64)>,
}

impl Digests {
    /// A copy was looked at.
    pub fn see(&mut self, node: NodeId, shard: ShardId, applied: u64, digest: u64) -> Result<(), String> {
        let (first, expected) = *self.seen.entry((shard, applied)).or_insert((node, digest));
        match expected == digest {
            true => Ok(()),
            false => Err(format!(
                "equal copies: shard {shard} on {node} applied {applied} entries, as {first} had, and is another (digest \
                 {digest:016x}, not {expected:016x})"
            )),
        }
    }
}
