//! The decoders of this crate as plain functions over bytes, for the crate `fuzz`, and sound bytes to begin with.

use bytes::{Bytes, BytesMut};
use kv::ShardId;
use kv::fuzz::round_trip;
use node::SnapshotPart;

use super::{bulk, framing};

pub use crate::folder::fuzz::{identity, identity_samples, peers, peers_samples};

/// A stream of frames: the same frames come out of it in whatever pieces it arrives.
pub fn frames(bytes: &[u8]) {
    let whole = take(&[bytes]);
    let mut again = BytesMut::new();
    whole.0.iter().for_each(|frame| framing::put(&mut again, frame));
    assert!(bytes.starts_with(&again), "frames put again are the stream up to where it stops");
    for cut in [1, bytes.len() / 2, bytes.len().saturating_sub(1)] {
        let (one, other) = bytes.split_at(cut.min(bytes.len()));
        assert_eq!(take(&[one, other]), whole, "cut at {cut}");
    }
}

/// The frames of a stream in pieces, and whether it was refused.
fn take(pieces: &[&[u8]]) -> (Vec<Bytes>, bool) {
    let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match framing::take(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

/// A piece of a snapshot.
pub fn bulk(bytes: &[u8]) {
    let decode = |bytes: &Bytes| bulk::decode(bytes.clone()).map(|(shard, part)| bulk::encode(shard, &part));
    round_trip(bytes, decode, Bytes::clone);
}

/// Streams: whole, and cut within a frame.
pub fn frames_samples() -> Vec<Bytes> {
    let mut whole = BytesMut::new();
    for frame in [&b"one"[..], b"", &[7; 300]] {
        framing::put(&mut whole, frame);
    }
    let whole = whole.freeze();
    vec![whole.slice(..whole.len() - 2), whole]
}

/// Pieces of every kind.
pub fn bulk_samples() -> Vec<Bytes> {
    let body = Bytes::from_static(b"body");
    let parts = [SnapshotPart::Begin(body.clone()), SnapshotPart::Chunk(body), SnapshotPart::End];
    parts.iter().map(|part| bulk::encode(ShardId(300), part)).collect()
}
