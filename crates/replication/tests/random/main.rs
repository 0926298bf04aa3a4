//! Three replicas under a seed: messages are lost, doubled and reordered, nodes crash, stop, are cut off and have clocks of
//! different rates. Whatever happens: what is committed stays and is the same everywhere, a term has one leader, a write that
//! was refused as failed never happens, and reads keep what they say.

#![allow(clippy::unwrap_used)] // a test fails by panicking

#[path = "../cluster/mod.rs"]
mod cluster;

mod attack;
mod changes;
mod naps;

use std::collections::{BTreeMap, BTreeSet};

use cluster::{Cluster, Cuts, Packet, keys};
use kv::cluster::Role;
use kv::{Error, Level, Outcome, Term};
use replication::{Output, Replicate, Token};

/// Seeds of a usual run; the environment may ask for other ones (`SEED`, `SEEDS`).
const SEEDS: u64 = 200;
const EVENTS: usize = 2500;

#[test]
fn raft_random_faults_break_no_promise() {
    let number = |name| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    let seeds = number("SEED").map_or(0..number("SEEDS").unwrap_or(SEEDS), |seed| seed..seed + 1);
    let mut sometimes = BTreeMap::new();
    let alone = seeds.end - seeds.start == 1;
    for seed in seeds {
        let run = std::panic::catch_unwind(|| Run::new(seed).go());
        match run {
            Ok(seen) => {
                seen.into_iter().for_each(|(what, count)| *sometimes.entry(what).or_insert(0) += count)
            }
            Err(_) => panic!(
                "seed {seed} fails: run it alone with SEED={seed} cargo test -p replication --test random"
            ),
        }
    }
    println!("{sometimes:#?}");
    if !alone {
        for what in
            ["acknowledged", "failed", "leased read", "round read", "bounded read", "local read", "install"]
        {
            assert!(sometimes.contains_key(what), "the test never saw: {what}");
        }
    }
}

#[test]
fn raft_same_seed_gives_the_same_outputs() {
    let trace = |seed| {
        let mut run = Run::new(seed);
        let mut trace = String::new();
        (0..EVENTS).for_each(|_| {
            run.event();
            trace += &format!("{:?}", run.cluster.outputs);
            run.check();
        });
        trace
    };
    assert!(trace(7) == trace(7));
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }
}

/// An open request: at which node, and what had been seen by anybody when it was asked.
struct Open {
    node: u64,
    floor: usize,
    key: String,
    leased: bool,
}

struct Run {
    random: Random,
    cluster: Cluster,
    cuts: Cuts,
    /// Nodes that are stopped until then.
    stopped: BTreeMap<u64, u64>,
    open: BTreeMap<Token, Open>,
    /// Rows that are read and not yet given: how many keys the table had.
    rows: Vec<(u64, Token, usize)>,
    given: BTreeMap<Token, usize>,
    committed: BTreeMap<u64, (u64, Vec<String>)>,
    order: Vec<String>,
    leaders: BTreeMap<Term, u64>,
    failed: BTreeSet<String>,
    /// How many keys somebody was told of, and since when.
    floors: Vec<(u64, usize)>,
    seen: BTreeMap<&'static str, u64>,
    next_key: u64,
    directory: changes::Directory,
    /// How much time passes between two looks at a clock, at most.
    pace_micros: u64,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        (0..10).for_each(|_| assert!(random.below(2) < 2));
        let pace_micros = random.pick(&[10_000, 20_000, 40_000]);
        let cache_bytes = random.pick(&[0, 1000, 1 << 20]);
        let mut cluster = Cluster::new(3, seed, cache_bytes);
        cluster.rates = (1..=3).map(|id| (id, 970 + random.below(61))).collect();
        Run {
            random,
            cluster,
            cuts: Cuts::default(),
            stopped: BTreeMap::new(),
            open: BTreeMap::new(),
            rows: Vec::new(),
            given: BTreeMap::new(),
            committed: BTreeMap::new(),
            order: Vec::new(),
            leaders: BTreeMap::new(),
            failed: BTreeSet::new(),
            floors: vec![(0, 0)],
            seen: BTreeMap::new(),
            next_key: 0,
            directory: changes::Directory::default(),
            pace_micros,
        }
    }

    fn go(mut self) -> BTreeMap<&'static str, u64> {
        (0..200).for_each(|_| self.calm());
        for _ in 0..EVENTS {
            self.event();
            self.check();
        }
        self.converge();
        self.seen
    }

    fn event(&mut self) {
        let id = self.any_node();
        self.stopped.retain(|_, until| *until > self.cluster.now);
        match self.random.below(1000) {
            0..350 => self.deliver(),
            350..500 => {
                self.cluster.now += self.random.below(self.pace_micros);
                self.ids().into_iter().for_each(|id| self.if_running(id, |run| run.cluster.tick(id)));
            }
            500..600 => self.if_running(id, |run| run.sync(id)),
            600..660 => self.if_running(id, |run| run.cluster.apply(id)),
            660..720 => self.if_running(id, |run| run.cluster.apply_all(id)),
            720..800 => self.if_running(id, |run| run.fetch(id)),
            800..860 => self.if_running(id, |run| run.propose(id)),
            860..940 => self.if_running(id, |run| run.read(id)),
            940..945 => self.fault(id),
            945..965 => {
                self.cuts.0.clear();
                let other = self.another(id);
                self.if_running(id, |run| run.cluster.connect(id, other));
            }
            965..985 => self.if_running(id, |run| {
                run.sync(id);
                run.cluster.flush(id);
            }),
            985..990 => self.transfer(id),
            _ => self.forget(),
        }
    }

    /// Often one that thinks it leads.
    fn any_node(&mut self) -> u64 {
        let leads = |id: &u64| self.cluster.replica(*id).is_some_and(|it| it.status().role == Role::Leader);
        let leaders: Vec<u64> = self.ids().into_iter().filter(leads).collect();
        if leaders.is_empty() || self.random.below(2) == 0 {
            let ids = self.ids();
            self.random.pick(&ids)
        } else {
            self.random.pick(&leaders)
        }
    }

    fn another(&self, id: u64) -> u64 {
        let ids = self.ids();
        *ids.iter().find(|other| **other > id).unwrap_or(&ids[0])
    }

    fn fault(&mut self, id: u64) {
        match self.random.below(4) {
            0 => {
                self.cluster.crash(id);
                self.lose_requests(id);
                self.cluster.start(id);
            }
            1 => {
                self.stopped.insert(id, self.cluster.now + self.random.below(1_500_000));
            }
            2 => {
                self.ids().into_iter().filter(|&other| other != id).for_each(|other| self.cuts.cut(id, other))
            }
            _ => {
                self.cuts.0.insert((id, self.another(id)));
            }
        }
    }

    fn ids(&self) -> Vec<u64> {
        self.cluster.ids()
    }

    fn if_running(&mut self, id: u64, then: impl FnOnce(&mut Run)) {
        if !self.stopped.contains_key(&id) {
            then(self);
        }
    }

    fn deliver(&mut self) {
        for _ in 0..1 + self.random.below(8) {
            if self.cluster.net.is_empty() {
                return;
            }
            // Mostly the oldest, sometimes any.
            let reordered = self.random.below(5) == 0;
            let place = if reordered { self.random.below(self.cluster.net.len() as u64) as usize } else { 0 };
            let (from, to, packet) = self.cluster.net.remove(place);
            let doubled = self.random.below(20) == 0 && matches!(packet, Packet::Message(_));
            if doubled {
                self.cluster.net.push((from, to, packet.clone()));
            }
            if self.stopped.contains_key(&to)
                || self.stopped.contains_key(&from) && matches!(packet, Packet::Snapshot(..))
            {
                self.cluster.net.push((from, to, packet));
            } else if self.cuts.is_cut(from, to) || self.random.below(30) == 0 {
                self.cluster.lose((from, to, packet));
            } else {
                self.cluster.deliver((from, to, packet));
            }
        }
    }

    fn sync(&mut self, id: u64) {
        let installs = self.cluster.node(id).appends.iter().any(|(_, _, install)| *install);
        if installs {
            *self.seen.entry("install").or_default() += 1;
            self.cluster.sync_all(id);
        } else {
            let count = 1 + self.random.below(3) as usize;
            self.cluster.sync(id, count);
        }
    }

    fn propose(&mut self, id: u64) {
        self.next_key += 1;
        let key = format!("k{}", self.next_key);
        let floor = self.floor();
        let token = self.cluster.propose(id, &key);
        self.open.insert(token, Open { node: id, floor, key, leased: false });
    }

    fn read(&mut self, id: u64) {
        let levels = [Level::Linearizable, Level::Linearizable, Level::Bounded(200), Level::Local];
        let level = self.random.pick(&levels);
        self.read_at(id, level);
    }

    fn read_at(&mut self, id: u64, level: Level) {
        let (floor, before) = (self.floor(), self.cluster.outputs.len());
        let token = self.cluster.read(id, level);
        let leased = level == Level::Linearizable
            && self.cluster.outputs[before..]
                .iter()
                .any(|(_, output)| matches!(output, Output::Fetch { tokens } if tokens.contains(&token)));
        self.open.insert(token, Open { node: id, floor, key: String::new(), leased });
    }

    /// Gives rows of a node that were read, and reads the rows of its next reads.
    fn fetch(&mut self, id: u64) {
        while self.random.below(3) > 0
            && let Some(place) = self.rows.iter().position(|(node, ..)| *node == id)
        {
            let (_, token, count) = self.rows.remove(place);
            self.given.insert(token, count);
            self.cluster.fetched(id, token);
        }
        let count = self.cluster.node(id).table.keys.len();
        let fetches = self.cluster.nodes.get_mut(&id).unwrap().fetches.drain(..);
        self.rows.extend(fetches.map(|token| (id, token, count)));
    }

    fn transfer(&mut self, id: u64) {
        let other = self.another(id);
        self.if_running(id, |run| run.cluster.transfer(id, other));
    }

    fn forget(&mut self) {
        let tokens: Vec<Token> = self.open.keys().copied().collect();
        if !tokens.is_empty() {
            let token = self.random.pick(&tokens);
            let Open { node, .. } = self.open.remove(&token).unwrap();
            self.cluster.forget(node, token);
        }
    }

    fn lose_requests(&mut self, id: u64) {
        self.open.retain(|_, open| open.node != id);
        self.rows.retain(|(node, ..)| *node != id);
    }

    fn floor(&self) -> usize {
        self.floors.last().unwrap().1
    }

    fn raise_floor(&mut self, count: usize) {
        if count > self.floor() {
            self.floors.push((self.cluster.now, count));
        }
    }

    fn check(&mut self) {
        for (_, output) in std::mem::take(&mut self.cluster.outputs) {
            match output {
                Output::Apply { at, entry, tokens, .. } => {
                    self.check_apply(at.index.0, at.term.0, keys(&entry), tokens)
                }
                Output::Answer { token, reached, staleness_micros, .. } => {
                    self.check_answer(token, reached, staleness_micros)
                }
                Output::Refuse { token, error } => self.check_refusal(token, &error),
                Output::Append { .. } | Output::Send { .. } | Output::Fetch { .. } => (),
                Output::Lacking { .. } | Output::Whole | Output::PeerLacks { .. } => (),
                Output::MakeSnapshot { .. } | Output::SendSnapshot { .. } | Output::DiscardSnapshot => (),
                Output::Ask(_) => panic!("raft asks the directory for nothing"),
                Output::Look { .. } | Output::Reply { .. } => panic!("raft orders what it is asked"),
                Output::Publish { .. } => panic!("raft sends to each"),
                Output::Sealed { .. } => panic!("raft is not sealed"),
            }
        }
        for id in self.ids() {
            let Some(replica) = self.cluster.replica(id) else { continue };
            let status = replica.status();
            if status.role == Role::Leader {
                assert_eq!(
                    *self.leaders.entry(status.term).or_insert(id),
                    id,
                    "term {} has two leaders",
                    status.term
                );
            }
            let count = self.cluster.node(id).table.keys.len();
            assert!(self.order.len() >= count, "a table holds what was not committed");
        }
    }

    fn check_apply(&mut self, index: u64, term: u64, keys: Vec<String>, tokens: Vec<Token>) {
        if let Some(before) = self.committed.get(&index) {
            assert_eq!(*before, (term, keys.clone()), "entry {index} differs");
        } else {
            for key in &keys {
                assert!(!self.failed.contains(key), "{key} failed, and happens");
                assert!(!self.order.contains(key), "{key} happens twice");
            }
            assert_eq!(index, self.committed.len() as u64 + 1, "entries are committed in order");
            self.order.extend(keys.iter().cloned());
            self.committed.insert(index, (term, keys.clone()));
        }
        assert!(tokens.is_empty() || tokens.len() == keys.len(), "a token for each op");
        for (token, key) in tokens.into_iter().zip(keys) {
            let place = self.order.iter().position(|other| *other == key).unwrap();
            if let Some(open) = self.open.remove(&token) {
                assert_eq!(open.key, key, "the token of another op");
                assert!(place >= open.floor, "{key} came before what was seen when it was asked");
                *self.seen.entry("acknowledged").or_default() += 1;
                self.raise_floor(place + 1);
            }
        }
    }

    fn check_answer(&mut self, token: Token, reached: Level, staleness_micros: u64) {
        let count = self.given.remove(&token).expect("only what was fetched is answered");
        let Some(open) = self.open.remove(&token) else { return };
        if reached == Level::Linearizable {
            assert!(count >= open.floor, "a read missed {} acknowledged writes", open.floor - count);
            assert_eq!(staleness_micros, 0);
            *self.seen.entry(if open.leased { "leased read" } else { "round read" }).or_default() += 1;
            self.raise_floor(count);
        } else if staleness_micros != u64::MAX {
            // Its clock may go slow: what it calls so long ago may be a little longer ago.
            let since = self.cluster.now.saturating_sub(staleness_micros + staleness_micros / 20 + 1);
            let floor =
                self.floors.iter().rev().find(|(time, _)| *time < since).map_or(0, |(_, floor)| *floor);
            assert!(count >= floor, "a read is staler than it says");
            *self
                .seen
                .entry(if reached == Level::Local { "local read" } else { "bounded read" })
                .or_default() += 1;
        }
    }

    fn check_refusal(&mut self, token: Token, error: &Error) {
        let Some(open) = self.open.remove(&token) else { return };
        if error.outcome() == Outcome::Failed {
            assert!(
                !self.order.contains(&open.key),
                "{} is refused as failed, and happened: {error}",
                open.key
            );
            self.failed.insert(open.key);
            if matches!(error, Error::Unavailable(_)) {
                *self.seen.entry("failed").or_default() += 1;
            }
        } else {
            *self.seen.entry("in doubt").or_default() += 1;
        }
    }

    /// A moment without faults.
    fn calm(&mut self) {
        self.cluster.now += 10_000;
        for id in self.ids() {
            self.cluster.tick(id);
            self.cluster.sync_all(id);
            self.cluster.apply_all(id);
        }
        for packet in std::mem::take(&mut self.cluster.net) {
            self.cluster.deliver(packet);
        }
        self.check();
    }

    /// The leader of the highest term.
    fn leader(&self) -> Option<u64> {
        let status = |id: u64| self.cluster.replica(id).map(|replica| (replica.status(), id));
        let leads =
            self.ids().into_iter().filter_map(status).filter(|(status, _)| status.role == Role::Leader);
        leads.max_by_key(|(status, _)| status.term).map(|(_, id)| id)
    }

    /// All faults end: the replicas come to one state, and serve.
    fn converge(&mut self) {
        self.cuts.0.clear();
        self.stopped.clear();
        let mut last = None;
        for round in 0..4000 {
            self.calm();
            let leader = self.leader();
            if let (200.., None, Some(leader)) = (round, &last, leader) {
                self.propose(leader);
                last = Some(format!("k{}", self.next_key));
            }
            let is_there =
                |key: &String| self.ids().iter().all(|&id| self.cluster.node(id).table.keys.contains(key));
            if last.as_ref().is_some_and(is_there) {
                break;
            }
            if round % 500 == 499 {
                last = None;
            }
        }
        for id in self.ids() {
            assert_eq!(
                self.cluster.node(id).table.keys,
                self.order,
                "node {id} did not come to the common state"
            );
        }
        assert!(last.is_some(), "the group did not come back");
    }
}
