//! If a replica applied an entry at an index, no other ever applies a different one there: Raft §5.4, State Machine Safety.

use std::collections::BTreeMap;

use kv::{Index, Position, ShardId, Term};

use super::logs::Logs;
use super::{Invariant, Seen, log_matching};

#[derive(Default)]
pub(super) struct StateMachineSafety {
    applied: BTreeMap<(ShardId, Index), (Term, u64)>,
}

impl Invariant for StateMachineSafety {
    fn name(&self) -> &'static str {
        "state machine safety"
    }

    fn see(&mut self, seen: &Seen<'_>, logs: &Logs) -> Result<(), String> {
        let Seen::Apply { node, shard, at: Position { index, term }, entry } = *seen else { return Ok(()) };
        let committed = logs.committed(shard).and_then(|committed| committed.term(index));
        if committed.is_some_and(|committed| committed != term) {
            return Err(format!(
                "{node} applies {index}/{term} of shard {shard}, and {index}/{} was committed",
                committed.unwrap_or_default()
            ));
        }
        let now = (term, log_matching::hash(entry));
        let first = *self.applied.entry((shard, index)).or_insert(now);
        match first == now {
            true => Ok(()),
            false => Err(format!(
                "{node} applies {index}/{term} of shard {shard}, where another entry (term {}) was applied",
                first.0
            )),
        }
    }
}
