//! A replica votes for one candidate in a term, across its restarts (Raft §5.2), and its term never falls.
//!
//! A vote counts once it is synced; until then a crash may take it back. So the votes of one life are compared with each
//! other, and with those that its recovery found.

use std::collections::BTreeMap;

use kv::{NodeId, ReplicaId, ShardId, Term};

use super::logs::Logs;
use super::{Invariant, Record, Seen};

#[derive(Default)]
pub(super) struct OneVote {
    votes: BTreeMap<(NodeId, ShardId), (Term, ReplicaId)>,
}

impl Invariant for OneVote {
    fn name(&self) -> &'static str {
        "one vote per term"
    }

    fn see(&mut self, seen: &Seen<'_>, _: &Logs) -> Result<(), String> {
        match *seen {
            Seen::Recovering { node } | Seen::Wiped { node } => {
                self.votes.retain(|(other, _), _| *other != node);
                Ok(())
            }
            Seen::Gone { node, shard } => {
                self.votes.remove(&(node, shard));
                Ok(())
            }
            Seen::Record { node, shard, record: Record::State { term, vote, .. }, .. } => {
                let (before, voted) = self.votes.insert((node, shard), (term, vote)).unwrap_or_default();
                if term < before {
                    return Err(format!("shard {shard} on {node} went from term {before} back to {term}"));
                }
                match term == before && voted != ReplicaId(0) && vote != voted {
                    true => Err(format!(
                        "shard {shard} on {node} voted for {voted} and then {vote} in term {term}"
                    )),
                    false => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}
