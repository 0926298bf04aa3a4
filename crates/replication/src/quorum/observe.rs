//! What the messages of a quorum shard say, for whoever watches: a simulation, a trace.

use bytes::Bytes;
use kv::merged::Row;

use super::message::{Message as Said, Said as Kind};

/// A message, as far as it promises something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Rows to merge.
    Store(Vec<Row>),
    /// They are merged, durably.
    Stored,
    /// A question, or what was found.
    Other,
}

/// The message in [`crate::Output::Send`]'s body; `None` = it is none of a quorum shard.
pub fn message(body: &Bytes) -> Option<Message> {
    Some(match Said::decode(body).ok()?.said {
        Kind::Store(rows) => Message::Store(rows),
        Kind::Stored => Message::Stored,
        _ => Message::Other,
    })
}
