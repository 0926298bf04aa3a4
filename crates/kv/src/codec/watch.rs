//! What is watched, and what changed.

use bytes::{BufMut, BytesMut};

use super::{Malformed, Reader, put_bytes, put_option, put_uint, put_version};
use crate::watch::{Change, Filter, What};

/// Writes which keys are watched.
pub fn encode_filter(into: &mut BytesMut, filter: &Filter) {
    let (tag, key) = match filter {
        Filter::Key(key) => (1, key),
        Filter::Prefix(prefix) => (2, prefix),
    };
    into.put_u8(tag);
    put_bytes(into, key);
}

/// Reads which keys are watched.
pub fn decode_filter(reader: &mut Reader) -> Result<Filter, Malformed> {
    match reader.u8()? {
        1 => reader.bytes().map(Filter::Key),
        2 => reader.bytes().map(Filter::Prefix),
        _ => Err(Malformed("the keys that are watched have an unknown tag")),
    }
}

/// Writes what became of a key.
pub fn encode_change(into: &mut BytesMut, change: &Change) {
    put_bytes(into, &change.key);
    put_version(into, change.version);
    match &change.what {
        What::Put { value, deadline } => {
            into.put_u8(1);
            put_bytes(into, value);
            put_option(into, *deadline, put_uint);
        }
        What::Deleted => into.put_u8(2),
        What::Expired => into.put_u8(3),
    }
}

/// Reads what became of a key.
pub fn decode_change(reader: &mut Reader) -> Result<Change, Malformed> {
    let (key, version) = (reader.bytes()?, reader.version()?);
    let what = match reader.u8()? {
        1 => What::Put { value: reader.bytes()?, deadline: reader.option(Reader::uint)? },
        2 => What::Deleted,
        3 => What::Expired,
        _ => return Err(Malformed("a change has an unknown tag")),
    };
    Ok(Change { key, version, what })
}
