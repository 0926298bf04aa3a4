//! Drawn rows, dealt to drawn numbers of shards: what the parts of an op are merged to is what one sorted map answers, and whoever goes
//! on where an answer stopped comes to the end and meets every row once.

use std::collections::BTreeMap;
use std::ops::Bound;

use kv::{Answer, Direction, Key, KeyAnswer, Op, Page, Range, Row, ShardId, Value, Version};
use node::route::{Plan, ShardMap};
use proptest::collection::{btree_map, vec};
use proptest::option::of as option;
use proptest::prelude::*;

use super::receipt;

/// Rows of a sorted map; `None` = a deleted one, which is passed over.
type Rows = BTreeMap<Key, Option<Value>>;

/// One shard, as the table answers for it, with limits that are soon met.
#[derive(Default)]
struct Shard {
    rows: Rows,
    /// It passes over so many deleted rows before a page ends.
    passed_max: usize,
    /// A step over a range takes so many keys.
    step_max: usize,
}

/// All shards.
struct Shards {
    map: ShardMap,
    shards: BTreeMap<ShardId, Shard>,
}

impl Shards {
    fn new(count: u32, rows: &Rows, limits: &[(usize, usize)]) -> Shards {
        let map = ShardMap::of(count);
        let limits = limits.iter().cycle();
        let shard =
            |(&(id, _), &(passed_max, step_max))| (id, Shard { rows: Rows::new(), passed_max, step_max });
        let mut shards: BTreeMap<ShardId, Shard> = map.shards().iter().zip(limits).map(shard).collect();
        for (key, value) in rows {
            let shard = shards.get_mut(&map.shard_of(key)).expect("the map has all shards");
            shard.rows.insert(key.clone(), value.clone());
        }
        Shards { map, shards }
    }

    /// Asks an op as a node does: splits it, has each shard answer, and merges.
    fn ask(&mut self, op: &Op) -> Answer {
        let plan = Plan::new(&self.map, op.clone()).expect("the op is within its limits");
        let mut answer = |(shard, op): &(ShardId, Op)| {
            self.shards.get_mut(shard).expect("parts are of shards of the map").run(op)
        };
        let answers: Vec<Answer> = plan.parts.iter().map(&mut answer).collect();
        plan.merge(answers.into_iter().map(|answer| Ok(receipt::reply(answer))).collect())
            .expect("all answered")
            .answer
    }

    /// All rows together.
    fn rows(&self) -> Rows {
        self.shards.values().flat_map(|shard| shard.rows.clone()).collect()
    }
}

impl Shard {
    fn run(&mut self, op: &Op) -> Answer {
        match op {
            Op::Range(range) => Answer::Page(self.page(range)),
            Op::GetAll { keys, .. } => Answer::Many(keys.iter().map(|key| answer(key, &self.rows)).collect()),
            Op::PutAll { rows } => {
                self.rows.extend(rows.iter().map(|(key, value)| (key.clone(), Some(value.clone()))));
                Answer::Many(rows.iter().map(|(key, _)| answer(key, &self.rows)).collect())
            }
            Op::DeleteRange { from, to } => {
                let (count, next) = self.step(from, to.as_ref(), |value| value.take().is_some());
                Answer::Deleted { count, previous: None, next }
            }
            // What is older of a row is its deletion, here.
            Op::TrimRange { from, to, .. } => {
                let (count, next) = self.step(from, to.as_ref(), |value| value.is_none());
                self.rows.retain(|key, value| {
                    let is_done = next.as_ref().is_none_or(|next| key < next);
                    value.is_some() || !(is_done && key >= from && to.as_ref().is_none_or(|to| key < to))
                });
                Answer::Trimmed { count, next }
            }
            op => panic!("{op:?} is of one shard"),
        }
    }

    fn page(&self, range: &Range) -> Page {
        let (mut page, mut passed) = (Page::default(), 0);
        let mut came_to = None;
        for (key, value) in in_order(&self.rows, range) {
            let is_full = !range.count_only && range.limit > 0 && page.count == u64::from(range.limit);
            if passed > self.passed_max && !range.count_only || is_full && value.is_some() {
                page.next = came_to;
                return page;
            }
            match value {
                Some(value) => {
                    page.count += 1;
                    page.rows.extend((!range.count_only).then(|| row(&key, &value)));
                    came_to = Some(key);
                }
                None => {
                    passed += 1;
                    // A full page goes on behind its last row.
                    came_to = if is_full { came_to } else { Some(key) };
                }
            }
        }
        page
    }

    /// A step over a range: how many of its rows it did something to, and where it goes on.
    fn step(
        &mut self,
        from: &Key,
        to: Option<&Key>,
        mut does: impl FnMut(&mut Option<Value>) -> bool,
    ) -> (u64, Option<Key>) {
        let (mut count, mut taken) = (0, 0);
        for (key, value) in self.rows.range_mut((Bound::Included(from.clone()), Bound::Unbounded)) {
            if to.is_some_and(|to| key >= to) {
                break;
            }
            if taken == self.step_max {
                return (count, Some(key.clone()));
            }
            if does(value) {
                (count, taken) = (count + 1, taken + 1);
            }
        }
        (count, None)
    }
}

/// The rows of a range that are still to come, in its order.
fn in_order(rows: &Rows, range: &Range) -> Vec<(Key, Option<Value>)> {
    let backward = range.direction == Direction::Backward;
    let is_inside = |key: &Key| *key >= range.from && range.to.as_ref().is_none_or(|to| key < to);
    let is_behind = |key: &Key| match &range.page {
        Some(page) if backward => key < page,
        Some(page) => key > page,
        None => true,
    };
    let inside = rows.iter().filter(|(key, _)| is_inside(key) && is_behind(key));
    let mut inside: Vec<(Key, Option<Value>)> =
        inside.map(|(key, value)| (key.clone(), value.clone())).collect();
    if backward {
        inside.reverse();
    }
    inside
}

/// The live ones of them.
fn live_in_order(rows: &Rows, range: &Range) -> Vec<Row> {
    in_order(rows, range).iter().filter_map(|(key, value)| Some(row(key, value.as_ref()?))).collect()
}

fn row(key: &Key, value: &Value) -> Row {
    let (version, key, value) = (Version::ZERO, key.clone(), value.clone());
    Row { key, value, version, created: version, changes: 1, deadline: None }
}

fn answer(key: &Key, rows: &Rows) -> KeyAnswer {
    let found = rows.get(key).and_then(|value| value.as_ref());
    KeyAnswer { key: key.clone(), result: Ok(found.map(|value| row(key, value))) }
}

fn key() -> impl Strategy<Value = Key> {
    vec(b'a'..=b'd', 1..4).prop_map(Key::from)
}

fn value() -> impl Strategy<Value = Value> {
    vec(b'x'..=b'z', 0..3).prop_map(Value::from)
}

fn rows() -> impl Strategy<Value = Rows> {
    btree_map(key(), proptest::option::weighted(0.7, value()), 0..40)
}

/// Of each shard: deleted rows that it passes over, and keys of a step.
fn limits() -> impl Strategy<Value = Vec<(usize, usize)>> {
    vec((0..4_usize, 1..5_usize), 1..5)
}

fn range() -> impl Strategy<Value = Range> {
    (option(key()), option(key()), any::<bool>(), 0..5_u32).prop_map(|(from, to, backward, limit)| {
        let direction = if backward { Direction::Backward } else { Direction::Forward };
        Range { from: from.unwrap_or_default(), to, direction, limit, ..Range::default() }
    })
}

/// A range may take so many pages and steps: each passes over a row.
const STEPS_MAX: usize = 200;

proptest! {
    #[test]
    fn pages_of_a_range_hold_every_row_once_and_in_order(
        count in 1..7_u32, rows in rows(), limits in limits(), range in range(),
    ) {
        let mut shards = Shards::new(count, &rows, &limits);
        let expected = live_in_order(&rows, &range);
        let (mut asked, mut found) = (range.clone(), Vec::new());
        for step in 0.. {
            prop_assert!(step < STEPS_MAX, "it comes to no end: {:?}", asked);
            let to_come = live_in_order(&rows, &asked);
            let Answer::Page(page) = shards.ask(&Op::Range(asked.clone())) else { panic!("no page") };
            prop_assert!(to_come.starts_with(&page.rows), "{:?} of {:?}", page, to_come);
            prop_assert_eq!(page.count, page.rows.len() as u64);
            prop_assert!(range.limit == 0 || page.rows.len() <= range.limit as usize);
            found.extend(page.rows);
            match page.next {
                Some(next) => asked.page = Some(next),
                None => break,
            }
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn rows_are_counted_over_all_shards(count in 1..7_u32, rows in rows(), limits in limits(), range in range()) {
        let mut shards = Shards::new(count, &rows, &limits);
        let expected = live_in_order(&rows, &range).len() as u64;
        let count_only = Op::Range(Range { count_only: true, ..range });
        prop_assert_eq!(shards.ask(&count_only), Answer::Page(Page { count: expected, ..Page::default() }));
    }

    #[test]
    fn keys_of_a_get_all_are_answered_in_the_order_asked(
        count in 1..7_u32, rows in rows(), keys in vec(key(), 1..10),
    ) {
        let mut shards = Shards::new(count, &rows, &[(0, 1)]);
        let expected = keys.iter().map(|key| answer(key, &rows)).collect();
        prop_assert_eq!(shards.ask(&Op::GetAll { keys, at: None }), Answer::Many(expected));
    }

    #[test]
    fn rows_of_a_put_all_are_stored_as_in_one_map(
        count in 1..7_u32, mut rows in rows(), put in vec((key(), value()), 1..10),
    ) {
        let mut shards = Shards::new(count, &rows, &[(0, 1)]);
        rows.extend(put.iter().map(|(key, value)| (key.clone(), Some(value.clone()))));
        let expected = put.iter().map(|(key, _)| answer(key, &rows)).collect();
        prop_assert_eq!(shards.ask(&Op::PutAll { rows: put }), Answer::Many(expected));
        prop_assert_eq!(shards.rows(), rows);
    }

    #[test]
    fn steps_over_a_range_come_to_its_end(
        count in 1..7_u32, rows in rows(), limits in limits(), range in range(), trims in any::<bool>(),
    ) {
        let mut shards = Shards::new(count, &rows, &limits);
        let (mut from, to, mut sum) = (range.from.clone(), range.to.clone(), 0);
        for step in 0.. {
            prop_assert!(step < STEPS_MAX, "it comes to no end: {:?}", from);
            let op = match trims {
                true => Op::TrimRange { from: from.clone(), to: to.clone(), below: None },
                false => Op::DeleteRange { from: from.clone(), to: to.clone() },
            };
            let (Answer::Deleted { count, next, .. } | Answer::Trimmed { count, next }) = shards.ask(&op) else {
                panic!("no step")
            };
            sum += count;
            match next {
                Some(next) => from = next,
                None => break,
            }
        }
        let inside = in_order(&rows, &range);
        let mut expected = rows.clone();
        for (key, value) in &inside {
            match value {
                None if trims => drop(expected.remove(key)),
                Some(_) if !trims => drop(expected.insert(key.clone(), None)),
                _ => {}
            }
        }
        let done = inside.iter().filter(|(_, value)| value.is_none() == trims).count() as u64;
        prop_assert_eq!((sum, shards.rows()), (done, expected));
    }
}
