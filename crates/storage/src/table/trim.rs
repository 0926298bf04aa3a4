//! Trims: older revisions are forgotten, of one key or of all between two.
//!
//! What is read at the version of a trim or later stays as it was: of each key the newest revision at that version is
//! kept, and what is older goes. What can no longer be told is `trimmed` from then on, never `not found`: the oldest kept
//! revision is not the key's first any more. Of a key that was deleted by then nothing stays; the shard's floor says so.
//!
//! No trim takes long: it forgets so many revisions, the oldest first, looks at so many keys and reads so many bytes, then
//! tells where to go on. How many revisions of a key go is found by halving, and without a version not looked for at all.

use kv::{Answer, Key, PAGE_BYTES_MAX, Version};
use mutant::Mutant;

use super::older;
use super::range::SKIPPED_ROWS_MAX;
use super::record::Head;
use super::write::Writer;
use crate::engine::EngineError;

/// What one trim has done.
#[derive(Default)]
struct Work {
    /// Revisions forgotten.
    forgotten: usize,
    /// Older revisions looked at to find those.
    looks: usize,
    /// Bytes of the revisions looked at.
    bytes: usize,
}

impl Work {
    fn is_enough(&self, forgotten_max: usize) -> bool {
        self.forgotten >= forgotten_max || self.looks >= SKIPPED_ROWS_MAX || self.bytes > PAGE_BYTES_MAX
    }

    fn answer(&self, next: Option<Key>) -> Answer {
        Answer::Trimmed { count: self.forgotten as u64, next }
    }
}

impl Writer<'_> {
    pub fn trim(&mut self, key: &Key, below: Option<Version>) -> Result<Answer, EngineError> {
        let mut work = Work::default();
        let more = self.forget_older(key, below, &mut work)?;
        Ok(work.answer(more.then(|| key.clone())))
    }

    pub fn trim_range(
        &mut self,
        from: &Key,
        to: Option<&Key>,
        below: Option<Version>,
    ) -> Result<Answer, EngineError> {
        // A live value with nothing before it has nothing to forget.
        let now = self.version();
        let (keys, next) =
            self.first_keys(from, to, |record| record.head.kept > 0 || !record.is_live_at(now))?;
        let mut work = Work::default();
        for key in keys {
            if work.is_enough(self.step_max) || self.forget_older(&key, below, &mut work)? {
                return Ok(work.answer(Some(key)));
            }
        }
        Ok(work.answer(next))
    }

    /// Forgets what is older than the newest revision of a key at a version; returns whether some is left.
    fn forget_older(
        &mut self,
        key: &Key,
        below: Option<Version>,
        work: &mut Work,
    ) -> Result<bool, EngineError> {
        let Some(current) = self.current(key)? else { return Ok(false) };
        let below = below.filter(|below| *below < current.head.version);
        let surplus = self.surplus(key, &current.head, below, work)?;
        let room = self.step_max.saturating_sub(work.forgotten) as u64;
        let (forgotten, kept) = (surplus.min(room), current.head.kept);
        assert!(forgotten <= kept, "{forgotten} older revisions are to go, and {kept} are kept");
        for ordinal in older::older(&current.head).take(forgotten as usize) {
            self.remove(self.places(&current.head).row(self.set, key, ordinal))?;
        }
        work.forgotten += forgotten as usize;
        let head = Head { kept: kept - forgotten, ..current.head };
        if head.tombstone && head.kept == 0 && below.is_none() {
            self.forget_key(key, &head)?;
            work.forgotten += 1;
        } else if forgotten > 0 {
            self.put(self.set.current(key), head.encode(&[&current.value()]))?;
        }
        Ok(forgotten < surplus)
    }

    /// How many older revisions of a key are older than the newest one at a version (`None` = at the newest revision's).
    fn surplus(
        &self,
        key: &[u8],
        newest: &Head,
        below: Option<Version>,
        work: &mut Work,
    ) -> Result<u64, EngineError> {
        let Some(below) = below else { return Ok(newest.kept) };
        let ordinals = older::older(newest);
        let divided = self.reader().divide(key, newest, ordinals.clone(), |version| version <= below)?;
        work.looks += divided.looks;
        work.bytes += divided.bytes;
        let kept = u64::from(!mutant::is(Mutant::TrimTakesOneTooMany));
        Ok((divided.at - ordinals.start).saturating_sub(kept))
    }
}
