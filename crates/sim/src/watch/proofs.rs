//! A linearizable read is proven: by a round that began after it was asked and that a majority confirmed, or by a lease from
//! such a round that has not run out when the answer leaves (Ongaro, "Consensus", §6.4 and §6.4.1).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kv::{NodeId, ShardId, Term};

use super::Seen;
use super::leases::LEASE_MICROS;
use super::messages::Kind;

/// The rounds of reads.
#[derive(Default)]
pub(crate) struct Proofs {
    open: BTreeMap<(ShardId, NodeId, Bytes), Round>,
    /// The latest that was confirmed, of each leader.
    confirmed: BTreeMap<(ShardId, NodeId), Began>,
    /// Of them, those whose leader's process has not ended since.
    leases: BTreeMap<(ShardId, NodeId), Began>,
    /// The term in which a leader told another to campaign: it has no lease in it any more.
    given_away: BTreeMap<(ShardId, NodeId), Term>,
}

#[derive(Default)]
struct Round {
    began: Began,
    term: Term,
    by: BTreeSet<NodeId>,
    /// When a majority had confirmed it.
    done: Option<u64>,
}

/// When a round began: in true time, and by its leader's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Began {
    now: u64,
    clock: u64,
}

/// Whether nodes are a majority of the members that count.
type AreMost<'a> = &'a dyn Fn(&BTreeSet<NodeId>) -> bool;

/// How a read is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    Round,
    Lease,
}

impl Proofs {
    /// Takes in what is said between nodes. `are_most`: whether nodes are a majority of those that count for the leader that asks or
    /// hears. A round that was confirmed must not be asked for again under its name: answers of before would count for now.
    pub fn see(&mut self, seen: &Seen<'_>, are_most: AreMost<'_>) -> Result<(), String> {
        match *seen {
            Seen::Sent { node, shard, message, now, clock, .. }
                if message.kind == Kind::Heartbeat && !message.round.is_empty() =>
            {
                let (began, by) = (Began { now, clock }, BTreeSet::from([node]));
                let begun = || Round { began, term: message.term, by, done: None };
                let round = self.open.entry((shard, node, message.round.clone())).or_insert_with(begun);
                // Who counted then need not count now: then it goes on.
                let is_done = round.done.is_some_and(|done| done < now) && are_most(&round.by);
                if round.term == message.term && is_done {
                    return Err(format!(
                        "rounds of reads are confirmed once: {node} asks for one of shard {shard} again ({})",
                        message.round_text()
                    ));
                }
            }
            Seen::Heard { node, from, shard, message, now }
                if message.kind == Kind::HeartbeatResponse && !message.reject =>
            {
                let Some(round) = self.open.get_mut(&(shard, node, message.round.clone())) else {
                    return Ok(());
                };
                // By those who count now it may not be confirmed yet.
                round.done = round.done.filter(|_| are_most(&round.by));
                if round.term == message.term {
                    round.by.insert(from);
                }
                if are_most(&round.by) {
                    round.done.get_or_insert(now);
                    let (began, term) = (round.began, message.term);
                    self.confirm((shard, node), began, term);
                }
            }
            Seen::Sent { node, shard, message, .. } if message.kind == Kind::TimeoutNow => {
                self.leases.remove(&(shard, node));
                self.given_away.insert((shard, node), message.term);
            }
            Seen::Ended { node } => {
                self.open.retain(|(_, leader, _), _| *leader != node);
                self.leases.retain(|(_, leader), _| *leader != node);
            }
            _ => {}
        }
        Ok(())
    }

    /// Other members may count for a leader than did when it heard the answers to its rounds of this term: those who have answered
    /// may be a majority of them.
    pub fn recount(&mut self, node: NodeId, shard: ShardId, term: Term, now: u64, are_most: AreMost<'_>) {
        let mut confirmed = Vec::new();
        for ((of, leader, _), round) in &mut self.open {
            let is_open = round.term == term && round.done.is_none();
            if (*of, *leader) == (shard, node) && is_open && are_most(&round.by) {
                round.done = Some(now);
                confirmed.push(round.began);
            }
        }
        confirmed.into_iter().for_each(|began| self.confirm((shard, node), began, term));
    }

    fn confirm(&mut self, of: (ShardId, NodeId), began: Began, term: Term) {
        let keeps = self.given_away.get(&of) != Some(&term);
        for all in std::iter::once(&mut self.confirmed).chain(keeps.then_some(&mut self.leases)) {
            let latest = all.entry(of).or_default();
            *latest = (*latest).max(began);
        }
    }

    /// How a read is proven that was asked then and is answered now by this node, whose clock shows `clock`.
    pub fn of_read(&self, node: NodeId, shard: ShardId, asked: u64, clock: u64) -> Option<Proof> {
        let of_shard = self.confirmed.range((shard, NodeId(0))..=(shard, NodeId::MAX));
        if of_shard.map(|(_, began)| began.now).any(|began| began >= asked) {
            return Some(Proof::Round);
        }
        let own = self.leases.get(&(shard, node))?;
        (clock < own.clock + LEASE_MICROS).then_some(Proof::Lease)
    }
}
