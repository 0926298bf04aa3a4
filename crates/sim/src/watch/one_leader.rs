//! At most one leader in a term: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm" (2014), §5.2,
//! Election Safety.

use std::collections::BTreeMap;

use kv::cluster::Role;
use kv::{NodeId, ShardId, Term};

use super::logs::Logs;
use super::{Invariant, Seen};

#[derive(Default)]
pub(super) struct OneLeader {
    leaders: BTreeMap<(ShardId, Term), NodeId>,
}

impl Invariant for OneLeader {
    fn name(&self) -> &'static str {
        "one leader per term"
    }

    fn see(&mut self, seen: &Seen<'_>, _: &Logs) -> Result<(), String> {
        let Seen::Status { node, shard, status } = *seen else { return Ok(()) };
        if status.role != Role::Leader || status.term == Term::ZERO {
            return Ok(());
        }
        let leader = *self.leaders.entry((shard, status.term)).or_insert(node);
        match leader == node {
            true => Ok(()),
            false => Err(format!("{leader} and {node} both lead shard {shard} in term {}", status.term)),
        }
    }
}
