//! Raising a shard's version: for a read that needs it, or to remove what is due.
//!
//! What has expired, what is left of deleted keys, and the sessions that are out of date go with the entries of a shard, a
//! bounded number with each. A shard whose writes do not suffice, or that is idle, is advanced by its leader: one shard of a
//! core at a time and after a pause each, so that others are not slowed.

use bytes::Bytes;
use kv::keyspace::Rules;
use kv::{Error, Op, ShardId, Stamped, Version};
use replication::{Input, Token};

use super::core::Core;
use super::expiries::Cleaned;
use super::open::Open;
use super::replica::Advance;
use crate::node::Node;

/// How long the store's own raise of a version is tried.
const ADVANCE_MICROS: u64 = 5_000_000;
/// A node that is asked nothing has something removed so often. An advance removes up to
/// [`storage::EXPIRED_PER_APPLY_MAX`] rows, which takes some milliseconds.
const CLEAN_MICROS: u64 = 20_000;
/// A node that is asked something has it removed so often: a twentieth of its time.
const CLEAN_BUSY_MICROS: u64 = 100_000;

impl Core {
    /// Has one shard that is led here remove some of what is due.
    pub fn clean(&mut self, node: &Node) {
        // The last advance was one part itself.
        let is_busy = self.open.taken() > self.expiries.cleaned.parts + 1;
        let pause = if is_busy { CLEAN_BUSY_MICROS } else { CLEAN_MICROS };
        let is_early = node.now < self.expiries.cleaned.at.plus(pause);
        if is_early || !node.clock.is_settled() || node.stopping {
            return;
        }
        let can_advance = |shard: ShardId| {
            let replica = &self.replicas[&shard];
            replica.advance.is_none() && replica.rules() && node.full_disks(replica.view()).is_none()
        };
        if let Some(shard) = self.expiries.next(node.clock.micros(), can_advance) {
            self.expiries.cleaned = Cleaned { shard, at: node.now, parts: self.open.taken() };
            let now = self.replicas[&shard].now(node);
            self.advance(node, shard, None, now);
        }
    }

    /// Raises a shard's version. A read that needs it waits: for something to expire that is due, or because it reads at a
    /// version of now.
    pub fn advance(&mut self, node: &Node, shard: ShardId, reader: Option<Token>, to: Version) {
        let Some(replica) = self.replicas.get_mut(&shard) else { return };
        if let Some(advance) = &mut replica.advance {
            // It reads again after this one, and asks for another if that was not far enough.
            return advance.readers.extend(reader);
        }
        let token = self.open.insert(Open::advance(shard, node.now.plus(ADVANCE_MICROS)));
        replica.advance = Some(Advance { token, readers: Vec::from_iter(reader) });
        let rules = replica.lacks_rules().then_some(replica.wanted);
        self.propose(shard, token, advance_op(to, rules));
    }

    pub fn advanced(&mut self, node: &Node, token: Token) {
        let (shard, readers) = self.end_advance(token);
        for reader in readers {
            self.fetch(node, shard, reader);
        }
    }

    /// The raise was not ordered, or nobody knows: the reads are tried again from the start.
    pub fn advance_failed(&mut self, node: &Node, token: Token) {
        let (shard, readers) = self.end_advance(token);
        for reader in readers {
            self.give(shard, Input::Forget { token: reader });
            self.turned_away(node, reader, Error::WrongNode { try_next: None });
        }
    }

    /// The advance of this token is over; its shard, and who waited for it.
    fn end_advance(&mut self, token: Token) -> (ShardId, Vec<Token>) {
        let open = self.open.remove(token).filter(Open::is_advance).expect("an open advance ends");
        let replica = self.replicas.get_mut(&open.shard).expect("what is advanced is here");
        let advance = replica.advance.take().expect("a shard knows of its advance");
        assert_eq!(advance.token, token, "a shard has one advance at a time");
        (open.shard, advance.readers)
    }
}

/// An op that raises a shard's version, and says what it goes by.
fn advance_op(to: Version, rules: Option<Rules>) -> Bytes {
    Stamped { id: None, op: Op::Advance { to, rules } }.encode()
}
