//! No invariant, but a case that must come up: a request that was sent again and answered as the first time.

use std::collections::BTreeMap;

use kv::{Answer, Error, ShardId, Version};

/// The version that each entry left.
#[derive(Default)]
pub(super) struct Repeats {
    lasts: BTreeMap<(ShardId, u64), Version>,
}

impl Repeats {
    /// Whether an entry that was applied for the first time answers something as it was answered before.
    pub fn has(
        &mut self,
        shard: ShardId,
        index: u64,
        last: Version,
        results: &[(Result<Answer, Error>, Version)],
    ) -> bool {
        if self.lasts.insert((shard, index), last).is_some() {
            return false;
        }
        let Some(before) = self.lasts.get(&(shard, index - 1)) else { return false };
        results.iter().any(|(result, version)| result.is_ok() && version <= before)
    }
}
