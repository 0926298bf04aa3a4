//! What the watch and the trace see of a node's turns.

use bytes::Bytes;
use kv::cluster::Role;
use kv::{NodeId, ShardId, Term};
use node::{Done, Input, Job};

use super::worker::RanJob;
use crate::watch::{Seen, in_frame, of_primary_in_frame};
use crate::world::World;

/// So many reads of a core are remembered.
const FETCHED_MAX: usize = 10_000;

impl World {
    pub(super) fn watch_statuses(&mut self, id: NodeId, core: usize) {
        for shard in self.shards() {
            let Some(process) = &self.machine(id).process else { return };
            if let Some(status) = process.cores.cores[core].driver.replica_status(shard) {
                let epoch = process.cores.epoch(shard).expect("a replica has an epoch");
                self.see(Seen::Status { node: id, shard, status: &status });
                if (status.role, status.term) == (Role::Leader, Term::ZERO) {
                    self.see(Seen::Owns { node: id, shard, epoch });
                }
                if !self.watch.merged.has(shard) {
                    self.watch.lent.turned(id, shard, status);
                }
            }
        }
    }

    pub(super) fn watch_input(&mut self, id: NodeId, core: usize, input: &Input) {
        match input {
            Input::Durable { ticket } => {
                let Some(process) = &mut self.machine_mut(id).process else { return };
                let ticket = process.cores.synced(core, *ticket);
                self.see(Seen::Durable { node: id, ticket });
            }
            Input::Frame { from, bytes } => {
                if !self.knows(id, core, *from) {
                    return;
                }
                // Those without an order promise nothing by what they say.
                let of = node::observe::epoch(bytes);
                if of.is_some_and(|(shard, _)| self.watch.merged.has(shard)) {
                    return;
                }
                self.watch_leases(id, *from, bytes);
                if let Some((shard, is_earlier)) = self.of_another_epoch_here(id, bytes) {
                    self.see(Seen::Foreign { node: id, from: *from, shard, is_earlier });
                } else if let Some((shard, message)) = in_frame(bytes) {
                    let now = self.events.now();
                    self.see(Seen::Heard { node: id, from: *from, shard, message: &message, now });
                }
            }
            Input::Done(Done::Loaded { shard, .. }) => {
                self.note("a snapshot was installed");
                self.trace(|| format!("{id} uses the snapshot of shard {shard} that came in"));
            }
            _ => {}
        }
    }

    fn watch_leases(&mut self, id: NodeId, from: NodeId, frame: &Bytes) {
        if let Some((shard, message)) = of_primary_in_frame(frame) {
            let clock = self.machine(id).clock.read(self.events.now()).instant.0;
            self.watch.lent.heard(id, from, shard, &message, clock);
        }
    }

    /// Whether a core has heard of a node: of others it takes nothing.
    fn knows(&self, id: NodeId, core: usize, other: NodeId) -> bool {
        let process = self.machine(id).process.as_ref();
        process.is_some_and(|process| process.cores.cores[core].driver.map().nodes.contains_key(&other))
    }

    /// Whose shard's message this is, if it is of another epoch than the replica here, and whether of an earlier one.
    fn of_another_epoch_here(&self, id: NodeId, frame: &Bytes) -> Option<(ShardId, bool)> {
        let (shard, epoch) = node::observe::epoch(frame)?;
        let own = self.machine(id).process.as_ref()?.cores.epoch(shard)?;
        (epoch != own).then_some((shard, epoch < own))
    }

    /// What came of jobs, for the driver.
    pub(super) fn watch_ran(&mut self, id: NodeId, ran: Vec<RanJob>) -> Vec<Input> {
        for RanJob { done, entry, asked } in &ran {
            if let (Done::Applied { shard, index, last, changes, results, .. }, Some(entry)) = (done, entry) {
                let (shard, index, last, asked) = (*shard, *index, *last, *asked);
                self.see(Seen::Applied { node: id, shard, index, entry, last, results, asked });
                let wrong = self.watch.changed(shard, index.0, changes, last);
                wrong.into_iter().for_each(|why| self.unless_forced(why));
            }
        }
        ran.into_iter().map(|ran| Input::Done(ran.done)).collect()
    }

    pub(super) fn trace_job(&self, id: NodeId, job: &Job) {
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

    pub(super) fn watch_job(&mut self, id: NodeId, core: usize, job: &Job) {
        match job {
            Job::Apply { shard, at, entry } => {
                self.see(Seen::Apply { node: id, shard: *shard, at: *at, entry });
            }
            Job::Load { shard, generation, .. } => {
                self.see(Seen::Load { node: id, shard: *shard, generation: *generation });
            }
            Job::Read { token, op, .. } if !matches!(op, kv::Op::Range(_)) => {
                let Some(process) = &mut self.machine_mut(id).process else { return };
                let fetched = &mut process.cores.cores[core].fetched;
                // They only feed a count.
                if fetched.len() > FETCHED_MAX {
                    fetched.clear();
                }
                let count = fetched.entry(*token).or_default();
                *count += 1;
                if *count == 2 {
                    self.note("rows were read twice: a lease or a version had run out");
                }
            }
            _ => {}
        }
    }
}
