//! Pulls: what watches ask the shards of this core, here and from other nodes. How that makes a watch is told in
//! [`crate::watch`].
//!
//! A pull is served by the feed here. Without one, or when it is not kept here, a client's is asked of the other nodes in turn; one
//! of another node is answered that there is nothing here.

use std::collections::{BTreeMap, BTreeSet};

use kv::watch::{Change, Filter};
use kv::{Error, NodeId, ShardId, Share, Version};
use mutant::Mutant;
use placement::map::Shard;
use replication::Instant;

use super::Work;
use super::core::Core;
use crate::node::Node;
use crate::session::mix;
use crate::watch::{Given, Held, Pull, Pulled, Source, Waits};
use crate::wire::Frame;

/// Pulls that may be open: those of a thousand watches of some dozen shards.
const PULLS_MAX: usize = 64 << 10;
/// When nobody can be asked it is tried again after this: long enough for news of another leader to arrive.
const RETRY_MICROS: u64 = 50_000;
/// A pull at another node that is not answered this long after its wait is over is lost.
const RESEND_MICROS: u64 = 1_000_000;
/// So long somebody is looked for who can be asked: longer than an election.
const PATIENCE_MICROS: u64 = 5_000_000;

/// The pulls of a core.
pub(super) struct Pulls {
    open: BTreeMap<u64, Open>,
    /// Those at the end of a feed here.
    waits: Waits,
    /// When each is looked at again.
    timers: BTreeSet<(Instant, u64)>,
    last: u64,
    /// The shards that have changed in this turn, and their newest versions before.
    news: BTreeMap<ShardId, Version>,
}

/// Who asked.
pub(super) enum Puller {
    /// A watch of this node.
    Owner(u64),
    /// One of another node.
    Peer { node: NodeId, token: u64, share: Share },
}

/// A pull that is not answered.
struct Open {
    puller: Puller,
    pull: Pull,
    /// When there is nothing to say, it is said then.
    ends: Instant,
    /// So long somebody is looked for.
    gives_up: Instant,
    state: State,
    /// Who was asked since it was last tried from the start.
    tried: BTreeSet<NodeId>,
    /// Who was asked keeps nothing before this.
    oldest: Option<Version>,
    /// Some of those who were asked did not say what they keep.
    is_unsure: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the end of the feed here.
    Waits(Instant),
    /// At another node.
    Asked(NodeId, Instant),
    /// Nobody could be asked.
    Later(Instant),
}

impl State {
    fn wakes(self) -> Instant {
        match self {
            State::Waits(at) | State::Asked(_, at) | State::Later(at) => at,
        }
    }
}

impl Pulls {
    /// None yet. The names of two lives of a node must not meet: what the first one asked may be answered to the second.
    pub fn new(seed: u64) -> Pulls {
        let (open, waits, timers, news) = Default::default();
        Pulls { open, waits, timers, last: mix(!seed) >> 1, news }
    }

    fn set(&mut self, name: u64, state: State) {
        let Some(open) = self.open.get_mut(&name) else { return };
        self.timers.remove(&(open.state.wakes(), name));
        open.state = state;
        self.timers.insert((state.wakes(), name));
    }

    fn remove(&mut self, name: u64) -> Option<Open> {
        let open = self.open.remove(&name)?;
        self.timers.remove(&(open.state.wakes(), name));
        if matches!(open.state, State::Waits(_)) {
            self.waits.remove(open.pull.shard, &open.pull.filter, name);
        }
        Some(open)
    }

    /// Those whose time has come, and that wait no more.
    fn due(&mut self, now: Instant) -> Vec<u64> {
        let due: Vec<u64> = self.timers.range(..=(now, u64::MAX)).map(|(_, name)| *name).collect();
        for name in &due {
            let open = &self.open[name];
            if matches!(open.state, State::Waits(_)) {
                self.waits.remove(open.pull.shard, &open.pull.filter, *name);
            }
        }
        due
    }
}

impl Core {
    pub fn take_pull(&mut self, node: &Node, puller: Puller, pull: Pull) {
        if node.stopping || self.pulls.open.len() >= PULLS_MAX {
            let why = match node.stopping {
                true => STOPPING,
                false => "this node has too many watches: watch fewer keys at once, or at other nodes",
            };
            return self.answer_puller(puller, pull.shard, Pulled::Failed(Error::Unavailable(why.into())));
        }
        self.pulls.last += 1;
        let (name, state) = (self.pulls.last, State::Later(node.now));
        let (ends, gives_up) = (node.now.plus(pull.wait_micros), node.now.plus(PATIENCE_MICROS));
        let (tried, oldest, is_unsure) = Default::default();
        let open = Open { puller, pull, ends, gives_up, state, tried, oldest, is_unsure };
        self.pulls.open.insert(name, open);
        self.serve_pull(node, name);
    }

    /// Another node has answered a pull.
    pub fn take_pulled(
        &mut self,
        node: &Node,
        from: NodeId,
        (name, shard): (u64, ShardId),
        answer: Option<Pulled>,
    ) {
        let Some(open) = self.pulls.open.get_mut(&name) else { return };
        if open.pull.shard != shard || !matches!(open.state, State::Asked(to, _) if to == from) {
            return;
        }
        match answer {
            Some(Pulled::Given(given)) if open.pull.after.is_none_or(|after| after <= given.through) => {
                self.answer_pull(name, Pulled::Given(given));
            }
            Some(Pulled::Trimmed { oldest, .. }) => {
                open.is_trimmed(oldest);
                self.serve_pull(node, name);
            }
            _ => {
                open.is_unsure = true;
                self.serve_pull(node, name);
            }
        }
    }

    /// A replica is as of this version now. Who waits for it may have missed what came before, and is served anew.
    pub fn begin_feed(&mut self, shard: ShardId, source: Source, last: Version) {
        self.feeds.begin(shard, source, last);
        for name in self.pulls.waits.take_all(shard) {
            self.pulls.set(name, State::Later(Instant(0)));
        }
    }

    /// An entry was applied, to a replica or to what is to be one.
    pub fn changed(&mut self, node: &Node, shard: ShardId, changes: Vec<Change>, last: Version) {
        let Some(before) = self.feeds.push(shard, changes, last, node.now) else { return };
        if self.pulls.waits.has(shard) {
            self.pulls.news.entry(shard).or_insert(before);
        }
    }

    /// Whoever waits for what this turn has changed is answered. Each change is looked at once, and read once for all that wait for
    /// the same keys.
    pub fn answer_pulls(&mut self, node: &Node) {
        for (shard, before) in std::mem::take(&mut self.pulls.news) {
            let hits = self.pulls.waits.take(shard, self.feeds.newer(shard, before));
            for (filter, names) in hits {
                self.answer_waiting(node, shard, before, &filter, names);
            }
        }
        self.feeds.trim(node.now);
    }

    fn answer_waiting(
        &mut self,
        node: &Node,
        shard: ShardId,
        before: Version,
        filter: &Filter,
        names: Vec<u64>,
    ) {
        let held = self.feeds.read(shard, filter, Some(before));
        for name in names {
            let after = self.pulls.open.get(&name).and_then(|open| open.pull.after);
            self.pulls.set(name, State::Later(node.now));
            match &held {
                // Whoever waits has been given all that was before.
                Held::Given(given) if after.is_some_and(|after| after <= before) => {
                    self.answer_pull(name, Pulled::Given(given.clone()));
                }
                _ => self.serve_pull(node, name),
            }
        }
    }

    /// Serves a pull here, or has another node do it.
    fn serve_pull(&mut self, node: &Node, name: u64) {
        let Some(open) = self.pulls.open.get_mut(&name) else { return };
        let Pull { shard, after, .. } = open.pull;
        let is_merged = |row: &Shard| row.protocol.is_merged();
        if node.config.map.shards.get(&shard).is_some_and(is_merged) {
            return self.answer_pull(name, Pulled::Failed(Error::Invalid(UNORDERED.into())));
        }
        match self.feeds.read(shard, &open.pull.filter, after) {
            Held::Given(given) => return self.answer_pull(name, Pulled::Given(given)),
            Held::Waits if open.ends <= node.now => return self.answer_nothing(name),
            Held::Waits => {
                let state = State::Waits(open.ends);
                self.pulls.waits.add(shard, &open.pull.filter, name);
                return self.pulls.set(name, state);
            }
            // Another replica may be ahead of this one; what none of them keeps any more comes here with the entries that are missing.
            Held::Behind => open.is_unsure = true,
            Held::Over | Held::Nothing => {}
            Held::Trimmed { oldest } => open.is_trimmed(oldest),
        }
        self.pull_from_others(node, name);
    }

    /// What is not kept here is asked of the next node.
    fn pull_from_others(&mut self, node: &Node, name: u64) {
        let Some(open) = self.pulls.open.get_mut(&name) else { return };
        let shard = open.pull.shard;
        if let Puller::Peer { .. } = open.puller {
            let oldest = open.oldest;
            return self.answer_peer(name, oldest.map(|oldest| Pulled::Trimmed { oldest, is_sure: false }));
        }
        let is_gone = !node.config.map.shards.contains_key(&shard);
        let leader = node.peers.leader(shard, node.now);
        let seats = Vec::from_iter(node.config.seats(shard));
        let is_sure = !open.is_unsure && seats.iter().all(|seat| node.peers.is_connected(*seat));
        // Others may have had a replica a while ago.
        let others = node.peers.ids().filter(|_| is_gone || open.oldest.is_some());
        let mut all = leader.into_iter().chain(seats).chain(others);
        let next = all.find(|to| !open.tried.contains(to) && node.peers.is_connected(*to));
        if let Some(to) = next {
            open.tried.insert(to);
            let wait_micros = open.ends.since(node.now);
            let pull = Pull { wait_micros, ..open.pull.clone() };
            self.pulls.set(name, State::Asked(to, node.now.plus(wait_micros).plus(RESEND_MICROS)));
            return self.send(to, &Frame::Pull { token: name, pull });
        }
        let is_late = open.gives_up <= node.now;
        match open.oldest {
            _ if is_gone => self.answer_pull(name, Pulled::Gone),
            Some(oldest) if is_sure || is_late => {
                let Pull { shard, after, .. } = &open.pull;
                tracing::info!(%shard, ?after, %oldest, is_sure, asked = ?open.tried, "a watch asks for changes that nobody keeps");
                self.answer_pull(name, Pulled::Trimmed { oldest, is_sure });
            }
            None if is_late && self.feeds.is_here(shard) => self.answer_nothing(name),
            None if is_late => {
                let why =
                    "no node with a replica of the shard can be reached from this one: watch at another node";
                self.answer_pull(name, Pulled::Failed(Error::Unavailable(why.into())));
            }
            _ => {
                (open.oldest, open.is_unsure) = (None, false);
                open.tried.clear();
                self.pulls.set(name, State::Later(node.now.plus(RETRY_MICROS)));
            }
        }
    }

    /// The connection to a node broke: what was asked there is asked elsewhere.
    pub fn pull_elsewhere(&mut self, node: &Node, peer: NodeId) {
        let there = |open: &Open| matches!(open.state, State::Asked(to, _) if to == peer);
        let names: Vec<u64> =
            self.pulls.open.iter().filter(|(_, open)| there(open)).map(|(name, _)| *name).collect();
        for name in names {
            let Some(open) = self.pulls.open.get_mut(&name) else { continue };
            open.is_unsure = true;
            if mutant::is(Mutant::WatchSkipsAtALeaderChange) {
                open.pull.after = None;
            }
            self.serve_pull(node, name);
        }
    }

    /// A replica is here no more: who waits for it goes on elsewhere.
    pub fn leave_pulls(&mut self, node: &Node, shard: ShardId) {
        self.feeds.leave(shard, node.now);
        for name in self.pulls.waits.take_all(shard) {
            self.pulls.set(name, State::Later(node.now));
            if mutant::is(Mutant::WatchDoublesAfterAMove)
                && let Some(open) = self.pulls.open.get_mut(&name)
            {
                let back = |after: Version| Version::end_of(after.micros().saturating_sub(1_000_000));
                open.pull.after = open.pull.after.map(back);
            }
            self.serve_pull(node, name);
        }
    }

    /// What was changed here is shown to nobody any more: who waits for it goes on elsewhere.
    pub fn forget_pulls(&mut self, node: &Node, shard: ShardId) {
        self.feeds.forget(shard);
        self.pulls.news.remove(&shard);
        for name in self.pulls.waits.take_all(shard) {
            self.pulls.set(name, State::Later(node.now));
            self.serve_pull(node, name);
        }
    }

    /// What has waited long enough is answered; what is lost, or could not be asked, is tried again.
    pub fn sweep_pulls(&mut self, node: &Node) {
        self.feeds.sweep(node.now);
        for name in self.pulls.due(node.now) {
            let open = self.pulls.open.get_mut(&name);
            if let Some(open) = open.filter(|open| matches!(open.state, State::Asked(..))) {
                open.is_unsure = true;
            }
            self.pulls.set(name, State::Later(node.now));
            self.serve_pull(node, name);
        }
    }

    /// The node stops: its watches go on elsewhere.
    pub fn end_pulls(&mut self) {
        for name in Vec::from_iter(self.pulls.open.keys().copied()) {
            self.answer_pull(name, Pulled::Failed(Error::Unavailable(STOPPING.into())));
        }
    }

    /// There is nothing to say but how far that is.
    fn answer_nothing(&mut self, name: u64) {
        let Some(open) = self.pulls.open.get(&name) else { return };
        let (through, after) = (self.feeds.through(open.pull.shard), open.pull.after);
        let through = through.into_iter().chain(after).max().unwrap_or_default();
        self.answer_pull(name, Pulled::Given(Given::nothing(through)));
    }

    fn answer_pull(&mut self, name: u64, answer: Pulled) {
        let Some(open) = self.pulls.remove(name) else { return };
        self.answer_puller(open.puller, open.pull.shard, answer);
    }

    fn answer_peer(&mut self, name: u64, answer: Option<Pulled>) {
        let Some(open) = self.pulls.remove(name) else { return };
        if let Puller::Peer { node, token, .. } = open.puller {
            self.send(node, &Frame::Pulled { token, shard: open.pull.shard, answer });
        }
    }

    fn answer_puller(&mut self, puller: Puller, shard: ShardId, answer: Pulled) {
        match puller {
            Puller::Owner(client) => self.work.push(Work::Pulled { client, answer }),
            Puller::Peer { node, token, share } => {
                // Without room, or for want of anything to give, the other node looks elsewhere, and comes back.
                let is_given = matches!(answer, Pulled::Given(_)) && share.has_room();
                let answer = is_given.then_some(answer);
                let frame = Frame::Pulled { token, shard, answer }.encode();
                share.add(frame.len());
                self.work.push(Work::Send { to: node, frame: share.keep_with(frame), is_response: true });
            }
        }
    }
}

impl Open {
    /// Somebody keeps nothing before a version.
    fn is_trimmed(&mut self, oldest: Version) {
        self.oldest = Some(self.oldest.map_or(oldest, |other| other.min(oldest)));
    }
}

const UNORDERED: &str = "changes of this keyspace have no order (protocol quorum or broadcast): each replica takes them in as they come, and what is watched elsewhere \
     could neither be told once nor in order; get the keys, or watch a keyspace of protocol single, raft, primary or two-phase";
const STOPPING: &str = "this node is stopping: watch at another one";
