//! The same entry has the same results and versions on every replica and in every replay, and versions rise from entry to
//! entry (the guarantee of `storage`, and of versions in `kv`).

use std::collections::BTreeMap;

use kv::{Answer, Error, Index, ShardId, Version};

use super::logs::Logs;
use super::{Invariant, Seen};

#[derive(Default)]
pub(super) struct DeterministicApply {
    results: BTreeMap<(ShardId, Index), Results>,
}

struct Results {
    last: Version,
    all: Vec<(Result<Answer, Error>, Version)>,
}

impl Invariant for DeterministicApply {
    fn name(&self) -> &'static str {
        "applying is deterministic"
    }

    fn see(&mut self, seen: &Seen<'_>, _: &Logs) -> Result<(), String> {
        let Seen::Applied { node, shard, index, last, results, .. } = *seen else { return Ok(()) };
        let Some(first) = self.results.get(&(shard, index)) else {
            let before = self.results.range((shard, Index::ZERO)..(shard, index)).next_back();
            let result = match before {
                Some((_, before)) if last < before.last => Err(format!(
                    "entry {index} of shard {shard} on {node} leaves version {last} after {}",
                    before.last
                )),
                _ => Ok(()),
            };
            self.results.insert((shard, index), Results { last, all: results.to_vec() });
            return result;
        };
        match first.last == last && first.all == results {
            true => Ok(()),
            false => Err(format!(
                "entry {index} of shard {shard} on {node} leaves version {last} and {results:?}; elsewhere it left {} and {:?}",
                first.last, first.all
            )),
        }
    }
}
