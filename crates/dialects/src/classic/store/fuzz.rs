//! The decoders of this dialect as plain functions over bytes, for the crate `fuzz`, and sound bytes to begin with.

use bytes::Bytes;
use kv::{Row, Version};
use prost::Message;

use super::proto::{
    GetRequest, GetResponse, PutRequest, PutResponse, RestoreRequest, RestoreResponse, SlowDownRequest,
    SlowDownResponse,
};
use super::{row, service};

/// A message of the service, after one byte that picks it: it is the same after encoding and decoding, and the key of a put is one
/// that its neighbours do not share.
pub fn message(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 8 {
        0 => {
            if let Some(PutRequest { key, .. }) = same::<PutRequest>(bytes) {
                assert_eq!(row::key(&key)[1..], *key.as_bytes());
            }
        }
        1 => drop(same::<PutResponse>(bytes)),
        2 => drop(same::<GetRequest>(bytes)),
        3 => drop(same::<GetResponse>(bytes)),
        4 => {
            if let Some(SlowDownRequest { seconds }) = same(bytes) {
                assert_eq!(service::slowness(seconds).is_some(), (0..=3600).contains(&seconds));
            }
        }
        5 => drop(same::<SlowDownResponse>(bytes)),
        6 => drop(same::<RestoreRequest>(bytes)),
        _ => drop(same::<RestoreResponse>(bytes)),
    }
}

/// The value of a row: a text is the bytes that it was.
pub fn value(bytes: &[u8]) {
    let value = Bytes::copy_from_slice(bytes);
    let read = row::text(&Row {
        key: row::key(""),
        value: value.clone(),
        version: Version::ZERO,
        created: Version::ZERO,
        changes: 1,
        deadline: None,
    });
    assert_eq!(read.is_ok(), std::str::from_utf8(bytes).is_ok());
    if let Ok(text) = read {
        assert_eq!(text.as_bytes(), bytes);
    }
}

/// A message of each kind.
pub fn message_samples() -> Vec<Bytes> {
    let (key, value) = (String::from("ärger"), String::from("a value, with a comma"));
    let messages = [
        PutRequest { key: key.clone(), value: value.clone() }.encode_to_vec(),
        PutResponse { success: true }.encode_to_vec(),
        GetRequest { key }.encode_to_vec(),
        GetResponse { value, found: true }.encode_to_vec(),
        SlowDownRequest { seconds: -1 }.encode_to_vec(),
        SlowDownResponse { success: true }.encode_to_vec(),
        RestoreRequest {}.encode_to_vec(),
        RestoreResponse { success: true }.encode_to_vec(),
    ];
    let with_kind = |(kind, message): (usize, Vec<u8>)| [vec![kind as u8], message].concat().into();
    messages.into_iter().enumerate().map(with_kind).collect()
}

fn same<M: Message + Default + PartialEq>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    let again = M::decode(&message.encode_to_vec()[..]);
    assert!(again.is_ok_and(|again| again == message), "what was encoded decodes");
    Some(message)
}
