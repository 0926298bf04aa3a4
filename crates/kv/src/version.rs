//! Versions: the one clock that users see.

use std::fmt;

use crate::ReplicaId;

/// When a write happened: microseconds since 1970 in the high 53 bits, the replica that issued it in the low 10.
///
/// Unique and rising per shard: applying fixes the greater of the proposed version and the next one after the shard's
/// newest. One version per atomic op. Positive; [`Version::ZERO`] is before every write. In JSON it is a string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(i64);

const REPLICA_BITS: u32 = 10;
const REPLICA_MASK: i64 = (1 << REPLICA_BITS) - 1;

impl Version {
    /// Before every write.
    pub const ZERO: Version = Version(0);
    /// After every write.
    pub const MAX: Version = Version(i64::MAX);
    /// The last microsecond since 1970 that a version can hold (in the year 2255).
    pub const MICROS_MAX: u64 = (i64::MAX >> REPLICA_BITS) as u64;

    /// The version of `micros` microseconds since 1970, issued by `replica`. Later times count as [`Self::MICROS_MAX`].
    pub fn new(micros: u64, replica: ReplicaId) -> Version {
        let micros = micros.min(Self::MICROS_MAX) as i64;
        Version((micros << REPLICA_BITS) | (i64::from(replica.0) & REPLICA_MASK))
    }

    /// The last version within the microsecond `micros`: a read at it sees all of that microsecond.
    pub fn end_of(micros: u64) -> Version {
        Version(((micros.min(Self::MICROS_MAX) as i64) << REPLICA_BITS) | REPLICA_MASK)
    }

    /// From its number; `None` when negative.
    pub fn from_i64(number: i64) -> Option<Version> {
        (number >= 0).then_some(Version(number))
    }

    /// Its number.
    pub fn as_i64(self) -> i64 {
        self.0
    }

    /// The one right before it; [`Version::ZERO`] has none but itself.
    pub fn before(self) -> Version {
        Version((self.0 - 1).max(0))
    }

    /// The one right after it; [`Version::MAX`] has none but itself.
    pub fn next(self) -> Version {
        Version(self.0.saturating_add(1))
    }

    /// Microseconds since 1970.
    pub fn micros(self) -> u64 {
        (self.0 >> REPLICA_BITS) as u64
    }

    /// The replica that issued it.
    pub fn replica(self) -> ReplicaId {
        ReplicaId((self.0 & REPLICA_MASK) as u16)
    }

    /// What applying gives a write that was proposed at `self` where `last` is the shard's newest version: `self` when
    /// it is later, else the same replica's version one microsecond after `last`.
    pub fn after(self, last: Version) -> Version {
        if self > last { self } else { Version::new(last.micros() + 1, self.replica()) }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::str::FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Version, String> {
        text.parse().ok().and_then(Version::from_i64).ok_or_else(|| {
            format!("'{text}' is no version: it is a whole number of 0 or more, as printed by put or history")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_parts_round_trip() {
        let version = Version::new(1_700_000_000_000_000, ReplicaId(1023));
        assert_eq!((version.micros(), version.replica()), (1_700_000_000_000_000, ReplicaId(1023)));
        assert_eq!(version.to_string().parse(), Ok(version));
    }

    #[test]
    fn version_proposed_behind_last_moves_past_it() {
        let last = Version::new(100, ReplicaId(7));
        assert_eq!(Version::new(50, ReplicaId(2)).after(last), Version::new(101, ReplicaId(2)));
        assert_eq!(Version::new(200, ReplicaId(2)).after(last), Version::new(200, ReplicaId(2)));
        assert!(Version::new(100, ReplicaId(2)).after(last) > last);
    }

    #[test]
    fn version_end_of_covers_its_microsecond_only() {
        assert!(Version::end_of(5) >= Version::new(5, ReplicaId::MAX));
        assert!(Version::end_of(5) < Version::new(6, ReplicaId(0)));
    }

    #[test]
    fn version_negative_or_garbled_is_refused() {
        assert!("-1".parse::<Version>().is_err());
        assert!("x".parse::<Version>().is_err());
    }
}
