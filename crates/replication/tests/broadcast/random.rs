//! Members on a weak network, which crash when they like, under a seed; and what must hold all the while.
//!
//! - *Nothing goes back*: a member that serves shows of each key what it showed before in this life, or something newer; and it shows what was
//!   acknowledged there.
//! - *Durable*: what is published is in the synced log of its origin, so nothing acknowledged is lost.
//! - *One name, one row*: what a key holds at a version is the same everywhere (the table asserts it), and was asked for by somebody.
//! - *Stable*: up to what is stable at a member nothing comes in any more.
//! - *It ends*: when all are well again all members hold the same, no older than what was acknowledged of any key; no tombstone is left; everybody
//!   rests.

use std::collections::{BTreeMap, BTreeSet};

use kv::merged::Row;
use kv::{Answer, Entry, Key, Level, Op, Outcome, RequestId, Version};
use replication::{Gathered, Output, Replicate, Token};

use super::cluster::Cluster;

/// So many runs.
const SEEDS: u64 = 200;
const KEYS: [&str; 4] = ["a", "b", "c", "d"];

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

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

#[derive(Default, Debug)]
struct Seen {
    acknowledged: u64,
    failed: u64,
    in_doubt: u64,
    reads: u64,
    fetched: u64,
    repaired: u64,
    collected: u64,
}

struct Run {
    seed: u64,
    random: Random,
    cluster: Cluster,
    /// Open requests: the node, and the key.
    open: BTreeMap<Token, (u64, Key)>,
    /// The newest of each key that was acknowledged anywhere, and what was acknowledged or shown at a member.
    acknowledged: BTreeMap<Key, Version>,
    shown: BTreeMap<(u64, Key), Version>,
    /// The rows that were applied anywhere.
    made: BTreeMap<(Key, Version), Row>,
    applied: BTreeSet<(u64, Key, Version)>,
    failed: BTreeSet<Token>,
    /// What was stable at a member, once its table had done all it was to do.
    stable: BTreeMap<u64, Version>,
    sequence: u64,
    seen: Seen,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut random = Random(seed);
        let count = random.pick(&[2, 3, 3, 5]);
        let mut cluster = Cluster::new(count);
        for id in cluster.ids() {
            cluster.ahead.insert(id, random.below(3_000_000) as i64 - 1_500_000);
            cluster.start(id);
        }
        cluster.now += 2_000_000;
        cluster.connect_all();
        let (open, acknowledged, shown, made, applied, failed, stable) = Default::default();
        let (sequence, seen) = Default::default();
        Run {
            seed,
            random,
            cluster,
            open,
            acknowledged,
            shown,
            made,
            applied,
            failed,
            stable,
            sequence,
            seen,
        }
    }

    fn node(&mut self) -> u64 {
        let ids = self.cluster.ids();
        self.random.pick(&ids)
    }

    fn act(&mut self) {
        let id = self.node();
        let is_up = self.cluster.member(id).is_some();
        match self.random.below(100) {
            0..8 if is_up => self.write(id),
            8..16 if is_up => self.read(id),
            16..50 if !self.cluster.net.is_empty() => self.deliver(),
            50..65 => self.cluster.sync(id, 1),
            65..86 => self.job(id),
            86..90 => {
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
        match self.random.below(16) {
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
        let node = self.cluster.node(id);
        if let Some(member) = node.member.as_ref().filter(|_| node.jobs.is_empty()) {
            self.stable.insert(id, member.stable());
        }
    }

    fn note(&mut self, id: u64, row: Row) {
        let seed = self.seed;
        if let Some(value) = &row.value {
            let token: Token = std::str::from_utf8(value).unwrap().parse().unwrap();
            assert!(!self.failed.contains(&token), "seed {seed}: n{id} has write {token}, which has failed");
        }
        let before = self.made.entry((row.key.clone(), row.version)).or_insert(row.clone());
        assert_eq!(*before, row, "seed {seed}: two rows have one name");
        let is_known = self.applied.contains(&(id, row.key.clone(), row.version));
        let stable = self.stable.get(&id).copied().unwrap_or_default();
        assert!(is_known || row.version > stable, "seed {seed}: n{id} has {row} late: {stable} was stable");
        self.applied.insert((id, row.key, row.version));
    }

    fn crash(&mut self, id: u64) {
        self.cluster.crash(id);
        // Whoever waited there waits no more; what it has is applied again.
        self.open.retain(|_, (node, _)| *node != id);
        self.applied.retain(|(node, ..)| *node != id);
        self.stable.remove(&id);
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
            let op = match self.random.below(100) {
                0..65 => {
                    let value = token.to_string().into();
                    Op::Put { key: key.clone(), value, deadline: None, previous: false }
                }
                65..95 => Op::Delete { key: key.clone(), previous: false },
                _ => Op::DeleteRange { from: "b".into(), to: Some("d".into()) },
            };
            self.sequence += 1;
            let (valid_until, answered_below) = (Version::MAX, 1);
            let request = RequestId { client: id, sequence: self.sequence, valid_until, answered_below };
            ops.push((self.random.chance(50).then_some(request), op));
            keys.push(key);
        }
        for (token, key) in self.cluster.write(id, ops).into_iter().zip(keys) {
            self.open.insert(token, (id, key));
        }
    }

    fn read(&mut self, id: u64) {
        let key = Key::from(self.random.pick(&KEYS));
        let token = self.cluster.read(id, key.clone(), Level::Local);
        self.open.insert(token, (id, key));
    }

    fn check(&mut self) {
        for (id, output) in std::mem::take(&mut self.cluster.outputs) {
            match output {
                Output::Refuse { token, error } => self.refused(token, error.outcome()),
                Output::Reply { token, outcome: Gathered::Written(answer), version, .. } => {
                    if let Some((_, key)) = self.open.remove(&token) {
                        self.written(id, token, &key, version, &answer);
                    }
                }
                Output::Answer { token, .. } => {
                    if let Some((_, key)) = self.open.remove(&token) {
                        let row = self.cluster.fetched[&token].clone();
                        self.answered_read(id, key, row);
                    }
                }
                _ => {}
            }
        }
    }

    fn refused(&mut self, token: Token, outcome: Outcome) {
        if self.open.remove(&token).is_none() {
            return;
        }
        if outcome == Outcome::InDoubt {
            self.seen.in_doubt += 1;
            return;
        }
        self.seen.failed += 1;
        if let Op::Put { value, .. } = &self.cluster.ops[&token] {
            let is_value = |row: &Row| row.value.as_ref() == Some(value);
            let is_there = self.made.values().any(is_value);
            assert!(!is_there, "seed {}: write {token} has failed, and is there", self.seed);
            self.failed.insert(token);
        }
    }

    fn written(&mut self, id: u64, token: Token, key: &Key, version: Version, answer: &Answer) {
        let seed = self.seed;
        self.seen.acknowledged += 1;
        let of = match &self.cluster.ops[&token] {
            Op::DeleteRange { .. } => return,
            Op::Delete { .. } if matches!(answer, Answer::Deleted { count: 0, .. }) => return,
            _ => (id, key.clone(), version),
        };
        assert!(self.applied.contains(&of), "seed {seed}: write {token} is acknowledged, and not at n{id}");
        let known = self.acknowledged.entry(key.clone()).or_default();
        *known = version.max(*known);
        let shown = self.shown.entry((id, key.clone())).or_default();
        *shown = version.max(*shown);
    }

    fn answered_read(&mut self, id: u64, key: Key, row: Option<Row>) {
        let seed = self.seed;
        self.seen.reads += 1;
        let at_least = self.shown.get(&(id, key.clone())).copied().unwrap_or_default();
        let Some(row) = row else {
            // A tombstone was collected, the one that was known or a later one.
            let mut later = self.made.range((key.clone(), at_least)..=(key.clone(), Version::MAX));
            let is_gone = at_least == Version::ZERO || later.any(|(_, row)| row.value.is_none());
            assert!(is_gone, "seed {seed}: n{id} shows nothing of {key:?}, and {at_least} was shown");
            return;
        };
        let is_made = self.made.contains_key(&(key.clone(), row.version));
        assert!(is_made, "seed {seed}: n{id} shows {row}, which nobody has");
        let version = row.version;
        assert!(version >= at_least, "seed {seed}: n{id} shows {row}, and {at_least} was shown");
        self.shown.insert((id, key), version);
    }

    /// All is well again: all members come to hold the same.
    fn end(&mut self) {
        for id in self.cluster.ids() {
            if self.cluster.member(id).is_none() {
                self.cluster.start(id);
            }
        }
        self.cluster.connect_all();
        (0..80).for_each(|_| self.settle());
        let first = self.cluster.ids()[0];
        let rows = self.cluster.node(first).table.rows.clone();
        let seed = self.seed;
        for (key, version) in &self.acknowledged {
            let is_later = |(_, row): (&(Key, Version), &Row)| row.value.is_none();
            let mut later = self.made.range((key.clone(), *version)..=(key.clone(), Version::MAX));
            let there = rows.get(key).map(|row| row.version);
            let is_kept = there.map_or_else(|| later.any(is_later), |there| there >= *version);
            assert!(is_kept, "seed {seed}: {key:?} at {version} was acknowledged, and {there:?} is there");
        }
        for id in self.cluster.ids() {
            let node = self.cluster.node(id);
            let member = node.member.as_ref().unwrap();
            assert_eq!(
                node.table.rows,
                rows,
                "seed {seed}: n{id} and n{first} differ: {}",
                member.describe()
            );
            let has_values = rows.values().all(|row| row.value.is_some());
            assert!(has_values, "seed {seed}: n{id} has tombstones: {rows:?}");
            assert_eq!(
                member.due(),
                replication::Instant::MAX,
                "seed {seed}: n{id} does not rest: {}",
                member.describe()
            );
            let counts = member.counts();
            self.seen.fetched += counts.hints_replayed;
            self.seen.repaired += counts.repaired;
            self.seen.collected += counts.collected;
        }
    }

    fn settle(&mut self) {
        self.cluster.now += 500_000;
        self.cluster.ids().into_iter().for_each(|id| self.cluster.tick(id));
        for _ in 0..40 {
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
fn members_on_a_weak_network_end_alike() {
    let mut sum = Seen::default();
    for seed in 1..=SEEDS {
        let mut run = Run::new(seed);
        (0..2000).for_each(|_| run.act());
        run.end();
        let Seen { acknowledged, failed, in_doubt, reads, fetched, repaired, collected } = run.seen;
        sum.acknowledged += acknowledged;
        sum.failed += failed;
        sum.in_doubt += in_doubt;
        sum.reads += reads;
        sum.fetched += fetched;
        sum.repaired += repaired;
        sum.collected += collected;
    }
    let is_enough = sum.acknowledged > 1000 && sum.failed > 100 && sum.reads > 1000;
    assert!(is_enough && sum.fetched > 100 && sum.repaired > 50 && sum.collected > 100, "{sum:?}");
    println!("{sum:?}");
}
