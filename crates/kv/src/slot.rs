//! Slots: how a key finds its shard.
//!
//! The slot of a key is CRC16/XMODEM of the key modulo 16384, or of its tag: what stands between the first `{` and the
//! next `}` when that is not empty. Keys with one tag share a slot, hence a shard, hence can share a transaction. This
//! is the rule of Redis Cluster (redis.io, "Redis cluster specification", section "Hash tags").

use std::fmt;

use crate::SLOTS;

/// One of the 16384 parts of the key space. Starts at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

impl Slot {
    /// The slot of a key.
    pub fn of(key: &[u8]) -> Slot {
        Slot(crc16(tag(key).unwrap_or(key)) % SLOTS)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The slots of one shard, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotRange {
    /// The first slot.
    pub first: Slot,
    /// The last slot.
    pub last: Slot,
}

impl SlotRange {
    /// Whether a slot is inside.
    pub fn contains(&self, slot: Slot) -> bool {
        self.first <= slot && slot <= self.last
    }

    /// The range of the `index`-th of `count` shards (from 0): all slots, in order, sizes equal within one.
    pub fn nth(index: u32, count: u32) -> SlotRange {
        assert!(index < count && count <= u32::from(SLOTS), "a shard has at least one slot");
        let edge = |i: u32| (u64::from(SLOTS) * u64::from(i) / u64::from(count)) as u16;
        SlotRange { first: Slot(edge(index)), last: Slot(edge(index + 1) - 1) }
    }
}

fn tag(key: &[u8]) -> Option<&[u8]> {
    let open = key.iter().position(|&b| b == b'{')?;
    let rest = &key[open + 1..];
    let close = rest.iter().position(|&b| b == b'}')?;
    (close > 0).then(|| &rest[..close])
}

/// CRC16/XMODEM: polynomial 0x1021, initial value 0, not reflected.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &b| (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ b)])
}

const TABLE: [u16; 256] = {
    let mut table = [0u16; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = (i as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc16_check_value_matches_xmodem() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
    }

    #[test]
    fn slot_of_known_keys_matches_redis() {
        assert_eq!(Slot::of(b"foo"), Slot(12182));
        assert_eq!(Slot::of(b"somekey"), Slot(11058));
    }

    #[test]
    fn slot_tag_decides_when_not_empty() {
        assert_eq!(Slot::of(b"{user1000}.following"), Slot::of(b"user1000"));
        assert_eq!(Slot::of(b"foo{{bar}}zap"), Slot::of(b"{bar"));
        assert_ne!(Slot::of(b"foo{}{bar}"), Slot::of(b"bar"));
    }

    #[test]
    fn slot_ranges_cover_all_slots_once() {
        for count in [1, 3, 4, 5, 7, 1000, 16384] {
            let mut next = 0;
            for index in 0..count {
                let range = SlotRange::nth(index, count);
                assert_eq!(range.first, Slot(next));
                next = range.last.0 + 1;
            }
            assert_eq!(next, SLOTS);
        }
    }
}
