//! The log's side of a node: its owner is given what the server's log thread gives it, and the disk does its work when it comes
//! to it.

use kv::NodeId;
use node::log::{Report, Request};
use wal::{Crash, Operation};

use super::log_thread::LogThread;
use super::{DISK_MICROS_MAX, Machine, Process};
use crate::events::Event;
use crate::world::World;

/// What a disk keeps or loses as a whole.
const SECTOR_BYTES: usize = 512;
/// A turn that the owner of the log wants is not planned sooner: clocks of machines run slower than true time.
const DUE_MICROS_MIN: u64 = 1_000;

impl World {
    pub(super) fn ask_log(&mut self, id: NodeId, request: Request) {
        if let Some(process) = &mut self.machine_mut(id).process {
            process.log.take(request);
        }
    }

    /// The log's thread goes on as far as the disk lets it.
    pub fn turn_log(&mut self, id: NodeId) {
        let now = self.events.now();
        let Machine { disk, clock, process: Some(process), .. } = self.machine_mut(id) else { return };
        let report = match process.log.turn(disk, clock.read(now).instant) {
            Ok(report) => report,
            Err(fatal) => {
                self.note("a log failed with its disk");
                return self.kill_and_restart(id, Crash::Process, &fatal.to_string());
            }
        };
        self.plan_disk(id);
        self.plan_wake_up(id);
        self.watch_report(id, &report);
        if !report.begun || self.log_begins(id) {
            self.give_report(id, &report);
        }
    }

    /// Each core hears what concerns it.
    fn give_report(&mut self, id: NodeId, report: &Report) {
        let cores = self.machine(id).process.as_ref().map_or(0, |process| process.cores.cores.len());
        (0..cores).for_each(|core| self.give_core(id, core, report.inputs(core)));
    }

    /// What the log submitted is done after a while.
    fn plan_disk(&mut self, id: NodeId) {
        let Machine { disk, process: Some(process), slowness, .. } = self.machine_mut(id) else { return };
        let (life, slowness, thread) = (process.life, *slowness, &mut process.log_thread);
        let submitted = disk.pending().iter().map(|(token, io)| (*token, io.operation()));
        let submitted: Vec<_> = submitted.filter(|(token, _)| *token > thread.seen).collect();
        thread.seen = submitted.iter().map(|(token, _)| *token).fold(thread.seen, u64::max);
        for (token, operation) in submitted {
            let latency = match operation {
                Operation::Write => self.settings.write,
                _ => self.settings.sync,
            };
            let delay = (latency.draw(&mut self.random) * slowness).min(DISK_MICROS_MAX);
            self.events.after(delay, Event::Disk { node: id, life, token });
        }
    }

    fn plan_wake_up(&mut self, id: NodeId) {
        let now = self.events.now();
        let Machine { clock, process: Some(process), .. } = self.machine_mut(id) else { return };
        let Some(due) = process.log.due() else { return };
        let micros = due.since(clock.read(now).instant).max(DUE_MICROS_MIN);
        let (life, thread) = (process.life, &mut process.log_thread);
        if thread.wakes_at.is_none_or(|planned| planned > now + micros) {
            thread.wakes_at = Some(now + micros);
            self.events.after(micros, Event::Retry { node: id, life });
        }
    }

    fn watch_report(&mut self, id: NodeId, report: &Report) {
        match report.full {
            Some(true) => {
                self.note("a disk was full");
                self.trace(|| format!("{id} counts its disk as full"));
            }
            Some(false) => {
                self.note("a disk was full and has room again");
                self.trace(|| format!("{id} has room on its disk again"));
            }
            None => {}
        }
        let process = self.machine(id).process.as_ref();
        if let ([_, ..], Some(Process { log_thread: LogThread { sync_failed: true, .. }, .. })) =
            (&report.durable[..], process)
        {
            self.violation(format!(
                "nothing is durable after a failed sync: {id} calls appends durable, the last ones {:?}",
                report.durable
            ));
        }
    }

    pub fn disk_done(&mut self, id: NodeId, token: u64) {
        let machine = self.machine_mut(id);
        let io = machine.disk.pending().iter().find(|(pending, _)| *pending == token);
        let (_, io) = io.expect("the disk completes what was submitted");
        let (operation, can_tear) = (io.operation(), can_tear(io));
        machine.disk.complete(token);
        if let Some(process) = &mut machine.process
            && operation == Operation::Sync
        {
            process.log_thread.sync_failed |= std::mem::take(&mut machine.sync_fails);
        }
        if operation == Operation::Remove {
            self.note("a log's segment was given away");
        }
        if can_tear && std::mem::take(&mut self.machine_mut(id).power_goes) {
            self.note("a node lost its power while it wrote");
            return self.kill_and_restart(id, Crash::Power, "the power went before the sync");
        }
        if !self.is_paused(id) {
            self.turn_log(id);
        }
    }

    /// The log's thread wakes up by itself, unless something else woke it before; one that is paused goes on later.
    pub fn wake_log(&mut self, id: NodeId) {
        let (now, is_paused) = (self.events.now(), self.is_paused(id));
        let Some(process) = &mut self.machine_mut(id).process else { return };
        let is_this_one = process.log_thread.wakes_at.take_if(|at| *at == now).is_some();
        if is_this_one && !is_paused {
            self.turn_log(id);
        }
    }
}

/// Whether a power loss can keep a part of it that matters.
fn can_tear(io: &wal::Io) -> bool {
    match io {
        wal::Io::Write { bytes, .. } => {
            bytes.len() > SECTOR_BYTES && bytes[SECTOR_BYTES..].iter().any(|byte| *byte != 0)
        }
        _ => false,
    }
}
