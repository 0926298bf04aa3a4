//! How rows are keyed in the engine.
//!
//! | after shard (4 bytes) and generation (4 bytes) | row |
//! |---|---|
//! | 0 | the shard's state |
//! | 1, key | the newest revision of a key |
//! | 2, key escaped, place in the key's ring (8 bytes) | an older revision |
//! | 3, deadline (8 bytes), key | that the key's newest revision has this deadline |
//! | 4, client (8 bytes), slot (2 bytes) | a remembered request |
//! | 5, the line's key | a line of the ledger; without a key, how much it lists |
//! | 6, bucket (2 bytes) | of the merged layout: the sum of the digests of a bucket's newest rows, if it is not 0 |
//! | 7, key | of the merged layout: that the key's newest revision is a tombstone |
//!
//! In the merged layout the place of an older revision is its version, and there is no ring.
//!
//! All numbers are big-endian, so that they sort. Escaping keeps the order of keys and makes none a prefix of another: a
//! zero byte becomes 00 FF, and 00 00 ends the key.
//!
//! Older revisions lie in a ring (see `older`): a new one is written over the oldest. Rows under ever new keys would have to be
//! removed one by one, and a log-structured tree passes over every removed row that compaction has not reached.

use bytes::{BufMut, Bytes};
use kv::ShardId;
use kv::ledger::Line;

use crate::row_key::RowKey;

/// The rows of one copy of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowSet {
    pub shard: ShardId,
    pub generation: u32,
}

/// Bytes before the part of a key that [`RowSet::suffix`] gives.
const PREFIX: usize = 8;
/// Bytes of a place in a ring.
const PLACE: usize = 8;
const CURRENT: u8 = 1;
const HISTORY: u8 = 2;
const EXPIRY: u8 = 3;
const SESSION: u8 = 4;
const LEDGER: u8 = 5;
const BUCKET: u8 = 6;
const TOMBSTONE: u8 = 7;
const BEHIND: u8 = 8;

/// What the row of a suffix is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    State,
    /// A revision of a key, the newest or an older one.
    Revision,
    /// An entry of the expiry index.
    Expiry,
    Session,
    /// A line of the ledger, or how much it lists.
    Ledger,
    /// The digest of a bucket.
    Bucket,
    /// An entry of the index of tombstones.
    Tombstone,
}

impl Part {
    /// Of a suffix; `None` when there is no such row.
    pub fn of(suffix: &[u8]) -> Option<Part> {
        match (suffix.first()?, suffix.len() - 1) {
            (0, 0) => Some(Part::State),
            (&CURRENT, 1..) | (&HISTORY, 11..) => Some(Part::Revision),
            (&EXPIRY, 9..) => Some(Part::Expiry),
            (&SESSION, 10) => Some(Part::Session),
            (&LEDGER, _) => Some(Part::Ledger),
            (&BUCKET, 2) => Some(Part::Bucket),
            (&TOMBSTONE, 1..) => Some(Part::Tombstone),
            _ => None,
        }
    }
}

impl RowSet {
    pub fn state(&self) -> RowKey {
        self.key(0, 0, |_| {})
    }

    pub fn current(&self, key: &[u8]) -> RowKey {
        self.key(CURRENT, key.len(), |into| into.put_slice(key))
    }

    /// Behind the newest revisions of all keys.
    pub fn current_end(&self) -> RowKey {
        self.key(HISTORY, 0, |_| {})
    }

    pub fn history(&self, key: &[u8], place: u64) -> RowKey {
        let zeros = key.iter().filter(|byte| **byte == 0).count();
        self.key(HISTORY, key.len() + zeros + 2 + PLACE, |into| {
            escape(into, key);
            into.put_u64(place);
        })
    }

    pub fn expiry(&self, deadline: u64, key: &[u8]) -> Bytes {
        let row = self.key(EXPIRY, 8 + key.len(), |into| {
            into.put_u64(deadline);
            into.put_slice(key);
        });
        row.into()
    }

    pub fn expiry_begin(&self) -> Bytes {
        self.key(EXPIRY, 0, |_| {}).into()
    }

    pub fn session(&self, client: u64, slot: u16) -> RowKey {
        self.key(SESSION, 10, |into| {
            into.put_u64(client);
            into.put_u16(slot);
        })
    }

    pub fn session_begin(&self) -> Bytes {
        self.key(SESSION, 0, |_| {}).into()
    }

    /// Behind all remembered requests.
    pub fn session_end(&self) -> Bytes {
        self.key(LEDGER, 0, |_| {}).into()
    }

    /// A line of the ledger, by its key; of the empty one, how much the ledger lists.
    pub fn ledger(&self, line: &[u8]) -> RowKey {
        self.key(LEDGER, line.len(), |into| into.put_slice(line))
    }

    /// Behind all lines of the ledger.
    pub fn ledger_end(&self) -> Bytes {
        self.bucket_begin()
    }

    pub fn bucket(&self, bucket: u16) -> RowKey {
        self.key(BUCKET, 2, |into| into.put_u16(bucket))
    }

    pub fn bucket_begin(&self) -> Bytes {
        self.key(BUCKET, 0, |_| {}).into()
    }

    /// Of a key; of the empty one, the beginning of all.
    pub fn tombstone(&self, key: &[u8]) -> RowKey {
        self.key(TOMBSTONE, key.len(), |into| into.put_slice(key))
    }

    /// What the keys of all its rows begin with.
    pub fn prefix(&self) -> Bytes {
        Bytes::copy_from_slice(&self.state().as_ref()[..PREFIX])
    }

    /// Behind all rows of this copy.
    pub fn end(&self) -> Bytes {
        self.key(BEHIND, 0, |_| {}).into()
    }

    /// The key of a row from the suffix of another copy's.
    pub fn with_suffix(&self, suffix: &[u8]) -> RowKey {
        self.row(suffix.len(), |into| into.put_slice(suffix))
    }

    /// What is left of a row's key without shard and generation.
    pub fn suffix(row: &Bytes) -> Bytes {
        row.slice(PREFIX..)
    }

    fn key(&self, kind: u8, length: usize, put: impl FnOnce(&mut &mut [u8])) -> RowKey {
        self.row(1 + length, |into| {
            into.put_u8(kind);
            put(into);
        })
    }

    fn row(&self, length: usize, put: impl FnOnce(&mut &mut [u8])) -> RowKey {
        let mut row = RowKey::zeroed(PREFIX + length);
        let mut into = row.bytes_mut();
        into.put_u32(self.shard.0);
        into.put_u32(self.generation);
        put(&mut into);
        assert!(into.is_empty(), "bytes of a row's key, as they were counted");
        row
    }
}

/// The user's key in the key of a newest revision.
pub fn key_of_current(row: &Bytes) -> Bytes {
    assert_eq!(row[PREFIX], CURRENT, "the kind of a newest revision's row");
    row.slice(PREFIX + 1..)
}

/// The key of a line in that of its row.
pub fn key_of_line(row: &Bytes) -> Bytes {
    assert_eq!(row[PREFIX], LEDGER, "the kind of a line's row");
    row.slice(PREFIX + 1..)
}

/// The user's key in the key of an entry of the index of tombstones.
pub fn key_of_tombstone(row: &Bytes) -> Bytes {
    assert_eq!(row[PREFIX], TOMBSTONE, "the kind of a row of the index of tombstones");
    row.slice(PREFIX + 1..)
}

/// The bucket in the key of its row.
pub fn bucket_of(row: &Bytes) -> u16 {
    assert_eq!(row[PREFIX], BUCKET, "the kind of a bucket's row");
    u16::from_be_bytes([row[PREFIX + 1], row[PREFIX + 2]])
}

/// Deadline and user's key in the key of an entry of the expiry index.
pub fn parts_of_expiry(row: &Bytes) -> (u64, Bytes) {
    assert_eq!(row[PREFIX], EXPIRY, "the kind of a row of the expiry index");
    (number(&row[PREFIX + 1..]), row.slice(PREFIX + 9..))
}

/// Client and slot in the key of a remembered request.
pub fn parts_of_session(row: &Bytes) -> (u64, u16) {
    parts_of_session_suffix(&row[PREFIX..])
}

/// The same in its suffix.
pub fn parts_of_session_suffix(suffix: &[u8]) -> (u64, u16) {
    assert_eq!(suffix[0], SESSION, "the kind of a remembered request's row");
    (number(&suffix[1..]), u16::from_be_bytes([suffix[9], suffix[10]]))
}

/// The user's key whose newest revision the row of a suffix is; `None` = it is another row.
pub fn current_of_suffix(suffix: &Bytes) -> Option<Bytes> {
    (*suffix.first()? == CURRENT).then(|| suffix.slice(1..))
}

/// The user's key that the row of a suffix is of; `None` = it is of none.
pub fn key_of_suffix(suffix: &Bytes) -> Option<Bytes> {
    match *suffix.first()? {
        CURRENT | TOMBSTONE => Some(suffix.slice(1..)),
        EXPIRY => suffix.get(9..).map(|_| suffix.slice(9..)),
        LEDGER => Line::written_key(&suffix.slice(1..)),
        HISTORY => {
            let escaped = suffix.get(1..suffix.len().checked_sub(PLACE + 2)?)?;
            let mut key = Vec::with_capacity(escaped.len());
            let mut rest = escaped.iter();
            while let Some(byte) = rest.next() {
                key.push(*byte);
                if *byte == 0 {
                    rest.next();
                }
            }
            Some(key.into())
        }
        _ => None,
    }
}

/// The key of an older revision, in two: what it has in common with those of 255 other places of its ring, and the rest.
/// `None` of any other row.
pub fn ring_of(row: &[u8]) -> Option<(&[u8], u8)> {
    let stem = stem_of(row)?;
    match row[stem.len()..] {
        [last] => Some((stem, last)),
        _ => None,
    }
}

/// What bytes begin with, if it is what older revisions of a ring have in common. None of these is a prefix of another.
pub fn stem_of(row: &[u8]) -> Option<&[u8]> {
    if row.get(PREFIX) != Some(&HISTORY) {
        return None;
    }
    let mut at = PREFIX + 1;
    loop {
        at += row[at..].iter().position(|byte| *byte == 0)? + 2;
        match row.get(at - 1)? {
            0 => return row.get(..at + PLACE - 1),
            0xff => {}
            _ => return None,
        }
    }
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes[..8].try_into().expect("eight bytes"))
}

fn escape(into: &mut &mut [u8], key: &[u8]) {
    for byte in key {
        into.put_u8(*byte);
        if *byte == 0 {
            into.put_u8(0xff);
        }
    }
    into.put_slice(&[0, 0]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: RowSet = RowSet { shard: ShardId(7), generation: 3 };

    fn bytes(row: RowKey) -> Bytes {
        row.into()
    }

    #[test]
    fn history_keys_sort_by_key_then_place() {
        let keys: [&[u8]; 8] = [b"", b"\0", b"\0\0", b"\0\xff", b"\x01", b"a", b"a\0", b"ab"];
        let mut rows = Vec::new();
        for key in keys {
            rows.extend([0, 1, 255, 256, u64::MAX].map(|place| bytes(SET.history(key, place))));
        }
        assert!(rows.is_sorted() && rows.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn ring_places_that_differ_in_the_last_byte_have_one_stem() {
        for key in [&b""[..], b"k", b"\0", b"a\0\0\xff", b"\xff\0"] {
            let (stem, last) = (bytes(SET.history(key, 0x0100)), bytes(SET.history(key, 0x01ff)));
            assert_eq!(ring_of(&last), Some((&stem[..stem.len() - 1], 0xff)));
            assert_ne!(ring_of(&bytes(SET.history(key, 0x0200))).unwrap().0, ring_of(&last).unwrap().0);
            assert_eq!(stem_of(&[&last, &b"behind"[..]].concat()), ring_of(&last).map(|(stem, _)| stem));
            assert_eq!((ring_of(&last[1..]), ring_of(&last[..last.len() - 1])), (None, None));
            assert_eq!(stem_of(&last[..last.len() - 2]), None);
        }
        let unescaped = bytes(SET.with_suffix(b"\x02a\0b\0\0\0\0\0\0\0\0\0\0"));
        let others = [
            bytes(SET.current(b"k\0\0")),
            SET.expiry(0, b"\0\0\0\0"),
            bytes(SET.state()),
            bytes(SET.current_end()),
            unescaped,
        ];
        assert!(others.iter().all(|row| ring_of(row).is_none() && stem_of(row).is_none()));
    }

    #[test]
    fn expiry_keys_sort_by_deadline() {
        assert!(SET.expiry(255, b"z") < SET.expiry(256, b"a"));
        assert_eq!(parts_of_expiry(&SET.expiry(9, b"key")), (9, Bytes::from_static(b"key")));
    }

    #[test]
    fn row_keys_keep_to_their_copy_and_kind() {
        let next = RowSet { generation: 4, ..SET };
        let rows = [
            bytes(SET.state()),
            bytes(SET.current(b"\xff\xff")),
            bytes(SET.current_end()),
            bytes(SET.history(b"\xff", 0)),
            SET.expiry_begin(),
            SET.expiry(u64::MAX, b"\xff"),
            SET.session_begin(),
            bytes(SET.session(u64::MAX, u16::MAX)),
            bytes(SET.ledger(b"")),
            bytes(SET.ledger(b"\x01k12345678")),
            SET.ledger_end(),
            bytes(SET.bucket(0)),
            bytes(SET.bucket(1023)),
            bytes(SET.tombstone(b"")),
            bytes(SET.tombstone(b"\xff")),
            SET.end(),
            bytes(next.state()),
        ];
        assert!(rows.is_sorted());
        assert_eq!(
            bytes(next.with_suffix(&RowSet::suffix(&bytes(SET.current(b"k"))))),
            bytes(next.current(b"k"))
        );
        assert_eq!(parts_of_session(&bytes(SET.session(5, 511))), (5, 511));
        assert_eq!(key_of_current(&bytes(SET.current(b"k"))), "k");
    }

    #[test]
    fn row_keys_name_the_user_s_key_they_are_of() {
        for key in [&b""[..], b"k", b"\0", b"a\0\0\xff", b"\xff\0"] {
            let rows = [bytes(SET.current(key)), bytes(SET.history(key, 7)), SET.expiry(9, key)];
            for row in rows {
                assert_eq!(key_of_suffix(&RowSet::suffix(&row)).as_deref(), Some(key), "{row:?}");
            }
        }
        assert_eq!(
            key_of_suffix(&RowSet::suffix(&bytes(SET.ledger(b"\x01k12345678")))).as_deref(),
            Some(&b"k"[..])
        );
        for row in [bytes(SET.state()), bytes(SET.session(1, 1)), bytes(SET.ledger(b"\0\0\x07"))] {
            assert_eq!(key_of_suffix(&RowSet::suffix(&row)), None);
        }
    }

    #[test]
    fn row_keys_have_their_part_and_nothing_else_has() {
        let part = |row: &Bytes| Part::of(&RowSet::suffix(row));
        assert_eq!(part(&bytes(SET.state())), Some(Part::State));
        assert_eq!(part(&bytes(SET.current(b"k"))), Some(Part::Revision));
        assert_eq!(part(&bytes(SET.history(b"k", 1))), Some(Part::Revision));
        assert_eq!(part(&SET.expiry(1, b"k")), Some(Part::Expiry));
        assert_eq!(part(&bytes(SET.session(1, 1))), Some(Part::Session));
        assert_eq!(part(&bytes(SET.bucket(7))), Some(Part::Bucket));
        assert_eq!(part(&bytes(SET.tombstone(b"k"))), Some(Part::Tombstone));
        for suffix in [&b""[..], b"\0x", b"\x01", b"\x02short", b"\x04x", b"\x06xxx", b"\x07", b"\x09x"] {
            assert_eq!(Part::of(suffix), None);
        }
    }
}
