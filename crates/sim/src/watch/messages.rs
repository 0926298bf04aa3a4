//! What raft's replicas say to each other, as far as it promises something: as the frames pass.

use bytes::Bytes;
use kv::{ShardId, Term};
use replication::primary;
pub(crate) use replication::raft::observe::{Kind, Message};

/// The message in a frame between nodes, if it is one.
pub(crate) fn in_frame(frame: &Bytes) -> Option<(ShardId, Message)> {
    let (shard, body) = node::observe::message(frame)?;
    let message = replication::raft::observe::message(&body).or_else(|| of_primary(&body))?;
    Some((shard, message))
}

/// The message of a primary's shard in a frame between nodes, if it is one.
pub(crate) fn of_primary_in_frame(frame: &Bytes) -> Option<(ShardId, primary::observe::Message)> {
    let (shard, body) = node::observe::message(frame)?;
    Some((shard, primary::observe::message(&body)?))
}

/// What a member of a primary's shard has synced promises the same as what a follower has.
fn of_primary(body: &Bytes) -> Option<Message> {
    let said = primary::observe::message(body).filter(|said| said.kind == primary::observe::Kind::Ack)?;
    Some(Message {
        kind: Kind::AppendResponse,
        from: said.from,
        to: said.to,
        // That is its directory's word, and no promise of who says it.
        term: Term::ZERO,
        index: said.at.index,
        reject: false,
        forced: false,
        round: Bytes::new(),
    })
}
