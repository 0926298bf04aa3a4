//! The log and what is flushed: appends that became durable, checkpoints.

use kv::ShardId;
use mutant::Mutant;

use super::{Checkpoint, Driver, Flush, Work, protocol_record};
use crate::job::Job;
use crate::recovery::generation_record;

impl Driver {
    pub(crate) fn append(&mut self, records: Vec<wal::Record>, checkpoint: bool) -> u64 {
        self.next_ticket += 1;
        self.work.push(Work::Append { ticket: self.next_ticket, records, checkpoint });
        self.next_ticket
    }

    pub(super) fn durable(&mut self, ticket: u64) {
        while let Some(&(appended, shard, own)) =
            self.appends.front().filter(|(appended, ..)| *appended <= ticket)
        {
            self.appends.pop_front();
            self.switch_generation(shard, appended);
            self.inputs.push_back((shard, replication::Input::Durable { ticket: own }));
        }
        if let Some(checkpoint) = &mut self.checkpoint {
            checkpoint.durable |= checkpoint.ticket <= ticket;
            self.end_checkpoint();
        }
    }

    pub(super) fn begin_checkpoint(&mut self) {
        if self.checkpoint.is_some() {
            return;
        }
        let mut first = true;
        let shards: Vec<ShardId> = self.replicas.keys().copied().collect();
        for shard in shards {
            let replica = &self.replicas[&shard];
            let mut records = vec![generation_record(shard, replica.generation_logged())];
            records
                .extend(replica.protocol.checkpoint().into_iter().map(|body| protocol_record(shard, body)));
            self.append(records, std::mem::take(&mut first));
        }
        let flushed = mutant::is(Mutant::CheckpointWithoutFlush);
        self.checkpoint = Some(Checkpoint { ticket: self.next_ticket, durable: false, flushed });
        self.flush(Flush::Checkpoint);
    }

    pub(crate) fn flush(&mut self, what: Flush) {
        self.next_flush += 1;
        self.flushes.insert(self.next_flush, what);
        self.work.push(Work::Run(Job::Flush { token: self.next_flush }));
    }

    pub(super) fn flushed(&mut self, token: u64, result: Result<(), String>) {
        match self.flushes.remove(&token) {
            Some(Flush::Checkpoint) if result.is_ok() => {
                if let Some(checkpoint) = &mut self.checkpoint {
                    checkpoint.flushed = true;
                    self.end_checkpoint();
                }
            }
            Some(Flush::Checkpoint) => {
                self.checkpoint = None;
                self.work.push(Work::CheckpointFailed);
            }
            Some(Flush::Install(shard, stream)) => self.install_flushed(shard, stream, result),
            None => {}
        }
    }

    fn end_checkpoint(&mut self) {
        if self.checkpoint.is_some_and(|checkpoint| checkpoint.durable && checkpoint.flushed) {
            self.checkpoint = None;
            self.work.push(Work::Release);
        }
    }
}
