//! What a core has: the replicas of its shards, and what is on its way to and from them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use kv::keyspace::Usage;
use kv::{Error, NodeId, Position, Protocol, Reply, ShardId, Version};
use placement::map::Shard;
use replication::{Input, Instant, Output, Ticket, Token};

use super::agenda::Agenda;
use super::astray::Handover;
use super::expiries::Expiries;
use super::handover::Heir;
use super::hosting::Leaving;
use super::open::{Gather, OpenParts};
use super::replica::Replica;
use super::split::Parts;
use super::watches::Pulls;
use super::{Flush, Work};
use crate::Config;
use crate::job::Done;
use crate::node::Node;
use crate::record;
use crate::session::Sessions;
use crate::watch::{Feeds, Source};
use crate::wire::{Announced, Copied, Frame};

/// How often it is looked whether a shard has something due to be removed.
const CLEAN_LOOK_MICROS: u64 = 10_000;
/// How often parts are looked through for those whose time is up.
const SWEEP_MICROS: u64 = 20_000;

/// A core's part of a driver.
pub(super) struct Core {
    pub replicas: BTreeMap<ShardId, Replica>,
    /// The newest version of any shard.
    pub newest: Version,
    pub open: OpenParts,
    /// What the turn hands out.
    pub work: Vec<Work>,
    /// Appends on their way.
    pub appends: VecDeque<Append>,
    /// What the replicas want written this turn: the next append.
    pub records: Vec<wal::Record>,
    /// The last append, 0 = none yet.
    pub ticket: u64,
    /// The last append that is known to be synced.
    pub durable: u64,
    pub flushes: BTreeMap<u64, Flush>,
    pub next_flush: u64,
    /// Parts that wait until something may have changed, by shard.
    pub waiting: BTreeMap<ShardId, Vec<Token>>,
    /// What this turn proposes to each replica, given to it at the turn's end.
    pub proposals: BTreeMap<ShardId, Vec<(Token, Bytes)>>,
    /// Likewise what this turn's reads ask of replicas without an order.
    pub gathers: BTreeMap<ShardId, Vec<Gather>>,
    pub expiries: Expiries,
    /// The replicas that were dropped and of which something is left.
    pub leaving: BTreeMap<ShardId, Leaving>,
    /// The replicas that are to be, of shards that are handed over.
    pub heirs: BTreeMap<ShardId, Heir>,
    /// The parts that are to be, by the shard that is cut.
    pub parts: BTreeMap<ShardId, Parts>,
    /// The keyspaces and slots of shards that were cut and are no more, the newest ones.
    pub cut_before: BTreeMap<ShardId, Shard>,
    /// When it began.
    pub begun: Instant,
    /// The keyspaces of which a shard without an order is no more, and since when that is known here.
    pub unordered_before: BTreeMap<String, Instant>,
    /// The shards of which other nodes' heirs want to know what comes next.
    pub tails_asked: BTreeSet<ShardId>,
    /// Others are to hear of its replicas at once.
    pub has_news: bool,
    /// Ids for requests that came without.
    pub sessions: BTreeMap<ShardId, Sessions>,
    /// Answers to what the node's own directory has asked.
    pub directory_answers: Vec<(u64, Result<Reply, Error>)>,
    /// The replicas that are astray, and how far what they have is told.
    pub astray: BTreeMap<ShardId, Handover>,
    /// Answers to what they asked.
    pub astray_answers: Vec<(ShardId, u64, Result<Reply, Error>)>,
    /// How replicas of the node's other cores are, as they announced them last.
    pub beside: BTreeMap<ShardId, Announced>,
    /// What each keyspace holds, as far as is known.
    pub usage: Arc<BTreeMap<String, Usage>>,
    /// How each replica was when it was last announced.
    pub announced: BTreeMap<ShardId, Announced>,
    /// What is still to be given to replicas in this turn.
    pub inputs: VecDeque<(ShardId, Input)>,
    /// When each replica wants to be told the time, those that ever do.
    pub wakes: Agenda<Instant>,
    /// The replicas that something happened to in this turn, each once.
    pub touched: Vec<ShardId>,
    /// What has changed lately, and who wants to hear of it.
    pub feeds: Feeds,
    pub pulls: Pulls,
    clean_at: Instant,
    sweep_at: Instant,
}

/// An append that is not synced yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Append {
    /// The core's ticket for it.
    pub ticket: u64,
    pub shard: ShardId,
    /// The ticket of the shard's replica.
    pub own: Ticket,
}

impl Core {
    /// Without replicas.
    pub fn new(config: &Config, now: Instant) -> Core {
        Core {
            newest: Version::default(),
            wakes: Agenda::new(),
            touched: Vec::new(),
            replicas: BTreeMap::new(),
            open: OpenParts::new(config.seed, config.cores_asked()),
            work: Vec::new(),
            appends: VecDeque::new(),
            records: Vec::new(),
            ticket: 0,
            durable: 0,
            flushes: BTreeMap::new(),
            next_flush: 0,
            waiting: BTreeMap::new(),
            proposals: BTreeMap::new(),
            gathers: BTreeMap::new(),
            expiries: Expiries::new(now),
            leaving: BTreeMap::new(),
            heirs: BTreeMap::new(),
            parts: BTreeMap::new(),
            cut_before: BTreeMap::new(),
            begun: now,
            unordered_before: BTreeMap::new(),
            tails_asked: BTreeSet::new(),
            has_news: false,
            sessions: BTreeMap::new(),
            directory_answers: Vec::new(),
            astray: BTreeMap::new(),
            astray_answers: Vec::new(),
            beside: BTreeMap::new(),
            usage: Arc::default(),
            announced: BTreeMap::new(),
            inputs: VecDeque::new(),
            feeds: Feeds::new(config.deal.cores()),
            pulls: Pulls::new(config.seed),
            clean_at: now,
            sweep_at: now,
        }
    }

    /// A replica begins here. A new one is made known to the log before it says anything.
    pub fn begin_replica(&mut self, replica: Replica, is_new: bool) {
        let shard = replica.shard;
        if is_new {
            self.records.push(record::made(shard, &replica.made));
        }
        self.newest = self.newest.max(replica.last);
        self.wakes.set(shard, replica.wakes());
        self.expiries.look(shard);
        self.begin_feed(shard, Source::Here, replica.last);
        let before = self.replicas.insert(shard, replica);
        assert!(before.is_none(), "a shard has one replica on a node");
    }

    /// Tells those replicas the time that want to know it.
    pub fn tick(&mut self, node: &Node) {
        let mut outputs = Vec::new();
        for shard in Vec::from_iter(self.wakes.due(node.now)) {
            self.tick_replica(node, shard, &mut outputs);
        }
        self.settle(node);
        if node.now >= self.clean_at {
            self.clean_at = node.now.plus(CLEAN_LOOK_MICROS);
            self.clean(node);
        }
    }

    /// Gives up what is overdue, now and then.
    pub fn sweep(&mut self, node: &Node) {
        if node.now >= self.sweep_at {
            self.sweep_at = node.now.plus(SWEEP_MICROS);
            self.give_up_overdue(node);
            self.settle(node);
            self.sweep_pulls(node);
        }
    }

    /// What waited is tried, and what the turn collected for each replica becomes one input.
    pub fn end_turn(&mut self, node: &Node) {
        self.retry_waiting(node);
        for (shard, ops) in std::mem::take(&mut self.proposals) {
            tracing::trace!("a turn's writes are proposed");
            self.give(shard, Input::Propose { ops });
        }
        for (shard, reads) in std::mem::take(&mut self.gathers) {
            self.give(shard, Input::Gather { reads });
        }
        self.settle(node);
        self.tend_astray(node);
        self.answer_pulls(node);
        self.ask_givers(node);
        self.ask_for_parts(node);
        self.answer_tails();
        self.append_gathered();
        self.note_wakes();
    }

    /// Notes when the replicas want the time next that something happened to.
    fn note_wakes(&mut self) {
        for shard in self.touched.drain(..) {
            let replica = self.replicas.get_mut(&shard).expect("a replica that is dropped is untouched");
            replica.is_touched = false;
            self.wakes.set(shard, replica.wakes());
        }
    }

    /// Whether something is still to be given to a replica, or to the log.
    pub fn has_inputs(&self) -> bool {
        let is_waiting = !self.proposals.is_empty() || !self.gathers.is_empty();
        is_waiting || !self.inputs.is_empty() || !self.records.is_empty()
    }

    /// An op that a replica is to order.
    pub fn propose(&mut self, shard: ShardId, token: Token, op: Bytes) {
        self.proposals.entry(shard).or_default().push((token, op));
    }

    /// A read that the replicas of a shard without an order are to be asked for.
    pub fn gather(&mut self, shard: ShardId, read: Gather) {
        self.gathers.entry(shard).or_default().push(read);
    }

    /// Something for a replica; it is given by the next [`Core::settle`].
    pub fn give(&mut self, shard: ShardId, input: Input) {
        self.inputs.push_back((shard, input));
    }

    /// Gives replicas their inputs until none is left.
    pub fn settle(&mut self, node: &Node) {
        let mut outputs = Vec::new();
        while let Some((shard, input)) = self.inputs.pop_front() {
            self.tick_replica(node, shard, &mut outputs);
            let Some(replica) = self.replicas.get_mut(&shard) else { continue };
            assert_eq!(replica.ticked, Some(node.now), "a replica knows the time before anything else");
            replica.touch(&mut self.touched);
            replica.protocol.step(input, &mut outputs);
            for output in outputs.drain(..) {
                self.output(node, shard, output);
            }
        }
    }

    /// Tells a replica the time, once a turn and before anything else.
    fn tick_replica(&mut self, node: &Node, shard: ShardId, outputs: &mut Vec<Output>) {
        let now = node.now;
        let Some(replica) = self.replicas.get_mut(&shard).filter(|replica| replica.ticked != Some(now))
        else {
            return;
        };
        assert!(replica.ticked.is_none_or(|before| before < now), "a replica is told the time in order");
        replica.ticked = Some(now);
        replica.touch(&mut self.touched);
        let clock = replica.now(node);
        replica.protocol.step(Input::Tick { now, clock }, outputs);
        for output in outputs.drain(..) {
            self.output(node, shard, output);
        }
    }

    /// What the table has done.
    pub fn done(&mut self, node: &Node, done: Done) {
        match done {
            Done::Applied { shard, index, last, due, standing, changes, results } => {
                self.changed(node, shard, changes, last);
                match self.replicas.contains_key(&shard) {
                    false => self.tail_applied(shard, index, (last, due, standing)),
                    true => {
                        // By versions of others its time may be over before this node's clock says so: then it has gone there already.
                        let takes_others = self.replicas[&shard].kind == Protocol::Broadcast;
                        let is_over = |due: &u64| takes_others && *due <= last.micros();
                        self.expiries.set(shard, due.map(|due| if is_over(&due) { 0 } else { due }));
                        self.stands(shard, standing);
                        self.applied(node, shard, index, last, results);
                    }
                }
            }
            Done::Looked { shard, ticket, found, last } => {
                self.give(shard, Input::Looked { ticket, found, last });
            }
            Done::Read { shard, token, read } => self.read_done(node, shard, token, read),
            Done::Snapshot { shard, to, snapshot } => {
                let at = snapshot.applied;
                assert_ne!(to, node.config.me, "a snapshot is taken for another node");
                let Some(snapshot) = self.copy_made(shard, to, snapshot) else { return };
                if let Some(replica) = self.replicas.get_mut(&shard) {
                    replica.snapshots.insert(to, snapshot);
                }
                self.give(shard, Input::SnapshotMade { to, at: Some(Position::new(at.index, at.term)) });
            }
            Done::Orphaned { shard, number, found } => self.orphaned(node, shard, number, found),
            Done::Frozen { shard, core, snapshot } => self.frozen(shard, core, snapshot),
            Done::Cut { from, cut, more } => self.cut_step(from, cut, more),
            Done::Installed { shard, generation, result } => self.installed(shard, generation, result),
            Done::Loaded { shard, generation, last, due, standing } => {
                self.loaded(shard, generation, (last, due, standing));
            }
            Done::Closed { shard } => self.closed(node, shard),
            Done::Forgot { shard, generation, more } => self.forgot(shard, generation, more),
            Done::Flushed { .. } => unreachable!("a flush ends where it is known what it was for"),
        }
    }

    /// How far the copy of a shard is that goes to a node; `None` = it begins anew.
    pub fn copied(&mut self, shard: ShardId, to: NodeId, copied: Option<Copied>) {
        let Some(replica) = self.replicas.get_mut(&shard) else { return };
        match copied {
            Some(copied) => replica.copied.insert(to, copied),
            None => replica.copied.remove(&to),
        };
    }

    /// How its replicas are, for other nodes.
    pub fn announced(&self) -> Vec<Announced> {
        self.replicas.values().map(Replica::announced).collect()
    }

    /// How its replica of a shard is.
    pub fn announced_of(&self, shard: ShardId) -> Option<Announced> {
        self.replicas.get(&shard).map(Replica::announced)
    }

    /// What is to be announced: how all are, or those that are not as they were announced last.
    pub fn announce(&mut self, all: bool) -> Vec<Announced> {
        let mut now = self.announced();
        let before = now.iter().map(|replica| (replica.shard, replica.clone())).collect();
        let before = std::mem::replace(&mut self.announced, before);
        now.retain(|replica| all || before.get(&replica.shard) != Some(replica));
        now
    }

    /// How much may be open here depends on how many cores have a shard that can be asked for.
    pub fn share_with(&mut self, node: &Node) {
        self.open.share_with(node.config.cores_asked());
    }

    pub fn send(&mut self, to: NodeId, frame: &Frame) {
        self.work.push(Work::Send { to, frame: frame.encode(), is_response: frame.is_response() });
    }
}
