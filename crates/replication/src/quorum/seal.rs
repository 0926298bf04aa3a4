//! The end of an epoch at one member: it answers nothing of the epoch any more.
//!
//! From the moment it is asked it takes no request, no look and no store. Once the log says so, and the table has what was appended before, the
//! owner hears where it ended. Each member is sealed for itself; how many it takes is for whoever asks: when those that are sealed weigh more
//! than the total less W, every row that was acknowledged is at one of them, and no other will be; more than the total less R, and no
//! read is answered any more.

use kv::{Epoch, Error, Position};

use super::Quorum;
use super::rounds::{Ask, Task};
use crate::record::Record;
use crate::{Output, Ticket, Token};

/// It answers nothing more.
#[derive(Clone, Copy, Debug)]
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
        Seal { next, unsynced: None, is_said: false }
    }

    /// All appends up to this ticket are synced.
    pub(super) fn synced(&mut self, ticket: Ticket) {
        self.unsynced.take_if(|own| *own <= ticket);
    }
}

impl Quorum {
    /// The shard goes on in a later epoch.
    pub(super) fn end_epoch(&mut self, next: Epoch, out: &mut Vec<Output>) {
        assert!(next > self.view.epoch, "a shard goes on in a later epoch");
        if let Some(seal) = &mut self.seal {
            seal.is_said = false;
            return;
        }
        self.turn_reads_away(out);
        self.turn_writes_away(out);
        for round in Vec::from_iter(self.rounds.drain()) {
            match round.task {
                Task::Write(write) => self.break_off(&write, matches!(round.ask, Ask::Store(_)), out),
                Task::Read(read) => out.extend(read.tokens().map(elsewhere)),
                Task::Hint | Task::Repair(_) | Task::Collect(_) => {}
            }
        }
        self.drop_stores();
        let mut records = self.take_notes();
        records.push(Record::Seal(next).encode(self.head()));
        let ticket = self.append_records(records, out);
        self.seal = Some(Seal { next, unsynced: Some(ticket), is_said: false });
    }

    /// Says that it is sealed, once that is so for the log and the table.
    pub(super) fn say_sealed(&mut self, out: &mut Vec<Output>) {
        let (applied, last) = (self.journal.applied(), self.journal.last());
        let Some(seal) = &mut self.seal else { return };
        if seal.unsynced.is_none() && applied == last && !std::mem::replace(&mut seal.is_said, true) {
            let at: Position = self.journal.applied_at();
            out.push(Output::Sealed { at });
        }
    }
}

/// Another replica serves this, or will.
pub(super) fn elsewhere(token: Token) -> Output {
    Output::Refuse { token, error: Error::WrongNode { try_next: None } }
}
