//! What is on its way to the disk: appends to the log, flushes of the table.

use kv::ShardId;
use mutant::Mutant;
use replication::{Input, Ticket};

use super::core::{Append, Core};
use super::{Flush, Work, protocol_record};
use crate::job::Job;
use crate::recovery::generation_record;

impl Core {
    /// Appends what a replica wants written, under the replica's own ticket. With `install`, the generation that came in is
    /// switched to by the same batch.
    pub fn append_of(&mut self, shard: ShardId, own: Ticket, bodies: Vec<bytes::Bytes>, install: bool) {
        let mut records: Vec<wal::Record> =
            bodies.into_iter().map(|body| protocol_record(shard, body)).collect();
        let replica = self.replicas.get_mut(&shard).expect("a replica that has outputs is there");
        assert!(own > replica.appended, "a replica's tickets rise");
        replica.appended = own;
        if install {
            let install = replica.install.as_mut().expect("only a received snapshot is installed");
            install.begin_switch(self.ticket + 1);
            records.push(generation_record(shard, install.generation));
        }
        let ticket = self.append(records, false);
        tracing::trace!("records go to the log");
        assert!(self.appends.back().is_none_or(|before| before.ticket < ticket), "tickets rise");
        self.appends.push_back(Append { ticket, shard, own });
        if mutant::is(Mutant::GenerationLoadedBeforeSwitch) {
            self.switch_generation(shard, ticket);
        }
    }

    /// Appends records, and returns the ticket under which they become durable.
    pub fn append(&mut self, records: Vec<wal::Record>, checkpoint: bool) -> u64 {
        self.ticket += 1;
        self.work.push(Work::Append { ticket: self.ticket, records, checkpoint });
        self.ticket
    }

    /// All appends up to this ticket are synced.
    pub fn durable(&mut self, ticket: u64) {
        assert!(ticket <= self.ticket, "only what was appended can be durable");
        assert!(ticket >= self.durable, "what is durable stays so");
        self.durable = ticket;
        while let Some(append) = self.appends.pop_front_if(|append| append.ticket <= ticket) {
            self.switch_generation(append.shard, append.ticket);
            self.give(append.shard, Input::Durable { ticket: append.own });
        }
    }

    /// Has the table flushed.
    pub fn flush(&mut self, what: Flush) {
        self.next_flush += 1;
        let before = self.flushes.insert(self.next_flush, what);
        assert!(before.is_none(), "a flush has a name of its own");
        self.work.push(Work::Run(Job::Flush { token: self.next_flush }));
    }

    /// A flush has ended; what it was for.
    pub fn take_flush(&mut self, token: u64) -> Flush {
        self.flushes.remove(&token).expect("a flush was asked for, and ends once")
    }
}
