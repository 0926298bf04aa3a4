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
    /// Since a replica of these was dropped the log has named none, or it never had one: what is loaded has no rows, or is no
    /// replica yet (a copy, a part of a shard that is cut).
    gone: BTreeSet<ShardId>,
    /// Synced.
    durable: BTreeMap<ShardId, u32>,
}

impl Invariant for SwitchDurable {
    fn name(&self) -> &'static str {
        "a generation is loaded when its switch is durable"
    }

    fn holds_of_merged(&self) -> bool {
        true
    }

    fn see(&mut self, seen: &Seen<'_>, logs: &Logs) -> Result<(), String> {
        match *seen {
            Seen::Recovering { node } | Seen::Wiped { node } => {
                self.nodes.remove(&node);
            }
            Seen::Gone { node, shard } => self.named(node).forget(shard),
            Seen::Generation { node, shard, generation } => {
                let named = self.named(node);
                named.gathered.push((shard, generation));
                named.gone.remove(&shard);
            }
            Seen::Recovered { node, .. } => self.named(node).read(|shard| logs.log(node, shard).is_some()),
            Seen::Appended { node, ticket } => self.named(node).appended(ticket),
            Seen::Durable { node, ticket } => self.named(node).synced(ticket),
            Seen::Load { node, shard, generation } => {
                let named = self.named(node);
                let durable = named.durable.get(&shard).copied().unwrap_or_default();
                if durable != generation && !named.gone.contains(&shard) {
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

    /// What the log of a start says. One of which it has nothing but that it was made is no replica, and has no rows.
    fn read(&mut self, is_replica: impl Fn(ShardId) -> bool) {
        let named = std::mem::take(&mut self.gathered);
        self.gone.extend(named.iter().map(|(shard, _)| *shard).filter(|shard| !is_replica(*shard)));
        self.durable.extend(named);
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

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(1);
    const SHARD: ShardId = ShardId(7);

    fn load(judge: &mut SwitchDurable, generation: u32) -> Result<(), String> {
        judge.see(&Seen::Load { node: NODE, shard: SHARD, generation }, &Logs::default())
    }

    fn see(judge: &mut SwitchDurable, seen: &Seen<'_>) {
        assert_eq!(judge.see(seen, &Logs::default()), Ok(()));
    }

    #[test]
    fn replica_of_which_the_log_has_nothing_but_that_it_was_made_begins_anew_in_another_generation() {
        let mut judge = SwitchDurable::default();
        see(&mut judge, &Seen::Recovering { node: NODE });
        see(&mut judge, &Seen::Gone { node: NODE, shard: SHARD });
        see(&mut judge, &Seen::Generation { node: NODE, shard: SHARD, generation: 3 });
        see(&mut judge, &Seen::Recovered { node: NODE, applied: &Default::default(), now: 1 });
        assert_eq!(load(&mut judge, 0), Ok(()));
    }

    #[test]
    fn rows_of_no_replica_are_loaded_as_often_as_they_are_made_and_those_of_one_when_its_switch_is_synced() {
        let mut judge = SwitchDurable::default();
        see(&mut judge, &Seen::Gone { node: NODE, shard: SHARD });
        // A part is loaded, the map has others by then, and a replica begins with nothing.
        assert_eq!((load(&mut judge, 2), load(&mut judge, 4)), (Ok(()), Ok(())));
        see(&mut judge, &Seen::Generation { node: NODE, shard: SHARD, generation: 4 });
        see(&mut judge, &Seen::Appended { node: NODE, ticket: 1 });
        see(&mut judge, &Seen::Generation { node: NODE, shard: SHARD, generation: 5 });
        see(&mut judge, &Seen::Appended { node: NODE, ticket: 2 });
        see(&mut judge, &Seen::Durable { node: NODE, ticket: 1 });
        assert!(load(&mut judge, 5).is_err(), "its log may come back to the one before");
        see(&mut judge, &Seen::Durable { node: NODE, ticket: 2 });
        assert_eq!(load(&mut judge, 5), Ok(()));
    }
}
