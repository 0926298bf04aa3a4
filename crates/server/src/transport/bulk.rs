//! Snapshots between nodes, on connections of their own.
//!
//! The sender says which shard and gives the header, then pieces, then the end; after each the receiver answers with one
//! byte, 1 to go on and 0 to stop. So a slow disk holds the sender back, and the answer to the end says that the snapshot
//! is in use there.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use kv::codec::{self, Malformed};
use kv::{NodeId, ShardId};
use node::identity::Purpose;
use node::wire::Copied;
use node::{Input, SnapshotPart};
use storage::ShardSnapshot;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::{Shared, framing, malformed, outgoing};

/// Size of a piece: large enough for a disk, small enough not to hold up a turn of the table.
const CHUNK_BYTES: usize = 256 << 10;
/// It is said how far a snapshot is whenever so many more bytes were sent.
const PROGRESS_BYTES: u64 = 4 << 20;
/// How long the receiver may take for one piece.
const ANSWER: Duration = Duration::from_secs(30);

/// Sends a snapshot and tells the driver how it ended.
pub(super) async fn send(
    shared: Arc<Shared>,
    shard: ShardId,
    to: NodeId,
    header: Bytes,
    snapshot: Box<ShardSnapshot>,
) {
    let sent = tokio::select! {
        sent = send_parts(&shared, shard, to, header, snapshot) => sent,
        () = shared.faults.cut_off(to) => Err(outgoing::cut_off()),
    };
    if let Err(error) = &sent {
        tracing::warn!(%shard, node = %to, %error, "a snapshot did not arrive");
    }
    shared.inboxes.input(Input::SnapshotSent { shard, to, arrived: sent.is_ok() });
}

async fn send_parts(
    shared: &Shared,
    shard: ShardId,
    to: NodeId,
    header: Bytes,
    snapshot: Box<ShardSnapshot>,
) -> io::Result<()> {
    let address = shared.identities.address(to).ok_or(io::ErrorKind::NotFound)?;
    let (reader, writer, _) = outgoing::connect(shared, to, &address, Purpose::Bulk).await?;
    let mut link = Sender { reader, writer };
    link.part(&encode(shard, &SnapshotPart::Begin(header))).await?;
    // Reading the table's files may block: not on the core.
    let read = tokio::task::spawn_blocking(move || (snapshot.bytes(), snapshot));
    let (total, mut snapshot) = read.await.map_err(io::Error::other)?;
    let total = total.map_err(|error| io::Error::other(error.to_string()))?;
    let (mut bytes, mut told) = (0u64, None);
    loop {
        if told.is_none_or(|told| bytes >= told + PROGRESS_BYTES) {
            told = Some(bytes);
            let copied = Copied { done: bytes.min(total), total };
            shared.inboxes.input(Input::SnapshotProgress { shard, to, copied });
        }
        let read = tokio::task::spawn_blocking(move || (snapshot.next_chunk(CHUNK_BYTES), snapshot));
        let (chunk, rest) = read.await.map_err(io::Error::other)?;
        snapshot = rest;
        let Some(chunk) = chunk.map_err(|error| io::Error::other(error.to_string()))? else { break };
        bytes += chunk.len() as u64;
        let wait = shared.rate.lock().expect(UNPOISONED_RATE).take(chunk.len(), Instant::now());
        sleep(wait).await;
        link.part(&encode(shard, &SnapshotPart::Chunk(chunk))).await?;
    }
    let copied = Copied { done: total, total };
    shared.inboxes.input(Input::SnapshotProgress { shard, to, copied });
    link.part(&encode(shard, &SnapshotPart::End)).await?;
    tracing::info!(%shard, node = %to, bytes, "sent a snapshot");
    Ok(())
}

struct Sender {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
}

impl Sender {
    async fn part(&mut self, part: &[u8]) -> io::Result<()> {
        let mut buffer = BytesMut::with_capacity(part.len() + 4);
        framing::put(&mut buffer, part);
        self.writer.write_all_buf(&mut buffer).await?;
        match timeout(ANSWER, self.reader.read_u8()).await.map_err(|_| io::ErrorKind::TimedOut)?? {
            1 => Ok(()),
            _ => Err(io::Error::other("the other node does not want it now")),
        }
    }
}

/// Takes a snapshot in, piece by piece, as the driver takes it.
pub(super) async fn receive(
    from: NodeId,
    mut frames: framing::Reader<OwnedReadHalf>,
    mut writer: OwnedWriteHalf,
    shared: &Shared,
) -> io::Result<()> {
    let (sender, mut answers) = mpsc::unbounded_channel();
    let mut stream = Stream { number: crate::random(), from, shard: None, shared };
    stream.shared.streams.lock().expect(UNPOISONED).insert(stream.number, sender);
    while let Some(frame) = frames.next().await? {
        let (shard, part) = decode(frame).map_err(malformed)?;
        let end = matches!(part, SnapshotPart::End);
        stream.shard = Some(shard);
        stream.input(shard, part);
        let taken = timeout(ANSWER, answers.recv()).await.map_err(|_| io::ErrorKind::TimedOut)?;
        writer.write_u8(u8::from(taken == Some(true))).await?;
        if end || taken != Some(true) {
            break;
        }
    }
    Ok(())
}

const UNPOISONED_RATE: &str = "no holder of the rate panics";
const UNPOISONED: &str = "no holder of the streams panics";

/// A snapshot that comes in. However it ends, the driver hears of it.
struct Stream<'a> {
    number: u64,
    from: NodeId,
    /// Known from the first piece on.
    shard: Option<ShardId>,
    shared: &'a Shared,
}

impl Stream<'_> {
    fn input(&self, shard: ShardId, part: SnapshotPart) {
        let (stream, from) = (self.number, self.from);
        self.shared.inboxes.input(Input::Snapshot { stream, from, shard, part });
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        self.shared.streams.lock().expect(UNPOISONED).remove(&self.number);
        if let Some(shard) = self.shard {
            self.input(shard, SnapshotPart::Broken);
        }
    }
}

/// The frame of a piece.
pub(super) fn encode(shard: ShardId, part: &SnapshotPart) -> Bytes {
    let (tag, body): (u8, &[u8]) = match part {
        SnapshotPart::Begin(header) => (1, header),
        SnapshotPart::Chunk(chunk) => (2, chunk),
        SnapshotPart::End => (3, &[]),
        SnapshotPart::Broken => (4, &[]),
    };
    let mut into = BytesMut::with_capacity(body.len() + 8);
    into.put_u8(tag);
    codec::put_uint(&mut into, u64::from(shard.0));
    into.put_slice(body);
    into.freeze()
}

/// The piece in a frame.
pub(super) fn decode(bytes: Bytes) -> Result<(ShardId, SnapshotPart), Malformed> {
    let mut reader = codec::Reader::new(bytes);
    let tag = reader.u8()?;
    let shard = ShardId(reader.u32()?);
    let part = match tag {
        1 => SnapshotPart::Begin(reader.rest()),
        2 => SnapshotPart::Chunk(reader.rest()),
        3 => SnapshotPart::End,
        _ => return Err(Malformed("a piece of a snapshot has an unknown tag")),
    };
    Ok((shard, part))
}
