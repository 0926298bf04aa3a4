//! A remembered request as it is stored.

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};
use kv::codec::{self, Malformed};
use kv::{Answer, Error, Op, Version};

use super::super::Done;
use crate::engine::EngineError;

/// The largest answer that is kept, in bytes as it is encoded: a number, a condition, a small row.
pub const ANSWER_BYTES_KEPT: usize = 1024;
/// A record of an op on keys that it names.
const FORMAT: u8 = 2;
/// A record of an op on a range of keys: what it counted was on all slots of the shard.
const FORMAT_OF_RANGE: u8 = 3;

/// Which request a record is of.
pub(super) struct Of {
    pub(super) sequence: u64,
    /// Of the op.
    pub(super) digest: u32,
    /// The op is on all keys of a range.
    pub(super) is_of_range: bool,
}

/// A remembered request as it is stored; the session's numbers are those after it.
pub(super) struct Record {
    pub(super) of: Of,
    pub(super) valid_until: Version,
    pub(super) answered_below: u64,
    pub(super) version: Version,
    /// Empty when it is not kept.
    pub(super) result: Bytes,
}

impl Record {
    pub(super) fn decode(raw: Bytes) -> Result<Record, Malformed> {
        let mut reader = codec::Reader::new(raw);
        let is_of_range = match reader.u8()? {
            FORMAT => false,
            FORMAT_OF_RANGE => true,
            _ => return Err(Malformed("its format is unknown")),
        };
        let sequence = reader.uint()?;
        let (valid_until, answered_below) = (reader.version()?, reader.uint()?);
        let version = reader.version()?;
        let of = Of { sequence, digest: reader.u32()?, is_of_range };
        Ok(Record { of, valid_until, answered_below, version, result: reader.rest() })
    }

    /// Whether an op may be a part of the batch that this remembers.
    pub(super) fn may_be_of(&self, op: &Op) -> Result<bool, Malformed> {
        let Op::PutAll { rows } = op else { return Ok(false) };
        Ok(match self.result()? {
            None => true,
            Some(Ok(Answer::Many(answers))) => {
                let keys: BTreeSet<&[u8]> = answers.iter().map(|answer| &answer.key[..]).collect();
                rows.iter().all(|(key, _)| keys.contains(&key[..]))
            }
            Some(_) => false,
        })
    }

    /// `None` = it is not kept.
    pub(super) fn result(&self) -> Result<Option<Result<Answer, Error>>, Malformed> {
        if self.result.is_empty() {
            return Ok(None);
        }
        let mut reader = codec::Reader::new(self.result.clone());
        let result = codec::decode_result(&mut reader, codec::decode_answer)?;
        reader.end()?;
        Ok(Some(result))
    }
}

/// What a part of a shard remembers of a request that was run before the shard was cut; `tells`: it is the part that tells what an
/// op on a range did on all slots. Of the others each did nothing more.
pub(in crate::table) fn inherited(raw: &Bytes, tells: bool) -> Result<Bytes, EngineError> {
    let record = Record::decode(raw.clone()).map_err(damaged)?;
    if tells || !record.of.is_of_range {
        return Ok(Bytes::copy_from_slice(raw));
    }
    let result = match record.result().map_err(damaged)? {
        Some(Ok(Answer::Deleted { previous, next, .. })) => Ok(Answer::Deleted { count: 0, previous, next }),
        Some(Ok(Answer::Trimmed { next, .. })) => Ok(Answer::Trimmed { count: 0, next }),
        _ => return Ok(Bytes::copy_from_slice(raw)),
    };
    let of_session = (record.answered_below, record.valid_until);
    Ok(encode(&mut BytesMut::new(), of_session, &record.of, &Done { result, version: record.version }))
}

/// Decodes a remembered request and its result, and checks that they are the same when they are encoded again.
pub(in crate::table) fn decode_whole(raw: Bytes) {
    let Ok(record) = Record::decode(raw) else { return };
    let Ok(Some(result)) = record.result() else { return };
    let (answered_below, valid_until) = (record.answered_below, record.valid_until);
    let done = Done { result, version: record.version };
    let raw = encode(&mut BytesMut::new(), (answered_below, valid_until), &record.of, &done);
    let again = Record::decode(raw).expect("what was encoded decodes");
    assert_eq!((again.of.sequence, again.valid_until), (record.of.sequence, valid_until));
    assert_eq!((again.answered_below, again.version), (answered_below, record.version));
    assert_eq!((again.of.digest, again.of.is_of_range), (record.of.digest, record.of.is_of_range));
    assert!(again.result().is_ok_and(|result| result.is_none_or(|result| result == done.result)));
}

/// Remembered requests as they are stored.
pub(in crate::table) fn samples() -> Vec<Bytes> {
    let session = (3, Version::MAX);
    let results = [Ok(Answer::Put { previous: None }), Err(Error::InDoubt("why".into()))];
    let done = results.map(|result| Done { result, version: Version::ZERO });
    let of = |is_of_range| Of { sequence: 300, digest: 7, is_of_range };
    let mut samples = done.map(|done| encode(&mut BytesMut::new(), session, &of(false), &done)).to_vec();
    let trimmed = Done { result: Ok(Answer::Trimmed { count: 5, next: None }), version: Version::ZERO };
    samples.push(encode(&mut BytesMut::new(), session, &of(true), &trimmed));
    samples
}

pub(super) fn encode(
    into: &mut BytesMut,
    (answered_below, valid_until): (u64, Version),
    of: &Of,
    done: &Done,
) -> Bytes {
    into.clear();
    into.put_u8(if of.is_of_range { FORMAT_OF_RANGE } else { FORMAT });
    codec::put_uint(into, of.sequence);
    codec::put_version(into, valid_until);
    codec::put_uint(into, answered_below);
    codec::put_version(into, done.version);
    codec::put_uint(into, u64::from(of.digest));
    let head = into.len();
    if done.result.as_ref().map_or(0, Answer::bytes) <= ANSWER_BYTES_KEPT {
        codec::encode_result(into, &done.result, codec::encode_answer);
    }
    if into.len() - head > ANSWER_BYTES_KEPT {
        into.truncate(head);
    }
    Bytes::copy_from_slice(into)
}

/// Tells ops apart. Times are left out: a time to live is made a deadline anew each time a request is sent.
pub(super) fn digest(scratch: &mut BytesMut, op: &Op) -> u32 {
    scratch.clear();
    codec::encode_op(scratch, &op.without_deadlines());
    crc32c::crc32c(scratch)
}

pub(super) fn is_of_range(op: &Op) -> bool {
    matches!(op, Op::DeleteRange { .. } | Op::TrimRange { .. })
}

pub(super) fn damaged(error: Malformed) -> EngineError {
    EngineError::corrupt("reading a remembered request", error.0)
}
