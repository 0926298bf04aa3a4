//! A revision of a key as it is stored: a head, then the value.
//!
//! Head: format (1 byte), flags with the kind (1 byte), version (8), created (8), changes, ordinal and kept (LEB128),
//! deadline (8, when the flag says so), how the older revisions lie (two LEB128, when the flag says so). A row that becomes history keeps its bytes; its `kept` is then out of date and not looked at.
//!
//! In the merged layout the format is another, and behind the deadline stand the oldest kept version (8), the version that it replaced and the floor
//! of the key (8 each, when the flags say so).

use bytes::{Buf, Bytes};
use kv::merged::Rank;
use kv::{Row, Version};

use super::expiry;
use super::older::Places;
use crate::engine::EngineError;

const FORMAT: u8 = 2;
/// Of a row in the merged layout.
const FORMAT_MERGED: u8 = 3;
const KIND_TEXT: u8 = 1;
const KIND_TOMBSTONE: u8 = 2;
const KIND_EXPIRY: u8 = 3;
const KIND_BITS: u8 = 0x0f;
const FLAG_REPLACED: u8 = 0x10;
const FLAG_PLACES: u8 = 0x20;
/// In the merged layout, which has no places.
const FLAG_FLOOR: u8 = 0x20;
const FLAG_DEADLINE: u8 = 0x40;
const FLAG_FIRST: u8 = 0x80;
/// The longest head: 2 + 8 + 8 + 10 + 10 + 10 + 8 + 10 + 10 + 8 + 8.
const HEAD_BYTES_MAX: usize = 92;

/// What is known of a revision beside its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The key was deleted then.
    pub tombstone: bool,
    /// Nothing of the key was kept before this revision, and nothing had been forgotten since the shard's floor: the
    /// key was absent then.
    pub first: bool,
    pub version: Version,
    /// When the key came into being; zero of a tombstone.
    pub created: Version,
    /// Writes since; 0 of a tombstone.
    pub changes: u64,
    /// Revisions of the key before this one, since it was last wholly forgotten.
    pub ordinal: u64,
    /// How many of them are kept: those right before this one. Kept right in the newest revision only.
    pub kept: u64,
    /// When the value expires; of a tombstone, when it and the older revisions are forgotten.
    pub deadline: Option<u64>,
    /// How the older revisions lie, where that is not as the cluster was founded. Right in the newest revision only.
    pub places: Option<Places>,
    /// In the merged layout: what its row says beside. `None` in the ordered one.
    pub merged: Option<Merged>,
}

/// What a revision says beside in the merged layout. There `ordinal` is 0, and `places` not used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// It is the expiry of the value of its version.
    pub expired: bool,
    /// The version that its maker knew before it.
    pub replaced: Option<Version>,
    /// The version of the oldest revision that is kept before it; zero = none is. Right in the newest revision only.
    pub oldest: Version,
    /// Nothing of the key below this version is kept, whenever it comes; zero = nothing was trimmed. Right in the newest revision only.
    pub floor: Version,
}

/// A stored revision.
#[derive(Clone, Debug)]
pub struct Record {
    pub head: Head,
    /// All its bytes.
    pub raw: Bytes,
    /// Where the value begins in them.
    value_at: usize,
}

impl Record {
    pub fn decode(raw: Bytes) -> Result<Record, EngineError> {
        let damaged = || EngineError::corrupt("reading a row", "its head is none that this program writes");
        let mut rest = raw.as_ref();
        let head = decode(&mut rest).ok_or_else(damaged)?;
        let value_at = raw.len() - rest.len();
        Ok(Record { head, raw, value_at })
    }

    pub fn value(&self) -> Bytes {
        self.raw.slice(self.value_at..)
    }

    /// How many bytes its value has.
    pub fn value_bytes(&self) -> usize {
        self.raw.len() - self.value_at
    }

    pub fn is_expired_at(&self, version: Version) -> bool {
        self.head.deadline.is_some_and(|deadline| deadline <= version.micros())
    }

    /// Whether there is a value, seen from a version.
    pub fn is_live_at(&self, version: Version) -> bool {
        !self.head.tombstone && !self.is_expired_at(version)
    }

    pub fn row(&self, key: &Bytes) -> Row {
        self.head.row(key, self.value())
    }

    /// As it travels between merged stores.
    pub fn merged_row(&self, key: &Bytes) -> kv::merged::Row {
        let Head { version, created, changes, deadline, tombstone, .. } = self.head;
        let Merged { expired, replaced, floor, .. } = self.head.merged.unwrap_or_default();
        let (key, value) = (key.clone(), (!tombstone).then(|| self.value()));
        let known = false;
        kv::merged::Row { key, version, expired, value, created, changes, deadline, replaced, floor, known }
    }
}

impl Head {
    pub fn tombstone(version: Version, ordinal: u64, kept: u64, deadline: Option<u64>) -> Head {
        let created = Version::ZERO;
        let (tombstone, first, changes, places, merged) = (true, false, 0, None, None);
        Head { tombstone, first, version, created, changes, ordinal, kept, deadline, places, merged }
    }

    /// Of a row of a merged store, of which nothing is kept before it yet.
    pub fn of_merged(row: &kv::merged::Row) -> Head {
        let kv::merged::Row { version, expired, created, changes, deadline, replaced, floor, .. } = *row;
        let merged = Some(Merged { expired, replaced, oldest: Version::ZERO, floor });
        let first = floor == Version::ZERO;
        let (tombstone, ordinal, kept, places) = (row.value.is_none(), 0, 0, None);
        Head { tombstone, first, version, created, changes, ordinal, kept, deadline, places, merged }
    }

    /// Its place among the revisions of its key.
    pub fn rank(&self) -> Rank {
        let Merged { expired, floor, .. } = self.merged.unwrap_or_default();
        Rank { version: self.version, expired, floor }
    }

    /// Nothing of the key below it is kept.
    pub fn floor(&self) -> Version {
        self.rank().floor
    }

    /// Since when a read finds it: an expiry, since the deadline.
    pub fn since(&self) -> Version {
        // A deadline may be beyond what a version can say.
        if self.rank().expired { expiry::version_of(self).max(self.version) } else { self.version }
    }

    /// When it has a row in the expiry index for: of a tombstone in the merged layout there is none, for others collect it.
    pub fn due(&self) -> Option<u64> {
        self.deadline.filter(|_| !self.tombstone || self.merged.is_none())
    }

    pub fn row(&self, key: &Bytes, value: Bytes) -> Row {
        let Head { version, created, changes, deadline, .. } = *self;
        Row { key: key.clone(), value, version, created, changes, deadline }
    }

    /// The bytes of a revision whose value is these pieces.
    pub fn encode(&self, pieces: &[&[u8]]) -> Bytes {
        let mut head = Fixed { bytes: [0; HEAD_BYTES_MAX], length: 0 };
        let expired = self.merged.is_some_and(|merged| merged.expired);
        let kind = match self.tombstone {
            true if expired => KIND_EXPIRY,
            true => KIND_TOMBSTONE,
            false => KIND_TEXT,
        };
        let deadline = if self.deadline.is_some() { FLAG_DEADLINE } else { 0 };
        let first = if self.first { FLAG_FIRST } else { 0 };
        assert!(self.places.is_none() || self.merged.is_none(), "the merged layout has no places");
        let places = if self.places.is_some() { FLAG_PLACES } else { 0 };
        let replaced = self.merged.and_then(|merged| merged.replaced);
        let replaces = if replaced.is_some() { FLAG_REPLACED } else { 0 };
        let floor = Some(self.floor()).filter(|floor| *floor > Version::ZERO);
        let trimmed = if floor.is_some() { FLAG_FLOOR } else { 0 };
        let format = if self.merged.is_some() { FORMAT_MERGED } else { FORMAT };
        head.put(&[format, kind | deadline | first | places | replaces | trimmed]);
        head.put(&self.version.as_i64().to_be_bytes());
        head.put(&self.created.as_i64().to_be_bytes());
        head.put_uint(self.changes);
        head.put_uint(self.ordinal);
        head.put_uint(self.kept);
        if let Some(deadline) = self.deadline {
            head.put(&deadline.to_be_bytes());
        }
        if let Some(Places { places, ring_until }) = self.places {
            head.put_uint(places);
            head.put_uint(ring_until);
        }
        if let Some(Merged { oldest, .. }) = self.merged {
            head.put(&oldest.as_i64().to_be_bytes());
            let versions = replaced.iter().chain(&floor);
            versions.for_each(|version| head.put(&version.as_i64().to_be_bytes()));
        }
        let length = head.length + pieces.iter().map(|piece| piece.len()).sum::<usize>();
        let mut row = Vec::with_capacity(length);
        row.extend_from_slice(&head.bytes[..head.length]);
        pieces.iter().for_each(|piece| row.extend_from_slice(piece));
        assert_eq!(row.len(), length, "bytes of a revision, as they were counted");
        row.into()
    }
}

/// A head while it is written: on the stack, so that the row is allocated once and exactly.
struct Fixed {
    bytes: [u8; HEAD_BYTES_MAX],
    length: usize,
}

impl Fixed {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    fn put_uint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.put(&[number as u8 | 0x80]);
            number >>= 7;
        }
        self.put(&[number as u8]);
    }
}

fn decode(rest: &mut &[u8]) -> Option<Head> {
    let is_merged = match rest.try_get_u8().ok()? {
        FORMAT => false,
        FORMAT_MERGED => true,
        _ => return None,
    };
    let flags = rest.try_get_u8().ok()?;
    let tombstone = match flags & KIND_BITS {
        KIND_TEXT => false,
        KIND_TOMBSTONE => true,
        KIND_EXPIRY if is_merged => true,
        _ => return None,
    };
    let version = Version::from_i64(rest.try_get_i64().ok()?)?;
    let created = Version::from_i64(rest.try_get_i64().ok()?)?;
    let changes = uint(rest)?;
    let ordinal = uint(rest)?;
    let kept = uint(rest)?;
    let deadline = if flags & FLAG_DEADLINE != 0 { Some(rest.try_get_u64().ok()?) } else { None };
    let first = flags & FLAG_FIRST != 0;
    let places = if !is_merged && flags & FLAG_PLACES != 0 { Some(places(rest)?) } else { None };
    let merged = if is_merged { Some(merged(rest, flags)?) } else { None };
    Some(Head { tombstone, first, version, created, changes, ordinal, kept, deadline, places, merged })
}

fn merged(rest: &mut &[u8], flags: u8) -> Option<Merged> {
    let mut version = || Version::from_i64(rest.try_get_i64().ok()?);
    let oldest = version()?;
    let replaced = if flags & FLAG_REPLACED != 0 { Some(version()?) } else { None };
    let floor = match flags & FLAG_FLOOR {
        0 => Version::ZERO,
        _ => version().filter(|floor| *floor > Version::ZERO)?,
    };
    Some(Merged { expired: flags & KIND_BITS == KIND_EXPIRY, replaced, oldest, floor })
}

fn places(rest: &mut &[u8]) -> Option<Places> {
    let (places, ring_until) = (uint(rest)?, uint(rest)?);
    (places > 0).then_some(Places { places, ring_until })
}

fn uint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = rest.try_get_u8().ok()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged() -> [Option<Merged>; 3] {
        let (oldest, replaced) = (Version::from_i64(7).unwrap(), Version::from_i64(9));
        [None, Some(Merged::default()), Some(Merged { expired: true, replaced, oldest, floor: oldest })]
    }

    #[test]
    fn record_encoded_decodes() {
        let version = Version::from_i64(i64::MAX).unwrap();
        for (tombstone, first, deadline) in
            [(false, true, Some(u64::MAX)), (true, false, None), (false, false, Some(0))]
        {
            let (created, changes, ordinal, kept) =
                (Version::from_i64(5).unwrap(), u64::MAX, u64::MAX - 1, u64::MAX - 2);
            let layouts = [None, Some(Places::of(u64::MAX)), Some(Places::of(17).until(u64::MAX - 1))];
            for (places, merged) in
                layouts.into_iter().flat_map(|places| merged().map(|merged| (places, merged)))
            {
                let merged = merged.map(|merged| Merged { expired: merged.expired && tombstone, ..merged });
                // In the merged layout there are no places.
                let places = places.filter(|_| merged.is_none());
                let head = Head {
                    tombstone,
                    first,
                    version,
                    created,
                    changes,
                    ordinal,
                    kept,
                    deadline,
                    places,
                    merged,
                };
                let record = Record::decode(head.encode(&[b"va", b"lue"])).unwrap();
                assert_eq!((record.head, record.value()), (head, Bytes::from_static(b"value")));
            }
        }
    }

    #[test]
    fn record_cut_or_unknown_is_corrupt() {
        let raw = Head::tombstone(Version::ZERO, 300, 3, None).encode(&[]);
        for length in 0..raw.len() {
            assert!(Record::decode(raw.slice(..length)).is_err());
        }
        let mut unknown = raw.to_vec();
        unknown[0] = 9;
        assert!(Record::decode(unknown.into()).is_err());
    }
}
