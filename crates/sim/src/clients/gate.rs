//! The gate of a node: what clients ask is split over shards ([`node::gather`]), and what its driver answers is looked at and
//! sent back.

use std::collections::BTreeMap;

use kv::cluster::Role;
use kv::{Charge, Class, Error, Level, NodeId, Op, Receipt, Reply, Request};
use node::Input;
use node::gather::{Gather, Split, split};

use super::Whose;
use crate::events::Event;
use crate::machine::clocks::Clocks;
use crate::watch::Proof;
use crate::world::World;

/// The open requests of one process.
pub(crate) struct Gate {
    parts: BTreeMap<u64, OpenPart>,
    requests: BTreeMap<u64, Open>,
    names: u64,
}

/// A part of an open request.
struct OpenPart {
    request: u64,
    /// Which part of it.
    index: usize,
    /// What it reads, if it reads.
    read: Option<Op>,
}

struct Open {
    whose: Whose,
    /// When it arrived.
    asked_at: u64,
    /// And what the version clocks showed then.
    clocks: Clocks,
    /// Who makes one answer of several.
    gather: Option<Gather>,
}

/// What the result of a part was.
enum Taken {
    /// One of several.
    Part,
    /// The last: the result of the request.
    Whole(Whose, Box<Result<Reply, Error>>),
    /// Of nothing that is open.
    Unknown,
}

impl Gate {
    pub fn new(life: u64) -> Gate {
        // Names of different lives differ, so that an answer for an earlier life would be seen.
        Gate { parts: BTreeMap::new(), requests: BTreeMap::new(), names: life << 32 }
    }

    /// How many parts wait for their answer.
    pub fn open(&self) -> usize {
        self.parts.len()
    }

    /// A read and its request.
    fn read(&self, name: u64) -> Option<(&Op, &Open)> {
        let part = self.parts.get(&name)?;
        Some((part.read.as_ref()?, self.requests.get(&part.request)?))
    }

    fn name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    /// Takes the result of a part.
    fn take(&mut self, name: u64, result: Result<Reply, Error>) -> Taken {
        let Some(OpenPart { request, index, .. }) = self.parts.remove(&name) else { return Taken::Unknown };
        let open = self.requests.get_mut(&request).expect("a request is open while one of its parts is");
        let whole = match &mut open.gather {
            Some(gather) => gather.put(index, result),
            None => Some(result),
        };
        let Some(whole) = whole else { return Taken::Part };
        let open = self.requests.remove(&request).expect("it was just looked at");
        Taken::Whole(open.whose, Box::new(whole))
    }
}

impl World {
    /// A request arrives at a node.
    pub fn arrive(&mut self, node: NodeId, life: u64, whose: Whose, request: Request) {
        if self.machine(node).life() != Some(life) {
            return self.answer(whose, None);
        }
        if let Some(why) = self.waits_for_its_cluster(node) {
            return self.answer(whose, Some(Err(Error::Unavailable(why))));
        }
        let (parts, gather) = match split(&self.map, request, &Charge::default()) {
            Ok(Split::One(part)) => (vec![part], None),
            Ok(Split::Several(parts, gather)) => (parts, Some(gather)),
            Err(error) => return self.answer(whose, Some(Err(error))),
        };
        let (asked_at, clocks) = (self.events.now(), self.clocks());
        let Some(process) = &mut self.machine_mut(node).process else { return };
        let gate = &mut process.gate;
        let open = gate.name();
        gate.requests.insert(open, Open { whose, asked_at, clocks, gather });
        let mut inputs = Vec::new();
        for (index, part) in parts.into_iter().enumerate() {
            let client = gate.name();
            let read = (part.op.class() == Class::Read).then(|| part.op.clone());
            gate.parts.insert(client, OpenPart { request: open, index, read });
            inputs.push(Input::Part { client, part });
        }
        for input in &inputs {
            self.trace_part(node, input);
        }
        self.give(node, inputs);
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
            wrong.into_iter().for_each(|why| self.violation(why));
            self.check_read(node, name, reply);
        }
        let Some(process) = &mut self.machine_mut(node).process else { return };
        match process.gate.take(name, result) {
            Taken::Whole(whose, result) => self.answer(whose, Some(*result)),
            Taken::Part => {}
            Taken::Unknown => self.violation(format!(
                "one answer per request: {node} answers part {name}, which it answered before or never had"
            )),
        }
    }

    /// A read must show what was there, and a linearizable one that a node answers itself must be proven.
    fn check_read(&mut self, node: NodeId, name: u64, reply: &Reply) {
        let Some(process) = &self.machine(node).process else { return };
        let Some((op, open)) = process.gate.read(name) else { return };
        let (receipt, asked_at) = (&reply.receipt, open.asked_at);
        let bounds = self.bounds(node, &open.clocks, receipt);
        let wrong = self.watch.rows.read(op, reply, bounds);
        let found_expired = self.watch.rows.found_expired(op, reply);
        if receipt.node == node && self.nodes > 1 {
            self.check_proof(node, asked_at, receipt);
        }
        if found_expired {
            self.note("a read found that a value had expired");
        }
        wrong.into_iter().for_each(|why| self.violation(why));
    }

    fn check_proof(&mut self, node: NodeId, asked_at: u64, receipt: &Receipt) {
        if let Level::Bounded(_) = receipt.reached {
            return self.note("a read was answered as stale as it allowed");
        }
        if receipt.reached != Level::Linearizable {
            return;
        }
        let process = self.machine(node).process.as_ref();
        let status = process.and_then(|process| process.driver.replica_status(receipt.shard));
        if status.is_some_and(|status| status.role == Role::Follower) {
            self.note("a follower answered a linearizable read");
        }
        let clock = self.machine(node).clock.read(self.events.now()).instant.0;
        match self.watch.proofs.of_read(node, receipt.shard, asked_at, clock) {
            Some(Proof::Lease) => self.note("a read was answered under a lease"),
            Some(Proof::Round) => self.note("a read was proven by a round"),
            None => self.violation(format!(
                "linearizable reads are proven: {node} answers a read of shard {} that arrived at {asked_at} without a round \
                 or a lease",
                receipt.shard
            )),
        }
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
