//! A leader commits only entries of its own term by counting copies, and earlier ones with them: Raft §5.4.2, figure 8. (Under
//! two-phase what was decided in an earlier life may be synced in a later one.)

use std::collections::BTreeMap;

use kv::cluster::Role;
use kv::{Index, NodeId, ShardId, Term};

use super::logs::Logs;
use super::{Invariant, Seen};

#[derive(Default)]
pub(super) struct OwnTerm {
    /// Of leaders: term and commit.
    commits: BTreeMap<(NodeId, ShardId), (Term, Index)>,
}

impl Invariant for OwnTerm {
    fn name(&self) -> &'static str {
        "a leader commits entries of its own term"
    }

    fn see(&mut self, seen: &Seen<'_>, logs: &Logs) -> Result<(), String> {
        match *seen {
            Seen::Gone { node, shard } => drop(self.commits.remove(&(node, shard))),
            Seen::Ended { node } => self.commits.retain(|(other, _), _| *other != node),
            Seen::Status { node, shard, status } if status.role != Role::Leader => {
                self.commits.remove(&(node, shard));
            }
            Seen::Status { node, shard, status } => {
                let before = self.commits.insert((node, shard), (status.term, status.commit));
                let rose = before.is_some_and(|before| before.0 == status.term && before.1 < status.commit);
                let term = logs.log(node, shard).and_then(|log| log.term(status.commit));
                // Only who counts copies has members to tell of.
                let counts = !status.members.is_empty();
                if counts && rose && term.is_some_and(|term| term != status.term) {
                    return Err(format!(
                        "{node} leads shard {shard} in term {} and commits {}/{}",
                        status.term,
                        status.commit,
                        term.unwrap_or_default()
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
