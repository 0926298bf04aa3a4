//! Frames come out as they went in, whatever bytes come.

use kv::watch::{Change, Filter, What};
use kv::{Protocol, Version};
use placement::{Founder, Founding};

use super::*;
use crate::session::mix;
use crate::watch::Given;

fn greeting(shard: u32, hello: &'static [u8]) -> Greeting {
    Greeting { shard: ShardId(shard), epoch: Epoch(1), hello: Bytes::from_static(hello) }
}

fn map() -> Map {
    let founder = |name: &str| Founder { name: name.into(), peer: String::new() };
    let (nodes, protocol) = (vec![founder("n1"), founder("n2")], Protocol::Raft);
    Map::founding(&Founding { cluster: None, nodes, shards: 2, replicas: 2, protocol })
}

fn samples() -> Vec<Frame> {
    let replica = Announced {
        shard: ShardId(4),
        epoch: Epoch(2),
        revision: Revision(300),
        members: u64::MAX,
        newcomers: Newcomers::Gone,
        role: Role::Leader,
        leader: Some(NodeId(2)),
        term: 9,
        applied: 1 << 40,
        lease_reads: 1 << 30,
        usage: Default::default(),
        copied: vec![(NodeId(7), Copied { done: 300, total: 1 << 40 })],
        heirs: vec![NodeId(300)],
    };
    let mut announcement =
        Announcement { pid: 77, address: "127.0.0.1:7401".into(), ..Announcement::default() };
    announcement.replicas.push(replica);
    let at = Position::new(300, 2);
    let (shard, version) = (ShardId(300), Version::end_of(7));
    let change = |what| Change { key: "k".into(), version, what };
    let put = change(What::Put { value: "v".into(), deadline: Some(300) });
    let changes = vec![put, change(What::Deleted), change(What::Expired)].into();
    let pull = |filter, after| Pull { shard, filter, after, wait_micros: 2_000_000 };
    let pulled = |answer| Frame::Pulled { token: 7, shard, answer };
    let entries = Some(vec![(at, Bytes::from_static(b"entry")), (at, Bytes::new())]);
    vec![
        Frame::Protocol {
            shard: ShardId(1),
            epoch: Epoch(1),
            revision: Revision(300),
            body: Bytes::from_static(b"body"),
        },
        Frame::Forward {
            token: 5,
            shard: ShardId(300),
            level: Level::Bounded(20),
            millis: 5000,
            again: true,
            op: Bytes::from_static(b"op"),
        },
        Frame::Answer { token: 5, shard: ShardId(300), result: Err(Error::WrongNode { try_next: None }) },
        Frame::Greet { greetings: vec![greeting(1, b""), greeting(2, b"hello")], wants: false },
        Frame::Greet { greetings: vec![greeting(1, b"")], wants: true },
        Frame::View { shard: ShardId(2), view: View::of(Epoch(3), &[NodeId(1), NodeId(2)]) },
        Frame::WantView { shard: ShardId(2) },
        Frame::Announce(announcement),
        Frame::WantMap,
        Frame::Map(Arc::new(map())),
        Frame::WantCopy { shard: ShardId(300), epoch: Epoch(300) },
        Frame::WantTail { shard: ShardId(300), epoch: Epoch(1), above: at },
        Frame::Tail { shard: ShardId(300), epoch: Epoch(1), above: at, entries: None, sealed: None },
        Frame::Tail { shard: ShardId(300), epoch: Epoch(1), above: at, entries, sealed: Some(at) },
        Frame::Pull { token: 7, pull: pull(Filter::Key("k".into()), Some(version)) },
        Frame::Pull { token: 7, pull: pull(Filter::Prefix("k".into()), None) },
        pulled(Some(Pulled::Given(Given { changes, through: version }))),
        pulled(Some(Pulled::Trimmed { oldest: version, is_sure: true })),
        pulled(Some(Pulled::Gone)),
        pulled(Some(Pulled::Failed(Error::Unavailable("not now".into())))),
        pulled(None),
        Frame::Ask { token: 6, ask: Ask::Abort { shard: ShardId(300) } },
        Frame::Told { token: 6, result: Ok(Answer::Done) },
        Frame::Told { token: 6, result: Err(Error::Unavailable("not now".into())) },
    ]
}

#[test]
fn frame_round_trips() {
    for frame in samples() {
        assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
    }
}

#[test]
fn frame_of_a_shard_is_told_from_one_of_the_whole_node_without_decoding_it() {
    for frame in samples() {
        let shard = match &frame {
            Frame::Protocol { shard, .. } | Frame::Forward { shard, .. } => Some(*shard),
            Frame::Answer { shard, .. } => Some(*shard),
            Frame::View { shard, .. } | Frame::WantView { shard } => Some(*shard),
            Frame::WantCopy { shard, .. } | Frame::WantTail { shard, .. } => Some(*shard),
            Frame::Tail { shard, .. } => Some(*shard),
            Frame::Pull { pull: Pull { shard, .. }, .. } | Frame::Pulled { shard, .. } => Some(*shard),
            Frame::Ask { .. } | Frame::Told { .. } => Some(ShardId::DIRECTORY),
            Frame::Greet { .. } | Frame::Announce(_) | Frame::WantMap | Frame::Map(_) => None,
        };
        assert_eq!(Frame::shard_of(&frame.encode()), shard, "{frame:?}");
    }
}

#[test]
fn frame_cut_or_garbled_never_panics() {
    for (number, frame) in samples().into_iter().enumerate() {
        let bytes = frame.encode();
        for cut in 0..bytes.len() {
            let _ = Frame::decode(&bytes.slice(..cut));
        }
        for round in 0..5_000u64 {
            let mut garbled = bytes.to_vec();
            let random = mix(round ^ (number as u64) << 32);
            let place = random as usize % garbled.len();
            garbled[place] ^= (random >> 40) as u8;
            let _ = Frame::decode(&garbled.into());
        }
    }
}
