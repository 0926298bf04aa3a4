//! What the version clocks say about an answer: by which of them it can have been made.

use kv::{Level, NodeId, Receipt};

use super::clocks::Clocks;
use crate::watch::Bounds;
use crate::world::World;

/// A staleness is measured by a clock that runs at most so much faster or slower than true time and than the version clock, in
/// percent.
const DRIFT_PERCENT: u64 = 10;

impl World {
    pub fn clocks(&self) -> Clocks {
        let nodes = self.machines.iter().map(|machine| (machine.life(), machine.version_clocks.clone()));
        Clocks { at: self.events.now(), nodes: nodes.collect() }
    }

    /// By which clock a read was answered that was asked of `node` when the clocks showed `asked`, and that is answered there now.
    pub fn bounds(&self, node: NodeId, asked: &Clocks, receipt: &Receipt) -> Bounds {
        let now = self.clocks();
        let high = asked.highest().max(now.highest());
        let ((life_then, then), (life_now, clocks)) = (asked.of(receipt.node), now.of(receipt.node));
        let process = self.machine(receipt.node).process.as_ref();
        let Some(process) = process.filter(|_| life_then == life_now) else {
            return Bounds { low: 0, high };
        };
        let core = process.cores.deal.core_of(receipt.shard);
        let (then, clock) = (then[core], clocks[core]);
        // Its rows were read after it was asked; the clock of a node that settles meanwhile makes a step, either way.
        let asked_at = then.min(clock);
        let passed = if receipt.node == node { now.at - asked.at } else { 0 };
        let before = match receipt.reached {
            Level::Linearizable => 0,
            _ => receipt.staleness_micros.saturating_sub(passed / 100 * (100 - DRIFT_PERCENT)),
        };
        let low = asked_at.saturating_sub(before.saturating_add(before / 100 * DRIFT_PERCENT));
        Bounds { low, high }
    }
}
