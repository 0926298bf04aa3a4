//! The streams of snapshots that are under way.

use std::collections::BTreeMap;

use kv::{NodeId, ShardId};
use storage::ShardSnapshot;

/// The streams under way.
#[derive(Default)]
pub(crate) struct Streams {
    pub(super) streams: BTreeMap<u64, Stream>,
    pub(super) opened: u64,
    /// In so many of 1000 pieces the stream breaks.
    pub breaks_permille: u64,
}

pub(super) struct Stream {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) shard: ShardId,
    pub(super) snapshot: Box<ShardSnapshot>,
    /// The piece under way, counted from 1.
    pub(super) step: u64,
    pub(super) ended: bool,
}
