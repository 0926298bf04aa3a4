//! Replicas on a weak network, which crash when they like, under a seed; and what must hold all the while.
//!
//! - *One decision per index*: what is applied at a place is the same everywhere, for ever.
//! - *On all or on none*: what is applied anywhere is in the synced log of every replica, or in its flushed table.
//! - *Definite*: what was refused with outcome failed is never applied; but for what a master refused that was declared dead later.
//! - *Linearizable*: a read shows the last write of its key that was acknowledged before it was asked, or a later one; and no read
//!   shows an older one than a read that was answered before it was asked.
//! - *It ends*: when all are well again every write that is proposed is acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use kv::{Index, Level, NodeId, Outcome, Position};
use replication::observe::{self, Record};
use replication::{Input, Output, Replicate, Token};

use super::cluster::{Cluster, puts};

/// Of a hundred times that members may be heard of, one is declared dead so often.
const DECLARED_PERCENT: u64 = 5;
const KEYS: [&str; 3] = ["a", "b", "c"];

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// An open read: its key, and the place in the order of all writes of the key that it must not be older than.
struct Read {
    key: &'static str,
    at_least: Index,
}

#[derive(Default)]
struct Seen {
    aborts: usize,
    declared: usize,
    waited: usize,
    acknowledged: usize,
    reads: usize,
}

struct Run {
    seed: u64,
    random: Random,
    cluster: Cluster,
    /// What is at each place, once it was applied anywhere.
    decided: BTreeMap<Index, (Position, Vec<(String, Token)>)>,
    /// Where each write is decided.
    place: BTreeMap<Token, Index>,
    failed: BTreeSet<Token>,
    /// The last write of each key that was acknowledged or read.
    known: BTreeMap<&'static str, Index>,
    reads: BTreeMap<Token, Read>,
    seen: Seen,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut random = Random(seed);
        let mut cluster = Cluster::new(2 + random.below(3));
        cluster.ids().into_iter().for_each(|id| cluster.start(id));
        cluster.connect_all();
        let (decided, place, failed, known, reads, seen) = Default::default();
        Run { seed, random, cluster, decided, place, failed, known, reads, seen }
    }

    fn node(&mut self) -> u64 {
        let ids = self.cluster.ids();
        ids[self.random.below(ids.len() as u64) as usize]
    }

    fn key(&mut self) -> &'static str {
        KEYS[self.random.below(KEYS.len() as u64) as usize]
    }

    fn act(&mut self) {
        let (id, key) = (self.node(), self.key());
        match self.random.below(100) {
            0..15 => {
                self.cluster.propose(self.cluster.master(), key);
            }
            15..30 => self.read(id, key),
            30..60 if !self.cluster.net.is_empty() => {
                let place = match self.random.chance(70) {
                    true => 0,
                    false => self.random.below(self.cluster.net.len() as u64) as usize,
                };
                let packet = self.cluster.net.remove(place);
                match self.random.below(20) {
                    0 => {}
                    1 => self.cluster.net.push(packet),
                    2 => {
                        self.cluster.net.push(packet.clone());
                        self.cluster.deliver(packet);
                    }
                    _ => self.cluster.deliver(packet),
                }
            }
            30..75 => self.cluster.sync(id, 1),
            75..88 => {
                self.cluster.apply(id);
                self.fetch(id);
            }
            88..90 => {
                self.cluster.now += self.random.below(2_000_000);
                self.cluster.ids().into_iter().for_each(|id| self.cluster.tick(id));
            }
            90..92 if self.cluster.replica(id).is_some() => self.cluster.flush(id),
            92 if self.cluster.replica(id).is_some() => {
                self.cluster.crash(id);
                // Whoever waited there waits no more.
                self.reads.clear();
            }
            93..96 if self.cluster.replica(id).is_none() => self.start(id),
            96 => {
                let other = self.node();
                if other != id {
                    self.cluster.disconnect(id, other);
                }
            }
            97 => {
                let other = self.node();
                if other != id {
                    self.cluster.connect(id, other);
                }
            }
            98 if id != self.cluster.master() => {
                self.cluster.step(self.cluster.master(), Input::Silent { node: NodeId(id) });
            }
            99 if self.random.chance(DECLARED_PERCENT) && self.cluster.ids().len() > 1 => self.declare(id),
            99 => self.cluster.tell(id),
            _ => {}
        }
        self.check();
    }

    fn declare(&mut self, dead: u64) {
        let others: Vec<u64> = self.cluster.ids().into_iter().filter(|id| *id != dead).collect();
        let next = others[self.random.below(others.len() as u64) as usize];
        if self.cluster.master() == dead {
            self.failed.clear();
        }
        self.cluster.declare(dead, next);
        // Whoever waited there waits no more.
        self.reads.clear();
        self.seen.declared += 1;
    }

    fn start(&mut self, id: u64) {
        self.cluster.start(id);
        self.cluster
            .ids()
            .into_iter()
            .filter(|other| *other != id)
            .for_each(|other| self.cluster.connect(id, other));
    }

    fn read(&mut self, id: u64, key: &'static str) {
        if self.cluster.replica(id).is_none() {
            return;
        }
        let at_least = self.known.get(key).copied().unwrap_or_default();
        let token = self.cluster.read(id, key, Level::Linearizable);
        self.reads.insert(token, Read { key, at_least });
        if self.cluster.node(id).fetches.back() != Some(&token) {
            self.seen.waited += 1;
        }
    }

    /// The rows of a read are there: what they are is what the table has now.
    fn fetch(&mut self, id: u64) {
        let Some(token) = self.cluster.nodes.get_mut(&id).unwrap().fetches.pop_front() else { return };
        let shown = self.reads.get(&token).map(|read| self.cluster.node(id).table.last(read.key));
        self.cluster.step(id, Input::Fetched { token });
        let is_answer =
            |(_, output): &(u64, Output)| matches!(output, Output::Answer { token: of, .. } if *of == token);
        if !self.cluster.outputs.iter().any(is_answer) {
            return;
        }
        if let (Some(shown), Some(read)) = (shown, self.reads.remove(&token)) {
            let at = if shown == 0 { Index::ZERO } else { self.place[&shown] };
            assert!(
                at >= read.at_least,
                "seed {}: a read at n{id} shows the write at {at}, and the one at {} was known",
                self.seed,
                read.at_least
            );
            let known = self.known.entry(read.key).or_default();
            *known = at.max(*known);
            self.seen.reads += 1;
        }
    }

    fn check(&mut self) {
        for (id, output) in std::mem::take(&mut self.cluster.outputs) {
            match output {
                Output::Apply { at, entry, tokens, .. } => self.check_apply(id, at, puts(&entry), tokens),
                Output::Refuse { token, error } if error.outcome() == Outcome::Failed => {
                    assert!(
                        !self.place.contains_key(&token),
                        "seed {}: write {token} is refused and decided",
                        self.seed
                    );
                    self.failed.insert(token);
                    self.seen.aborts += 1;
                }
                Output::Lacking { .. } | Output::PeerLacks { .. } => {
                    panic!("seed {}: n{id} lost nothing, and says {output:?}", self.seed)
                }
                _ => {}
            }
        }
    }

    fn check_apply(&mut self, id: u64, at: Position, puts: Vec<(String, Token)>, tokens: Vec<Token>) {
        let seed = self.seed;
        let before = self.decided.entry(at.index).or_insert((at, puts.clone()));
        assert_eq!(*before, (at, puts.clone()), "seed {seed}: n{id} applies something else at {at}");
        for (key, token) in puts {
            assert!(
                !self.failed.contains(&token),
                "seed {seed}: n{id} applies write {token}, which has failed"
            );
            self.place.insert(token, at.index);
            if tokens.contains(&token) {
                let key = KEYS.into_iter().find(|other| *other == key).unwrap();
                let known = self.known.entry(key).or_default();
                *known = at.index.max(*known);
                self.seen.acknowledged += 1;
            }
        }
        for other in self.cluster.ids() {
            let node = self.cluster.node(other);
            let is_there = node.flushed.applied.index >= at.index || holds(&node.log[..node.synced], at);
            assert!(is_there, "seed {seed}: n{id} applies {at}, and n{other} has not synced it");
        }
    }

    /// All is well again: what is proposed comes about, everywhere.
    fn end(&mut self) {
        self.reads.clear();
        for id in self.cluster.ids() {
            if self.cluster.replica(id).is_none() {
                self.cluster.start(id);
            }
        }
        self.cluster.connect_all();
        self.cluster.ids().into_iter().for_each(|id| self.cluster.tell(id));
        (0..10).for_each(|_| self.settle());
        let master = self.cluster.master();
        let token = self.cluster.propose(master, "a");
        (0..10).for_each(|_| self.settle());
        assert!(self.place.contains_key(&token), "seed {}: the last write does not come about", self.seed);
        let first = self.cluster.node(master).table.clone();
        for id in self.cluster.ids() {
            assert_eq!(self.cluster.node(id).table, first, "seed {}: n{id} and n{master} differ", self.seed);
            assert_eq!(
                self.cluster.replica(id).unwrap().due(),
                replication::Instant::MAX,
                "seed {}: it rests",
                self.seed
            );
        }
    }

    fn settle(&mut self) {
        self.cluster.now += 500_000;
        self.cluster.ids().into_iter().for_each(|id| self.cluster.tick(id));
        for _ in 0..30 {
            std::mem::take(&mut self.cluster.net).into_iter().for_each(|packet| self.cluster.deliver(packet));
            for id in self.cluster.ids() {
                self.cluster.sync(id, usize::MAX);
                while !self.cluster.node(id).applies.is_empty() {
                    self.cluster.apply(id);
                }
            }
            self.check();
        }
    }
}

/// Whether a log holds an entry, or a checkpoint behind it.
fn holds(log: &[bytes::Bytes], at: Position) -> bool {
    let (mut entries, mut base) = (BTreeMap::new(), Index::ZERO);
    for record in log {
        match observe::record(record) {
            // A checkpoint writes entries again.
            Some((_, _, Record::Entry(entry))) if entries.get(&entry.index) == Some(&entry) => {}
            Some((_, _, Record::Entry(entry))) => {
                entries.split_off(&entry.index);
                entries.insert(entry.index, entry);
            }
            Some((_, _, Record::Base(at))) => base = at.index,
            _ => {}
        }
    }
    base >= at.index || entries.get(&at.index) == Some(&at)
}

#[test]
fn replicas_on_a_weak_network_keep_what_they_promise() {
    let mut sum = Seen::default();
    for seed in 1..=300 {
        let mut run = Run::new(seed);
        (0..1500).for_each(|_| run.act());
        run.end();
        sum.aborts += run.seen.aborts;
        sum.declared += run.seen.declared;
        sum.waited += run.seen.waited;
        sum.acknowledged += run.seen.acknowledged;
        sum.reads += run.seen.reads;
    }
    let Seen { aborts, declared, waited, acknowledged, reads } = sum;
    assert!(
        aborts > 100 && declared > 100 && waited > 100 && acknowledged > 1000 && reads > 1000,
        "{aborts} aborts, {declared} declared dead, {waited} reads that waited, {acknowledged} acknowledged, {reads} reads"
    );
}
