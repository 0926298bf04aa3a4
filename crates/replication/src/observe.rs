//! What protocols write and say, for whoever watches from outside: a simulation, a trace, a test. Nobody decodes their bytes by
//! hand.
//!
//! Records of the ordered protocols (`single`, `raft`, `two-phase`) are the same; messages are each protocol's own
//! ([`crate::raft::observe`], [`crate::two_phase::observe`]).

use bytes::Bytes;
use kv::view::View;
use kv::{Epoch, Index, Position, Protocol, ReplicaId, Term, Version};

use crate::entries::OPS;
use crate::record::{self, State};

/// A record of a shard's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// An entry; it replaces what was at its index and behind.
    Entry(Position),
    /// What a replica must remember of its elections.
    State {
        /// The term it is in.
        term: Term,
        /// Which replica it voted for in it; 0 = none.
        vote: ReplicaId,
        /// Agreed on up to here.
        commit: Index,
    },
    /// A checkpoint.
    Base(Position),
    /// An installed snapshot: the log goes on behind it.
    Snapshot(Position),
    /// Who belongs to the shard.
    View,
    /// The number of the replica whose log it is.
    Replica,
    /// Nothing more is ordered in the record's epoch.
    Seal,
    /// The entry that ends the record's epoch is agreed on.
    Sealed(Position),
    /// Versions of its own are issued up to this one.
    Ceiling(Version),
    /// It has what others made.
    Vector,
}

/// A record with whose it is: an append's, as [`crate::Output::Append`] has it. `None` = it is none.
pub fn record(bytes: &Bytes) -> Option<(Protocol, Epoch, Record)> {
    let (head, record) = record::Record::decode(bytes).ok()?;
    let record = match record {
        record::Record::Entry(entry) => Record::Entry(entry.at()),
        record::Record::State(State { term, vote, commit }) => Record::State { term, vote, commit },
        record::Record::Base(at, _) => Record::Base(at),
        record::Record::Snapshot(at, _) => Record::Snapshot(at),
        record::Record::View(_) => Record::View,
        record::Record::Replica(_) => Record::Replica,
        record::Record::Seal(_) => Record::Seal,
        record::Record::Sealed(at, _) => Record::Sealed(at),
        record::Record::Ceiling(ceiling) => Record::Ceiling(ceiling),
        record::Record::Vector(_) => Record::Vector,
    };
    Some((head.protocol, head.epoch, record))
}

/// The [`kv::Entry`] bytes of an entry that a record holds; `None` = it holds none, or one of the protocol's own.
pub fn ops(bytes: &Bytes) -> Option<Bytes> {
    match record::Record::decode(bytes).ok()?.1 {
        record::Record::Entry(entry) if entry.kind == OPS => Some(entry.data),
        _ => None,
    }
}

/// Who belongs to the shard by a record: an entry that changes it, or one that tells it beside something else. `None` = it says nothing
/// of that.
pub fn members(bytes: &Bytes) -> Option<View> {
    match record::Record::decode(bytes).ok()?.1 {
        record::Record::Entry(entry) => entry.members().ok()?,
        record::Record::Base(_, view) | record::Record::Snapshot(_, view) | record::Record::View(view) => {
            Some(view)
        }
        _ => None,
    }
}

/// What a record says, for people.
pub fn describe(bytes: &Bytes) -> String {
    match record::Record::decode(bytes) {
        Ok((_, record)) => record.to_string(),
        Err(error) => error.to_string(),
    }
}
