//! The operator: whoever looks after the cluster, and the machines that come to it.
//!
//! What people and joining nodes ask of a directory is asked here through any node that is up, and again through another one when
//! no answer comes. Each thing that is to be done is a [`chore::Chore`], which ends when its answer is definite:
//!
//! ```text
//!   drawn, while there are faults     a node is drained, is to leave, takes replicas again; a machine joins; a change is given up;
//!                                     moves and rows are looked at
//!   a node has left                   its machine is stopped, a while later
//!   elections are forced              in runs of their own ([`force`])
//!   a machine is lost for good        its node is declared dead where all copies are needed, and replaced; another machine joins
//!                                     under its name
//!   tenants                           have keyspaces created, altered and dropped, and use them ([`tenants`])
//! ```
//!
//! When the faults are over nothing is begun any more, and what was begun comes to its end.

mod asks;
pub(crate) mod chore;
mod chores;
mod force;
pub(crate) mod forcing;
mod joins;
mod maps;
pub(crate) mod tenant;
mod tenants;

use placement::map::NodeDuty;

use crate::events::Event;
use crate::world::World;

/// The operator looks so often.
const LOOK_MICROS: u64 = 250_000;
/// At so many looks of 100 something new is begun.
const BEGIN_PERCENT: u64 = 25;
/// So much is done at a time.
const CHORES_MAX: usize = 3;

impl World {
    pub fn begin_to_operate(&mut self) {
        self.events.after(LOOK_MICROS, Event::Operate);
    }

    /// Looks at what is to be done.
    pub fn operate(&mut self) {
        self.events.after(LOOK_MICROS, Event::Operate);
        for chore in std::mem::take(&mut self.operator.chores) {
            if let Some(chore) = self.go_on_with(chore) {
                self.operator.chores.push(chore);
            }
        }
        let declared = self.draw_declared();
        self.operator.chores.extend(declared);
        if self.calm && self.operator.chores.is_empty() {
            // One that was let in when its machine had been given up: whoever asked for it heard nothing.
            let rows = self.placed.nodes.iter().filter(|(_, row)| row.duty == NodeDuty::Serve);
            let absent = rows.filter(|(id, _)| !self.machine(**id).there).map(|(_, row)| row.name.clone());
            let absent = Vec::from_iter(absent);
            self.operator.chores.extend(absent.into_iter().map(chore::Chore::replace));
        }
        self.force();
        let recast = self.draw_recast();
        self.operator.chores.extend(recast);
        if self.settings.operates {
            self.serve_tenants();
        }
        let has_time = self.settings.operates && !self.calm && self.operator.chores.len() < CHORES_MAX;
        if has_time && self.random.percent(BEGIN_PERCENT) {
            let begun = self.draw_chore();
            self.operator.chores.extend(begun);
        }
    }
}
