//! Which rows were written since some time, told by their keys, for whoever has a copy of that time: to bring it up to date costs
//! what has changed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

/// Bytes that may be noted for one reader. Whoever would need more reads all rows again, which is then no more than that.
const NOTED_BYTES_MAX: usize = 32 << 20;
/// What a key takes beside its bytes, about.
const KEY_BYTES: usize = 64;

/// What is noted, by what the keys begin with and for whom.
#[derive(Default)]
pub struct Notes(BTreeMap<(Bytes, usize), Noted>);

/// The keys that were written since a time.
#[derive(Debug)]
pub struct Noted {
    /// The reader's name for that time.
    pub since: u64,
    /// Each once.
    pub keys: BTreeSet<Bytes>,
    bytes: usize,
}

impl Notes {
    /// Whether nothing is noted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes from now on which keys are written that begin so, for a reader; what was noted for it before. `None` = nothing, or
    /// more than is kept.
    pub fn begin(&mut self, prefix: Bytes, reader: usize, now: u64) -> Option<Noted> {
        self.0.insert((prefix, reader), Noted { since: now, keys: BTreeSet::new(), bytes: 0 })
    }

    /// Notes nothing more of such keys.
    pub fn end(&mut self, prefix: &[u8]) {
        self.0.retain(|(noted, _), _| noted != prefix);
    }

    /// A key is written.
    pub fn add(&mut self, key: &[u8]) {
        self.0.retain(|(prefix, _), noted| {
            if key.starts_with(prefix) && !noted.keys.contains(key) {
                noted.bytes += key.len() + KEY_BYTES;
                noted.keys.insert(Bytes::copy_from_slice(key));
            }
            noted.bytes <= NOTED_BYTES_MAX
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reader_is_told_each_key_of_its_own_once_and_only_what_was_written_since() {
        let mut notes = Notes::default();
        let begin = |notes: &mut Notes, reader, now| notes.begin(Bytes::from_static(b"a"), reader, now);
        assert!(begin(&mut notes, 0, 5).is_none());
        for key in ["a1", "b1", "a2", "a1"] {
            notes.add(key.as_bytes());
        }
        assert!(begin(&mut notes, 1, 7).is_none());
        notes.add(b"a3");
        let told = |noted: Noted| (noted.since, Vec::from_iter(noted.keys));
        assert_eq!(begin(&mut notes, 0, 8).map(told), Some((5, vec!["a1".into(), "a2".into(), "a3".into()])));
        assert_eq!(begin(&mut notes, 1, 8).map(told), Some((7, vec!["a3".into()])));
        notes.end(b"a");
        assert!(notes.is_empty());
    }

    #[test]
    fn what_is_more_than_is_kept_is_told_to_nobody() {
        let mut notes = Notes::default();
        notes.begin(Bytes::new(), 0, 1);
        let key = |number: usize| vec![number as u8; (1 << 20) + number];
        (0..32).for_each(|number| notes.add(&key(number)));
        assert!(notes.is_empty() && notes.begin(Bytes::new(), 0, 2).is_none());
    }
}
