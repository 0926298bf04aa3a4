//! Asks on their way to the directory, and their answers.

use kv::admin::{Answer, Ask};
use kv::{Error, NodeId};
use node::Input;
use node::identity::encode_lives;

use super::tenant::Asked;
use crate::world::World;

/// A node tries for so long.
const TIMEOUT_MICROS: u64 = 3_000_000;
/// An answer is waited for a little longer.
const PATIENCE_MICROS: u64 = 500_000;

impl World {
    /// Asks the directory through a node that is up and knows its cluster, if there is one, but not through one that is held away.
    pub(super) fn ask_directory(&mut self, ask: Ask, away: Option<NodeId>) -> Option<Asked> {
        let serves = |id: &NodeId| {
            let is_up = self.machine(*id).process.is_some() && Some(*id) != away;
            is_up && self.waits_for_its_cluster(*id).is_none()
        };
        let nodes: Vec<NodeId> = self.ids().filter(serves).collect();
        if nodes.is_empty() {
            return None;
        }
        let node = self.pick_by_map(&nodes, true);
        self.operator.asked += 1;
        let client = self.operator.asked;
        self.trace(|| format!("{node} is asked {client} of the directory: {ask:?}"));
        self.give(node, [Input::Administer { client, ask, timeout_micros: TIMEOUT_MICROS }]);
        Some(Asked { client, until: self.events.now() + TIMEOUT_MICROS + PATIENCE_MICROS })
    }

    /// One of some nodes; often one that knows the latest map of them, or the earliest.
    pub(super) fn pick_by_map(&mut self, nodes: &[NodeId], latest: bool) -> NodeId {
        let revision = |id: &NodeId| {
            let process = self.machine(*id).process.as_ref();
            process.and_then(|process| process.cores.maps().min()).unwrap_or(0)
        };
        let revisions = || nodes.iter().map(revision);
        let wanted = if latest { revisions().max() } else { revisions().min() };
        let those: Vec<NodeId> =
            nodes.iter().copied().filter(|node| Some(revision(node)) == wanted).collect();
        let often = self.random.percent(50);
        self.random.pick(if often { &those } else { nodes })
    }

    /// A node answers; who joins is told in which lives it met the others.
    pub fn administered(&mut self, id: NodeId, client: u64, mut result: Result<Answer, Error>) {
        let process = self.machine(id).process.as_ref();
        if let (Ok(Answer::Joined { lives, .. }), Some(process)) = (&mut result, process) {
            *lives = encode_lives(&process.greeter.acquaintances());
        }
        self.trace(|| format!("the directory answers {client}: {result:?}"));
        self.operator.answers.insert(client, result);
    }
}
