//! Snapshots between nodes, piece by piece.

use std::collections::BTreeMap;

use bytes::Bytes;
use kv::{NodeId, ShardId};
use node::wire::Copied;
use node::{Input, SnapshotPart};
use storage::ShardSnapshot;

const CHUNK_BYTES: usize = 1 << 16;

/// A snapshot on its way.
pub struct SentSnapshot {
    pub from: NodeId,
    pub to: NodeId,
    pub shard: ShardId,
    pub header: Bytes,
    pub snapshot: Box<ShardSnapshot>,
}

/// Those that arrive.
#[derive(Default)]
pub struct Streams {
    open: BTreeMap<u64, Stream>,
    /// The streams whose last piece was taken, or not.
    taken: Vec<(u64, bool)>,
    begun: u64,
}

struct Stream {
    sent: SentSnapshot,
    /// Bytes that were sent.
    done: u64,
    ended: bool,
}

impl Streams {
    /// A snapshot begins to arrive: what its node is given.
    pub fn begin(&mut self, sent: SentSnapshot) -> (NodeId, Input) {
        self.begun += 1;
        let (stream, part) = (self.begun, SnapshotPart::Begin(sent.header.clone()));
        let input = Input::Snapshot { stream, from: sent.from, shard: sent.shard, part };
        let to = sent.to;
        self.open.insert(stream, Stream { sent, done: 0, ended: false });
        (to, input)
    }

    /// A node says of a piece that it was taken, or not.
    pub fn taken(&mut self, stream: u64, taken: bool) {
        self.taken.push((stream, taken));
    }

    /// The next piece of each of those whose last one was taken: what nodes are given.
    pub fn go_on(&mut self) -> Vec<(NodeId, Input)> {
        let taken = std::mem::take(&mut self.taken);
        taken.into_iter().flat_map(|(stream, taken)| self.next(stream, taken)).collect()
    }

    /// A node ended, and its streams with it: what those at the other end are given.
    pub fn broken(&mut self, node: NodeId) -> Vec<(NodeId, Input)> {
        let mut inputs = Vec::new();
        self.open.retain(|stream, open| {
            let SentSnapshot { from, to, shard, .. } = open.sent;
            if from == node {
                inputs
                    .push((to, Input::Snapshot { stream: *stream, from, shard, part: SnapshotPart::Broken }));
            } else if to == node {
                inputs.push((from, Input::SnapshotSent { shard, to, arrived: false }));
            }
            from != node && to != node
        });
        inputs
    }

    fn next(&mut self, stream: u64, taken: bool) -> Vec<(NodeId, Input)> {
        let Some(mut open) = self.open.remove(&stream) else { return Vec::new() };
        let SentSnapshot { from, to, shard, .. } = open.sent;
        if !taken || open.ended {
            return vec![(from, Input::SnapshotSent { shard, to, arrived: taken })];
        }
        let total = open.sent.snapshot.bytes().unwrap();
        let chunk = open.sent.snapshot.next_chunk(CHUNK_BYTES).unwrap();
        open.done += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        open.ended = chunk.is_none();
        let copied = Copied { done: open.done.min(total), total };
        let part = chunk.map_or(SnapshotPart::End, SnapshotPart::Chunk);
        self.open.insert(stream, open);
        let progress = (from, Input::SnapshotProgress { shard, to, copied });
        vec![progress, (to, Input::Snapshot { stream, from, shard, part })]
    }
}
