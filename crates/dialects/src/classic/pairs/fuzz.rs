//! The decoders of this dialect as plain functions over bytes, for the crate `fuzz`, and sound bytes to begin with.

use bytes::Bytes;
use prost::Message;
use tonic::codegen::http::Uri;

use super::proto::{central, keyvalue};
use super::{address, row};
use crate::grpc::Address;

/// The key of a row: a number's key is the same after decoding and encoding, and its neighbours' lie beside it.
pub fn key(bytes: &[u8]) {
    let Some(number) = row::number(bytes) else { return };
    assert_eq!(row::key(number), bytes);
    if let Some(next) = number.checked_add(1) {
        assert!(row::key(next) > bytes);
    }
}

/// HOST:PORT: what passes can be connected to.
pub fn host(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if address::check(text).is_ok() {
        assert!(Address::new(text).is_ok());
        let uri: Uri = format!("http://{text}").parse().expect("an address makes a URI");
        assert!(uri.port_u16().is_some_and(|port| port > 0));
        assert_eq!(uri.authority().map(|authority| authority.as_str()), Some(text));
    }
}

/// A message of either service, after one byte that picks it: it is the same after encoding and decoding.
pub fn message(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 7 {
        0 => same::<keyvalue::InsertRequest>(bytes),
        1 => same::<keyvalue::ConsultRequest>(bytes),
        2 => same::<keyvalue::ConsultReply>(bytes),
        3 => same::<keyvalue::ActivateRequest>(bytes),
        4 => same::<central::RegisterRequest>(bytes),
        5 => same::<central::RegisterReply>(bytes),
        _ => same::<central::MapReply>(bytes),
    }
}

/// Keys of numbers at both ends and in the middle.
pub fn key_samples() -> Vec<Bytes> {
    [i32::MIN, -1, 0, i32::MAX].map(row::key).into()
}

/// Names, addresses of both kinds, and the ports at the ends.
pub fn host_samples() -> Vec<Bytes> {
    let hosts = ["localhost:1", "127.0.0.1:50051", "[::1]:65535", "a_b-c.example.:80"];
    hosts.map(|host| Bytes::from_static(host.as_bytes())).into()
}

/// A message of each kind.
pub fn message_samples() -> Vec<Bytes> {
    let host = String::from("localhost:50051");
    let (key, value) = (-7, String::from("ärger, with a comma"));
    let messages = [
        keyvalue::InsertRequest { key, value: value.clone() }.encode_to_vec(),
        keyvalue::ConsultRequest { key }.encode_to_vec(),
        keyvalue::ConsultReply { value }.encode_to_vec(),
        keyvalue::ActivateRequest { host: host.clone() }.encode_to_vec(),
        central::RegisterRequest { host: host.clone(), keys: vec![1, -1, i32::MIN, i32::MAX] }
            .encode_to_vec(),
        central::RegisterReply { result: 4 }.encode_to_vec(),
        central::MapReply { host }.encode_to_vec(),
    ];
    let with_kind = |(kind, message): (usize, Vec<u8>)| [vec![kind as u8], message].concat().into();
    messages.into_iter().enumerate().map(with_kind).collect()
}

fn same<M: Message + Default + PartialEq>(bytes: &[u8]) {
    if let Ok(message) = M::decode(bytes) {
        let again = M::decode(&message.encode_to_vec()[..]);
        assert!(again.is_ok_and(|again| again == message), "what was encoded decodes");
    }
}
