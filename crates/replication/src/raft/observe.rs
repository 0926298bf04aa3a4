//! What a raft group's messages say and its records keep, for whoever watches: a simulation, a trace.

use bytes::Bytes;
use kv::{Index, ReplicaId, Term};

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
    /// The sender's term, or the one it asks to be elected for.
    pub term: Term,
    /// What is acknowledged, of an answer to entries; in [`Kind::Acknowledged`] how far the log goes.
    pub index: Index,
    /// Whether it says no.
    pub reject: bool,
    /// The leader itself asked for this election.
    pub forced: bool,
    /// Which round of reads; empty = none. A leader's own issues of it differ in their last 8 bytes.
    pub round: Bytes,
}

/// The message in [`crate::Output::Send`]'s body; `None` = it is none of a raft group.
pub fn message(body: &Bytes) -> Option<Message> {
    let Said { kind, from, to, term, at, reject, forced, round, .. } = Said::decode(body).ok()?;
    Some(Message { kind, from, to, term, index: at.index, reject, forced, round })
}

impl Message {
    /// Its round in a few words: who asked for it, its number, and the leader's number of the issue.
    pub fn round_text(&self) -> String {
        let number = |place: usize| {
            let bytes = self.round.get(place * 8..place * 8 + 8)?.try_into().ok()?;
            Some(u64::from_be_bytes(bytes))
        };
        let dotted = |place| number(place).map_or_else(String::new, |number| format!(".{number}"));
        number(0).map_or_else(String::new, |node| format!(" {node}{}{}", dotted(2), dotted(3)))
    }
}
