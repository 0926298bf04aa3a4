//! What is on its way to the disk: appends to the log, flushes of the table.

use kv::{Epoch, ShardId};
use mutant::Mutant;
use replication::{Input, Ticket};

use super::Work;
use super::core::{Append, Core};
use crate::job::Job;
use crate::record;

/// What a flush of the table is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flush {
    Checkpoint,
    /// Of what came in on this stream.
    Install(ShardId, u64),
    /// Of all that was handed over to this node, under this generation.
    Heir(ShardId, u32),
    /// Of a pass over a shard that is cut.
    Parts(ShardId),
    /// Of what comes back to this node, to go on in this epoch.
    Returning(ShardId, Epoch),
}

impl Core {
    /// Has what a replica wants written appended at the end of the turn, with what all others want: one batch and one sync for
    /// all. It is done under the replica's own ticket. With `install`, the generation that came in is switched to by the same
    /// batch.
    pub fn append_of(&mut self, shard: ShardId, own: Ticket, bodies: Vec<bytes::Bytes>, install: bool) {
        let ticket = self.ticket + 1;
        self.records.extend(bodies.into_iter().map(|body| record::protocol(shard, body)));
        let replica = self.replicas.get_mut(&shard).expect("a replica that has outputs is there");
        assert!(own > replica.appended, "a replica's tickets rise");
        replica.appended = own;
        if install {
            let install = replica.install.as_mut().expect("only a received snapshot is installed");
            install.begin_switch(ticket);
            self.records.push(record::made(shard, &replica.made_logged()));
        }
        tracing::trace!("records go to the log");
        assert!(self.appends.back().is_none_or(|before| before.ticket <= ticket), "tickets rise");
        self.appends.push_back(Append { ticket, shard, own });
        if mutant::is(Mutant::GenerationLoadedBeforeSwitch) {
            self.switch_generation(shard, ticket);
        }
    }

    /// Appends what the turn's replicas want written so far.
    pub fn append_gathered(&mut self) {
        if !self.records.is_empty() {
            self.ticket += 1;
            let records = std::mem::take(&mut self.records);
            self.work.push(Work::Append { ticket: self.ticket, records, checkpoint: false });
        }
    }

    /// Appends records behind all that was wanted before, and returns the ticket under which they become durable.
    pub fn append(&mut self, records: Vec<wal::Record>, checkpoint: bool) -> u64 {
        self.append_gathered();
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
        self.forget_gone();
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
