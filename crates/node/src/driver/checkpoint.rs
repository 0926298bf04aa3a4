//! Checkpoints: what the log must keep is written again at its head, shard by shard, and the table is flushed. The last one of a
//! node that stops is followed by what its watches may want of the next start.

use mutant::Mutant;

use super::core::Core;
use super::{Driver, Flush, Work};
use crate::node::checkpoint::Checkpoint;
use crate::record;

impl Driver {
    pub(super) fn begin_checkpoint(&mut self) {
        if self.node.checkpoint.is_some() {
            return;
        }
        let map = self.node.is_first().then(|| record::map(&self.node.config.map));
        let mut checkpoint = Checkpoint::new(self.core.append_kept(map));
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
            self.core.end_gone();
            if self.node.stopping {
                self.core.append_lately();
            }
            self.core.work.push(Work::Release);
        }
    }
}

impl Core {
    /// Appends what was changed lately. The table has been flushed up to somewhere in it.
    fn append_lately(&mut self) {
        for (shard, lately) in self.feeds.lately() {
            self.append(vec![record::lately(shard, &lately)], false);
        }
    }

    /// Appends what must be kept: the map at one core, and what each shard has; returns the ticket of the last append. A core that
    /// has nothing begins all the same.
    fn append_kept(&mut self, map: Option<wal::Record>) -> u64 {
        let mut first: Vec<wal::Record> = map
            .into_iter()
            .chain(self.keep_gone())
            .chain(self.keep_heirs())
            .chain(self.keep_parts())
            .collect();
        let mut appends = Vec::new();
        for (&shard, replica) in &self.replicas {
            let mut records = std::mem::take(&mut first);
            if let Some(returned) = replica.returned() {
                records.extend(returned);
            } else {
                records.push(record::made(shard, &replica.made_logged()));
                let kept = replica.protocol.checkpoint();
                records.extend(kept.into_iter().map(|body| record::protocol(shard, body)));
            }
            appends.push(records);
        }
        if appends.is_empty() {
            appends.push(first);
        }
        for (number, records) in appends.into_iter().enumerate() {
            self.append(records, number == 0);
        }
        assert!(self.appends.back().is_none_or(|append| append.ticket < self.ticket), "it comes last");
        self.ticket
    }
}
