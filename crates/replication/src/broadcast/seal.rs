//! The end of an epoch: a member takes no more requests, and says where it has ended once that is in its log and its table.
//!
//! # Caveats
//!
//! Members are not brought together at the end: each ends with what it has. So a shard whose members may differ is not handed over: the directory
//! refuses other protocols, other members and other bounds for it (`placement`). That the last vectors are waited for, and tables compared, as
//! [`quorum`](crate::quorum) does at its end, is what such a change would need.

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
        out.extend(reads.into_keys().map(|token| Output::Refuse { token, error: error.clone() }));
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
