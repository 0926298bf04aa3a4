//! Entries: what a protocol orders.
//!
//! An op is encoded once, where it is accepted ([`Stamped`]); from there its bytes travel to the leader, into the log and
//! to the followers as they are. An [`Entry`] is a batch of them under one proposed version.

use bytes::{Bytes, BytesMut};

use crate::{Op, RequestId, Version, codec};

/// An op with the id that makes it happen once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// Whose it is; `None` for the store's own ops, which may happen twice.
    pub id: Option<RequestId>,
    /// What to do.
    pub op: Op,
}

impl Stamped {
    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        codec::encode_stamped(self)
    }

    /// From its bytes; keys and values share them.
    pub fn decode(bytes: &Bytes) -> Result<Stamped, codec::Malformed> {
        codec::decode_stamped(bytes)
    }
}

/// A batch of ops under one proposed version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The proposer's time; applying fixes the versions from it (see [`Version::after`]).
    pub proposed: Version,
    /// The ops, in order.
    pub ops: Vec<Stamped>,
}

impl Entry {
    /// The bytes of an entry of ops that are encoded already.
    pub fn encode(proposed: Version, ops: &[Bytes]) -> Bytes {
        let mut into = BytesMut::with_capacity(16 + ops.iter().map(|op| op.len() + 5).sum::<usize>());
        codec::put_i64(&mut into, proposed.as_i64());
        codec::put_uint(&mut into, ops.len() as u64);
        for op in ops {
            codec::put_bytes(&mut into, op);
        }
        into.freeze()
    }

    /// From its bytes; keys and values share them.
    pub fn decode(bytes: &Bytes) -> Result<Entry, codec::Malformed> {
        let mut reader = codec::Reader::new(bytes.clone());
        let proposed = reader.version()?;
        let ops = reader.list(|reader| Stamped::decode(&reader.bytes()?))?;
        reader.end()?;
        Ok(Entry { proposed, ops })
    }
}
