//! The loop of a core, as the server's runs it: what happened, one turn of the driver, what is to be done.

use kv::NodeId;
use node::identity::Nodes;
use node::log::Request;
use node::{Done, Input, Job, Work};
use wal::Crash;

use super::worker::Background;
use super::{DISK_MICROS_MAX, Machine, TICK_MICROS};
use crate::events::Event;
use crate::watch::Seen;
use crate::world::World;

impl World {
    /// Puts something into the inboxes of a node's cores, where it belongs.
    pub fn give(&mut self, id: NodeId, inputs: impl IntoIterator<Item = Input>) {
        let Some(process) = &self.machine(id).process else { return };
        let deal = process.cores.deal;
        let mut dealt: Vec<Vec<Input>> = (0..deal.cores()).map(|_| Vec::new()).collect();
        for input in inputs {
            input.deal(&deal, &mut |core, input| dealt[core].push(input));
        }
        for (core, inputs) in dealt.into_iter().enumerate() {
            self.give_core(id, core, inputs);
        }
    }

    /// Puts something into the inbox of a core.
    pub fn give_core(&mut self, id: NodeId, core: usize, inputs: impl IntoIterator<Item = Input>) {
        let Some(process) = &mut self.machine_mut(id).process else { return };
        let inbox = &mut process.cores.cores[core].inbox;
        inbox.extend(inputs);
        if !inbox.is_empty() {
            self.wake(id, core);
        }
    }

    /// Plans a turn, unless one is planned.
    pub fn wake(&mut self, id: NodeId, core: usize) {
        let delay = self.settings.wake.draw(&mut self.random);
        let Some(process) = &mut self.machine_mut(id).process else { return };
        if !std::mem::replace(&mut process.cores.cores[core].turn_due, true) {
            let life = process.life;
            self.events.after(delay, Event::Turn { node: id, life, core });
        }
    }

    pub fn tick(&mut self, id: NodeId, life: u64, core: usize) {
        self.events.after(TICK_MICROS, Event::Tick { node: id, life, core });
        self.turn(id, core);
    }

    /// One turn of a core, and those that follow from what the engine did at once.
    pub fn turn(&mut self, id: NodeId, place: usize) {
        let now = self.events.now();
        let machine = self.machine_mut(id);
        if machine.paused_until > now {
            return;
        }
        let Some(process) = &mut machine.process else { return };
        let core = &mut process.cores.cores[place];
        core.turn_due = false;
        let (mut inputs, mut work) = (std::mem::take(&mut core.inbox), Vec::new());
        loop {
            self.stats.turns += 1;
            for input in &inputs {
                self.watch_input(id, place, input);
            }
            let machine = self.machine_mut(id);
            let Machine { clock, version_clocks, process: Some(process), .. } = machine else { return };
            process.cores.cores[place].driver.turn(clock.read(now), &mut inputs, &mut work);
            *version_clocks = process.cores.clocks();
            self.watch_statuses(id, place);
            self.carry_out(id, place, &mut work, &mut inputs);
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

    fn carry_out(&mut self, id: NodeId, core: usize, work: &mut Vec<Work>, inputs: &mut Vec<Input>) {
        let mut jobs = Vec::new();
        for work in work.drain(..) {
            match work {
                Work::Append { ticket, records, checkpoint } => {
                    records.iter().for_each(|record| self.watch.record(id, record));
                    if let Some(process) = &mut self.machine_mut(id).process {
                        let place = process.cores.append(core, ticket);
                        self.see(Seen::Appended { node: id, ticket: place });
                    }
                    self.ask_log(id, Request::Append { core, ticket, records, checkpoint });
                }
                Work::Release => {
                    self.note("a checkpoint was completed");
                    self.ask_log(id, Request::Release { core });
                    self.checkpoint_ended(id, core);
                }
                Work::CheckpointFailed => {
                    self.note("a checkpoint failed");
                    self.ask_log(id, Request::CheckpointFailed { core });
                    self.checkpoint_ended(id, core);
                }
                Work::Send { to, frame, .. } => self.send(id, to, frame),
                Work::Publish(_, frame) => self.publish(id, frame),
                Work::Run(job) => {
                    self.trace_job(id, &job);
                    self.watch_job(id, core, &job);
                    jobs.push(job);
                }
                Work::Answer { client, result } => self.answered(id, client, result),
                Work::Replan { client, planned } => self.replan(id, client, planned),
                Work::Tell { core, word } => self.give_core(id, core, [Input::Told(word)]),
                Work::SendSnapshot { shard, to, header, snapshot } => {
                    self.bulk_begin(id, to, shard, header, snapshot);
                }
                Work::SnapshotTaken { stream, taken } => self.bulk_taken(stream, taken),
                // Whoever routes here knows it from the world.
                Work::Map(map) => {
                    if let Some(process) = &mut self.machine_mut(id).process {
                        process.greeter.set_nodes(Nodes::of(&map));
                    }
                    self.follow_nodes(id);
                }
                Work::Decided(map) => self.decided(id, map),
                Work::Announced(replicas) => self.give(id, [Input::Announced(replicas)]),
                Work::Pulled { client, answer } => self.pulled(id, client, answer),
                Work::Administered { client, result } => self.administered(id, client, result),
            }
        }
        self.run_jobs(id, core, jobs, inputs);
    }

    fn run_jobs(&mut self, id: NodeId, place: usize, jobs: Vec<Job>, inputs: &mut Vec<Input>) {
        let Some(process) = &mut self.machine_mut(id).process else { return };
        let (life, core) = (process.life, &mut process.cores.cores[place]);
        if core.worker.is_there() {
            if core.worker.leave(jobs) {
                let slowness = self.machine(id).slowness;
                let delay = (self.settings.engine.draw(&mut self.random) * slowness).min(DISK_MICROS_MAX);
                self.events.after(delay, Event::Engine { node: id, life, core: place });
            }
            return;
        }
        match core.worker.run(jobs, &mut core.executor) {
            Ok(worked) => {
                self.begin_background(id, place, worked.begun);
                inputs.extend(self.watch_ran(id, worked.ran));
            }
            Err(error) => self.kill_and_restart(id, Crash::Process, &error.to_string()),
        }
    }

    /// The engine's thread of a core comes to its jobs.
    pub fn run_engine(&mut self, id: NodeId, place: usize) {
        // What waits is done when the process goes on, which may be before its time.
        if self.is_paused(id) {
            return;
        }
        let Some(process) = &mut self.machine_mut(id).process else { return };
        let core = &mut process.cores.cores[place];
        match core.worker.run_waiting(&mut core.executor) {
            Ok(worked) => {
                self.begin_background(id, place, worked.begun);
                let inputs = self.watch_ran(id, worked.ran);
                self.give_core(id, place, inputs);
            }
            Err(error) => self.kill_and_restart(id, Crash::Process, &error.to_string()),
        }
    }

    fn begin_background(&mut self, id: NodeId, core: usize, begun: Vec<Background>) {
        for work in begun {
            let slowness = self.machine(id).slowness;
            let delay = (self.settings.flush.draw(&mut self.random) * slowness).min(DISK_MICROS_MAX);
            let Some(process) = &mut self.machine_mut(id).process else { return };
            process.background.push_back((core, work));
            let life = process.life;
            self.events.after(delay, Event::Background { node: id, life });
        }
    }

    /// The background thread runs its next work.
    pub fn run_background(&mut self, id: NodeId) {
        let Some(process) = &mut self.machine_mut(id).process else { return };
        let Some((core, work)) = process.background.pop_front() else { return };
        match work() {
            Ok(done) => {
                if let Done::Flushed { result: Err(_), .. } = done {
                    self.note("a flush was refused by a full disk");
                }
                self.give_core(id, core, [Input::Done(done)]);
            }
            Err(error) => self.kill_and_restart(id, Crash::Process, &error.to_string()),
        }
    }
}
