//! Snapshots between nodes: streams of their own, a piece at a time, each answered before the next, as in the server's
//! transport. A stream may break at any piece.

use bytes::Bytes;
use kv::{NodeId, ShardId};
use node::{Input, SnapshotPart};
use storage::ShardSnapshot;

use super::streams::Stream;
use crate::events::Event;
use crate::world::World;

/// How long a piece may take, as in the server.
const ANSWER_MICROS: u64 = 30_000_000;
/// A piece that cannot pass tries so often.
const POLL_MICROS: u64 = 50_000;

impl World {
    pub fn bulk_begin(
        &mut self,
        from: NodeId,
        to: NodeId,
        shard: ShardId,
        header: Bytes,
        snapshot: Box<ShardSnapshot>,
    ) {
        self.note("a snapshot was sent");
        if self.is_cut(from, to) || self.machine(to).process.is_none() || !self.connects_for_bulk(from, to) {
            return self.give(from, [Input::SnapshotSent { shard, to, arrived: false }]);
        }
        self.network.streams.opened += 1;
        let stream = self.network.streams.opened;
        self.trace(|| format!("{from} sends a snapshot of shard {shard} to {to} (stream {stream})"));
        let opened = Stream { from, to, shard, snapshot, step: 0, ended: false };
        self.network.streams.streams.insert(stream, opened);
        self.bulk_send(stream, SnapshotPart::Begin(header));
    }

    fn bulk_send(&mut self, stream: u64, part: SnapshotPart) {
        let breaks = self.random.permille(self.network.streams.breaks_permille);
        let delay = self.settings.network.draw(&mut self.random);
        let Some(open) = self.network.streams.streams.get_mut(&stream) else { return };
        open.step += 1;
        open.ended = matches!(part, SnapshotPart::End);
        let step = open.step;
        if breaks {
            self.note("a snapshot's stream broke");
            return self.bulk_end(stream, false);
        }
        self.events.after(delay, Event::Bulk { stream, step, part });
        self.events.after(ANSWER_MICROS, Event::BulkTimeout { stream, step });
    }

    /// A piece arrives.
    pub fn bulk_part(&mut self, stream: u64, step: u64, part: SnapshotPart) {
        let Some(open) = self.network.streams.streams.get(&stream).filter(|open| open.step == step) else {
            return;
        };
        let (from, to, shard) = (open.from, open.to, open.shard);
        if self.network.cuts.contains(&(from, to)) {
            return self.events.after(POLL_MICROS, Event::Bulk { stream, step, part });
        }
        self.trace(|| format!("stream {stream} step {step}: {}", name(&part)));
        self.give(to, [Input::Snapshot { stream, from, shard, part }]);
    }

    /// The driver's word on a piece.
    pub fn bulk_taken(&mut self, stream: u64, taken: bool) {
        let Some(open) = self.network.streams.streams.get(&stream) else { return };
        let step = open.step;
        self.trace(|| format!("stream {stream} step {step} taken: {taken}"));
        let delay = self.settings.network.draw(&mut self.random);
        self.events.after(delay, Event::BulkAnswer { stream, step, taken });
    }

    /// It arrives at the sender.
    pub fn bulk_answer(&mut self, stream: u64, step: u64, taken: bool) {
        let chunk_bytes = self.settings.chunk_bytes;
        let Some(open) = self.network.streams.streams.get_mut(&stream).filter(|open| open.step == step)
        else {
            return;
        };
        if self.network.cuts.contains(&(open.to, open.from)) {
            return self.events.after(POLL_MICROS, Event::BulkAnswer { stream, step, taken });
        }
        if !taken || open.ended {
            return self.bulk_end(stream, taken);
        }
        match open.snapshot.next_chunk(chunk_bytes) {
            Ok(Some(chunk)) => self.bulk_send(stream, SnapshotPart::Chunk(chunk)),
            Ok(None) => self.bulk_send(stream, SnapshotPart::End),
            Err(error) => panic!("the engine in memory reads: {error}"),
        }
    }

    pub fn bulk_timeout(&mut self, stream: u64, step: u64) {
        if self.network.streams.streams.get(&stream).is_some_and(|open| open.step == step) {
            self.note("a snapshot's stream timed out");
            self.bulk_end(stream, false);
        }
    }

    /// Both ends learn that a stream is over.
    fn bulk_end(&mut self, stream: u64, arrived: bool) {
        let Some(open) = self.network.streams.streams.remove(&stream) else { return };
        let Stream { from, to, shard, .. } = open;
        self.trace(|| format!("stream {stream} ends, arrived: {arrived}"));
        self.give(from, [Input::SnapshotSent { shard, to, arrived }]);
        self.give(to, [Input::Snapshot { stream, from, shard, part: SnapshotPart::Broken }]);
    }

    /// A process ended: so do its streams.
    pub fn bulk_ended(&mut self, id: NodeId) {
        let streams = self.network.streams.streams.iter();
        let touched = streams.filter(|(_, open)| open.from == id || open.to == id).map(|(stream, _)| *stream);
        for stream in Vec::from_iter(touched) {
            self.bulk_end(stream, false);
        }
    }
}

fn name(part: &SnapshotPart) -> &'static str {
    match part {
        SnapshotPart::Begin(_) => "begin",
        SnapshotPart::Chunk(_) => "chunk",
        SnapshotPart::End => "end",
        SnapshotPart::Broken => "broken",
    }
}
