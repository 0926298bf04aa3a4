//! Who leads a term has every entry that was committed in earlier ones: Raft §5.4, Leader Completeness. So no committed
//! entry is ever lost.

use kv::cluster::Role;
use kv::{Position, Term};

use super::logs::Logs;
use super::{Invariant, Seen};

#[derive(Default)]
pub(super) struct LeaderCompleteness {}

impl Invariant for LeaderCompleteness {
    fn name(&self) -> &'static str {
        "leader completeness"
    }

    fn see(&mut self, seen: &Seen<'_>, logs: &Logs) -> Result<(), String> {
        let Seen::Status { node, shard, status } = *seen else { return Ok(()) };
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
