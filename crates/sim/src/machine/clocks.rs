//! What the version clocks of all nodes show, and what follows from them for an answer.

use kv::{Level, NodeId, Receipt};

use crate::watch::Bounds;
use crate::world::World;

/// A version clock runs at most so much faster than true time, in percent: its machine's clock does by 4, and it is drawn by 1.
const FAST_PERCENT: u64 = 6;
/// A staleness is measured by the machine's clock, and the version clock is drawn by so much beside it, in percent.
const DRAWN_PERCENT: u64 = 2;

/// The version clocks at a moment.
pub(crate) struct Clocks {
    at: u64,
    /// Of each node, in order: its process, and its clock at the last turn.
    nodes: Vec<(Option<u64>, u64)>,
}

impl Clocks {
    /// The highest of all, of processes that have ended too, in microseconds since 1970.
    pub fn highest(&self) -> u64 {
        self.nodes.iter().map(|(_, clock)| *clock).max().unwrap_or_default()
    }

    /// The lowest of all, in microseconds since 1970.
    pub fn lowest(&self) -> u64 {
        self.nodes.iter().map(|(_, clock)| *clock).min().unwrap_or_default()
    }

    fn of(&self, node: NodeId) -> (Option<u64>, u64) {
        self.nodes[usize::from(node.0) - 1]
    }
}

impl World {
    pub fn clocks(&self) -> Clocks {
        let nodes = self.machines.iter().map(|machine| (machine.life(), machine.version_clock));
        Clocks { at: self.events.now(), nodes: nodes.collect() }
    }

    /// By which clock a read was answered that was asked of `node` when the clocks showed `asked`, and that is answered there now.
    pub fn bounds(&self, node: NodeId, asked: &Clocks, receipt: &Receipt) -> Bounds {
        let now = self.clocks();
        let high = asked.highest().max(now.highest());
        let ((life_then, then), (life_now, clock)) = (asked.of(receipt.node), now.of(receipt.node));
        if life_then.is_none() || life_then != life_now {
            return Bounds { low: 0, high };
        }
        // Its rows were read some time between, and a clock that settles meanwhile makes one step, either way.
        let asked_at = then.min(clock);
        let low = match receipt.reached {
            Level::Linearizable => asked_at,
            _ => {
                let passed = now.at - asked.at;
                let clock = clock.min(then + passed + passed * FAST_PERCENT / 100);
                let clock = if receipt.node == node { clock } else { asked_at };
                let staleness = receipt.staleness_micros;
                clock.saturating_sub(staleness.saturating_add(staleness / 100 * DRAWN_PERCENT))
            }
        };
        Bounds { low, high }
    }
}
