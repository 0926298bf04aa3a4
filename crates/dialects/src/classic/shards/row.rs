//! How a number lies in the keyspace: each from 0 to 99 is of a shard of its own, and all above share the last one.
//!
//! A shard has slots, and a key's slot follows from its tag, so each shard has a tag that falls into it: `{17}0000000042`. The digits
//! behind it keep the keys of the last shard in the order of their numbers.

use std::sync::OnceLock;

use kv::{Key, Slot, SlotRange};

/// Shards of the keyspace: one for each key from 0 to 99, and the last one. So ranges are equal within one key.
pub const SHARDS: u32 = 101;
/// The shard of a key that is at least this.
pub(super) const LAST: u32 = SHARDS - 1;

/// The key of a number.
pub(super) fn key(number: u32) -> Key {
    let tag = &tags()[number.min(LAST) as usize];
    format!("{{{tag}}}{number:010}").into()
}

/// The number of a key; `None` = it is none: another dialect wrote it.
pub(super) fn number(key: &[u8]) -> Option<u32> {
    let (_, digits) = std::str::from_utf8(key).ok()?.split_once('}')?;
    let number = digits.parse().ok().filter(|_| digits.len() == 10)?;
    (self::key(number) == key).then_some(number)
}

/// The tag of each shard: the least number whose slot is in it.
fn tags() -> &'static [String] {
    static TAGS: OnceLock<Vec<String>> = OnceLock::new();
    TAGS.get_or_init(|| {
        let tag = |shard| {
            let slots = SlotRange::nth(shard, SHARDS);
            let mut all = (0..).map(|number: u32| number.to_string());
            all.find(|tag| slots.contains(Slot::of(tag.as_bytes()))).expect("some number has a slot in it")
        };
        (0..SHARDS).map(tag).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard_of(number: u32) -> u32 {
        let slot = Slot::of(&key(number));
        (0..SHARDS).find(|shard| SlotRange::nth(*shard, SHARDS).contains(slot)).unwrap()
    }

    #[test]
    fn key_up_to_99_has_a_shard_of_its_own_and_those_above_the_last() {
        for number in 0..=LAST {
            assert_eq!(shard_of(number), number);
        }
        assert_eq!([101, 5_000, u32::MAX].map(shard_of), [LAST; 3]);
    }

    #[test]
    fn number_of_a_key_is_the_one_that_it_was() {
        for one in [0, 7, 99, 100, 101, u32::MAX] {
            assert_eq!(number(&key(one)), Some(one));
        }
        for other in [&b""[..], b"x", b"{0}0", b"{0}0000000001", b"\xff}0000000001"] {
            assert_eq!(number(other), None);
        }
        assert!(key(200) < key(1_000) && key(1_000) < key(u32::MAX));
    }
}
