//! The end of an epoch: a member takes no more requests, and the members that go on bring together what they have.
//!
//! # How it is solved
//!
//! A member is sealed from the moment it is asked: it takes no request, and makes no row and no promise any more. Rows of others it takes as before,
//! and its vectors say that it is sealed. When all among whom the shard goes on are sealed, durably, what any of them has is the state: each is
//! done when it has all that each of them had then. Rows beyond a gap count as well, so each compares its table with all others once it has what
//! their vectors say.
//!
//! ```text
//!   n1   seals ── has 1:9 2:7, sealed ──▶  waits for has 2:8, compares with n2 ──▶ sealed
//!   n2   seals ── has 1:8 2:8, sealed ──▶  waits for has 1:9, compares with n1 ──▶ sealed
//! ```
//!
//! # Caveats
//!
//! All among whom the shard goes on are needed until each has said where it ended. What a member has taken that is not among them, and was not passed
//! on, is not there; it is brought by who lists what a member has that was left behind.

use kv::Epoch;

use super::Broadcast;
use crate::record::Record;
use crate::{Output, Ticket};

/// It takes no more requests.
#[derive(Clone, Debug)]
pub(super) struct Seal {
    /// The shard goes on in this epoch.
    pub(super) next: Epoch,
    /// The append that says so, until it is synced.
    unsynced: Option<Ticket>,
    is_said: bool,
}

impl Seal {
    /// As the log has it.
    pub(super) fn recovered(next: Epoch) -> Seal {
        Seal { next, unsynced: None, is_said: true }
    }

    /// All appends up to this ticket are synced.
    pub(super) fn synced(&mut self, ticket: Ticket) {
        self.unsynced.take_if(|own| *own <= ticket);
    }
}

impl Broadcast {
    /// The shard goes on in a later epoch.
    pub(super) fn end_epoch(&mut self, next: Epoch, out: &mut Vec<Output>) {
        assert!(next > self.view.epoch, "a shard goes on in a later epoch");
        if let Some(seal) = &mut self.seal {
            seal.is_said = false;
            return;
        }
        self.turn_writes_away(out);
        let reads = std::mem::take(&mut self.reads);
        let error = kv::Error::WrongNode { try_next: None };
        out.extend(reads.into_iter().map(|token| Output::Refuse { token, error: error.clone() }));
        self.intake.drop_all();
        let mut records = self.take_notes();
        records.push(Record::Seal(next).encode(self.head()));
        let ticket = self.append_records(records, out);
        self.seal = Some(Seal { next, unsynced: Some(ticket), is_said: false });
    }

    /// Says that it is sealed, once that is so for the log and the table.
    pub(super) fn say_sealed(&mut self, out: &mut Vec<Output>) {
        let is_at_rest = self.journal.applied() == self.journal.last();
        let Some(seal) = &mut self.seal else { return };
        if seal.unsynced.is_none() && is_at_rest && !std::mem::replace(&mut seal.is_said, true) {
            out.push(Output::Sealed { at: self.journal.applied_at() });
        }
    }
}
