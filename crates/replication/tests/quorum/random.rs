//! Members on a weak network, which crash when they like, under a seed; and what must hold all the while.
//!
//! - *A register*: versions are the order. A read shows a write of its key that is no older than the last one that was acknowledged, or shown, before
//!   the read was asked; a write gets a version above those.
//! - *Durable*: a write that is acknowledged is applied at members that weigh W, so it is in their synced logs.
//! - *Definite*: what was refused with outcome failed is nowhere.
//! - *One name, one row*: what a key holds at a version is the same everywhere (the table asserts it), and was asked for by somebody.
//! - *It ends*: when all are well again all members hold the same, no tombstone is left, and everybody rests.

use std::collections::{BTreeMap, BTreeSet};

use kv::keyspace::Votes;
use kv::merged::Row;
use kv::{Answer, Entry, Key, Level, NodeId, Op, Outcome, RequestId, Version};
use replication::{Gathered, Input, Output, Replicate, Token};

use super::cluster::Cluster;

/// So many runs.
const SEEDS: u64 = 300;
const KEYS: [&str; 3] = ["a", "b", "c"];
/// Weights, R and W.
const SHARDS: [(&[u32], u32, u32); 6] = [
    (&[1, 1, 1], 2, 2),
    (&[1, 2, 1], 2, 3),
    (&[1, 1, 1], 1, 3),
    (&[1, 1], 1, 2),
    (&[1, 1, 1, 1, 1], 3, 3),
    (&[2, 1, 1, 1], 2, 4),
];

/// SplitMix64.
pub struct Random(u64);

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

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// An open request: its node, its key, and what it must not be older than.
struct Open {
    id: u64,
    key: Key,
    at_least: Version,
    request: Option<RequestId>,
}

#[derive(Default)]
pub struct Seen {
    pub acknowledged: usize,
    failed: usize,
    in_doubt: usize,
    retried: usize,
    pub reads: usize,
    write_backs: u64,
    skipped: u64,
    hints: u64,
    repaired: u64,
    collected: u64,
}

pub struct Run {
    pub seed: u64,
    pub votes: Votes,
    pub random: Random,
    pub cluster: Cluster,
    open: BTreeMap<Token, Open>,
    /// The last write of each key that was acknowledged or shown.
    pub known: BTreeMap<Key, Version>,
    /// The rows that were made, once they were applied anywhere.
    pub made: BTreeMap<(Key, Version), Row>,
    /// Where each was applied.
    applied: BTreeSet<(u64, Key, Version)>,
    /// Values of puts that have failed.
    failed: BTreeSet<Token>,
    /// What was answered to a request with an id.
    answered: BTreeMap<(u64, u64), Version>,
    /// Requests that were in doubt, by client and number.
    doubted: BTreeSet<(u64, u64)>,
    /// Requests to send again: to whom, with what.
    again: Vec<(u64, RequestId, Op)>,
    sequence: u64,
    /// The members that have said that they are sealed.
    pub sealed: BTreeSet<u64>,
    pub seen: Seen,
}

impl Run {
    pub fn new(seed: u64) -> Run {
        let mut random = Random(seed);
        let (weights, read, write) = random.pick(&SHARDS);
        let votes = Votes { read, write };
        votes.check(weights).unwrap();
        let mut cluster = Cluster::new(weights, votes);
        for id in cluster.ids() {
            cluster.ahead.insert(id, random.below(3_000_000) as i64 - 1_500_000);
            cluster.start(id);
        }
        cluster.now += 2_000_000;
        cluster.connect_all();
        let (open, known, made, applied, failed, answered, again) = Default::default();
        let (sequence, doubted, sealed, seen) = Default::default();
        Run {
            seed,
            votes,
            random,
            cluster,
            open,
            known,
            made,
            applied,
            failed,
            answered,
            again,
            doubted,
            sequence,
            sealed,
            seen,
        }
    }

    fn node(&mut self) -> u64 {
        let ids = self.cluster.ids();
        self.random.pick(&ids)
    }

    pub fn act(&mut self) {
        let id = self.node();
        let is_up = self.cluster.member(id).is_some();
        match self.random.below(100) {
            0..8 if is_up => self.write(id),
            8..18 if is_up => self.read(id),
            18..50 if !self.cluster.net.is_empty() => self.deliver(),
            50..65 => self.cluster.sync(id, 1),
            65..88 => self.job(id),
            88..90 => {
                self.cluster.now += self.random.below(400_000);
                self.cluster.ids().into_iter().for_each(|id| self.cluster.tick(id));
            }
            90 if is_up => self.cluster.flush(id),
            91 if is_up && self.random.chance(30) => self.crash(id),
            92..95 if !is_up => self.start(id),
            95 if self.random.chance(20) => {
                let other = self.node();
                if other != id {
                    self.cluster.disconnect(id, other);
                }
            }
            96..98 => {
                let other = self.node();
                if other != id {
                    self.cluster.connect(id, other);
                }
            }
            98 if self.random.chance(10) => {
                let other = self.node();
                self.cluster.step(id, Input::Silent { node: NodeId(other) });
            }
            99 => self.retry(),
            _ => {}
        }
        self.check();
    }

    fn deliver(&mut self) {
        let place = match self.random.chance(80) {
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

    /// Does the next job of a table, and notes what it applies.
    fn job(&mut self, id: u64) {
        if let Some(Output::Apply { entry, .. }) = self.cluster.node(id).jobs.front() {
            let entry = Entry::decode(entry).unwrap();
            let rows = entry.ops.into_iter().filter_map(|stamped| match stamped.op {
                Op::Merge { rows } => Some(rows),
                _ => None,
            });
            rows.flatten().for_each(|row| self.note(id, row));
        }
        self.cluster.job(id);
    }

    fn note(&mut self, id: u64, row: Row) {
        let seed = self.seed;
        if let Some(value) = &row.value {
            let token: Token = std::str::from_utf8(value).unwrap().parse().unwrap();
            assert!(!self.failed.contains(&token), "seed {seed}: n{id} has write {token}, which has failed");
        }
        let before = self.made.entry((row.key.clone(), row.version)).or_insert(row.clone());
        assert_eq!(*before, row, "seed {seed}: two rows have one name");
        self.applied.insert((id, row.key, row.version));
    }

    fn crash(&mut self, id: u64) {
        self.cluster.crash(id);
        // Whoever waited there waits no more.
        self.open.retain(|_, open| open.id != id);
        self.again.retain(|(node, ..)| *node != id);
    }

    fn start(&mut self, id: u64) {
        self.cluster.start(id);
        for other in self.cluster.ids() {
            if other != id && self.random.chance(80) {
                self.cluster.connect(id, other);
            }
        }
    }

    fn write(&mut self, id: u64) {
        let mut ops = Vec::new();
        let mut keys = Vec::new();
        for place in 0..=self.random.below(3) {
            let key = Key::from(self.random.pick(&KEYS));
            // Tokens rise by one.
            let token = self.cluster.ops.last_key_value().map_or(1, |(last, _)| last + 1) + place;
            let op = match self.random.chance(70) {
                true => {
                    let value = token.to_string().into();
                    Op::Put { key: key.clone(), value, deadline: None, previous: false }
                }
                false => Op::Delete { key: key.clone(), previous: false },
            };
            self.sequence += 1;
            let (valid_until, answered_below) = (Version::MAX, 1);
            let request = RequestId { client: id, sequence: self.sequence, valid_until, answered_below };
            let request = self.random.chance(50).then_some(request);
            ops.push((request, op));
            keys.push((key, request));
        }
        for (token, (key, request)) in self.cluster.write(id, ops).into_iter().zip(keys) {
            let at_least = self.known.get(&key).copied().unwrap_or_default();
            self.open.insert(token, Open { id, key, at_least, request });
        }
    }

    /// Sends a request again that was in doubt.
    fn retry(&mut self) {
        let Some((id, request, op)) = self.again.pop() else { return };
        let mut key = Key::new();
        op.for_each_key(&mut |named| key = named.clone());
        let token = self.cluster.write(id, vec![(Some(request), op)])[0];
        self.open.insert(token, Open { id, key, at_least: Version::ZERO, request: Some(request) });
        self.seen.retried += 1;
    }

    fn read(&mut self, id: u64) {
        let key = Key::from(self.random.pick(&KEYS));
        let at_least = self.known.get(&key).copied().unwrap_or_default();
        let token = self.cluster.read(id, Op::Get { key: key.clone(), at: None }, Level::Linearizable);
        self.open.insert(token, Open { id, key, at_least, request: None });
    }

    fn check(&mut self) {
        for (id, output) in std::mem::take(&mut self.cluster.outputs) {
            match output {
                Output::Refuse { token, error } => self.refused(id, token, error.outcome()),
                Output::Reply { token, outcome, version, .. } => {
                    let Some(open) = self.open.remove(&token) else { continue };
                    match &outcome {
                        Gathered::Written(answer) => self.written(token, &open, version, answer),
                        Gathered::Rows { newest, .. } => self.shown(token, &open, newest.get(&open.key)),
                    }
                }
                Output::Sealed { .. } => drop(self.sealed.insert(id)),
                _ => {}
            }
        }
    }

    fn refused(&mut self, id: u64, token: Token, outcome: Outcome) {
        let Some(open) = self.open.remove(&token) else { return };
        let op = self.cluster.ops[&token].clone();
        match outcome {
            Outcome::InDoubt => {
                self.seen.in_doubt += 1;
                self.doubted.extend(open.request.map(|request| (request.client, request.sequence)));
                self.again.extend(open.request.map(|request| (id, request, op)));
            }
            // What is turned away now was taken before.
            Outcome::Failed
                if open.request.is_some_and(|of| self.doubted.contains(&(of.client, of.sequence))) => {}
            Outcome::Failed => {
                self.seen.failed += 1;
                if let Op::Put { value, .. } = &op {
                    let token: Token = std::str::from_utf8(value).unwrap().parse().unwrap();
                    let is_value = |row: &Row| row.value.as_ref() == Some(value);
                    assert!(
                        !self.made.values().any(is_value),
                        "seed {}: write {token} has failed, and is there",
                        self.seed
                    );
                    self.failed.insert(token);
                }
            }
        }
    }

    fn written(&mut self, token: Token, open: &Open, version: Version, answer: &Answer) {
        let seed = self.seed;
        self.seen.acknowledged += 1;
        assert!(
            version > open.at_least,
            "seed {seed}: write {token} is at {version}, behind {}",
            open.at_least
        );
        if let Some(request) = &open.request {
            let before = self.answered.insert((request.client, request.sequence), version);
            assert!(
                before.is_none_or(|before| before == version),
                "seed {seed}: request {request:?} was run twice"
            );
        }
        if matches!(answer, Answer::Deleted { count: 0, .. }) {
            return;
        }
        let holders = self.applied.iter().filter(|(_, key, of)| (key, *of) == (&open.key, version));
        let weight: u32 = holders.map(|(id, ..)| self.cluster.weight(*id)).sum();
        assert!(
            weight >= self.votes.write,
            "seed {seed}: write {token} is acknowledged, and weighs {weight}"
        );
        self.know(&open.key, version);
    }

    fn know(&mut self, key: &Key, version: Version) {
        let known = self.known.entry(key.clone()).or_default();
        *known = version.max(*known);
    }

    fn shown(&mut self, token: Token, open: &Open, row: Option<&Row>) {
        let seed = self.seed;
        self.seen.reads += 1;
        let (key, at_least) = (&open.key, open.at_least);
        if let Some(row) = row {
            let (version, is_made) = (row.version, self.made.contains_key(&(key.clone(), row.version)));
            assert!(is_made, "seed {seed}: read {token} shows {row}, which nobody has");
            assert!(version >= at_least, "seed {seed}: read {token} shows {row}, and {at_least} was known");
            return self.know(key, version);
        }
        // A tombstone was collected, the one that was known or a later one.
        let is_gone =
            |version: Version| self.made.get(&(key.clone(), version)).is_some_and(|row| row.value.is_none());
        let later = self.made.range((key.clone(), at_least)..=(key.clone(), Version::MAX));
        let gone = later.map(|((_, version), _)| *version).find(|version| is_gone(*version));
        assert!(
            at_least == Version::ZERO || gone.is_some(),
            "seed {seed}: read {token} finds nothing of {key:?}, and {at_least} was known"
        );
        if at_least > Version::ZERO {
            gone.into_iter().for_each(|version| self.know(key, version));
        }
    }

    /// All is well again: all members come to hold the same.
    fn end(&mut self) {
        for id in self.cluster.ids() {
            if self.cluster.member(id).is_none() {
                self.cluster.start(id);
            }
        }
        self.cluster.connect_all();
        (0..60).for_each(|_| self.settle());
        let first = self.cluster.ids()[0];
        let value =
            |cluster: &Cluster| cluster.ops.last_key_value().map_or(1, |(last, _)| last + 1).to_string();
        let op = Op::Put {
            key: KEYS[0].into(),
            value: value(&self.cluster).into(),
            deadline: None,
            previous: false,
        };
        let token = self.cluster.write(first, vec![(None, op)])[0];
        self.open.insert(
            token,
            Open {
                id: first,
                key: KEYS[0].into(),
                at_least: self.known.get(KEYS[0].as_bytes()).copied().unwrap_or_default(),
                request: None,
            },
        );
        (0..20).for_each(|_| self.settle());
        assert!(!self.open.contains_key(&token), "seed {}: the last write does not come about", self.seed);
        let rows = self.cluster.node(first).table.rows.clone();
        for id in self.cluster.ids() {
            let (node, seed) = (self.cluster.node(id), self.seed);
            assert_eq!(node.table.rows, rows, "seed {seed}: n{id} and n{first} differ");
            assert!(
                rows.values().all(|row| row.value.is_some()),
                "seed {seed}: n{id} has tombstones: {rows:?}"
            );
            let member = node.member.as_ref().unwrap();
            assert_eq!(
                member.due(),
                replication::Instant::MAX,
                "seed {seed}: n{id} does not rest: {}",
                member.describe()
            );
            let counts = member.counts();
            self.seen.write_backs += counts.write_backs;
            self.seen.skipped += counts.skipped;
            self.seen.hints += counts.hints_replayed;
            self.seen.repaired += counts.repaired;
            self.seen.collected += counts.collected;
        }
    }

    pub fn settle(&mut self) {
        self.cluster.now += 500_000;
        self.cluster.ids().into_iter().for_each(|id| self.cluster.tick(id));
        for _ in 0..30 {
            std::mem::take(&mut self.cluster.net).into_iter().for_each(|packet| self.cluster.deliver(packet));
            for id in self.cluster.ids() {
                self.cluster.sync(id, usize::MAX);
                while !self.cluster.node(id).jobs.is_empty() {
                    self.job(id);
                }
            }
            self.check();
            let is_idle =
                |id: u64| self.cluster.node(id).appends.is_empty() && self.cluster.node(id).jobs.is_empty();
            if self.cluster.net.is_empty() && self.cluster.ids().into_iter().all(is_idle) {
                return;
            }
        }
    }
}

#[test]
fn members_on_a_weak_network_keep_what_they_promise() {
    let mut sum = Seen::default();
    for seed in 1..=SEEDS {
        let mut run = Run::new(seed);
        (0..2000).for_each(|_| run.act());
        run.end();
        let Seen { acknowledged, failed, in_doubt, retried, reads, .. } = run.seen;
        sum.acknowledged += acknowledged;
        sum.failed += failed;
        sum.in_doubt += in_doubt;
        sum.retried += retried;
        sum.reads += reads;
        sum.write_backs += run.seen.write_backs;
        sum.skipped += run.seen.skipped;
        sum.hints += run.seen.hints;
        sum.repaired += run.seen.repaired;
        sum.collected += run.seen.collected;
    }
    let Seen {
        acknowledged,
        failed,
        in_doubt,
        retried,
        reads,
        write_backs,
        skipped,
        hints,
        repaired,
        collected,
    } = sum;
    let text = format!(
        "{acknowledged} acknowledged, {failed} failed, {in_doubt} in doubt, {retried} sent again, {reads} reads, {write_backs} written back, \
         {skipped} not, {hints} hints, {repaired} repaired, {collected} collected"
    );
    let is_enough = acknowledged > 1000 && failed > 100 && in_doubt > 100 && retried > 20 && reads > 1000;
    assert!(
        is_enough && write_backs > 100 && skipped > 100 && hints > 50 && repaired > 50 && collected > 50,
        "{text}"
    );
    println!("{text}");
}
