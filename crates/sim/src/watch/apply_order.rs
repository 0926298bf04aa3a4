//! A table is given the entries of a shard one after the other, none twice and none left out, within one life; a snapshot
//! leaps forward (the contract at the top of `replication`).

use std::collections::BTreeMap;

use kv::{NodeId, ShardId};

use super::logs::Logs;
use super::{Invariant, Record, Seen};

#[derive(Default)]
pub(super) struct ApplyOrder {
    next: BTreeMap<(NodeId, ShardId), u64>,
}

impl Invariant for ApplyOrder {
    fn name(&self) -> &'static str {
        "entries are applied in order"
    }

    fn see(&mut self, seen: &Seen<'_>, _: &Logs) -> Result<(), String> {
        match *seen {
            Seen::Recovered { node, applied, .. } => {
                for (&shard, applied) in applied {
                    self.next.insert((node, shard), applied.index + 1);
                }
            }
            Seen::Record { node, shard, record: Record::Snapshot { index, .. }, .. } => {
                self.next.insert((node, shard), index + 1);
            }
            Seen::Apply { node, shard, index, .. } => {
                let next = self.next.insert((node, shard), index + 1).unwrap_or(1);
                if index != next {
                    return Err(format!("shard {shard} on {node} applies {index} where {next} is next"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
