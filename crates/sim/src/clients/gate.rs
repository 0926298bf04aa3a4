//! The gate of a node: what clients ask is split over shards ([`node::gather`]), and what its driver answers is looked at and
//! sent back.

use kv::cluster::Role;
use kv::view::{Duty, View};
use kv::{Charge, Error, Level, NodeId, Protocol, Receipt, Reply, Request, Version};
use node::Input;
use node::gather::{Split, split};
use node::route::Keyspaces;
use replication::Status;

use super::Whose;
use super::open::{Gate, Open, OpenPart, Taken};
use crate::events::Event;
use crate::watch::Proof;
use crate::world::World;

impl World {
    /// A request arrives at a node.
    pub fn arrive(&mut self, node: NodeId, life: u64, whose: Whose, request: Request) {
        if self.machine(node).life() != Some(life) {
            return self.answer(whose, None);
        }
        if let Some(why) = self.waits_for_its_cluster(node) {
            return self.answer(whose, Some(Err(Error::Unavailable(why))));
        }
        let (parts, gather) = match split(&self.map_known_by(node), request, &Charge::default()) {
            Ok(Split::One(part)) => (vec![part], None),
            Ok(Split::Several(parts, gather)) => (parts, Some(gather)),
            Err(error) => return self.answer(whose, Some(Err(error))),
        };
        let (asked_at, clocks) = (self.events.now(), self.clocks());
        let floors = Vec::from_iter(parts.iter().map(|part| self.watch.merged.floor(part)));
        let Some(process) = &mut self.machine_mut(node).process else { return };
        let gate = &mut process.gate;
        let open = gate.name();
        gate.requests.insert(open, Open { whose, asked_at, clocks, gather });
        let mut inputs = Vec::new();
        for (index, part) in parts.into_iter().enumerate() {
            let client = gate.name();
            let (op, floor) = (part.op.clone(), floors[index]);
            gate.parts.insert(client, OpenPart { request: open, within: None, index, op, floor });
            inputs.push(Input::Part { client, part });
        }
        for input in &inputs {
            self.trace_part(node, input);
        }
        self.give(node, inputs);
    }

    /// A part is to be planned again.
    pub fn replan(&mut self, node: NodeId, name: u64, planned: Result<Split, Error>) {
        self.note("a part of a request was planned again");
        let Some(process) = &mut self.machine_mut(node).process else { return };
        let gate = &mut process.gate;
        let (parts, within) = match planned {
            Err(error) => return self.answered(node, name, Err(error)),
            Ok(Split::One(part)) => (vec![part], None),
            Ok(Split::Several(parts, gather)) => {
                let (within, before) = (gate.name(), gate.parts.remove(&name));
                let before = before.expect("a part that is planned again is open");
                gate.replanned.insert(within, (gather, before));
                (parts, Some(within))
            }
        };
        let mut inputs = Vec::new();
        for (place, part) in parts.into_iter().enumerate() {
            let client = gate.name();
            let op = part.op.clone();
            let open = match within {
                Some(within) => {
                    let request = gate.replanned[&within].1.request;
                    OpenPart { request, within: Some(within), index: place, op, floor: Version::ZERO }
                }
                None => gate.parts.remove(&name).expect("a part that is planned again is open"),
            };
            gate.parts.insert(client, open);
            inputs.push(Input::Part { client, part });
        }
        inputs.iter().for_each(|input| self.trace_part(node, input));
        self.give(node, inputs);
    }

    /// Where a node sends what it is asked: by the newest map that its first core knows.
    fn map_known_by(&self, node: NodeId) -> Keyspaces {
        let process = self.machine(node).process.as_ref().expect("a node that plans is up");
        Keyspaces::new(process.cores.cores[0].driver.map())
    }

    fn trace_part(&self, node: NodeId, input: &Input) {
        if let Input::Part { client, part } = input {
            self.trace(|| format!("{node} is asked part {client}: {}", crate::trace::op(&part.op)));
        }
    }

    /// A node's driver answers a part.
    pub fn answered(&mut self, node: NodeId, name: u64, result: Result<Reply, Error>) {
        self.trace(|| format!("{node} answers part {name}: {}", crate::trace::result(&result)));
        if let Ok(reply) = &result {
            let wrong = self.watch.copies_told(&reply.receipt);
            wrong.into_iter().for_each(|why| self.unless_forced(why));
            match reply.receipt.protocol {
                Protocol::Quorum | Protocol::Broadcast => {
                    // Where clocks jump a node may have waited for as long as it should by its own.
                    if !self.faults.has(crate::faults::Fault::Clock) {
                        let early = self.watch.merged.answers_early(node, reply, self.events.now());
                        early.into_iter().for_each(|why| self.violation(why));
                    }
                    self.check_merged(node, name, reply);
                }
                _ => self.check_read(node, name, reply),
            }
        }
        let Some(process) = &mut self.machine_mut(node).process else { return };
        match process.gate.take(name, result) {
            Taken::Whole(whose, result) => self.answer(whose, Some(*result)),
            Taken::Part => {}
            Taken::Unknown => self.unless_forced(format!(
                "one answer per request: {node} answers part {name}, which it answered before or never had"
            )),
        }
    }

    /// What a shard without an order answers is where everybody finds it.
    fn check_merged(&mut self, node: NodeId, name: u64, reply: &Reply) {
        let process = self.machine(node).process.as_ref();
        let part = process.and_then(|process| process.gate.parts.get(&name));
        let Some((op, floor)) = part.map(|part| (part.op.clone(), part.floor)) else { return };
        let wrong = self.watch.merged.answered(&op, floor, reply);
        wrong.into_iter().for_each(|why| self.violation(why));
    }

    /// A read must show what was there, and a linearizable one that a node answers itself must be proven.
    fn check_read(&mut self, node: NodeId, name: u64, reply: &Reply) {
        let Some(process) = &self.machine(node).process else { return };
        let Some((op, open)) = process.gate.read(name) else { return };
        let (receipt, asked_at) = (&reply.receipt, open.asked_at);
        let bounds = self.bounds(node, &open.clocks, receipt);
        let wrong = self.watch.rows.read(op, reply, bounds);
        let found_expired = self.watch.rows.found_expired(op, reply);
        let counts = |view: &View| view.members.iter().filter(|member| member.duty != Duty::Learner).count();
        // Who leads goes by members that it says to others only when it has them synced.
        let goes_by_one =
            |node| self.members_for_leader(node, receipt.shard).is_some_and(|view| counts(&view) == 1);
        // Who reads by it may still have the members of before.
        let leads_alone = goes_by_one(node) || self.leaders(receipt.shard).into_iter().any(goes_by_one);
        let is_alone = leads_alone || process.cores.view(receipt.shard).is_none_or(|view| counts(view) == 1);
        // Where all copies have what is acknowledged, none needs a proof.
        let needs_proof = receipt.protocol != Protocol::TwoPhase;
        if receipt.node == node && !is_alone && needs_proof {
            self.check_proof(node, asked_at, receipt);
        }
        if found_expired {
            self.note("a read found that a value had expired");
        }
        wrong.into_iter().for_each(|why| self.unless_forced(why));
    }

    fn check_proof(&mut self, node: NodeId, asked_at: u64, receipt: &Receipt) {
        if let Level::Bounded(_) = receipt.reached {
            return self.note("a read was answered as stale as it allowed");
        }
        if receipt.reached != Level::Linearizable {
            return;
        }
        let process = self.machine(node).process.as_ref();
        let status = process.and_then(|process| process.cores.replica_status(receipt.shard));
        if receipt.protocol == Protocol::Primary {
            return status.into_iter().for_each(|status| self.check_lease(node, &status, receipt));
        }
        if status.is_some_and(|status| status.role == Role::Follower) {
            self.note("a follower answered a linearizable read");
        }
        let clock = self.machine(node).clock.read(self.events.now()).instant.0;
        self.recount_rounds(receipt.shard);
        match self.watch.proofs.of_read(node, receipt.shard, asked_at, clock) {
            Some(Proof::Lease) => self.note("a read was answered under a lease"),
            Some(Proof::Round) => self.note("a read was proven by a round"),
            None => self.unless_forced(format!(
                "linearizable reads are proven: {node} answers a read of shard {} that arrived at {asked_at} without a round \
                 or a lease",
                receipt.shard
            )),
        }
    }

    /// In a primary's shard a linearizable read is served under a lease.
    fn check_lease(&mut self, node: NodeId, status: &Status, receipt: &Receipt) {
        let clock = self.machine(node).clock.read(self.events.now()).instant.0;
        if !self.watch.lent.may_read(node, receipt.shard, clock) {
            return self.unless_forced(format!(
                "linearizable reads are proven: {node} answers a read of shard {} and holds no lease: {status:?}",
                receipt.shard
            ));
        }
        self.note(match status.role {
            Role::Leader => "a primary answered a read",
            _ => "a secondary answered a read",
        });
    }

    /// The process of a gate ended: its clients notice.
    pub fn gate_broke(&mut self, gate: Gate) {
        for open in gate.requests.into_values() {
            self.answer(open.whose, None);
        }
    }

    /// Sends an answer, or the news that there will be none.
    fn answer(&mut self, whose: Whose, result: Option<Result<Reply, Error>>) {
        if let Some(weak) = self.network.weak
            && self.random.permille(weak.answers_lost)
        {
            return;
        }
        let delay = self.settings.client_network.draw(&mut self.random);
        let (left, result) = (self.events.now(), result.map(Box::new));
        self.events.after(delay, Event::Answer { whose, left, result });
    }
}
