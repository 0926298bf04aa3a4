//! An engine whose rows are all on its disk: a persistent map that takes in batches, each at once.
//!
//! A removed row leaves a mark that every scan passes over until a compaction takes it, as in a log-structured tree. What is
//! passed over again and again is counted ([`Passed`]), for the watch to judge.

use std::ops::{Bound, ControlFlow};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use imbl::OrdMap;
use storage::{Engine, EngineError, Intake, Maintenance, Row, View};

type Map = OrdMap<Bytes, Slot>;

/// Every so many batches a compaction takes the marks of removed rows.
const BATCHES_PER_COMPACTION: u64 = 16;
/// So often the mark of a removed row is passed over at the cost of its removal: once by whoever removed what is before it,
/// and where a scan begins or ends there.
const PASSES_PAID: u64 = 3;

#[derive(Clone)]
enum Slot {
    Row(Bytes),
    /// How often entries have passed over it.
    Removed(Arc<AtomicU64>),
}

/// Counts the marks of removed rows that entries pass over once too often.
#[derive(Clone, Default)]
pub(crate) struct Passed(Arc<Passes>);

#[derive(Default)]
struct Passes {
    too_many: AtomicU64,
    /// An entry is being applied. What is loaded, installed and forgotten passes over all rows, and is no work of entries.
    entry: AtomicBool,
}

impl Passed {
    /// From now on an entry is applied, or is not.
    pub fn of_entry(&self, is_entry: bool) {
        self.0.entry.store(is_entry, Ordering::Relaxed);
    }

    /// What was counted since the last time.
    pub fn take(&self) -> u64 {
        self.0.too_many.swap(0, Ordering::Relaxed)
    }

    /// A scan passes over the mark of a removed row, which so many did before.
    fn over(&self, passes: &AtomicU64) {
        if self.0.entry.load(Ordering::Relaxed) && passes.fetch_add(1, Ordering::Relaxed) >= PASSES_PAID {
            self.0.too_many.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What is on the disk of an engine: it outlives the process.
#[derive(Clone, Default)]
pub(crate) struct Flushed(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    map: Map,
    /// Batches that were taken in.
    batches: u64,
    full: bool,
    fails: bool,
}

impl Flushed {
    /// The engine of a process that starts now, and what it counts.
    pub fn open(&self) -> (Arc<dyn Engine>, Passed) {
        let mut inner = self.lock();
        inner.map = unpassed(&inner.map);
        let passed = Passed::default();
        (Arc::new(Model { disk: self.clone(), passed: passed.clone() }), passed)
    }

    /// The same rows on another disk.
    pub fn copy(&self) -> Flushed {
        let inner = self.lock();
        let copy = Inner { map: unpassed(&inner.map), batches: inner.batches, ..Inner::default() };
        Flushed(Arc::new(Mutex::new(copy)))
    }

    /// While it is full, flushes are refused and lose nothing.
    pub fn set_full(&self, full: bool) {
        self.lock().full = full;
    }

    /// The next flush fails.
    pub fn fail_next(&self) {
        self.lock().fails = true;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().expect("no holder of the flushed rows panics")
    }
}

struct Model {
    disk: Flushed,
    passed: Passed,
}

impl View for Model {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(get(&self.disk.lock().map, key))
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        backward: bool,
        visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let map = self.disk.lock().map.clone();
        scan(&map, from, to, backward, Some(&self.passed), visit);
        Ok(())
    }
}

impl Engine for Model {
    fn view(&self) -> Box<dyn View> {
        Box::new(Frozen(self.disk.lock().map.clone()))
    }

    fn intake(&self) -> Box<dyn Intake> {
        Box::new(self.disk.clone())
    }

    fn maintain(&self) -> Option<Maintenance> {
        None
    }
}

impl Intake for Flushed {
    fn take(&self, rows: &mut dyn Iterator<Item = Row>) -> Result<(), EngineError> {
        let doing = || "flushing the simulated engine".to_owned();
        let mut disk = self.lock();
        if std::mem::take(&mut disk.fails) {
            return Err(EngineError::Io { doing: doing(), source: std::io::Error::other("injected") });
        }
        if disk.full {
            return Err(EngineError::Full { doing: doing() });
        }
        for (key, value) in rows {
            match value {
                Some(value) => drop(disk.map.insert(key, Slot::Row(value))),
                None => remove(&mut disk.map, &key),
            }
        }
        disk.batches += 1;
        if disk.batches.is_multiple_of(BATCHES_PER_COMPACTION) {
            disk.map = compacted(&disk.map);
        }
        Ok(())
    }
}

fn remove(map: &mut Map, key: &[u8]) {
    if let Some(slot @ Slot::Row(_)) = map.get_mut(key) {
        *slot = Slot::Removed(Arc::default());
    }
}

struct Frozen(Map);

impl View for Frozen {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(get(&self.0, key))
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        backward: bool,
        visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        scan(&self.0, from, to, backward, None, visit);
        Ok(())
    }
}

fn get(map: &Map, key: &[u8]) -> Option<Bytes> {
    match map.get(key)? {
        Slot::Row(value) => Some(value.clone()),
        Slot::Removed(_) => None,
    }
}

fn compacted(map: &Map) -> Map {
    let rows = map.iter().filter(|(_, slot)| matches!(slot, Slot::Row(_)));
    rows.map(|(key, slot)| (key.clone(), slot.clone())).collect()
}

/// With the marks of removed rows as if nothing had passed over them: what a new process passes over first was not passed
/// over by it before.
fn unpassed(map: &Map) -> Map {
    let fresh = |slot: &Slot| match slot {
        Slot::Removed(_) => Slot::Removed(Arc::default()),
        row => row.clone(),
    };
    map.iter().map(|(key, slot)| (key.clone(), fresh(slot))).collect()
}

fn scan(
    map: &Map,
    from: Bound<&[u8]>,
    to: Bound<&[u8]>,
    backward: bool,
    passed: Option<&Passed>,
    visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
) {
    if is_empty(from, to) {
        return;
    }
    let mut visit = |(key, slot): (&Bytes, &Slot)| match slot {
        Slot::Row(value) => visit(key.clone(), value.clone()),
        Slot::Removed(passes) => {
            passed.into_iter().for_each(|passed| passed.over(passes));
            ControlFlow::Continue(())
        }
    };
    let mut rows = map.range::<_, [u8]>((from, to));
    let _ = if backward { rows.rev().try_for_each(&mut visit) } else { rows.try_for_each(&mut visit) };
}

/// Whether bounds cross, which the map does not like.
fn is_empty(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => {
            from >= to
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed_over(engine: &dyn Engine, passed: &Passed) -> u64 {
        passed.take();
        let (from, to) = (Bound::Unbounded, Bound::Unbounded);
        engine.scan(from, to, false, &mut |_, _| ControlFlow::Continue(())).unwrap();
        passed.take()
    }

    fn take(engine: &dyn Engine, keys: std::ops::Range<u8>, value: Option<&'static str>) {
        let rows = keys.map(|key| (vec![key].into(), value.map(Bytes::from)));
        engine.intake().take(&mut rows.into_iter()).unwrap();
    }

    #[test]
    fn removed_rows_are_passed_over_until_a_compaction() {
        let (engine, passed) = Flushed::default().open();
        take(&*engine, 0..10, Some("v"));
        take(&*engine, 0..9, None);
        assert_eq!(passed_over(&*engine, &passed), 0, "a load is no work of an entry");
        passed.of_entry(true);
        for _ in 0..PASSES_PAID {
            assert_eq!(passed_over(&*engine, &passed), 0, "their removal paid for this");
        }
        assert_eq!(passed_over(&*engine, &passed), 9);
        for _ in 0..BATCHES_PER_COMPACTION {
            take(&*engine, 0..0, None);
        }
        assert_eq!(passed_over(&*engine, &passed), 0);
    }
}
