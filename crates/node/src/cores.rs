//! The cores of a node: which of them drives which shards, and what holds of the node only when it holds of all of them.
//!
//! Each core has a [`crate::Driver`] of its own over some of the node's shards, or none at present: their replicas, their open requests, their
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

/// Which core drives which shard: the id of a shard says it, whatever other shards there are and whoever has them.
///
/// Ids are given in order, so the shards that exist are dealt out evenly. A node leads every so many of them, and each round over
/// the cores begins one further, so that those are not all of one core where a node has as many cores as the cluster has nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deal {
    cores: usize,
}

impl Deal {
    /// Over so many cores, each of which has a driver, with or without shards.
    pub fn new(cores: usize) -> Deal {
        assert!(cores > 0, "a node has a core");
        Deal { cores }
    }

    /// How many cores have a driver.
    pub fn cores(&self) -> usize {
        self.cores
    }

    /// The core of a shard, from 0. The directory's is the first.
    pub fn core_of(&self, shard: ShardId) -> usize {
        let place = shard.0.saturating_sub(1) as usize;
        (place / self.cores + place) % self.cores
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
    fn shards_are_dealt_evenly_and_so_are_those_that_a_node_leads_where_it_has_a_core_a_node() {
        for (shards, cores) in (0..=20).flat_map(|shards| (1..=8).map(move |cores| (shards, cores))) {
            let deal = Deal::new(cores);
            let all = counts(deal, 1..=shards);
            assert!(is_even(&all), "{deal:?}: {all:?}");
            for node in 1..=cores {
                let led = counts(deal, (node..=shards).step_by(cores));
                assert!(is_even(&led), "{deal:?}, node {node}: {led:?}");
            }
        }
    }

    #[test]
    fn directory_is_of_the_first_core_and_every_shard_of_some_core() {
        assert_eq!(counts(Deal::new(1), 1..=7), [7]);
        assert_eq!(Deal::new(4).core_of(ShardId::DIRECTORY), 0);
        assert!((0..=9).chain([u32::MAX]).all(|shard| Deal::new(4).core_of(ShardId(shard)) < 4));
    }

    #[test]
    fn all_have_said_so_when_the_last_one_does() {
        let mut together = Together::new(3);
        assert!(!together.say(1) && !together.say(1) && !together.say(0));
        assert!(together.say(2) && together.say(1));
    }
}
