//! What a replica is asked about what it holds, and what it finds.
//!
//! Each answer is bounded in rows and bytes, and goes on behind a key: a page may be short, even empty, and still have a `next`.
//!
//! # Where two replicas differ
//!
//! Keys are dealt to [`BUCKETS`] by a hash, and each replica keeps the sum of the [digests](digest) of the newest rows of each
//! bucket, tombstones among them. Two replicas compare sums of many buckets first ([`Look::Digests`] with a width), then those of each, then list what
//! is in the ones that differ ([`Look::Buckets`]), then bring the rows themselves ([`Look::Rows`]).

use bytes::{BufMut, BytesMut};

use super::row::{Rank, Row, decode_key, decode_named, decode_row, encode_named, encode_row};
use crate::codec::{Malformed, Reader, put_bytes, put_list, put_option, put_uint, put_version};
use crate::{Direction, KEYS_PER_OP_MAX, Key, PAGE_BYTES_MAX, PAGE_ROWS_MAX, VALUE_BYTES_MAX, Version};

/// How many buckets the keys of a shard are dealt to: a shard of a million keys has a thousand in each, which is one message.
pub const BUCKETS: u16 = 1024;
/// Rows, or names of rows, in one answer, and of what is asked for by name in one look.
pub const LOOK_ROWS_MAX: usize = PAGE_ROWS_MAX;
/// Bytes of the rows of one answer: it ends before the row that would pass this (a single larger row is an answer).
pub const LOOK_BYTES_MAX: usize = PAGE_BYTES_MAX;

/// The name of a row: with equal names rows are equal.
pub type Named = (Key, Rank);

/// What a replica is asked about what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// The newest row of each of these keys, in their order, tombstones included. Finds [`Found::Rows`]; of an answer that ended early the
    /// first key that was not looked at is its `next`.
    Keys(Vec<Key>),
    /// The newest rows with `from <= key < to`, tombstones included. Finds [`Found::Rows`].
    Range {
        /// The first key; empty = from the beginning.
        from: Key,
        /// The key after the last; `None` = to the end.
        to: Option<Key>,
        /// The order. The page begins at that end.
        direction: Direction,
        /// At most so many rows; 0 = as many as a page holds.
        limit: u32,
        /// Go on behind this key (the `next` of the page before).
        after: Option<Key>,
    },
    /// Of the keys with `from <= key < to` the rows that were the newest at a version, tombstones included: what stays when all before them
    /// is trimmed. Finds [`Found::Rows`].
    AsOf {
        /// The first key; empty = from the beginning.
        from: Key,
        /// The key after the last; `None` = to the end.
        to: Option<Key>,
        /// The version; `None` = now.
        at: Option<Version>,
    },
    /// The sums of the digests of buckets. Finds [`Found::Digests`]: one sum for `width` buckets each, the last for as many as there are.
    Digests {
        /// The first bucket.
        first: u16,
        /// How many buckets; those behind the last do not count.
        count: u16,
        /// How many of them one sum is of. At least 1.
        width: u16,
    },
    /// The names of the newest rows in these buckets, in the order of their keys. Finds [`Found::Names`].
    Buckets {
        /// Which, rising.
        buckets: Vec<u16>,
        /// Go on behind this key.
        after: Option<Key>,
    },
    /// The rows with these names, as far as they are the newest of their keys or kept as earlier ones. Finds [`Found::Rows`]; `next` as of
    /// [`Look::Keys`].
    Rows(Vec<Named>),
    /// The names of the tombstones, in the order of their keys. Finds [`Found::Names`].
    Tombstones {
        /// Go on behind this key.
        after: Option<Key>,
    },
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Rows.
    Rows {
        /// In the order asked.
        rows: Vec<Row>,
        /// There is more: of a range, go on behind this key; of rows asked for by name, from it.
        next: Option<Key>,
    },
    /// Names of rows.
    Names {
        /// In the order of their keys.
        names: Vec<Named>,
        /// There is more: go on behind this key.
        next: Option<Key>,
    },
    /// Sums of digests, in the order of the buckets.
    Digests(Vec<u64>),
}

impl Look {
    /// Checks it against the limits.
    pub fn check(&self) -> Result<(), Malformed> {
        let is_sound = |yes, why| if yes { Ok(()) } else { Err(Malformed(why)) };
        match self {
            Look::Keys(keys) => is_sound(keys.len() <= KEYS_PER_OP_MAX, "a look is for too many keys"),
            Look::Rows(names) => is_sound(names.len() <= LOOK_ROWS_MAX, "a look is for too many rows"),
            Look::Digests { width, .. } => is_sound(*width > 0, "a digest is of no bucket"),
            Look::Buckets { buckets, .. } => {
                is_sound(
                    buckets.iter().all(|bucket| *bucket < BUCKETS),
                    "a look is for a bucket that is none",
                )?;
                is_sound(buckets.is_sorted_by(|one, next| one < next), "the buckets of a look do not rise")
            }
            Look::Range { .. } | Look::AsOf { .. } | Look::Tombstones { .. } => Ok(()),
        }
    }
}

/// The bucket of a key.
pub fn bucket(key: &[u8]) -> u16 {
    mix(fnv(FNV_BEGIN, key)) as u16 % BUCKETS
}

/// The digest of a row, by its name; the floor of its key is a part of it. Digests of several rows add up, wrapping around, in any order.
pub fn digest(key: &[u8], rank: Rank) -> u64 {
    let named = fnv(fnv(FNV_BEGIN, &rank.version.as_i64().to_be_bytes()), &[u8::from(rank.expired)]);
    let named = match rank.floor {
        Version::ZERO => named,
        floor => fnv(named, &floor.as_i64().to_be_bytes()),
    };
    mix(fnv(named, key))
}

/// Makes a hash look random in all its bits, as what is summed or cut has to: the last step of SplitMix64 (Steele et al., "Fast
/// Splittable Pseudorandom Number Generators", 2014).
fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

const FNV_BEGIN: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a with 64 bits (draft-eastlake-fnv): nobody forges rows here.
fn fnv(begin: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(begin, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Writes a look.
pub fn encode_look(into: &mut BytesMut, look: &Look) {
    match look {
        Look::Keys(keys) => {
            into.put_u8(1);
            put_list(into, keys, |into, key| put_bytes(into, key));
        }
        Look::Range { from, to, direction, limit, after } => {
            into.put_u8(2);
            put_bytes(into, from);
            put_key(into, to.as_ref());
            into.put_u8(u8::from(*direction == Direction::Backward));
            put_uint(into, u64::from(*limit));
            put_key(into, after.as_ref());
        }
        Look::Digests { first, count, width } => {
            into.put_u8(3);
            [first, count, width].into_iter().for_each(|number| put_uint(into, u64::from(*number)));
        }
        Look::Buckets { buckets, after } => {
            into.put_u8(4);
            put_list(into, buckets, |into, bucket| put_uint(into, u64::from(*bucket)));
            put_key(into, after.as_ref());
        }
        Look::Rows(names) => {
            into.put_u8(5);
            put_list(into, names, encode_named);
        }
        Look::Tombstones { after } => {
            into.put_u8(6);
            put_key(into, after.as_ref());
        }
        Look::AsOf { from, to, at } => {
            into.put_u8(7);
            put_bytes(into, from);
            put_key(into, to.as_ref());
            put_option(into, at.as_ref(), |into, at| put_version(into, *at));
        }
    }
}

/// Reads a look, one within the limits.
pub fn decode_look(reader: &mut Reader) -> Result<Look, Malformed> {
    let look = match reader.u8()? {
        1 => Look::Keys(reader.list(decode_key)?),
        2 => Look::Range {
            from: reader.bytes()?,
            to: reader.option(Reader::bytes)?,
            direction: if reader.bool()? { Direction::Backward } else { Direction::Forward },
            limit: reader.u32()?,
            after: reader.option(Reader::bytes)?,
        },
        3 => Look::Digests { first: reader.u16()?, count: reader.u16()?, width: reader.u16()? },
        4 => Look::Buckets { buckets: reader.list(Reader::u16)?, after: reader.option(Reader::bytes)? },
        5 => Look::Rows(reader.list(decode_named)?),
        6 => Look::Tombstones { after: reader.option(Reader::bytes)? },
        7 => Look::AsOf {
            from: reader.bytes()?,
            to: reader.option(Reader::bytes)?,
            at: reader.option(Reader::version)?,
        },
        _ => return Err(Malformed("a look has an unknown tag")),
    };
    look.check()?;
    Ok(look)
}

/// Writes what was found.
pub fn encode_found(into: &mut BytesMut, found: &Found) {
    match found {
        Found::Rows { rows, next } => {
            into.put_u8(1);
            put_list(into, rows, encode_row);
            put_key(into, next.as_ref());
        }
        Found::Names { names, next } => {
            into.put_u8(2);
            put_list(into, names, encode_named);
            put_key(into, next.as_ref());
        }
        Found::Digests(sums) => {
            into.put_u8(3);
            put_list(into, sums, |into, sum| into.put_u64(*sum));
        }
    }
}

/// Reads what was found, as much as a replica may answer.
pub fn decode_found(reader: &mut Reader) -> Result<Found, Malformed> {
    let is_within = |yes, why| if yes { Ok(()) } else { Err(Malformed(why)) };
    Ok(match reader.u8()? {
        1 => {
            let rows = reader.list(decode_row)?;
            let bytes: usize = rows.iter().map(Row::bytes).sum();
            is_within(rows.len() <= LOOK_ROWS_MAX, "too many rows were found")?;
            is_within(bytes <= LOOK_BYTES_MAX + VALUE_BYTES_MAX, "the rows that were found are too large")?;
            Found::Rows { rows, next: reader.option(Reader::bytes)? }
        }
        2 => {
            let names = reader.list(decode_named)?;
            is_within(names.len() <= LOOK_ROWS_MAX, "too many names of rows were found")?;
            Found::Names { names, next: reader.option(Reader::bytes)? }
        }
        3 => {
            let sums = reader.list(Reader::u64)?;
            is_within(sums.len() <= usize::from(BUCKETS), "there are more digests than buckets")?;
            Found::Digests(sums)
        }
        _ => return Err(Malformed("what was found has an unknown tag")),
    })
}

fn put_key(into: &mut BytesMut, key: Option<&Key>) {
    put_option(into, key, |into, key| put_bytes(into, key));
}
