//! The decoders of this crate as plain functions over bytes, for the crate `fuzz`, and sound bytes to begin with.

use bytes::{Bytes, BytesMut};
use kv::fuzz::round_trip;
use kv::{ClusterId, NodeId, ShardId};
use node::SnapshotPart;

use super::hello::{Hello, Purpose, Welcome};
use super::{bulk, framing};

pub use crate::folder::fuzz::{identity, identity_samples, peers, peers_samples};

/// The first frame of a caller.
pub fn hello(bytes: &[u8]) {
    round_trip(bytes, |bytes| Hello::decode(bytes.clone()), Hello::encode);
}

/// The first frame of who is called.
pub fn welcome(bytes: &[u8]) {
    round_trip(bytes, |bytes| Welcome::decode(bytes.clone()), Welcome::encode);
}

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

/// Hellos.
pub fn hello_samples() -> Vec<Bytes> {
    let hello = |purpose| Hello {
        purpose,
        from: NodeId(3),
        name: "n3".into(),
        options: "nodes=n1,n2,n3 shards=4 history=1".into(),
        cluster: ClusterId::new(0xabc).filter(|_| purpose == Purpose::Bulk),
        incarnation: 7,
        newcomer: purpose == Purpose::Bulk,
        founding: purpose == Purpose::Ordered,
    };
    [Purpose::Ordered, Purpose::Bulk].map(|purpose| hello(purpose).encode()).to_vec()
}

/// Welcomes.
pub fn welcome_samples() -> Vec<Bytes> {
    let cluster = ClusterId::new(0xabc).expect("it is not 0");
    let welcomes = [
        Welcome::Yes { cluster, incarnation: 5, newcomer: true },
        Welcome::No("another data folder".into()),
        Welcome::Later("n1 founds the cluster".into()),
        Welcome::Stranger("another cluster".into()),
    ];
    welcomes.map(|welcome| welcome.encode()).to_vec()
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
