//! The decoders of this dialect as plain functions over bytes, for the crate `fuzz`, and sound bytes to begin with.
//!
//! Where an input begins with one byte that names an rpc, it is the rpc's place in [`Rpc::ALL`], counted around.

use bytes::Bytes;
use kv::watch::{Batch, Change, Filter, Reach, Start, Watching, What};
use kv::{Answer, Key, Reply, Request, ShardId, SlotRange, Version};
use prost::Message;
use tonic::{Code, Status};

use super::cluster::{admin, faults, keyspaces, seen};
use super::reply::{self, Shape};
use super::watch::message;
use super::{
    Rpc, batch, decode_reply, decode_request, encode_request, from_status, proto, request, status, to_status,
};

/// The version clock while these requests are accepted.
const NOW: u64 = 1_700_000_000_000_000;

/// An rpc and the message that asks it: the request is the same after encoding and decoding.
pub fn asked(bytes: &[u8]) {
    let Some((rpc, message)) = rpc_and(bytes) else { return };
    let Ok(asked) = decode_request(rpc, message, NOW) else { return };
    let _ = asked.op.validate();
    let (rpc, message) = encode_request(asked.clone()).expect("what a message asked can be asked");
    assert_eq!(decode_request(rpc, message, NOW), Ok(asked));
}

/// An rpc and the message that answers it: the reply is the same after encoding and decoding.
pub fn answered(bytes: &[u8]) {
    let Some((rpc, message)) = rpc_and(bytes) else { return };
    let Ok(reply) = decode_reply(rpc, message) else { return };
    if let Some(shape) = shape(rpc, &reply) {
        let message = reply::encode(&shape, reply.clone()).expect("it answers what was asked");
        assert_eq!(reply::decode(message), Ok(reply));
    }
}

/// The message of a batch.
pub fn batched(bytes: &[u8]) {
    let Ok(asked) = proto::BatchRequest::decode(bytes) else { return };
    let _ = request::check_batch_header(asked.header.as_ref());
    for operation in asked.operations {
        let _ = batch::decode(operation, asked.header.as_ref(), &|| NOW);
    }
}

/// The details of a status, as they stand in its header: an error of ours is the same after encoding and decoding.
pub fn details(bytes: &[u8]) {
    let details = Bytes::copy_from_slice(bytes);
    let status = Status::with_details(Code::Unavailable, "the text", details);
    if let Some(error) = from_status(&status) {
        let again = from_status(&to_status(&error)).expect("it is ours");
        assert_eq!(again.outcome(), error.outcome());
        assert_eq!(std::mem::discriminant(&again), std::mem::discriminant(&error));
    }
    if let Ok(message) = proto::Error::decode(bytes) {
        let error = status::from_message(message);
        assert_eq!(status::from_message(status::to_message(&error)).outcome(), error.outcome());
    }
}

/// What is watched, and the messages that a watch is given: both are the same after encoding and decoding.
pub fn watched(bytes: &[u8]) {
    if let Ok(message) = proto::WatchRequest::decode(bytes)
        && let Ok(watching) = message::decode_request(message)
    {
        let _ = watching.validate();
        assert_eq!(message::decode_request(message::encode_request(watching.clone())), Ok(watching));
    }
    let Ok(piece) = proto::WatchResponse::decode(bytes) else { return };
    if let Ok(Some(batch)) = message::decode_piece(piece, &mut Vec::new()) {
        let mut before = Vec::new();
        let pieces = message::encode_batch(&batch).into_iter();
        let again =
            pieces.filter_map(|piece| message::decode_piece(piece, &mut before).expect("it was sound"));
        assert_eq!(again.collect::<Vec<_>>(), [batch]);
    }
}

/// What is watched from now on, from a version and from where it was; a batch.
pub fn watched_samples() -> Vec<Bytes> {
    let version = Version::end_of(NOW);
    let reach = Reach { slots: SlotRange::nth(1, 3), through: version };
    let asked = |filter, from| {
        let watching = Watching { filter, from, ..Watching::prefix(Key::new()) };
        message::encode_request(watching).encode_to_vec().into()
    };
    let change = |what| Change { key: "k".into(), version, what };
    let changes =
        [What::Put { value: "v".into(), deadline: Some(NOW) }, What::Deleted, What::Expired].map(change);
    let batch = Batch { shard: ShardId(3), reach, progress: Some(version), changes: changes.into() };
    let mut samples = vec![
        asked(Filter::Key("k".into()), Start::Now),
        asked(Filter::Prefix("p".into()), Start::Version(version)),
        asked(Filter::Prefix(Key::new()), Start::Reached(vec![reach])),
    ];
    samples.extend(message::encode_batch(&batch).iter().map(|piece| piece.encode_to_vec().into()));
    samples
}

/// What a node tells of the cluster.
pub fn told(bytes: &[u8]) {
    if let Ok(message) = proto::StatusResponse::decode(bytes) {
        let _ = seen::decode_status(message);
    }
    if let Ok(message) = proto::LocateResponse::decode(bytes) {
        let _ = seen::decode_location(message);
    }
}

/// What the directory answers: moves and keyspaces are the same after encoding and decoding.
pub fn administered(bytes: &[u8]) {
    if let Ok(message) = proto::JoinResponse::decode(bytes) {
        let _ = admin::decode_joined(message);
    }
    if let Ok(message) = proto::DumpResponse::decode(bytes) {
        let _ = admin::decode_rows(message);
    }
    if let Ok(message) = proto::FaultsResponse::decode(bytes) {
        let told = faults::decode(message);
        assert_eq!(faults::decode(faults::encode(told.clone())), told);
    }
    if let Ok(message) = proto::ListKeyspacesResponse::decode(bytes)
        && let Ok(answer) = keyspaces::decode_list(message)
    {
        let message = keyspaces::list(answer.clone()).expect("they are keyspaces");
        assert_eq!(keyspaces::decode_list(message), Ok(answer));
    }
    let Ok(message) = proto::MovesResponse::decode(bytes) else { return };
    if let Ok(answer) = admin::decode_moves(message.moves) {
        let message = admin::moves(answer.clone()).expect("they are moves");
        assert_eq!(admin::decode_moves(message.moves), Ok(answer));
    }
}

/// Requests of every rpc.
pub fn asked_samples() -> Vec<Bytes> {
    let encode = |op| encode_request(Request::new(op)).ok();
    kv::fuzz::ops().into_iter().filter_map(encode).map(|(rpc, message)| with(rpc, &message)).collect()
}

/// Replies of every kind.
pub fn answered_samples() -> Vec<Bytes> {
    let replies = kv::fuzz::reply_samples().into_iter().filter_map(|bytes| {
        let mut reader = kv::codec::Reader::new(bytes);
        kv::codec::decode_result(&mut reader, kv::codec::decode_reply).expect("a sample decodes").ok()
    });
    replies.filter_map(|reply| answer(reply).map(|(rpc, message)| with(rpc, &message))).collect()
}

/// A batch of requests of every rpc, and one that holds nothing.
pub fn batched_samples() -> Vec<Bytes> {
    let encode = |op| request::encode(Request::new(op), None).ok();
    let operation = |asked| proto::Operation { operation: Some(asked) };
    let operations = kv::fuzz::ops().into_iter().filter_map(encode).map(operation).collect();
    let header = Some(proto::RequestHeader { keyspace: "default".into(), ..Default::default() });
    let batches = [proto::BatchRequest::default(), proto::BatchRequest { header, operations }];
    batches.map(|batch| batch.encode_to_vec().into()).to_vec()
}

/// Details of errors. Those with several parts are kept by hand: their parts come in any order.
pub fn details_samples() -> Vec<Bytes> {
    let errors = kv::fuzz::errors().into_iter().filter(|error| status::parts(error).2.len() == 1);
    errors.map(|error| Bytes::copy_from_slice(to_status(&error).details())).collect()
}

/// A status of a cluster, and where a key is.
pub fn told_samples() -> Vec<Bytes> {
    let replica = proto::ReplicaStatus { node: 1, role: 1, applied: 9, lease_reads: 300 };
    let member = proto::Member { node: 1, replica: 1, duty: 1, weight: 1, ..Default::default() };
    let shard = proto::ShardStatus {
        id: 1,
        slot_last: 16_383,
        protocol: 1,
        replicas: vec![replica],
        keyspace: "default".into(),
        ..Default::default()
    };
    let node = proto::NodeStatus { id: 1, name: "n1".into(), liveness: 1, ..Default::default() };
    let directory = proto::ShardStatus { id: 0, members: vec![member], ..shard.clone() };
    let bus = proto::BusStatus {
        broker: "mqtt://b:1883/p".into(),
        down: Some("why".into()),
        waiting: 3,
        dropped: 1,
    };
    let status = proto::StatusResponse {
        nodes: vec![node],
        shards: vec![shard],
        now_micros: NOW,
        cluster: 0xabc,
        directory: Some(directory),
        revision: 7,
        terms: Some(proto::Terms { shards: 4, replicas: 3, history: Some(16), deleted_micros: 300_000_000 }),
        peer_version: 5,
        buses: vec![bus],
    };
    let location =
        proto::LocateResponse { slot: 9, shard: 1, leader: Some(2), address: Some("host:1".into()) };
    vec![status.encode_to_vec().into(), location.encode_to_vec().into()]
}

/// What the directory answers to a node that joins, to who asks for moves, and for rows.
pub fn administered_samples() -> Vec<Bytes> {
    let encode = |answer: kv::admin::Answer| {
        Some(match answer {
            kv::admin::Answer::Joined { .. } => admin::joined(answer).ok()?.encode_to_vec().into(),
            kv::admin::Answer::Moves(_) => admin::moves(answer).ok()?.encode_to_vec().into(),
            kv::admin::Answer::Rows(_) => admin::rows(answer).ok()?.encode_to_vec().into(),
            kv::admin::Answer::Keyspaces(_) => keyspaces::list(answer).ok()?.encode_to_vec().into(),
            kv::admin::Answer::Ruled(_) => keyspaces::ruled(answer).ok()?.encode_to_vec().into(),
            kv::admin::Answer::Done => return None,
        })
    };
    kv::fuzz::admin_answers().into_iter().filter_map(encode).collect()
}

fn rpc_and(bytes: &[u8]) -> Option<(Rpc, Bytes)> {
    let (rpc, message) = bytes.split_first()?;
    Some((Rpc::ALL[usize::from(*rpc) % Rpc::ALL.len()], Bytes::copy_from_slice(message)))
}

fn with(rpc: Rpc, message: &[u8]) -> Bytes {
    let place = Rpc::ALL.iter().position(|known| *known == rpc).expect("all are in the list");
    Bytes::from([&[place as u8], message].concat())
}

/// What asks for this reply, as far as it can be told from it; `None` when a text in it may be cut on its way.
fn shape(rpc: Rpc, reply: &Reply) -> Option<Shape> {
    match &reply.answer {
        Answer::Transaction { answers, .. } => {
            let rpcs: Vec<Rpc> = answers.iter().map(rpc_of).collect::<Option<_>>()?;
            Some(Shape::Transaction { then: rpcs.clone(), otherwise: rpcs })
        }
        answer => rpc_of(answer).map(|_| Shape::One(rpc)),
    }
}

/// An rpc with such an answer.
fn rpc_of(answer: &Answer) -> Option<Rpc> {
    Some(match answer {
        Answer::Row(_) => Rpc::Get,
        Answer::Many(keys) if keys.iter().any(|key| key.result.is_err()) => return None,
        Answer::Many(_) => Rpc::GetAll,
        Answer::Page(_) => Rpc::Range,
        Answer::History { .. } => Rpc::History,
        Answer::Put { .. } => Rpc::Put,
        Answer::Deleted { next: None, .. } => Rpc::Delete,
        Answer::Deleted { .. } => Rpc::DeleteRange,
        Answer::Trimmed { next: None, .. } => Rpc::Trim,
        Answer::Trimmed { .. } => Rpc::TrimRange,
        Answer::Expire(_) => Rpc::Expire,
        Answer::Length(_) => Rpc::Append,
        Answer::Popped(_) => Rpc::Pop,
        Answer::Number(_) => Rpc::Increment,
        Answer::Condition { .. } => Rpc::Insert,
        Answer::Transaction { .. } => return None,
    })
}

/// An rpc that answers so, and the message.
fn answer(reply: Reply) -> Option<(Rpc, Bytes)> {
    let rpc = match &reply.answer {
        Answer::Many(_) => Rpc::PutAll,
        Answer::Transaction { .. } => Rpc::Transaction,
        answer => rpc_of(answer)?,
    };
    let asks = match &reply.answer {
        Answer::Transaction { .. } => shape(rpc, &reply)?,
        _ => Shape::One(rpc),
    };
    let result = proto::OperationResult { result: reply::encode(&asks, reply).ok() };
    let bytes = Bytes::from(result.encode_to_vec());
    let mut rest = &bytes[..];
    // The tag of the response, and its length.
    for _ in 0..2 {
        prost::decode_length_delimiter(&mut rest).expect("it was encoded just now");
    }
    Some((rpc, bytes.slice_ref(rest)))
}
