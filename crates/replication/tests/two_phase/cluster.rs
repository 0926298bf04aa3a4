//! A few replicas of one shard in memory: their logs, tables and network, each moved by hand. n1 is the master, until it is declared
//! dead.
//!
//! It plays the owner of the contract: a crash loses what is not synced of the log and not flushed of the table.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use kv::{Entry, Epoch, Key, Level, NodeId, Op, Position, ReplicaId, Scope, Stamped, Version};
use replication::two_phase::TwoPhase;
use replication::{Duty, Input, Instant, Member, Output, Recovery, Replicate, Revision, Ticket, Token, View};

/// What the entries lead to: what was put, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub applied: Position,
    /// Keys with the token of the write.
    pub puts: Vec<(String, Token)>,
}

pub struct Node {
    pub replica: Option<TwoPhase>,
    pub log: Vec<Bytes>,
    /// So many records survive a crash.
    pub synced: usize,
    /// Appends that are not synced: ticket, end in the log.
    pub appends: VecDeque<(Ticket, usize)>,
    pub table: Table,
    pub flushed: Table,
    pub applies: VecDeque<Output>,
    pub fetches: VecDeque<Token>,
    next_ticket: Ticket,
}

pub struct Cluster {
    pub now: u64,
    pub nodes: BTreeMap<u64, Node>,
    pub net: Vec<(u64, u64, Bytes)>,
    /// What the replicas put out, for the test to look at.
    pub outputs: Vec<(u64, Output)>,
    /// Pairs of nodes that do not reach each other.
    pub cuts: BTreeSet<(u64, u64)>,
    /// Those that were declared dead.
    dead: BTreeMap<u64, Node>,
    /// As it was founded.
    first: View,
    view: View,
    next_token: Token,
}

impl Cluster {
    pub fn new(count: u64) -> Cluster {
        let mut view = View::of(Epoch(1), &Vec::from_iter((1..=count).map(NodeId)));
        view.members[0].duty = Duty::Primary;
        let (net, outputs, cuts, dead) = Default::default();
        let nodes = (1..=count).map(|id| (id, Node::empty())).collect();
        let first = view.clone();
        Cluster { now: 0, nodes, net, outputs, cuts, dead, first, view, next_token: 1 }
    }

    pub fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    pub fn node(&self, id: u64) -> &Node {
        &self.nodes[&id]
    }

    pub fn replica(&self, id: u64) -> Option<&TwoPhase> {
        self.nodes[&id].replica.as_ref()
    }

    /// Who orders, as the directory says.
    pub fn master(&self) -> u64 {
        let orders = |member: &&Member| member.duty == Duty::Primary;
        self.view.members.iter().find(orders).unwrap().node.0
    }

    /// A node is lost for good, and the directory says that the others go on; nobody has heard of that yet.
    pub fn declare(&mut self, dead: u64, next: u64) {
        let was_master = self.master() == dead;
        self.crash(dead);
        self.dead.extend(self.nodes.remove_entry(&dead));
        self.view.revision.0 += 1;
        self.view.members.retain(|member| member.node.0 != dead);
        if was_master {
            self.view.members.iter_mut().find(|member| member.node.0 == next).unwrap().duty = Duty::Primary;
        }
    }

    /// A node that was declared dead is started, and has not heard of that.
    pub fn start_dead(&mut self, id: u64) {
        self.nodes.extend(self.dead.remove_entry(&id));
        let view = std::mem::replace(&mut self.view, self.first.clone());
        self.start(id);
        self.view = view;
    }

    /// A node hears of who the members are.
    pub fn tell(&mut self, id: u64) {
        self.step(id, Input::View(self.view.clone()));
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        self.next_token - 1
    }

    /// Lets a node look at its clock.
    pub fn tick(&mut self, id: u64) {
        let clock = Version::new(self.now, ReplicaId(id as u16));
        self.input(id, Input::Tick { now: Instant(id * 1_000_000_000 + self.now), clock });
    }

    /// Gives an input, with a look at the clock before it.
    pub fn step(&mut self, id: u64, input: Input) {
        self.tick(id);
        self.input(id, input);
    }

    pub fn propose(&mut self, id: u64, key: &str) -> Token {
        let token = self.token();
        let (key, value) = (key.to_owned().into(), token.to_string().into());
        let op = Op::Put { key, value, deadline: None, previous: false };
        self.step(id, Input::Propose { ops: vec![(token, Stamped { id: None, op }.encode())] });
        token
    }

    /// Asks whether a key may be read; '*' = all.
    pub fn read(&mut self, id: u64, key: &str, level: Level) -> Token {
        let token = self.token();
        let scope = if key == "*" { Scope::Shard } else { Scope::Key(Key::from(key.to_owned())) };
        self.step(id, Input::Read { token, scope, level });
        token
    }

    /// Syncs the first so many appends of a node.
    pub fn sync(&mut self, id: u64, count: usize) {
        let node = self.nodes.get_mut(&id).unwrap();
        let count = count.min(node.appends.len());
        let Some((ticket, end)) = node.appends.drain(..count).next_back() else { return };
        node.synced = end;
        self.step(id, Input::Durable { ticket });
    }

    /// Applies the next entry of a node.
    pub fn apply(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        let Some(Output::Apply { at, entry, .. }) = node.applies.pop_front() else { return };
        node.table.apply(at, &entry);
        self.step(id, Input::Applied { index: at.index });
    }

    /// The table of a node is flushed and a checkpoint written and synced; then the log before it may go.
    pub fn flush(&mut self, id: u64) {
        while !self.node(id).appends.is_empty() {
            self.sync(id, usize::MAX);
        }
        let node = self.nodes.get_mut(&id).unwrap();
        node.flushed = node.table.clone();
        node.log = node.replica.as_ref().unwrap().checkpoint();
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
        self.net.retain(|(from, to, _)| *from != id && *to != id);
        for other in self.ids() {
            self.step(other, Input::Disconnected { node: NodeId(id) });
        }
    }

    /// A node has lost all that it had.
    pub fn wipe(&mut self, id: u64) {
        self.crash(id);
        self.nodes.insert(id, Node::empty());
    }

    pub fn start(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        let mut recovery = Recovery::default();
        node.log.iter().for_each(|record| recovery.replay(record).unwrap());
        let view = recovery.view().unwrap_or(&self.view).clone();
        node.replica = Some(TwoPhase::new(NodeId(id), view, recovery, node.table.applied).unwrap());
        self.tick(id);
    }

    /// Two nodes see each other (again), and their replicas say hello.
    pub fn connect(&mut self, a: u64, b: u64) {
        for (here, there) in [(a, b), (b, a)] {
            let (Some(_), Some(other)) = (self.replica(here), self.replica(there)) else { return };
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

    /// Takes a message to its target, if that is up and can be reached.
    pub fn deliver(&mut self, (from, to, body): (u64, u64, Bytes)) {
        if self.nodes.contains_key(&to) && !self.cuts.contains(&(from.min(to), from.max(to))) {
            self.step(to, Input::Message { from: NodeId(from), revision: Revision(1), body });
        }
    }

    /// Gives an input in a turn that began earlier.
    fn input(&mut self, id: u64, input: Input) {
        let mut out = Vec::new();
        let node = self.nodes.get_mut(&id).unwrap();
        let Some(replica) = &mut node.replica else { return };
        replica.step(input, &mut out);
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
            Output::Apply { at, .. } => {
                let before = match node.applies.back() {
                    Some(Output::Apply { at, .. }) => at.index,
                    _ => node.table.applied.index,
                };
                assert_eq!(at.index, before.next(), "applied indexes rise by one");
                node.applies.push_back(output);
            }
            Output::Fetch { tokens } => node.fetches.extend(tokens),
            _ => (),
        }
    }
}

impl Node {
    fn empty() -> Node {
        Node {
            replica: None,
            log: Vec::new(),
            synced: 0,
            appends: VecDeque::new(),
            table: Table::default(),
            flushed: Table::default(),
            applies: VecDeque::new(),
            fetches: VecDeque::new(),
            next_ticket: Ticket(1),
        }
    }
}

impl Table {
    fn apply(&mut self, at: Position, entry: &Bytes) {
        assert_eq!(at.index, self.applied.index.next(), "entries are applied in order");
        self.applied = at;
        self.puts.extend(puts(entry));
    }

    /// Who wrote a key last; 0 = nobody.
    pub fn last(&self, key: &str) -> Token {
        self.puts.iter().rev().find(|(other, _)| other == key).map_or(0, |(_, token)| *token)
    }
}

/// What an entry puts.
pub fn puts(entry: &Bytes) -> Vec<(String, Token)> {
    if entry.is_empty() {
        return Vec::new();
    }
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let put = |stamped: Stamped| match stamped.op {
        Op::Put { key, value, .. } => (text(&key), text(&value).parse().unwrap()),
        other => panic!("only puts are proposed here: {other:?}"),
    };
    Entry::decode(entry).unwrap().ops.into_iter().map(put).collect()
}
