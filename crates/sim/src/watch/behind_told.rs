//! Who says something in an earlier epoch is answered with the members of the shard (`node`'s fence): else a node that has
//! missed a change goes on in the past for good.

use std::collections::BTreeMap;

use kv::{NodeId, ShardId};

use super::logs::Logs;
use super::{Invariant, Seen};

/// What is owed: by a node, to a node, of a shard; and whether the turn that was to pay it has ended.
#[derive(Default)]
pub(super) struct BehindTold {
    owed: BTreeMap<(NodeId, NodeId, ShardId), bool>,
}

impl Invariant for BehindTold {
    fn name(&self) -> &'static str {
        "who is behind is told"
    }

    fn holds_of_merged(&self) -> bool {
        true
    }

    fn see(&mut self, seen: &Seen<'_>, _: &Logs) -> Result<(), String> {
        match *seen {
            Seen::Foreign { node, from, shard, is_earlier: true } => {
                self.owed.entry((node, from, shard)).or_default();
            }
            Seen::Members { node, to, shard } => {
                self.owed.remove(&(node, to, shard));
            }
            // Without a replica it does not know them either: the map tells.
            Seen::Gone { node, shard } => {
                self.owed.retain(|(owes, _, of), _| (*owes, *of) != (node, shard));
            }
            Seen::Ended { node } => self.owed.retain(|(owes, ..), _| *owes != node),
            // What a turn sends is seen after how its replicas are, and before the next turn.
            Seen::Status { node, shard, .. } => {
                for (&(owes, to, of), has_ended) in &mut self.owed {
                    if (owes, of) == (node, shard) && std::mem::replace(has_ended, true) {
                        return Err(format!(
                            "{node} does not say to {to} who the members of shard {shard} are"
                        ));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}
