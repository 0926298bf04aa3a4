//! The decoders of this module as plain functions over bytes, for the crate `fuzz`, and sound bytes to begin with.

use bytes::Bytes;
use kv::fuzz::round_trip;
use kv::{Epoch, Index, NodeId, Position, ReplicaId, Term};

use super::message::{KINDS, Kind, Message};
use crate::entries::{LogEntry, OPS};
use crate::lease::Asked;
use crate::{Instant, Revision, View};

/// A message of a primary's shard.
pub fn message(bytes: &[u8]) {
    if let Some(message) = round_trip(bytes, Message::decode, Message::encode) {
        let _ = (message.is_sound(Epoch(1)), message.is_of_primary(), message.to_string());
    }
}

/// Messages of every kind.
pub fn message_samples() -> Vec<Bytes> {
    let asked = |at| Some(Asked { life: 1 << 40, at: Instant(at) });
    let entry = |index, term| LogEntry {
        index: Index(index),
        term: Term(term),
        kind: OPS,
        data: kv::Entry::encode(kv::Version::ZERO, &[]),
    };
    let of_kind = |kind| {
        let message = Message::new(kind, ReplicaId(1), ReplicaId(2), Term(5), Position::new(300, 4));
        let view = View { revision: Revision(5), ..View::of(Epoch(1), &[NodeId(1), NodeId(300)]) };
        let view = matches!(kind, Kind::Append | Kind::Snapshot | Kind::Stale).then_some(view);
        let entries = if kind == Kind::Append { vec![entry(301, 4), entry(302, 5)] } else { Vec::new() };
        let seal = (kind == Kind::Snapshot).then_some(Epoch(2));
        let (commit, hint) = (Index(299), Index(3));
        Message { commit, hint, beat: asked(3), lease: asked(300), view, seal, entries, ..message }.encode()
    };
    KINDS.map(of_kind).to_vec()
}
