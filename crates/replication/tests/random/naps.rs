//! Groups that sleep, and what wakes them: requests, crashes, nodes that fall silent or are cut off. The worst for a sleeping
//! leader is that others have elected one without its notice: what it answers then must be proven.

use std::collections::BTreeMap;

use kv::Level;
use replication::{Instant, Replicate};

use super::{Run, SEEDS};

#[test]
fn raft_group_that_sleeps_breaks_no_promise() {
    let number = |name| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    let seeds = number("SEED").map_or(0..number("SEEDS").unwrap_or(SEEDS / 2), |seed| seed..seed + 1);
    let alone = seeds.end - seeds.start == 1;
    let mut sometimes: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in seeds {
        let seen = std::panic::catch_unwind(|| Run::new(seed).nap());
        let seen = seen.unwrap_or_else(|_| panic!("seed {seed} fails: run it alone with SEED={seed}"));
        seen.into_iter().for_each(|(what, count)| *sometimes.entry(what).or_default() += count);
    }
    println!("{sometimes:#?}");
    for what in ["all asleep", "replaced in its sleep", "acknowledged", "round read"] {
        assert!(alone || sometimes.contains_key(what), "the test never saw: {what}");
    }
}

impl Run {
    fn nap(mut self) -> BTreeMap<&'static str, u64> {
        for _ in 0..6 {
            self.cuts.0.clear();
            self.connect_all();
            (0..400).for_each(|_| self.rest());
            let asleep = self.ids().into_iter().all(|id| self.sleeps(id));
            *self.seen.entry("all asleep").or_default() += u64::from(asleep);
            let Some(leader) = self.leader() else { continue };
            let others: Vec<u64> = self.ids().into_iter().filter(|&id| id != leader).collect();
            match self.random.below(5) {
                0 => self.propose(leader),
                1 => self.read_at(others[0], Level::Linearizable),
                2 => {
                    let id = self.any_node();
                    self.cluster.crash(id);
                    self.lose_requests(id);
                    self.cluster.start(id);
                    self.ids()
                        .into_iter()
                        .filter(|other| *other != id)
                        .for_each(|other| self.break_off(other, id));
                }
                _ => self.replace(leader, &others),
            }
            (0..self.random.below(40)).for_each(|_| self.rest());
        }
        self.converge();
        self.seen.retain(|_, count| *count > 0);
        self.seen
    }

    /// The leader is cut off and the others notice; it does not, and is asked when there may be another.
    fn replace(&mut self, leader: u64, others: &[u64]) {
        others.iter().for_each(|&other| self.cuts.cut(leader, other));
        for &other in others {
            match self.random.below(3) {
                0 => self.break_off(other, leader),
                _ => self.cluster.silent(other, leader),
            }
        }
        for _ in 0..100 + self.random.below(300) {
            self.rest();
            if let Some(new) = self.leader().filter(|new| *new != leader)
                && self.random.below(20) == 0
            {
                self.propose(new);
            }
        }
        let is_replaced = self.leader() != Some(leader) && self.sleeps(leader);
        *self.seen.entry("replaced in its sleep").or_default() += u64::from(is_replaced);
        self.read_at(leader, Level::Linearizable);
        (0..self.random.below(200)).for_each(|_| self.rest());
    }

    fn break_off(&mut self, id: u64, from: u64) {
        self.cluster.disconnect(id, from);
    }

    fn connect_all(&mut self) {
        let ids = self.ids();
        let pairs = ids.iter().flat_map(|&a| ids.iter().map(move |&b| (a, b)));
        pairs.filter(|(a, b)| a < b).for_each(|(a, b)| self.cluster.connect(a, b));
    }

    fn sleeps(&self, id: u64) -> bool {
        self.cluster.replica(id).is_some_and(|replica| replica.due() == Instant::MAX)
    }

    /// 10 ms in which whoever wants to know the time looks at the clock, and what is not cut off arrives.
    fn rest(&mut self) {
        self.cluster.now += 10_000;
        for id in self.ids() {
            if self.cluster.replica(id).is_some_and(|replica| replica.due() <= self.cluster.local_now(id)) {
                self.cluster.tick(id);
            }
            self.cluster.sync_all(id);
            self.cluster.apply_all(id);
            self.fetch(id);
            self.fetch(id);
        }
        for packet in std::mem::take(&mut self.cluster.net) {
            match self.cuts.is_cut(packet.0, packet.1) {
                true => self.cluster.lose(packet),
                false => self.cluster.deliver(packet),
            }
        }
        self.check();
    }
}
