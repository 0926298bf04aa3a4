//! Who confirmed a leader's round keeps still for as long as that leader may read under it, also across a restart: Ongaro,
//! "Consensus: Bridging Theory and Practice" (2014), §6.4.1, and the guard of `replication`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kv::{NodeId, ShardId, Term};
use replication::observe;

use super::logs::Logs;
use super::messages::{Kind, Message};
use super::{Invariant, Seen};

/// A lease lasts so long by its leader's clock: nine ticks of 50 ms, less 10 percent for the drift (`replication`'s lease).
pub(super) const LEASE_MICROS: u64 = 405_000;
/// As long as that takes at most, on a clock that runs 4 percent slow.
const LEASE_TRUE_MICROS: u64 = 422_000;

#[derive(Default)]
pub(super) struct Leases {
    /// When a leader began each round.
    began: BTreeMap<(ShardId, NodeId, Bytes), u64>,
    /// Until when each replica keeps still.
    until: BTreeMap<(ShardId, NodeId), u64>,
    /// Who is the only one that counts by the last that its log says of members: it is a majority by itself, and what it promised is
    /// owed to nobody.
    alone: BTreeSet<(ShardId, NodeId)>,
    /// Elections that the leader asked for: who, and the term.
    forced: BTreeSet<(ShardId, NodeId, Term)>,
    /// Somebody was asked just now to break its word.
    tested: bool,
}

impl Invariant for Leases {
    fn name(&self) -> &'static str {
        "confirmed leases are kept"
    }

    fn see(&mut self, seen: &Seen<'_>, _: &Logs) -> Result<(), String> {
        if let Seen::Recovered { node, applied, now } = *seen {
            // It has forgotten whom it confirmed last, so it must act as if that had been just now.
            self.until.extend(applied.keys().map(|shard| ((*shard, node), now + LEASE_TRUE_MICROS)));
        }
        if let Seen::Record { node, shard, body, .. } = *seen
            && let Some(view) = observe::members(body)
        {
            match view.has_majority(|member| member == node) {
                true => self.alone.insert((shard, node)),
                false => self.alone.remove(&(shard, node)),
            };
        }
        let Seen::Sent { node, to, shard, message, now, .. } = *seen else { return Ok(()) };
        if let Kind::PreVote | Kind::Vote = message.kind {
            self.tested |= self.until.get(&(shard, to)).is_some_and(|until| now < *until);
        }
        match message.kind {
            Kind::Heartbeat if !message.round.is_empty() => {
                self.began.entry((shard, node, message.round.clone())).or_insert(now);
                Ok(())
            }
            Kind::HeartbeatResponse if !message.round.is_empty() => {
                if let Some(began) = self.began.get(&(shard, to, message.round.clone())) {
                    let until = self.until.entry((shard, node)).or_default();
                    *until = (*until).max(began + LEASE_TRUE_MICROS);
                }
                Ok(())
            }
            Kind::Vote if message.forced => {
                self.forced.insert((shard, node, message.term));
                Ok(())
            }
            Kind::Vote | Kind::PreVote => self.check(shard, node, message, now),
            Kind::PreVoteResponse if !message.reject => self.check(shard, node, message, now),
            Kind::VoteResponse if !message.reject && !self.forced.contains(&(shard, to, message.term)) => {
                self.check(shard, node, message, now)
            }
            _ => Ok(()),
        }
    }

    fn tested(&mut self) -> Option<&'static str> {
        std::mem::take(&mut self.tested).then_some("an election was asked for under a lease")
    }
}

impl Leases {
    fn check(&self, shard: ShardId, node: NodeId, message: &Message, now: u64) -> Result<(), String> {
        let until = self.until.get(&(shard, node)).copied().unwrap_or(0);
        match now >= until || self.alone.contains(&(shard, node)) {
            true => Ok(()),
            false => Err(format!(
                "shard {shard} on {node} takes part in the election of term {} and keeps a leader's lease for another {} us",
                message.term,
                until - now
            )),
        }
    }
}
