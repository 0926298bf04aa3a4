//! A few replicas of one shard under `primary`, and a model of the directory: logs, tables, network and questions, each moved by hand.
//!
//! It plays the owner of the contract: a crash loses what is not synced of the log and not flushed of the table. All the while it
//! checks what the protocol promises.

mod forced;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use kv::keyspace::{Awaited, SyncMode};
use kv::{Epoch, Index, Level, NodeId, Op, Position, ReplicaId, Scope, Stamped, Version};
use replication::observe::{self, Record};
use replication::primary::{Config, Primary};
use replication::{Change, Duty, Input, Instant, Output, Recovery, Replicate, Revision, Ticket, Token, View};

/// What is on its way from one node to another.
#[derive(Clone)]
pub enum Packet {
    Message(Bytes),
    /// The header, and the last entry that the snapshot holds.
    Snapshot(Bytes, Position),
}

pub struct Node {
    pub replica: Option<Primary>,
    pub log: Vec<Bytes>,
    /// So many records survive a crash.
    pub synced: usize,
    /// Appends that are not synced: ticket, end in the log, whether it installs.
    pub appends: VecDeque<(Ticket, usize, bool)>,
    /// The last entry that the table has applied, and of what is flushed.
    pub table: Position,
    pub flushed: Position,
    pub applies: VecDeque<(Position, Vec<Token>)>,
    pub fetches: Vec<Token>,
    received: Option<(u64, Position)>,
    made: BTreeMap<NodeId, Position>,
    next_ticket: Ticket,
    lives: u64,
    /// The members when its replica was made, if that was not at the beginning.
    given: Option<View>,
}

pub struct World {
    pub now: u64,
    pub nodes: BTreeMap<u64, Node>,
    pub net: Vec<(u64, u64, Packet)>,
    /// The members as the directory has them, and all that it had.
    pub views: Vec<View>,
    /// What it is asked, and has not decided.
    pub asks: Vec<Change>,
    pub cuts: BTreeSet<(u64, u64)>,
    /// How a node's clock goes: rate in thousandths.
    pub rates: BTreeMap<u64, u64>,
    pub cache_bytes: usize,
    /// For whom a write waits.
    pub sync: Awaited,
    /// What the replicas put out, for a script to look at.
    pub outputs: Vec<(u64, Output)>,
    pub open: BTreeMap<Token, u64>,
    /// The last entry that an answer has shown; and what had been shown when each open read was asked.
    shown: Index,
    /// When that rose.
    rises: Vec<(u64, Index)>,
    floors: BTreeMap<Token, Index>,
    rows: BTreeMap<Token, Index>,
    /// The entry at each place and term, and which one was applied at each index.
    entries: BTreeMap<Position, Bytes>,
    applied: BTreeMap<Index, Position>,
    pub answered: usize,
    pub acknowledged: usize,
    next_token: Token,
}

/// The first view: node 1 orders.
fn first(count: u64) -> View {
    let mut view = View::of(Epoch(1), &Vec::from_iter((1..=count).map(NodeId)));
    view.members[0].duty = Duty::Primary;
    view
}

impl World {
    pub fn new(count: u64, cache_bytes: usize) -> World {
        let mut world = World {
            now: 1_000_000,
            nodes: (1..=count).map(|id| (id, Node::empty(0))).collect(),
            net: Vec::new(),
            views: vec![first(count)],
            asks: Vec::new(),
            cuts: BTreeSet::new(),
            rates: (1..=count).map(|id| (id, 1000)).collect(),
            cache_bytes,
            sync: SyncMode::USUAL.into(),
            outputs: Vec::new(),
            open: BTreeMap::new(),
            shown: Index::ZERO,
            rises: Vec::new(),
            floors: BTreeMap::new(),
            rows: BTreeMap::new(),
            entries: BTreeMap::new(),
            applied: BTreeMap::new(),
            answered: 0,
            acknowledged: 0,
            next_token: 1,
        };
        world.ids().into_iter().for_each(|id| world.start(id));
        world
    }

    pub fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    pub fn view(&self) -> &View {
        self.views.last().unwrap()
    }

    pub fn replica(&self, id: u64) -> Option<&Primary> {
        self.nodes[&id].replica.as_ref()
    }

    pub fn primary(&self) -> u64 {
        self.view().members.iter().find(|member| member.duty == Duty::Primary).unwrap().node.0
    }

    pub fn local_now(&self, id: u64) -> Instant {
        Instant(id * 1_000_000_000 + self.now * self.rates[&id] / 1000)
    }

    fn token(&mut self, id: u64) -> Token {
        self.next_token += 1;
        self.open.insert(self.next_token, id);
        self.next_token
    }

    /// Gives an input, with a look at the clock before it.
    pub fn step(&mut self, id: u64, input: Input) {
        let clock = Version::new(self.now, ReplicaId(id as u16));
        let now = self.local_now(id);
        self.input(id, Input::Tick { now, clock });
        self.input(id, input);
    }

    /// For whom a write waits from now on.
    pub fn wait_for(&mut self, sync: Awaited) {
        self.sync = sync;
        self.ids().into_iter().for_each(|id| self.step(id, Input::Sync(sync)));
    }

    pub fn tick(&mut self, id: u64) {
        let clock = Version::new(self.now, ReplicaId(id as u16));
        let now = self.local_now(id);
        self.input(id, Input::Tick { now, clock });
    }

    pub fn propose(&mut self, id: u64) -> Option<Token> {
        self.replica(id)?;
        let token = self.token(id);
        let op =
            Op::Put { key: token.to_string().into(), value: Bytes::new(), deadline: None, previous: false };
        self.step(id, Input::Propose { ops: vec![(token, Stamped { id: None, op }.encode())] });
        Some(token)
    }

    pub fn read(&mut self, id: u64, level: Level) -> Option<Token> {
        self.replica(id)?;
        let token = self.token(id);
        self.floors.insert(token, self.shown);
        self.step(id, Input::Read { token, scope: Scope::Shard, level });
        Some(token)
    }

    /// The rows of the reads of a node are read now; they are given later.
    pub fn fetch(&mut self, id: u64) {
        let applied = self.nodes[&id].table.index;
        let tokens = self.nodes[&id].fetches.clone();
        for token in tokens {
            self.rows.entry(token).or_insert(applied);
        }
    }

    pub fn fetched(&mut self, id: u64) {
        self.fetch(id);
        for token in std::mem::take(&mut self.nodes.get_mut(&id).unwrap().fetches) {
            self.step(id, Input::Fetched { token });
        }
    }

    pub fn is_cut(&self, from: u64, to: u64) -> bool {
        self.cuts.contains(&(from.min(to), from.max(to)))
    }

    /// Takes a packet to its target, if that is up.
    pub fn deliver(&mut self, (from, to, packet): (u64, u64, Packet)) {
        let is_up = self.replica(to).is_some() && !self.is_cut(from, to);
        match packet {
            Packet::Message(_) if !is_up => (),
            Packet::Message(body) => {
                self.step(to, Input::Message { from: NodeId(from), revision: Revision(1), body });
            }
            Packet::Snapshot(header, table) if is_up => {
                self.nodes.get_mut(&to).unwrap().received.get_or_insert((from, table));
                let before = self.outputs.len();
                self.step(to, Input::SnapshotReceived { header });
                let is_no = |(_, output): &(u64, Output)| matches!(output, Output::DiscardSnapshot);
                if self.outputs[before..].iter().any(is_no) {
                    self.snapshot_sent(from, to, false);
                }
            }
            Packet::Snapshot(..) => self.snapshot_sent(from, to, false),
        }
    }

    pub fn lose(&mut self, (from, to, packet): (u64, u64, Packet)) {
        if matches!(packet, Packet::Snapshot(..)) {
            self.snapshot_sent(from, to, false);
        }
    }

    fn snapshot_sent(&mut self, from: u64, to: u64, arrived: bool) {
        self.step(from, Input::SnapshotSent { to: NodeId(to), arrived });
    }

    /// Syncs the first append of a node.
    pub fn sync(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        let Some((ticket, end, install)) = node.appends.pop_front() else { return };
        node.synced = end;
        let mut sender = None;
        if install {
            let (from, at) = node.received.take().expect("a snapshot that is installed was received");
            (node.table, node.flushed, sender) = (at, at, Some(from));
            // What was given out before is answered all the same; the rows are those of the snapshot.
            let given = std::mem::take(&mut node.applies);
            self.open.retain(|token, _| !given.iter().any(|(_, tokens)| tokens.contains(token)));
        }
        self.step(id, Input::Durable { ticket });
        sender.into_iter().for_each(|from| self.snapshot_sent(from, id, true));
    }

    /// Applies the next entry of a node, and answers those whose ops it holds.
    pub fn apply(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        let Some((at, tokens)) = node.applies.pop_front() else { return };
        assert_eq!(at.index, node.table.index.next(), "entries are applied in order");
        node.table = at;
        let before = *self.applied.entry(at.index).or_insert(at);
        assert!(
            before == at || self.is_astray(id),
            "n{id} applies another entry than others at {}",
            at.index
        );
        if !tokens.is_empty() {
            self.show(at.index);
            self.acknowledged += tokens.len();
            self.open.retain(|token, _| !tokens.contains(token));
        }
        self.step(id, Input::Applied { index: at.index });
    }

    /// What is acknowledged is on the disk of each member that is in sync, as the directory has it.
    fn check_acknowledged(&self, at: Position) {
        let counts = |member: &&replication::Member| matches!(member.duty, Duty::Primary | Duty::Voter);
        let in_sync = self.view().members.iter().filter(counts);
        let copies = self.nodes.keys().filter(|id| self.has_durable(**id, at)).count();
        let least = usize::from(self.sync.least);
        assert!(copies >= least, "{at} is acknowledged, and {copies} of the nodes has it");
        for member in in_sync {
            let id = member.node.0;
            assert!(self.has_durable(id, at), "{at} is acknowledged, and n{id} is in sync and lacks it");
        }
    }

    fn has_durable(&self, id: u64, at: Position) -> bool {
        let node = &self.nodes[&id];
        let mut base = Index::ZERO;
        let mut log: BTreeMap<Index, Position> = BTreeMap::new();
        for record in &node.log[..node.synced] {
            match observe::record(record).unwrap().2 {
                Record::Entry(at) => {
                    log.split_off(&at.index);
                    log.insert(at.index, at);
                }
                Record::Base(at) => base = base.max(at.index),
                Record::Snapshot(at) => {
                    log.clear();
                    base = at.index;
                }
                _ => (),
            }
        }
        base >= at.index || log.get(&at.index) == Some(&at)
    }

    /// The table of a node is flushed and a checkpoint written and synced; then the log before it may go.
    pub fn flush(&mut self, id: u64) {
        while !self.nodes[&id].appends.is_empty() {
            self.sync(id);
        }
        let node = self.nodes.get_mut(&id).unwrap();
        let Some(replica) = &node.replica else { return };
        let records = replica.checkpoint();
        node.flushed = node.table;
        node.log.clear();
        node.log.extend(records);
        node.synced = node.log.len();
    }

    pub fn crash(&mut self, id: u64) {
        if let Some((from, _)) = self.nodes.get_mut(&id).unwrap().received.take() {
            self.snapshot_sent(from, id, false);
        }
        let node = self.nodes.get_mut(&id).unwrap();
        let log = node.log[..node.synced].to_vec();
        let Node { synced, flushed, lives, .. } = *node;
        let given = node.given.take();
        *node = Node { log, synced, table: flushed, flushed, given, ..Node::empty(lives) };
        self.open.retain(|_, at| *at != id);
    }

    pub fn start(&mut self, id: u64) {
        let given = self.nodes[&id].given.clone().unwrap_or_else(|| self.views[0].clone());
        let cache_bytes = self.cache_bytes;
        let node = self.nodes.get_mut(&id).unwrap();
        node.lives += 1;
        let mut recovery = Recovery::default();
        node.log.iter().for_each(|record| recovery.replay(record).unwrap());
        assert!(recovery.written_by().is_none() || recovery.view().is_some(), "n{id} knows its members");
        let view = recovery.view().unwrap_or(&given).clone();
        let config =
            Config { cache_bytes, sync: self.sync, ..Config::new(NodeId(id), view, id * 1000 + node.lives) };
        node.replica = Some(Primary::new(config, recovery, node.table).unwrap());
        self.tick(id);
    }

    /// Two nodes see each other, and their replicas say hello.
    pub fn connect(&mut self, a: u64, b: u64) {
        self.cuts.remove(&(a.min(b), a.max(b)));
        for (here, there) in [(a, b), (b, a)] {
            let (Some(_), Some(other)) = (self.replica(here), self.replica(there)) else { return };
            let hello = other.hello(NodeId(here));
            self.step(here, Input::Connected { node: NodeId(there), hello });
        }
    }

    pub fn cut(&mut self, a: u64, b: u64) {
        self.cuts.insert((a.min(b), a.max(b)));
        self.step(a, Input::Disconnected { node: NodeId(b) });
        self.step(b, Input::Disconnected { node: NodeId(a) });
    }

    /// The directory decides a question: it holds while epoch and revision are those that who asks knows.
    pub fn decide(&mut self, change: Change) {
        let view = self.view().clone();
        let asker = view.member(change.by.node).copied();
        let counts =
            asker.is_some_and(|asker| asker.duty != Duty::Learner && asker.replica == change.by.replica);
        if (change.epoch, change.revision) != (view.epoch, view.revision) || !counts {
            return;
        }
        if asker.is_some_and(|asker| asker.duty == Duty::Astray) {
            return self.begin_anew(change.by.node.0);
        }
        let primary = |members: &[replication::Member]| {
            members.iter().find(|member| member.duty == Duty::Primary).map(|member| member.node)
        };
        let was = primary(&view.members);
        let grows = |member: &replication::Member| {
            let before = view.member(member.node).unwrap().duty == Duty::Learner;
            before && member.duty != Duty::Learner
        };
        assert!(primary(&change.members).is_some(), "somebody orders");
        assert!(
            was == Some(change.by.node) || !change.members.iter().any(grows),
            "only who orders knows who is in sync"
        );
        let revision = Revision(view.revision.0 + 1);
        self.views.push(View { epoch: view.epoch, revision, members: change.members });
    }

    /// A node hears of the members as the directory has them.
    pub fn tell(&mut self, id: u64) {
        let view = self.view().clone();
        self.step(id, Input::View(view));
    }

    /// Gives an input in a turn that began earlier.
    pub fn input(&mut self, id: u64, input: Input) {
        let mut out = Vec::new();
        let Some(replica) = &mut self.nodes.get_mut(&id).unwrap().replica else { return };
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
                for record in &records {
                    if let Some((_, _, Record::Entry(at))) = observe::record(record) {
                        let before = self.entries.entry(at).or_insert_with(|| record.clone());
                        assert_eq!(before, record, "one entry is of a place and a term");
                    }
                }
                node.log.extend(records);
                node.appends.push_back((ticket, node.log.len(), install));
            }
            Output::Send { to, body } => self.net.push((id, to.0, Packet::Message(body))),
            Output::Apply { at, tokens, .. } => {
                let is_answered = !tokens.is_empty();
                node.applies.push_back((at, tokens));
                if is_answered {
                    self.check_acknowledged(at);
                }
            }
            Output::Fetch { tokens } => {
                self.rows.retain(|token, _| !tokens.contains(token));
                node.fetches.extend(tokens);
            }
            Output::MakeSnapshot { to } => {
                let at = node.table;
                node.made.insert(to, at);
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
            Output::Answer { token, reached, staleness_micros, .. } => {
                self.check_answer(token, reached, staleness_micros);
            }
            Output::Refuse { token, .. } => drop(self.open.remove(&token)),
            Output::Ask(change) => self.asks.push(change),
            Output::Look { .. } | Output::Reply { .. } | Output::Publish { .. } => {
                panic!("primary orders what it is asked, and sends to each")
            }
            Output::Lacking { .. } | Output::Whole | Output::PeerLacks { .. } | Output::Sealed { .. } => (),
        }
    }

    fn show(&mut self, index: Index) {
        if index > self.shown {
            self.shown = index;
            self.rises.push((self.now, index));
        }
    }

    fn check_answer(&mut self, token: Token, reached: Level, staleness_micros: u64) {
        self.open.remove(&token);
        let (floor, row) = (self.floors[&token], self.rows[&token]);
        self.answered += 1;
        if reached == Level::Linearizable {
            assert!(
                row >= floor,
                "read {token} shows what was so at {row}, and {floor} was shown before it was asked"
            );
            return self.show(row);
        }
        // By a clock that goes slower than ours by a tenth at most.
        let micros = staleness_micros.saturating_add(staleness_micros / 9).saturating_add(1);
        let since = self.now.saturating_sub(micros);
        let then = self.rises.iter().rev().find(|(at, _)| *at < since).map_or(Index::ZERO, |(_, then)| *then);
        assert!(
            row >= then,
            "read {token} shows what was so at {row}, as of {staleness_micros} us ago, and {then} was shown before that"
        );
    }
}

impl Node {
    fn empty(lives: u64) -> Node {
        Node {
            replica: None,
            log: Vec::new(),
            synced: 0,
            appends: VecDeque::new(),
            table: Position::ZERO,
            flushed: Position::ZERO,
            applies: VecDeque::new(),
            fetches: Vec::new(),
            received: None,
            made: BTreeMap::new(),
            next_ticket: Ticket(1),
            lives,
            given: None,
        }
    }
}
