//! Makes a history of requests and what came of them.

use std::collections::BTreeMap;

use kv::{Error, Level, Op, Reply, Request};

use super::{Clock, History, OperationId, Outcome};

/// Makes a history of the requests of concurrent clients.
///
/// A client may have several requests under way: each gets a process number of its own, which is used again once the
/// outcome is known and never after it stayed unknown (as Jepsen does it). A read that was answered weaker than
/// linearizable promises nothing that a model could judge: that it was done is all that is kept of it.
#[derive(Debug, Default)]
pub struct Recorder {
    history: History,
    processes: u64,
    idle: BTreeMap<u64, Vec<u64>>,
}

/// A request under way.
#[derive(Debug)]
#[must_use = "a request that is never completed counts as in doubt"]
pub struct Ticket {
    client: u64,
    process: u64,
    operation: OperationId,
}

impl Recorder {
    /// Nothing recorded yet.
    pub fn new() -> Recorder {
        Recorder::default()
    }

    /// Nothing recorded yet, of a keyspace of so many shards.
    pub fn of_shards(count: u32) -> Recorder {
        let mut recorder = Recorder::default();
        recorder.history.set_shards(count);
        recorder
    }

    /// A client asks now.
    pub fn invoke(&mut self, client: u64, request: &Request, micros: u64) -> Ticket {
        self.invoke_op(client, &request.op, micros)
    }

    /// A client asks now, with nothing special about the request.
    pub fn invoke_op(&mut self, client: u64, op: &Op, micros: u64) -> Ticket {
        let process = self.idle.get_mut(&client).and_then(Vec::pop).unwrap_or_else(|| {
            self.processes += 1;
            self.processes - 1
        });
        let operation = self.history.invoke(process, op.clone(), Some(micros));
        Ticket { client, process, operation }
    }

    /// The client learns the outcome now.
    pub fn complete(&mut self, ticket: Ticket, result: &Result<Reply, Error>, micros: u64) {
        let outcome = outcome_of(result);
        if outcome != Outcome::Unknown {
            self.idle.entry(ticket.client).or_default().push(ticket.process);
        }
        self.history.complete(ticket.operation, outcome, Some(micros));
    }

    /// As [`Recorder::complete`], of a request of which is known what the store's clock showed when it ran.
    pub fn complete_at(&mut self, ticket: Ticket, result: &Result<Reply, Error>, micros: u64, clock: Clock) {
        self.history.set_clock(ticket.operation, clock);
        self.complete(ticket, result, micros);
    }

    /// What was recorded so far.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// What was recorded; requests still under way are in doubt.
    pub fn into_history(self) -> History {
        self.history
    }
}

fn outcome_of(result: &Result<Reply, Error>) -> Outcome {
    match result {
        Ok(reply) if reply.receipt.reached != Level::Linearizable => Outcome::Done(None),
        Ok(reply) => Outcome::Done(Some(reply.answer.clone())),
        Err(error) => match error.outcome() {
            kv::Outcome::Failed => Outcome::Failed,
            kv::Outcome::InDoubt => Outcome::Unknown,
        },
    }
}
