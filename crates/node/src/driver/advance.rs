//! Raising a shard's version: for a read that needs it, or to remove what is due.
//!
//! What has expired, what is left of deleted keys, and the sessions that are out of date go with the entries of a shard, a
//! bounded number with each. A shard whose writes do not suffice, or that is idle, is advanced by its leader: one shard of a
//! node at a time and after a pause each, so that others are not slowed.

use std::ops::Bound;

use bytes::Bytes;
use kv::cluster::Role;
use kv::{Charge, Class, Error, Level, Op, ShardId, Stamped, Version};
use replication::Token;

use super::Driver;
use crate::open::{Open, Origin, State};
use crate::replica::{Advance, Replica};

/// How long the store's own raise of a version is tried.
const ADVANCE_MICROS: u64 = 5_000_000;
/// A node that is asked nothing has something removed so often. An advance removes up to
/// [`storage::EXPIRED_PER_APPLY_MAX`] rows, which takes some milliseconds.
const CLEAN_MICROS: u64 = 20_000;
/// A node that is asked something has it removed so often: a twentieth of its time.
const CLEAN_BUSY_MICROS: u64 = 100_000;

impl Driver {
    /// Has one shard that this node leads remove some of what is due.
    pub(super) fn clean(&mut self) {
        // The last advance was one part itself.
        let is_busy = self.open.taken() > self.cleaned_at_part + 1;
        let pause = if is_busy { CLEAN_BUSY_MICROS } else { CLEAN_MICROS };
        let is_early = self.now < self.cleaned_at.plus(pause);
        if is_early || !self.clock.is_settled() || self.stopping || self.full_disks().is_some() {
            return;
        }
        let clock = self.clock.version();
        let due = |replica: &Replica| {
            replica.due.is_some_and(|due| due <= clock.micros())
                && replica.advance.is_none()
                && replica.protocol.status().role == Role::Leader
        };
        let later = self.replicas.range((Bound::Excluded(self.cleaned), Bound::Unbounded));
        let earlier = self.replicas.range(..=self.cleaned);
        let next = later.chain(earlier).find(|(_, replica)| due(replica)).map(|(shard, _)| *shard);
        if let Some(shard) = next {
            (self.cleaned, self.cleaned_at, self.cleaned_at_part) = (shard, self.now, self.open.taken());
            self.advance(shard, None, clock);
        }
    }

    /// Raises a shard's version. A read that needs it waits: for something to expire that is due, or because it reads at a
    /// version of now.
    pub(crate) fn advance(&mut self, shard: ShardId, reader: Option<Token>, to: Version) {
        let deadline = self.now.plus(ADVANCE_MICROS);
        let Some(replica) = self.replicas.get_mut(&shard) else { return };
        if let Some(advance) = &mut replica.advance {
            // It reads again after this one, and asks for another if that was not far enough.
            return advance.readers.extend(reader);
        }
        let stamped = advance_op(to);
        let token = self.open.insert(Open {
            origin: Origin::Advance,
            shard,
            class: Class::Blind,
            op: None,
            stamped: stamped.clone(),
            level: Level::Linearizable,
            own_id: None,
            deadline,
            state: State::Local,
            in_doubt: false,
            why: None,
            fetched: None,
            hidden: false,
            counted: 0,
            charge: Charge::default(),
        });
        replica.advance = Some(Advance { readers: Vec::from_iter(reader) });
        replica.proposals.push((token, stamped));
    }

    pub(crate) fn advanced(&mut self, token: Token) {
        for (shard, reader) in self.end_advance(token) {
            self.fetch(shard, reader);
        }
    }

    /// The raise was not ordered, or nobody knows: the reads are tried again from the start.
    pub(crate) fn advance_failed(&mut self, token: Token) {
        for (shard, reader) in self.end_advance(token) {
            self.inputs.push_back((shard, replication::Input::Forget { token: reader }));
            self.turned_away(reader, Error::WrongNode { try_next: None });
        }
    }

    fn end_advance(&mut self, token: Token) -> Vec<(ShardId, Token)> {
        let Some(open) = self.open.remove(token) else { return Vec::new() };
        let Some(replica) = self.replicas.get_mut(&open.shard) else { return Vec::new() };
        let readers = replica.advance.take().map_or_else(Vec::new, |advance| advance.readers);
        readers.into_iter().map(|reader| (open.shard, reader)).collect()
    }
}

/// An op that raises a shard's version.
fn advance_op(to: Version) -> Bytes {
    Stamped { id: None, op: Op::Advance { to } }.encode()
}
