//! The cores of a node: which of them drives which shards, and what holds of the node only when it holds of all of them.
//!
//! Each core has a [`crate::Driver`] of its own over some of the node's shards: their replicas, their open requests, their
//! table, a clock. No core reads what another has. What concerns the whole node reaches every core: its owner gives each the
//! words of other nodes that name no shard, the connections that stand or broke, the full disk, the checkpoint, the stop.
//!
//! ```text
//!                         core 0        core 1        core 2
//!   frame of shard 4 ───────────────────▶ driver
//!   announcement ─────────▶ driver ─────▶ driver ─────▶ driver
//!   checkpoint ───────────▶ its part ───▶ its part ───▶ its part ──▶ the log lets go when all are complete
//! ```
//!
//! How many cores a node has is its own matter: other nodes do not know, and the next start may have another number. The log
//! and the engine know shards, not cores.

use std::collections::BTreeSet;

use kv::ShardId;

/// Which core drives which shard.
///
/// All shards are dealt out evenly, and so are those that each node of the cluster prefers to lead (every `nodes`-th one): the
/// list of the first node's, then the second's, and so on, goes round the cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deal {
    shards: usize,
    nodes: usize,
    cores: usize,
}

impl Deal {
    /// So many shards, numbered from 1, of a cluster of so many nodes, over so many cores: each has one at least, so there may
    /// be fewer cores than there could be.
    pub fn new(shards: usize, nodes: usize, cores: usize) -> Deal {
        assert!(shards > 0 && nodes > 0 && cores > 0, "a node has shards and a core");
        Deal { shards, nodes, cores: cores.min(shards) }
    }

    /// How many cores have a driver.
    pub fn cores(&self) -> usize {
        self.cores
    }

    /// The core of a shard, from 0. Of one that does not exist it is any.
    pub fn core_of(&self, shard: ShardId) -> usize {
        let place = shard.0.saturating_sub(1) as usize;
        let (row, column) = (place / self.nodes, place % self.nodes);
        let before = column * (self.shards / self.nodes) + column.min(self.shards % self.nodes);
        (before + row) % self.cores
    }
}

/// Something that is so when every core has said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Together {
    missing: BTreeSet<usize>,
}

impl Together {
    /// So many cores, none of which has said so.
    pub fn new(cores: usize) -> Together {
        Together { missing: (0..cores).collect() }
    }

    /// A core says so, once or again. Whether all have.
    pub fn say(&mut self, core: usize) -> bool {
        self.missing.remove(&core);
        self.is_complete()
    }

    /// Whether all have said so.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn counts(deal: Deal, shards: impl Iterator<Item = usize>) -> Vec<usize> {
        let mut counts: BTreeMap<usize, usize> = (0..deal.cores()).map(|core| (core, 0)).collect();
        for shard in shards {
            *counts.get_mut(&deal.core_of(ShardId(shard as u32))).expect("a core that is there") += 1;
        }
        counts.into_values().collect()
    }

    fn is_even(counts: &[usize]) -> bool {
        counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1
    }

    #[test]
    fn shards_are_dealt_evenly_and_so_are_those_that_a_node_prefers_to_lead() {
        for (shards, nodes, cores) in
            (1..=20).flat_map(|s| (1..=5).flat_map(move |n| (1..=8).map(move |c| (s, n, c))))
        {
            let deal = Deal::new(shards, nodes, cores);
            let all = counts(deal, 1..=shards);
            assert!(is_even(&all) && all.iter().all(|count| *count > 0), "{deal:?}: {all:?}");
            for node in 1..=nodes {
                let led = counts(deal, (node..=shards).step_by(nodes));
                assert!(is_even(&led), "{deal:?}, node {node}: {led:?}");
            }
        }
    }

    #[test]
    fn one_core_has_all_and_a_shard_that_does_not_exist_has_some_core() {
        assert_eq!(counts(Deal::new(7, 3, 1), 1..=7), [7]);
        for shard in [0, 8, u32::MAX] {
            assert!(Deal::new(7, 3, 4).core_of(ShardId(shard)) < 4);
        }
    }

    #[test]
    fn all_have_said_so_when_the_last_one_does() {
        let mut together = Together::new(3);
        assert!(!together.say(1) && !together.say(1) && !together.say(0));
        assert!(together.say(2) && together.say(1));
    }
}
