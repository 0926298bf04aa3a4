//! Two attacks that chance finds too seldom: on the leases, and with garbled messages.

use std::collections::BTreeMap;

use kv::{Level, NodeId, Scope};
use replication::Input;

use super::cluster::Packet;
use super::{Open, Run, SEEDS};

/// The worst for leases: followers that restart, a leader that is cut off, or stopped in the middle of a turn.
#[test]
fn raft_attacked_lease_gives_no_stale_read() {
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..SEEDS / 2 {
        let attack = std::panic::catch_unwind(|| Run::new(seed).attack_lease());
        let counts = attack.unwrap_or_else(|_| panic!("seed {seed} fails"));
        counts.into_iter().for_each(|(what, count)| *seen.entry(what).or_default() += count);
    }
    println!("{seen:#?}");
    assert!(seen["leased read"] > 0 && seen["acknowledged"] > SEEDS / 4, "the attack attacks nothing");
}

/// Bytes of real messages, changed here and there: what they do to the data is nobody's promise, but no replica panics.
#[test]
fn raft_garbled_messages_never_panic() {
    for seed in 0..SEEDS / 4 {
        let run = std::panic::catch_unwind(|| {
            let mut run = Run::new(seed);
            (0..400).for_each(|_| run.garble());
        });
        assert!(run.is_ok(), "seed {seed} panics");
    }
}

impl Run {
    fn garble(&mut self) {
        self.cluster.now += 10_000;
        for id in self.ids() {
            self.cluster.tick(id);
            self.cluster.propose(id, "key");
            if self.random.below(2) == 0 {
                self.cluster.sync_all(id);
            }
            self.cluster.apply_all(id);
        }
        for (from, to, mut packet) in std::mem::take(&mut self.cluster.net) {
            if let Packet::Message(body) = &mut packet
                && self.random.below(4) == 0
            {
                let mut bytes = body.to_vec();
                // The sender and the target are in the third and fourth byte: others are not believed anyway.
                let place = [0, 1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13][self.random.below(12) as usize];
                let place = place.min(bytes.len() - 1);
                bytes[place] = self.random.pick(&[0, 1, 2, 3, 5, 7, 8, 11, 12, 0x7f, 0x80, 0xff]);
                *body = bytes.into();
            }
            self.cluster.deliver((from, to, packet));
        }
        self.cluster.outputs.clear();
    }

    fn attack_lease(mut self) -> BTreeMap<&'static str, u64> {
        (0..200).for_each(|_| self.calm());
        let leader = self.leader().expect("a calm group has a leader");
        let others: Vec<u64> = self.ids().into_iter().filter(|&id| id != leader).collect();
        let (forgets, campaigns) =
            if self.random.below(2) == 0 { (others[0], others[1]) } else { (others[1], others[0]) };
        // One follower hears no more of the leader, the other one confirms the lease and forgets it.
        self.cuts.cut(leader, campaigns);
        (0..self.random.below(60)).for_each(|_| self.moment(&[leader, forgets, campaigns], leader));
        if self.random.below(4) > 0 {
            self.cluster.crash(forgets);
            self.cluster.start(forgets);
        }
        if self.random.below(3) == 0 {
            self.cluster.net.clear();
            self.cluster.step(leader, Input::Yield { to: NodeId(campaigns) });
            let asked = std::mem::take(&mut self.cluster.net);
            asked
                .into_iter()
                .filter(|packet| packet.1 == campaigns)
                .for_each(|packet| self.cluster.deliver(packet));
        }
        self.cuts.cut(leader, forgets);
        // The leader goes on, or is stopped in the middle of a turn.
        let stops = self.random.below(2) == 0;
        for _ in 0..300 {
            let running = if stops { &others[..] } else { &[leader, others[0], others[1]] };
            self.moment(running, leader);
            if let Some(new) = self.leader().filter(|&new| new != leader)
                && self.seen.get("acknowledged").copied().unwrap_or_default() < 3
            {
                self.propose(new);
            }
        }
        if stops {
            let (token, floor) = (self.cluster.token(), self.floor());
            self.open.insert(token, Open { node: leader, floor, key: String::new(), leased: true });
            self.cluster
                .input(leader, Input::Read { token, scope: Scope::Shard, level: Level::Linearizable });
            self.fetch(leader);
            self.fetch(leader);
        }
        self.check();
        self.seen
    }

    /// 5 ms in which some nodes run, messages arrive, and a leader is read from.
    fn moment(&mut self, running: &[u64], leader: u64) {
        self.cluster.now += 5000;
        if running.contains(&leader) {
            self.read_at(leader, Level::Linearizable);
        }
        for &id in running {
            self.cluster.tick(id);
            self.cluster.sync_all(id);
            self.cluster.apply_all(id);
            self.fetch(id);
        }
        for (from, to, packet) in std::mem::take(&mut self.cluster.net) {
            if self.cuts.is_cut(from, to) || !running.contains(&to) {
                self.cluster.lose((from, to, packet));
            } else {
                self.cluster.deliver((from, to, packet));
            }
        }
        self.check();
    }
}
