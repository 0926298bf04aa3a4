//! Rows of rings and others, over an engine that has older ones, against plain maps: random steps from a seed.

use std::collections::BTreeMap;
use std::ops::RangeBounds;

use kv::ShardId;

use super::*;
use crate::keys::RowSet;
use crate::open_volatile;

const STEPS: usize = 800;
/// Open at a time.
const VIEWS_MAX: usize = 6;
/// Prefixes of each other, and bytes that sort first, last, and as what escapes.
const KEYS: [&[u8]; 9] = [b"", b"\0", b"\0\0", b"\0\xff", b"a", b"a\0", b"a\0\xff", b"ab", b"\xff\xff"];

type Rows = BTreeMap<Bytes, Bytes>;
type Limits = (Bound<Bytes>, Bound<Bytes>);

/// `SEEDS=n` runs it with so many seeds.
#[test]
fn random_steps_of_rings_read_as_plain_maps() {
    let seeds = std::env::var("SEEDS").map_or(4, |seeds| seeds.parse().expect("SEEDS is a number"));
    for seed in 0..seeds {
        println!("seed {seed}");
        let mut pair = Pair::new(seed);
        (0..STEPS).for_each(|_| pair.step());
        pair.finish();
    }
}

#[test]
fn bounds_in_and_between_rings_hold_what_they_say() {
    let set = RowSet { shard: ShardId(1), generation: 1 };
    let places = [0, 1, 127, 254, 255, 256, 257, 511, 512, u64::MAX - 255, u64::MAX];
    let mut fresh = Fresh::over(open_volatile());
    let mut rows = Rows::new();
    for (number, key) in [&b"a"[..], b"a\0", b"ab"].into_iter().enumerate() {
        for (at, place) in places.into_iter().enumerate() {
            let (row, value) = (Bytes::from(set.history(key, place)), Bytes::from(format!("{number} {at}")));
            rows.insert(row.clone(), value.clone());
            fresh.put(row, value);
        }
        // The first is in the engine alone, the second in a frozen layer, the third is being written.
        match number {
            0 => fresh.flush().run().unwrap(),
            1 => drop(fresh.view()),
            _ => {}
        }
    }
    assert!(fresh.let_go().is_some());
    let ends: Vec<Bytes> = rows.keys().flat_map(|row| [row.clone(), row.slice(..row.len() - 1)]).collect();
    let bounds = |at: &Bytes| [Bound::Included(at.clone()), Bound::Excluded(at.clone())];
    let bounds: Vec<Bound<Bytes>> = ends.iter().flat_map(bounds).chain([Bound::Unbounded]).collect();
    for from in &bounds {
        for to in &bounds {
            let limits = (from.clone(), to.clone());
            let expected = expected(&rows, &limits, false, usize::MAX);
            assert_eq!(scanned(&fresh, &limits, false, usize::MAX), expected, "{limits:?}");
        }
    }
}

#[test]
fn place_written_again_takes_the_room_of_one() {
    let row = RowSet { shard: ShardId(1), generation: 1 }.history(b"k", 7);
    let mut fresh = Fresh::over(open_volatile());
    fresh.put(&row, "value".into());
    let one = fresh.bytes_unflushed();
    fresh.remove(&row);
    (0..1000).for_each(|_| fresh.put(&row, "other".into()));
    assert_eq!(fresh.bytes_unflushed(), one);
    drop(fresh.view());
    fresh.put(&row, "third".into());
    drop(fresh.view());
    assert_eq!(fresh.bytes_unflushed(), one, "two layers become one");
}

/// What is tested and what it must be like.
struct Pair {
    draw: Draw,
    engine: Arc<dyn Engine>,
    fresh: Fresh,
    rows: Rows,
    /// Each with the rows of its time.
    views: Vec<(Box<dyn View>, Rows)>,
    flushes: Vec<Box<dyn Flush>>,
    /// Values are of their own, so that a stale one is seen.
    written: u64,
}

impl Pair {
    fn new(seed: u64) -> Pair {
        let engine = open_volatile();
        let (views, flushes) = Default::default();
        let fresh = Fresh::over(engine.clone());
        Pair { draw: Draw(seed), engine, fresh, rows: Rows::new(), views, flushes, written: 0 }
    }

    fn step(&mut self) {
        match self.draw.below(40) {
            0..12 => self.put_some(),
            12..16 => {
                let row = self.draw.row();
                self.remove(row);
            }
            16 => self.remove_key(),
            17..19 if self.views.len() < VIEWS_MAX => self.views.push((self.fresh.view(), self.rows.clone())),
            19..21 if !self.views.is_empty() => {
                let at = self.draw.index(self.views.len());
                self.views.swap_remove(at);
            }
            21..23 => self.flushes.push(self.fresh.flush()),
            23..25 if !self.flushes.is_empty() => {
                // In any order: one that was begun earlier may come later.
                let at = self.draw.index(self.flushes.len());
                self.flushes.swap_remove(at).run().unwrap();
            }
            25 => self.fresh.let_go().into_iter().for_each(|step| step().unwrap()),
            26..34 => self.get(),
            _ => self.scan(),
        }
    }

    /// A row, or some of a ring one behind the other, as a key that is written often leaves them.
    fn put_some(&mut self) {
        let (set, key, place) = (self.draw.set(), self.draw.key(), self.draw.place());
        if self.draw.below(4) == 0 {
            let row = self.draw.row();
            return self.put(row);
        }
        for place in place..place.saturating_add(self.draw.below(40)) {
            self.put(set.history(key, place).into());
        }
    }

    fn put(&mut self, row: Bytes) {
        self.written += 1;
        let value = Bytes::from(self.written.to_string());
        self.fresh.put(&row, value.clone());
        self.rows.insert(row, value);
    }

    fn remove(&mut self, row: Bytes) {
        self.fresh.remove(&row);
        self.rows.remove(&row);
    }

    /// All that a key has.
    fn remove_key(&mut self) {
        let (set, key) = (self.draw.set(), self.draw.key());
        let first = Bytes::from(set.history(key, 0));
        let mut rows: Vec<Bytes> = self.rows.keys().cloned().collect();
        rows.retain(|row| row.starts_with(&first[..first.len() - 8]));
        rows.push(set.current(key).into());
        rows.into_iter().for_each(|row| self.remove(row));
    }

    fn get(&mut self) {
        let row = self.draw.row();
        let expected = self.rows.get(&row).cloned();
        assert_eq!(
            (self.fresh.get(&row).unwrap(), self.fresh.get_own(&row).unwrap()),
            (expected.clone(), expected)
        );
        for (view, rows) in &self.views {
            assert_eq!(view.get(&row).unwrap(), rows.get(&row).cloned(), "in a view");
        }
    }

    /// Up to some row, of what is now or was when a view was begun.
    fn scan(&mut self) {
        let limits = (self.draw.bound(), self.draw.bound());
        let backward = self.draw.below(2) == 0;
        let count = if self.draw.below(2) == 0 { usize::MAX } else { 1 + self.draw.index(300) };
        let at = self.draw.index(self.views.len() + 1);
        match self.views.get(at) {
            Some((view, rows)) => check(&**view, rows, &limits, backward, count),
            None => check(&self.fresh, &self.rows, &limits, backward, count),
        }
    }

    /// All of now and of every view, before and after the engine has it.
    fn finish(mut self) {
        for _ in 0..2 {
            for backward in [false, true] {
                let limits = (Bound::Unbounded, Bound::Unbounded);
                check(&self.fresh, &self.rows, &limits, backward, usize::MAX);
                check(&self.fresh.peek(), &self.rows, &limits, backward, usize::MAX);
                for (view, rows) in &self.views {
                    check(&**view, rows, &limits, backward, usize::MAX);
                }
            }
            self.fresh.flush().run().unwrap();
            self.fresh.let_go().into_iter().for_each(|step| step().unwrap());
        }
        assert_eq!(self.fresh.bytes_unflushed(), 0);
        check(&*self.engine, &self.rows, &(Bound::Unbounded, Bound::Unbounded), false, usize::MAX);
    }
}

fn check(view: &dyn View, rows: &Rows, limits: &Limits, backward: bool, count: usize) {
    let expected = expected(rows, limits, backward, count);
    assert!(
        scanned(view, limits, backward, count) == expected,
        "{limits:?}, backward: {backward}, {count} rows"
    );
}

fn expected(rows: &Rows, limits: &Limits, backward: bool, count: usize) -> Vec<(Bytes, Bytes)> {
    let is_within = |(row, _): &(&Bytes, &Bytes)| limits.contains(*row);
    let mut found: Vec<_> =
        rows.iter().filter(is_within).map(|(row, value)| (row.clone(), value.clone())).collect();
    if backward {
        found.reverse();
    }
    found.truncate(count);
    found
}

/// What a scan visits that is stopped at so many rows.
fn scanned(view: &dyn View, (from, to): &Limits, backward: bool, count: usize) -> Vec<(Bytes, Bytes)> {
    let mut rows = Vec::new();
    view.scan(
        from.as_ref().map(|from| &from[..]),
        to.as_ref().map(|to| &to[..]),
        backward,
        &mut |row, value| {
            assert!(rows.len() < count, "the scan goes on after it was stopped");
            rows.push((row, value));
            if rows.len() == count { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
    )
    .unwrap();
    rows
}

/// splitmix64, and what is drawn from it.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn index(&mut self, bound: usize) -> usize {
        self.below(bound as u64) as usize
    }

    fn key(&mut self) -> &'static [u8] {
        KEYS[self.index(KEYS.len())]
    }

    fn set(&mut self) -> RowSet {
        RowSet { shard: ShardId(1), generation: 1 + self.below(2) as u32 }
    }

    /// Mostly where many meet, and at the ends of lists.
    fn place(&mut self) -> u64 {
        match self.below(4) {
            0..2 => self.below(600),
            2 => 0x0001_00f0 + self.below(32),
            _ => u64::MAX - self.below(300),
        }
    }

    /// The key of a row, mostly of a ring; or one that is nearly that.
    fn row(&mut self) -> Bytes {
        let (set, key) = (self.set(), self.key());
        let ring = Bytes::from(set.history(key, self.place()));
        match self.below(12) {
            0 => set.current(key).into(),
            1 => set.expiry(self.below(3), key),
            2 => set.session(self.below(3), self.below(3) as u16).into(),
            3 => ring.slice(..self.index(ring.len() + 1)),
            4 => [&ring, KEYS[self.index(KEYS.len())]].concat().into(),
            _ => ring,
        }
    }

    fn bound(&mut self) -> Bound<Bytes> {
        match self.below(5) {
            0..2 => Bound::Included(self.row()),
            2..4 => Bound::Excluded(self.row()),
            _ => Bound::Unbounded,
        }
    }
}
