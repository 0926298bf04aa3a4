//! What is asked of the directory is read back as it was written, and no bytes make the decoders panic.

use bytes::{Bytes, BytesMut};
use kv::admin::{Answer, Ask, Joining, Move, Phase, Row, Why};
use kv::cluster::NodeDuty;
use kv::codec::{self, Malformed, Reader};
use kv::{ClusterId, NodeId, ShardId};
use proptest::collection::vec;
use proptest::option::of as option;
use proptest::prelude::*;

fn text() -> impl Strategy<Value = String> {
    ".{0,12}"
}

fn node() -> impl Strategy<Value = NodeId> {
    any::<u64>().prop_map(NodeId)
}

fn duty() -> impl Strategy<Value = NodeDuty> {
    prop::sample::select(vec![NodeDuty::Serve, NodeDuty::Drain, NodeDuty::Leave, NodeDuty::Gone])
}

fn ask() -> impl Strategy<Value = Ask> {
    let joining = (text(), any::<u64>(), text(), text(), text()).prop_map(
        |(name, incarnation, peer, address, zone)| Joining { name, incarnation, peer, address, zone },
    );
    prop_oneof![
        joining.prop_map(Ask::Join),
        (text(), duty(), any::<bool>(), any::<bool>()).prop_map(|(name, duty, fewer, dry_run)| Ask::Node {
            name,
            duty,
            fewer,
            dry_run
        }),
        (text(), any::<bool>(), any::<bool>()).prop_map(|(name, lose, dry_run)| Ask::Replace {
            name,
            lose,
            dry_run
        }),
        any::<u32>().prop_map(|shard| Ask::Abort { shard: ShardId(shard) }),
        Just(Ask::Moves),
        Just(Ask::Dump),
    ]
}

fn moved() -> impl Strategy<Value = Move> {
    let why = prop_oneof![
        Just(Why::Balance),
        Just(Why::Repair),
        node().prop_map(Why::Leaves),
        node().prop_map(Why::Lost)
    ];
    let phase = prop::sample::select(vec![Phase::Planned, Phase::Copy, Phase::Switch]);
    let what = (any::<u32>(), text(), option(node()), option(node()));
    (what, phase, why, any::<[u64; 3]>()).prop_map(
        |((shard, keyspace, from, to), phase, why, [bytes_done, bytes_total, elapsed_micros])| Move {
            shard: ShardId(shard),
            keyspace,
            from,
            to,
            phase,
            why,
            bytes_done,
            bytes_total,
            elapsed_micros,
        },
    )
}

fn answer() -> impl Strategy<Value = Answer> {
    let row = (text(), text()).prop_map(|(key, value)| Row { key, value });
    let cluster = (1..=u64::MAX).prop_map(|id| ClusterId::new(id).expect("it is not 0"));
    prop_oneof![
        (node(), cluster, vec(any::<u8>(), 0..9)).prop_map(|(node, cluster, map)| Answer::Joined {
            node,
            cluster,
            map: map.into(),
            lives: Bytes::new(),
        }),
        Just(Answer::Done),
        vec(moved(), 0..4).prop_map(Answer::Moves),
        vec(row, 0..4).prop_map(Answer::Rows),
    ]
}

fn written<T>(encode: impl Fn(&mut BytesMut, &T), value: &T) -> Bytes {
    let mut into = BytesMut::new();
    encode(&mut into, value);
    into.freeze()
}

fn read<T>(decode: impl Fn(&mut Reader) -> Result<T, Malformed>, bytes: &Bytes) -> Result<T, Malformed> {
    let mut reader = Reader::new(bytes.clone());
    let value = decode(&mut reader)?;
    reader.end()?;
    Ok(value)
}

proptest! {
    #[test]
    fn ask_reads_back_as_written(ask in ask(), cut in any::<prop::sample::Index>()) {
        let bytes = written(codec::encode_ask, &ask);
        prop_assert_eq!(read(codec::decode_ask, &bytes), Ok(ask));
        prop_assert!(read(codec::decode_ask, &bytes.slice(..cut.index(bytes.len()))).is_err());
    }

    #[test]
    fn answer_reads_back_as_written(answer in answer(), cut in any::<prop::sample::Index>()) {
        let bytes = written(codec::encode_asked, &answer);
        prop_assert_eq!(read(codec::decode_asked, &bytes), Ok(answer));
        prop_assert!(read(codec::decode_asked, &bytes.slice(..cut.index(bytes.len()))).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..100)) {
        let bytes = Bytes::from(bytes);
        let _ = (read(codec::decode_ask, &bytes), read(codec::decode_asked, &bytes));
    }
}

#[test]
fn answer_with_no_cluster_is_malformed() {
    let cluster = ClusterId::new(1).expect("it is not 0");
    let joined = Answer::Joined { node: NodeId(4), cluster, map: Bytes::new(), lives: Bytes::new() };
    let mut bytes = written(codec::encode_asked, &joined).to_vec();
    let last = bytes.len() - 2;
    assert_eq!(bytes[last..], [1, 0], "the cluster, and a map of no bytes");
    bytes[last] = 0;
    assert!(read(codec::decode_asked, &Bytes::from(bytes)).is_err());
}
