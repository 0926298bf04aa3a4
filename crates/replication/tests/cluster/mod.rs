//! A few replicas of one shard in memory: their logs, tables and network, each moved by hand.
//!
//! It plays the owner of the contract: a crash loses what is not synced of the log and not flushed of the table.

#![allow(dead_code)] // each test uses its part

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use kv::{Entry, Epoch, Level, NodeId, Op, Position, ReplicaId, Scope, Stamped, Version};
use replication::{
    Duty, Input, Instant, Member, Output, Recovery, Replicate, Revision, Ticket, Token, View, raft,
};

/// The state that the entries lead to: the keys that were put, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub applied: Position,
    pub keys: Vec<String>,
}

/// What is on its way from one node to another.
#[derive(Clone)]
pub enum Packet {
    Message(Bytes),
    Snapshot(Bytes, Table),
}

pub struct Node {
    pub replica: Option<raft::Raft>,
    pub log: Vec<Bytes>,
    /// So many records survive a crash.
    pub synced: usize,
    /// Appends that are not synced: ticket, end in the log, whether it installs.
    pub appends: VecDeque<(Ticket, usize, bool)>,
    pub table: Table,
    pub flushed: Table,
    pub applies: VecDeque<Output>,
    pub fetches: VecDeque<Token>,
    received: Option<(u64, Table)>,
    made: BTreeMap<NodeId, Table>,
    next_ticket: Ticket,
    lives: u64,
    /// The members that its replica was made with.
    given: View,
}

pub struct Cluster {
    pub now: u64,
    pub nodes: BTreeMap<u64, Node>,
    pub net: Vec<(u64, u64, Packet)>,
    /// What the replicas put out, for the test to look at.
    pub outputs: Vec<(u64, Output)>,
    /// How a node's clock goes: rate in thousandths.
    pub rates: BTreeMap<u64, u64>,
    pub seed: u64,
    pub cache_bytes: usize,
    /// Whether snapshots cannot be made.
    pub snapshots_fail: bool,
    next_token: Token,
}

impl Cluster {
    pub fn new(count: u64, seed: u64, cache_bytes: usize) -> Cluster {
        let mut cluster = Cluster {
            now: 0,
            nodes: BTreeMap::new(),
            net: Vec::new(),
            outputs: Vec::new(),
            rates: (1..=count).map(|id| (id, 1000)).collect(),
            seed,
            cache_bytes,
            snapshots_fail: false,
            next_token: 1,
        };
        let given = View::of(Epoch(1), &Vec::from_iter((1..=count).map(NodeId)));
        (1..=count).for_each(|id| drop(cluster.nodes.insert(id, Node::empty(given.clone()))));
        (1..=count).for_each(|id| cluster.start(id));
        cluster
    }

    pub fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    pub fn node(&self, id: u64) -> &Node {
        &self.nodes[&id]
    }

    pub fn replica(&self, id: u64) -> Option<&raft::Raft> {
        self.nodes.get(&id)?.replica.as_ref()
    }

    pub fn local_now(&self, id: u64) -> Instant {
        Instant(id * 1_000_000_000 + self.now * self.rates.get(&id).copied().unwrap_or(1000) / 1000)
    }

    pub fn token(&mut self) -> Token {
        self.next_token += 1;
        self.next_token - 1
    }

    /// Lets a node look at its clock.
    pub fn tick(&mut self, id: u64) {
        let clock = Version::new(self.now, ReplicaId(id as u16));
        let now = self.local_now(id);
        self.input(id, Input::Tick { now, clock });
    }

    /// Gives an input, with a look at the clock before it.
    pub fn step(&mut self, id: u64, input: Input) {
        self.tick(id);
        self.input(id, input);
    }

    pub fn propose(&mut self, id: u64, key: &str) -> Token {
        let op = Op::Put { key: key.to_owned().into(), value: Bytes::new(), deadline: None, previous: false };
        let token = self.token();
        self.step(id, Input::Propose { ops: vec![(token, Stamped { id: None, op }.encode())] });
        token
    }

    /// Asks whether a read may be served.
    pub fn read(&mut self, id: u64, level: Level) -> Token {
        let token = self.token();
        self.step(id, Input::Read { token, scope: Scope::Shard, level });
        token
    }

    /// The rows of a read are there.
    pub fn fetched(&mut self, id: u64, token: Token) {
        self.step(id, Input::Fetched { token });
    }

    /// Nobody waits for a request any more.
    pub fn forget(&mut self, id: u64, token: Token) {
        self.step(id, Input::Forget { token });
    }

    /// Asks a leader to hand over.
    pub fn transfer(&mut self, id: u64, to: u64) {
        self.step(id, Input::Yield { to: NodeId(to) });
    }

    /// The directory wants the shard to go on in another epoch, and says so to a node.
    pub fn seal(&mut self, id: u64, next: u64) {
        self.step(id, Input::Seal { next: Epoch(next), among: Vec::new() });
    }

    /// The directory wants the group to have these members, and says so to a node.
    pub fn want(&mut self, id: u64, members: &[Member]) {
        self.step(id, Input::Want { members: members.to_vec() });
    }

    /// A node gets a replica of its own, which is to learn: it knows the members that another node knows.
    pub fn join(&mut self, id: u64, replica: u16, like: u64) {
        let mut given = self.replica(like).unwrap().view().clone();
        given.members.retain(|member| member.node != NodeId(id));
        given.members.push(Member { duty: Duty::Learner, ..member(id, replica) });
        given.members.sort_by_key(|member| member.node);
        self.nodes.insert(id, Node::empty(given));
        self.start(id);
    }

    /// The number of the replica on a node.
    pub fn number(&self, id: u64) -> ReplicaId {
        let given = self.nodes[&id].given.member(NodeId(id));
        given.expect("a node has the replica that it was given").replica
    }

    /// The members that a replica knows of, when it is not only what it was made with to learn more.
    pub fn learned_view(&self, id: u64) -> Option<View> {
        let given = &self.nodes[&id].given;
        let was_to_learn = given.member(NodeId(id)).is_some_and(|member| member.duty == Duty::Learner);
        let view = self.replica(id)?.view().clone();
        Some(view).filter(|view| !was_to_learn || view.revision != given.revision)
    }

    /// A node drops its replica.
    pub fn remove(&mut self, id: u64) {
        self.lose_received(id);
        self.nodes.remove(&id);
    }

    /// A node says nothing any more, as another finds.
    pub fn silent(&mut self, id: u64, node: u64) {
        self.step(id, Input::Silent { node: NodeId(node) });
    }

    /// The connection of a node to another broke.
    pub fn disconnect(&mut self, id: u64, from: u64) {
        self.step(id, Input::Disconnected { node: NodeId(from) });
    }

    /// Takes a packet to its target, if that is up.
    pub fn deliver(&mut self, (from, to, packet): (u64, u64, Packet)) {
        let is_up = self.nodes.get(&to).is_some_and(|node| node.replica.is_some());
        match packet {
            Packet::Message(body) => {
                self.step(to, Input::Message { from: NodeId(from), revision: Revision(1), body })
            }
            Packet::Snapshot(header, table) if is_up => {
                // One at a time is received; a second one is refused before it has touched the first.
                self.nodes.get_mut(&to).unwrap().received.get_or_insert((from, table));
                let before = self.outputs.len();
                self.step(to, Input::SnapshotReceived { header });
                if self.outputs[before..].iter().any(|(_, output)| matches!(output, Output::DiscardSnapshot))
                {
                    self.snapshot_sent(from, to, false);
                }
            }
            Packet::Snapshot(..) => self.snapshot_sent(from, to, false),
        }
    }

    fn snapshot_sent(&mut self, from: u64, to: u64, arrived: bool) {
        self.step(from, Input::SnapshotSent { to: NodeId(to), arrived });
    }

    /// Loses a packet.
    pub fn lose(&mut self, (from, to, packet): (u64, u64, Packet)) {
        if matches!(packet, Packet::Snapshot(..)) {
            self.snapshot_sent(from, to, false);
        }
    }

    /// Syncs the first so many appends of a node.
    pub fn sync(&mut self, id: u64, count: usize) {
        let node = self.nodes.get_mut(&id).unwrap();
        let count = count.min(node.appends.len());
        let Some((ticket, end, _)) = node.appends.drain(..count).next_back() else { return };
        node.synced = end;
        self.step(id, Input::Durable { ticket });
    }

    /// Syncs the append that installs a received snapshot, and all before it.
    pub fn sync_all(&mut self, id: u64) {
        while !self.nodes[&id].appends.is_empty() {
            let node = self.nodes.get_mut(&id).unwrap();
            let install = node.appends.iter().position(|(_, _, install)| *install);
            let count = install.map_or(node.appends.len(), |place| place + 1);
            let mut sender = None;
            if install.is_some() {
                let (from, table) = node.received.take().expect("a snapshot that is installed was received");
                sender = Some(from);
                node.table = table;
                node.flushed = node.table.clone();
                node.applies.clear();
            }
            self.sync(id, count);
            sender.into_iter().for_each(|from| self.snapshot_sent(from, id, true));
        }
    }

    /// Applies the next entry of a node.
    pub fn apply(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        let Some(Output::Apply { at, entry, .. }) = node.applies.pop_front() else { return };
        node.table.apply(at, &entry);
        self.step(id, Input::Applied { index: at.index });
    }

    pub fn apply_all(&mut self, id: u64) {
        while !self.nodes[&id].applies.is_empty() {
            self.apply(id);
        }
    }

    /// The table of a node is flushed and a checkpoint written and synced; then the log before it may go.
    pub fn flush(&mut self, id: u64) {
        self.sync_all(id);
        let node = self.nodes.get_mut(&id).unwrap();
        node.flushed = node.table.clone();
        let records = node.replica.as_ref().unwrap().checkpoint();
        node.log.clear();
        node.log.extend(records);
        node.synced = node.log.len();
    }

    pub fn crash(&mut self, id: u64) {
        self.lose_received(id);
        let node = self.nodes.get_mut(&id).unwrap();
        let given = node.given.clone();
        *node = Node {
            log: node.log[..node.synced].to_vec(),
            synced: node.synced,
            table: node.flushed.clone(),
            flushed: node.flushed.clone(),
            lives: node.lives,
            ..Node::empty(given)
        };
    }

    /// Loses all that a node's log and table hold: what it starts with is as if it had never been.
    pub fn wipe(&mut self, id: u64) {
        self.lose_received(id);
        let Node { lives, ref given, .. } = self.nodes[&id];
        let empty = Node::empty(given.clone());
        self.nodes.insert(id, Node { lives, ..empty });
    }

    fn lose_received(&mut self, id: u64) {
        if let Some((from, _)) = self.nodes.get_mut(&id).unwrap().received.take() {
            self.snapshot_sent(from, id, false);
        }
    }

    pub fn start(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        node.lives += 1;
        let mut recovery = Recovery::default();
        node.log.iter().for_each(|record| recovery.replay(record).unwrap());
        let view = recovery.view().unwrap_or(&node.given).clone();
        let mut config = raft::Config::new(NodeId(id), view, self.seed + node.lives);
        config.cache_bytes = self.cache_bytes;
        node.replica = Some(raft::Raft::new(config, recovery, node.table.applied).unwrap());
        self.tick(id);
    }

    /// Two nodes see each other again, and their replicas say hello.
    pub fn connect(&mut self, a: u64, b: u64) {
        for (here, there) in [(a, b), (b, a)] {
            let (Some(_), Some(other)) = (self.replica(here), self.replica(there)) else { return };
            let hello = other.hello(NodeId(here));
            self.step(here, Input::Connected { node: NodeId(there), hello });
        }
    }

    /// Gives an input in a turn that began earlier: the node's clock stands where it looked last.
    pub fn input(&mut self, id: u64, input: Input) {
        let mut out = Vec::new();
        let Some(node) = self.nodes.get_mut(&id) else { return };
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
            Output::Append { ticket, records, install } => {
                assert_eq!(ticket, node.next_ticket, "tickets rise by one");
                node.next_ticket = ticket.next();
                node.log.extend(records);
                node.appends.push_back((ticket, node.log.len(), install));
            }
            Output::Send { to, body } => self.net.push((id, to.0, Packet::Message(body))),
            Output::Apply { at, .. } => {
                assert!(
                    !node.appends.iter().any(|(_, _, install)| *install),
                    "no apply before the snapshot is in"
                );
                let before = match node.applies.back() {
                    Some(Output::Apply { at, .. }) => at.index,
                    _ => node.table.applied.index,
                };
                assert_eq!(at.index, before.next(), "applied indexes rise by one");
                node.applies.push_back(output);
            }
            Output::Fetch { tokens } => node.fetches.extend(tokens),
            Output::MakeSnapshot { to } if self.snapshots_fail => {
                self.input(id, Input::SnapshotMade { to, at: None });
            }
            Output::MakeSnapshot { to } => {
                let at = node.table.applied;
                node.made.insert(to, node.table.clone());
                self.input(id, Input::SnapshotMade { to, at: Some(at) });
            }
            Output::SendSnapshot { to, header } => {
                let table = node.made.remove(&to).expect("a snapshot that is sent was made");
                self.net.push((id, to.0, Packet::Snapshot(header, table)));
            }
            Output::DiscardSnapshot => {
                if !node.appends.iter().any(|(_, _, install)| *install) {
                    node.received = None;
                }
            }
            Output::Answer { .. } | Output::Refuse { .. } => (),
            Output::Lacking { .. } | Output::Whole => (),
            Output::PeerLacks { .. } | Output::Sealed { .. } => (),
            Output::Ask(_) => panic!("raft asks the directory for nothing"),
            Output::Look { .. } | Output::Reply { .. } | Output::Publish { .. } => {
                panic!("raft orders what it is asked, and sends to each")
            }
        }
    }
}

impl Node {
    fn empty(given: View) -> Node {
        Node {
            replica: None,
            log: Vec::new(),
            synced: 0,
            appends: VecDeque::new(),
            table: Table::default(),
            flushed: Table::default(),
            applies: VecDeque::new(),
            fetches: VecDeque::new(),
            received: None,
            made: BTreeMap::new(),
            next_ticket: Ticket(1),
            lives: 0,
            given,
        }
    }
}

impl Table {
    fn apply(&mut self, at: Position, entry: &Bytes) {
        assert_eq!(at.index, self.applied.index.next(), "entries are applied in order");
        self.applied = at;
        self.keys.extend(keys(entry));
    }
}

/// A member that votes.
pub fn member(node: u64, replica: u16) -> Member {
    Member { node: NodeId(node), replica: ReplicaId(replica), incarnation: 0, duty: Duty::Voter, weight: 1 }
}

/// The keys that an entry puts.
pub fn keys(entry: &Bytes) -> Vec<String> {
    if entry.is_empty() {
        return Vec::new();
    }
    let key = |stamped: Stamped| match stamped.op {
        Op::Put { key, .. } => String::from_utf8(key.to_vec()).unwrap(),
        other => panic!("only puts are proposed here: {other:?}"),
    };
    Entry::decode(entry).unwrap().ops.into_iter().map(key).collect()
}

/// Pairs of nodes that do not reach each other.
#[derive(Default)]
pub struct Cuts(pub BTreeSet<(u64, u64)>);

impl Cuts {
    pub fn cut(&mut self, a: u64, b: u64) {
        self.0.extend([(a, b), (b, a)]);
    }

    pub fn is_cut(&self, from: u64, to: u64) -> bool {
        self.0.contains(&(from, to))
    }
}
