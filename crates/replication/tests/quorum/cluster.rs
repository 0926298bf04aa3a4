//! A few members of one shard in memory: their logs, tables and network, each moved by hand.
//!
//! It plays the owner of the contract: a crash loses what is not synced of the log and not flushed of the table.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kv::keyspace::Votes;
use kv::merged::{self, Look};
use kv::{Answer, Epoch, Level, NodeId, Op, ReplicaId, RequestId, Stamped, Version};
use replication::quorum::{Config, Quorum};
use replication::{Gathered, Input, Instant, Output, Recovery, Replicate, Revision, Ticket, Token, View};

use super::table::Table;

pub struct Node {
    pub member: Option<Quorum>,
    pub log: Vec<Bytes>,
    /// So many records survive a crash.
    pub synced: usize,
    /// Appends that are not synced: ticket, end in the log.
    pub appends: VecDeque<(Ticket, usize)>,
    pub table: Table,
    pub flushed: Table,
    /// What the table is to do, in order.
    pub jobs: VecDeque<Output>,
    next_ticket: Ticket,
    next_look: Ticket,
}

pub struct Cluster {
    /// Microseconds; also what the clocks say.
    pub now: u64,
    /// By how much the clock of a node is ahead.
    pub ahead: BTreeMap<u64, i64>,
    pub nodes: BTreeMap<u64, Node>,
    pub net: Vec<(u64, u64, Bytes)>,
    /// What the members put out, for the test to look at.
    pub outputs: Vec<(u64, Output)>,
    /// The ops that were asked for.
    pub ops: BTreeMap<Token, Op>,
    view: View,
    votes: Votes,
    starts: u64,
    next_token: Token,
}

impl Cluster {
    /// Members of these weights.
    pub fn new(weights: &[u32], votes: Votes) -> Cluster {
        let ids = Vec::from_iter((1..=weights.len() as u64).map(NodeId));
        let mut view = View::of(Epoch(1), &ids);
        view.members.iter_mut().zip(weights).for_each(|(member, weight)| member.weight = *weight);
        let nodes = ids.iter().map(|id| (id.0, Node::empty())).collect();
        let (net, outputs, ops, ahead) = Default::default();
        Cluster { now: 1_000_000, ahead, nodes, net, outputs, ops, view, votes, starts: 0, next_token: 1 }
    }

    pub fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    pub fn node(&self, id: u64) -> &Node {
        &self.nodes[&id]
    }

    pub fn member(&self, id: u64) -> Option<&Quorum> {
        self.nodes[&id].member.as_ref()
    }

    pub fn weight(&self, id: u64) -> u32 {
        self.view.member(NodeId(id)).unwrap().weight
    }

    fn token(&mut self, op: Op) -> Token {
        self.ops.insert(self.next_token, op);
        self.next_token += 1;
        self.next_token - 1
    }

    /// Lets a node look at its clock.
    pub fn tick(&mut self, id: u64) {
        let micros = self.now.saturating_add_signed(self.ahead.get(&id).copied().unwrap_or_default());
        let clock = Version::new(micros, ReplicaId(id as u16));
        self.input(id, Input::Tick { now: Instant(id * 1_000_000_000 + self.now), clock });
    }

    /// Gives an input, with a look at the clock before it.
    pub fn step(&mut self, id: u64, input: Input) {
        self.tick(id);
        self.input(id, input);
    }

    /// Writes; several ops are those of one turn.
    pub fn write(&mut self, id: u64, ops: Vec<(Option<RequestId>, Op)>) -> Vec<Token> {
        let stamped = |(id, op): (Option<RequestId>, Op)| (op.clone(), Stamped { id, op }.encode());
        let ops = Vec::from_iter(ops.into_iter().map(stamped));
        let ops = Vec::from_iter(ops.into_iter().map(|(op, bytes)| (self.token(op), bytes)));
        let tokens = ops.iter().map(|(token, _)| *token).collect();
        self.step(id, Input::Propose { ops });
        tokens
    }

    /// Reads.
    pub fn read(&mut self, id: u64, op: Op, level: Level) -> Token {
        let look: Look = merged::look(&op).unwrap();
        let token = self.token(op);
        self.step(id, Input::Gather { reads: vec![(token, look, level)] });
        token
    }

    /// What a reply answers.
    pub fn answer(&self, token: Token, outcome: &Gathered) -> Answer {
        match outcome {
            Gathered::Written(answer) => answer.clone(),
            Gathered::Rows { newest, moment } => merged::answer(&self.ops[&token], *moment, newest).unwrap(),
        }
    }

    /// Syncs the first so many appends of a node.
    pub fn sync(&mut self, id: u64, count: usize) {
        let node = self.nodes.get_mut(&id).unwrap();
        let count = count.min(node.appends.len());
        let Some((ticket, end)) = node.appends.drain(..count).next_back() else { return };
        node.synced = end;
        self.step(id, Input::Durable { ticket });
    }

    /// Does the next job of a table.
    pub fn job(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        let input = match node.jobs.pop_front() {
            Some(Output::Apply { at, entry, .. }) => {
                node.table.apply(at, &entry);
                Input::Applied { index: at.index }
            }
            Some(Output::Look { ticket, what }) => {
                Input::Looked { ticket, found: node.table.look(&what), last: node.table.last }
            }
            _ => return,
        };
        self.step(id, input);
    }

    /// The table of a node is flushed and a checkpoint written and synced; then the log before it may go.
    pub fn flush(&mut self, id: u64) {
        while !self.node(id).appends.is_empty() {
            self.sync(id, usize::MAX);
        }
        let node = self.nodes.get_mut(&id).unwrap();
        node.flushed = node.table.clone();
        node.log = node.member.as_ref().unwrap().checkpoint();
        node.synced = node.log.len();
    }

    pub fn crash(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        *node = Node {
            log: node.log[..node.synced].to_vec(),
            synced: node.synced,
            table: node.flushed.clone(),
            flushed: node.flushed.clone(),
            ..Node::empty()
        };
        for other in self.ids() {
            self.step(other, Input::Disconnected { node: NodeId(id) });
        }
    }

    pub fn start(&mut self, id: u64) {
        self.starts += 1;
        let seed = self.starts;
        let node = self.nodes.get_mut(&id).unwrap();
        let mut recovery = Recovery::default();
        node.log.iter().for_each(|record| recovery.replay(record).unwrap());
        let view = recovery.view().unwrap_or(&self.view).clone();
        let config = Config { id: NodeId(id), view, votes: self.votes, seed };
        node.member = Some(Quorum::new(config, recovery, node.table.applied).unwrap());
        self.tick(id);
    }

    /// Two nodes see each other (again), and their members say hello.
    pub fn connect(&mut self, a: u64, b: u64) {
        for (here, there) in [(a, b), (b, a)] {
            let (Some(_), Some(other)) = (self.member(here), self.member(there)) else { return };
            let hello = other.hello(NodeId(here));
            self.step(here, Input::Connected { node: NodeId(there), hello });
        }
    }

    pub fn connect_all(&mut self) {
        let ids = self.ids();
        let pairs = ids.iter().flat_map(|&a| ids.iter().map(move |&b| (a, b))).filter(|(a, b)| a < b);
        pairs.for_each(|(a, b)| self.connect(a, b));
    }

    /// The connection between two nodes breaks: what is on its way is lost.
    pub fn disconnect(&mut self, a: u64, b: u64) {
        self.net.retain(|(from, to, _)| (*from, *to) != (a, b) && (*from, *to) != (b, a));
        self.step(a, Input::Disconnected { node: NodeId(b) });
        self.step(b, Input::Disconnected { node: NodeId(a) });
    }

    /// Takes a message to its target.
    pub fn deliver(&mut self, (from, to, body): (u64, u64, Bytes)) {
        self.step(to, Input::Message { from: NodeId(from), revision: Revision(1), body });
    }

    /// Everything arrives, is synced and applied until nothing happens any more.
    pub fn run(&mut self) {
        for _ in 0..1000 {
            let packets = std::mem::take(&mut self.net);
            let is_quiet = packets.is_empty();
            packets.into_iter().for_each(|packet| self.deliver(packet));
            for id in self.ids() {
                self.sync(id, usize::MAX);
                while !self.node(id).jobs.is_empty() {
                    self.job(id);
                }
            }
            let is_idle = |node: &Node| node.appends.is_empty() && node.jobs.is_empty();
            if is_quiet && self.net.is_empty() && self.nodes.values().all(is_idle) {
                return;
            }
        }
        panic!("it never ends");
    }

    fn input(&mut self, id: u64, input: Input) {
        let mut out = Vec::new();
        let node = self.nodes.get_mut(&id).unwrap();
        let Some(member) = &mut node.member else { return };
        member.step(input, &mut out);
        for output in out {
            self.outputs.push((id, output.clone()));
            self.carry_out(id, output);
        }
    }

    fn carry_out(&mut self, id: u64, output: Output) {
        let node = self.nodes.get_mut(&id).unwrap();
        match output {
            Output::Append { ticket, records, .. } => {
                assert_eq!(ticket, node.next_ticket, "tickets rise by one");
                node.next_ticket = ticket.next();
                node.log.extend(records);
                node.appends.push_back((ticket, node.log.len()));
            }
            Output::Send { to, body } => self.net.push((id, to.0, body)),
            Output::Look { ticket, .. } => {
                assert_eq!(ticket, node.next_look, "tickets rise by one");
                node.next_look = ticket.next();
                node.jobs.push_back(output);
            }
            Output::Apply { .. } => node.jobs.push_back(output),
            _ => (),
        }
    }
}

impl Node {
    fn empty() -> Node {
        Node {
            member: None,
            log: Vec::new(),
            synced: 0,
            appends: VecDeque::new(),
            table: Table::default(),
            flushed: Table::default(),
            jobs: VecDeque::new(),
            next_ticket: Ticket(1),
            next_look: Ticket(1),
        }
    }
}
