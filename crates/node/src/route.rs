//! Routing: which shards an op concerns, and one answer out of theirs.
//!
//! Each shard's part is atomic; over shards there is no atomicity and, unless a version is asked for, no snapshot. The
//! answer tells the result per key.

use std::collections::BTreeMap;

use kv::{
    Answer, Direction, Error, Key, KeyAnswer, Level, Op, Outcome, PAGE_BYTES_MAX, PAGE_ROWS_MAX, Page, Range,
    Receipt, Reply, Row, ShardId, Slot, SlotRange,
};
use mutant::Mutant;
use placement::map::Map;

/// The keyspaces that clients may ask, and their shards: all but the directory's own.
#[derive(Clone, Debug, Default)]
pub struct Keyspaces(BTreeMap<String, ShardMap>);

/// Which shard of a keyspace a slot belongs to.
#[derive(Clone, Debug, Default)]
pub struct ShardMap {
    shards: Vec<(ShardId, SlotRange)>,
}

impl Keyspaces {
    /// As a map has them.
    pub fn new(map: &Map) -> Keyspaces {
        let for_clients = map.keyspaces.iter().filter(|(_, keyspace)| keyspace.is_for_clients());
        let mut keyspaces: BTreeMap<String, ShardMap> =
            for_clients.map(|(name, _)| (name.clone(), ShardMap::default())).collect();
        for (id, shard) in &map.shards {
            if let Some(own) = keyspaces.get_mut(&shard.keyspace) {
                own.shards.extend(map.asked_for(*id, shard));
            }
        }
        keyspaces.values_mut().for_each(ShardMap::sort);
        Keyspaces(keyspaces)
    }

    /// The shards of a keyspace; [`Error::NoKeyspace`] when there is none of that name.
    pub fn shards(&self, keyspace: &str) -> Result<&ShardMap, Error> {
        self.0.get(keyspace).ok_or_else(|| Error::NoKeyspace(keyspace.into()))
    }
}

impl ShardMap {
    /// Those of a keyspace, as a map has them; none when it is not there.
    pub fn of_keyspace(map: &Map, keyspace: &str) -> ShardMap {
        let own = map.shards.iter().filter(|(_, shard)| shard.keyspace == keyspace);
        let mut shards = ShardMap { shards: own.flat_map(|(id, shard)| map.asked_for(*id, shard)).collect() };
        shards.sort();
        shards
    }

    fn sort(&mut self) {
        self.shards.sort_unstable_by_key(|(_, slots)| slots.first);
    }

    /// `count` shards of equal size, numbered from 1.
    pub fn of(count: u32) -> ShardMap {
        ShardMap {
            shards: (0..count).map(|index| (ShardId(index + 1), SlotRange::nth(index, count))).collect(),
        }
    }

    /// The shard of a key.
    pub fn shard_of(&self, key: &[u8]) -> ShardId {
        let slot = Slot::of(key);
        let index = self.shards.partition_point(|(_, range)| range.last < slot);
        self.shards[index].0
    }

    /// Those of its shards that have slots of a range.
    pub fn within(&self, slots: SlotRange) -> ShardMap {
        let has = |range: &SlotRange| range.first <= slots.last && slots.first <= range.last;
        ShardMap { shards: self.shards.iter().filter(|(_, range)| has(range)).copied().collect() }
    }

    /// All shards in order.
    pub fn shards(&self) -> &[(ShardId, SlotRange)] {
        &self.shards
    }
}

/// The parts of an op, one a shard, and what is needed to make one answer of theirs.
#[derive(Debug)]
pub struct Plan {
    /// Each shard's part.
    pub parts: Vec<(ShardId, Op)>,
    merge: Merge,
}

#[derive(Debug)]
enum Merge {
    One,
    Keys(Vec<Key>),
    Rows(Range),
    Deleted,
    Trimmed,
}

impl Plan {
    /// Checks an op against the limits and splits it.
    pub fn new(map: &ShardMap, op: Op) -> Result<Plan, Error> {
        op.validate()?;
        match op {
            Op::GetAll { keys, at } => {
                let parts = group(map, keys.iter().cloned(), |key| key);
                let parts = parts.into_iter().map(|(shard, keys)| (shard, Op::GetAll { keys, at }));
                Ok(Plan { parts: parts.collect(), merge: Merge::Keys(keys) })
            }
            Op::PutAll { rows } => {
                let keys = rows.iter().map(|(key, _)| key.clone()).collect();
                let parts = group(map, rows.into_iter(), |(key, _)| key);
                let parts = parts.into_iter().map(|(shard, rows)| (shard, Op::PutAll { rows }));
                Ok(Plan { parts: parts.collect(), merge: Merge::Keys(keys) })
            }
            Op::Range(range) => {
                let part = |&(shard, _): &(ShardId, SlotRange)| (shard, Op::Range(range.clone()));
                Ok(Plan { parts: map.shards.iter().map(part).collect(), merge: Merge::Rows(range) })
            }
            Op::DeleteRange { from, to } => {
                let part = |&(shard, _): &(ShardId, SlotRange)| {
                    (shard, Op::DeleteRange { from: from.clone(), to: to.clone() })
                };
                Ok(Plan { parts: map.shards.iter().map(part).collect(), merge: Merge::Deleted })
            }
            Op::TrimRange { from, to, below } => {
                let part = |&(shard, _): &(ShardId, SlotRange)| {
                    (shard, Op::TrimRange { from: from.clone(), to: to.clone(), below })
                };
                Ok(Plan { parts: map.shards.iter().map(part).collect(), merge: Merge::Trimmed })
            }
            op if op.is_own() => Err(Error::Invalid("that op is the store's own".into())),
            op => Ok(Plan { parts: vec![(one_shard(map, &op)?, op)], merge: Merge::One }),
        }
    }

    /// The only part of a plan whose answer is the whole answer.
    pub fn take_single(&mut self) -> Option<(ShardId, Op)> {
        match self.merge {
            Merge::One => self.parts.pop(),
            _ => None,
        }
    }

    /// One answer of the parts' results, which are in the order of `parts`.
    pub fn merge(self, results: Vec<Result<Reply, Error>>) -> Result<Reply, Error> {
        assert_eq!(results.len(), self.parts.len(), "every part has its result");
        if results.len() == 1 && !matches!(self.merge, Merge::Keys(_)) {
            return results.into_iter().next().expect("there is one");
        }
        let receipt = merge_receipts(results.iter().filter_map(|result| result.as_ref().ok()));
        let Some(receipt) = receipt else {
            return Err(worst(results.into_iter().filter_map(Result::err)));
        };
        let answer = match self.merge {
            Merge::One => unreachable!("one part was answered above"),
            Merge::Keys(keys) => Answer::Many(merge_keys(keys, &self.parts, results)),
            Merge::Rows(range) => Answer::Page(merge_pages(&range, pages(results)?)),
            Merge::Deleted => {
                let (count, next) = merge_steps(results, "deleted", "delete")?;
                Answer::Deleted { count, previous: None, next }
            }
            Merge::Trimmed => {
                let (count, next) = merge_steps(results, "trimmed", "trim")?;
                Answer::Trimmed { count, next }
            }
        };
        Ok(Reply { answer, receipt })
    }
}

fn group<T>(
    map: &ShardMap,
    items: impl Iterator<Item = T>,
    key: impl Fn(&T) -> &Key,
) -> BTreeMap<ShardId, Vec<T>> {
    let mut groups: BTreeMap<ShardId, Vec<T>> = BTreeMap::new();
    for item in items {
        groups.entry(map.shard_of(key(&item))).or_default().push(item);
    }
    groups
}

fn one_shard(map: &ShardMap, op: &Op) -> Result<ShardId, Error> {
    let mut found: Option<ShardId> = None;
    let mut same = true;
    op.for_each_key(&mut |key| {
        let shard = map.shard_of(key);
        same &= *found.get_or_insert(shard) == shard;
    });
    match found {
        Some(shard) if same => Ok(shard),
        Some(_) => Err(Error::Invalid(
            "the transaction's keys are in different shards: give them one tag, as in {user7}:name and {user7}:mail"
                .into(),
        )),
        None => Err(Error::Invalid("the op names no key".into())),
    }
}

fn merge_receipts<'a>(replies: impl Iterator<Item = &'a Reply>) -> Option<Receipt> {
    replies.map(|reply| reply.receipt.clone()).reduce(|one, other| {
        let weaker = if rank(other.reached) > rank(one.reached) { other.reached } else { one.reached };
        Receipt {
            version: one.version.max(other.version),
            reached: weaker,
            copies: one.copies.min(other.copies),
            staleness_micros: one.staleness_micros.max(other.staleness_micros),
            ..one
        }
    })
}

fn rank(level: Level) -> u64 {
    match level {
        Level::Linearizable => 0,
        Level::Bounded(millis) => 1 + millis.min(u64::MAX - 2),
        Level::Local => u64::MAX,
    }
}

/// An error in doubt before one that failed: the caller must not believe that nothing happened.
fn worst(errors: impl Iterator<Item = Error>) -> Error {
    let mut errors: Vec<Error> = errors.collect();
    let in_doubt = errors.iter().position(|error| error.outcome() == Outcome::InDoubt);
    errors.swap_remove(in_doubt.unwrap_or(0))
}

fn merge_keys(keys: Vec<Key>, parts: &[(ShardId, Op)], results: Vec<Result<Reply, Error>>) -> Vec<KeyAnswer> {
    let mut found: BTreeMap<Key, Result<Option<Row>, Error>> = BTreeMap::new();
    for ((_, op), result) in parts.iter().zip(results) {
        match result {
            Ok(Reply { answer: Answer::Many(answers), .. }) => {
                found.extend(answers.into_iter().map(|answer| (answer.key, answer.result)));
            }
            Ok(_) => unreachable!("a part of a get-all or put-all answers per key"),
            Err(error) => op.for_each_key(&mut |key| {
                found.insert(key.clone(), Err(error.clone()));
            }),
        }
    }
    let result = |key: &Key| found.get(key).cloned().expect("every key has its result");
    keys.into_iter().map(|key| KeyAnswer { result: result(&key), key }).collect()
}

fn pages(results: Vec<Result<Reply, Error>>) -> Result<Vec<Page>, Error> {
    let page = |result: Result<Reply, Error>| match result?.answer {
        Answer::Page(page) => Ok(page),
        _ => unreachable!("a part of a range answers a page"),
    };
    results.into_iter().map(page).collect()
}

/// Merges sorted pages. Where one of them ends early (it has a `next`), nothing behind that key can be told yet.
fn merge_pages(range: &Range, pages: Vec<Page>) -> Page {
    if range.count_only {
        let counts = pages.iter().map(|page| page.count);
        let shards = if mutant::is(Mutant::CountOfOneShard) { 1 } else { pages.len() };
        return Page { count: counts.take(shards).sum(), ..Page::default() };
    }
    let backward = range.direction == Direction::Backward && !mutant::is(Mutant::BackwardMergedAsForward);
    let before = |one: &Key, other: &Key| if backward { one > other } else { one < other };
    let mut next: Option<Key> = None;
    for ended in pages.iter().filter_map(|page| page.next.as_ref()) {
        if next.as_ref().is_none_or(|next| before(ended, next)) {
            next = Some(ended.clone());
        }
    }
    let mut rows: Vec<Row> = pages.into_iter().flat_map(|page| page.rows).collect();
    rows.sort_unstable_by(
        |one, other| if backward { other.key.cmp(&one.key) } else { one.key.cmp(&other.key) },
    );
    if let Some(next) = &next {
        rows.retain(|row| !before(next, &row.key));
    }
    let keep = rows_of_a_page(range, &rows);
    if keep < rows.len() {
        rows.truncate(keep);
        next = rows.last().map(|row| row.key.clone());
    }
    Page { count: rows.len() as u64, rows, next }
}

/// How many of the rows fit a page: at least one, if there is one.
fn rows_of_a_page(range: &Range, rows: &[Row]) -> usize {
    let limit = if range.limit == 0 { PAGE_ROWS_MAX } else { (range.limit as usize).min(PAGE_ROWS_MAX) };
    let mut bytes = 0;
    let fits = |row: &&Row| {
        bytes += row.key.len() + row.value.len();
        bytes <= PAGE_BYTES_MAX
    };
    rows.iter().take_while(fits).count().max(1).min(limit).min(rows.len())
}

/// What a step over a range did on all shards, and the first key that one of them has not passed: the others do nothing when
/// they pass theirs again.
fn merge_steps(
    results: Vec<Result<Reply, Error>>,
    did: &str,
    again: &str,
) -> Result<(u64, Option<Key>), Error> {
    let (mut sum, mut first_next): (u64, Option<Key>) = (0, None);
    for result in results {
        match result.map(|reply| reply.answer) {
            Ok(Answer::Deleted { count, next, .. } | Answer::Trimmed { count, next }) => {
                sum += count;
                first_next = match (first_next, next) {
                    (Some(one), Some(other)) if mutant::is(Mutant::StepGoesOnTooFar) => Some(one.max(other)),
                    (Some(one), Some(other)) => Some(one.min(other)),
                    (one, other) => one.or(other),
                };
            }
            Ok(_) => unreachable!("a part of a step over a range tells how far it came"),
            Err(error) => {
                return Err(Error::InDoubt(format!(
                    "some shards {did} their part and one did not ({error}): {again} the same range again"
                )));
            }
        }
    }
    Ok((sum, first_next))
}
