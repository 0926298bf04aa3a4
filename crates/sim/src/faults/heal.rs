//! The end of faults: of each after a while, and of all before the cluster has to come to rest.

use kv::NodeId;
use wal::Crash;

use super::Heal;
use crate::events::Event;
use crate::world::World;

impl World {
    /// A fault ends.
    pub fn heal(&mut self, heal: Heal) {
        match heal {
            Heal::Ways(ways) => {
                self.trace(|| format!("healed: {}", crate::trace::ways(&ways)));
                self.uncut(&ways);
            }
            Heal::Resume(node) => self.resume(node),
            Heal::Messages => self.network.weak = None,
            Heal::Bulk => self.network.streams.breaks_permille = 0,
            Heal::Disk(node) => {
                let machine = self.machine_mut(node);
                machine.slowness = 1;
                machine.disk.limit_bytes(None);
                machine.table.set_full(false);
                machine.folder.set_full(false);
            }
            Heal::Show(node) => {
                if self.machine(node).flipped.is_some() {
                    self.kill_and_restart(node, Crash::Process, "a bit flipped");
                }
            }
        }
    }

    fn resume(&mut self, node: NodeId) {
        if self.machine(node).process.is_none() || self.machine(node).paused_until > self.events.now() {
            return;
        }
        self.trace(|| format!("{node} goes on"));
        self.machine_mut(node).paused_until = 0;
        self.turn_log(node);
        let cores = self.machine(node).process.as_ref().map_or(0, |process| process.cores.cores.len());
        for core in 0..cores {
            self.run_engine(node, core);
            if let Some(process) = &mut self.machine_mut(node).process {
                process.cores.cores[core].turn_due = false;
            }
            self.wake(node, core);
        }
    }

    /// All faults end: the cluster has to come to rest from here.
    pub fn end_faults(&mut self) {
        self.trace(|| "all faults end".into());
        self.calm = true;
        self.network.weak = None;
        self.network.streams.breaks_permille = 0;
        let ways = Vec::from_iter(self.network.cuts.iter().copied());
        self.uncut(&ways);
        let now = self.events.now();
        for node in Vec::from_iter(self.ids()) {
            self.heal(Heal::Disk(node));
            let machine = self.machine_mut(node);
            machine.power_goes = false;
            machine.paused_until = machine.paused_until.min(now);
            machine.clock.set_right(now);
            self.heal(Heal::Resume(node));
            self.heal(Heal::Show(node));
            let founder = (1..=self.founders).map(NodeId).any(|id| id != node && self.machine(id).there);
            if self.machine(node).own.is_some() && !founder {
                // It waits for those that founded the cluster, and they have left.
                self.kill(node, Crash::Process, "nobody is there that it knows");
                self.give_back(node);
            }
            if self.machine(node).process.is_none() {
                self.events.after(10_000, Event::Start { node });
            }
        }
    }
}
