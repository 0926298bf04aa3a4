//! How nodes have been for a while: what is written is what lasts.

use std::collections::BTreeMap;

use kv::NodeId;
use kv::cluster::Liveness;
use replication::Instant;

use crate::node::peers::DEAD_MICROS;

/// What a node is seen as becomes its state when it has been so for this long: a node that restarts, or misses some announcements,
/// changes nothing.
const SETTLE_MICROS: u64 = 2_000_000;
/// A node that was never heard of is dead after this: one that joins takes its time to start.
const UNHEARD_MICROS: u64 = 15_000_000;

/// How nodes are seen, and since when.
#[derive(Debug, Default)]
pub(super) struct Health {
    nodes: BTreeMap<NodeId, (Option<Liveness>, Instant)>,
}

impl Health {
    /// A node is seen so now; `None` = it was never heard of.
    pub fn see(&mut self, node: NodeId, state: Option<Liveness>, now: Instant) {
        let known = self.nodes.entry(node).or_insert((state, now));
        if known.0 != state {
            *known = (state, now);
        }
    }

    /// Forgets all nodes but these.
    pub fn keep(&mut self, is_kept: impl Fn(NodeId) -> bool) {
        self.nodes.retain(|node, _| is_kept(*node));
    }

    /// What a node has been for a while; `None` = that is not known.
    pub fn settled(&self, node: NodeId, now: Instant) -> Option<Liveness> {
        let (state, since) = self.nodes.get(&node)?;
        let settles = if state.is_some() { SETTLE_MICROS } else { UNHEARD_MICROS };
        (now.since(*since) >= settles).then_some(state.unwrap_or(Liveness::Dead))
    }

    /// Whether a node was never heard of, for as long as one that falls silent is given. People may know that it does not come.
    pub fn is_missing(&self, node: NodeId, now: Instant) -> bool {
        let found = self.nodes.get(&node);
        found.is_some_and(|(state, since)| state.is_none() && now.since(*since) >= DEAD_MICROS)
    }

    /// Since when a node is seen as dead, if it is.
    pub fn dead_since(&self, node: NodeId) -> Option<Instant> {
        let (state, since) = self.nodes.get(&node)?;
        matches!(state, None | Some(Liveness::Dead)).then_some(*since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(1);

    fn seen(sights: &[(u64, Option<Liveness>)]) -> Health {
        let mut health = Health::default();
        sights.iter().for_each(|(at, state)| health.see(NODE, *state, Instant(*at)));
        health
    }

    #[test]
    fn node_that_was_away_for_a_moment_is_as_before() {
        let dead = Some(Liveness::Dead);
        let alive = Some(Liveness::Alive);
        let health = seen(&[(0, alive), (10, dead), (SETTLE_MICROS, dead), (SETTLE_MICROS + 5, alive)]);
        assert_eq!(health.settled(NODE, Instant(SETTLE_MICROS + 10)), None);
        assert_eq!(health.settled(NODE, Instant(2 * SETTLE_MICROS + 5)), alive);
        assert_eq!(health.dead_since(NODE), None);
    }

    #[test]
    fn node_that_is_dead_for_a_while_is_so_since_the_beginning_of_it() {
        let health =
            seen(&[(0, Some(Liveness::Alive)), (7, Some(Liveness::Dead)), (900, Some(Liveness::Dead))]);
        assert_eq!(health.settled(NODE, Instant(SETTLE_MICROS + 6)), None);
        assert_eq!(health.settled(NODE, Instant(SETTLE_MICROS + 7)), Some(Liveness::Dead));
        assert_eq!(health.dead_since(NODE), Some(Instant(7)));
    }

    #[test]
    fn node_that_was_never_heard_of_is_given_time_to_start() {
        let health = seen(&[(0, None)]);
        assert_eq!(health.settled(NODE, Instant(UNHEARD_MICROS - 1)), None);
        assert_eq!(health.settled(NODE, Instant(UNHEARD_MICROS)), Some(Liveness::Dead));
    }
}
