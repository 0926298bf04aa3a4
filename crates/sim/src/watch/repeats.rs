//! No invariant, but cases that must come up: a request that was sent again and answered as the first time, or so late that it
//! cannot be told whether it is the first time, or that came when no more could be remembered.

use std::collections::BTreeMap;

use kv::{Answer, Error, ShardId, Version};

/// The version that each entry left.
#[derive(Default)]
pub(super) struct Repeats {
    lasts: BTreeMap<(ShardId, u64), Version>,
}

impl Repeats {
    /// What an entry that was applied for the first time shows.
    pub fn seen(
        &mut self,
        shard: ShardId,
        index: u64,
        last: Version,
        results: &[(Result<Answer, Error>, Version)],
    ) -> Option<&'static str> {
        if self.lasts.insert((shard, index), last).is_some() {
            return None;
        }
        let before = *self.lasts.get(&(shard, index - 1))?;
        results.iter().find_map(|(result, version)| match result {
            Ok(_) if *version <= before => Some("a repeated request was answered as before"),
            Err(Error::InDoubt(_)) => Some("a request that was out of date was not run"),
            Err(Error::Unavailable(_)) => Some("a shard had no room to remember a request"),
            _ => None,
        })
    }
}
