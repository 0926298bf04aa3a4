//! The decoders of this module as plain functions over bytes, for the crate `fuzz`, and sound bytes to begin with.

use bytes::Bytes;
use kv::fuzz::round_trip;
use kv::{Epoch, Index, Position, Term};

use super::message::{Hello, Message};
use crate::entries::{LogEntry, OPS};

/// A message of a two-phase shard.
pub fn message(bytes: &[u8]) {
    if let Some(message) = round_trip(bytes, Message::decode, Message::encode) {
        let _ = (message.is_sound(Epoch(1)), message.to_string());
    }
}

/// What a replica of a two-phase shard says first.
pub fn hello(bytes: &[u8]) {
    round_trip(bytes, Hello::decode, |hello| hello.encode());
}

/// Messages of every kind.
pub fn message_samples() -> Vec<Bytes> {
    let entry = |index, term| LogEntry {
        index: Index(index),
        term: Term(term),
        kind: OPS,
        data: kv::Entry::encode(kv::Version::ZERO, &[]),
    };
    let prepare = |entries| Message::Prepare {
        life: Term(5),
        before: Position::new(300, 4),
        decided: Index(299),
        entries,
    };
    let vote = |lacks| Message::Vote { life: Term(5), synced: Index(301), decided: Index(300), lacks };
    [prepare(vec![entry(301, 4), entry(302, 5)]), prepare(Vec::new()), vote(false), vote(true)]
        .map(|message| message.encode())
        .to_vec()
}

/// Hellos.
pub fn hello_samples() -> Vec<Bytes> {
    [0, 300].map(|decided| Hello { life: Term(5), decided: Index(decided) }.encode()).to_vec()
}
