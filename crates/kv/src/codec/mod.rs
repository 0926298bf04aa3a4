//! The bytes of ops, answers and errors in the log, in session records and between nodes.
//!
//! One tag byte, then the fields in order: unsigned numbers as LEB128, signed ones as 8 bytes big-endian, bytes and
//! lists with their length before them, options as 0 or 1 before the value. Decoding shares the buffer it reads from,
//! never panics, and never reserves more than the buffer could hold. Tags are never given a second meaning.

mod admin;
mod answer;
mod keyspace;
mod op;
mod watch;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{RequestId, Version};

pub use admin::{
    decode_ask, decode_asked, decode_duty, decode_why, encode_ask, encode_asked, encode_duty, encode_why,
};
pub use answer::{
    decode_answer, decode_level, decode_protocol, decode_reply, decode_result, encode_answer, encode_level,
    encode_protocol, encode_reply, encode_result, result_bytes,
};
pub use keyspace::{
    decode_bus, decode_keep, decode_quota, decode_rules, decode_settings, decode_sync, decode_usage,
    decode_weighed, encode_bus, encode_keep, encode_rules, encode_settings, encode_sync, encode_usage,
    encode_weighed,
};
pub use op::{decode_op, decode_stamped, encode_op, encode_stamped, is_note};
pub use watch::{decode_change, decode_filter, encode_change, encode_filter};

/// Bytes of the longest LEB128 number.
const UINT_BYTES_MAX: usize = 10;
/// A list is given room for so many items at once: however many it says it has, what is set aside is little.
const LIST_ROOM_MAX: usize = 256;

/// Bytes that are no encoding of what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed bytes: {0}")]
pub struct Malformed(pub &'static str);

/// Writes an unsigned number as LEB128.
pub fn put_uint(into: &mut impl BufMut, mut number: u64) {
    if number < 0x80 {
        return into.put_u8(number as u8);
    }
    // At once: each call looks whether there is room.
    let (mut bytes, mut length) = ([0; UINT_BYTES_MAX], 0);
    while number >= 0x80 {
        bytes[length] = number as u8 | 0x80;
        number >>= 7;
        length += 1;
    }
    bytes[length] = number as u8;
    into.put_slice(&bytes[..=length]);
}

/// How many bytes [`put_uint`] writes.
pub fn uint_bytes(number: u64) -> usize {
    let bits = u64::BITS - (number | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Writes a signed number as 8 bytes.
pub fn put_i64(into: &mut BytesMut, number: i64) {
    into.put_i64(number);
}

/// Writes bytes, their length first.
pub fn put_bytes(into: &mut impl BufMut, bytes: &[u8]) {
    put_uint(into, bytes.len() as u64);
    into.put_slice(bytes);
}

/// Writes whether there is a value, and the value.
pub fn put_option<B: BufMut, T>(into: &mut B, value: Option<T>, put: impl FnOnce(&mut B, T)) {
    into.put_u8(u8::from(value.is_some()));
    if let Some(value) = value {
        put(into, value);
    }
}

/// Writes the number of items, and the items.
pub fn put_list<B: BufMut, T>(into: &mut B, items: &[T], mut put: impl FnMut(&mut B, &T)) {
    put_uint(into, items.len() as u64);
    for item in items {
        put(into, item);
    }
}

/// Writes a version.
pub fn put_version(into: &mut BytesMut, version: Version) {
    put_i64(into, version.as_i64());
}

pub(crate) fn put_id(into: &mut BytesMut, id: &RequestId) {
    into.put_u64(id.client);
    put_uint(into, id.sequence);
    put_version(into, id.valid_until);
    put_uint(into, id.answered_below);
}

/// Reads fields off the front of a buffer.
pub struct Reader {
    rest: Bytes,
}

impl Reader {
    /// Over a whole buffer.
    pub fn new(bytes: Bytes) -> Reader {
        Reader { rest: bytes }
    }

    /// The next byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.need(1)?;
        Ok(self.rest.get_u8())
    }

    /// The next 8 bytes as an unsigned number.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.need(8)?;
        Ok(self.rest.get_u64())
    }

    /// The next 8 bytes as a signed number.
    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.need(8)?;
        Ok(self.rest.get_i64())
    }

    /// A LEB128 number.
    pub fn uint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Malformed("a number is over 64 bits"));
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed("a number is over 64 bits"))
    }

    /// A LEB128 number of 32 bits.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.uint()?).map_err(|_| Malformed("a number is over 32 bits"))
    }

    /// A LEB128 number of 16 bits.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        u16::try_from(self.uint()?).map_err(|_| Malformed("a number is over 16 bits"))
    }

    /// A yes or no.
    pub fn bool(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("a yes or no is neither 0 nor 1")),
        }
    }

    /// Bytes with their length before them.
    pub fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let length = usize::try_from(self.uint()?).map_err(|_| Malformed("a length is too large"))?;
        self.need(length)?;
        Ok(self.rest.split_to(length))
    }

    /// UTF-8 text with its length before it.
    pub fn text(&mut self) -> Result<String, Malformed> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| Malformed("a text is not UTF-8"))
    }

    /// A version.
    pub fn version(&mut self) -> Result<Version, Malformed> {
        Version::from_i64(self.i64()?).ok_or(Malformed("a version is negative"))
    }

    /// The number of items of a list: each is at least a byte, so it is at most what is left.
    pub fn count(&mut self) -> Result<usize, Malformed> {
        let count = usize::try_from(self.uint()?).map_err(|_| Malformed("a count is too large"))?;
        self.need(count)?;
        Ok(count)
    }

    /// A list.
    pub fn list<T>(
        &mut self,
        mut get: impl FnMut(&mut Reader) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = self.count()?;
        let mut items = Vec::with_capacity(count.min(LIST_ROOM_MAX));
        for _ in 0..count {
            items.push(get(self)?);
        }
        Ok(items)
    }

    /// A value that may be absent.
    pub fn option<T>(
        &mut self,
        get: impl FnOnce(&mut Reader) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        if self.bool()? { get(self).map(Some) } else { Ok(None) }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All that is left.
    pub fn rest(self) -> Bytes {
        self.rest
    }

    /// Checks that nothing is left.
    pub fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed("there are bytes behind the end")) }
    }

    pub(crate) fn id(&mut self) -> Result<RequestId, Malformed> {
        Ok(RequestId {
            client: self.u64()?,
            sequence: self.uint()?,
            valid_until: self.version()?,
            answered_below: self.uint()?,
        })
    }

    fn need(&self, bytes: usize) -> Result<(), Malformed> {
        if self.rest.remaining() < bytes { Err(Malformed("it ends too early")) } else { Ok(()) }
    }
}
