//! What the messages of a primary's shard say, for whoever watches: a simulation, a trace.

use bytes::Bytes;
use kv::{Index, Position, ReplicaId, Term};

pub use super::message::Kind;
use super::message::Message as Said;
use crate::Instant;

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
    /// It asks for a promise not to take over, or gives it: when it was asked for, by the clock of who asked.
    pub promises: Option<Instant>,
    /// It asks for a lease to read under, or gives it: likewise.
    pub lends: Option<Instant>,
}

/// The message in [`crate::Output::Send`]'s body; `None` = it is none of a primary's shard.
pub fn message(body: &Bytes) -> Option<Message> {
    let Said { kind, from, to, term, at, commit, beat, lease, .. } = Said::decode(body).ok()?;
    let (promises, lends) = (beat.map(|asked| asked.at), lease.map(|asked| asked.at));
    Some(Message { kind, from, to, term, at, commit, promises, lends })
}
