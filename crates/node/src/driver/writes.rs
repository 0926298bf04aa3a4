//! Writes: what the table has applied is answered, and what a replica does not order is turned away.

use kv::{Answer, Epoch, Error, Index, Level, Page, Protocol, Receipt, Reply, ShardId, Version, merged};
use mutant::Mutant;
use replication::{Gathered, Input, Token};

use super::core::Core;
use super::open::Open;
use super::reads::count_on;
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
        let is_merged = self.replicas.get(&shard).is_some_and(|replica| replica.kind.is_merged());
        match error {
            // Who takes it without an order has asked the others.
            Error::Unavailable(_) | Error::Invalid(_) if is_merged && !is_advance => {
                self.finish(token, Err(error))
            }
            // The leader itself refuses: its queues are full.
            Error::Unavailable(_) if self.is_ordered_here(shard) && !is_advance => {
                self.finish(token, Err(error));
            }
            error => self.turned_away(node, token, error),
        }
    }
}

/// What the replicas of a shard without an order have kept of a request.
pub(super) struct Kept {
    pub version: Version,
    pub reached: Level,
    pub staleness_micros: u64,
    pub copies: u32,
}

impl Core {
    /// Replicas have put together what they hold, or a write is where it is to be.
    pub fn gathered(&mut self, node: &Node, shard: ShardId, token: Token, outcome: Gathered, kept: Kept) {
        let Some(open) = self.open.get_mut(token) else { return };
        if open.is_advance() {
            return self.advanced(node, token);
        }
        let (asked, counted, answer) = match (outcome, open.reads_mut()) {
            (Gathered::Written(answer), _) => (Level::Linearizable, 0, answer),
            (Gathered::Rows { newest, moment }, Some(read)) => {
                let answer = merged::answer(&read.op, moment, &newest).expect("a read of keys is answered");
                if count_on(read, Some(&answer)) {
                    let reads = vec![read.gather(token).expect("it was gathered before")];
                    return self.give(shard, Input::Gather { reads });
                }
                (read.level, read.counted, answer)
            }
            (Gathered::Rows { .. }, None) => unreachable!("a write is not answered with rows"),
        };
        let answer = match answer {
            Answer::Page(page) => Answer::Page(Page { count: page.count + counted, ..page }),
            answer => answer,
        };
        let Kept { version, reached, staleness_micros, copies } = kept;
        let replica = &self.replicas[&shard];
        let of = (shard, replica.kind, replica.view().epoch);
        let receipt = Receipt { asked, reached, staleness_micros, ..receipt(node, of, version, copies) };
        self.finish(token, Ok(Reply { answer, receipt }));
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
