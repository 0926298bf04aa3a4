//! A core's part of a checkpoint that is under way.
//!
//! What the log must keep is written again at its head, and the table is flushed. When both have survived, the segments
//! before the checkpoint can go: never earlier, for they are all that is left of what was not flushed.

/// It is complete when its records are synced and the table is flushed, in whatever order that happens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checkpoint {
    ticket: u64,
    durable: bool,
    flushed: bool,
}

impl Checkpoint {
    /// Its records are in the appends up to `ticket`.
    pub fn new(ticket: u64) -> Checkpoint {
        Checkpoint { ticket, durable: false, flushed: false }
    }

    /// The last append of its records.
    pub fn ticket(&self) -> u64 {
        self.ticket
    }

    /// All appends up to this ticket are synced.
    pub fn durable(&mut self, ticket: u64) {
        self.durable |= self.ticket <= ticket;
    }

    /// The flush that was asked for after its appends has ended well.
    pub fn flushed(&mut self) {
        self.flushed = true;
    }

    /// Whether nothing of the log before it is needed any more.
    pub fn is_complete(&self) -> bool {
        self.durable && self.flushed
    }
}
