//! What the messages of a two-phase shard say, for whoever watches: a simulation, a trace.

use bytes::Bytes;
use kv::{Index, Term};

use super::message::Message as Said;

/// A message, as far as it promises something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Entries to prepare.
    Prepare {
        /// In which life of the master.
        life: Term,
        /// So far entries are decided.
        decided: Index,
    },
    /// A vote.
    Vote {
        /// For which life of the master.
        life: Term,
        /// Its sender has synced all entries up to here.
        synced: Index,
    },
}

/// The message in [`crate::Output::Send`]'s body; `None` = it is none of a two-phase shard.
pub fn message(body: &Bytes) -> Option<Message> {
    Some(match Said::decode(body).ok()? {
        Said::Prepare { life, decided, .. } => Message::Prepare { life, decided },
        Said::Vote { life, synced, .. } => Message::Vote { life, synced },
    })
}
