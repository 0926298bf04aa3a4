//! The decoders of this module as plain functions over bytes, for the crate `fuzz`, and sound bytes to begin with.

use bytes::Bytes;
use kv::fuzz::round_trip;
use kv::merged::{Found, Look, Rank, Row};
use kv::{NodeId, ReplicaId, Version};

use super::message::{Message, Said, Step, Word};
use super::peers::{decode_hello, encode_hello};

/// A message of a quorum shard.
pub fn message(bytes: &[u8]) {
    if let Some(message) = round_trip(bytes, Message::decode, Message::encode) {
        let _ = message.to_string();
    }
}

/// What a member of a quorum shard says first.
pub fn hello(bytes: &[u8]) {
    round_trip(bytes, decode_hello, |life| encode_hello(*life));
}

/// Messages of every kind.
pub fn message_samples() -> Vec<Bytes> {
    let version = Version::new(1_000_000, ReplicaId(2));
    let row = Row::tombstone("key".into(), version, None);
    let name = (row.key.clone(), Rank::of(version, false));
    let found = Found::Rows { rows: vec![row.clone()], next: Some("key".into()) };
    [
        Said::Look(Look::Keys(vec!["key".into()])),
        Said::Inherit(Look::Tombstones { after: None }),
        Said::Store(vec![row]),
        Said::Close,
        Said::Collect(vec![name], vec![Word { node: NodeId(3), life: 7, round: 300 }]),
        Said::Found(found, version),
        Said::Stored,
        Said::Closed(300),
    ]
    .map(|said| Message { from: 7, to: 9, at: Step { round: 300, step: 2 }, said }.encode())
    .to_vec()
}

/// Hellos.
pub fn hello_samples() -> Vec<Bytes> {
    [0, u64::MAX].map(encode_hello).to_vec()
}
