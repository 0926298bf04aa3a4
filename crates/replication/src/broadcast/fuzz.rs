//! The decoder of this module as a plain function over bytes, for the crate `fuzz`, and sound bytes to begin with.

use bytes::Bytes;
use kv::fuzz::round_trip;
use kv::merged::{Found, Look, Row};
use kv::{ReplicaId, Version};

use super::message::{Link, Message};

/// A message of a broadcast shard; what a member says first is one.
pub fn message(bytes: &[u8]) {
    if let Some(message) = round_trip(bytes, Message::decode, Message::encode) {
        let _ = message.to_string();
    }
}

/// Messages of every kind.
pub fn message_samples() -> Vec<Bytes> {
    let (origin, previous, upto) =
        (ReplicaId(2), Version::new(9, ReplicaId(2)), Version::new(1_000_000, ReplicaId(2)));
    let row = Row::tombstone("key".into(), upto, None);
    let have = [(origin, upto)].into_iter().collect();
    let found = Found::Rows { rows: vec![row.clone()], next: Some("key".into()) };
    [
        Message::Rows { origin, link: Link { previous, upto, rows: vec![row] } },
        Message::Vector { have, asks: true },
        Message::Fetch { origin, after: previous },
        Message::Sent { origin },
        Message::Gone { origin },
        Message::Look { number: 7, what: Look::Keys(vec!["key".into()]) },
        Message::Found { number: 7, found, have: [(origin, upto)].into_iter().collect() },
    ]
    .map(|message| message.encode())
    .to_vec()
}
