//! What the version clocks of all nodes show.

use kv::NodeId;

use super::place::place;

/// The version clocks at a moment.
pub(crate) struct Clocks {
    pub(super) at: u64,
    /// Of each node, in order: its process, and the clock of each of its cores at its last turn.
    pub(super) nodes: Vec<(Option<u64>, Vec<u64>)>,
}

impl Clocks {
    /// The highest of all, of processes that have ended too, in microseconds since 1970.
    pub fn highest(&self) -> u64 {
        self.all().max().unwrap_or_default()
    }

    /// The lowest of all, in microseconds since 1970.
    pub fn lowest(&self) -> u64 {
        self.all().min().unwrap_or_default()
    }

    /// Of a node; nothing of one that came later.
    pub(super) fn of(&self, node: NodeId) -> (Option<u64>, &[u64]) {
        self.nodes.get(place(node)).map_or((None, &[]), |(life, clocks)| (*life, clocks))
    }

    fn all(&self) -> impl Iterator<Item = u64> + '_ {
        self.nodes.iter().flat_map(|(_, clocks)| clocks.iter().copied())
    }
}
