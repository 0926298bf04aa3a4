//! Who lost its folder votes when it has again what was agreed on when it was lost: until then its vote counts for a log that
//! it does not have (Ongaro, "Consensus", §11.7.2). Others let it in with its own folder only.

use std::collections::BTreeMap;

use kv::{Index, NodeId, ShardId};

use super::logs::Logs;
use super::messages::Kind;
use super::{Invariant, Seen};

#[derive(Default)]
pub(super) struct WipedVotes {
    /// What each must have first.
    needs: BTreeMap<(NodeId, ShardId), Index>,
}

impl Invariant for WipedVotes {
    fn name(&self) -> &'static str {
        "who lost its folder votes when it is whole"
    }

    fn see(&mut self, seen: &Seen<'_>, logs: &Logs) -> Result<(), String> {
        match *seen {
            Seen::Wiped { node } => {
                let committed = logs.committed_shards().map(|(shard, index)| ((node, shard), index));
                self.needs.extend(committed);
                Ok(())
            }
            Seen::GivenBack { node } => {
                self.needs.retain(|(other, _), _| *other != node);
                Ok(())
            }
            Seen::Sent { node, to, shard, message, .. } => {
                let is_vote = match message.kind {
                    Kind::Vote => true,
                    Kind::VoteResponse => !message.reject,
                    _ => false,
                };
                let Some(&needs) = self.needs.get(&(node, shard)).filter(|_| is_vote) else { return Ok(()) };
                let has = logs.durable(node, shard).map_or(Index::ZERO, |durable| durable.last);
                if has < needs {
                    return Err(format!(
                        "{node} votes on shard {shard} in term {} ({:?} to {to}) with entries up to {has}, and up to {needs} \
                         was agreed on when its folder was lost",
                        message.term, message.kind
                    ));
                }
                self.needs.remove(&(node, shard));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
