//! What a node's log holds: records of the protocols, and the node's own.
//!
//! The stream of a record is the shard that it is of, or [`STREAM_NODE`]. Kinds are never given a second meaning.

use bytes::{Bytes, BytesMut};
use kv::codec::{Malformed, Reader, put_uint};
use kv::{ReplicaId, ShardId};
use placement::map::Map;

use crate::watch::Lately;

/// The stream of what is the node's own, and no shard's.
pub const STREAM_NODE: u32 = u32::MAX;

/// A record of a shard's protocol.
pub const KIND_PROTOCOL: u8 = 1;
/// How a shard's replica was made, and its current generation: [`Made`].
pub const KIND_MADE: u8 = 2;
/// A shard's rows are of no use, until there is another [`Made`]: [`Gone`].
pub const KIND_GONE: u8 = 3;
/// A map that the node knows.
pub const KIND_MAP: u8 = 4;
/// What a shard has changed lately, from a stop for the next start: [`Lately`].
pub const KIND_LATELY: u8 = 5;

/// How a replica was made. The first record of each, written again with each generation and at each checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Its number in the shard.
    pub number: ReplicaId,
    /// The revision of the map that it was made by: an earlier one does not know of it.
    pub revision: u64,
    /// The current generation of its rows.
    pub generation: u32,
}

/// A replica was dropped; or one may inherit its shard, and copies its rows until it has all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gone {
    /// No map up to this revision has another one made: it may not know that this one was dropped.
    pub revision: u64,
    /// Rows of earlier generations are not there.
    pub since: u32,
    /// The generation that the log named last. What it says of the shard before, and all rows up to those of a snapshot that came in
    /// under the next generation, is of no use.
    pub generation: u32,
}

impl Gone {
    /// The generations whose rows may be there.
    pub fn generations(&self) -> impl Iterator<Item = u32> + use<> {
        self.since..=self.generation.saturating_add(1)
    }

    /// The generation of the replica that is made next.
    pub fn next_generation(&self) -> u32 {
        self.generation.saturating_add(2)
    }
}

/// A record of a shard's protocol.
pub(crate) fn protocol(shard: ShardId, body: Bytes) -> wal::Record {
    wal::Record { stream: shard.0, kind: KIND_PROTOCOL, body }
}

/// The record of how a shard's replica was made.
pub(crate) fn made(shard: ShardId, made: &Made) -> wal::Record {
    let mut body = BytesMut::new();
    put_uint(&mut body, u64::from(made.number.0));
    put_uint(&mut body, made.revision);
    put_uint(&mut body, u64::from(made.generation));
    wal::Record { stream: shard.0, kind: KIND_MADE, body: body.freeze() }
}

/// From its body.
pub(crate) fn read_made(body: &Bytes) -> Result<Made, Malformed> {
    let mut reader = Reader::new(body.clone());
    let made = Made { number: ReplicaId(reader.u16()?), revision: reader.uint()?, generation: reader.u32()? };
    reader.end()?;
    Ok(made)
}

/// The record of a shard's replica that was dropped.
pub(crate) fn gone(shard: ShardId, gone: &Gone) -> wal::Record {
    let mut body = BytesMut::new();
    put_uint(&mut body, gone.revision);
    put_uint(&mut body, u64::from(gone.since));
    put_uint(&mut body, u64::from(gone.generation));
    wal::Record { stream: shard.0, kind: KIND_GONE, body: body.freeze() }
}

/// From its body.
pub(crate) fn read_gone(body: &Bytes) -> Result<Gone, Malformed> {
    let mut reader = Reader::new(body.clone());
    let gone = Gone { revision: reader.uint()?, since: reader.u32()?, generation: reader.u32()? };
    reader.end()?;
    Ok(gone)
}

/// The record of what a shard has changed lately.
pub(crate) fn lately(shard: ShardId, lately: &Lately) -> wal::Record {
    let mut body = BytesMut::new();
    lately.encode(&mut body);
    wal::Record { stream: shard.0, kind: KIND_LATELY, body: body.freeze() }
}

/// From its body.
pub(crate) fn read_lately(body: &Bytes) -> Result<Lately, Malformed> {
    let mut reader = Reader::new(body.clone());
    let lately = Lately::decode(&mut reader)?;
    reader.end()?;
    Ok(lately)
}

/// The record of a map.
pub(crate) fn map(map: &Map) -> wal::Record {
    wal::Record { stream: STREAM_NODE, kind: KIND_MAP, body: map.encode() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_of_a_replica_round_trips_and_cut_is_refused() {
        let shard = ShardId(7);
        let was_made = Made { number: ReplicaId(300), revision: 1 << 40, generation: u32::MAX };
        let was_dropped = Gone { revision: 1 << 40, since: 2, generation: 3 };
        let (made, gone) = (made(shard, &was_made).body, gone(shard, &was_dropped).body);
        assert_eq!((read_made(&made), read_gone(&gone)), (Ok(was_made), Ok(was_dropped)));
        assert!((0..made.len()).all(|cut| read_made(&made.slice(..cut)).is_err()));
        assert!((0..gone.len()).all(|cut| read_gone(&gone.slice(..cut)).is_err()));
    }

    #[test]
    fn replica_that_is_made_again_has_a_generation_of_which_no_row_is_left() {
        for generation in [0, 1, 7] {
            let gone = Gone { revision: 1, since: 0, generation };
            assert!(gone.generations().all(|left| left < gone.next_generation()));
        }
    }
}
