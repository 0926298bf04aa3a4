//! What raft's replicas say to each other, as far as it promises something: read from the frames as they pass.

use bytes::Bytes;
use kv::ShardId;
use kv::codec::{Malformed, Reader};

/// The first byte of frames of a protocol (`node::wire`).
const PROTOCOL_TAG: u8 = 1;

/// A message of a raft group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub kind: Kind,
    /// The sender's term, or the one it asks to be elected for.
    pub term: u64,
    /// What is acknowledged, of an answer to entries.
    pub index: u64,
    pub reject: bool,
    /// The leader itself asked for this election.
    pub forced: bool,
    /// Which round of reads; empty = none.
    pub round: Bytes,
}

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    AppendResponse,
    Vote,
    VoteResponse,
    Heartbeat,
    HeartbeatResponse,
    TimeoutNow,
    PreVote,
    PreVoteResponse,
    Other,
}

impl Message {
    /// Its round in a few words: who asked for it, its number, and the leader's number of the issue (`replication`'s rounds).
    pub fn round_told(&self) -> String {
        let number = |from: usize| {
            let bytes = self.round.get(from..from + 8)?.try_into().ok()?;
            Some(format!(".{}", u64::from_be_bytes(bytes)))
        };
        let Some(id) = self.round.first_chunk() else { return String::new() };
        let (number, issue) = (number(16).unwrap_or_default(), number(24).unwrap_or_default());
        format!(" {}{number}{issue}", u64::from_be_bytes(*id))
    }

    /// The message in a frame between nodes, if it is one.
    pub fn in_frame(frame: &Bytes) -> Option<(ShardId, Message)> {
        (frame.first() == Some(&PROTOCOL_TAG)).then(|| read(frame).ok())?
    }
}

fn read(frame: &Bytes) -> Result<(ShardId, Message), Malformed> {
    let mut reader = Reader::new(frame.slice(1..));
    let (shard, _epoch) = (ShardId(reader.u32()?), reader.uint()?);
    let (tag, flags) = (reader.u8()?, reader.u8()?);
    let kind = match tag {
        2 => Kind::AppendResponse,
        3 => Kind::Vote,
        4 => Kind::VoteResponse,
        5 => Kind::Heartbeat,
        6 => Kind::HeartbeatResponse,
        7 => Kind::TimeoutNow,
        10 => Kind::PreVote,
        11 => Kind::PreVoteResponse,
        _ => Kind::Other,
    };
    let (_from, _to, term, index) = (reader.uint()?, reader.uint()?, reader.uint()?, reader.uint()?);
    for _index_term_commit_commit_term_hint in 0..4 {
        reader.uint()?;
    }
    let round = reader.bytes()?;
    Ok((shard, Message { kind, term, index, reject: flags & 1 != 0, forced: flags & 2 != 0, round }))
}
