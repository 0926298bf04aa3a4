//! An engine that keeps only what was flushed: rows in a persistent map, and the map of the last completed flush.
//!
//! A removed row leaves a mark that every scan passes over until a compaction takes it, as in a log-structured tree. What is
//! visited is counted ([`Visits`]), for the watch to judge.

use std::ops::{Bound, ControlFlow};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use imbl::OrdMap;
use storage::{Engine, EngineError, Flush, Maintenance, View};

type Map = OrdMap<Bytes, Slot>;

/// Every so many flushes a compaction takes the marks of removed rows.
const FLUSHES_PER_COMPACTION: u64 = 16;
/// So often the mark of a removed row is passed over at the cost of its removal: once by whoever removed what is before it,
/// and where a scan begins or ends there.
const PASSES_PAID: u64 = 3;

#[derive(Clone)]
enum Slot {
    Row(Bytes),
    /// How often scans have passed over it.
    Removed(Arc<AtomicU64>),
}

/// What an engine was asked since it was last looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Visited {
    /// Rows looked up and rows scanned, and removed rows passed over again and again.
    pub rows: u64,
    /// Rows written and removed.
    pub written: u64,
}

/// Counts what an engine is asked.
#[derive(Clone, Default)]
pub(crate) struct Visits(Arc<(AtomicU64, AtomicU64)>);

impl Visits {
    /// What was counted since the last time.
    pub fn take(&self) -> Visited {
        let Visits(counts) = self;
        let [rows, written] = [&counts.0, &counts.1].map(|count| count.swap(0, Ordering::Relaxed));
        Visited { rows, written }
    }

    fn row(&self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }

    fn written(&self) {
        self.0.1.fetch_add(1, Ordering::Relaxed);
    }
}

/// What is on the disk of an engine: it outlives the process.
#[derive(Clone, Default)]
pub(crate) struct Flushed(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    map: Map,
    /// Bytes written and number of flushes when it was taken.
    written: u64,
    number: u64,
    full: bool,
    fails: bool,
}

impl Flushed {
    /// The engine of a process that starts now, and what it counts.
    pub fn open(&self) -> (Box<dyn Engine>, Visits) {
        let mut inner = self.lock();
        (inner.written, inner.number) = (0, 0);
        let (map, visits) = (unpassed(&inner.map), Visits::default());
        let model = Model { map, disk: self.clone(), written: 0, flushes: 0, visits: visits.clone() };
        (Box::new(model), visits)
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
    map: Map,
    disk: Flushed,
    written: u64,
    flushes: u64,
    visits: Visits,
}

impl View for Model {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.visits.row();
        Ok(get(&self.map, key))
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        backward: bool,
        visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        scan(&self.map, from, to, backward, Some(&self.visits), visit);
        Ok(())
    }
}

impl Engine for Model {
    fn put(&mut self, key: Bytes, value: Bytes) {
        self.written += (key.len() + value.len()) as u64;
        self.visits.written();
        self.map.insert(key, Slot::Row(value));
    }

    fn remove(&mut self, key: &[u8]) {
        self.written += key.len() as u64;
        self.visits.written();
        if let Some(slot @ Slot::Row(_)) = self.map.get_mut(key) {
            *slot = Slot::Removed(Arc::default());
        }
    }

    fn view(&self) -> Box<dyn View> {
        Box::new(Frozen(self.map.clone()))
    }

    fn flush(&mut self) -> Box<dyn Flush> {
        self.flushes += 1;
        if self.flushes.is_multiple_of(FLUSHES_PER_COMPACTION) {
            self.map = compacted(&self.map);
        }
        Box::new(Line {
            map: self.map.clone(),
            disk: self.disk.clone(),
            written: self.written,
            number: self.flushes,
        })
    }

    fn maintain(&self) -> Option<Maintenance> {
        None
    }

    fn bytes_unflushed(&self) -> u64 {
        self.written - self.disk.lock().written
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

struct Line {
    map: Map,
    disk: Flushed,
    written: u64,
    number: u64,
}

impl Flush for Line {
    fn run(self: Box<Self>) -> Result<(), EngineError> {
        let doing = || "flushing the simulated engine".to_owned();
        let mut disk = self.disk.lock();
        if std::mem::take(&mut disk.fails) {
            return Err(EngineError::Io { doing: doing(), source: std::io::Error::other("injected") });
        }
        if disk.full {
            return Err(EngineError::Full { doing: doing() });
        }
        if disk.number < self.number {
            (disk.map, disk.written, disk.number) = (self.map.clone(), self.written, self.number);
        }
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
    visits: Option<&Visits>,
    visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
) {
    if is_empty(from, to) {
        return;
    }
    let count = || visits.iter().for_each(|visits| visits.row());
    let mut visit = |(key, slot): (&Bytes, &Slot)| match slot {
        Slot::Row(value) => {
            count();
            visit(key.clone(), value.clone())
        }
        Slot::Removed(passes) => {
            if visits.is_some() && passes.fetch_add(1, Ordering::Relaxed) >= PASSES_PAID {
                count();
            }
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

    fn scanned(engine: &dyn Engine, visits: &Visits) -> u64 {
        visits.take();
        let (from, to) = (Bound::Unbounded, Bound::Unbounded);
        engine.scan(from, to, false, &mut |_, _| ControlFlow::Continue(())).unwrap();
        visits.take().rows
    }

    #[test]
    fn removed_rows_are_passed_over_until_a_compaction() {
        let (mut engine, visits) = Flushed::default().open();
        for number in 0..10_u8 {
            engine.put(vec![number].into(), Bytes::new());
        }
        assert_eq!((visits.take().written, scanned(&*engine, &visits)), (10, 10));
        for number in 0..9_u8 {
            engine.remove(&[number]);
        }
        for _ in 0..PASSES_PAID {
            assert_eq!(scanned(&*engine, &visits), 1, "their removal paid for this");
        }
        assert_eq!(scanned(&*engine, &visits), 10);
        for _ in 0..FLUSHES_PER_COMPACTION {
            engine.flush().run().unwrap();
        }
        assert_eq!(scanned(&*engine, &visits), 1);
    }
}
