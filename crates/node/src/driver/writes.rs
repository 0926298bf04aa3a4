//! Writes: what the table has applied is answered, and what a replica does not order is turned away.

use kv::{Answer, Epoch, Error, Index, Level, Protocol, Receipt, Reply, ShardId, Version};
use mutant::Mutant;
use replication::{Input, Token};

use super::core::Core;
use super::open::Open;
use crate::node::Node;

impl Core {
    pub fn applied(
        &mut self,
        node: &Node,
        shard: ShardId,
        index: Index,
        last: Version,
        results: Vec<(Result<Answer, Error>, Version)>,
    ) {
        let replica = self.replicas.get_mut(&shard).expect("what is applied for an heir is not answered");
        let applying = replica.applying.pop_front().expect("the table applies what it was given");
        assert_eq!(applying.index, index, "the table applies in order");
        let tokens = applying.tokens;
        assert!(tokens.is_empty() || tokens.len() == results.len(), "every op of an entry has its result");
        let of = (shard, replica.kind, replica.view().epoch);
        replica.last = replica.last.max(last);
        self.newest = self.newest.max(last);
        self.give(shard, Input::Applied { index });
        for (token, (result, version)) in tokens.into_iter().zip(results) {
            let copies = applying.copies + u32::from(mutant::is(Mutant::CopiesOverstated));
            let receipt = receipt(node, of, version, copies);
            self.finish_write(node, token, result.map(|answer| Reply { answer, receipt }));
        }
    }

    fn finish_write(&mut self, node: &Node, token: Token, result: Result<Reply, Error>) {
        // It may have been given up before it was ordered.
        let Some(open) = self.open.get(token) else { return };
        assert!(!open.is_read(), "a read is in no entry");
        tracing::trace!("a write has its answer");
        if open.is_advance() { self.advanced(node, token) } else { self.finish(token, result) }
    }

    /// A replica does not serve a part.
    pub fn refused(&mut self, node: &Node, shard: ShardId, token: Token, error: Error) {
        let is_advance = self.open.get(token).is_some_and(Open::is_advance);
        match error {
            // The leader itself refuses: its queues are full.
            Error::Unavailable(_) if self.is_ordered_here(shard) && !is_advance => {
                self.finish(token, Err(error));
            }
            error => self.turned_away(node, token, error),
        }
    }
}

/// What a write is told that it achieved; synced on so many nodes, unless nothing is kept here.
pub(super) fn receipt(
    node: &Node,
    (shard, protocol, epoch): (ShardId, Protocol, Epoch),
    version: Version,
    copies: u32,
) -> Receipt {
    assert!(copies >= 1, "what is answered was synced somewhere");
    Receipt {
        version,
        shard,
        protocol,
        epoch,
        asked: Level::Linearizable,
        reached: Level::Linearizable,
        copies: if node.config.volatile { 0 } else { copies },
        staleness_micros: 0,
        node: node.config.me,
    }
}
