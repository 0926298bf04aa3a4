//! How an epoch ends: the group orders nothing more, and others go on with the shard.
//!
//! The end is an entry like any other ([`crate::Input::Seal`] asks the leader for it), so it is where a majority says it is, and all
//! replicas find it at the same place of the same log:
//!
//! ```text
//!   n1 (leads)   40  41  seal 42            42 is agreed on: the epoch has ended at 42, for ever
//!   n2           40  41  seal 42  43        n2 leads next: 43 is its empty entry, which nobody is given
//!   n3           40  41                     gets 42, or a snapshot that says that it ends an epoch
//! ```
//!
//! - Who has it in its log refuses what is proposed and read, as one that does not lead: agreed on or not, it may be the end, and
//!   others may go on from there. Where it is overwritten it was none, and the replica serves again.
//! - What stands behind it is not given to the table: every replica has the same state, that of the seal's place. Only leaders'
//!   empty entries stand there.
//! - Once it is agreed on, that is written down ([`Record::Sealed`]): a restarted replica knows it when the entry has gone from memory.
//! - The members do not change any more: it is not appended while they do.

use bytes::{Bytes, BytesMut};
use kv::codec::put_uint;
use kv::{Epoch, Error, Position};
use mutant::Mutant;

use super::message::Message;
use super::replica::Raft;
use crate::record::Record;
use crate::{Output, Ticket, Token};

/// What a replica knows of the end of its epoch.
#[derive(Debug, Default)]
pub(super) struct Seal {
    /// As a leader: it is to end the epoch, and has not appended that yet.
    wanted: Option<Epoch>,
    /// It is agreed on.
    end: Option<End>,
    /// A snapshot that is being taken stands there, and says so.
    coming: Option<(Position, Epoch)>,
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
        let end = end.map(|(at, next)| End { at, next, unsynced: None, is_said: false });
        Seal { end, ..Seal::default() }
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
}

impl Raft {
    /// The shard is to go on in a later epoch. For the leader, which is asked again and again.
    pub(super) fn seal(&mut self, next: Epoch) {
        assert!(next > self.core.head().epoch, "a shard goes on in a later epoch");
        if let Some(end) = &mut self.seal.end {
            end.is_said = false;
        } else if self.core.role() == kv::cluster::Role::Leader && !self.is_sealed() {
            self.seal.wanted = Some(next);
            self.wake();
        }
    }

    /// Whether this may be the end of its epoch: it has the entry, be it agreed on or not.
    pub(super) fn is_sealed(&self) -> bool {
        self.seal.end.is_some() || self.core.log().is_sealed()
    }

    /// Whether it refuses what is proposed.
    pub(super) fn orders_no_more(&self) -> bool {
        self.is_sealed() && !mutant::is(Mutant::SealedLeaderAcknowledges)
    }

    /// Another leads, or the term is another: whoever leads is asked again.
    pub(super) fn forget_wanted_seal(&mut self) {
        self.seal.wanted = None;
    }

    /// Appends the end of the epoch, if it is wanted and can be. Whether it was.
    pub(super) fn append_seal(&mut self, out: &mut Vec<Output>) -> bool {
        let Some(next) = self.seal.wanted.filter(|_| self.core.has_committed()) else { return false };
        if self.core.view().is_joint() || !self.core.may_change_members() {
            return false;
        }
        let mut data = BytesMut::new();
        put_uint(&mut data, next.0);
        if !self.core.propose_seal(data.freeze()) {
            return false;
        }
        (self.seal.wanted, self.wanted) = (None, None);
        self.lease.revoke();
        out.extend(self.batch.drain().map(sealed));
        true
    }

    /// The entry that ends the epoch is agreed on.
    pub(super) fn end_epoch(&mut self, at: Position, next: Epoch, out: &mut Vec<Output>) {
        let ticket = self.outbox.issue();
        self.seal.end = Some(End { at, next, unsynced: Some(ticket), is_said: false });
        let records = vec![self.core.commit_record(), Record::Sealed(at, next).encode(self.core.head())];
        out.push(Output::Append { ticket, records, install: false });
    }

    /// Whether an entry stands behind the end of the epoch: then it is nobody's.
    pub(super) fn is_behind_the_end(&self, at: Position) -> bool {
        let is_behind = self.seal.end.is_some_and(|end| at.index > end.at.index);
        is_behind && !mutant::is(Mutant::SealedLeaderAcknowledges)
    }

    /// A snapshot that comes may be of the end.
    pub(super) fn note_coming_end(&mut self, message: &Message) {
        self.seal.coming = message.seal.map(|next| (message.at, next));
    }

    /// A snapshot is taken, with this append: the record that says that it is of the end, if it is.
    pub(super) fn take_coming_end(&mut self, at: Position, ticket: Ticket) -> Option<Bytes> {
        let (of, next) = self.seal.coming.take().filter(|(of, _)| *of == at)?;
        self.seal.end = Some(End { at: of, next, unsynced: Some(ticket), is_said: false });
        Some(Record::Sealed(of, next).encode(self.core.head()))
    }

    /// Says that the epoch has ended, once that is so for the log and the table; and turns away who reads here.
    pub(super) fn say_sealed(&mut self, out: &mut Vec<Output>) {
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
