//! Snapshots that come in.
//!
//! The rows of an incoming snapshot are written under a generation of their own, beside the current one, then flushed.
//! Then the protocol is asked; when it takes the snapshot, one synced record of the log switches to the new generation,
//! and only after that is it acknowledged. Whatever breaks before leaves the current copy as it was.

use bytes::Bytes;
use kv::keyspace;
use kv::{ShardId, Version};
use mutant::Mutant;

use super::core::Core;
use super::{Flush, Work};
use storage::Layout;

use crate::job::Job;
use crate::watch::Source;

/// A piece of an incoming snapshot.
#[derive(Clone, Debug)]
pub enum SnapshotPart {
    /// The header, as [`Work::SendSnapshot`] had it.
    Begin(Bytes),
    /// Rows.
    Chunk(Bytes),
    /// All rows were sent.
    End,
    /// The stream broke: forget it.
    Broken,
}

/// A snapshot that is coming in.
pub(super) struct Install {
    pub stream: u64,
    pub header: Bytes,
    pub generation: u32,
    /// So many of its jobs are not done.
    pub jobs: u64,
    pub stage: Stage,
}

/// How far a snapshot is on its way into use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its rows come in and are flushed; nothing refers to them yet.
    Coming,
    /// The append of this ticket switches to its generation, and is not durable yet.
    Switching(u64),
    /// The switch is durable, and the table loads the generation.
    Loading,
}

impl Install {
    /// The protocol has taken it: the append of this ticket will switch to it.
    pub fn begin_switch(&mut self, ticket: u64) {
        assert_eq!(self.stage, Stage::Coming, "a snapshot is taken once");
        assert_eq!(self.jobs, 0, "all rows are there before they are switched to");
        self.stage = Stage::Switching(ticket);
    }

    /// Whether the log is to name its generation, and nobody knows yet whether it does.
    pub fn is_switching(&self) -> bool {
        matches!(self.stage, Stage::Switching(_))
    }
}

impl Core {
    /// What a start may find beside the current generation: the one before (a switch had not finished its clean-up) and
    /// the one after (a snapshot had not come in whole).
    pub fn forget_leftovers(&mut self) {
        for replica in self.replicas.values() {
            let near = [replica.made.generation.checked_sub(1), replica.made.generation.checked_add(1)];
            for generation in near.into_iter().flatten() {
                self.work.push(Work::Run(Job::Forget { shard: replica.shard, generation }));
            }
        }
    }

    pub fn take_snapshot(&mut self, stream: u64, shard: ShardId, part: SnapshotPart) {
        let Some(replica) = self.replicas.get_mut(&shard) else {
            return self.take_copy(stream, shard, part);
        };
        match (part, &mut replica.install) {
            (SnapshotPart::Begin(header), None) => {
                let generation = replica.made.generation + 1;
                assert!(!replica.uses(generation), "a copy that comes in has a generation of its own");
                replica.install = Some(Install { stream, header, generation, jobs: 1, stage: Stage::Coming });
                self.work.push(Work::Run(Job::InstallBegin { shard, generation }));
            }
            (SnapshotPart::Chunk(chunk), Some(install)) if install.stream == stream => {
                let generation = install.generation;
                install.jobs += 1;
                self.work.push(Work::Run(Job::InstallChunk { shard, generation, chunk }));
            }
            (SnapshotPart::End, Some(install)) if install.stream == stream => {
                if mutant::is(Mutant::GenerationSwitchedBeforeFlush) {
                    return self.install_flushed(shard, stream, Ok(()));
                }
                self.flush(Flush::Install(shard, stream));
            }
            (SnapshotPart::Broken, Some(install))
                if install.stream == stream && install.stage == Stage::Coming =>
            {
                self.drop_install(shard);
            }
            (SnapshotPart::Broken, _) => {}
            _ => self.work.push(Work::SnapshotTaken { stream, taken: false }),
        }
    }

    pub fn installed(&mut self, shard: ShardId, generation: u32, result: Result<(), String>) {
        let Some(replica) = self.replicas.get_mut(&shard) else {
            return self.copy_installed(shard, generation, result);
        };
        if replica.stale_jobs > 0 {
            replica.stale_jobs -= 1;
            return;
        }
        let install = replica.install.as_mut();
        let install = install.expect("a job of an install that is not stale is the present one's");
        assert_eq!(install.generation, generation, "jobs are done in order");
        assert!(install.jobs > 0, "a job is done once");
        install.jobs -= 1;
        let (stream, taken) = (install.stream, result.is_ok());
        if let Err(error) = result {
            tracing::warn!(%shard, %error, "a snapshot could not be taken in; the leader will send another");
            self.drop_install(shard);
        }
        self.work.push(Work::SnapshotTaken { stream, taken });
    }

    pub fn install_flushed(&mut self, shard: ShardId, stream: u64, result: Result<(), String>) {
        let Some(replica) = self.replicas.get(&shard) else {
            return self.copy_flushed(shard, stream, result);
        };
        let install = replica.install.as_ref();
        // A flush for a stream that broke says nothing of the rows of the next one.
        let Some(install) = install.filter(|install| install.stream == stream) else { return };
        if let Err(error) = result {
            tracing::warn!(%shard, %error, "a snapshot could not be flushed; the leader will send another");
            self.drop_install(shard);
            return self.work.push(Work::SnapshotTaken { stream, taken: false });
        }
        let header = install.header.clone();
        self.give(shard, replication::Input::SnapshotReceived { header });
    }

    /// The protocol does not need it: it has gone on without.
    pub fn discard_snapshot(&mut self, shard: ShardId) {
        if let Some(install) = self.drop_install(shard) {
            // It is not in use here, so the leader must not count on it.
            self.work.push(Work::SnapshotTaken { stream: install.stream, taken: false });
        }
    }

    fn drop_install(&mut self, shard: ShardId) -> Option<Install> {
        let replica = self.replicas.get_mut(&shard)?;
        let install = replica.install.take()?;
        assert_eq!(install.stage, Stage::Coming, "the log names no generation that is dropped");
        replica.stale_jobs += install.jobs;
        self.work.push(Work::Run(Job::Forget { shard, generation: install.generation }));
        Some(install)
    }

    /// The append of this ticket is synced: if it switches generations, so does the table, before anything else.
    pub fn switch_generation(&mut self, shard: ShardId, ticket: u64) {
        let install = self.replicas.get_mut(&shard).and_then(|replica| replica.install.as_mut());
        if let Some(install) = install.filter(|install| install.stage == Stage::Switching(ticket)) {
            install.stage = Stage::Loading;
            let generation = install.generation;
            // A copy that was received has rows, and they lie as they do.
            self.work.push(Work::Run(Job::Load { shard, generation, layout: Layout::Ordered }));
        }
    }

    pub fn loaded(
        &mut self,
        shard: ShardId,
        generation: u32,
        (last, due, standing): (Version, Option<u64>, keyspace::Standing),
    ) {
        if !self.replicas.contains_key(&shard) {
            self.copy_loaded(shard, generation, (last, due, standing));
            return self.part_loaded(shard, generation, (last, due, standing));
        }
        self.begin_feed(shard, Source::Here, last);
        let replica = self.replicas.get_mut(&shard).expect("it is there, as was seen above");
        (replica.last, replica.standing) = (last, standing);
        self.newest = self.newest.max(last);
        self.expiries.set(shard, due);
        if generation == replica.made.generation {
            // Of a replica that has just been made.
            return assert_eq!(last, Version::ZERO, "shard {shard} begins with nothing");
        }
        let install = replica.install.take().expect("a generation is loaded that came in");
        assert_eq!(install.stage, Stage::Loading, "a generation is loaded after its switch is durable");
        assert_eq!(install.generation, generation, "the generation that is loaded is the one switched to");
        let old = std::mem::replace(&mut replica.made.generation, generation);
        (replica.given, replica.giving) = (None, None);
        tracing::info!(%shard, generation, "a snapshot is in use");
        self.work.push(Work::SnapshotTaken { stream: install.stream, taken: true });
        self.work.push(Work::Run(Job::Forget { shard, generation: old }));
    }
}
