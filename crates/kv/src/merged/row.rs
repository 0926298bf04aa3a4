//! A revision of a key, whole.

use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::codec::{Malformed, Reader, put_bytes, put_uint, put_version};
use crate::{KEY_BYTES_MAX, KEY_BYTES_MIN, Key, VALUE_BYTES_MAX, Value, Version};

/// The first byte of a row. Another one is of another version of this program.
const FORMAT: u8 = 1;
const VALUE: u8 = 1;
const EXPIRED: u8 = 2;
const DEADLINE: u8 = 4;
const REPLACED: u8 = 8;
const FLOOR: u8 = 16;
const KNOWN: u8 = 32;
const FLAGS: u8 = VALUE | EXPIRED | DEADLINE | REPLACED | FLOOR | KNOWN;
/// Of a name.
const NAME_EXPIRED: u8 = 1;
const NAME_FLOOR: u8 = 2;

/// The order of the revisions of a key: the highest is the newest. Of one revision that one is higher with which more was trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank {
    /// When it was written.
    pub version: Version,
    /// It is the expiry of the value that was written then.
    pub expired: bool,
    /// The floor of its key, as far as it is known with it; zero = none.
    pub floor: Version,
}

impl Rank {
    /// Of a revision, by its version and whether it is the expiry of what was written then; without a floor.
    pub fn of(version: Version, expired: bool) -> Rank {
        Rank { version, expired, floor: Version::ZERO }
    }

    /// Which revision it is of, whatever the floor of its key.
    pub fn revision(self) -> (Version, bool) {
        (self.version, self.expired)
    }
}

/// One revision of one key, as it was made. Two with one key and one [`Rank`] are the same in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub key: Key,
    /// When it was written. Never zero.
    pub version: Version,
    /// It is the expiry of the value of this version.
    pub expired: bool,
    /// The value; `None` = a tombstone: the key was deleted, or its value has expired.
    pub value: Option<Value>,
    /// When the key came into being; of an expiry, that of its value. Zero of a deletion.
    pub created: Version,
    /// Writes since, the first included; of an expiry, those of its value. 0 of a deletion.
    pub changes: u64,
    /// When the value expires, in microseconds since 1970; of an expiry, when it did.
    pub deadline: Option<u64>,
    /// The version of the key that was the newest known to who made it; `None` = there was none.
    pub replaced: Option<Version>,
    /// Nothing of the key below this version is kept, whenever it comes; zero = nothing was trimmed. Never above its own version.
    pub floor: Version,
    /// Who merges it had it before, and takes the floor of it only: where nothing is left of its key, all of it is gone for good. Not stored.
    pub known: bool,
}

impl Row {
    /// A deletion.
    pub fn tombstone(key: Key, version: Version, replaced: Option<Version>) -> Row {
        let (expired, value, created, changes, deadline) = (false, None, Version::ZERO, 0, None);
        Row {
            key,
            version,
            expired,
            value,
            created,
            changes,
            deadline,
            replaced,
            floor: Version::ZERO,
            known: false,
        }
    }

    /// The same, and with it all that is older is trimmed.
    pub fn trim(&self) -> Row {
        Row { floor: self.version, ..self.clone() }
    }

    /// The expiry of this value; `None` = it has no deadline, or is no value.
    pub fn expire(&self) -> Option<Row> {
        (self.value.is_some() && self.deadline.is_some()).then(|| Row {
            expired: true,
            value: None,
            ..self.clone()
        })
    }

    /// Its place among the revisions of its key.
    pub fn rank(&self) -> Rank {
        Rank { version: self.version, expired: self.expired, floor: self.floor }
    }

    /// Whether it has a value that lasts beyond a version.
    pub fn is_live_at(&self, version: Version) -> bool {
        self.value.is_some() && self.deadline.is_none_or(|deadline| deadline > version.micros())
    }

    /// Bytes of its key and value.
    pub fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Value::len)
    }

    /// As it is answered; a tombstone has an empty value.
    pub fn to_row(&self) -> crate::Row {
        let Row { version, created, changes, deadline, .. } = *self;
        let value = self.value.clone().unwrap_or_default();
        crate::Row { key: self.key.clone(), value, version, created, changes, deadline }
    }

    /// Checks that it can be: an error says what cannot.
    pub fn check(&self) -> Result<(), Malformed> {
        let is_sound = |yes, why| if yes { Ok(()) } else { Err(Malformed(why)) };
        check_key(&self.key)?;
        is_sound(
            self.value.as_ref().is_none_or(|value| value.len() <= VALUE_BYTES_MAX),
            "a row's value is too large",
        )?;
        is_sound(self.version > Version::ZERO, "a row has no version")?;
        is_sound(self.replaced.is_none_or(|before| before < self.version), "a row replaces a later one")?;
        is_sound(self.floor <= self.version, "a row is below the floor of its key")?;
        is_sound(!self.known || self.floor > Version::ZERO, "a row that is known says nothing")?;
        if self.value.is_some() || self.expired {
            is_sound(self.expired != self.value.is_some(), "an expiry has a value")?;
            is_sound(!self.expired || self.deadline.is_some(), "an expiry has no deadline")?;
            is_sound(self.changes > 0, "a value was never written")?;
            let lasts = self.deadline.is_none_or(|deadline| deadline > self.version.micros());
            is_sound(lasts, "a value expired before it was written")?;
            let is_after = self.created > Version::ZERO && self.created <= self.version;
            return is_sound(is_after, "a value was written before its key came to be");
        }
        let is_bare = self.created == Version::ZERO && self.changes == 0 && self.deadline.is_none();
        is_sound(is_bare, "a deletion counts what only a value has")
    }
}

/// For people and scripts: `k@7=value`, `k@7 deleted`, `k@7 expired`, and what else is worth saying.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.key.escape_ascii(), self.version)?;
        match &self.value {
            Some(value) => write!(f, "={}", value.escape_ascii())?,
            None if self.expired => write!(f, " expired")?,
            None => write!(f, " deleted")?,
        }
        if self.changes > 0 {
            write!(f, " created={} changes={}", self.created, self.changes)?;
        }
        if let Some(deadline) = self.deadline {
            write!(f, " deadline={deadline}")?;
        }
        if let Some(replaced) = self.replaced {
            write!(f, " replaced={replaced}")?;
        }
        match self.floor {
            Version::ZERO => Ok(()),
            floor => write!(f, " floor={floor}"),
        }
    }
}

/// A rank, as the version, behind the version of an expiry a `+`, and behind a slash the floor, if there is one.
impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.version, if self.expired { "+" } else { "" })?;
        match self.floor {
            Version::ZERO => Ok(()),
            floor => write!(f, "/{floor}"),
        }
    }
}

/// Writes a row.
pub fn encode_row(into: &mut BytesMut, row: &Row) {
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    into.put_u8(FORMAT);
    into.put_u8(
        flag(row.value.is_some(), VALUE)
            | flag(row.expired, EXPIRED)
            | flag(row.deadline.is_some(), DEADLINE)
            | flag(row.replaced.is_some(), REPLACED)
            | flag(row.floor > Version::ZERO, FLOOR)
            | flag(row.known, KNOWN),
    );
    put_bytes(into, &row.key);
    put_version(into, row.version);
    put_version(into, row.created);
    put_uint(into, row.changes);
    row.deadline.iter().for_each(|deadline| put_uint(into, *deadline));
    row.replaced.iter().for_each(|replaced| put_version(into, *replaced));
    put_floor(into, row.floor);
    row.value.iter().for_each(|value| put_bytes(into, value));
}

/// Reads a row, one that can be.
pub fn decode_row(reader: &mut Reader) -> Result<Row, Malformed> {
    if reader.u8()? != FORMAT {
        return Err(Malformed("a row is of an unknown format"));
    }
    let flags = reader.u8()?;
    if flags & !FLAGS != 0 {
        return Err(Malformed("a row has unknown flags"));
    }
    let has = |flag| flags & flag != 0;
    let row = Row {
        key: reader.bytes()?,
        version: reader.version()?,
        expired: has(EXPIRED),
        created: reader.version()?,
        changes: reader.uint()?,
        deadline: if has(DEADLINE) { Some(reader.uint()?) } else { None },
        replaced: if has(REPLACED) { Some(reader.version()?) } else { None },
        floor: if has(FLOOR) { floor(reader)? } else { Version::ZERO },
        known: has(KNOWN),
        value: if has(VALUE) { Some(reader.bytes()?) } else { None },
    };
    row.check()?;
    Ok(row)
}

/// Writes the name of a row: its key and rank.
pub fn encode_named(into: &mut BytesMut, (key, rank): &(Key, Rank)) {
    put_bytes(into, key);
    put_version(into, rank.version);
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    into.put_u8(flag(rank.expired, NAME_EXPIRED) | flag(rank.floor > Version::ZERO, NAME_FLOOR));
    put_floor(into, rank.floor);
}

/// Reads the name of a row.
pub fn decode_named(reader: &mut Reader) -> Result<(Key, Rank), Malformed> {
    let (key, version, flags) = (decode_key(reader)?, reader.version()?, reader.u8()?);
    if flags & !(NAME_EXPIRED | NAME_FLOOR) != 0 {
        return Err(Malformed("the name of a row has unknown flags"));
    }
    let floor = if flags & NAME_FLOOR != 0 { floor(reader)? } else { Version::ZERO };
    Ok((key, Rank { version, expired: flags & NAME_EXPIRED != 0, floor }))
}

fn put_floor(into: &mut BytesMut, floor: Version) {
    if floor > Version::ZERO {
        put_version(into, floor);
    }
}

/// A floor that is there is above nothing.
fn floor(reader: &mut Reader) -> Result<Version, Malformed> {
    match reader.version()? {
        Version::ZERO => Err(Malformed("a floor is zero, which is none")),
        floor => Ok(floor),
    }
}

/// Reads a key that can be.
pub(super) fn decode_key(reader: &mut Reader) -> Result<Key, Malformed> {
    let key = reader.bytes()?;
    check_key(&key)?;
    Ok(key)
}

fn check_key(key: &Key) -> Result<(), Malformed> {
    if (KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&key.len()) {
        Ok(())
    } else {
        Err(Malformed("the length of a row's key is out of bounds"))
    }
}
