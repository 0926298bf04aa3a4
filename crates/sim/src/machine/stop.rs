//! A good end: a process that is asked to stop takes the steps of [`node::stop`].

use kv::NodeId;
use node::Input;
use node::log::Request;
use node::stop::{Standing, Step, Stop};
use wal::Crash;

use super::Machine;
use crate::world::World;

impl World {
    pub fn begin_stop(&mut self, id: NodeId) {
        let now = self.events.now();
        let Machine { clock, process: Some(process), .. } = self.machine_mut(id) else { return };
        if process.stop.is_none() {
            process.stop = Some(Stop::begin(clock.read(now).instant, process.cores.cores.len()));
            self.trace(|| format!("{id} is asked to stop"));
            self.give(id, [Input::Stop]);
        }
    }

    pub(super) fn move_stop_on(&mut self, id: NodeId) {
        let now = self.events.now();
        let Machine { clock, process: Some(process), .. } = self.machine_mut(id) else { return };
        let Some(stop) = &mut process.stop else { return };
        let standing = Standing {
            handed_over: process.cores.cores.iter().all(|core| core.driver.has_handed_over()),
            open_parts: process.cores.cores.iter().map(|core| core.driver.open_parts()).sum(),
            log_finished: process.log.is_finished(),
        };
        match stop.turn(clock.read(now).instant, standing) {
            Some(Step::Flush) => self.give(id, [Input::Checkpoint]),
            Some(Step::Write) => self.ask_log(id, Request::Finish),
            Some(Step::End) => {
                self.note("a node stopped in good order");
                self.kill_and_restart(id, Crash::Process, "stopped");
            }
            None => {}
        }
    }

    pub(super) fn checkpoint_ended(&mut self, id: NodeId, core: usize) {
        if let Some(process) = &mut self.machine_mut(id).process {
            process.stop.iter_mut().for_each(|stop| stop.checkpoint_ended(core));
        }
    }
}
