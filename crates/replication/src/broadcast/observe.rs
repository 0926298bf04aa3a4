//! What the messages of a broadcast shard say, for whoever watches: a simulation, a trace.

use bytes::Bytes;
use kv::merged::Row;

use super::message::Message as Said;

/// A message, as far as it promises something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Rows that a member made, and has durably.
    Rows(Vec<Row>),
    /// What a member has, a question, or an answer.
    Other,
}

/// The message in [`crate::Output::Send`]'s or [`crate::Output::Publish`]'s body; `None` = it is none of a broadcast shard.
pub fn message(body: &Bytes) -> Option<Message> {
    Some(match Said::decode(body).ok()? {
        Said::Rows { link, .. } => Message::Rows(link.rows),
        _ => Message::Other,
    })
}
