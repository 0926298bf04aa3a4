//! The loop of a node, as the server's core runs it: what happened, one turn of the driver, what is to be done.

use kv::NodeId;
use node::log::Request;
use node::{Done, Input, Job, Work};
use wal::Crash;

use super::{DISK_MICROS_MAX, Machine, Process, TICK_MICROS};
use crate::events::Event;
use crate::watch::Seen;
use crate::world::World;

impl World {
    /// Puts something into a node's inbox.
    pub fn give(&mut self, id: NodeId, inputs: impl IntoIterator<Item = Input>) {
        let Some(process) = &mut self.machine_mut(id).process else { return };
        process.inbox.extend(inputs);
        if !process.inbox.is_empty() {
            self.wake(id);
        }
    }

    /// Plans a turn, unless one is planned.
    pub fn wake(&mut self, id: NodeId) {
        let delay = self.settings.wake.draw(&mut self.random);
        let Some(process) = &mut self.machine_mut(id).process else { return };
        if !std::mem::replace(&mut process.turn_due, true) {
            let life = process.life;
            self.events.after(delay, Event::Turn { node: id, life });
        }
    }

    pub fn tick(&mut self, id: NodeId, life: u64) {
        self.events.after(TICK_MICROS, Event::Tick { node: id, life });
        self.turn(id);
    }

    /// One turn, and those that follow from what the engine did at once.
    pub fn turn(&mut self, id: NodeId) {
        let now = self.events.now();
        let machine = self.machine_mut(id);
        if machine.paused_until > now {
            return;
        }
        let Some(process) = &mut machine.process else { return };
        process.turn_due = false;
        let (mut inputs, mut work) = (std::mem::take(&mut process.inbox), Vec::new());
        loop {
            self.stats.turns += 1;
            for input in &inputs {
                self.watch_input(id, input);
            }
            let machine = self.machine_mut(id);
            let Machine { clock, version_clock, process: Some(process), .. } = machine else { return };
            process.driver.turn(clock.read(now), &mut inputs, &mut work);
            *version_clock = process.driver.clock_micros();
            self.watch_statuses(id);
            self.carry_out(id, &mut work, &mut inputs);
            if self.machine(id).process.is_none() {
                return;
            }
            if inputs.is_empty() {
                break;
            }
        }
        self.turn_log(id);
        self.move_stop_on(id);
    }

    fn carry_out(&mut self, id: NodeId, work: &mut Vec<Work>, inputs: &mut Vec<Input>) {
        let mut jobs = Vec::new();
        for work in work.drain(..) {
            match work {
                Work::Append { ticket, records, checkpoint } => {
                    records.iter().for_each(|record| self.watch.record(id, record));
                    self.see(Seen::Appended { node: id, ticket });
                    self.ask_log(id, Request::Append { ticket, records, checkpoint });
                }
                Work::Release => {
                    self.note("a checkpoint was completed");
                    self.ask_log(id, Request::Release);
                    self.checkpoint_ended(id);
                }
                Work::CheckpointFailed => {
                    self.note("a checkpoint failed");
                    self.ask_log(id, Request::CheckpointFailed);
                    self.checkpoint_ended(id);
                }
                Work::Send { to, frame } => self.send(id, to, frame),
                Work::Run(job) => {
                    self.trace_job(id, &job);
                    self.watch_job(id, &job);
                    jobs.push(job);
                }
                Work::Answer { client, result } => self.answered(id, client, result),
                Work::SendSnapshot { shard, to, header, snapshot } => {
                    self.bulk_begin(id, to, shard, header, snapshot);
                }
                Work::SnapshotTaken { stream, taken } => self.bulk_taken(stream, taken),
                Work::Rejoined => {
                    if let Some(life) = self.machine(id).life() {
                        self.rejoined(id, life);
                    }
                }
            }
        }
        self.run_jobs(id, jobs, inputs);
    }

    fn run_jobs(&mut self, id: NodeId, jobs: Vec<Job>, inputs: &mut Vec<Input>) {
        let Some(process) = &mut self.machine_mut(id).process else { return };
        let life = process.life;
        if process.worker.is_there() {
            if process.worker.leave(jobs) {
                let slowness = self.machine(id).slowness;
                let delay = (self.settings.engine.draw(&mut self.random) * slowness).min(DISK_MICROS_MAX);
                self.events.after(delay, Event::Engine { node: id, life });
            }
            return;
        }
        let Process { worker, executor, .. } = process;
        match worker.run(jobs, executor) {
            Ok(worked) => {
                self.begin_background(id, life, worked.begun);
                inputs.extend(self.watch_ran(id, worked.ran));
            }
            Err(error) => self.kill_and_restart(id, Crash::Process, &error.to_string()),
        }
    }

    /// The engine's thread comes to its jobs.
    pub fn run_engine(&mut self, id: NodeId, life: u64) {
        if self.is_paused(id) {
            let until = self.machine(id).paused_until;
            return self.events.at(until, Event::Engine { node: id, life });
        }
        let Some(Process { worker, executor, .. }) = &mut self.machine_mut(id).process else { return };
        match worker.run_waiting(executor) {
            Ok(worked) => {
                self.begin_background(id, life, worked.begun);
                let inputs = self.watch_ran(id, worked.ran);
                self.give(id, inputs);
            }
            Err(error) => self.kill_and_restart(id, Crash::Process, &error.to_string()),
        }
    }

    fn begin_background(&mut self, id: NodeId, life: u64, count: usize) {
        for _ in 0..count {
            let slowness = self.machine(id).slowness;
            let delay = (self.settings.flush.draw(&mut self.random) * slowness).min(DISK_MICROS_MAX);
            self.events.after(delay, Event::Background { node: id, life });
        }
    }

    pub fn run_background(&mut self, id: NodeId) {
        let Some(process) = &mut self.machine_mut(id).process else { return };
        match process.worker.run_background() {
            Ok(done) => {
                if let Some(Input::Done(Done::Flushed { result: Err(_), .. })) = done {
                    self.note("a flush was refused by a full disk");
                }
                self.give(id, done);
            }
            Err(error) => self.kill_and_restart(id, Crash::Process, &error.to_string()),
        }
    }
}
