//! Snapshots on their way, a piece at a time.

use node::wire::Copied;
use node::{Input, SnapshotPart};

use super::{Cluster, SentSnapshot};

impl Cluster {
    /// Has a piece arrive of each snapshot that was sent; those to and from who is cut off break.
    pub fn stream_snapshots(&mut self) {
        for (stream, taken) in std::mem::take(&mut self.taken) {
            self.snapshot_taken(stream, taken);
        }
        for sent in std::mem::take(&mut self.snapshots) {
            let (to, from, shard) = (sent.to, sent.from, sent.shard);
            if self.cut.contains(&to) || self.cut.contains(&from) {
                self.input(from, Input::SnapshotSent { shard, to, arrived: false });
                continue;
            }
            let part = SnapshotPart::Begin(sent.header.clone());
            self.clients += 1;
            self.streams.insert(self.clients, sent);
            self.input(to, Input::Snapshot { stream: self.clients, from, shard, part });
        }
    }

    /// A piece of a snapshot was taken, or not: the next one is sent, until the end.
    pub(super) fn snapshot_taken(&mut self, stream: u64, taken: bool) {
        let Some(mut sent) = self.streams.remove(&stream) else { return };
        let SentSnapshot { from, to, shard, .. } = sent;
        let ended = sent.ended;
        if !taken || ended {
            return self.input(from, Input::SnapshotSent { shard, to, arrived: taken });
        }
        let total = sent.snapshot.bytes().unwrap();
        let chunk = sent.snapshot.next_chunk(1 << 16).unwrap();
        sent.done += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        let copied = Copied { done: sent.done.min(total), total };
        self.input(from, Input::SnapshotProgress { shard, to, copied });
        sent.ended = chunk.is_none();
        let part = chunk.map_or(SnapshotPart::End, SnapshotPart::Chunk);
        self.streams.insert(stream, sent);
        self.input(to, Input::Snapshot { stream, from, shard, part });
    }
}
