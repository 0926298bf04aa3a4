//! The log's side of a node: what the driver appends is written and synced when the disk comes to it.

use kv::NodeId;
use node::Input;
use wal::Crash;

use super::writer::Request;
use super::{DISK_MICROS_MAX, Machine, RETRY_MICROS};
use crate::events::Event;
use crate::world::World;

/// What a disk keeps or loses as a whole.
const SECTOR_BYTES: usize = 512;

impl World {
    pub(super) fn ask_log(&mut self, id: NodeId, request: Request) {
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
        let tells = written.inputs.iter().any(|input| matches!(input, Input::Durable { .. }));
        if !tells || self.log_begins(id) {
            self.give(id, written.inputs);
        }
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
            self.note("a node lost its power while it wrote");
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
