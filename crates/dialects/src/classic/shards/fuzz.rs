//! The decoders of this dialect as plain functions over bytes, for the crate `fuzz`, and sound bytes to begin with.

use bytes::Bytes;
use prost::Message;

use super::between::{EnterRequest, Held, HeldResponse, KnowsRequest};
use super::proto::{
    GetResponse, JoinReplicaResponse, KeyValue, QueryReplicaRequest, ServerRequest, TransferRequest,
};
use super::{name, row};

/// A message of the services, after one byte that picks it: it is the same after encoding and decoding, and each number in it has
/// a key of its own.
pub fn message(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 8 {
        0 => drop(same::<GetResponse>(bytes)),
        1 => {
            if let Some(TransferRequest { keys_values }) = same(bytes) {
                let is_own = |pair: &KeyValue| row::number(&row::key(pair.key)) == Some(pair.key);
                assert!(keys_values.iter().all(is_own), "a number is found in its key");
            }
        }
        2 => {
            if let Some(ServerRequest { server }) = same(bytes) {
                joined(server.as_bytes());
            }
        }
        3 => drop(same::<JoinReplicaResponse>(bytes)),
        4 => drop(same::<QueryReplicaRequest>(bytes)),
        5 => drop(same::<EnterRequest>(bytes)),
        6 => drop(same::<HeldResponse>(bytes)),
        _ => drop(same::<KnowsRequest>(bytes)),
    }
}

/// The key of a number: what is one is the key of that number.
pub fn key(bytes: &[u8]) {
    if let Some(number) = row::number(bytes) {
        assert_eq!(row::key(number), bytes);
    }
}

/// The text by which a server is joined: its node's name gives it back.
pub fn joined(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(name) = name::of_text(text) {
        assert_eq!(name::text(&name), text);
        assert!(!name.contains(['=', ',', '/']), "{name} is a name");
    }
    // Any name there may be has some text.
    drop(name::text(text));
}

/// A message of each kind.
pub fn message_samples() -> Vec<Bytes> {
    let server = String::from("h2.example:50002");
    let pair = |key: u32| KeyValue { key, value: "ärger".into() };
    let messages = [
        GetResponse { value: Some(String::new()) }.encode_to_vec(),
        TransferRequest { keys_values: vec![pair(0), pair(100), pair(u32::MAX)] }.encode_to_vec(),
        ServerRequest { server: server.clone() }.encode_to_vec(),
        JoinReplicaResponse { role: 1 }.encode_to_vec(),
        QueryReplicaRequest { key: 70, operation: 4 }.encode_to_vec(),
        EnterRequest { join: vec!["h1:50000".into()], name: server, zone: "0000000001".into() }
            .encode_to_vec(),
        HeldResponse { pairs: vec![Held { key: 7, value: "x".into() }], next: Bytes::from_static(b"k") }
            .encode_to_vec(),
        KnowsRequest { leads: vec![0, 99], has: vec![100] }.encode_to_vec(),
    ];
    let with_kind = |(kind, message): (usize, Vec<u8>)| [vec![kind as u8], message].concat().into();
    messages.into_iter().enumerate().map(with_kind).collect()
}

/// Keys of numbers of the first shards and of the last one.
pub fn key_samples() -> Vec<Bytes> {
    [0, 99, 100, u32::MAX].map(row::key).into()
}

fn same<M: Message + Default + PartialEq>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    let again = M::decode(&message.encode_to_vec()[..]);
    assert!(again.is_ok_and(|again| again == message), "what was encoded decodes");
    Some(message)
}
