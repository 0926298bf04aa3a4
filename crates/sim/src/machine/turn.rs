//! The loop of a node, as the server's core runs it: what happened, one turn of the driver, what is to be done.

use kv::NodeId;
use node::{Done, Input, Job, Work};
use wal::Crash;

use super::writer::Request;
use super::{Machine, Process, RETRY_MICROS, Stop, TICK_MICROS};
use crate::events::Event;
use crate::watch::Seen;
use crate::world::World;

/// How long leaderships may take to be handed over at a stop, as in the server.
const HAND_OVER_MICROS: u64 = 2_000_000;
/// What a disk keeps or loses as a whole.
const SECTOR_BYTES: usize = 512;
/// However slow a disk is, it needs no longer for one thing.
const DISK_MICROS_MAX: u64 = 3_000_000;
/// How long the last flush may take, as in the server.
const LAST_FLUSH_MICROS: u64 = 10_000_000;

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
            let Machine { clock, process: Some(process), .. } = self.machine_mut(id) else { return };
            process.driver.turn(clock.read(now), &mut inputs, &mut work);
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
                    self.ask_log(id, Request::Append { ticket, records, checkpoint });
                }
                Work::Release => {
                    self.note("a checkpoint was completed");
                    self.ask_log(id, Request::Release);
                    self.stop_flushed(id);
                }
                Work::CheckpointFailed => {
                    self.note("a checkpoint failed");
                    self.ask_log(id, Request::CheckpointFailed);
                    self.stop_flushed(id);
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
                    self.note("a wiped node was made whole");
                    self.trace(|| format!("{id} is whole again"));
                    self.machine_mut(id).rejoining = false;
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
                let delay = self.settings.engine.draw(&mut self.random);
                self.events.after(delay, Event::Engine { node: id, life });
            }
            return;
        }
        let Process { worker, executor, .. } = process;
        match worker.run(jobs, executor) {
            Ok(worked) => {
                self.begin_background(id, life, worked.begun);
                inputs.extend(worked.inputs);
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
                self.give(id, worked.inputs);
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

    // --- the log ------------------------------------------------------------------------------------------------

    fn ask_log(&mut self, id: NodeId, request: Request) {
        if let Some(process) = &mut self.machine_mut(id).process {
            process.writer.take(request);
        }
    }

    /// The log's thread goes on as far as the disk lets it.
    pub fn turn_log(&mut self, id: NodeId) {
        let Machine { disk, process: Some(process), slowness, .. } = self.machine_mut(id) else { return };
        let (life, slowness, was_full) = (process.life, *slowness, process.writer.is_full());
        let written = match process.writer.turn(disk) {
            Ok(written) => written,
            Err(fatal) => {
                self.note("a log failed with its disk");
                return self.kill_and_restart(id, Crash::Process, &fatal.to_string());
            }
        };
        let is_full = process.writer.is_full();
        if was_full && !is_full {
            self.note("a disk was full and has room again");
        }
        for token in written.tokens {
            let delay = (self.disk_latency(id, token) * slowness).min(DISK_MICROS_MAX);
            self.events.after(delay, Event::Disk { node: id, life, token });
        }
        if written.retry {
            self.note("a disk was full");
            self.trace(|| format!("{id}'s disk is full"));
            self.events.after(RETRY_MICROS, Event::Retry { node: id, life });
        }
        self.give(id, written.inputs);
    }

    fn disk_latency(&mut self, id: NodeId, token: u64) -> u64 {
        let pending = self.machine(id).disk.pending();
        let io = pending.iter().find(|(other, _)| *other == token).map(|(_, io)| io.operation());
        let latency = match io {
            Some(wal::Operation::Write) => self.settings.write,
            _ => self.settings.sync,
        };
        latency.draw(&mut self.random)
    }

    pub fn disk_done(&mut self, id: NodeId, token: u64) {
        let machine = self.machine_mut(id);
        let io = machine.disk.pending().iter().find(|(pending, _)| *pending == token);
        let (_, io) = io.expect("the disk completes what was submitted");
        let (operation, can_tear) = (io.operation(), can_tear(io));
        machine.disk.complete(token);
        if operation == wal::Operation::Remove {
            self.note("a log's segment was given away");
        }
        if can_tear && std::mem::take(&mut self.machine_mut(id).power_goes) {
            return self.kill_and_restart(id, Crash::Power, "the power went before the sync");
        }
        if !self.is_paused(id) {
            self.turn_log(id);
        }
    }

    pub fn retry_log(&mut self, id: NodeId, life: u64) {
        let Some(process) = &mut self.machine_mut(id).process else { return };
        if process.writer.is_full() {
            process.writer.retry();
            self.events.after(RETRY_MICROS, Event::Retry { node: id, life });
            self.turn_log(id);
        }
    }

    // --- a good end ---------------------------------------------------------------------------------------------

    pub fn begin_stop(&mut self, id: NodeId) {
        let until = self.events.now() + HAND_OVER_MICROS;
        let Some(process) = &mut self.machine_mut(id).process else { return };
        if process.stop.is_none() {
            process.stop = Some(Stop::HandOver(until));
            self.trace(|| format!("{id} is asked to stop"));
            self.give(id, [Input::Stop]);
        }
    }

    fn move_stop_on(&mut self, id: NodeId) {
        let now = self.events.now();
        let Some(process) = &mut self.machine_mut(id).process else { return };
        match process.stop {
            Some(Stop::HandOver(until)) => {
                let drained = process.driver.has_handed_over() && process.driver.open_parts() == 0;
                if drained || now >= until {
                    process.stop = Some(Stop::Flush(now + LAST_FLUSH_MICROS));
                    self.give(id, [Input::Checkpoint]);
                }
            }
            // The log's thread writes what is queued before the process ends.
            Some(Stop::Flush(until))
                if now >= until && (process.writer.is_idle() || now >= until + 1_000_000) =>
            {
                self.note("a node stopped in good order");
                self.kill_and_restart(id, Crash::Process, "stopped");
            }
            _ => {}
        }
    }

    fn stop_flushed(&mut self, id: NodeId) {
        let now = self.events.now();
        if let Some(Process { stop: Some(Stop::Flush(until)), .. }) = &mut self.machine_mut(id).process {
            *until = now;
        }
    }

    // --- what is seen -------------------------------------------------------------------------------------------

    fn watch_statuses(&mut self, id: NodeId) {
        for index in 0..self.map.shards().len() {
            let (shard, _) = self.map.shards()[index];
            let Some(process) = &self.machine(id).process else { return };
            if let Some(status) = process.driver.replica_status(shard) {
                self.see(Seen::Status { node: id, shard, status: &status });
            }
        }
    }

    fn watch_input(&mut self, id: NodeId, input: &Input) {
        match input {
            Input::Done(Done::Applied { shard, index, last, results }) => {
                self.see(Seen::Applied { node: id, shard: *shard, index: *index, last: *last, results });
            }
            Input::Done(Done::Loaded { shard, .. }) => {
                self.note("a snapshot was installed");
                self.trace(|| format!("{id} uses the snapshot of shard {shard} that came in"));
            }
            _ => {}
        }
    }

    fn trace_job(&self, id: NodeId, job: &Job) {
        match job {
            Job::Apply { .. } | Job::Read { .. } => {}
            Job::InstallChunk { shard, generation, chunk } => self.trace(|| {
                format!(
                    "{id} job: InstallChunk {{ shard: {shard}, generation: {generation}, {} bytes }}",
                    chunk.len()
                )
            }),
            job => self.trace(|| format!("{id} job: {job:?}")),
        }
    }

    fn watch_job(&mut self, id: NodeId, job: &Job) {
        match job {
            Job::Apply { shard, index, term, entry } => {
                self.see(Seen::Apply { node: id, shard: *shard, index: *index, term: *term, entry });
            }
            Job::Read { token, op, .. } if !matches!(op, kv::Op::Range(_)) => {
                let Some(process) = &mut self.machine_mut(id).process else { return };
                let count = process.fetched.entry(*token).or_default();
                *count += 1;
                if *count == 2 {
                    self.note("rows were read twice: a lease or a version had run out");
                }
                if process_is_large(&self.machine(id).process) {
                    self.forget_fetched(id);
                }
            }
            _ => {}
        }
    }

    fn forget_fetched(&mut self, id: NodeId) {
        if let Some(process) = &mut self.machine_mut(id).process {
            process.fetched.clear();
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

/// The reads that are remembered are bounded: they only feed a count.
fn process_is_large(process: &Option<Process>) -> bool {
    process.as_ref().is_some_and(|process| process.fetched.len() > 10_000)
}
