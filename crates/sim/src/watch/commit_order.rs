//! A replica applies only what is committed, commits only what it has, and neither falls within one life (Raft §5.3).

use std::collections::BTreeMap;

use kv::{Index, NodeId, ShardId, Term};

use super::logs::Logs;
use super::{Invariant, Seen};

#[derive(Default)]
pub(super) struct CommitOrder {
    before: BTreeMap<(NodeId, ShardId), (Term, Index, Index)>,
}

impl Invariant for CommitOrder {
    fn name(&self) -> &'static str {
        "applied up to committed up to last"
    }

    fn holds_of_merged(&self) -> bool {
        true
    }

    fn see(&mut self, seen: &Seen<'_>, _: &Logs) -> Result<(), String> {
        match *seen {
            Seen::Gone { node, shard } => drop(self.before.remove(&(node, shard))),
            Seen::Ended { node } => self.before.retain(|(other, _), _| *other != node),
            Seen::Status { node, shard, status } => {
                let now = (status.term, status.commit, status.applied);
                if status.applied > status.commit
                    || status.commit > status.last
                    || status.durable > status.last
                {
                    return Err(format!("shard {shard} on {node}: {status:?}"));
                }
                let before = self.before.insert((node, shard), now).unwrap_or_default();
                if now.0 < before.0 || now.1 < before.1 || now.2 < before.2 {
                    return Err(format!(
                        "shard {shard} on {node} fell from {before:?} to {now:?} (term, commit, applied)"
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
