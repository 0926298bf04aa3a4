//! How an epoch ends: nothing more is ordered, and others go on with the shard.
//!
//! The end is an entry like any other, so it is where all that are in sync have it. Who has it in its log refuses what is proposed and
//! read: agreed on or not, it may be the end. Behind it stand only the empty entries with which later primaries open their terms:
//! nobody is given those. Once it is agreed on, that is written down.

use bytes::{Bytes, BytesMut};
use kv::codec::put_uint;
use kv::{Epoch, Error, Position};

use super::replica::Primary;
use crate::entries::SEAL;
use crate::record::Record;
use crate::{Output, Ticket, Token};

/// What a replica knows of the end of its epoch.
#[derive(Debug, Default)]
pub(super) struct Seal {
    /// As the primary: it is to end the epoch, and has not appended that yet.
    wanted: Option<Epoch>,
    /// It is agreed on.
    end: Option<End>,
}

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

impl Seal {
    /// As the log has it.
    pub(super) fn recovered(sealed: Option<(Position, Epoch)>, applied: Position) -> Seal {
        // Where the entry is not applied it is in the log, and comes again.
        let end = sealed.filter(|(at, _)| *at <= applied);
        Seal { wanted: None, end: end.map(|(at, next)| End { at, next, unsynced: None, is_said: false }) }
    }

    /// All appends up to this ticket are synced.
    pub(super) fn synced(&mut self, ticket: Ticket) {
        if let Some(end) = &mut self.end {
            end.unsynced.take_if(|own| *own <= ticket);
        }
    }

    /// Where the epoch ended, if that is agreed on.
    pub(super) fn end(&self) -> Option<End> {
        self.end
    }

    /// Another orders: whoever does is asked again.
    pub(super) fn forget_wanted(&mut self) {
        self.wanted = None;
    }
}

impl Primary {
    /// The shard is to go on in a later epoch. For the primary, which is asked again and again.
    pub(super) fn seal(&mut self, next: Epoch) {
        assert!(next > self.view.epoch, "a shard goes on in a later epoch");
        if let Some(end) = &mut self.seal.end {
            end.is_said = false;
        } else if self.order.is_some() && !self.is_sealed() {
            self.seal.wanted = Some(next);
            self.wake();
        }
    }

    /// Whether this may be the end of its epoch: it has the entry, be it agreed on or not.
    pub(super) fn is_sealed(&self) -> bool {
        self.seal.end.is_some() || self.log.is_sealed()
    }

    /// Whether an entry stands behind the end of the epoch: then it is nobody's.
    pub(super) fn is_behind_the_end(&self, at: Position) -> bool {
        self.seal.end.is_some_and(|end| at.index > end.at.index)
    }

    /// The entry that ends the epoch is agreed on.
    pub(super) fn end_epoch(&mut self, at: Position, next: Epoch, out: &mut Vec<Output>) {
        let ticket = self.append(vec![Record::Sealed(at, next)], out);
        self.seal.end = Some(End { at, next, unsynced: Some(ticket), is_said: false });
    }

    /// A snapshot is taken, with this append: the record that says that it is of the end, if it is.
    pub(super) fn take_end(&mut self, at: Position, seal: Option<Epoch>, ticket: Ticket) -> Option<Bytes> {
        let next = seal?;
        self.seal.end = Some(End { at, next, unsynced: Some(ticket), is_said: false });
        Some(Record::Sealed(at, next).encode(self.head()))
    }

    /// Appends the end, if that is wanted and can be; says that the epoch has ended, once that is so for the log and the table; and
    /// turns away who reads here.
    pub(super) fn settle_seal(&mut self, out: &mut Vec<Output>) {
        let is_open = self.order.as_ref().is_some_and(|order| order.opened.is_some());
        if let Some(next) = self.seal.wanted.filter(|_| is_open && !self.is_sealed()) {
            self.seal.wanted = None;
            let mut data = BytesMut::new();
            put_uint(&mut data, next.0);
            self.order_entry(SEAL, data.freeze(), out);
            out.extend(self.batch.drain().map(sealed));
            self.work_in_order(out);
        }
        if self.is_sealed() {
            out.extend(self.reads.drain().map(sealed));
        }
        let applied = self.applied.index;
        let Some(end) = &mut self.seal.end else { return };
        if end.unsynced.is_none() && applied >= end.at.index && !std::mem::replace(&mut end.is_said, true) {
            out.push(Output::Sealed { at: end.at });
        }
    }
}

/// Whoever goes on with the shard serves this.
pub(super) fn sealed(token: Token) -> Output {
    Output::Refuse { token, error: Error::WrongNode { try_next: None } }
}
