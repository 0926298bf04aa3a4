//! What a node's frames and log records say of its protocols, for whoever watches from outside: a simulation, a trace.

use bytes::Bytes;
use kv::{Epoch, ShardId};
use replication::observe::Record;

use crate::record::{self, KIND_GONE, KIND_MADE, KIND_PROTOCOL};
use crate::wire::Frame;

/// The message of a shard's protocol in a frame, as [`replication::Output::Send`] had it; `None` = it is another frame.
pub fn message(frame: &Bytes) -> Option<(ShardId, Bytes)> {
    match Frame::decode(frame) {
        Ok(Frame::Protocol { shard, body, .. }) => Some((shard, body)),
        _ => None,
    }
}

/// The shard and the epoch of a message in a frame; `None` = it is another frame.
pub fn epoch(frame: &Bytes) -> Option<(ShardId, Epoch)> {
    match Frame::decode(frame) {
        Ok(Frame::Protocol { shard, epoch, .. }) => Some((shard, epoch)),
        _ => None,
    }
}

/// A frame that says who the members of a shard are, or asks for them; `None` = it is another. Cheap then.
pub fn of_members(frame: &Bytes) -> Option<Frame> {
    Frame::is_of_members(frame).then(|| Frame::decode(frame).ok()).flatten()
}

/// What a record of the log keeps of its shard's protocol; `None` = it is another record.
pub fn record(record: &wal::Record) -> Option<Record> {
    let (_, _, observed) =
        (record.kind == KIND_PROTOCOL).then(|| replication::observe::record(&record.body))??;
    Some(observed)
}

/// The generation of its shard's rows that a record of the log makes current; `None` = it is another record.
pub fn generation(record: &wal::Record) -> Option<u32> {
    let made = (record.kind == KIND_MADE).then(|| record::read_made(&record.body).ok())?;
    made.map(|made| made.generation)
}

/// What a record of the log says of a replica that was dropped: the first generation that another replica of its shard would have;
/// `None` = it is another record.
pub fn gone(record: &wal::Record) -> Option<u32> {
    let gone = (record.kind == KIND_GONE).then(|| record::read_gone(&record.body).ok())?;
    gone.map(|gone| gone.next_generation())
}
