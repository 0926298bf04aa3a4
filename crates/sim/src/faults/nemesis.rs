//! The nemesis: draws what goes wrong next, does it, and ends it after a while.
//!
//! It keeps within what the store promises to survive: copies that lack what they had acknowledged (wiped, damaged, restored) are
//! never so many that a majority could forget. Everything else may happen to all nodes at once.

use kv::NodeId;
use wal::Crash;

use super::{Fault, Heal};
use crate::events::Event;
use crate::net::{Weak, shapes};
use crate::world::World;

/// Between two faults, at most.
const PAUSE_MICROS_MAX: u64 = 2_000_000;
/// And between two that strike the same node.
const SOON_MICROS_MAX: u64 = 200_000;
/// A fault lasts at most so long.
const LASTS_MICROS_MAX: u64 = 4_000_000;
/// And now and then so long, which is longer than a stream of a snapshot waits.
const LONG_MICROS_MAX: u64 = 90_000_000;
/// A process that is started again at once is back within this.
const QUICK_MICROS_MAX: u64 = 80_000;
/// A wall clock jumps at most so far.
const JUMP_MICROS_MAX: u64 = 3_600_000_000;
/// Clocks run at most so much too fast or too slow (the leases of raft bear 10 percent between two clocks).
const RATE_PPM_MAX: u64 = 40_000;

/// Where writes have no order, so many more of 100 faults are of messages: what comes late or twice is what such shards must bear.
const UNORDERED_PERCENT: u64 = 15;

/// How weak a network may be: of 1000 messages fewer than so many are lost, or late by up to so long.
pub(super) const WEAKEST: (u64, u64) = (300, 3_000_000);

impl World {
    /// The next fault.
    pub fn next_fault(&mut self) {
        if self.calm {
            return;
        }
        if self.events.now() < self.quiet_until {
            return self.events.at(self.quiet_until, Event::Fault);
        }
        let kinds: Vec<Fault> = self.faults.kinds().collect();
        if kinds.is_empty() {
            return;
        }
        let mut fault = self.random.pick(&kinds);
        if self.is_unordered() && self.faults.has(Fault::Messages) && self.random.percent(UNORDERED_PERCENT) {
            fault = Fault::Messages;
        }
        let node = self.haunted.take().unwrap_or_else(|| self.victim());
        if self.inject(fault, node) {
            *self.stats.faults.entry(fault.name()).or_default() += 1;
        }
        // Troubles come in company: often the next strikes the same node, soon.
        self.haunted = self.random.percent(30).then_some(node);
        let pause = if self.haunted.is_some() { SOON_MICROS_MAX } else { PAUSE_MICROS_MAX };
        let pause = self.random.between(10_000, pause);
        self.events.after(pause, Event::Fault);
    }

    /// A node: often one that leads.
    fn victim(&mut self) -> NodeId {
        let leads =
            |id: &NodeId| self.machine(*id).process.as_ref().is_some_and(|process| process.cores.leads() > 0);
        let leaders: Vec<NodeId> = self.ids().filter(leads).collect();
        if !leaders.is_empty() && self.random.percent(40) {
            self.random.pick(&leaders)
        } else {
            self.any_node()
        }
    }

    /// Does it, if it can be done now.
    fn inject(&mut self, fault: Fault, node: NodeId) -> bool {
        match fault {
            Fault::Crash => self.crash(node, Crash::Process),
            Fault::Power if self.random.percent(50) => self.lose_power_soon(node),
            Fault::Power => self.crash(node, Crash::Power),
            Fault::Stop => self.stop(node),
            Fault::Pause => self.pause(node),
            Fault::Partition => self.part(true),
            Fault::Hold => self.part(false),
            Fault::Messages => {
                let worst = self.random.pick(&[20, 100, 300]);
                let late_micros = self.random.pick(&[1000, 50_000, 1_000_000, 1_000_000]);
                // Where rows merge, what is late may come when the tombstone of its key has gone.
                let late_micros = if self.is_unordered() { 10 * late_micros } else { late_micros };
                self.weaken((worst, late_micros))
            }
            Fault::Bulk => self.break_streams(),
            Fault::Clock => self.disturb_clock(node),
            Fault::Slow => self.slow_disk(node),
            Fault::Full => self.fill_disk(node),
            Fault::Eio => self.fail_disk(node),
            Fault::Flip => self.flip(node),
            Fault::Wipe => self.lose_folder(node),
            Fault::Restore => self.restore_folder(node),
        }
    }

    pub(crate) fn lasts(&mut self) -> u64 {
        let long = self.random.percent(3);
        self.random.between(20_000, if long { LONG_MICROS_MAX } else { LASTS_MICROS_MAX })
    }

    /// How long a process is down: often so short that what the others hold of it still counts, a lease for one.
    pub(super) fn down(&mut self) -> u64 {
        let quick = self.random.percent(40);
        self.random.between(10_000, if quick { QUICK_MICROS_MAX } else { LASTS_MICROS_MAX / 2 })
    }

    fn crash(&mut self, node: NodeId, crash: Crash) -> bool {
        let nodes: Vec<NodeId> = if self.random.percent(15) { self.ids().collect() } else { vec![node] };
        for node in nodes {
            self.kill_and_restart(node, crash, "fault");
        }
        true
    }

    /// Mostly nothing is being written: wait until something is.
    fn lose_power_soon(&mut self, node: NodeId) -> bool {
        let up = self.machine(node).process.is_some();
        self.machine_mut(node).power_goes = up;
        up
    }

    /// Ends a process; it is started again after a while.
    pub fn kill_and_restart(&mut self, node: NodeId, crash: Crash, why: &str) {
        let down = self.down();
        self.kill(node, crash, why);
        self.events.after(if self.calm { 10_000 } else { down }, Event::Start { node });
    }

    fn stop(&mut self, node: NodeId) -> bool {
        let up = self.machine(node).process.is_some();
        self.begin_stop(node);
        up
    }

    fn pause(&mut self, node: NodeId) -> bool {
        if self.machine(node).process.is_none() || self.is_paused(node) {
            return false;
        }
        let until = self.events.now() + self.lasts();
        self.trace(|| format!("{node} is paused until {}", crate::trace::time(until)));
        self.machine_mut(node).paused_until = until;
        self.events.at(until, Event::Heal(Heal::Resume(node)));
        true
    }

    fn part(&mut self, breaks: bool) -> bool {
        let ids: Vec<NodeId> = self.ids().collect();
        if ids.len() < 2 {
            return false;
        }
        let (shape, mut ways) = shapes::draw(&mut self.random, ids);
        ways.retain(|way| !self.network.cuts.contains(way));
        let (lasts, one_by_one) = (self.lasts(), self.random.percent(20));
        self.note(shape.told());
        self.trace(|| format!("parted: {shape}, connections {}", if breaks { "break" } else { "wait" }));
        self.cut(&ways, breaks);
        if one_by_one {
            self.note("a partition healed one direction after the other");
            // Swizzled: the directions heal one after the other, in any order.
            self.random.shuffle(&mut ways);
            for way in ways {
                let lasts = self.lasts();
                self.events.after(lasts, Event::Heal(Heal::Ways(vec![way])));
            }
        } else {
            self.events.after(lasts, Event::Heal(Heal::Ways(ways)));
        }
        true
    }

    /// Of 1000 messages fewer than `worst` are lost, as many doubled, as many late, by up to `late_micros`.
    pub(super) fn weaken(&mut self, (worst, late_micros): (u64, u64)) -> bool {
        let weak = Weak {
            lost: self.random.below(worst),
            doubled: self.random.below(worst),
            late: self.random.below(worst),
            late_micros,
            answers_lost: self.random.below(worst),
        };
        let lasts = 2 * self.lasts();
        self.trace(|| format!("the network is weak: {weak:?}"));
        self.network.weak = Some(weak);
        self.events.after(lasts, Event::Heal(Heal::Messages));
        true
    }

    fn break_streams(&mut self) -> bool {
        let lasts = self.lasts();
        self.network.streams.breaks_permille = self.random.between(20, 300);
        self.events.after(lasts, Event::Heal(Heal::Bulk));
        true
    }

    fn disturb_clock(&mut self, node: NodeId) -> bool {
        let now = self.events.now();
        let jump = self.random.pick(&[1_000_000, 60_000_000, JUMP_MICROS_MAX]);
        let (rate, jump) =
            (self.random.between(0, 2 * RATE_PPM_MAX), self.random.between(0, 2 * jump) as i64 - jump as i64);
        let jumps = self.random.percent(50);
        self.note(if jumps { "a wall clock jumped" } else { "a clock ran at another rate" });
        let clock = &mut self.machine_mut(node).clock;
        if jumps {
            clock.jump(jump);
        } else {
            clock.set_rate(now, rate as i64 - RATE_PPM_MAX as i64);
        }
        self.trace(|| {
            format!("{node}'s clock: {}", if jumps { "its wall clock jumps" } else { "another rate" })
        });
        true
    }

    /// Who leads a shard, or takes requests where nobody leads, as the nodes say.
    pub fn leaders(&self, shard: kv::ShardId) -> Vec<NodeId> {
        let leads = |id: &NodeId| {
            let process = self.machine(*id).process.as_ref();
            let status = process.and_then(|process| process.cores.replica_status(shard));
            status.is_some_and(|status| status.role.takes_requests())
        };
        self.ids().filter(leads).collect()
    }
}
