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

/// Which core drives which shard: the id of a shard says it, whatever other shards there are and whoever has them. Another start may
/// deal otherwise, for neither log nor engine knows cores.
///
/// Ids are given in order, so the shards that exist are dealt out evenly, one core after the other. In a cluster of N nodes
/// each leads every Nth of them, which would always be of the same cores where N and the number of cores have a common divisor. So
/// the dealing begins one core further after each round of both, and what a node leads is dealt out evenly too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deal {
    cores: usize,
    /// Shards after which cores and nodes would come in the same order again.
    round: usize,
}

impl Deal {
    /// Over so many cores, each of which has a driver, with or without shards, where the cluster has so many nodes. It stays for
    /// the life of the process, however many nodes there are later.
    pub fn new(cores: usize, nodes: usize) -> Deal {
        assert!(cores > 0, "a node has a core");
        Deal { cores, round: common_multiple(cores, nodes.max(1)) }
    }

    /// How many cores have a driver.
    pub fn cores(&self) -> usize {
        self.cores
    }

    /// The core of a shard, from 0. The directory's is the first.
    pub fn core_of(&self, shard: ShardId) -> usize {
        let place = shard.0.saturating_sub(1) as usize;
        (place / self.round + place) % self.cores
    }
}

/// The least one.
fn common_multiple(one: usize, other: usize) -> usize {
    let (mut divisor, mut rest) = (one, other);
    while rest > 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    one / divisor * other
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

    use placement::map::Map;
    use placement::{Founder, Founding};

    use super::*;

    fn counts(deal: Deal, shards: impl Iterator<Item = ShardId>) -> Vec<usize> {
        let mut counts: BTreeMap<usize, usize> = (0..deal.cores()).map(|core| (core, 0)).collect();
        for shard in shards {
            *counts.get_mut(&deal.core_of(shard)).expect("a core that is there") += 1;
        }
        counts.into_values().collect()
    }

    fn is_even(counts: &[usize]) -> bool {
        counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1
    }

    fn founding(nodes: u64, shards: u32) -> Map {
        let founder = |id| Founder { name: format!("n{id}"), peer: String::new() };
        let nodes = (1..=nodes).map(founder).collect();
        Map::founding(&Founding { cluster: None, nodes, shards, replicas: 3, protocol: kv::Protocol::Raft })
    }

    #[test]
    fn shards_are_dealt_evenly_and_so_are_those_that_each_node_of_a_new_cluster_leads() {
        for (nodes, shards) in
            (1..=6).flat_map(|nodes| [1, 2, 3, 4, 7, 8, 16, 30, 64].map(|shards| (nodes, shards)))
        {
            let map = founding(nodes, shards);
            for cores in 1..=8 {
                let deal = Deal::new(cores, map.nodes.len());
                let all = counts(deal, (1..=shards).map(ShardId));
                assert!(is_even(&all), "{deal:?}: {all:?}");
                for node in map.nodes.keys() {
                    let led = map.shards.iter().filter(|(id, shard)| shard.leader == *node && id.0 > 0);
                    let led = counts(deal, led.map(|(id, _)| *id));
                    assert!(is_even(&led), "{deal:?}, {shards} shards, {node}: {led:?}");
                }
            }
        }
    }

    #[test]
    fn directory_is_of_the_first_core_and_every_shard_of_some_core() {
        assert_eq!(counts(Deal::new(1, 3), (1..=7).map(ShardId)), [7]);
        assert_eq!(Deal::new(4, 3).core_of(ShardId::DIRECTORY), 0);
        assert!((0..=9).chain([u32::MAX]).all(|shard| Deal::new(4, 3).core_of(ShardId(shard)) < 4));
    }

    #[test]
    fn all_have_said_so_when_the_last_one_does() {
        let mut together = Together::new(3);
        assert!(!together.say(1) && !together.say(1) && !together.say(0));
        assert!(together.say(2) && together.say(1));
    }
}
