//! What raft's replicas say to each other, as far as it promises something: as the frames pass.

use bytes::Bytes;
use kv::ShardId;
pub(crate) use replication::raft::observe::{Kind, Message};

/// The message in a frame between nodes, if it is one.
pub(crate) fn in_frame(frame: &Bytes) -> Option<(ShardId, Message)> {
    let (shard, body) = node::observe::message(frame)?;
    Some((shard, replication::raft::observe::message(&body)?))
}
