//! A table switches to a generation that came in only when the log's record of the switch is synced (`node`'s install):
//! else a crash comes back to the generation before, whose rows may be gone by then.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kv::{NodeId, ShardId};

use super::logs::Logs;
use super::{Invariant, Seen};

/// The generations that the logs of all nodes name.
#[derive(Default)]
pub(super) struct SwitchDurable {
    nodes: BTreeMap<NodeId, Named>,
}

/// The generations that the log of one node names.
#[derive(Default)]
struct Named {
    /// By the append that is being looked at, or by a log that is being read.
    gathered: Vec<(ShardId, u32)>,
    /// By appends that are not synced.
    waiting: VecDeque<(u64, Vec<(ShardId, u32)>)>,
    /// No replica was loaded after the one that was dropped.
    gone: BTreeSet<ShardId>,
    /// Synced.
    durable: BTreeMap<ShardId, u32>,
}

impl Invariant for SwitchDurable {
    fn name(&self) -> &'static str {
        "a generation is loaded when its switch is durable"
    }

    fn see(&mut self, seen: &Seen<'_>, _: &Logs) -> Result<(), String> {
        match *seen {
            Seen::Recovering { node } | Seen::Wiped { node } => {
                self.nodes.remove(&node);
            }
            Seen::Gone { node, shard } => self.named(node).forget(shard),
            Seen::Generation { node, shard, generation } => {
                self.named(node).gathered.push((shard, generation))
            }
            Seen::Recovered { node, .. } => self.named(node).read(),
            Seen::Appended { node, ticket } => self.named(node).appended(ticket),
            Seen::Durable { node, ticket } => self.named(node).synced(ticket),
            Seen::Load { node, shard, generation } => {
                let named = self.named(node);
                let durable = named.durable.get(&shard).copied().unwrap_or_default();
                // One that was made in place of another has no rows, whatever its generation is.
                if durable != generation && !named.gone.remove(&shard) {
                    return Err(format!(
                        "{node} loads generation {generation} of shard {shard}, and its synced log names {durable}"
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl SwitchDurable {
    fn named(&mut self, node: NodeId) -> &mut Named {
        self.nodes.entry(node).or_default()
    }
}

impl Named {
    /// Whatever the log says of a shard, the next replica of it is another one.
    fn forget(&mut self, shard: ShardId) {
        self.durable.remove(&shard);
        self.gone.insert(shard);
        let waiting = self.waiting.iter_mut().map(|(_, named)| named);
        waiting.chain([&mut self.gathered]).for_each(|named| named.retain(|(of, _)| *of != shard));
    }

    fn read(&mut self) {
        self.durable.extend(std::mem::take(&mut self.gathered));
    }

    fn appended(&mut self, ticket: u64) {
        let gathered = std::mem::take(&mut self.gathered);
        if !gathered.is_empty() {
            self.waiting.push_back((ticket, gathered));
        }
    }

    fn synced(&mut self, ticket: u64) {
        while let Some((_, generations)) = self.waiting.pop_front_if(|(waiting, _)| *waiting <= ticket) {
            self.durable.extend(generations);
        }
    }
}
