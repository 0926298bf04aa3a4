//! What was durable when a process ended is there when the next one has read its log, unless the folder went with it (the
//! guarantee of `wal`; Raft §5.2 and §5.3 rest on it).

use std::collections::BTreeMap;

use kv::cluster::Role;
use kv::{Index, NodeId, ReplicaId, ShardId, Term};

use super::logs::Logs;
use super::{Invariant, Seen};

#[derive(Default)]
pub(super) struct DurableSurvives {
    kept: BTreeMap<(NodeId, ShardId), Kept>,
}

/// What was durable at the end.
#[derive(Clone, Copy, Debug)]
struct Kept {
    last: Index,
    /// Of the last entry, where it is known.
    last_term: Option<Term>,
    state: (Term, ReplicaId),
}

impl Invariant for DurableSurvives {
    fn name(&self) -> &'static str {
        "what is durable survives"
    }

    fn holds_of_merged(&self) -> bool {
        true
    }

    fn see(&mut self, seen: &Seen<'_>, logs: &Logs) -> Result<(), String> {
        match *seen {
            Seen::Ended { node } => {
                for (shard, durable) in logs.durables_of(node) {
                    let last_term = logs.log(node, shard).and_then(|log| log.term(durable.last));
                    self.kept
                        .insert((node, shard), Kept { last: durable.last, last_term, state: durable.state });
                }
                Ok(())
            }
            Seen::Wiped { node } | Seen::GivenBack { node } => {
                self.kept.retain(|(other, _), _| *other != node);
                Ok(())
            }
            Seen::Gone { node, shard } => {
                self.kept.remove(&(node, shard));
                Ok(())
            }
            Seen::Recovered { node, applied, .. } => applied.iter().try_for_each(|(&shard, _)| {
                let kept = self.kept.get(&(node, shard));
                kept.map_or(Ok(()), |kept| check_log(kept, node, shard, logs))
            }),
            // The first word of the new process, before it has heard of anybody.
            Seen::Status { node, shard, status } => match self.kept.remove(&(node, shard)) {
                // A two-phase master has begun a life in the place of what was not decided.
                Some(_) if status.role == Role::Leader && status.term > Term::ZERO => Ok(()),
                Some(kept) if status.durable < kept.last => Err(format!(
                    "shard {shard} on {node} had entries up to {} and has them up to {}, applied up to {}",
                    kept.last, status.durable, status.applied
                )),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

fn check_log(kept: &Kept, node: NodeId, shard: ShardId, logs: &Logs) -> Result<(), String> {
    let (term, vote) =
        logs.durable(node, shard).map_or_else(Default::default, |durable| durable.state_read());
    let now = logs.log(node, shard).and_then(|log| log.term(kept.last));
    if let (Some(before), Some(now)) = (kept.last_term, now)
        && before != now
    {
        return Err(format!(
            "shard {shard} on {node} had entry {}/{before} and has {}/{now}",
            kept.last, kept.last
        ));
    }
    // An entry says its term as well.
    let newest = logs.log(node, shard).and_then(|log| log.term(log.last())).unwrap_or_default();
    let (term, (term_before, vote_before)) = (term.max(newest), kept.state);
    match term > term_before || term == term_before && (vote_before == ReplicaId(0) || vote == vote_before) {
        true => Ok(()),
        false => Err(format!(
            "shard {shard} on {node} was in term {term_before} with the vote for {vote_before}, and is in term {term} with \
             the vote for {vote}"
        )),
    }
}
