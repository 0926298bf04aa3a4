//! The decoders of this dialect as plain functions over bytes, for the crate `fuzz`, and sound bytes to begin with.

use bytes::Bytes;
use prost::Message;

use super::keys;
use super::proto::{KeyRange, KeyRequest, KeyValueRequest, KeyValueVersionReply, PutReply};
use crate::classic::store::row;

/// A message of the service, after one byte that picks it: it is the same after encoding and decoding; its key is one that its neighbours do not
/// share and that is read back, and its version is read as what is shown of it.
pub fn message(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 5 {
        0 => {
            if let Some(KeyRequest { key, ver }) = same::<KeyRequest>(bytes) {
                assert_eq!(row::text_of(&row::key(&key)), Ok(key));
                if let Some(moment) = keys::moment(ver) {
                    assert!(ver >= Some(keys::shown(moment)), "no later than it was asked");
                }
            }
        }
        1 => drop(same::<KeyRange>(bytes)),
        2 => drop(same::<KeyValueRequest>(bytes)),
        3 => drop(same::<KeyValueVersionReply>(bytes)),
        _ => drop(same::<PutReply>(bytes)),
    }
}

/// A message of each kind.
pub fn message_samples() -> Vec<Bytes> {
    let (key, val) = (String::from("ärger"), String::from("a value, with a comma"));
    let asked = KeyRequest { key: key.clone(), ver: Some(1_700_000_000_000_000) };
    let to = KeyRequest { key: "z".into(), ver: None };
    let messages = [
        asked.encode_to_vec(),
        KeyRange { fr: Some(asked), to: Some(to) }.encode_to_vec(),
        KeyValueRequest { key: key.clone(), val: val.clone() }.encode_to_vec(),
        KeyValueVersionReply { key: key.clone(), val: val.clone(), ver: 7 }.encode_to_vec(),
        PutReply { key, old_val: val, old_ver: 7, ver: i64::MAX }.encode_to_vec(),
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
