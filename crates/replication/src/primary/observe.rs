//! What the messages of a primary's shard say, for whoever watches: a simulation, a trace.

use bytes::Bytes;
use kv::{Index, Position, ReplicaId, Term};

pub use super::message::Kind;
use super::message::Message as Said;

/// A message, as far as it promises something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is for.
    pub kind: Kind,
    /// Which replica says it.
    pub from: ReplicaId,
    /// To which.
    pub to: ReplicaId,
    /// The sender's term.
    pub term: Term,
    /// What is synced, of an acknowledgement; else the entry before those that come.
    pub at: Position,
    /// Agreed on up to here.
    pub commit: Index,
    /// It holds, or asks for, a promise not to take over.
    pub promises: bool,
    /// It holds, or asks for, a lease to read under.
    pub lends: bool,
}

/// The message in [`crate::Output::Send`]'s body; `None` = it is none of a primary's shard.
pub fn message(body: &Bytes) -> Option<Message> {
    let Said { kind, from, to, term, at, commit, beat, lease, .. } = Said::decode(body).ok()?;
    Some(Message { kind, from, to, term, at, commit, promises: beat.is_some(), lends: lease.is_some() })
}
