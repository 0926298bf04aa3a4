//! How an epoch ends: its last entry is a seal, prepared and decided like any other, so every replica ends in the same state.
//!
//! - The master appends it when it is asked to and every participant is there; what comes from then on is refused as by one that is not
//!   the master. A life that begins before it is decided cuts it, and it is appended again.
//! - Who has it in its log answers no reads any more: decided or not, it may be the end, and others may go on from there. Where
//!   it is cut it was none.
//! - What stands behind it, the first entries of lives, is given to no table.
//! - Once it is decided, that is written down ([`Record::Sealed`]): a restarted replica knows it when the entry has gone from
//!   memory.

use bytes::{Bytes, BytesMut};
use kv::codec::put_uint;
use kv::{Epoch, Position};

use super::{Part, TwoPhase};
use crate::entries::SEAL;
use crate::record::Record;
use crate::{Output, Ticket, Token};

/// The end of an epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// The entry.
    pub(super) at: Position,
    /// In which epoch the shard goes on.
    pub(super) next: Epoch,
    /// The append that says so, until it is synced.
    unsynced: Option<Ticket>,
    is_said: bool,
}

impl End {
    /// As the log has it.
    pub(super) fn recovered(sealed: Option<(Position, Epoch)>, applied: Position) -> Option<End> {
        // Where the entry is not applied it is in the log, and comes again.
        let (at, next) = sealed.filter(|(at, _)| *at <= applied)?;
        Some(End { at, next, unsynced: None, is_said: false })
    }

    /// All appends up to this ticket are synced.
    pub(super) fn synced(&mut self, ticket: Ticket) {
        self.unsynced.take_if(|own| *own <= ticket);
    }
}

impl TwoPhase {
    /// Whether this may be the end of its epoch: it has the entry, decided or not.
    pub(super) fn is_sealed(&self) -> bool {
        self.end.is_some() || self.journal.log().is_sealed()
    }

    /// The shard is to go on in a later epoch. For the master, which is asked again and again.
    pub(super) fn want_seal(&mut self, next: Epoch) {
        assert!(next > self.view.epoch, "a shard goes on in a later epoch");
        if let Some(end) = &mut self.end {
            end.is_said = false;
        } else if let Part::Master(master) = &mut self.part {
            master.seal_wanted = Some(next);
        }
    }

    /// The entry that ends the epoch is decided.
    pub(super) fn end_epoch(&mut self, at: Position, next: Epoch, out: &mut Vec<Output>) {
        let record = Record::Sealed(at, next).encode(self.head());
        let ticket = self.journal.append(vec![record], out);
        self.end = Some(End { at, next, unsynced: Some(ticket), is_said: false });
    }

    /// Says that the epoch has ended, once that is so for the log and the table.
    pub(super) fn say_sealed(&mut self, out: &mut Vec<Output>) {
        let applied = self.journal.applied();
        let Some(end) = &mut self.end else { return };
        if end.unsynced.is_none() && applied >= end.at.index && !std::mem::replace(&mut end.is_said, true) {
            out.push(Output::Sealed { at: end.at });
        }
    }
}

/// The entry that ends an epoch: its kind, its data and whose it is.
pub(super) fn entry(next: Epoch) -> (u8, Bytes, Vec<Token>) {
    let mut data = BytesMut::new();
    put_uint(&mut data, next.0);
    (SEAL, data.freeze(), Vec::new())
}
