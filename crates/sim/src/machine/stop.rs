//! A good end: a process that is asked to stop hands its leaderships over and flushes its table, as in the server.

use kv::NodeId;
use node::Input;
use wal::Crash;

use super::{Process, Stop};
use crate::world::World;

/// How long leaderships may take to be handed over at a stop, as in the server.
const HAND_OVER_MICROS: u64 = 2_000_000;
/// How long the last flush may take, as in the server.
const LAST_FLUSH_MICROS: u64 = 10_000_000;

impl World {
    pub fn begin_stop(&mut self, id: NodeId) {
        let until = self.events.now() + HAND_OVER_MICROS;
        let Some(process) = &mut self.machine_mut(id).process else { return };
        if process.stop.is_none() {
            process.stop = Some(Stop::HandOver(until));
            self.trace(|| format!("{id} is asked to stop"));
            self.give(id, [Input::Stop]);
        }
    }

    pub(super) fn move_stop_on(&mut self, id: NodeId) {
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

    pub(super) fn stop_flushed(&mut self, id: NodeId) {
        let now = self.events.now();
        if let Some(Process { stop: Some(Stop::Flush(until)), .. }) = &mut self.machine_mut(id).process {
            *until = now;
        }
    }
}
