//! Checkpoints: what the log must keep is written again at its head, shard by shard, and the table is flushed.

use mutant::Mutant;

use super::core::Core;
use super::{Driver, Flush, Work, protocol_record};
use crate::node::checkpoint::Checkpoint;
use crate::recovery::generation_record;

impl Driver {
    pub(super) fn begin_checkpoint(&mut self) {
        if self.node.checkpoint.is_some() {
            return;
        }
        let mut checkpoint = Checkpoint::new(self.core.append_kept());
        if mutant::is(Mutant::CheckpointWithoutFlush) {
            checkpoint.flushed();
        }
        self.node.checkpoint = Some(checkpoint);
        self.core.flush(Flush::Checkpoint);
    }

    pub(super) fn checkpoint_durable(&mut self, ticket: u64) {
        if let Some(checkpoint) = &mut self.node.checkpoint {
            checkpoint.durable(ticket);
            self.end_checkpoint();
        }
    }

    pub(super) fn checkpoint_flushed(&mut self, result: Result<(), String>) {
        let Some(checkpoint) = &mut self.node.checkpoint else { return };
        match result {
            Ok(()) => {
                checkpoint.flushed();
                self.end_checkpoint();
            }
            Err(_) => {
                self.node.checkpoint = None;
                self.core.work.push(Work::CheckpointFailed);
            }
        }
    }

    fn end_checkpoint(&mut self) {
        if let Some(checkpoint) = self.node.checkpoint.take_if(|checkpoint| checkpoint.is_complete()) {
            assert!(
                checkpoint.ticket() <= self.core.durable,
                "what is released is written again, and synced"
            );
            self.core.work.push(Work::Release);
        }
    }
}

impl Core {
    /// Appends what must be kept of each shard; returns the ticket of the last append.
    fn append_kept(&mut self) -> u64 {
        let mut appends = Vec::new();
        for (&shard, replica) in &self.replicas {
            let mut records = vec![generation_record(shard, replica.generation_logged())];
            let kept = replica.protocol.checkpoint();
            records.extend(kept.into_iter().map(|body| protocol_record(shard, body)));
            appends.push(records);
        }
        for (number, records) in appends.into_iter().enumerate() {
            self.append(records, number == 0);
        }
        assert!(self.appends.back().is_none_or(|append| append.ticket < self.ticket), "it comes last");
        self.ticket
    }
}
