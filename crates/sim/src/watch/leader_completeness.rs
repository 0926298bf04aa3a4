//! Who leads a term has every entry that was committed in earlier ones: Raft §5.4, Leader Completeness. So no committed
//! entry is ever lost.

use std::collections::BTreeSet;

use kv::cluster::Role;
use kv::{NodeId, Position, Term};

use super::logs::Logs;
use super::{Invariant, Seen};

#[derive(Default)]
pub(super) struct LeaderCompleteness {
    /// Nodes that run with another folder than their own.
    astray: BTreeSet<NodeId>,
}

impl Invariant for LeaderCompleteness {
    fn name(&self) -> &'static str {
        "leader completeness"
    }

    fn see(&mut self, seen: &Seen<'_>, logs: &Logs) -> Result<(), String> {
        match *seen {
            Seen::Wiped { node } => drop(self.astray.insert(node)),
            Seen::GivenBack { node } => drop(self.astray.remove(&node)),
            _ => {}
        }
        let Seen::Status { node, shard, status } = *seen else { return Ok(()) };
        // Where nobody is elected the member that orders knows that it does from an old folder, too, and is let in by nobody.
        if status.members.is_empty() && self.astray.contains(&node) {
            return Ok(());
        }
        let is_new = logs.role(node, shard) != Some((Role::Leader, status.term));
        if status.role != Role::Leader || status.term == Term::ZERO || !is_new {
            return Ok(());
        }
        let (Some(log), Some(committed)) = (logs.log(node, shard), logs.committed(shard)) else {
            return Ok(());
        };
        let Some(Position { index, term }) = committed.last_below(status.term) else { return Ok(()) };
        // Entries that were let go from memory were committed: the base stands for them.
        let has_it = log.term(index) == Some(term) || log.term(index).is_none() && index <= log.last();
        match has_it {
            true => Ok(()),
            false => Err(format!(
                "{node} leads shard {shard} in term {}, and its log up to {} lacks {index}/{term}, which was committed",
                status.term,
                log.last()
            )),
        }
    }
}
