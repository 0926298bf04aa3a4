//! A table is given the entries of a shard one after the other, none twice and none left out, within one life; a snapshot
//! leaps forward (the contract at the top of `replication`).

use std::collections::BTreeMap;

use kv::{Index, NodeId, ShardId};

use super::logs::Logs;
use super::{Invariant, Record, Seen};

#[derive(Default)]
pub(super) struct ApplyOrder {
    next: BTreeMap<(NodeId, ShardId), Index>,
}

impl Invariant for ApplyOrder {
    fn name(&self) -> &'static str {
        "entries are applied in order"
    }

    fn holds_of_merged(&self) -> bool {
        true
    }

    fn see(&mut self, seen: &Seen<'_>, _: &Logs) -> Result<(), String> {
        match *seen {
            Seen::Recovered { node, applied, .. } => {
                for (&shard, applied) in applied {
                    self.next.insert((node, shard), Index(applied.index).next());
                }
            }
            Seen::Gone { node, shard } => drop(self.next.remove(&(node, shard))),
            Seen::Record { node, shard, record: Record::Snapshot(at), .. } => {
                self.next.insert((node, shard), at.index.next());
            }
            Seen::Apply { node, shard, at, .. } => {
                // A replica that was just made begins where its copy does, be it a snapshot or what was handed over to it.
                let next = self.next.insert((node, shard), at.index.next()).unwrap_or(at.index);
                if at.index != next {
                    return Err(format!("shard {shard} on {node} applies {at} where {next} is next"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
