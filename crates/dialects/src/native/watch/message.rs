//! Watches between [`kv::watch`] and the messages.

use kv::watch::{Batch, Change, Filter, Reach, Start, Watching, What};
use kv::{Error, Key, Request, SLOTS, ShardId, Slot, SlotRange, Version};

use crate::native::proto;
use crate::native::reply::Malformed;

/// A message has no more than so many bytes of changes, or one change.
const PIECE_BYTES: usize = 1 << 20;
/// What a change takes in a message beside its bytes, at most.
const CHANGE_BYTES: usize = 48;

pub(in crate::native) fn encode_request(watching: Watching) -> proto::WatchRequest {
    use proto::watch_request::Filter as Wire;
    let (from, reached) = match watching.from {
        Start::Now => (None, Vec::new()),
        Start::Version(version) => (Some(version.as_i64()), Vec::new()),
        Start::Reached(reached) => (None, reached.into_iter().map(encode_reach).collect()),
    };
    let filter = Some(match watching.filter {
        Filter::Key(key) => Wire::Key(key),
        Filter::Prefix(prefix) => Wire::Prefix(prefix),
    });
    proto::WatchRequest { keyspace: watching.keyspace, filter, from, reached }
}

pub(in crate::native) fn decode_request(message: proto::WatchRequest) -> Result<Watching, Error> {
    use proto::watch_request::Filter as Wire;
    let proto::WatchRequest { keyspace, filter, from, reached } = message;
    let keyspace = if keyspace.is_empty() { Request::KEYSPACE.into() } else { keyspace };
    let filter = match filter {
        Some(Wire::Key(key)) => Filter::Key(key),
        Some(Wire::Prefix(prefix)) => Filter::Prefix(prefix),
        None => Filter::Prefix(Key::new()),
    };
    let from = match (from, reached.is_empty()) {
        (None, true) => Start::Now,
        (Some(from), true) => Start::Version(version(from).map_err(invalid)?),
        (None, false) => {
            Start::Reached(reached.into_iter().map(decode_reach).collect::<Result<_, _>>().map_err(invalid)?)
        }
        (Some(_), false) => {
            return Err(Error::Invalid("a watch begins at a version or where it was, not at both".into()));
        }
    };
    Ok(Watching { keyspace, filter, from })
}

fn invalid(error: Malformed) -> Error {
    Error::Invalid(error.0.into())
}

/// The messages of a batch; the last one says how far it reaches.
pub(in crate::native) fn encode_batch(batch: &Batch) -> Vec<proto::WatchResponse> {
    let piece = || proto::WatchResponse { shard: batch.shard.0, ..Default::default() };
    let (mut pieces, mut last, mut bytes) = (Vec::new(), piece(), 0);
    for change in &*batch.changes {
        if bytes + change.bytes() + CHANGE_BYTES > PIECE_BYTES && !last.changes.is_empty() {
            pieces.push(std::mem::replace(&mut last, piece()));
            bytes = 0;
        }
        bytes += change.bytes() + CHANGE_BYTES;
        last.changes.push(encode_change(change));
    }
    last.reach = Some(encode_reach(batch.reach));
    last.progress = batch.progress.map(Version::as_i64);
    pieces.push(last);
    pieces
}

/// Adds what a message brings to the changes before it; a batch, when that is whole.
pub(in crate::native) fn decode_piece(
    piece: proto::WatchResponse,
    before: &mut Vec<Change>,
) -> Result<Option<Batch>, Malformed> {
    let proto::WatchResponse { shard, changes, reach, progress } = piece;
    for change in changes {
        before.push(decode_change(change)?);
    }
    let Some(reach) = reach else { return Ok(None) };
    let progress = progress.map(version).transpose()?;
    let changes = std::mem::take(before).into();
    Ok(Some(Batch { shard: ShardId(shard), reach: decode_reach(reach)?, progress, changes }))
}

fn encode_reach(Reach { slots, through }: Reach) -> proto::Reach {
    let (first_slot, last_slot) = (slots.first.0.into(), slots.last.0.into());
    proto::Reach { first_slot, last_slot, through: through.as_i64() }
}

fn decode_reach(reach: proto::Reach) -> Result<Reach, Malformed> {
    let slot = |slot: u32| u16::try_from(slot).ok().filter(|slot| *slot < SLOTS).map(Slot);
    let outside = Malformed("a slot is 0 to 16383");
    let (first, last) = slot(reach.first_slot).zip(slot(reach.last_slot)).ok_or(outside)?;
    Ok(Reach { slots: SlotRange { first, last }, through: version(reach.through)? })
}

fn encode_change(change: &Change) -> proto::Change {
    use proto::change::{Gone, Stored, What as Wire};
    let what = Some(match &change.what {
        What::Put { value, deadline } => Wire::Stored(Stored { value: value.clone(), deadline: *deadline }),
        What::Deleted => Wire::Deleted(Gone {}),
        What::Expired => Wire::Expired(Gone {}),
    });
    proto::Change { key: change.key.clone(), version: change.version.as_i64(), what }
}

fn decode_change(change: proto::Change) -> Result<Change, Malformed> {
    use proto::change::{Stored, What as Wire};
    let what = match change.what {
        Some(Wire::Stored(Stored { value, deadline })) => What::Put { value, deadline },
        Some(Wire::Deleted(_)) => What::Deleted,
        Some(Wire::Expired(_)) => What::Expired,
        None => return Err(Malformed("a change does not say what became of its key")),
    };
    Ok(Change { key: change.key, version: version(change.version)?, what })
}

fn version(number: i64) -> Result<Version, Malformed> {
    Version::from_i64(number).ok_or(Malformed("a version is 0 or more"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(watching: Watching) {
        assert_eq!(decode_request(encode_request(watching.clone())), Ok(watching));
    }

    #[test]
    fn request_round_trips() {
        let all = Watching::prefix(Key::new());
        round_trip(all.clone());
        round_trip(Watching {
            filter: Filter::Key("k".into()),
            from: Start::Version(Version::MAX),
            ..all.clone()
        });
        let reach = Reach { slots: SlotRange::nth(1, 3), through: Version::end_of(7) };
        round_trip(Watching { from: Start::Reached(vec![reach]), ..all });
        let both =
            proto::WatchRequest { from: Some(1), reached: vec![encode_reach(reach)], ..Default::default() };
        assert!(matches!(decode_request(both), Err(Error::Invalid(_))));
        for reach in [
            proto::Reach { last_slot: 16384, ..Default::default() },
            proto::Reach { through: -1, ..Default::default() },
        ] {
            let outside = proto::WatchRequest { reached: vec![reach], ..Default::default() };
            assert!(matches!(decode_request(outside), Err(Error::Invalid(_))));
        }
    }

    #[test]
    fn batch_larger_than_a_message_comes_in_pieces_and_whole() {
        let change = |number: u64, what| Change {
            key: format!("k{number}").into(),
            version: Version::end_of(number),
            what,
        };
        let put =
            |number| change(number, What::Put { value: vec![7; PIECE_BYTES / 3].into(), deadline: Some(9) });
        let mut changes: Vec<Change> = (0..10).map(put).collect();
        changes.extend([change(11, What::Deleted), change(12, What::Expired)]);
        let reach = Reach { slots: SlotRange::nth(0, 1), through: Version::end_of(12) };
        let batch =
            Batch { shard: ShardId(3), reach, progress: Some(Version::end_of(5)), changes: changes.into() };
        let pieces = encode_batch(&batch);
        assert_eq!(pieces.len(), 5);
        let mut before = Vec::new();
        let whole: Vec<Batch> =
            pieces.into_iter().filter_map(|piece| decode_piece(piece, &mut before).unwrap()).collect();
        assert_eq!((whole, before.len()), (vec![batch], 0));
    }
}
